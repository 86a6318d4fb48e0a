package gc_test

import (
	"context"
	"errors"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sirupsen/logrus"

	"berth/registry"
	"berth/registry/gc"
	"berth/storage/memory"
)

// follow lets collectors follow a plan for a while, and returns when runs began.
func follow(t *testing.T, o gc.Options, plan gc.Plan, collectors int, span time.Duration) (began []time.Time) {
	var mu sync.Mutex
	synctest.Test(t, func(t *testing.T) {
		store := memory.New()
		log := logrus.New()
		log.SetOutput(io.Discard)
		plan.Log = log
		ctx, cancel := context.WithCancel(t.Context())
		var group sync.WaitGroup
		for range collectors {
			reg, err := registry.Open(ctx, store, nil)
			if err != nil {
				t.Fatal(err)
			}
			o.Ended = func(r *gc.Report, err error) {
				mu.Lock()
				defer mu.Unlock()
				if _, clock := errors.AsType[*gc.ClockError](err); clock {
					return
				}
				if err != nil {
					t.Error(err)
				}
				began = append(began, r.Started)
			}
			c := gc.New(store, reg, o)
			group.Go(func() { c.Follow(ctx, plan) })
		}
		time.Sleep(span)
		cancel()
		group.Wait()
	})
	return began
}

// TestInterval wants a run in each interval, the first soon.
func TestInterval(t *testing.T) {
	began := follow(t, gc.Options{}, gc.Plan{Interval: 6 * time.Hour}, 1, 48*time.Hour)
	if len(began) < 7 || len(began) > 9 {
		t.Fatalf("in two days runs began at %v", began)
	}
	for i := range began[1:] {
		if gap := began[i+1].Sub(began[i]); gap < 6*time.Hour || gap > 7*time.Hour {
			t.Errorf("%v between two runs", gap)
		}
	}
}

// TestSchedule wants a run at each time of a schedule, by whatever replica.
func TestSchedule(t *testing.T) {
	daily := func(after time.Time) time.Time { return after.Truncate(24 * time.Hour).Add(27 * time.Hour) }
	began := follow(t, gc.Options{}, gc.Plan{Next: daily}, 1, 5*24*time.Hour)
	if len(began) != 5 && len(began) != 4 {
		t.Fatalf("in five days runs began at %v", began)
	}
	for _, at := range began {
		if at.UTC().Hour() != 3 || at.Minute() != 0 {
			t.Errorf("a run began at %v", at)
		}
	}
}

// TestClockSetRight wants a machine that began with its clock a month ahead to collect as planned, once that was set right and the
// grace is over.
func TestClockSetRight(t *testing.T) {
	daily := func(after time.Time) time.Time { return after.Truncate(24 * time.Hour).Add(27 * time.Hour) }
	for name, plan := range map[string]gc.Plan{"schedule": {Next: daily}, "interval": {Interval: 12 * time.Hour}} {
		began := follow(t, gc.Options{Now: func() time.Time {
			now := time.Now()
			if now.Before(time.Date(2000, 1, 1, 1, 30, 0, 0, time.UTC)) { // the first hours of a bubble
				return now.Add(30 * 24 * time.Hour).Round(0)
			}
			return now.Round(0)
		}}, plan, 1, 6*24*time.Hour)
		if len(began) < 4 || began[len(began)-1].Sub(began[0]) < 2*24*time.Hour {
			t.Errorf("by a plan of one %s runs began at %v", name, began)
		}
	}
}

// TestReadOnlyPlan wants no run in read-only mode.
func TestReadOnlyPlan(t *testing.T) {
	began := follow(t, gc.Options{Paused: func() bool { return true }}, gc.Plan{Interval: time.Hour}, 2, 24*time.Hour)
	if len(began) > 0 {
		t.Errorf("runs began at %v", began)
	}
}
