package jwt

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"hash"
	"sync"
	"time"

	"berth/auth"
)

// Bounds of what is remembered.
const (
	rememberFor = time.Minute
	remembered  = 1024 // tokens, in each of two generations
)

// A Memory holds the subjects of tokens that were verified a short time ago, so that a token that comes again costs no
// signature check. It has no tokens but MACs of them, under a key that is of this process alone. It is safe for concurrent
// use.
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
	token []byte
	sum   []byte
}

// NewMemory returns an empty memory.
func NewMemory() *Memory {
	key := make([]byte, 32)
	_, _ = rand.Read(key) // it never fails
	return &Memory{macs: sync.Pool{New: func() any { return &mac{Hash: hmac.New(sha256.New, key)} }}}
}

func (m *Memory) prove(token string) (p proof) {
	h, _ := m.macs.Get().(*mac)
	defer m.macs.Put(h)
	h.token = append(h.token[:0], token...)
	h.Reset()
	h.Write(h.token)
	clear(h.token)
	h.sum = h.Sum(h.sum[:0])
	copy(p[:], h.sum)
	return p
}

// Get returns the subject of a token that is remembered and still holds.
func (m *Memory) Get(ctx context.Context, token string, now time.Time) (auth.Subject, bool) {
	if len(token) > maxSize {
		return auth.Subject{}, false
	}
	p := m.prove(token)
	m.mu.RLock()
	e, ok := m.new[p]
	if !ok {
		e, ok = m.old[p]
	}
	m.mu.RUnlock()
	if !ok || !now.Before(e.until) || !e.holds(ctx) {
		return auth.Subject{}, false
	}
	return e.subject, true
}

// Put remembers the subject of a verified token until it expires, for a minute at most, and for no longer than holds
// reports that the keys by which it was verified are still in force.
func (m *Memory) Put(token string, s auth.Subject, now, expires time.Time, holds func(context.Context) bool) {
	until := now.Add(rememberFor)
	if expires.Before(until) {
		until = expires
	}
	p := m.prove(token)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.new == nil || len(m.new) >= remembered {
		m.old, m.new = m.new, make(map[proof]entry)
	}
	m.new[p] = entry{s, until, holds}
}
