package s3

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"berth/storage"
)

// A fault is what happens to a request.
type fault int

const (
	pass fault = iota
	before
	after   // performed, and the reply is lost
	cut     // performed, and the body of the reply ends in the middle
	slow    // 503 SlowDown, not performed
	broken  // 500, not performed
	expired // 403 ExpiredToken, not performed
	short   // a body that ends well, but too early
	hang    // nothing happens until the caller gives up
)

func (f fault) String() string {
	return []string{"pass", "before", "after", "cut", "slow", "broken", "expired", "short", "hang"}[f]
}

// faulty is a transport with faults.
type faulty struct {
	next http.RoundTripper
	plan func(n int, r *http.Request) fault
	n    atomic.Int64
	hit  atomic.Int64
}

var errReset = errors.New("connection reset by peer")

func (f *faulty) RoundTrip(r *http.Request) (*http.Response, error) {
	what := f.plan(int(f.n.Add(1)), r)
	if what != pass {
		f.hit.Add(1)
	}
	switch what {
	case before:
		return nil, errReset
	case slow:
		return refusal(r, 503, "SlowDown"), nil
	case broken:
		return refusal(r, 500, "InternalError"), nil
	case expired:
		return refusal(r, 403, "ExpiredToken"), nil
	case hang:
		<-r.Context().Done()
		return nil, r.Context().Err()
	}
	response, err := f.next.RoundTrip(r)
	switch {
	case err != nil:
		return nil, err
	case what == after, (what == cut || what == short) && response.ContentLength < 2:
		return nil, errReset
	case what == cut:
		response.Body = io.NopCloser(io.MultiReader(io.LimitReader(response.Body, response.ContentLength/2), failing{}))
	case what == short:
		response.Body = io.NopCloser(io.LimitReader(response.Body, response.ContentLength/2))
	}
	return response, nil
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func refusal(r *http.Request, status int, code string) *http.Response {
	body := "<Error><Code>" + code + "</Code></Error>"
	return &http.Response{StatusCode: status, Header: http.Header{"Content-Type": {"application/xml"}}, Request: r,
		Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body)), ProtoMajor: 1, ProtoMinor: 1}
}

// TestEveryCall has each request of a story fail in turn, in each way. One fault is one that the driver gets over; only a
// change under a condition whose reply is lost may be answered by "unavailable", and has then taken place or not.
func TestEveryCall(t *testing.T) {
	for _, mode := range []fault{before, after, cut, slow, broken, expired, short, hang} {
		t.Run(mode.String(), func(t *testing.T) {
			for n, hit := 1, int64(1); hit > 0; n++ {
				synctest.Test(t, func(t *testing.T) { hit = tell(t, mode, n) })
				if t.Failed() {
					t.Fatalf("when request %d fails", n)
				}
			}
		})
	}
}

// tell runs the story with a fault at request n, and reports whether there was one.
func tell(t *testing.T, mode fault, n int) int64 {
	service := newFake()
	transport := &faulty{next: service, plan: func(int, *http.Request) fault { return pass }}
	d := openOver(t, over(transport))
	transport.n.Store(0)
	transport.plan = func(i int, _ *http.Request) fault {
		if i == n {
			return mode
		}
		return pass
	}
	s := story{t, d, mode}
	info := s.put("k", "one", storage.Absent())
	info = s.put("k", "two", storage.Match(info.Rev))
	s.read("k", "two")
	large := strings.Repeat("0123456789abcdef", 5<<20/16+1)
	s.put("data/large", large, storage.Cond{})
	s.read("data/large", large)
	for _, err := range d.List(t.Context(), "", "") {
		s.must("list", err)
	}
	s.remove("k", storage.Match(info.Rev))
	s.remove("data/large", storage.Cond{})
	s.must("delete many", storage.DeleteAll(t.Context(), d, "data/x", "data/y"))
	_, _, err := d.Tidy(t.Context(), time.Now().Add(time.Hour))
	s.must("tidy", err)
	if hit := transport.hit.Load(); hit > 0 { // with one fault only: what was left by it must be gone
		if len(service.uploads) != 0 {
			t.Errorf("uploads are left: %v", service.uploads)
		}
		return hit
	}
	return 0
}

type story struct {
	*testing.T
	d    *Driver
	mode fault
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
	return !cond.IsAlways() && s.mode != slow && s.mode != before && s.mode != expired && errors.Is(err, storage.ErrUnavailable)
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

// TestManyFaults lets writers append to one object while every fifth request fails somehow. Each append that was
// acknowledged, or found to have landed, is there once.
func TestManyFaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		transport := &faulty{next: newFake(), plan: func(int, *http.Request) fault { return pass }}
		d := openOver(t, over(transport))
		if _, err := d.Put(t.Context(), "log", strings.NewReader("begin\n"), -1, storage.Absent()); err != nil {
			t.Fatal(err)
		}
		transport.plan = func(int, *http.Request) fault {
			if rand.IntN(5) > 0 {
				return pass
			}
			return []fault{before, after, cut, slow, broken, short}[rand.IntN(6)]
		}
		var writers sync.WaitGroup
		for w := range 8 {
			writers.Go(func() {
				for i := range 8 {
					if err := appendLine(t.Context(), d, "log", fmt.Sprintf("%d.%d", w, i)); err != nil {
						t.Errorf("append: %v", err)
					}
				}
			})
		}
		writers.Wait()
		transport.plan = func(int, *http.Request) fault { return pass }
		body, _, err := storage.ReadAll(t.Context(), d, "log", 1<<20)
		lines := strings.Fields(string(body))
		slices.Sort(lines)
		if err != nil || len(lines) != 65 || len(slices.Compact(lines)) != 65 {
			t.Errorf("the log has %d lines, %d of them different: %v", len(strings.Fields(string(body))), len(slices.Compact(lines)), err)
		}
		t.Logf("%d faults in %d requests", transport.hit.Load(), transport.n.Load())
	})
}

// appendLine adds a line that nobody else adds, settling what it does not know by reading.
func appendLine(ctx context.Context, d *Driver, key, line string) error {
	for range 10_000 {
		body, info, err := storage.ReadAll(ctx, d, key, 1<<20)
		switch {
		case errors.Is(err, storage.ErrUnavailable):
			continue
		case err != nil:
			return err
		case slices.Contains(strings.Fields(string(body)), line):
			return nil
		}
		_, err = d.Put(ctx, key, bytes.NewReader(append(slices.Clone(body), line+"\n"...)), -1, storage.Match(info.Rev))
		if err == nil || !errors.Is(err, storage.ErrConflict) && !errors.Is(err, storage.ErrUnavailable) {
			return err
		}
	}
	return errors.New("too many conflicts")
}

// TestDeadService bounds how long a call waits for a service that is silent, and asks that calls not wait at all once that is
// known, nor after the service is back.
func TestDeadService(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var dead atomic.Bool
		transport := &faulty{next: newFake(), plan: func(int, *http.Request) fault {
			if dead.Load() {
				return hang
			}
			return pass
		}}
		d := openOver(t, over(transport))
		dead.Store(true)
		start := time.Now()
		var callers sync.WaitGroup
		for range tripAfter {
			callers.Go(func() {
				if _, err := d.Stat(t.Context(), "k"); !errors.Is(err, storage.ErrUnavailable) {
					t.Errorf("Stat of a dead service = %v", err)
				}
			})
		}
		callers.Wait()
		if took := time.Since(start); took > retryBudget+2*answerWithin {
			t.Errorf("a call waited %v", took)
		}
		start = time.Now()
		for range 100 {
			if _, err := d.Stat(t.Context(), "k"); !errors.Is(err, storage.ErrUnavailable) {
				t.Errorf("Stat of a dead service = %v", err)
			}
		}
		if took := time.Since(start); took > 0 {
			t.Errorf("100 calls waited %v", took)
		}
		dead.Store(false)
		time.Sleep(openFor)
		for range 100 {
			if _, err := d.Stat(t.Context(), "k"); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("Stat of a service that is back = %v", err)
			}
		}
	})
}

// TestBucketVanishes tells a bucket that is gone from an object that is not there.
func TestBucketVanishes(t *testing.T) {
	gone := roundTrip(func(r *http.Request) (*http.Response, error) { return refusal(r, 404, "NoSuchBucket"), nil })
	transport := &faulty{next: newFake(), plan: func(int, *http.Request) fault { return pass }}
	d := openOver(t, over(transport))
	transport.next = gone
	_, err := d.Stat(t.Context(), "k")
	_, _, errOpen := d.Open(t.Context(), "k", 0, -1)
	_, errPut := d.Put(t.Context(), "k", strings.NewReader("x"), 1, storage.Absent())
	for op, err := range map[string]error{"Stat": err, "Open": errOpen, "Put": errPut, "Delete": d.Delete(t.Context(), "k", storage.Cond{})} {
		if !errors.Is(err, storage.ErrUnavailable) || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s = %v", op, err)
		}
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// sink is a service that keeps nothing of parts, and counts how many come at a time.
type sink struct {
	*fake
	mu        sync.Mutex
	now, most int
	heap      uint64
}

func (s *sink) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method != http.MethodPut || !r.URL.Query().Has("partNumber") {
		return s.fake.RoundTrip(r)
	}
	s.mu.Lock()
	s.now++
	s.most = max(s.most, s.now)
	s.mu.Unlock()
	defer func() { s.mu.Lock(); s.now--; s.mu.Unlock() }()
	_, err := io.Copy(io.Discard, r.Body)
	runtime.Gosched()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	s.mu.Lock()
	s.heap = max(s.heap, m.HeapAlloc)
	s.mu.Unlock()
	response := &http.Response{StatusCode: 200, Header: http.Header{}, Request: r, Body: http.NoBody, ProtoMajor: 1, ProtoMinor: 1}
	response.Header.Set("ETag", `"e"`)
	return response, err
}

// TestMemory puts large bodies of unknown size at once, and looks at what they take.
func TestMemory(t *testing.T) {
	const uploads, parallel, part = 4, 6, 5 << 20
	service := &sink{fake: newFake()}
	o := over(service)
	o.Parallel, o.PartSize = parallel, part
	d := openOver(t, o)
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	var all sync.WaitGroup
	for i := range uploads {
		all.Go(func() {
			body := io.LimitReader(zeros{}, 16*part+100)
			_, err := d.Put(t.Context(), fmt.Sprintf("data/%d", i), body, -1, storage.Cond{})
			if err == nil || !strings.Contains(err.Error(), "the service has 0 bytes") { // which the sink has not kept
				t.Errorf("Put = %v", err)
			}
		})
	}
	all.Wait()
	limit := uint64((uploads+parallel)*part + 8<<20)
	if grown := service.heap - min(service.heap, m.HeapAlloc); grown > limit || service.most > parallel {
		t.Errorf("%d uploads took %d MiB, of %d allowed, and sent %d parts at a time", uploads, grown>>20, limit>>20, service.most)
	} else {
		t.Logf("%d uploads took %d MiB, of %d allowed, and sent %d parts at a time", uploads, grown>>20, limit>>20, service.most)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }
