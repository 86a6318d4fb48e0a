package api

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/sirupsen/logrus"

	"berth/auth"
	"berth/registry"
	"berth/registry/observe"
	"berth/storage"
	"berth/storage/memory"
)

// serveDamaged serves a store that a test may break, and returns the URL of a blob that was pushed to it by another
// process: this one did not see its bytes.
func serveDamaged(t *testing.T, store storage.Driver) (url string, logged *logLines) {
	t.Helper()
	content := strings.Repeat("x", 1<<20)
	digest := registry.SHA256.FromBytes([]byte(content))
	name, err := registry.ParseName("a")
	if err != nil {
		t.Fatal(err)
	}
	pusher, err := registry.Open(t.Context(), store, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := pusher.Repository(name).PushBlob(t.Context(), digest, strings.NewReader(content), -1); err != nil {
		t.Fatal(err)
	}
	reg, err := registry.Open(t.Context(), store, nil)
	if err != nil {
		t.Fatal(err)
	}
	logged = &logLines{}
	log := logrus.New()
	log.SetOutput(logged)
	a, err := New(reg, auth.Anonymous{}, auth.AllowAll{}, &Options{Log: log})
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(observe.Handler(a, observe.Options{}, log))
	t.Cleanup(s.Close)
	return s.URL + "/v2/a/blobs/" + digest.String(), logged
}

// A logLines keeps what is written to it.
type logLines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// take returns what was written since it was last called.
func (l *logLines) take() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer l.text.Reset()
	return l.text.String()
}

// TestDamagedBlob changes one byte of a stored blob: a pull must not end as if it were whole, and the operator is told.
func TestDamagedBlob(t *testing.T) {
	store := memory.New()
	url, logged := serveDamaged(t, store)
	for info, err := range store.List(t.Context(), "data/", "") {
		if err != nil {
			t.Fatal(err)
		}
		bad := strings.Repeat("x", int(info.Size)-1) + "y"
		if _, err := store.Put(t.Context(), info.Key, strings.NewReader(bad), info.Size, storage.Cond{}); err != nil {
			t.Fatal(err)
		}
	}
	response, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if n, err := io.Copy(io.Discard, response.Body); err == nil {
		t.Errorf("%d damaged bytes were served as a whole", n)
	}
	id := response.Header.Get(observe.IDHeader)
	if got := logged.take(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "damaged") || !strings.Contains(got, id) {
		t.Errorf("the log has %q, want one line on the damage with the id %s", got, id)
	}
}

// failing is a store that cannot be read or written, once it is told so.
type failing struct {
	storage.Driver
	err error
}

func (d *failing) Open(ctx context.Context, key string, off, n int64) (io.ReadCloser, storage.Info, error) {
	if d.err != nil {
		return nil, storage.Info{}, d.err
	}
	return d.Driver.Open(ctx, key, off, n)
}

func TestFailingStore(t *testing.T) {
	d := &failing{Driver: memory.New()}
	url, logged := serveDamaged(t, d)
	for _, test := range []struct {
		err        error
		status     int
		retryAfter string
	}{
		{errors.Join(storage.ErrUnavailable, errors.New("secret")), 503, retrySoon},
		{errors.Join(storage.ErrNoSpace, errors.New("secret")), 507, ""},
		{errors.New("secret"), 500, ""},
	} {
		d.err = test.err
		response, err := http.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		response.Body.Close()
		if err != nil || response.StatusCode != test.status || response.Header.Get("Retry-After") != test.retryAfter {
			t.Errorf("answered %s, Retry-After %q, %v", response.Status, response.Header.Get("Retry-After"), err)
		}
		told := logged.take()
		if strings.Contains(string(body), "secret") || !strings.Contains(told, "secret") ||
			!strings.Contains(told, response.Header.Get(observe.IDHeader)) {
			t.Errorf("the client was told %s, the operator %s", body, told)
		}
	}
}
