package jwt

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"hash"
	"net/http"
	"sync"
	"time"

	"berth/auth"
)

// Bounds of what is remembered.
const (
	rememberFor = time.Minute
	remembered  = 1024     // requests, in each of two generations
	maxHeader   = 32 << 10 // bytes of the Authorization header
)

// A Memory holds the subjects of requests whose tokens were verified a short time ago, so that a token that comes again in
// the same header costs no signature check and no parsing. It has no tokens but MACs of headers, under a key that is of
// this process alone. It is safe for concurrent use.
type Memory struct {
	macs     sync.Pool
	mu       sync.RWMutex
	old, new map[proof]entry
}

type proof [sha256.Size]byte

type entry struct {
	subject auth.Subject
	until   time.Time
	holds   func(context.Context) bool
}

type mac struct {
	hash.Hash
	header, sum []byte
}

// NewMemory returns an empty memory.
func NewMemory() *Memory {
	key := make([]byte, 32)
	_, _ = rand.Read(key) // it never fails
	return &Memory{macs: sync.Pool{New: func() any { return &mac{Hash: hmac.New(sha256.New, key)} }}}
}

// prove returns false for a request whose header cannot be right, or would take long.
func (m *Memory) prove(r *http.Request) (p proof, ok bool) {
	header := r.Header["Authorization"]
	if len(header) != 1 || len(header[0]) > maxHeader {
		return proof{}, false
	}
	h, _ := m.macs.Get().(*mac)
	defer m.macs.Put(h)
	h.header = append(h.header[:0], header[0]...)
	h.Reset()
	h.Write(h.header)
	clear(h.header)
	h.sum = h.Sum(h.sum[:0])
	copy(p[:], h.sum)
	return p, true
}

// Get returns the subject of a request that is remembered and still holds. Nothing of it is to be changed.
func (m *Memory) Get(r *http.Request, now time.Time) (auth.Subject, bool) {
	p, ok := m.prove(r)
	if !ok {
		return auth.Subject{}, false
	}
	m.mu.RLock()
	e, ok := m.new[p]
	if !ok {
		e, ok = m.old[p]
	}
	m.mu.RUnlock()
	if !ok || !now.Before(e.until) || !e.holds(r.Context()) {
		return auth.Subject{}, false
	}
	return e.subject, true
}

// Put remembers the subject of a request with a verified token until it expires, for a minute at most, and for no longer
// than holds reports that the keys by which it was verified are still in force.
func (m *Memory) Put(r *http.Request, s auth.Subject, now, expires time.Time, holds func(context.Context) bool) {
	p, ok := m.prove(r)
	if !ok {
		return
	}
	until := now.Add(rememberFor)
	if expires.Before(until) {
		until = expires
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.new == nil || len(m.new) >= remembered {
		m.old, m.new = m.new, make(map[proof]entry)
	}
	m.new[p] = entry{s, until, holds}
}
