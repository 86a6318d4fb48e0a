package storm

import (
	"cmp"
	"fmt"
	"slices"
)

// An Event is one operation on a register, from when it was sent to when it was answered, by a clock that all operations
// share. An empty value is that nothing was there: a write of it deletes.
type Event struct {
	Write      bool
	Value      string
	Begun, End int64 // End is [Forever] for a write that was never answered: it may have happened, or not
}

// Forever is the end of what was not answered.
const Forever = int64(^uint64(0) >> 1)

// A span is what must hold of the operations on one value: if from < to, the register had that value all the way between
// (the first had ended before the last began); otherwise at some moment between to and from.
type span struct {
	value    string
	from, to int64 // the first end, the last beginning
}

func (s *span) add(e Event) { s.from, s.to = min(s.from, e.End), max(s.to, e.Begun) }

// Contradiction explains why no order of the events can be real, "" when one can. Each value but the empty one is written
// once. It is the criterion of Gibbons and Korach (Testing Shared Memories, 1997): no read before its write, no two spans
// that must hold at once, and no moment of one value within a span of another. Of deletes, which cannot be told apart, it
// asks no more than that each, and each time that nothing was found, is such a moment, and that nothing is found only
// after a delete.
func Contradiction(events []Event) string {
	spans, why := gather(events)
	if why != "" {
		return why
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
			return fmt.Sprintf("it was %s from %v to %v, and %s from %v to %v", a.value, a.from, a.to, b.value, b.from, b.to)
		}
	}
	for _, s := range spans {
		for _, h := range held {
			if s.from >= s.to && h.from < s.to && s.from < h.to {
				return fmt.Sprintf("it was %q between %v and %v, when it was %s from %v to %v", s.value, s.to, s.from, h.value, h.from, h.to)
			}
		}
	}
	return ""
}

// gather makes the spans of events, one for each value and one for each time that nothing was there.
func gather(events []Event) (spans []*span, why string) {
	byValue, written := map[string]*span{}, map[string]Event{}
	for _, e := range events {
		if e.Value == "" {
			if !e.Write && !mayBeAbsent(e, events) {
				return nil, fmt.Sprintf("nothing was found between %v and %v, and nothing had been deleted", e.Begun, e.End)
			}
			spans = append(spans, &span{"", e.End, e.Begun})
			continue
		}
		if e.Write {
			written[e.Value] = e
		}
		if byValue[e.Value] == nil {
			byValue[e.Value] = &span{e.Value, e.End, e.Begun}
			spans = append(spans, byValue[e.Value])
		}
		byValue[e.Value].add(e)
	}
	for _, e := range events {
		if w, ok := written[e.Value]; e.Value == "" || e.Write {
			continue
		} else if !ok {
			return nil, fmt.Sprintf("%s was read between %v and %v and never written", e.Value, e.Begun, e.End)
		} else if e.End < w.Begun {
			return nil, fmt.Sprintf("%s was read between %v and %v, and written after %v", e.Value, e.Begun, e.End, w.Begun)
		}
	}
	return spans, ""
}

// mayBeAbsent reports whether there is a delete after each write that a read came after.
func mayBeAbsent(read Event, events []Event) bool {
	latest := int64(-1) // when the last of those writes began
	for _, e := range events {
		if e.Write && e.Value != "" && e.End < read.Begun {
			latest = max(latest, e.Begun)
		}
	}
	return latest < 0 || slices.ContainsFunc(events, func(e Event) bool {
		return e.Write && e.Value == "" && e.End > latest && e.Begun < read.End
	})
}
