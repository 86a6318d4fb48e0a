package storm

import "testing"

func TestContradiction(t *testing.T) {
	w := func(value string, begun, end int64) Event { return Event{true, value, begun, end} }
	r := func(value string, begun, end int64) Event { return Event{false, value, begun, end} }
	for _, c := range []struct {
		name   string
		events []Event
		wrong  bool
	}{
		{"one after another", []Event{w("a", 0, 1), r("a", 2, 3), w("b", 4, 5), r("b", 6, 7)}, false},
		{"either order of writes at once", []Event{w("a", 0, 9), w("b", 0, 9), r("a", 10, 11)}, false},
		{"a write seen before it is answered", []Event{w("a", 0, 1), w("b", 2, 9), r("b", 3, 4), r("b", 5, 6)}, false},
		{"a write that was not answered", []Event{w("a", 0, 1), w("b", 2, Forever), r("a", 3, 4), r("b", 5, 6)}, false},
		{"a write that never happened", []Event{w("a", 0, 1), w("b", 2, Forever), r("a", 3, 4)}, false},
		{"a stale read", []Event{w("a", 0, 1), w("b", 2, 3), r("a", 4, 5)}, true},
		{"back and forth", []Event{w("a", 0, 1), w("b", 2, 20), r("b", 3, 4), r("a", 5, 6)}, true},
		{"not answered, back and forth", []Event{w("a", 0, 1), w("b", 2, Forever), r("b", 3, 4), r("a", 5, 6)}, true},
		{"two readers disagree", []Event{w("a", 0, 20), w("b", 0, 20), r("a", 1, 2), r("b", 3, 4), r("a", 5, 6)}, true},
		{"a read of the future", []Event{r("a", 0, 1), w("a", 2, 3)}, true},
		{"a read of nothing written", []Event{r("x", 0, 1)}, true},

		{"deleted", []Event{r("", 0, 1), w("a", 2, 3), w("", 4, 5), r("", 6, 7), w("b", 8, 9), r("b", 10, 11)}, false},
		{"deleted meanwhile", []Event{w("a", 0, 1), w("", 2, 9), r("", 3, 4), w("b", 5, 6), r("b", 7, 8)}, false},
		{"perhaps deleted", []Event{w("a", 0, 1), w("", 2, Forever), r("", 3, 4)}, false},
		{"written and deleted at once", []Event{w("a", 0, 5), w("", 1, 4), r("", 6, 7)}, false},
		{"read after its delete", []Event{w("a", 0, 1), w("", 2, 3), r("a", 4, 5)}, true},
		{"gone by itself", []Event{w("a", 0, 1), r("", 2, 3), w("b", 4, 5)}, true},
		{"gone and back", []Event{w("a", 0, 1), r("a", 2, 3), r("", 4, 5), r("a", 6, 7), w("", 0, 20)}, true},
		{"gone before it is deleted", []Event{w("a", 0, 1), r("", 2, 3), w("", 4, 5)}, true},
		{"gone by an older delete", []Event{w("", 0, 1), w("a", 2, 3), r("", 4, 5)}, true},
	} {
		if got := Contradiction(c.events); (got != "") != c.wrong {
			t.Errorf("%s: %q", c.name, got)
		}
	}
}

func TestPossible(t *testing.T) {
	for _, c := range []struct {
		name   string
		writes []*write
		want   string
	}{
		{"the last of those acknowledged", []*write{{value: "a", begun: 1, done: 2}, {value: "b", begun: 3, done: 4}}, "b"},
		{"one that may have happened", []*write{{value: "a", begun: 1, done: 2}, {value: "b", begun: 3, done: Forever}}, "ab"},
		{"an old one that may have happened late", []*write{{value: "a", begun: 1, done: Forever}, {value: "b", begun: 3, done: 4}}, "ab"},
		{"two at once", []*write{{value: "a", begun: 1, done: 4}, {value: "b", begun: 2, done: 3}}, "ab"},
	} {
		got := ""
		for _, v := range possible(c.writes) {
			got += v
		}
		if got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}
