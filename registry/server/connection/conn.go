// Package connection has the connections of a server: each must make progress, in both directions and with HTTP/1.1 as with HTTP/2,
// and there may only be so many. Nothing in it hides that a connection can be sent a file.
package connection

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// A listener makes connections whose writes must make progress, each of which has a place among all connections.
type listener struct {
	net.Listener
	timeout time.Duration
	set     *Set
	closed  chan struct{}
	closing sync.Once
}

// NewListener makes a listener of l. A write fails when nothing moved for the timeout, or up to a half more; connections get places
// in set.
func NewListener(l net.Listener, timeout time.Duration, set *Set) net.Listener {
	return &listener{Listener: l, timeout: timeout, set: set, closed: make(chan struct{})}
}

func (l *listener) Accept() (net.Conn, error) {
	accepted, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &conn{Conn: accepted, timeout: l.timeout, set: l.set}
	if err := l.set.add(c, l.closed); err != nil {
		return nil, errors.Join(err, accepted.Close())
	}
	return c, nil
}

func (l *listener) Close() error {
	l.closing.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

// A conn fails a write when nothing moved for the timeout, or up to a half more. As long as bytes move a write may take for
// ever: there is no limit to a download as a whole.
//
// Bytes move when the kernel takes them, and when the other side acknowledges them. The latter counts because the kernel
// calls a connection writable only when a third of its buffer is free, which grows to megabytes: a client that reads a few
// kilobytes a second would seem to stand still for minutes. Hence a write is tried again several times in a timeout.
type conn struct {
	net.Conn
	timeout time.Duration
	armed   atomic.Int64  // when the write deadline was last extended, in Unix nanoseconds
	moved   atomic.Int64  // when something was last seen to move, likewise
	acked   atomic.Uint64 // what acknowledged returned when a write was last held up
	bounded atomic.Bool   // the user of the connection set a write deadline of its own

	set      *Set         // that it has a place among
	idle     atomic.Int64 // since when no request is under way, in Unix nanoseconds; 0: one is
	awaiting atomic.Int64 // since when a request is expected that has not reached a handler, likewise; 0: none is
	closing  sync.Once
}

// Close gives up the place of c.
func (c *conn) Close() error {
	err := c.Conn.Close()
	c.closing.Do(func() { c.set.remove(c) })
	return err
}

// SetWriteDeadline sets a deadline that holds until it is set to zero, as that of a TLS handshake.
func (c *conn) SetWriteDeadline(t time.Time) error {
	c.bounded.Store(!t.IsZero())
	c.armed.Store(0)
	return c.Conn.SetWriteDeadline(t)
}

// SetDeadline is SetWriteDeadline for both ways.
func (c *conn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetWriteDeadline(t), c.SetReadDeadline(t))
}

// arm prepares for a write, unless that was done a moment ago.
func (c *conn) arm() error {
	now := time.Now()
	if now.UnixNano()-c.armed.Load() < int64(c.timeout/8) {
		return nil
	}
	c.moved.Store(now.UnixNano())
	return c.rearm(now)
}

// rearm sets when a write is next looked after.
func (c *conn) rearm(now time.Time) error {
	if c.bounded.Load() {
		return nil
	}
	c.armed.Store(now.UnixNano())
	return c.Conn.SetWriteDeadline(now.Add(c.timeout / 4))
}

// goesOn reports whether a write that ended so, after the kernel took n bytes, is to be continued.
func (c *conn) goesOn(n int64, err error) bool {
	if !errors.Is(err, os.ErrDeadlineExceeded) || c.bounded.Load() {
		return false
	}
	now := time.Now()
	acked := acknowledged(c.Conn)
	if before := c.acked.Swap(acked); n > 0 || acked != before {
		c.moved.Store(now.UnixNano())
	}
	return now.UnixNano()-c.moved.Load() < int64(c.timeout) && c.rearm(now) == nil
}

func (c *conn) Write(p []byte) (written int, err error) {
	if err := c.arm(); err != nil {
		return 0, err
	}
	for {
		n, err := c.Conn.Write(p[written:])
		written += n
		if !c.goesOn(int64(n), err) {
			return written, err
		}
	}
}

// ReadFrom is where net/http hands over a file, for the kernel to send. It goes on after a deadline only when every byte
// taken from src was also sent; the kernel's way keeps that, copying through a buffer does not. What is no file is therefore copied
// here, by writes each of which has its own time.
func (c *conn) ReadFrom(src io.Reader) (sum int64, err error) {
	limited, ok := src.(*io.LimitedReader)
	fast, isFast := c.Conn.(io.ReaderFrom)
	if !ok || !isFast || !sendable(limited.R) {
		return io.Copy(struct{ io.Writer }{c}, src)
	}
	if err := c.arm(); err != nil {
		return 0, err
	}
	for {
		before := limited.N
		n, err := fast.ReadFrom(limited)
		sum += n
		if before-limited.N != n || !c.goesOn(n, err) {
			return sum, err
		}
	}
}

// sendable reports whether the kernel may be able to send what r reads.
func sendable(r io.Reader) bool {
	_, ok := r.(syscall.Conn)
	return ok
}

// CloseWrite lets net/http end its side first, so that a client that is still sending gets to read the answer.
func (c *conn) CloseWrite() error {
	if w, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return w.CloseWrite()
	}
	return nil
}
