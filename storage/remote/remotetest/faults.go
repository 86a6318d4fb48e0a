package remotetest

import (
	"errors"
	"io"
	"io/fs"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"berth/storage"
)

// Test runs all of this package.
func Test(t *testing.T, s Service) {
	for name, run := range map[string]func(*testing.T, Service){
		"every call": everyCall, "many faults": manyFaults, "a dead service": deadService, "the bucket vanishes": vanishes, "memory": memory,
	} {
		t.Run(name, func(t *testing.T) { run(t, s) })
	}
}

// everyCall has each request of a story fail in turn, in each way. One fault is one that the driver gets over; only a
// change under a condition whose reply is lost may be answered by "unavailable", and has then taken place or not.
func everyCall(t *testing.T, s Service) {
	for _, mode := range []Fault{before, after, cut, Slow, Broken, Expired, short, hang} {
		t.Run(mode.String(), func(t *testing.T) {
			for n, hit := 1, int64(1); hit > 0; n++ {
				synctest.Test(t, func(t *testing.T) { hit = tell(t, s, mode, n) })
				if t.Failed() {
					t.Fatalf("when request %d fails", n)
				}
			}
		})
	}
}

// tell runs the story with a fault at request n, and reports whether there was one.
func tell(t *testing.T, service Service, mode Fault, n int) int64 {
	transport := service.faulty()
	d := service.Open(t, transport)
	transport.n.Store(0)
	transport.plan = func(i int, _ *http.Request) Fault {
		if i == n {
			return mode
		}
		return pass
	}
	s := story{t, d, mode}
	info := s.put("k", "one", storage.Absent())
	info = s.put("k", "two", storage.Match(info.Rev))
	s.read("k", "two")
	large := strings.Repeat("0123456789abcdef", service.Part/16+1)
	s.put("data/large", large, storage.Cond{})
	s.read("data/large", large)
	for _, err := range d.List(t.Context(), "", "") {
		s.must("list", err)
	}
	s.remove("k", storage.Match(info.Rev))
	s.remove("data/large", storage.Cond{})
	s.must("delete many", storage.DeleteAll(t.Context(), d, "data/x", "data/y"))
	if tidier, ok := d.(storage.Tidier); ok {
		_, _, err := tidier.Tidy(t.Context(), time.Now().Add(time.Hour), nil)
		s.must("tidy", err)
	}
	hit := transport.hit.Load()
	if hit > 0 && service.Left != nil { // with one fault only: what was left by it must be gone
		if left := service.Left(transport.next); left != "" {
			t.Errorf("this is left: %s", left)
		}
	}
	return hit
}

type story struct {
	*testing.T
	d    storage.Driver
	mode Fault
}

func (s story) must(what string, err error) {
	s.Helper()
	if err != nil {
		s.Errorf("%s = %v", what, err)
	}
}

func (s story) put(key, body string, cond storage.Cond) storage.Info {
	s.Helper()
	info, err := s.d.Put(s.Context(), key, strings.NewReader(body), -1, cond)
	if err != nil && s.ambiguous(err, cond) {
		if info, err = s.d.Stat(s.Context(), key); err == nil {
			s.read(key, body) // nobody else writes: it landed
		}
	}
	s.must("put "+key, err)
	return info
}

func (s story) ambiguous(err error, cond storage.Cond) bool {
	return !cond.IsAlways() && s.mode != Slow && s.mode != before && s.mode != Expired && errors.Is(err, storage.ErrUnavailable)
}

func (s story) remove(key string, cond storage.Cond) {
	s.Helper()
	if err := s.d.Delete(s.Context(), key, cond); err != nil && !s.ambiguous(err, cond) {
		s.must("delete "+key, err)
	}
	if _, err := s.d.Stat(s.Context(), key); !errors.Is(err, fs.ErrNotExist) {
		s.Errorf("stat %s after its deletion = %v", key, err)
	}
}

func (s story) read(key, want string) {
	s.Helper()
	r, _, err := s.d.Open(s.Context(), key, 0, -1)
	if err != nil {
		s.Errorf("open %s = %v", key, err)
		return
	}
	defer r.Close()
	if got, err := io.ReadAll(r); err != nil || string(got) != want {
		s.Errorf("%s reads as %d bytes of %d, %v", key, len(got), len(want), err)
	}
}
