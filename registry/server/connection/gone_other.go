//go:build !linux

package connection

// gone cannot be told here before the body of a request was read.
func (c *conn) gone() bool { return false }
