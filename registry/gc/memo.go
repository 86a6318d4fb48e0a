package gc

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"hash/maphash"
	"sync"
)

// A memo remembers, from run to run, what records refer to, so that those that did not change are not read again. It is
// only ever a saving: it may forget all at any time.
//
// References are kept as hashes; that two collide keeps garbage. The keys must not collide, for that would lose references:
// they have 128 bits and are salted.
type memo struct {
	limit int // of memory, in bytes, about
	salt  [16]byte
	seed  maphash.Seed

	mu    sync.Mutex
	index map[memoKey]uint32 // where in the arena
	arena []uint64           // for each entry the number of its references, and then these
	hits  int                // since the run began
}

type memoKey [16]byte

// entryCost is what an entry takes in the index, in bytes, about.
const entryCost = 40

func newMemo(limit int) *memo {
	m := &memo{limit: limit, seed: maphash.MakeSeed(), index: map[memoKey]uint32{}}
	rand.Read(m.salt[:])
	return m
}

// hash returns the hash of a reference: of a digest, or of the key of a data object.
func (m *memo) hash(reference string) uint64 { return maphash.String(m.seed, reference) }

// key returns the key of a record with the given content: what tells contents apart is in the numbers.
func (m *memo) key(name string, content ...int64) memoKey {
	var buffer [256]byte
	b := append(buffer[:0], m.salt[:]...)
	for _, n := range content {
		b = binary.LittleEndian.AppendUint64(b, uint64(n))
	}
	sum := sha256.Sum256(append(b, name...))
	return memoKey(sum[:16])
}

// get returns the references of a record, if they are known. They are not to be changed.
func (m *memo) get(key memoKey) ([]uint64, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	at, ok := m.index[key]
	if !ok {
		return nil, false
	}
	m.hits++
	n := uint32(m.arena[at])
	return m.arena[at+1 : at+1+n : at+1+n], true
}

func (m *memo) put(key memoKey, references []uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	size := (len(m.arena)+len(references)+1)*8 + (len(m.index)+1)*entryCost
	if _, known := m.index[key]; known || size > m.limit {
		return
	}
	m.index[key] = uint32(len(m.arena))
	m.arena = append(append(m.arena, uint64(len(references))), references...)
}

// begin starts a run: what was hardly asked for in the one before is forgotten as a whole.
func (m *memo) begin() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.index) > 1000 && m.hits > 0 && len(m.index) > 2*m.hits {
		m.index, m.arena = map[memoKey]uint32{}, nil
	}
	m.hits = 0
}
