package gc

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"time"

	"github.com/sirupsen/logrus"
)

// A Plan says when collections are to run.
type Plan struct {
	// Next returns the time after another at which one is to begin. Nil: one begins about Interval after the one before.
	Next     func(after time.Time) time.Time
	Interval time.Duration
	Log      logrus.FieldLogger
}

// longestSleep bounds how long a change of the wall clock goes unnoticed.
const longestSleep = time.Minute

// Follow collects as planned, until ctx ends. It can be given to several replicas: one of them works.
func (c *Collector) Follow(ctx context.Context, plan Plan) {
	for {
		at, seen := c.begins(ctx, plan), c.o.Now().Round(0)
		for left := at.Sub(c.o.Now()); left > 0; left = at.Sub(c.o.Now()) {
			timer := time.NewTimer(min(left, longestSleep))
			select {
			case <-ctx.Done():
				timer.Stop()
				return
			case <-timer.C:
			}
			_ = c.clock.look() // a jump there and back is none at the next run, which learns of it here
			now := c.o.Now().Round(0)
			if now.Before(seen) { // what was planned by a clock that was ahead would come late by as much
				at = c.begins(ctx, plan)
			}
			seen = now
		}
		if ctx.Err() != nil {
			return
		}
		report, err := c.Run(ctx, RunOptions{})
		if ctx.Err() == nil {
			Log(plan.Log, report, err)
		}
		c.attempted(c.o.Now())
	}
}

// begins returns when the next run is due. After a restart an interval goes on that began before; replicas that begin
// together are spread.
func (c *Collector) begins(ctx context.Context, plan Plan) time.Time {
	now := c.o.Now()
	if plan.Next != nil {
		return plan.Next(now)
	}
	c.mu.Lock()
	last := c.last
	c.mu.Unlock()
	if last.IsZero() {
		if reports, err := c.History(ctx, 1); err == nil && len(reports) > 0 { // without a history it is the first run
			last = reports[0].Started
		}
	}
	spread := rand.N(max(plan.Interval/20, 1))
	if due := last.Add(plan.Interval); due.After(now) && !last.After(now) {
		return due.Add(spread)
	}
	return now.Add(spread)
}

func (c *Collector) attempted(at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last = at
}

// Log writes one line about a run, with what went, its bytes, and what each layer that took part had and took; see
// [Collector.Run].
func Log(log logrus.FieldLogger, r *Report, err error) {
	if errors.Is(err, ErrBusy) || errors.Is(err, ErrPaused) {
		log.WithError(err).Debug("no collection")
		return
	}
	if r == nil || r.ID == "" {
		log.WithError(err).Error("the collection did not begin")
		return
	}
	removed, size := r.Removed()
	fields := logrus.Fields{"run": r.ID, "removed": removed, "bytes": size, "seconds": r.Seconds, "calls": r.Calls}
	for _, l := range r.Layers {
		if l.Removed > 0 {
			fields[l.Name], fields[l.Name+".bytes"] = l.Removed, l.Bytes
		}
		if l.Seconds >= 0.01 {
			fields[l.Name+".seconds"] = math.Round(l.Seconds*1000) / 1000
		}
		if l.Failed > 0 {
			fields[l.Name+".problem"] = l.Problems[0]
		}
	}
	entry := log.WithFields(fields)
	switch {
	case err != nil:
		entry.WithError(err).Error("the collection was stopped")
	case r.Failed() > 0:
		entry.Warn("collected what could be read")
	default:
		entry.Info("collected")
	}
}
