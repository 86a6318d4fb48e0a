package connection

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// gone reports whether the client closed its side, also when there is unread data before that: poll(2), POLLRDHUP.
func (c *conn) gone() bool {
	raw, ok := c.Conn.(syscall.Conn)
	if !ok {
		return false
	}
	control, err := raw.SyscallConn()
	if err != nil {
		return true
	}
	const ended = unix.POLLRDHUP | unix.POLLHUP | unix.POLLERR
	var hungUp bool
	err = control.Control(func(fd uintptr) {
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
		n, err := unix.Poll(p, 0)
		hungUp = err == nil && n > 0 && p[0].Revents&ended != 0
	})
	return hungUp || err != nil
}
