// Package throttle slows those who try to log in and fail.
package throttle

import (
	"net"
	"net/netip"
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
	maxPending   = 32   // attempts from one address at a time, and fewer the more there are of all
	maxPendings  = 1024 // attempts in all
)

// An Origin is where a login is tried from: a user's name and an address. Failures at one address are never held against
// the same user at another, so that nobody can lock a user out.
type Origin struct{ User, Address string }

// Peer returns the address of a connection's other end: of IPv6 the network of 64 bits, of which one host has all
// addresses.
func Peer(remote string) string {
	host, _, err := net.SplitHostPort(remote)
	if err != nil {
		return remote
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return host
	}
	if ip = ip.Unmap().WithZone(""); ip.Is4() {
		return ip.String()
	}
	network, err := ip.Prefix(64)
	if err != nil {
		return host
	}
	return network.String()
}

// A trial is what is known of an origin whose last attempt did not succeed.
type trial struct {
	attempts int
	last     time.Time
	next     time.Time // when the next attempt may be made
}

// A Throttle slows the attempts of an origin down, one after the other. Every attempt counts as failed until it
// succeeds, so that many at once gain nothing. It is safe for concurrent use.
type Throttle struct {
	mu      sync.Mutex
	trials  recent.Map[Origin, trial]
	pending map[string]int // attempts under way, by address
	total   int
}

// New returns a Throttle that nobody has tried.
func New() *Throttle {
	return &Throttle{trials: recent.Map[Origin, trial]{Bound: maxOrigins}, pending: make(map[string]int)}
}

// Begin returns how long an attempt must wait, or an *[auth.ThrottledError]. Without an error, Done must follow.
func (t *Throttle) Begin(o Origin, now time.Time) (time.Duration, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	mine := t.pending[o.Address]
	others := t.total - mine
	if t.total >= maxPendings || mine > 0 && mine >= maxPending*(maxPendings-others)/maxPendings {
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
	t.pending[o.Address]++
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

// Done tells how an attempt ended.
func (t *Throttle) Done(o Origin, succeeded bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if succeeded {
		t.trials.Remove(o)
	}
	if t.pending[o.Address]--; t.pending[o.Address] == 0 {
		delete(t.pending, o.Address)
	}
	t.total--
}
