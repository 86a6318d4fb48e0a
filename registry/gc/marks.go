package gc

import (
	"math/bits"
	"math/rand/v2"
	"sync/atomic"
)

// marks is a set of hashes in bounded memory: 20 bits each. It may answer yes to one in some ten thousand that were never
// added, which keeps garbage for one run: the next one draws another salt. It never answers no to one that was added.
type marks struct {
	salt    uint64
	filters []filter
}

// A filter is a Bloom filter; all but the last of a set are full.
type filter struct {
	words   []uint64
	n, room int
}

const (
	bitsPerMark  = 20
	hashesOfMark = 10
	firstWords   = 64 // 512 bytes
	growth       = 8  // each filter has so many times the room of the one before
)

func newMarks() *marks { return &marks{salt: rand.Uint64()} }

// spread returns where a hash sets its bits: the first, and the distance between them.
func (m *marks) spread(h uint64) (first, step uint64) {
	const odd = 0x9e3779b97f4a7c15
	high, low := bits.Mul64(h^m.salt, odd)
	first = high ^ low
	high, low = bits.Mul64(first^bits.RotateLeft64(h, 32), odd)
	return first, (high ^ low) | 1
}

func (m *marks) add(h uint64) {
	if m.has(h) {
		return
	}
	last := len(m.filters) - 1
	if last < 0 || m.filters[last].n >= m.filters[last].room {
		words := firstWords
		if last >= 0 {
			words = len(m.filters[last].words) * growth
		}
		m.filters = append(m.filters, filter{words: make([]uint64, words), room: words * 64 / bitsPerMark})
		last++
	}
	f := &m.filters[last]
	first, step := m.spread(h)
	f.n++
	for range hashesOfMark {
		at := first % uint64(len(f.words)*64)
		f.words[at/64] |= 1 << (at % 64)
		first += step
	}
}

func (m *marks) has(h uint64) bool {
	first, step := m.spread(h)
	for i := range m.filters {
		if m.filters[i].has(first, step) {
			return true
		}
	}
	return false
}

func (f *filter) has(at, step uint64) bool {
	for range hashesOfMark {
		bit := at % uint64(len(f.words)*64)
		if f.words[bit/64]&(1<<(bit%64)) == 0 {
			return false
		}
		at += step
	}
	return true
}

// A second look for what is reached is taken by the first who is about to remove something. The first may lack an object that was
// replaced while it listed: not every store shows it then (docs/storage-s3.md). What is relied upon is renewed once in a quarter
// of the grace; two listings do not lack the same.
type second struct {
	begun atomic.Bool
	over  chan struct{}
	look  func() (*marks, error)
	marks *marks
	err   error
}

func lookAgain(look func() (*marks, error)) *second {
	return &second{over: make(chan struct{}), look: look}
}

// take returns what the second look finds. It may be called by several goroutines.
func (s *second) take() (*marks, error) {
	if s.begun.CompareAndSwap(false, true) {
		s.marks, s.err = s.look()
		close(s.over)
	}
	<-s.over
	return s.marks, s.err
}
