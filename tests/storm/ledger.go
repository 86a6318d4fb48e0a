// Package storm pushes, moves and deletes through several clients at once, remembers what was acknowledged and what was
// never answered, and holds the registry to it afterwards, whatever happened to its process or its disk meanwhile.
package storm

import (
	"slices"
	"sync"

	"berth/tests/content"
)

// A Ledger knows what each thing in a registry may be. Safe for concurrent use, but for [Ledger.Check], during which
// nothing else may go on.
type Ledger struct {
	mu      sync.Mutex
	clock   int64
	things  map[thing][]*write
	order   []thing // as they were first written
	uploads map[*upload]bool
	rounds  int
	acked   int
}

// NewLedger returns the ledger of an empty registry.
func NewLedger() *Ledger {
	return &Ledger{things: map[thing][]*write{}, uploads: map[*upload]bool{}}
}

// Acked is how many writes were acknowledged.
func (l *Ledger) Acked() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.acked
}

// A thing is one register: what reading it yields is a digest, or "" when it is not there.
type thing struct{ kind, repo, name string }

// The kinds of things.
const (
	blobs     = "blobs"
	manifests = "manifests"
	tags      = "tags"
)

// A write is an attempt to change a thing. Its times are by a clock that only counts.
type write struct {
	value string
	begun int64
	done  int64 // forever: it was never acknowledged
}

const forever = int64(^uint64(0) >> 1)

// begin enters writes of a value to things before they are sent. Calling acked tells that the registry confirmed them.
func (l *Ledger) begin(value string, things ...thing) (acked func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.clock++
	var writes []*write
	for _, t := range things {
		w := &write{value, l.clock, forever}
		if l.things[t] == nil {
			l.things[t] = []*write{{}} // it was not there
			l.order = append(l.order, t)
		}
		l.things[t] = append(l.things[t], w)
		writes = append(writes, w)
	}
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.clock++
		l.acked++
		for _, w := range writes {
			w.done = l.clock
		}
	}
}

// possible returns the values that a thing may have when nothing is under way: those of all writes that no acknowledged
// write came after.
func possible(writes []*write) []string {
	latest := int64(0) // when the last of the acknowledged writes began
	for _, w := range writes {
		if w.done != forever {
			latest = max(latest, w.begun)
		}
	}
	var values []string
	for _, w := range writes {
		if w.done >= latest && !slices.Contains(values, w.value) {
			values = append(values, w.value)
		}
	}
	return values
}

// settle enters what a thing was found to be: it must stay so.
func (l *Ledger) settle(t thing, value string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.clock++
	l.things[t] = []*write{{value, l.clock, l.clock}}
}

// most is how many things a ledger keeps for the next round; the oldest are forgotten.
const most = 1500

func (l *Ledger) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, t := range l.order[:max(0, len(l.order)-most)] {
		delete(l.things, t)
	}
	l.order = l.order[max(0, len(l.order)-most):]
}

// An upload was begun. It belongs to one client until that stops.
type upload struct {
	repo, location string
	blob           content.Blob
	acked, sent    int // bytes of the chunks that were acknowledged, and of all
}

func (l *Ledger) open(u *upload) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.uploads[u] = true
}

func (l *Ledger) close(u *upload) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.uploads, u)
}
