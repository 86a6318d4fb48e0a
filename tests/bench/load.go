package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"berth/tests/bench/wire"
)

// An operation is a row of the table: requests that several clients make over and over.
type operation struct {
	name    string
	clients int
	bar     float64 // the least rate, in units of that of the target against
	against string
	memory  float64  // what its memory must be less than, in units of that of the same target; 0 means any
	section string   // the table that it is in, "" for the first
	place   place    // how the targets are set up for it; nil: as they come
	except  []string // targets that cannot do it
	fresh   bool     // each round has a server of its own, with an empty store
	filled  bool     // it takes long to fill the store for it
	long    int      // how many times as long it is measured as others; 0 means 1
	prepare func(*server) (*load, error)
}

// A place sets a target up for an operation: otherwise than it comes, in several ways, or not at all.
type place func(context.Context, *bench, target) ([]target, error)

// A load is an operation prepared for one server.
type load struct {
	worker func(n int) (step, error) // what the n-th client repeats
	verify func() error              // looks, afterwards, at what the server has made of it; may be nil
}

// A step is one operation. It fails unless the answer is right.
type step func(c *wire.Client) error

// A result is what one run has measured.
type result struct {
	rate     float64       // operations per second
	p50, p99 time.Duration // from the first byte sent to the last one received
	cpu      time.Duration // of the server, per operation
	rss      int64         // the peak of the server in the run, in bytes
}

// warmUp is the part of a run that is not measured, in which each client makes one operation at least.
const warmUp = 200 * time.Millisecond

// grace bounds how long an operation may take, in addition to the time measured.
const grace = time.Minute

// load measures an operation on a server for a while.
func (b *bench) load(ctx context.Context, op operation, s *server, l *load) (result, error) {
	length := b.length * time.Duration(max(1, op.long))
	workers := make([]*worker, op.clients)
	for n := range workers {
		c, err := s.dial(time.Now().Add(warmUp + length + grace))
		if err != nil {
			return result{}, err
		}
		defer c.Close()
		step, err := l.worker(n)
		if err != nil {
			return result{}, err
		}
		workers[n] = &worker{client: c, step: step}
	}
	if err := together(workers, func(w *worker) error { return w.repeat(ctx, warmUp) }); err != nil {
		return result{}, fmt.Errorf("warm-up: %w", err)
	}
	if err := s.forgetPeak(); err != nil {
		return result{}, err
	}
	before, err := s.cpu()
	if err != nil {
		return result{}, err
	}
	if err := together(workers, func(w *worker) error { return w.repeat(ctx, length) }); err != nil {
		return result{}, err
	}
	after, err := s.cpu()
	if err != nil {
		return result{}, err
	}
	res := summarize(workers, after-before)
	if _, res.rss, err = s.memory(); err != nil || l.verify == nil {
		return res, err
	}
	return res, l.verify()
}

// forgetPeak makes the peak of the resident memory start anew: proc_pid_clear_refs(5).
func (s *server) forgetPeak() error {
	return os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", s.process.Pid), []byte("5"), 0)
}

type worker struct {
	client *wire.Client
	step   step
	took   []time.Duration // by each operation of the last repeat
	total  time.Duration   // of the last repeat
}

// repeat makes operations, one at least, until a length of time is over.
func (w *worker) repeat(ctx context.Context, length time.Duration) error {
	w.took = w.took[:0]
	began := time.Now()
	for last := time.Duration(0); last < length && ctx.Err() == nil; {
		if err := w.step(w.client); err != nil {
			return err
		}
		now := time.Since(began)
		w.took = append(w.took, now-last)
		last, w.total = now, now
	}
	return ctx.Err()
}

// together runs f for all workers at once and returns their first error.
func together[T any](workers []T, f func(T) error) error {
	errs := make([]error, len(workers))
	var all sync.WaitGroup
	for n, w := range workers {
		all.Go(func() { errs[n] = f(w) })
	}
	all.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// summarize adds up the rates of the workers, each over the time that its own operations took, so that none is counted
// in part.
func summarize(workers []*worker, cpu time.Duration) result {
	var res result
	var took []time.Duration
	for _, w := range workers {
		res.rate += float64(len(w.took)) / w.total.Seconds()
		took = append(took, w.took...)
	}
	slices.Sort(took)
	res.p50, res.p99 = quantile(took, 0.5), quantile(took, 0.99)
	res.cpu = cpu / time.Duration(len(took))
	return res
}

// quantile returns the q-th quantile of a sorted list that is not empty.
func quantile[T any](sorted []T, q float64) T {
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}

func median[T cmp.Ordered](list []T) T {
	return quantile(slices.Sorted(slices.Values(list)), 0.5)
}

// each runs f for 0 … n-1 on several connections at once.
func each(s *server, clients, n int, f func(c *wire.Client, i int) error) error {
	numbers := make([]int, clients)
	for k := range numbers {
		numbers[k] = k
	}
	return together(numbers, func(k int) error {
		c, err := s.dial(time.Now().Add(5 * time.Minute))
		if err != nil {
			return err
		}
		defer c.Close()
		for i := k; i < n; i += clients {
			if err := f(c, i); err != nil {
				return err
			}
		}
		return nil
	})
}

// alone runs f on a connection.
func alone(s *server, f func(c *wire.Client) error) error {
	return each(s, 1, 1, func(c *wire.Client, _ int) error { return f(c) })
}
