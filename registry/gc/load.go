package gc

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// quantum is how long a collection works at a time while requests are served.
	quantum = 100 * time.Microsecond
	// resting is how many times as long as it worked it then rests.
	resting = 20
	// recent is how long after a request more are expected.
	recent = 100 * time.Millisecond
	// restEvery is after how many listed objects it is asked whether to rest.
	restEvery = 8
	// localWork is the most that is taken for work of this machine between two rests; more was waiting, as for a disk.
	localWork = 2 * time.Millisecond
	// remoteWork is what a call takes of this machine where the store is another, about.
	remoteWork = 300 * time.Microsecond
)

// A load is what is known of the requests that are served beside a collection.
type load struct {
	served func() uint64 // requests so far; nil: there are none
	local  bool          // what a call of the store takes is work of this machine
	began  time.Time
	due    atomic.Int64 // when it is next to be asked whether to rest, since it began
	busy   atomic.Bool  // requests were let in lately

	mu   sync.Mutex
	seen uint64        // requests that were let in
	at   time.Duration // when that number changed last, since it began; 0: never
	woke time.Duration // when the last rest ended
}

func newLoad(served func() uint64, local bool) *load {
	l := &load{served: served, local: local, began: time.Now()}
	if served != nil {
		l.seen = served()
	}
	return l
}

// rest makes a collection that worked for a while beside requests wait for much longer, all of its goroutines one after the
// other: the processors, and the memory of the kernel, are for the requests.
func (l *load) rest(ctx context.Context) error {
	if l.served == nil || int64(time.Since(l.began)) < l.due.Load() {
		return ctx.Err()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Since(l.began)
	if int64(now) < l.due.Load() { // another has rested meanwhile
		return ctx.Err()
	}
	if l.look(now); l.busy.Load() {
		worked := min(now-l.woke, localWork)
		if !l.local {
			worked = min(worked, remoteWork)
		}
		if err := sleep(ctx, resting*worked); err != nil {
			return err
		}
		now = time.Since(l.began)
	}
	l.woke = now
	l.due.Store(int64(now + quantum))
	return ctx.Err()
}

// look sees whether requests were let in lately; mu is held.
func (l *load) look(now time.Duration) {
	if n := l.served(); n != l.seen {
		l.seen, l.at = n, now
	}
	l.busy.Store(l.at != 0 && now-l.at < recent)
}

// alone reports whether to work in one goroutine: another would take a processor from requests.
func (l *load) alone() bool { return l.local && l.busy.Load() }

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
