// Package health watches what a registry depends on: its storage, the room there, the clock, and whatever an operator names
// (a file, a URL, an address). What fails ends readiness, or the taking of changes, or all service, until it is well again.
package health

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"

	"berth/storage"
)

// An Effect is what a check that fails puts an end to.
type Effect uint8

// The effects.
const (
	Readiness Effect = iota // nothing more is sent here; what comes is served as well as it can be
	Changes                 // changes are refused, but for deletes where the storage is merely full; reading goes on
	Service                 // all is refused
)

// A Check is one thing that is watched.
type Check struct {
	// Name is how metrics and logs have it; it must be unique.
	Name string
	// Effect is what ends while the check fails.
	Effect Effect
	// Run returns an error when the thing is not well. One that outlives its context counts as failed, and is not run again
	// before it returns.
	Run func(context.Context) error
	// Reason says of such an error what everybody may know.
	Reason func(error) string
	// Interval is the time between two runs. 0: 10 s.
	Interval time.Duration
	// Retry is the time between two runs while the check fails. 0: Interval.
	Retry time.Duration
	// Timeout bounds a run. 0: 5 s.
	Timeout time.Duration
	// Threshold is how many runs in a row must fail before that counts. 0: 1.
	Threshold int
}

// ErrTimeout is the error of a check that takes too long.
var ErrTimeout = errors.New("no answer in time")

// A RefusedError says why something is refused for now.
type RefusedError struct{ Reason string }

func (e *RefusedError) Error() string { return e.Reason }

// A Monitor runs checks, and tells what they found. It is safe for concurrent use, except for Add.
type Monitor struct {
	log      logrus.FieldLogger
	onResult func(check string, ok bool)
	watches  []*watch

	mu       sync.Mutex
	state    atomic.Pointer[state]
	stopping atomic.Bool
}

// A state is what is known of all checks together.
type state struct {
	reasons          []string
	ready            bool
	puts, deletes    error // why these are refused; nil: they are not
	service          error
	changesSuspended []*watch // which may be well again
}

// New makes a monitor without checks, which finds everything well. onResult is told of each result that counts; nil: nobody is.
func New(log logrus.FieldLogger, onResult func(check string, ok bool)) *Monitor {
	if onResult == nil {
		onResult = func(string, bool) {}
	}
	m := &Monitor{log: log, onResult: onResult}
	m.state.Store(&state{ready: true})
	return m
}

// Add adds a check. Nothing is added once Run was called.
func (m *Monitor) Add(c Check) {
	for value, fallback := range map[*time.Duration]time.Duration{&c.Interval: 10 * time.Second, &c.Timeout: 5 * time.Second} {
		if *value <= 0 {
			*value = fallback
		}
	}
	if c.Retry <= 0 {
		c.Retry = c.Interval
	}
	c.Threshold = max(c.Threshold, 1)
	m.watches = append(m.watches, newWatch(c))
	m.settle()
}

// Run runs the checks until ctx ends.
func (m *Monitor) Run(ctx context.Context) {
	var running sync.WaitGroup
	defer running.Wait()
	for _, w := range m.watches {
		running.Go(func() { w.run(ctx, m.report) })
	}
}

// report takes the result of a check over.
func (m *Monitor) report(w *watch, was, is verdict, err error) {
	m.settle()
	if is == unknown {
		return
	}
	m.onResult(w.Name, is == well)
	entry := m.log.WithField("check", w.Name)
	switch {
	case is == ill && was != ill:
		entry.WithError(err).Warn("a health check fails: " + w.Reason(err))
	case is == well && was == ill:
		entry.Info("a health check is well again")
	}
}

// settle works out anew what the results mean together.
func (m *Monitor) settle() {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := &state{ready: true}
	for _, w := range m.watches {
		verdict, err := w.result()
		if verdict == unknown && w.Effect != Changes {
			s.ready = false
			s.reasons = append(s.reasons, w.Name+" was not looked at yet")
		}
		if verdict == ill {
			s.add(w, err)
		}
	}
	m.state.Store(s)
}

func (s *state) add(w *watch, err error) {
	reason := w.Reason(err)
	if !slices.Contains(s.reasons, reason) {
		s.reasons = append(s.reasons, reason)
	}
	refused := &RefusedError{reason}
	switch w.Effect {
	case Readiness:
		s.ready = false
	case Service:
		s.ready, s.service = false, refused
	case Changes:
		s.changesSuspended = append(s.changesSuspended, w)
		if s.puts == nil {
			s.puts = refused
		}
		if s.deletes == nil && !errors.Is(err, storage.ErrNoSpace) {
			s.deletes = refused
		}
	}
}

// A Report is how a registry is.
type Report struct {
	Ready    bool     `json:"ready"`    // requests should be sent here
	Writable bool     `json:"writable"` // changes are taken
	Reasons  []string `json:"reasons"`  // why not, never nil
}

// Report tells how the registry is, from what was found last.
func (m *Monitor) Report() Report {
	s := m.state.Load()
	r := Report{Ready: s.ready, Writable: s.puts == nil && s.service == nil, Reasons: append([]string{}, s.reasons...)}
	if m.stopping.Load() {
		r.Ready, r.Reasons = false, append(r.Reasons, "the server is stopping")
	}
	return r
}

// Stopping has reports say from now on that the registry is not ready, since its server stops. Nothing is refused for it.
func (m *Monitor) Stopping() { m.stopping.Store(true) }

// MayServe returns a [*RefusedError] while all requests are to be refused.
func (m *Monitor) MayServe() error { return m.state.Load().service }

// patience is how long a change waits for a second look at what would have it refused.
const patience = time.Second

// MayChange returns a [*RefusedError] while changes are to be refused, or those that do not delete. Before that it looks again
// at what was found, so that the first change after something was mended is taken.
func (m *Monitor) MayChange(ctx context.Context, deletes bool) error {
	s := m.state.Load()
	if s.refusal(deletes) == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for _, w := range s.changesSuspended {
		w.look(ctx)
	}
	return m.state.Load().refusal(deletes)
}

func (s *state) refusal(deletes bool) error {
	if deletes {
		return s.deletes
	}
	return s.puts
}

// Suspect has the checks with an effect run soon, since something went wrong that they may explain.
func (m *Monitor) Suspect(e Effect) {
	for _, w := range m.watches {
		if w.Effect == e {
			w.poke()
		}
	}
}
