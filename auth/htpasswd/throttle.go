package htpasswd

import (
	"sync"
	"time"

	"berth/auth"
	"berth/auth/recent"
)

// How failed logins are slowed.
const (
	freeAttempts = 3                      // by one user from one address, before any delay
	firstDelay   = 250 * time.Millisecond // it doubles with each attempt
	maxDelay     = 5 * time.Second
	maxWait      = 2 * maxDelay // an attempt that would have to wait longer is turned away
	forgetAfter  = 10 * time.Minute
	maxOrigins   = 4096 // in each of two generations
	maxPending   = 32   // attempts from one address at a time: no address fills the queue of all
	maxPendings  = 1024 // attempts in all
)

// An origin is where a login is tried from: a user's name and an address. Failures at one address are never held against
// the same user at another, so that nobody can lock a user out.
type origin struct{ user, address string }

// A trial is what is known of an origin whose last attempt did not succeed.
type trial struct {
	attempts int
	last     time.Time
	next     time.Time // when the next attempt may be made
}

// A throttle slows the attempts of an origin down, one after the other. Every attempt counts as failed until it
// succeeds, so that many at once gain nothing.
type throttle struct {
	mu      sync.Mutex
	trials  recent.Map[origin, trial]
	pending map[string]int // attempts under way, by address
	total   int
}

// begin returns how long an attempt must wait, or an [auth.ThrottledError]. Without an error, done must follow.
func (t *throttle) begin(o origin, now time.Time) (time.Duration, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.pending[o.address] >= maxPending || t.total >= maxPendings {
		return 0, &auth.ThrottledError{RetryAfter: time.Second}
	}
	tr, _ := t.trials.Get(o)
	if now.Sub(tr.last) > forgetAfter {
		tr = trial{}
	}
	at := now
	if tr.next.After(now) {
		at = tr.next
	}
	if wait := at.Sub(now); wait > maxWait {
		return 0, &auth.ThrottledError{RetryAfter: wait}
	}
	tr.attempts++
	tr.last, tr.next = now, at.Add(delayAfter(tr.attempts))
	t.trials.Put(o, tr)
	if t.pending == nil {
		t.pending = make(map[string]int)
	}
	t.pending[o.address]++
	t.total++
	return at.Sub(now), nil
}

// delayAfter returns how long after an attempt the next one may follow.
func delayAfter(attempts int) time.Duration {
	if attempts < freeAttempts {
		return 0
	}
	return min(maxDelay, firstDelay<<min(attempts-freeAttempts, 10))
}

func (t *throttle) done(o origin, succeeded bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if succeeded {
		t.trials.Remove(o)
	}
	if t.pending[o.address]--; t.pending[o.address] == 0 {
		delete(t.pending, o.address)
	}
	t.total--
}
