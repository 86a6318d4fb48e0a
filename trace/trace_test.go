package trace

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

// A collector takes what is sent to it.
type collector struct {
	*httptest.Server
	mu      sync.Mutex
	bodies  []traces
	headers http.Header
	status  int
}

func newCollector(t *testing.T) *collector {
	c := &collector{status: http.StatusOK}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.mu.Lock()
		defer c.mu.Unlock()
		body, _ := io.ReadAll(r.Body)
		var m traces
		if err := json.Unmarshal(body, &m); err != nil || r.Header.Get("Content-Type") != "application/json" || r.URL.Path != "/v1/traces" {
			t.Errorf("%s got %s: %v", r.URL, body, err)
		}
		c.bodies, c.headers = append(c.bodies, m), r.Header
		w.WriteHeader(c.status)
	}))
	t.Cleanup(c.Close)
	return c
}

func variables(set map[string]string) func(string) string {
	return func(name string) string { return set[name] }
}

func TestSpans(t *testing.T) {
	c := newCollector(t)
	tracer, err := Open(t.Context(), variables(map[string]string{
		"OTEL_EXPORTER_OTLP_ENDPOINT": c.URL + "/", "OTEL_EXPORTER_OTLP_HEADERS": "authorization=Basic%20x, a=b",
	}), "1.2", func(err error) { t.Error(err) })
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest(http.MethodPut, "/v2/a/manifests/v?secret=x", nil)
	r.Header.Set("Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	ctx, end := tracer.Request(r)
	_, ended := tracer.Call(ctx, "put", "catalog/a!")
	ended(errors.New("no space"))
	end(Answer{ID: "id", Route: "manifest_put", Status: 507, Sent: 9})
	if err := tracer.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(c.bodies) != 1 || c.headers.Get("Authorization") != "Basic x" || c.headers.Get("A") != "b" {
		t.Fatalf("%d messages, with %v", len(c.bodies), c.headers)
	}
	spans := c.bodies[0].ResourceSpans[0].ScopeSpans[0].Spans
	call, request := spans[0], spans[1]
	if request.TraceID != "0af7651916cd43dd8448eb211c80319c" || request.ParentID != "b7ad6b7169203331" || call.TraceID != request.TraceID || call.ParentID != request.SpanID {
		t.Errorf("the spans do not hang together: %+v", spans)
	}
	if request.Name != "PUT manifest_put" || request.Kind != 2 || request.Status.Code != 2 || call.Name != "storage put" || call.Kind != 3 || call.Status.Message != "no space" {
		t.Errorf("%+v", spans)
	}
	text, _ := json.Marshal(c.bodies[0])
	for _, want := range []string{`{"key":"http.response.status_code","value":{"intValue":"507"}}`, `{"key":"http.request.id","value":{"stringValue":"id"}}`,
		`{"key":"service.name","value":{"stringValue":"berth"}}`, `{"key":"service.version","value":{"stringValue":"1.2"}}`} {
		if !strings.Contains(string(text), want) {
			t.Errorf("%s is not in %s", want, text)
		}
	}
	if strings.Contains(string(text), "secret") {
		t.Errorf("the query was sent: %s", text)
	}
}

func TestLostSpansAreTold(t *testing.T) {
	c := newCollector(t)
	c.status = http.StatusServiceUnavailable
	var lost error
	tracer, err := Open(t.Context(), variables(map[string]string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": c.URL + "/v1/traces"}), "", func(err error) { lost = err })
	if err != nil {
		t.Fatal(err)
	}
	_, end := tracer.Call(t.Context(), "stat", "x")
	end(nil)
	if err := tracer.Close(t.Context()); err != nil || lost == nil || !strings.Contains(lost.Error(), "send 1 spans: the collector answers 503") {
		t.Errorf("%v, %v", err, lost)
	}
}

func TestVariables(t *testing.T) {
	const endpoint = "OTEL_EXPORTER_OTLP_ENDPOINT"
	for _, row := range []struct {
		set  map[string]string
		want string // the URL, "" for none, or an error
	}{
		{nil, ""},
		{map[string]string{"OTEL_TRACES_EXPORTER": "otlp"}, "http://localhost:4318/v1/traces"},
		{map[string]string{endpoint: "https://x:1/a"}, "https://x:1/a/v1/traces"},
		{map[string]string{endpoint: "https://x", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://y/t"}, "http://y/t"},
		{map[string]string{endpoint: "https://x", "OTEL_TRACES_EXPORTER": "none"}, ""},
		{map[string]string{endpoint: "https://x", "OTEL_SDK_DISABLED": "true"}, ""},
		{map[string]string{"OTEL_TRACES_EXPORTER": "zipkin"}, `OTEL_TRACES_EXPORTER must be otlp or none, not "zipkin"`},
		{map[string]string{endpoint: "x:4318"}, "OTEL_EXPORTER_OTLP_ENDPOINT must be a URL such as http://localhost:4318"},
		{map[string]string{endpoint: "http://x", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, `OTEL_EXPORTER_OTLP_PROTOCOL must be http/json, not "grpc"`},
		{map[string]string{endpoint: "http://x", "OTEL_EXPORTER_OTLP_TIMEOUT": "1s"}, `OTEL_EXPORTER_OTLP_TIMEOUT must be milliseconds, not "1s"`},
		{map[string]string{endpoint: "http://x", "OTEL_EXPORTER_OTLP_HEADERS": "hush"}, "OTEL_EXPORTER_OTLP_HEADERS must be a list such as key=value,key2=value2"},
		{map[string]string{endpoint: "http://x", "OTEL_EXPORTER_OTLP_CERTIFICATE": "/nowhere/at-all"}, "OTEL_EXPORTER_OTLP_CERTIFICATE: open /nowhere/at-all: no such file or directory"},
	} {
		got := ""
		target, err := targetOf(variables(row.set))
		if err != nil {
			got = err.Error()
		} else if target != nil {
			got = target.url
		}
		if got != row.want {
			t.Errorf("%v: %q, want %q", row.set, got, row.want)
		}
	}
}
