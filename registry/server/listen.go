package server

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strconv"
	"time"
)

// firstInherited is the descriptor of the first socket that a service manager passes (sd_listen_fds(3)).
const firstInherited = 3

// Listen opens the address, of the network "tcp" or "unix", or takes the sockets that systemd passed instead. An address
// that others can reach is refused unless open says that it was decided who may do what.
func Listen(network, addr string, open bool) ([]net.Listener, error) {
	listeners, err := inherited(os.Getenv, os.Getpid(), firstInherited)
	if err != nil {
		return nil, err
	}
	if len(listeners) == 0 {
		l, err := listen(network, addr)
		if err != nil {
			if op := (*net.OpError)(nil); errors.As(err, &op) {
				err = op.Err // which does not repeat the address
			}
			return nil, fmt.Errorf("listen on %s (http.addr): %w", addr, err)
		}
		listeners = []net.Listener{l}
	}
	for _, l := range listeners {
		if !open && !isPrivate(l.Addr()) {
			for _, l := range listeners {
				err = errors.Join(err, l.Close())
			}
			return nil, errors.Join(errOpen(l.Addr().String()), err)
		}
	}
	return listeners, nil
}

func errOpen(addr string) error {
	return fmt.Errorf("listen on %s: without authentication anybody who reaches this address could push and delete; "+
		"listen on 127.0.0.1 (http.addr), configure auth.htpasswd, or write `auth: none` if that is what you want", addr)
}

// CheckAddress says why [Listen] would refuse an address for who can reach it, without listening. Of a name, which it does not look
// up, it says nothing; nor does it know of the sockets that systemd may pass instead.
func CheckAddress(network, addr string, open bool) error {
	host, _, err := net.SplitHostPort(addr)
	if open || network == "unix" || err != nil {
		return nil
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && !ip.IsLoopback() {
		return errOpen(addr)
	}
	return nil
}

func listen(network, addr string) (net.Listener, error) {
	if network != "unix" {
		return net.Listen("tcp", addr)
	}
	if err := removeStale(addr); err != nil {
		return nil, err
	}
	return net.Listen("unix", addr)
}

// removeStale removes the socket of a process that is gone.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode()&fs.ModeSocket == 0 {
		return errors.New("there is something else than a socket")
	}
	if c, err := net.DialTimeout("unix", path, time.Second); err == nil {
		c.Close()
		return errors.New("another process listens there")
	}
	return os.Remove(path)
}

// isPrivate reports whether only this machine can reach an address.
func isPrivate(addr net.Addr) bool {
	tcp, ok := addr.(*net.TCPAddr)
	return !ok || tcp.IP.IsLoopback()
}

// inherited returns the sockets that were passed to the process, none when there were none or they are for another one.
func inherited(getenv func(string) string, pid, first int) ([]net.Listener, error) {
	if getenv("LISTEN_PID") != strconv.Itoa(pid) {
		return nil, nil
	}
	n, err := strconv.Atoi(getenv("LISTEN_FDS"))
	if err != nil || n < 1 {
		return nil, fmt.Errorf("take the sockets of systemd: LISTEN_FDS is %q", getenv("LISTEN_FDS"))
	}
	var listeners []net.Listener
	for fd := first; fd < first+n; fd++ {
		f := os.NewFile(uintptr(fd), "socket "+strconv.Itoa(fd))
		l, err := net.FileListener(f)
		if err = errors.Join(err, f.Close()); err != nil {
			return nil, fmt.Errorf("take the sockets of systemd: %w", err)
		}
		listeners = append(listeners, l)
	}
	return listeners, nil
}
