package server

import (
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"time"
)

// A listener makes connections whose writes must make progress.
type listener struct {
	net.Listener
	timeout time.Duration
}

func (l listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &conn{Conn: c, timeout: l.timeout}, nil
}

// A conn fails a write when no byte of it moved for about the timeout. As long as bytes move a write may take for ever:
// there is no limit to a download as a whole.
type conn struct {
	net.Conn
	timeout time.Duration
	armed   atomic.Int64 // when the write deadline was last extended, in Unix nanoseconds
	bounded atomic.Bool  // the user of the connection set a write deadline of its own
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

// arm extends the write deadline, unless that was done a moment ago.
func (c *conn) arm() error {
	now := time.Now()
	if now.UnixNano()-c.armed.Load() < int64(c.timeout/4) {
		return nil
	}
	return c.rearm(now)
}

func (c *conn) rearm(now time.Time) error {
	if c.bounded.Load() {
		return nil
	}
	c.armed.Store(now.UnixNano())
	return c.Conn.SetWriteDeadline(now.Add(c.timeout))
}

func (c *conn) Write(p []byte) (written int, err error) {
	if err := c.arm(); err != nil {
		return 0, err
	}
	for {
		n, err := c.Conn.Write(p[written:])
		written += n
		if n == 0 || !errors.Is(err, os.ErrDeadlineExceeded) || c.bounded.Load() {
			return written, err
		}
		if err := c.rearm(time.Now()); err != nil {
			return written, err
		}
	}
}

// ReadFrom is where net/http hands over a file, for the kernel to send. It goes on after a deadline only when every byte
// taken from src was also sent; the kernel's way keeps that, copying through a buffer does not.
func (c *conn) ReadFrom(src io.Reader) (sum int64, err error) {
	limited, ok := src.(*io.LimitedReader)
	fast, isFast := c.Conn.(io.ReaderFrom)
	if !ok || !isFast {
		return io.Copy(struct{ io.Writer }{c}, src)
	}
	if err := c.arm(); err != nil {
		return 0, err
	}
	for {
		before := limited.N
		n, err := fast.ReadFrom(limited)
		sum += n
		if n == 0 || before-limited.N != n || !errors.Is(err, os.ErrDeadlineExceeded) || c.bounded.Load() {
			return sum, err
		}
		if err := c.rearm(time.Now()); err != nil {
			return sum, err
		}
	}
}

// CloseWrite lets net/http end its side first, so that a client that is still sending gets to read the answer.
func (c *conn) CloseWrite() error {
	if w, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return w.CloseWrite()
	}
	return nil
}

// progressing lets the body of a request take as long as it needs, but fails it when nothing comes for the timeout.
func progressing(next http.Handler, timeout time.Duration) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength != 0 {
			b := &body{ReadCloser: r.Body, control: http.NewResponseController(w), timeout: timeout}
			b.arm()
			r.Body = b
		}
		next.ServeHTTP(w, r)
	})
}

type body struct {
	io.ReadCloser
	control *http.ResponseController
	timeout time.Duration
	armed   time.Time
}

func (b *body) arm() {
	if now := time.Now(); now.Sub(b.armed) >= b.timeout/4 {
		b.armed = now
		b.set(now.Add(b.timeout))
	}
}

// set sets the read deadline. A ResponseWriter without deadlines, as in a test of a handler, has nothing to bound.
func (b *body) set(deadline time.Time) {
	if err := b.control.SetReadDeadline(deadline); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return // the connection is closed, which the next read tells
	}
}

func (b *body) Read(p []byte) (int, error) {
	b.arm()
	n, err := b.ReadCloser.Read(p)
	if err == io.EOF {
		b.set(time.Time{}) // what watches for the client to leave, while the request is served, must not time out
	} // after another error the deadline stays: net/http still looks for the rest of the body before it answers
	return n, err
}
