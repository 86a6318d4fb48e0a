package server

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"berth/auth"
	"berth/registry"
	"berth/registry/api"
	"berth/registry/gate"
	"berth/registry/observe"
	"berth/storage"
	"berth/storage/memory"
)

// The load of TestOverload.
const (
	runningMost = 4
	queuedMost  = 4
	capacity    = runningMost + queuedMost
	loadTime    = 3 * time.Second
	storeTime   = 20 * time.Millisecond // of each list: what a request takes is not the processor's time
)

// A slowStore takes its time for a list.
type slowStore struct{ storage.Driver }

func (s slowStore) List(ctx context.Context, prefix, after string) iter.Seq2[storage.Info, error] {
	time.Sleep(storeTime)
	return s.Driver.List(ctx, prefix, after)
}

// A loaded server is one that counts what it answers.
type loaded struct {
	*started
	gate  *gate.Gate
	lines *bytes.Buffer // the access log
	log   *observe.AccessLog
}

func startLoaded(t *testing.T, limits gate.Limits) *loaded {
	t.Helper()
	reg, err := registry.Open(t.Context(), slowStore{memory.New()}, nil)
	if err != nil {
		t.Fatal(err)
	}
	l := &loaded{gate: gate.New(limits, nil), lines: &bytes.Buffer{}}
	h, err := api.New(reg, auth.Anonymous{}, auth.AllowAll{}, &api.Options{Gate: l.gate})
	if err != nil {
		t.Fatal(err)
	}
	l.log = observe.NewAccessLog(l.lines, true)
	l.started = start(t, h, Options{AccessLog: l.log, DrainTimeout: time.Minute}, nil)
	return l
}

// stop ends the server and returns the statuses that it answered, by the id of the request.
func (l *loaded) stop() map[string][]int {
	l.t.Helper()
	l.signals <- os.Interrupt
	l.wantTold("STOPPING=1")
	l.wantStopped()
	if err := l.log.Close(); err != nil {
		l.t.Fatal(err)
	}
	statuses := map[string][]int{}
	for line := range bytes.Lines(l.lines.Bytes()) {
		var answered struct {
			ID     string `json:"http.request.id"`
			Status int    `json:"http.response.status"`
		}
		if err := json.Unmarshal(line, &answered); err != nil {
			l.t.Fatalf("%s: %v", line, err)
		}
		if strings.HasPrefix(answered.ID, "client-") { // others connect only
			statuses[answered.ID] = append(statuses[answered.ID], answered.Status)
		}
	}
	return statuses
}

// A tally is what clients got.
type tally struct {
	mu       sync.Mutex
	statuses map[string]int // by the id of the request
	took     map[int][]time.Duration
}

// load has clients ask over and over. One that is turned away comes back when it is told to.
func (l *loaded) load(clients int) *tally {
	all := &tally{statuses: map[string]int{}, took: map[int][]time.Duration{}}
	transport := &http.Transport{MaxIdleConnsPerHost: clients}
	defer transport.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(l.t.Context(), loadTime)
	defer cancel()
	var running sync.WaitGroup
	for n := range clients {
		running.Go(func() {
			if _, err := get(transport, l.url+"/healthz"); err != nil { // connects, which is not to be measured
				l.t.Error(err)
			}
			for i := 0; ctx.Err() == nil; i++ {
				pause := all.ask(l, transport, fmt.Sprintf("client-%d-%d", n, i))
				select {
				case <-ctx.Done():
				case <-time.After(pause):
				}
			}
		})
	}
	running.Wait()
	return all
}

// ask makes a request and returns how long the client is told to wait before the next.
func (a *tally) ask(l *loaded, transport *http.Transport, id string) time.Duration {
	r, err := http.NewRequest(http.MethodGet, l.url+"/v2/a/tags/list", nil)
	if err != nil {
		l.t.Error(err)
		return 0
	}
	r.Header.Set(observe.IDHeader, id)
	start := time.Now()
	answer, err := (&http.Client{Transport: transport}).Do(r)
	if err != nil {
		l.t.Errorf("%s is lost: %v", id, err)
		return 0
	}
	defer answer.Body.Close()
	if _, err := io.Copy(io.Discard, answer.Body); err != nil {
		l.t.Errorf("%s is lost: %v", id, err)
	}
	took := time.Since(start)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.statuses[id] = answer.StatusCode
	a.took[answer.StatusCode] = append(a.took[answer.StatusCode], took)
	if answer.StatusCode != http.StatusTooManyRequests {
		return 0
	}
	seconds, err := strconv.Atoi(answer.Header.Get("Retry-After"))
	if err != nil || seconds < 1 {
		l.t.Errorf("Retry-After is %q", answer.Header.Get("Retry-After"))
	}
	return time.Duration(seconds) * time.Second
}

func median(d []time.Duration) time.Duration {
	if len(d) == 0 {
		return 0
	}
	slices.Sort(d)
	return d[len(d)/2]
}

// TestOverload has three times as many clients as the server has room for, running and waiting. It looks at the bounds inside
// the server, at each request on both sides, and compares what is served with a server without limits that as many requests
// run in, at the same time, so that a machine with other work to do slows both alike.
func TestOverload(t *testing.T) {
	const served = http.StatusNotFound // what a list of the tags of no repository answers
	var limits gate.Limits
	limits.Queues[gate.Read] = gate.Queue{MaxRunning: runningMost, MaxInQueue: queuedMost, MaxWait: time.Minute}
	free, l := startLoaded(t, gate.Limits{}), startLoaded(t, limits)
	var unlimited *tally
	var beside sync.WaitGroup
	beside.Go(func() { unlimited = free.load(runningMost) })
	seen := l.load(3 * capacity)
	beside.Wait()
	free.stop()
	answered := l.stop()
	if len(unlimited.took[served]) != len(unlimited.statuses) {
		t.Fatalf("without limits there was another answer than %d", served)
	}

	for id, status := range seen.statuses {
		if got := answered[id]; !slices.Equal(got, []int{status}) || status != served && status != http.StatusTooManyRequests {
			t.Errorf("%s got %d, and the server answered %d", id, status, got)
		}
	}
	if len(answered) != len(seen.statuses) {
		t.Errorf("%d requests were made and %d served", len(seen.statuses), len(answered))
	}
	s := l.gate.Stats()
	c := s.Classes[gate.Read]
	if c.PeakRunning != runningMost || c.PeakQueued != queuedMost || c.Running != 0 || c.Queued != 0 {
		t.Errorf("the bounds are %d running and %d queued; %+v", runningMost, queuedMost, c)
	}
	if int(c.Admitted) != len(seen.took[served]) || int(s.Rejected[gate.QueueFull]) != len(seen.took[http.StatusTooManyRequests]) {
		t.Errorf("clients saw %d served and %d turned away; %+v", len(seen.took[served]), len(seen.took[http.StatusTooManyRequests]), s)
	}
	quick, slow := median(seen.took[http.StatusTooManyRequests]), median(seen.took[served])
	if quick == 0 || quick >= slow {
		t.Errorf("the median of a refusal is %v, of a served request %v", quick, slow)
	}
	ratio := float64(len(seen.took[served])) / float64(len(unlimited.took[served]))
	if ratio < 0.95 {
		t.Errorf("served %d requests, and %d without limits", len(seen.took[served]), len(unlimited.took[served]))
	}
	t.Logf("%d clients: %d served, %d turned away; medians %v and %v; %.2f of what a server without limits serves to %d clients",
		3*capacity, len(seen.took[served]), len(seen.took[http.StatusTooManyRequests]), slow, quick, ratio, runningMost)
}
