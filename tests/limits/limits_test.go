// Package limits has more clients come to the built registry than it has room for.
package limits

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"berth/tests/content"
	"berth/tests/harness"
)

const (
	running  = 4
	queued   = 4
	capacity = running + queued
	clients  = 3 * capacity
)

const metricsSecret = "for-this-test-only"

// config is what lets so many requests of a class run and wait.
func config(class string, running, queued int) string {
	return fmt.Sprintf("metrics: {enabled: true, secret: %s}\nrequests: {%s: {maxrunning: %d, maxinqueue: %d}}\n",
		metricsSecret, class, running, queued)
}

// unlimited lets any number run.
const unlimited = "requests: {read: {maxrunning: 0}, write: {maxrunning: 0}}\n"

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A tally is what clients got.
type tally struct {
	mu       sync.Mutex
	took     map[int][]time.Duration // by status
	statuses map[[2]int]int          // by client and round
}

func (a *tally) add(client, round, status int, took time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.statuses[[2]int{client, round}] = status
	a.took[status] = append(a.took[status], took)
}

func (a *tally) median(status int) time.Duration {
	d := a.took[status]
	if len(d) == 0 {
		return 0
	}
	slices.Sort(d)
	return d[len(d)/2]
}

// load has so many clients repeat a request for a while. One that is turned away comes back when it is told to. Whatever is
// answered but these two fails the test.
func load(t *testing.T, s *harness.Server, n int, length time.Duration, call func(client, round int) harness.Call, served int) *tally {
	t.Helper()
	all := &tally{took: map[int][]time.Duration{}, statuses: map[[2]int]int{}}
	ctx, cancel := context.WithTimeout(t.Context(), length)
	defer cancel()
	var group sync.WaitGroup
	for client := range n {
		group.Go(func() {
			for round := 0; ctx.Err() == nil; round++ {
				request := call(client, round)
				start := time.Now()
				r, err := s.Do(request)
				if err == nil {
					err = r.Want(served, http.StatusTooManyRequests)
				}
				if err != nil {
					t.Errorf("after %v: %v", time.Since(start), err)
					return
				}
				all.add(client, round, r.Status, time.Since(start))
				if r.Status == served {
					continue
				}
				seconds, err := strconv.Atoi(r.Header.Get("Retry-After"))
				if err != nil || !slices.Equal(r.Codes(), []string{"TOOMANYREQUESTS"}) {
					t.Errorf("a refusal with Retry-After %q and %s", r.Header.Get("Retry-After"), r.Body)
				}
				select {
				case <-ctx.Done():
				case <-time.After(time.Duration(seconds) * time.Second):
				}
			}
		})
	}
	group.Wait()
	return all
}

// figures reads the metrics of the server.
func figures(t *testing.T, s *harness.Server) map[string]float64 {
	t.Helper()
	r, err := s.Do(harness.Call{Method: "GET", Path: "/extensions/v2/metrics", Header: http.Header{"Authorization": {"Bearer " + metricsSecret}}})
	must(t, err)
	must(t, r.Want(200))
	all := map[string]float64{}
	for line := range strings.Lines(string(r.Body)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if f, err := strconv.ParseFloat(value, 64); err == nil {
			all[name] = f
		}
	}
	return all
}

// watch looks at the queues from inside the server, again and again, until the context ends. It returns the most that ran and
// waited.
func watch(ctx context.Context, t *testing.T, s *harness.Server, class string) (mostRunning, mostQueued float64) {
	for ctx.Err() == nil {
		f := figures(t, s)
		mostRunning = max(mostRunning, f[`berth_queue_running{class="`+class+`"}`])
		mostQueued = max(mostQueued, f[`berth_queue_length{class="`+class+`"}`])
		time.Sleep(10 * time.Millisecond)
	}
	return mostRunning, mostQueued
}

// TestOverload has three times as many clients push blobs as there is room for. Each push has content of its own, so that a
// lost one is seen, as is one that was turned away and made all the same.
func TestOverload(t *testing.T) {
	const repo = "team/app"
	s := harness.Start(t, harness.Options{Config: config("write", running, queued)})
	blob := func(client, round int) content.Blob {
		return content.Random(fmt.Sprintf("%d of %d", round, client), 300<<10)
	}
	got := overload(t, s, "write", func(client, round int) harness.Call {
		b := blob(client, round)
		return harness.Call{Method: "POST", Path: "/v2/" + repo + "/blobs/uploads/", Query: map[string][]string{"digest": {b.Digest}}, Body: b.Bytes}
	}, 201)
	compare(t, s, "write", got, 201)
	for at, status := range got.statuses {
		r, err := s.Do(harness.Call{Method: "HEAD", Path: "/v2/" + repo + "/blobs/" + blob(at[0], at[1]).Digest})
		must(t, err)
		must(t, r.Want(map[int]int{201: 200, 429: 404}[status]))
	}
}

// overload watches the server from inside while too many clients ask.
func overload(t *testing.T, s *harness.Server, class string, call func(client, round int) harness.Call, served int) *tally {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var watching sync.WaitGroup
	watching.Go(func() {
		if r, q := watch(ctx, t, s, class); r > running || q > queued {
			t.Errorf("%v run and %v wait at a time, where the bounds are %d and %d", r, q, running, queued)
		} else {
			t.Logf("at most %v ran and %v waited", r, q)
		}
	})
	got := load(t, s, clients, 4*time.Second, call, served)
	cancel()
	watching.Wait()
	return got
}

// compare holds what clients saw against what the server says of it.
func compare(t *testing.T, s *harness.Server, class string, got *tally, served int) {
	t.Helper()
	f := figures(t, s)
	refused := got.took[http.StatusTooManyRequests]
	if n := f[`berth_queue_admitted_total{class="`+class+`"}`]; class == "write" && int(n) != len(got.took[served]) {
		t.Errorf("clients saw %d served, the server %v", len(got.took[served]), n)
	}
	if n := f[`berth_requests_rejected_total{reason="queue_full"}`]; int(n) != len(refused) {
		t.Errorf("clients saw %d turned away, the server %v", len(refused), n)
	}
	quick, slow := got.median(http.StatusTooManyRequests), got.median(served)
	if quick == 0 || quick >= slow {
		t.Errorf("the median of a refusal is %v, of a served request %v", quick, slow)
	}
	t.Logf("%d clients: %d served, %d turned away; medians %v and %v", clients, len(got.took[served]), len(refused), slow, quick)
}

// TestThroughput compares what a server with limits serves to three times as many clients as it has room for, with what one
// without limits serves to as many. Both are measured in many short turns, of which the median counts, and up to three times: the
// machine has other things to do.
func TestThroughput(t *testing.T) {
	const repo, turns, length = "team/app", 40, 250 * time.Millisecond
	b := content.Random("pulled", 1<<20)
	call := func(int, int) harness.Call {
		return harness.Call{Method: "GET", Path: "/v2/" + repo + "/blobs/" + b.Digest}
	}
	servers := []*harness.Server{
		harness.Start(t, harness.Options{Config: config("blobs", running, queued)}),
		harness.Start(t, harness.Options{Config: unlimited}),
	}
	for _, s := range servers {
		must(t, s.PushBlob(repo, b))
		load(t, s, clients, length, call, 200)
	}
	for range 3 {
		ratios := make([]float64, turns)
		for turn := range ratios {
			var served [2]float64
			for i := range servers {
				i = (i + turn) % 2 // neither is always the first
				served[i] = float64(len(load(t, servers[i], clients, length, call, 200).took[200]))
			}
			ratios[turn] = served[0] / served[1]
		}
		slices.Sort(ratios)
		median := ratios[turns/2]
		t.Logf("%d clients pull 1 MiB for %v: with limits %.2f of what it is without (%.2f to %.2f)", clients, turns*length, median, ratios[0], ratios[turns-1])
		if median >= 0.95 {
			return
		}
	}
	t.Error("limits cost too much")
}

// TestSlowReaders has more clients stall in the middle of a large blob than the server lets requests run, of reads and of
// downloads. Small requests go on as if nobody were there.
func TestSlowReaders(t *testing.T) {
	const repo = "team/app"
	s := harness.Start(t, harness.Options{Config: "requests:\n  read: {maxrunning: 4, maxinqueue: 4}\n  blobs: {maxrunning: 8, maxinqueue: 8}\n"})
	large := content.Random("large", 64<<20)
	set := content.Algorithm(content.Digest).Index("small", nil)
	must(t, s.PushBlob(repo, large))
	must(t, s.Push(repo, set, "v1"))
	small := func(int, int) harness.Call { return harness.Call{Method: "GET", Path: "/v2/" + repo + "/manifests/v1"} }
	before := load(t, s, 2, 2*time.Second, small, 200)

	var stalled []*bufio.Reader
	for i := range 16 {
		c, err := net.Dial("tcp", s.Addr)
		must(t, err)
		defer c.Close()
		must(t, c.(*net.TCPConn).SetReadBuffer(4096))
		_, err = fmt.Fprintf(c, "GET /v2/%s/blobs/%s HTTP/1.1\r\nHost: x\r\n\r\n", repo, large.Digest)
		must(t, err)
		stalled = append(stalled, bufio.NewReaderSize(c, 16))
		if i < 8 { // it is let in at once; the others wait
			_, err := stalled[i].Peek(16)
			must(t, err)
		}
	}
	during := load(t, s, 2, 2*time.Second, small, 200)
	must(t, s.Verify(repo, set)) // its blobs are small
	r, err := s.Get("/v2/" + repo + "/blobs/" + large.Digest)
	must(t, err)
	must(t, r.Want(http.StatusTooManyRequests))
	if n := len(before.took[429]) + len(during.took[429]); n > 0 {
		t.Errorf("%d small requests were turned away", n)
	}
	was, is := before.median(200), during.median(200)
	t.Logf("the median of a small request is %v, and %v while 16 readers stall", was, is)
	if is > 3*was {
		t.Error("small requests suffer")
	}
	_, err = io.CopyN(io.Discard, stalled[0], 64<<10) // it was not cut meanwhile
	must(t, err)
}

// TestReload changes the limits many times while requests run and wait: each is served, or turned away with 429.
func TestReload(t *testing.T) {
	const repo, reloaded = "team/app", "reloaded the configuration"
	s := harness.Start(t, harness.Options{Config: config("blobs", running, queued)})
	b := content.Random("pulled", 1<<20)
	must(t, s.PushBlob(repo, b))
	done := make(chan *tally)
	go func() {
		done <- load(t, s, clients, 3*time.Second, func(int, int) harness.Call {
			return harness.Call{Method: "GET", Path: "/v2/" + repo + "/blobs/" + b.Digest}
		}, 200)
	}()
	for i := range 12 {
		s.Reconfigure([]string{config("blobs", 1, 0), config("blobs", 2, 16), unlimited, config("blobs", 1, 1000)}[i%4], reloaded)
		time.Sleep(100 * time.Millisecond)
	}
	got := <-done
	if len(got.took[200]) == 0 {
		t.Error("nothing was served")
	}
	t.Logf("%d served, %d turned away", len(got.took[200]), len(got.took[429]))

	// A limit that makes no sense changes nothing, and is told with its line.
	s.Reconfigure(config("read", 1, 0), reloaded)
	s.Reconfigure("requests:\n  read:\n    maxrunning: 0\n    maxinqueue: 5\n", "config.yml:16: requests.read.maxinqueue: nothing would ever wait")
	must(t, get(s, 200))
}

func get(s *harness.Server, status int) error {
	r, err := s.Get("/v2/")
	if err != nil {
		return err
	}
	return r.Want(status)
}

// TestRates asks more often than one address may, and pushes a blob larger than any may be.
func TestRates(t *testing.T) {
	s := harness.Start(t, harness.Options{Config: "requests: {rate: {address: {persecond: 1, burst: 20}}, maxblobsize: 1MiB}\n"})
	b := content.Random("too large", 1<<20+1)
	r, err := s.Do(harness.Call{Method: "POST", Path: "/v2/a/blobs/uploads/", Query: map[string][]string{"digest": {b.Digest}}, Stream: bytes.NewReader(b.Bytes)})
	must(t, err)
	must(t, r.Want(http.StatusRequestEntityTooLarge))
	for range 30 {
		r, err = s.Get("/v2/")
		must(t, err)
	}
	must(t, r.Want(http.StatusTooManyRequests))
	if after := r.Header.Get("Retry-After"); after != "1" {
		t.Errorf("Retry-After is %q", after)
	}
	for _, path := range []string{"/", "/healthz", "/readyz"} {
		r, err := s.Get(path)
		must(t, err)
		must(t, r.Want(200))
	}
}
