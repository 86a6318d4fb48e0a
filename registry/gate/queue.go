package gate

import (
	"container/list"
	"context"
	"errors"
	"sync"
	"time"
)

// A queue lets a bounded number of requests run, and others wait for their turn, first come first served.
type queue struct {
	mu      sync.Mutex
	limits  Queue
	waiting list.List // of *waiter, the longest-waiting in front
	stats   ClassStats
}

// A waiter is a place in the queue.
type waiter struct {
	admitted chan struct{} // closed by whoever gives it a slot
	place    *list.Element // nil once it left the queue
	limit    time.Duration
}

var (
	errWaited = errors.New("waited too long")
	errGone   = errors.New("the client left")
)

// enter takes a slot, or else a place in the queue, or else neither.
func (q *queue) enter() (w *waiter, running bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.waiting.Len() == 0 && q.free() {
		q.run()
		return nil, true
	}
	if q.waiting.Len() >= q.limits.MaxInQueue {
		return nil, false
	}
	w = &waiter{admitted: make(chan struct{}), limit: q.limits.MaxWait}
	w.place = q.waiting.PushBack(w)
	q.stats.PeakQueued = max(q.stats.PeakQueued, q.waiting.Len())
	return w, false
}

func (q *queue) free() bool { return q.limits.MaxRunning == 0 || q.stats.Running < q.limits.MaxRunning }

func (q *queue) run() {
	q.stats.Running++
	q.stats.Admitted++
	q.stats.PeakRunning = max(q.stats.PeakRunning, q.stats.Running)
}

// leave gives a slot back, to whoever waited longest.
func (q *queue) leave() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.stats.Running--
	q.admit()
}

// admit gives the free slots to those who wait.
func (q *queue) admit() {
	for q.waiting.Len() > 0 && q.free() {
		w := q.waiting.Remove(q.waiting.Front()).(*waiter)
		w.place = nil
		q.run()
		close(w.admitted)
	}
}

func (q *queue) setLimits(l Queue) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.limits = l
	q.admit()
}

// lookAfter is how often it is looked whether a client that waits is still there.
const lookAfter = time.Second

// wait waits for a slot. An error, of ctx or errWaited, leaves the queue.
func (q *queue) wait(ctx context.Context, w *waiter, gone func() bool) error {
	var tooLong, look <-chan time.Time
	if w.limit > 0 {
		timer := time.NewTimer(w.limit)
		defer timer.Stop()
		tooLong = timer.C
	}
	if gone != nil {
		ticker := time.NewTicker(lookAfter)
		defer ticker.Stop()
		look = ticker.C
	}
	for {
		select {
		case <-w.admitted:
			return nil
		case <-ctx.Done():
			return q.abandon(w, ctx.Err())
		case <-tooLong:
			return q.abandon(w, errWaited)
		case <-look:
			if gone() {
				return q.abandon(w, errGone)
			}
		}
	}
}

// abandon leaves the queue. One who got a slot at the same moment keeps it after waiting too long, and otherwise gives it
// to the next.
func (q *queue) abandon(w *waiter, why error) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if w.place != nil {
		q.waiting.Remove(w.place)
		return why
	}
	if why == errWaited {
		return nil
	}
	q.stats.Running--
	q.admit()
	return why
}

func (q *queue) snapshot() ClassStats {
	q.mu.Lock()
	defer q.mu.Unlock()
	s := q.stats
	s.Queued, s.Limits = q.waiting.Len(), q.limits
	return s
}
