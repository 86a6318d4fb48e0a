// Package storm pushes, pulls, moves and deletes through several clients at once, over one or several replicas, remembers
// what was acknowledged and what was never answered, and holds the registry to it afterwards, whatever happened to its
// process or its disk meanwhile.
package storm

import (
	"slices"
	"sync"

	"berth/tests/content"
)

// Options of a [Ledger]. Zero values are an ordinary registry and always the same storm.
type Options struct {
	// Seed of what the clients do.
	Seed uint64
	// Collected says that blobs which no manifest has may be collected at any time.
	Collected bool
}

// A Ledger knows what each thing in a registry may be. Safe for concurrent use, but for [Ledger.Check], during which
// nothing else may go on.
type Ledger struct {
	o Options

	mu      sync.Mutex
	clock   int64
	things  map[thing][]*write
	reads   map[thing][]Event // of shared tags
	order   []thing           // as they were first written
	halfway map[thing]bool    // tags that are gone by a delete that was never answered: they may still be listed
	uploads map[*upload]bool
	rounds  uint64
	acked   int
	again   int // closing PUTs that another replica answered well
}

// NewLedger returns the ledger of an empty registry.
func NewLedger(o Options) *Ledger {
	return &Ledger{o: o, things: map[thing][]*write{}, reads: map[thing][]Event{}, halfway: map[thing]bool{}, uploads: map[*upload]bool{}}
}

// Acked is how many writes were acknowledged.
func (l *Ledger) Acked() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.acked
}

// Retried is how many uploads were closed by another replica than the one that was asked first and did not answer.
func (l *Ledger) Retried() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.again
}

func (l *Ledger) retried() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.again++
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
	done  int64 // Forever: it was never acknowledged
	seen  bool  // it changed nothing: the thing was found to be so
}

// An attempt is what one request writes.
type attempt struct {
	ledger *Ledger
	writes []*write
}

func (l *Ledger) tick() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.clock++
	return l.clock
}

// begin enters writes of a value to things before they are sent.
func (l *Ledger) begin(value string, things ...thing) *attempt {
	begun := l.tick()
	l.mu.Lock()
	defer l.mu.Unlock()
	a := &attempt{ledger: l}
	for _, t := range things {
		w := &write{value: value, begun: begun, done: Forever}
		if l.things[t] == nil {
			l.things[t] = []*write{{}} // it was not there
			l.order = append(l.order, t)
		}
		l.things[t] = append(l.things[t], w)
		a.writes = append(a.writes, w)
	}
	return a
}

// acked tells that the registry confirmed the attempt.
func (a *attempt) acked() { a.end(false) }

// seen tells that the registry said that it is so already.
func (a *attempt) seen() { a.end(true) }

func (a *attempt) end(seen bool) {
	done := a.ledger.tick()
	a.ledger.mu.Lock()
	defer a.ledger.mu.Unlock()
	a.ledger.acked++
	for _, w := range a.writes {
		w.done, w.seen = done, seen
	}
}

// saw enters what a thing was read to be, by a read that was sent at begun.
func (l *Ledger) saw(t thing, value string, begun int64) {
	end := l.tick()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.reads[t] = append(l.reads[t], Event{Value: value, Begun: begun, End: end})
}

// history returns all that is known of a thing since it was last settled.
func (l *Ledger) history(t thing) []Event {
	l.mu.Lock()
	defer l.mu.Unlock()
	events := slices.Clone(l.reads[t])
	for _, w := range l.things[t] {
		if w.done > 0 { // not the one that stands for the beginning
			events = append(events, Event{!w.seen, w.value, w.begun, w.done})
		}
	}
	return events
}

// possible returns the values that a thing may have when nothing is under way: those of all writes that no acknowledged
// write came after.
func possible(writes []*write) []string {
	latest := int64(0) // when the last of the acknowledged writes began
	for _, w := range writes {
		if w.done != Forever {
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
	now := l.tick()
	l.mu.Lock()
	defer l.mu.Unlock()
	cut := slices.ContainsFunc(l.things[t], func(w *write) bool { return w.value == "" && w.done == Forever })
	l.halfway[t] = value == "" && (l.halfway[t] || cut)
	l.things[t] = []*write{{value: value, begun: now, done: now}}
	delete(l.reads, t)
}

// most is how many things a ledger keeps for the next round; the oldest are forgotten.
const most = 1500

func (l *Ledger) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	var kept []thing
	for i, t := range l.order {
		if t.kind == tags || i >= len(l.order)-most { // tags are few, and written again and again
			kept = append(kept, t)
			continue
		}
		delete(l.things, t)
		delete(l.halfway, t)
	}
	l.order = kept
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
