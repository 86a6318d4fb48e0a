package health

import (
	"context"
	"sync"
	"time"
)

// A verdict is what the results of a check so far amount to.
type verdict uint8

const (
	unknown verdict = iota
	well
	ill
)

// A watch is a check and what it found.
type watch struct {
	Check
	wake chan struct{} // holds one: run now

	mu       sync.Mutex
	verdict  verdict
	err      error         // of the last run
	failures int           // in a row
	finished chan struct{} // closed, and replaced, after each run
}

func newWatch(c Check) *watch {
	return &watch{Check: c, wake: make(chan struct{}, 1), finished: make(chan struct{})}
}

// gap is the least time between two runs, whoever asks for one.
const gap = 50 * time.Millisecond

// run runs the check over and over until ctx ends.
func (w *watch) run(ctx context.Context, report func(w *watch, was, is verdict, err error)) {
	note := func(err error) {
		if ctx.Err() != nil {
			return // it may have failed for that
		}
		was, is := w.note(err)
		report(w, was, is, err)
		w.release()
	}
	for {
		w.once(ctx, note)
		timer := time.NewTimer(gap)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		timer.Reset(max(w.pause()-gap, 0))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		case <-w.wake:
			timer.Stop()
		}
	}
}

// once runs the check and notes its result: first that there is none, when it takes too long.
func (w *watch) once(ctx context.Context, note func(error)) {
	bounded, cancel := context.WithTimeout(ctx, w.Timeout)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- w.Run(bounded) }()
	select {
	case err := <-done:
		note(err)
		return
	case <-bounded.Done():
		note(ErrTimeout)
	}
	select { // what came too late is no result; the next run tells
	case <-done:
	case <-ctx.Done():
	}
}

// pause is how long to wait before the next run.
func (w *watch) pause() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.failures > 0 {
		return min(w.Retry, w.Interval)
	}
	return w.Interval
}

func (w *watch) note(err error) (was, is verdict) {
	w.mu.Lock()
	defer w.mu.Unlock()
	was = w.verdict
	w.err = err
	switch {
	case err == nil:
		w.failures, w.verdict = 0, well
	default:
		w.failures++
		if w.failures >= w.Threshold {
			w.verdict = ill
		}
	}
	return was, w.verdict
}

// release lets those go who wait for a run.
func (w *watch) release() {
	w.mu.Lock()
	defer w.mu.Unlock()
	close(w.finished)
	w.finished = make(chan struct{})
}

func (w *watch) result() (verdict, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.verdict, w.err
}

// poke has the check run soon.
func (w *watch) poke() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// look waits for a run that ends from now on, or until ctx ends.
func (w *watch) look(ctx context.Context) {
	w.mu.Lock()
	finished := w.finished
	w.mu.Unlock()
	w.poke()
	select {
	case <-finished:
	case <-ctx.Done():
	}
}
