package connection

import (
	"net/http"
	"time"
)

// Streaming bounds the writes of HTTP/2. There a client that takes nothing holds up a stream without holding up the
// connection, so that the deadlines of connections do not see it.
func Streaming(next http.Handler, timeout time.Duration) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor == 2 {
			w = &streamWriter{ResponseWriter: w, control: http.NewResponseController(w), timeout: timeout}
		}
		next.ServeHTTP(w, r)
	})
}

// maxStreamWrite is how many bytes must move within the timeout.
const maxStreamWrite = 32 << 10

type streamWriter struct {
	http.ResponseWriter
	control *http.ResponseController
	timeout time.Duration
	armed   time.Time
}

func (w *streamWriter) Write(p []byte) (written int, err error) {
	for {
		if now := time.Now(); now.Sub(w.armed) >= w.timeout/4 {
			w.armed = now
			if err := w.control.SetWriteDeadline(now.Add(w.timeout)); err != nil {
				return written, err
			}
		}
		n, err := w.ResponseWriter.Write(p[written:min(len(p), written+maxStreamWrite)])
		if written += n; err != nil || written == len(p) {
			return written, err
		}
	}
}

// Unwrap is for [http.ResponseController].
func (w *streamWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
