// Package recent keeps what was lately found out, in bounded memory.
package recent

import (
	"crypto/rand"
	"crypto/sha256"
	"net/http"
	"sync"
)

// A Map forgets: it holds between one and two times its bound of the entries put last. It is not safe for concurrent use.
type Map[K comparable, V any] struct {
	Bound    int
	old, new map[K]V
}

// Get returns the value of k, unless it was forgotten.
func (m *Map[K, V]) Get(k K) (V, bool) {
	if v, ok := m.new[k]; ok {
		return v, true
	}
	v, ok := m.old[k]
	return v, ok
}

// Put sets the value of k.
func (m *Map[K, V]) Put(k K, v V) {
	if m.new == nil || len(m.new) >= m.Bound {
		m.old, m.new = m.new, make(map[K]V)
	}
	m.new[k] = v
}

// Remove forgets k.
func (m *Map[K, V]) Remove(k K) {
	delete(m.old, k)
	delete(m.new, k)
}

// Len returns how many entries there are, at most.
func (m *Map[K, V]) Len() int { return len(m.old) + len(m.new) }

// maxHeader bounds the headers that are remembered, in bytes.
const maxHeader = 32 << 10

// A Proof stands for the Authorization header of a request, in one memory of one process.
type Proof [sha256.Size]byte

// Credentials are what was found out about the Authorization headers of requests. It has no headers but [Proof]s of them. It is
// safe for concurrent use.
type Credentials[V any] struct {
	key     [sha256.Size]byte
	buffers sync.Pool // of *[]byte, each with the key in front
	mu      sync.RWMutex
	known   Map[Proof, V]
}

// NewCredentials returns a memory of no more than twice as many headers as bound says.
func NewCredentials[V any](bound int) *Credentials[V] {
	c := &Credentials[V]{known: Map[Proof, V]{Bound: bound}}
	_, _ = rand.Read(c.key[:]) // it never fails
	c.buffers.New = func() any { b := append(make([]byte, 0, 512), c.key[:]...); return &b }
	return c
}

// Prove returns the proof of a request's header, and false when there is none, more than one, or a very long one.
//
// A hash over a secret key and the header is as good as a MAC here, and takes half of the time: what a MAC resists beyond it is
// that a known hash be prolonged, and the hashes are known to nobody.
func (c *Credentials[V]) Prove(r *http.Request) (p Proof, ok bool) {
	header := r.Header["Authorization"]
	if len(header) != 1 || len(header[0]) > maxHeader {
		return Proof{}, false
	}
	b, _ := c.buffers.Get().(*[]byte)
	*b = append((*b)[:len(c.key)], header[0]...)
	p = sha256.Sum256(*b)
	clear((*b)[len(c.key):]) // it has a password
	c.buffers.Put(b)
	return p, true
}

// Get returns what was found out about a header, unless it was forgotten.
func (c *Credentials[V]) Get(p Proof) (V, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.known.Get(p)
}

// Put remembers what was found out about a header.
func (c *Credentials[V]) Put(p Proof, v V) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.known.Put(p, v)
}
