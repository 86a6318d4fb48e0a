package server

import (
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"testing"

	"berth/trace"
)

// TestTracedStatus has requests that end otherwise than by an answer of their handler: a span has what the access log has.
func TestTracedStatus(t *testing.T) {
	var sent []byte
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { sent, _ = io.ReadAll(r.Body) }))
	defer collector.Close()
	tracer, err := trace.Open(t.Context(), func(name string) string {
		return map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": collector.URL}[name]
	}, "", func(err error) { t.Error(err) })
	if err != nil {
		t.Fatal(err)
	}
	s := New(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/v2/broken":
			panic("broken")
		case "/v2/cut":
			panic(http.ErrAbortHandler)
		}
	}), Options{Tracer: tracer, Log: quietLog()})
	for _, path := range []string{"/v2/broken", "/v2/cut", "/v2/"} {
		func() {
			defer func() { _ = recover() }() // of what is cut
			s.http.Handler.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, path, nil))
		}()
	}
	if err := tracer.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, found := range regexp.MustCompile(`status_code","value":\{"intValue":"(\d+)"`).FindAllSubmatch(sent, -1) {
		got = append(got, string(found[1]))
	}
	if want := []string{"500", "499", "200"}; !slices.Equal(got, want) {
		t.Errorf("the spans have %v, want %v: %s", got, want, sent)
	}
}
