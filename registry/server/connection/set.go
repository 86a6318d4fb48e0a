package connection

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// A Set bounds how many connections are open. It is safe for concurrent use.
type Set struct {
	mu      sync.Mutex
	max     int // 0: any number
	open    map[*conn]struct{}
	changed chan struct{} // closed, and replaced, when a place may have become free
	waiting atomic.Int32  // connections that were accepted and have no place yet
}

// NewSet makes a bound of max connections; 0 is none.
func NewSet(max int) *Set {
	return &Set{max: max, open: make(map[*conn]struct{}), changed: make(chan struct{})}
}

// SetMax changes the bound. It closes no connection.
func (cs *Set) SetMax(max int) {
	cs.mu.Lock()
	cs.max = max
	cs.mu.Unlock()
	cs.change()
}

// Counts returns how many connections are open, how many of these are idle, and how many others wait for a place.
func (cs *Set) Counts() (open, idle, waiting int) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	for c := range cs.open {
		if c.idle.Load() != 0 {
			idle++
		}
	}
	return len(cs.open), idle, int(cs.waiting.Load())
}

// add gives c a place: a free one, or that of the connection which has been idle for longest, which is closed. Where there
// is neither, it waits for one, or until stop is closed.
func (cs *Set) add(c *conn, stop <-chan struct{}) error {
	cs.waiting.Add(1)
	defer cs.waiting.Add(-1)
	for {
		idlest, changed, ok := cs.tryAdd(c)
		switch {
		case ok:
			return nil
		case idlest != nil:
			_ = idlest.Close() // its client had nothing to ask
			continue
		}
		select {
		case <-changed:
		case <-stop:
			return net.ErrClosed
		}
	}
}

// tryAdd gives c a place if one is free. Otherwise it returns the connection to close, or what to wait for.
func (cs *Set) tryAdd(c *conn) (idlest *conn, changed <-chan struct{}, ok bool) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if cs.max == 0 || len(cs.open) < cs.max {
		cs.open[c] = struct{}{}
		return nil, nil, true
	}
	var since int64
	for other := range cs.open {
		if at := other.idle.Load(); at != 0 && (idlest == nil || at < since) {
			idlest, since = other, at
		}
	}
	return idlest, cs.changed, false
}

func (cs *Set) remove(c *conn) {
	cs.mu.Lock()
	delete(cs.open, c)
	cs.mu.Unlock()
	cs.change()
}

// change lets those who wait look again.
func (cs *Set) change() {
	if cs.waiting.Load() == 0 {
		return
	}
	cs.mu.Lock()
	defer cs.mu.Unlock()
	close(cs.changed)
	cs.changed = make(chan struct{})
}

// Track is for [http.Server.ConnState].
func (cs *Set) Track(nc net.Conn, state http.ConnState) {
	c, ok := under(nc)
	if !ok {
		return
	}
	now := time.Now().UnixNano()
	switch state {
	case http.StateNew, http.StateActive:
		c.idle.Store(0)
		c.awaiting.Store(now)
	case http.StateIdle:
		c.awaiting.Store(0)
		c.idle.Store(now)
		cs.change()
	default:
		c.idle.Store(0)
		c.awaiting.Store(0)
	}
}

// arrival is how long a connection may take to bring its first request once nothing new is accepted.
const arrival = time.Second

// Settle waits until each request that is on its way has reached a handler: net/http drops one that it has just read when it
// shuts down.
func (cs *Set) Settle(ctx context.Context) {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for cs.expects() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func (cs *Set) expects() bool {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	earliest := time.Now().Add(-arrival).UnixNano()
	for c := range cs.open {
		if since := c.awaiting.Load(); since > earliest {
			return true
		}
	}
	return false
}

// under returns the connection below TLS.
func under(nc net.Conn) (*conn, bool) {
	if encrypted, ok := nc.(*tls.Conn); ok {
		nc = encrypted.NetConn()
	}
	c, ok := nc.(*conn)
	return c, ok
}

// connKey is the key of the *conn in the contexts of requests.
type connKey struct{}

// InContext is for [http.Server.ConnContext].
func InContext(ctx context.Context, nc net.Conn) context.Context {
	if c, ok := under(nc); ok {
		return context.WithValue(ctx, connKey{}, c)
	}
	return ctx
}

// Arrived says that a request has reached its handler.
func Arrived(r *http.Request) {
	if c, ok := r.Context().Value(connKey{}).(*conn); ok {
		c.awaiting.Store(0)
	}
}
