//go:build race

package remotetest

// racing reports whether the race detector is on, under which pools let go of one buffer in four.
const racing = true
