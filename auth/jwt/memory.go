package jwt

import (
	"context"
	"net/http"
	"time"

	"berth/auth"
	"berth/auth/recent"
)

// Bounds of what is remembered.
const (
	rememberFor = time.Minute
	remembered  = 1024 // requests, in each of two generations
)

// A Memory holds the subjects of requests whose tokens were verified a short time ago, so that a token that comes again in
// the same header costs no signature check and no parsing. It is safe for concurrent use.
type Memory struct{ verified *recent.Credentials[verified] }

type verified struct {
	subject auth.Subject
	until   time.Time
	holds   func(context.Context) bool
}

// NewMemory returns an empty memory.
func NewMemory() *Memory { return &Memory{recent.NewCredentials[verified](remembered)} }

// Get returns the subject of a request that is remembered and still holds. Nothing of it is to be changed.
func (m *Memory) Get(r *http.Request, now time.Time) (auth.Subject, bool) {
	p, ok := m.verified.Prove(r)
	if !ok {
		return auth.Subject{}, false
	}
	v, ok := m.verified.Get(p)
	if !ok || !now.Before(v.until) || !v.holds(r.Context()) {
		return auth.Subject{}, false
	}
	return v.subject, true
}

// Put remembers the subject of a request with a verified token until it expires, for a minute at most, and for no longer
// than holds reports that the keys by which it was verified are still in force.
func (m *Memory) Put(r *http.Request, s auth.Subject, now, expires time.Time, holds func(context.Context) bool) {
	p, ok := m.verified.Prove(r)
	if !ok {
		return
	}
	until := now.Add(rememberFor)
	if expires.Before(until) {
		until = expires
	}
	m.verified.Put(p, verified{s, until, holds})
}
