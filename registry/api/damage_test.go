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

// TestMountOfDamagedBlob damages what a mount relies on: the client is to upload, which heals the blob.
func TestMountOfDamagedBlob(t *testing.T) {
	link := func(repository string) string { return "repositories/" + repository + "/_blobs/sha256/" }
	for name, damage := range map[string]struct{ in, from, to string }{
		"a bit of the data":           {"blobs/", "\nhello", "\nhullo"},
		"the record of the blob":      {"blobs/", "\n", ""},
		"the link of the source":      {link("src"), "\n", ""},
		"the link of the destination": {link("a"), "\n", ""},
	} {
		for _, from := range []string{"&from=src", ""} {
			t.Run(name+from, func(t *testing.T) {
				store := memory.New()
				w := newWorldOver(t, store, auth.Anonymous{}, auth.AllowAll{}, nil)
				w.run(
					exchange{do: "POST /v2/src/blobs/uploads/?digest={hello}", body: "hello", want: 201},
					exchange{do: "POST /v2/a/blobs/uploads/?mount={hello}&from=src", want: 201},
				)
				replaceIn(t, store, damage.in, damage.from, damage.to)
				for _, repository := range []string{"src", "a"} {
					breaksOff(w, "GET /v2/"+repository+"/blobs/{hello}") // a reader may find the damage
				}
				mount := exchange{do: "POST /v2/a/blobs/uploads/?mount={hello}" + from, want: 202}
				if damage.in == link("a") {
					mount.want = 201 // it is what is made anew
					w.run(mount)
				} else {
					w.run(mount, exchange{do: "PUT {loc}?digest={hello}", body: "hello", want: 201})
				}
				w.run(exchange{do: "GET /v2/a/blobs/{hello}", want: 200, content: "hello"})
			})
		}
	}
}

// replaceIn changes the one object below a prefix.
func replaceIn(t *testing.T, store storage.Driver, prefix, from, to string) {
	t.Helper()
	for info, err := range store.List(t.Context(), prefix, "") {
		if err != nil {
			t.Fatal(err)
		}
		body, _, err := storage.ReadAll(t.Context(), store, info.Key, 1<<20)
		if err != nil || !strings.Contains(string(body), from) {
			t.Fatalf("%s has %q, %v", info.Key, body, err)
		}
		changed := strings.Replace(string(body), from, to, 1)
		if _, err := store.Put(t.Context(), info.Key, strings.NewReader(changed), int64(len(changed)), storage.Cond{}); err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Fatalf("there is nothing below %s", prefix)
}

// breaksOff sends a request whose answer may be aborted.
func breaksOff(w *world, do string) {
	method, target, _ := strings.Cut(w.expand(do), " ")
	defer func() {
		if aborted := recover(); aborted != nil && aborted != http.ErrAbortHandler {
			panic(aborted)
		}
	}()
	w.handler.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(method, target, nil))
}
