package gc

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"
)

// A ClockError says that the clocks cannot be trusted with deciding what is old.
type ClockError struct{ Reason, Remedy string }

func (e *ClockError) Error() string { return e.Reason + "; " + e.Remedy }

// A clock watches the clock of this process for jumps, by one that does not jump.
type clock struct {
	now     func() time.Time
	elapsed func() time.Duration
	grace   time.Duration

	mu     sync.Mutex
	at     time.Time     // of the last look, the first when the process began
	since  time.Duration // by elapsed, at the last look
	jumped time.Duration // by elapsed, when it last jumped
	by     time.Duration // how far; 0: it did not
}

// look notes a jump, and returns an error until the grace has passed since: what was pushed before a jump may look older
// than it is.
func (k *clock) look() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	now, elapsed := k.now().Round(0), k.elapsed() // Round(0): the wall clock
	if by := now.Sub(k.at) - (elapsed - k.since); by.Abs() > k.grace/8 {
		k.jumped, k.by = elapsed, by
	}
	k.at, k.since = now, elapsed
	if left := k.jumped + k.grace - elapsed; k.by != 0 && left > 0 {
		return &ClockError{
			Reason: fmt.Sprintf("the clock of this machine jumped by %v", k.by.Round(time.Millisecond)),
			Remedy: fmt.Sprintf("collection goes on by itself in %v; see that time is synchronised without jumps", left.Round(time.Second)),
		}
	}
	k.by = 0
	return nil
}

// time returns the time of the store, after a look at all clocks.
func (r *run) time(ctx context.Context) (time.Time, error) {
	if err := r.c.clock.look(); err != nil && !r.alone {
		return time.Time{}, err
	}
	at, ahead, err := r.registry.StoreTime(ctx)
	if err != nil {
		return time.Time{}, err
	}
	if !r.alone && ahead.Abs() > r.registry.Grace()/8 {
		return time.Time{}, &ClockError{
			Reason: fmt.Sprintf("the clock of the storage is %v %s the clock of this machine, more than an eighth of gc.grace", ahead.Abs(), direction(ahead)),
			Remedy: "set the clocks right, or make gc.grace longer",
		}
	}
	return at, nil
}

func direction(ahead time.Duration) string {
	if ahead < 0 {
		return "behind"
	}
	return "ahead of"
}

// checkHistory compares the time of the store with that of the last run, which the key of its report tells: a report that is
// damaged keeps no other run from beginning.
func (c *Collector) checkHistory(ctx context.Context, now time.Time) error {
	keys, err := c.reportKeys(ctx)
	if err != nil || len(keys) == 0 {
		return err
	}
	id := strings.TrimPrefix(keys[len(keys)-1], reportPrefix)
	at, _, _ := strings.Cut(id, "-")
	last, err := time.Parse(reportTime, at)
	if err != nil {
		return fmt.Errorf("the key %s is not one of a report: %w", reportKey(id), err)
	}
	if back := last.Sub(now); back > c.registry.Grace()/8 {
		return &ClockError{
			Reason: fmt.Sprintf("the clock of the storage is %v behind the last run, %s", back, id),
			Remedy: "set it right; if it is right now, remove that run from the history, at " + reportKey(id),
		}
	}
	return nil
}
