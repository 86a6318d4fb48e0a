package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
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
	ahead := clockAhead(before, put, s.now())
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
		_, _, _ = r.StoreTime(ctx) // if the store does not tell, what was known stays
	}
	return r.skew.err()
}

type clockRecord struct{ nonce }

// ClockSkew returns an error while the clock of this process is so far from that of the store that nothing is written.
func (r *Registry) ClockSkew() error { return r.skew.err() }

// StoreTime asks the store for its time: by writing a record, or, where there is no room for one, without. ahead is how much that
// is ahead of the clock of r, at least, negative when it is behind. Times in whole seconds may be those of a store that knows no
// finer ones.
func (r *Registry) StoreTime(ctx context.Context) (at time.Time, ahead time.Duration, err error) {
	before := r.now()
	record := encodeRecord(&clockRecord{}, nil)
	info, err := r.store.Put(ctx, clockKey, bytes.NewReader(record), int64(len(record)), storage.Cond{})
	if c, ok := storage.As[storage.Clock](r.store); ok && errors.Is(err, storage.ErrNoSpace) {
		info.ModTime, err = c.Now()
	}
	if err != nil {
		return time.Time{}, 0, storeError("ask the store for its time", err)
	}
	r.skew.observe(before, info.ModTime)
	return info.ModTime, clockAhead(before, info.ModTime, r.now()), nil
}

func clockAhead(before, at, after time.Time) time.Duration {
	latest := at
	if at.Nanosecond() == 0 {
		latest = at.Add(time.Second)
	}
	switch {
	case latest.Before(before):
		return latest.Sub(before)
	case at.After(after):
		return at.Sub(after)
	}
	return 0
}
