package api

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

// A sink is the cheapest ResponseWriter: a benchmark should measure the API.
type sink struct{ header http.Header }

func (s *sink) Header() http.Header         { return s.header }
func (s *sink) WriteHeader(int)             {}
func (s *sink) Write(p []byte) (int, error) { return len(p), nil }

func BenchmarkGetManifest(b *testing.B) {
	t := &testing.T{}
	w := newWorld(t, nil)
	w.push("team/app")
	for name, target := range map[string]string{"by tag": "/v2/team/app/manifests/v1", "by digest": "/v2/team/app/manifests/{image}", "root": "/v2/"} {
		b.Run(name, func(b *testing.B) {
			r := httptest.NewRequest(http.MethodGet, w.expand(target), nil)
			b.ReportAllocs()
			for b.Loop() {
				s := &sink{header: make(http.Header, 8)}
				w.handler.ServeHTTP(s, r)
			}
		})
	}
}
