package connection

import (
	"errors"
	"io"
	"net/http"
	"time"

	"berth/registry/observe"
)

// Restoring gives net/http back the body that it made, whatever handlers have put around it. By its type it knows not to
// reset the connection of a client that still sends: such a client would not get to read the answer.
func Restoring(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body := r.Body
		next.ServeHTTP(w, r)
		r.Body = body
	})
}

// Progressing lets the body of a request take as long as it needs, but fails it when nothing comes for the timeout. That
// begins to count when somebody begins to read: a request may have to wait for its turn.
func Progressing(next http.Handler, timeout time.Duration) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength == 0 {
			next.ServeHTTP(w, r)
			return
		}
		control := http.NewResponseController(w)
		if r.ProtoMajor == 2 {
			b := &streamBody{ReadCloser: r.Body}
			b.timeout, b.cut = timeout, func() { _ = control.SetReadDeadline(over) } // it does not fail on a stream
			defer b.stop()
			r.Body = b
			next.ServeHTTP(w, r)
			return
		}
		b := &body{ReadCloser: r.Body, control: control, timeout: timeout}
		r.Body = b
		if c, ok := r.Context().Value(connKey{}).(*conn); ok {
			observe.Of(w, r).Gone = c.gone // net/http does not look before the body was read
		}
		next.ServeHTTP(w, r)
		if !b.ended {
			b.arm() // net/http still looks for the rest of the body
		}
	})
}

// A body is that of a request of HTTP/1, where a deadline that has passed only fails reads that are under way.
type body struct {
	io.ReadCloser
	control *http.ResponseController
	timeout time.Duration
	armed   time.Time
	ended   bool // all was read
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
		b.ended = true
		b.set(time.Time{}) // what watches for the client to leave, while the request is served, must not time out
	} // after another error the deadline stays: net/http still looks for the rest of the body before it answers
	return n, err
}
