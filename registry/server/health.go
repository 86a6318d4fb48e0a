package server

import (
	"encoding/json"
	"io"
	"net/http"
	"strconv"

	"berth/registry/health"
	"berth/registry/observe"
)

// live answers that the process serves. It looks at nothing else: a restart would not mend a storage.
func live(w http.ResponseWriter, r *http.Request) {
	observe.Of(w, r).Quiet = true
	w.Header().Set("Cache-Control", "no-cache")
	w.WriteHeader(http.StatusOK)
}

// ready answers whether requests should be sent here, and if not, why.
func (s *Server) ready(w http.ResponseWriter, r *http.Request) {
	observe.Of(w, r).Quiet = true
	writeReadiness(w, s.o.Health.Report())
}

func writeReadiness(w http.ResponseWriter, found health.Report) {
	status := http.StatusOK
	if !found.Ready {
		status = http.StatusServiceUnavailable
	}
	w.Header().Set("Cache-Control", "no-cache")
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(found) // a client that left
}

// outOfService is what clients are told. What is wrong, /readyz and the log tell.
const outOfService = `{"errors":[{"code":"UNAVAILABLE","message":"the registry is out of service for now"}]}` + "\n"

// inService serves requests as long as nothing that the operator named takes the server out of service.
func (s *Server) inService(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.o.Health.MayServe() == nil {
			next.ServeHTTP(w, r)
			return
		}
		h := w.Header()
		h.Set("Content-Type", "application/json")
		h.Set("Content-Length", strconv.Itoa(len(outOfService)))
		h.Set("Retry-After", "5")
		if r.ContentLength != 0 && r.ProtoMajor == 1 {
			h.Set("Connection", "close") // or net/http would read some of the body before it answers
		}
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = io.WriteString(w, outOfService) // a client that left
	})
}
