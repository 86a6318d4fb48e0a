package registry

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"berth/storage"
)

// A skew knows how far the clock of this process is from that of the store, from the times that the store gives to what is
// put. What was touched is judged by both clocks, so a process whose clock is further off than an eighth of the grace
// must not write: it may rely on what another one collects.
type skew struct {
	limit time.Duration
	now   func() time.Time
	ahead atomic.Int64 // by how much the store is ahead, in nanoseconds; 0 while that is within the limit
	again atomic.Int64 // when to look again, in nanoseconds since 1970
}

const (
	// leastSkew is the least limit: stores tell their time in seconds, and files theirs by a coarse clock.
	leastSkew = 5 * time.Second
	// skewAgain is how often a clock that is off is looked at again.
	skewAgain = 5 * time.Second
)

func newSkew(grace time.Duration, now func() time.Time) *skew {
	return &skew{limit: max(grace/8, leastSkew), now: now}
}

// observe compares the time of a put that began at before, and has ended.
func (s *skew) observe(before, put time.Time) {
	if put.IsZero() {
		return
	}
	ahead := max(0, put.Sub(s.now())) - max(0, before.Sub(put))
	if ahead.Abs() <= s.limit {
		ahead = 0
	}
	if int64(ahead) != s.ahead.Load() {
		s.ahead.Store(int64(ahead))
	}
}

// err says by how much the clocks differ, if that is too much; it matches [storage.ErrUnavailable].
func (s *skew) err() error {
	ahead := time.Duration(s.ahead.Load())
	switch {
	case ahead > 0:
		return fmt.Errorf("%w: the clock of this machine is %s behind that of the storage", storage.ErrUnavailable, ahead.Round(time.Second))
	case ahead < 0:
		return fmt.Errorf("%w: the clock of this machine is %s ahead of that of the storage", storage.ErrUnavailable, -ahead.Round(time.Second))
	}
	return nil
}

// checkClock returns an error while the clock of this process is too far from the store's to write anything.
func (r *Registry) checkClock(ctx context.Context) error {
	if r.skew.ahead.Load() == 0 {
		return nil
	}
	now, again := r.now().UnixNano(), r.skew.again.Load()
	if (now >= again || again-now > int64(skewAgain)) && r.skew.again.CompareAndSwap(again, now+int64(skewAgain)) {
		r.compareClocks(ctx)
	}
	return r.skew.err()
}

// compareClocks asks the store for its time. When it does not tell, what was known stays.
func (r *Registry) compareClocks(ctx context.Context) {
	before := r.now()
	content := randomHex(8)
	info, err := r.store.Put(ctx, clockKey, strings.NewReader(content), int64(len(content)), storage.Cond{})
	if err == nil && info.ModTime.IsZero() {
		info, err = r.store.Stat(ctx, clockKey)
	}
	if err == nil {
		r.skew.observe(before, info.ModTime)
	}
}

// ClockSkew returns an error while the clock of this process is so far from that of the store that nothing is written.
func (r *Registry) ClockSkew() error { return r.skew.err() }
