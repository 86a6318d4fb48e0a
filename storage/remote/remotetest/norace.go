//go:build !race

package remotetest

const racing = false
