package observe

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"berth/metrics"
)

// A sink is the cheapest ResponseWriter.
type sink struct{ header http.Header }

func (s *sink) Header() http.Header         { return s.header }
func (s *sink) WriteHeader(int)             {}
func (s *sink) Write(p []byte) (int, error) { return len(p), nil }

// BenchmarkHandler is what it costs to watch a request that does nothing.
func BenchmarkHandler(b *testing.B) {
	logger, _ := discard()
	next := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		x := Of(w, r)
		x.Enter(metrics.ManifestGet, true)
		x.Outcome = metrics.Anonymous
		x.WriteHeader(http.StatusOK)
	})
	combined, objects := NewAccessLog(io.Discard, false), NewAccessLog(io.Discard, true)
	defer combined.Close()
	defer objects.Close()
	for _, test := range []struct {
		name string
		o    Options
	}{
		{"nothing", Options{}},
		{"metrics", Options{Metrics: metrics.New(metrics.Options{})}},
		{"combined access log", Options{AccessLog: combined}},
		{"JSON access log", Options{AccessLog: objects}},
	} {
		b.Run(test.name, func(b *testing.B) {
			h := Handler(next, test.o, logger)
			r := httptest.NewRequest(http.MethodGet, "/v2/team/app/manifests/v1", nil)
			r.RemoteAddr = "192.0.2.1:12345"
			r.Header.Set("User-Agent", "docker/27.3.1 go/go1.22.7")
			s := &sink{make(http.Header, 8)}
			b.ReportAllocs()
			for b.Loop() {
				h.ServeHTTP(s, r)
			}
		})
	}
}
