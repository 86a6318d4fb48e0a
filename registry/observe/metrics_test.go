package observe

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"berth/auth"
	"berth/metrics"
)

// exported returns the lines that metrics export.
func exported(t *testing.T, m *metrics.Metrics) string {
	t.Helper()
	answer := httptest.NewRecorder()
	m.Handler().ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/", nil))
	return "\n" + answer.Body.String()
}

func TestMetrics(t *testing.T) {
	log, _ := discard()
	for name, test := range map[string]struct {
		method, body string
		handle       http.HandlerFunc
		want         []string
	}{
		"a body each way": {"PUT", strings.Repeat("x", 1001), func(w http.ResponseWriter, r *http.Request) {
			x := Of(w, r)
			x.Enter(metrics.ManifestPut, true)
			x.Outcome = metrics.Authenticated
			io.Copy(io.Discard, r.Body)
			w.WriteHeader(201)
			io.WriteString(w, "hello")
		}, []string{
			`imageregistry_http_requests_total{code="201",method="put"} 1`, `imageregistry_http_request_size_bytes_sum 1001`,
			`imageregistry_http_response_size_bytes_sum 5`, `imageregistry_request_duration_seconds_count{operation="TagService.Tag"} 1`,
			`imageregistry_http_request_duration_seconds_count{method="put"} 1`, `imageregistry_http_in_flight_requests 0`,
			`berth_http_received_bytes_total{route="manifest_put"} 1001`, `berth_auth_requests_total{outcome="authenticated"} 1`,
		}},
		"half a body": {"PUT", "0123456789", func(w http.ResponseWriter, r *http.Request) { io.ReadFull(r.Body, make([]byte, 5)) }, []string{
			`imageregistry_http_request_size_bytes_sum 5`, `berth_http_requests_total{route="other",status="2xx"} 1`}},
		"HEAD": {"HEAD", "", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "hello") }, []string{
			`imageregistry_http_response_size_bytes_sum 0`, `imageregistry_http_requests_total{code="200",method="head"} 1`}},
		"a panic": {"GET", "", func(w http.ResponseWriter, r *http.Request) { Of(w, r).Enter(metrics.BlobGet, false); panic("x") }, []string{
			`imageregistry_http_requests_total{code="500",method="get"} 1`, `berth_http_in_flight_requests{route="blob_get"} 0`}},
		"a client that left": {"GET", "", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, []string{
			`imageregistry_http_requests_total{code="499",method="get"} 1`, `berth_http_requests_total{route="other",status="4xx"} 1`}},
		"a health check": {"GET", "", func(w http.ResponseWriter, r *http.Request) { Of(w, r).Quiet = true }, []string{
			`imageregistry_http_response_size_bytes_count 0`}},
		"in flight": {"GET", "", nil, []string{`imageregistry_http_in_flight_requests 1`, `berth_http_in_flight_requests{route="blob_head"} 1`}},
	} {
		t.Run(name, func(t *testing.T) {
			m := metrics.New(metrics.Options{})
			var during string
			handle := test.handle
			if handle == nil {
				handle = func(w http.ResponseWriter, r *http.Request) {
					Of(w, r).Enter(metrics.BlobHead, false)
					Of(w, r).Enter(metrics.BlobHead, false) // counts once
					during = exported(t, m)
				}
			}
			func() {
				defer func() { recover() }()
				Handler(handle, Options{Metrics: m}, log).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(test.method, "/", strings.NewReader(test.body)))
			}()
			got := during
			if got == "" {
				got = exported(t, m)
			}
			for _, line := range test.want {
				if !strings.Contains(got, "\n"+line+"\n") {
					t.Errorf("there is no line %s in %s", line, got)
				}
			}
		})
	}
}

func TestOutcomeOf(t *testing.T) {
	known := auth.Subject{Name: "ann"}
	for _, test := range []struct {
		subject auth.Subject
		err     error
		want    metrics.Outcome
	}{
		{auth.Subject{}, nil, metrics.Anonymous}, {known, nil, metrics.Authenticated},
		{auth.Subject{Grants: []auth.Access{}}, nil, metrics.Authenticated},
		{auth.Subject{}, fmt.Errorf("x: %w", auth.ErrCredentials), metrics.BadCredentials}, {auth.Subject{}, auth.ErrToken, metrics.BadCredentials},
		{auth.Subject{}, auth.ErrForeign, metrics.BadCredentials}, {auth.Subject{}, auth.ErrMalformed, metrics.BadCredentials},
		{auth.Subject{}, &auth.ThrottledError{}, metrics.Throttled}, {auth.Subject{}, auth.ErrUnavailable, metrics.Unavailable},
		{known, &auth.DeniedError{}, metrics.Denied}, {known, auth.ErrReadOnly, metrics.ReadOnly}, {known, errors.New("x"), metrics.Unasked},
	} {
		if got := OutcomeOf(test.subject, test.err); got != test.want {
			t.Errorf("%v, %v is %d, want %d", test.subject, test.err, got, test.want)
		}
	}
}

// TestMetricsAllocateNothing compares a request that is counted with one that is not.
func TestMetricsAllocateNothing(t *testing.T) {
	log, _ := discard()
	next := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		Of(w, r).Enter(metrics.ManifestGet, true)
		w.WriteHeader(200)
	})
	allocations := func(o Options) float64 {
		h := Handler(next, o, log)
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		w := httptest.NewRecorder()
		return testing.AllocsPerRun(200, func() { h.ServeHTTP(w, r) })
	}
	if off, on := allocations(Options{}), allocations(Options{Metrics: metrics.New(metrics.Options{})}); on > off {
		t.Errorf("a request allocates %v times, with metrics %v times", off, on)
	}
}
