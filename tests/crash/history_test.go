package crash

import (
	"cmp"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"berth/tests/content"
	"berth/tests/harness"
)

// An event is one operation on a tag, from when it was sent to when it was answered, by the clock of this process.
type event struct {
	write      bool
	value      string
	start, end time.Duration
}

// A span is what must hold of the operations on one value: if from < to, the tag had that value all the way between
// (the first had ended before the last began); otherwise at some moment between to and from.
type span struct {
	value    string
	from, to time.Duration // the first end, the last start
}

// contradiction explains why no order of the events can be real, "" when one can. Each value is written once. It is the
// criterion of Gibbons and Korach (Testing Shared Memories, 1997): no read before its write, no two spans that must hold
// at once, and no moment of one value within a span of another.
func contradiction(events []event) string {
	spans, written := map[string]*span{}, map[string]event{}
	for _, e := range events {
		if e.write {
			written[e.value] = e
		}
		s, ok := spans[e.value]
		if !ok {
			s = &span{e.value, e.end, e.start}
			spans[e.value] = s
		}
		s.from, s.to = min(s.from, e.end), max(s.to, e.start)
	}
	for _, e := range events {
		if w, ok := written[e.value]; !ok {
			return fmt.Sprintf("%s was read and never written", e.value)
		} else if !e.write && e.end < w.start {
			return fmt.Sprintf("%s was read before it was written", e.value)
		}
	}
	var held []*span
	for _, s := range spans {
		if s.from < s.to {
			held = append(held, s)
		}
	}
	slices.SortFunc(held, func(a, b *span) int { return cmp.Compare(a.from, b.from) })
	for i := 1; i < len(held); i++ {
		if a, b := held[i-1], held[i]; b.from < a.to {
			return fmt.Sprintf("%s was there from %v to %v, and %s from %v to %v", a.value, a.from, a.to, b.value, b.from, b.to)
		}
	}
	for _, s := range spans {
		for _, h := range held {
			if s.from >= s.to && h.from < s.to && s.from < h.to {
				return fmt.Sprintf("%s was there between %v and %v, when it was %s from %v to %v", s.value, s.to, s.from, h.value, h.from, h.to)
			}
		}
	}
	return ""
}

func TestContradiction(t *testing.T) {
	w := func(value string, start, end time.Duration) event { return event{true, value, start, end} }
	r := func(value string, start, end time.Duration) event { return event{false, value, start, end} }
	for _, c := range []struct {
		name   string
		events []event
		wrong  bool
	}{
		{"one after another", []event{w("a", 0, 1), r("a", 2, 3), w("b", 4, 5), r("b", 6, 7)}, false},
		{"either order of writes at once", []event{w("a", 0, 9), w("b", 0, 9), r("a", 10, 11)}, false},
		{"a write seen before it is answered", []event{w("a", 0, 1), w("b", 2, 9), r("b", 3, 4), r("b", 5, 6)}, false},
		{"a stale read", []event{w("a", 0, 1), w("b", 2, 3), r("a", 4, 5)}, true},
		{"back and forth", []event{w("a", 0, 1), w("b", 2, 20), r("b", 3, 4), r("a", 5, 6)}, true},
		{"two readers disagree", []event{w("a", 0, 20), w("b", 0, 20), r("a", 1, 2), r("b", 3, 4), r("a", 5, 6)}, true},
		{"a read of the future", []event{r("a", 0, 1), w("a", 2, 3)}, true},
		{"a read of nothing written", []event{r("x", 0, 1)}, true},
	} {
		if got := contradiction(c.events); (got != "") != c.wrong {
			t.Errorf("%s: %q", c.name, got)
		}
	}
}

// TestTagHistory lets 32 writers move one tag while readers follow it: what they saw must fit into one order.
func TestTagHistory(t *testing.T) {
	const writers, readers, moves = 32, 16, 5
	s := harness.Start(t, harness.Options{Race: true})
	all := manifests(t, s, "crowd/history", 1+writers*moves)
	if err := s.PushManifest("crowd/history", "latest", all[0]); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	begin := time.Now()
	events := []event{{write: true, value: all[0].Digest}}
	record := func(write bool, act func() (string, error)) error {
		start := time.Since(begin)
		value, err := act()
		end := time.Since(begin)
		mu.Lock()
		defer mu.Unlock()
		events = append(events, event{write, value, start, end})
		return err
	}
	crowd(t, writers+readers, func(i int) error {
		for n := range moves {
			var err error
			if i < writers {
				err = record(true, func() (string, error) { return move(s, all[1+i*moves+n]) })
			} else {
				err = record(false, func() (string, error) { return s.Resolve("crowd/history", "latest") })
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err := record(false, func() (string, error) { return s.Resolve("crowd/history", "latest") }); err != nil {
		t.Fatal(err)
	}
	if why := contradiction(events); why != "" {
		t.Errorf("the history of %d operations is not linearizable: %s", len(events), why)
	}
}

func move(s *harness.Server, m content.Manifest) (string, error) {
	return m.Digest, s.PushManifest("crowd/history", "latest", m)
}
