package remotetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"net/http"
	"runtime"
	"runtime/metrics"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"berth/storage"
	"berth/storage/remote"
)

// manyFaults lets writers append to one object while every fifth request fails somehow. Each append that was
// acknowledged, or found to have landed, is there once.
func manyFaults(t *testing.T, s Service) {
	synctest.Test(t, func(t *testing.T) {
		transport := s.faulty()
		d := s.Open(t, transport)
		if _, err := d.Put(t.Context(), "log", strings.NewReader("begin\n"), -1, storage.Absent()); err != nil {
			t.Fatal(err)
		}
		transport.plan = func(int, *http.Request) Fault {
			if rand.IntN(5) > 0 {
				return pass
			}
			return []Fault{before, after, cut, Slow, Broken, short}[rand.IntN(6)]
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
		transport.plan = never
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
func appendLine(ctx context.Context, d storage.Driver, key, line string) error {
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

// deadService bounds how long a call waits for a service that is silent, and asks that calls not wait at all once that is
// known, nor after the service is back.
func deadService(t *testing.T, s Service) {
	synctest.Test(t, func(t *testing.T) {
		var dead atomic.Bool
		transport := s.faulty()
		transport.plan = func(int, *http.Request) Fault {
			if dead.Load() {
				return hang
			}
			return pass
		}
		d := s.Open(t, transport)
		dead.Store(true)
		start := time.Now()
		var callers sync.WaitGroup
		for range remote.TripAfter {
			callers.Go(func() {
				if _, err := d.Stat(t.Context(), "k"); !errors.Is(err, storage.ErrUnavailable) {
					t.Errorf("Stat of a dead service = %v", err)
				}
			})
		}
		callers.Wait()
		if took := time.Since(start); took > remote.RetryBudget+2*remote.AnswerWithin {
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
		time.Sleep(remote.OpenFor)
		for range 100 {
			if _, err := d.Stat(t.Context(), "k"); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("Stat of a service that is back = %v", err)
			}
		}
	})
}

// vanishes tells a bucket that is gone from an object that is not there.
func vanishes(t *testing.T, s Service) {
	transport := s.faulty()
	d := s.Open(t, transport)
	transport.plan = func(int, *http.Request) Fault { return Vanished }
	_, err := d.Stat(t.Context(), "k")
	_, _, errOpen := d.Open(t.Context(), "k", 0, -1)
	_, errPut := d.Put(t.Context(), "k", strings.NewReader("x"), 1, storage.Absent())
	for op, err := range map[string]error{"Stat": err, "Open": errOpen, "Put": errPut, "Delete": d.Delete(t.Context(), "k", storage.Cond{})} {
		if !errors.Is(err, storage.ErrUnavailable) || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s = %v", op, err)
		}
	}
}

// sink is a service that keeps nothing of parts, and counts how many come at a time.
type sink struct {
	http.RoundTripper
	isPart    func(*http.Request) bool
	status    int
	header    http.Header
	mu        sync.Mutex
	now, most int
	heap      uint64
}

func (s *sink) RoundTrip(r *http.Request) (*http.Response, error) {
	if !s.isPart(r) {
		return s.RoundTripper.RoundTrip(r)
	}
	s.mu.Lock()
	s.now++
	s.most = max(s.most, s.now)
	s.mu.Unlock()
	defer func() { s.mu.Lock(); s.now--; s.mu.Unlock() }()
	_, err := io.Copy(io.Discard, r.Body)
	runtime.GC()
	s.mu.Lock()
	s.heap = max(s.heap, liveHeap())
	s.mu.Unlock()
	response := &http.Response{StatusCode: s.status, Header: http.Header{"Etag": {`"e"`}}, Request: r, Body: http.NoBody, ProtoMajor: 1, ProtoMinor: 1}
	maps.Copy(response.Header, s.header)
	return response, err
}

// liveHeap is how many bytes the last collection found in use. What was dropped since does not count: under the race detector
// pools drop one thing in four.
func liveHeap() uint64 {
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(live)
	return live[0].Value.Uint64()
}

// memory puts large bodies of unknown size at once, and looks at what they take. The service keeps nothing of their parts, so
// that the puts fail in the end.
func memory(t *testing.T, s Service) {
	const uploads = 4
	service := &sink{RoundTripper: s.Fake(), isPart: s.IsPart, status: s.PartStatus, header: s.PartHeader}
	d := s.Open(t, service)
	runtime.GC()
	before := liveHeap()
	var all sync.WaitGroup
	for i := range uploads {
		all.Go(func() {
			body := io.LimitReader(zeros{}, int64(16*s.Part+100))
			_, err := d.Put(t.Context(), fmt.Sprintf("data/%d", i), body, -1, storage.Cond{})
			if err == nil {
				t.Error("an object whose parts were not kept was put")
			}
		})
	}
	all.Wait()
	limit := uint64((uploads+s.Parallel)*s.Part + 8<<20)
	if grown := service.heap - min(service.heap, before); grown > limit || service.most > s.Parallel {
		t.Errorf("%d uploads took %d MiB, of %d allowed, and sent %d parts at a time", uploads, grown>>20, limit>>20, service.most)
	} else {
		t.Logf("%d uploads took %d MiB, of %d allowed, and sent %d parts at a time", uploads, grown>>20, limit>>20, service.most)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }
