package htpasswd

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"sync"
	"time"
)

// Bounds of what is remembered.
const (
	rememberFor = 5 * time.Minute
	remembered  = 4096 // credentials, in each of two generations
)

// A proof stands for a user, one state of that user's entry, and a password.
type proof [sha256.Size]byte

// A prover makes proofs under a key that is of this process alone, so that a proof tells nothing of the password. It keeps
// its MACs, which take longer to set up than to use.
type prover struct{ macs sync.Pool }

type mac struct {
	hash.Hash
	message []byte
}

func newProver() *prover {
	key := make([]byte, 32)
	_, _ = rand.Read(key) // it never fails
	return &prover{sync.Pool{New: func() any { return &mac{Hash: hmac.New(sha256.New, key)} }}}
}

// prove returns the proof that a user has the password of an entry. The entry is in it, so that nothing proven outlives a
// change of the entry.
func (p *prover) prove(user string, e *entry, password string) proof {
	return p.sum(user, e.text, password)
}

func (p *prover) sum(parts ...string) (sum proof) {
	m, _ := p.macs.Get().(*mac)
	m.message = m.message[:0]
	for _, part := range parts {
		m.message = binary.BigEndian.AppendUint32(m.message, uint32(len(part)))
		m.message = append(m.message, part...)
	}
	m.Reset()
	m.Write(m.message)
	clear(m.message) // it has a password
	m.message = m.Sum(m.message[:0])
	copy(sum[:], m.message)
	p.macs.Put(m)
	return sum
}

// A recent is a map that forgets: it holds between one and two times its bound of the entries put last.
type recent[K comparable, V any] struct {
	bound    int
	old, new map[K]V
}

func (m *recent[K, V]) get(k K) (V, bool) {
	if v, ok := m.new[k]; ok {
		return v, true
	}
	v, ok := m.old[k]
	return v, ok
}

func (m *recent[K, V]) put(k K, v V) {
	if m.new == nil || len(m.new) >= m.bound {
		m.old, m.new = m.new, make(map[K]V)
	}
	m.new[k] = v
}

func (m *recent[K, V]) remove(k K) {
	delete(m.old, k)
	delete(m.new, k)
}

// A memory holds the proofs that were verified a short time ago.
type memory struct {
	mu     sync.RWMutex
	proofs recent[proof, time.Time] // until when each holds
}

func (m *memory) has(p proof, now time.Time) bool {
	m.mu.RLock()
	until, ok := m.proofs.get(p)
	m.mu.RUnlock()
	return ok && now.Before(until)
}

func (m *memory) add(p proof, now time.Time) {
	m.mu.Lock()
	m.proofs.put(p, now.Add(rememberFor))
	m.mu.Unlock()
}
