package connection

import (
	"io"
	"net/http"
	"time"
)

// Streaming bounds the writes of HTTP/2. There a client that takes nothing holds up a stream without holding up the
// connection, so that the deadlines of connections do not see it.
func Streaming(next http.Handler, timeout time.Duration) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 2 {
			next.ServeHTTP(w, r)
			return
		}
		control := http.NewResponseController(w)
		s := &streamWriter{ResponseWriter: w}
		s.timeout, s.cut = timeout, func() { _ = control.SetWriteDeadline(over) } // where that fails, so does the write
		defer s.stop()
		next.ServeHTTP(s, r)
		if s.timer != nil {
			_ = control.SetWriteDeadline(time.Now().Add(timeout)) // net/http still writes what is left in its buffer
		}
	})
}

// maxStreamWrite is how many bytes must move within the timeout.
const maxStreamWrite = 32 << 10

type streamWriter struct {
	http.ResponseWriter
	stall
}

func (w *streamWriter) Write(p []byte) (written int, err error) {
	for {
		w.begin()
		n, err := w.ResponseWriter.Write(p[written:min(len(p), written+maxStreamWrite)])
		w.end()
		if written += n; err != nil || written == len(p) {
			return written, err
		}
	}
}

// Unwrap is for [http.ResponseController].
func (w *streamWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// A streamBody is the body of a request of HTTP/2, of which something must come within the timeout whenever it is read. When the
// handler has returned net/http does not look for the rest.
type streamBody struct {
	io.ReadCloser
	stall
}

func (b *streamBody) Read(p []byte) (int, error) {
	b.begin()
	defer b.end()
	return b.ReadCloser.Read(p)
}
