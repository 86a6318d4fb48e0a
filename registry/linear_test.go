package registry_test

import (
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
)

// An event is one operation on a register: a write of a value, or a read that returned it. Its times are ticks of one
// counter for the whole test.
type event struct {
	value      string
	write      bool
	start, end int64
}

// A history records what happens to a register to which no value is written twice.
type history struct {
	ticks  atomic.Int64
	mu     sync.Mutex
	events []event
}

const forever = math.MaxInt64

// write records a write. One whose outcome is not known may take effect at any time after it began, or never.
func (h *history) write(value string, do func() (known bool, err error)) error {
	start := h.ticks.Add(1)
	known, err := do()
	e := event{value, true, start, h.ticks.Add(1)}
	if !known {
		e.end = forever
	}
	if err == nil || !known {
		h.add(e)
	}
	return err
}

// read records a read that returns a value.
func (h *history) read(do func() (string, error)) error {
	start := h.ticks.Add(1)
	value, err := do()
	if err == nil {
		h.add(event{value, false, start, h.ticks.Add(1)})
	}
	return err
}

func (h *history) add(e event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.events = append(h.events, e)
}

// A zone is the time that a value must have been that of the register, from the first end of an operation on it to the
// last start of one; or, when all of them overlap, backwards, a time in which it may have been it for a moment.
type zone struct {
	value    string
	from, to int64
	backward bool
}

// linearizable reports what is wrong with a history, "" if it could be that of operations that took place one at a time.
// With no value written twice, that is so if no read precedes the write of its value, no two zones of time overlap, and
// none contains the backward zone of another (Gibbons and Korach, Testing Shared Memories, 1997, section 4).
func (h *history) linearizable() string {
	byValue := map[string][]event{}
	for _, e := range h.events {
		byValue[e.value] = append(byValue[e.value], e)
	}
	var zones []zone
	for value, events := range byValue {
		i := slices.IndexFunc(events, func(e event) bool { return e.write })
		if i < 0 {
			return "what was read was never written: " + value
		}
		first, last := int64(forever), int64(0)
		for _, e := range events {
			if e.end < events[i].start {
				return "read before it was written: " + value
			}
			first, last = min(first, e.end), max(last, e.start)
		}
		if first == forever {
			continue // a write of unknown outcome that nobody saw
		}
		zones = append(zones, zone{value, min(first, last), max(first, last), last < first})
	}
	for i, a := range zones {
		for _, b := range zones[i+1:] {
			if !compatible(a, b) {
				return "these must both have been current at one time: " + a.value + ", " + b.value
			}
		}
	}
	return ""
}

func compatible(a, b zone) bool {
	switch {
	case a.backward && b.backward:
		return true
	case a.backward:
		return !(b.from < a.from && a.to < b.to)
	case b.backward:
		return !(a.from < b.from && b.to < a.to)
	}
	return a.to < b.from || b.to < a.from
}

// TestLinearizable makes sure that the checker can tell.
func TestLinearizable(t *testing.T) {
	w := func(v string, start, end int64) event { return event{v, true, start, end} }
	r := func(v string, start, end int64) event { return event{v, false, start, end} }
	for _, c := range []struct {
		why    string
		events []event
		want   bool
	}{
		{"nothing", nil, true},
		{"in order", []event{w("a", 1, 2), r("a", 3, 4), w("b", 5, 6), r("b", 7, 8)}, true},
		{"stale", []event{w("a", 1, 2), w("b", 3, 4), r("a", 5, 6)}, false},
		{"back and forth", []event{w("a", 1, 20), w("b", 2, 21), r("a", 3, 4), r("b", 5, 6), r("a", 7, 8)}, false},
		{"while both are written", []event{w("a", 1, 20), w("b", 2, 21), r("b", 3, 4), r("a", 5, 6)}, true},
		{"from the future", []event{r("a", 1, 2), w("a", 3, 4)}, false},
		{"from nowhere", []event{r("a", 1, 2)}, false},
		{"overwritten unseen", []event{w("a", 1, 9), w("b", 2, 8), w("c", 3, 7), r("c", 10, 11)}, true},
		{"within the time of another", []event{w("a", 1, 2), w("b", 4, 5), r("a", 7, 8)}, false},
		{"of unknown outcome, seen late", []event{w("a", 1, forever), w("b", 2, 3), r("b", 4, 5), r("a", 6, 7)}, true},
		{"of unknown outcome, seen twice", []event{w("a", 1, forever), w("b", 2, 3), r("a", 4, 5), r("b", 6, 7), r("a", 8, 9)}, false},
		{"of unknown outcome, unseen", []event{w("a", 1, forever), w("b", 2, 3), r("b", 4, 5)}, true},
	} {
		h := history{events: c.events}
		if got := h.linearizable(); (got == "") != c.want {
			t.Errorf("%s: %q", c.why, got)
		}
	}
}
