package server

import (
	"cmp"
	"net/http"

	"berth/registry/observe"
	"berth/trace"
)

// traced follows each request, but for those that only ask how the server is.
func (s *Server) traced(next http.Handler) http.Handler {
	if s.o.Tracer == nil {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/", "/healthz", "/readyz":
			next.ServeHTTP(w, r)
			return
		}
		x := observe.Of(w, r)
		ctx, end := s.o.Tracer.Request(r)
		x.Ended = func() {
			status := cmp.Or(x.Status(), http.StatusOK) // which is what net/http answers where nothing was written
			end(trace.Answer{ID: x.ID, Route: x.Route().String(), Status: status, Sent: x.Written()})
		}
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}
