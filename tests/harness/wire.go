package harness

import (
	"bytes"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"
)

// A Fault is what a wire does to a request.
type Fault int

// The faults. Of a lost and a cut one the other side has done what it was asked for.
const (
	Pass    Fault = iota
	Reset         // the connection breaks before anything was sent
	Halved        // it breaks in the middle of the body that is sent
	Lost          // it breaks before the reply
	Cut           // it breaks in the middle of the body of the reply
	Slow          // 503 SlowDown, not performed
	TooMany       // 429, not performed
	Broken        // 500, not performed
	Late          // performed a while later
)

func (f Fault) String() string {
	return []string{"pass", "reset", "reset in the body", "reply lost", "reply cut", "503", "429", "500", "late"}[f]
}

// lateness is how long a late request waits.
const lateness = 200 * time.Millisecond

// A Wire is what lies between a registry and its store: it counts what passes, and fails as it is told. It is a transport,
// and by [StartWire] a server.
type Wire struct {
	URL  string // of the server
	next http.RoundTripper

	mu     sync.Mutex
	plan   func(*http.Request) Fault
	passed []string
	hit    int
}

// NewWire wraps a transport.
func NewWire(next http.RoundTripper) *Wire { return &Wire{next: next} }

// StartWire runs a wire before a server until the test ends.
func StartWire(t testing.TB, endpoint string) *Wire {
	t.Helper()
	target, err := url.Parse(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{MaxIdleConnsPerHost: 128, DisableCompression: true}
	w := NewWire(transport)
	s := httptest.NewServer(&httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Host = r.In.Host // it is signed
		},
		Transport: w, ErrorLog: log.New(io.Discard, "", 0),
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	})
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	w.URL = s.URL
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
		transport.CloseIdleConnections()
	})
	return w
}

// Wrap puts a transport in front of the one that w sends by. Call it before anything is sent.
func (w *Wire) Wrap(wrap func(http.RoundTripper) http.RoundTripper) { w.next = wrap(w.next) }

// Plan says what happens to the requests from now on; nil: nothing. It is called by many goroutines at once.
func (w *Wire) Plan(plan func(*http.Request) Fault) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.plan = plan
}

// Take returns the requests since it was last called, as "read", "write" or "list" and the path.
func (w *Wire) Take() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	passed := w.passed
	w.passed = nil
	return passed
}

// Faults is how many requests did not just pass.
func (w *Wire) Faults() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.hit
}

// kind is what a request does, in the protocol of S3, of Google's storage or of Azure's.
func kind(r *http.Request) string {
	q := r.URL.Query()
	switch {
	case r.Method == http.MethodGet && (q.Has("list-type") || q.Get("comp") == "list" || isGoogleList(r.URL.Path)):
		return "list"
	case r.Method == http.MethodGet, r.Method == http.MethodHead:
		return "read"
	}
	return "write"
}

// isGoogleList reports whether a path is that of the objects of a bucket, and not of an object.
func isGoogleList(path string) bool {
	bucket, ok := strings.CutPrefix(path, "/storage/v1/b/")
	return ok && strings.HasSuffix(bucket, "/o") && strings.Count(bucket, "/") == 1
}

func (w *Wire) enter(r *http.Request) Fault {
	w.mu.Lock()
	plan := w.plan
	w.passed = append(w.passed, kind(r)+" "+r.URL.Path)
	w.mu.Unlock()
	if plan == nil {
		return Pass
	}
	fault := plan(r)
	if fault != Pass {
		w.mu.Lock()
		w.hit++
		w.mu.Unlock()
	}
	return fault
}

var errReset = errors.New("connection reset by peer")

// RoundTrip sends a request, or does not.
func (w *Wire) RoundTrip(r *http.Request) (*http.Response, error) {
	fault := w.enter(r)
	switch fault {
	case Pass:
		return w.next.RoundTrip(r)
	case Reset:
		return nil, errReset
	case Halved:
		return nil, w.halve(r)
	case Slow:
		return refusal(r, http.StatusServiceUnavailable, "SlowDown"), nil
	case TooMany:
		return refusal(r, http.StatusTooManyRequests, "TooManyRequests"), nil
	case Broken:
		return refusal(r, http.StatusInternalServerError, "InternalError"), nil
	case Late:
		select {
		case <-time.After(lateness):
		case <-r.Context().Done():
		}
		return w.next.RoundTrip(r)
	}
	response, err := w.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	if fault == Lost || response.ContentLength < 2 {
		response.Body.Close()
		return nil, errReset
	}
	response.Body = &halfBody{response.Body, response.ContentLength / 2}
	return response, nil
}

// halve sends half of the body of a request.
func (w *Wire) halve(r *http.Request) error {
	if r.Body == nil || r.ContentLength < 2 {
		return errReset
	}
	half := r.Clone(r.Context())
	half.Body = &halfBody{r.Body, r.ContentLength / 2}
	response, err := w.next.RoundTrip(half)
	if err == nil {
		response.Body.Close()
	}
	return errReset
}

// A halfBody breaks off.
type halfBody struct {
	io.ReadCloser
	left int64
}

func (h *halfBody) Read(p []byte) (int, error) {
	if h.left == 0 {
		return 0, errReset
	}
	n, err := h.ReadCloser.Read(p[:min(int64(len(p)), h.left)])
	h.left -= int64(n)
	return n, err
}

func refusal(r *http.Request, status int, code string) *http.Response {
	if r.Body != nil {
		_, _ = io.Copy(io.Discard, r.Body)
		r.Body.Close()
	}
	body := "<?xml version=\"1.0\"?><Error><Code>" + code + "</Code><Message>injected</Message></Error>"
	return &http.Response{StatusCode: status, Header: http.Header{"Content-Type": {"application/xml"}}, Request: r,
		Body: io.NopCloser(bytes.NewReader([]byte(body))), ContentLength: int64(len(body)), ProtoMajor: 1, ProtoMinor: 1}
}
