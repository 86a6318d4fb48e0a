package connection

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// acknowledged returns how many bytes the other side of a TCP connection has acknowledged (tcp_info of tcp(7), since
// Linux 4.1), always the same if that is not known.
func acknowledged(c net.Conn) (bytes uint64) {
	s, ok := c.(syscall.Conn)
	if !ok {
		return 0
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return 0
	}
	if err := raw.Control(func(fd uintptr) {
		if info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
			bytes = info.Bytes_acked
		}
	}); err != nil {
		return 0 // it is closed, which the next write tells
	}
	return bytes
}
