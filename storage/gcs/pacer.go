package gcs

import (
	"context"
	"fmt"
	"sync"
	"time"

	"berth/storage"
	"berth/storage/remote"
)

const (
	// pause is what lies between two writes to one object: Google says once a second, and 429 or 503 above that.
	pause = time.Second
	// restless is how long writes to an object stay spaced after the last one.
	restless = 10 * time.Second
	// patience is how long a write waits for its turn, with all of its attempts.
	patience = remote.RetryBudget
)

// A pacer spaces the writes of this process to objects that the service finds written too often, so that the service refuses few of
// them. Writes to all other objects are not delayed: short bursts are taken mostly. The zero one is ready.
type pacer struct {
	mu   sync.Mutex
	busy map[string]*queue
}

// A queue lets one write at a time go to an object.
type queue struct {
	turn    chan struct{}
	waiting int         // and writing; guarded by pacer.mu
	until   time.Time   // when it is forgotten, if nobody waits; guarded by pacer.mu
	next    time.Time   // when the next write may begin; belongs to whose turn it is
	dead    storage.Rev // was replaced by the last write; belongs to whose turn it is
}

// enter waits for the turn of a write to an object. What it returns is handed to leave; it is nil for most objects.
func (p *pacer) enter(ctx context.Context, name string) (*queue, error) {
	q := p.queue(name)
	if q == nil {
		return nil, nil
	}
	select {
	case q.turn <- struct{}{}:
		return q, nil
	case <-ctx.Done():
		p.release(q)
		return nil, ctx.Err()
	}
}

// queue returns the queue of an object, which then waits for one more, and nil if there is none, or none any more.
func (p *pacer) queue(name string) *queue {
	p.mu.Lock()
	defer p.mu.Unlock()
	q := p.busy[name]
	switch {
	case q == nil:
		return nil
	case q.isOver(time.Now()):
		delete(p.busy, name)
		return nil
	}
	q.waiting++
	return q
}

// isOver reports whether an object was left in peace for long enough. The caller holds pacer.mu.
func (q *queue) isOver(now time.Time) bool { return q.waiting == 0 && now.After(q.until) }

// leave ends the turn of a write.
func (p *pacer) leave(q *queue) {
	if q == nil {
		return
	}
	<-q.turn
	p.release(q)
}

func (p *pacer) release(q *queue) {
	p.mu.Lock()
	defer p.mu.Unlock()
	q.waiting--
	q.until = time.Now().Add(restless)
}

// slow has the writes to an object wait for each other from now on.
func (p *pacer) slow(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.busy[name] != nil {
		return
	}
	now := time.Now()
	for other, q := range p.busy {
		if q.isOver(now) {
			delete(p.busy, other)
		}
	}
	if p.busy == nil {
		p.busy = map[string]*queue{}
	}
	p.busy[name] = &queue{turn: make(chan struct{}, 1), next: now.Add(pause), until: now.Add(restless)}
}

// A write is a change of one object.
type write struct {
	remote.Call
	cond storage.Cond
}

// write runs f, which changes an object, as often and as late as it takes. An ErrConflict says that no attempt took effect.
func (d *Driver) write(ctx context.Context, w write, f func(ctx context.Context) error) error {
	ctx, uncertain := withDoubt(ctx)
	w.Conditional = !w.cond.IsAlways()
	for start := time.Now(); ; {
		throttled, err := d.inTurn(ctx, w, f)
		switch {
		case throttled && time.Since(start) < patience && ctx.Err() == nil:
			d.pace.slow(d.name(w.Key))
			continue
		case w.Conditional && uncertain.Load() && refusal(err):
			return fmt.Errorf("%s %s: %w: a reply was lost and it is not known whose change was made", w.Operation, w.Key, storage.ErrUnavailable)
		}
		return err
	}
}

// inTurn runs f when it may write, and reports whether the service found that too early.
func (d *Driver) inTurn(ctx context.Context, w write, f func(ctx context.Context) error) (throttled bool, err error) {
	q, err := d.pace.enter(ctx, d.name(w.Key))
	if err != nil {
		return false, fmt.Errorf("%s %s: %w", w.Operation, w.Key, err)
	}
	defer d.pace.leave(q)
	expected, matches := w.cond.Rev()
	if q != nil {
		if matches && q.dead == expected {
			return false, conflict(w.Operation, w.Key)
		}
		if err := remote.Sleep(ctx, time.Until(q.next)); err != nil {
			return false, fmt.Errorf("%s %s: %w", w.Operation, w.Key, err)
		}
	}
	err = d.service.Do(ctx, w.Call, func(ctx context.Context) error {
		err := f(ctx)
		if throttled = isThrottled(err); throttled {
			return once{err}
		}
		return err
	})
	if q != nil && (err == nil || throttled) {
		q.next = time.Now().Add(pause)
	}
	if q != nil && err == nil {
		q.dead = expected
	}
	return throttled, err
}
