package filesystem

import (
	"slices"
	"testing"

	"berth/storage"
)

// moment is a system that lets a test step in before files get their names.
type moment struct {
	realSystem
	before func()
}

func (m *moment) rename(from, to string) error {
	if m.before != nil {
		m.before()
	}
	return m.realSystem.rename(from, to)
}

// TestWatch wants what changes while a folder is read to be noted: what was replaced since, and what was about to be.
func TestWatch(t *testing.T) {
	sys := &moment{}
	d := start(t, Options{}, kindFilesystem, sys)
	for _, key := range []string{"r/a", "r/b", "r/c", "s/a"} {
		put(t, d, key, "one", storage.Cond{})
	}
	var early func() []string
	sys.before = func() {
		if early == nil {
			early = d.flights.watch("r/")
		}
	}
	put(t, d, "r/b", "two", storage.Cond{})
	late := d.flights.watch("r/")
	put(t, d, "r/a", "two", storage.Cond{})
	put(t, d, "s/a", "two", storage.Cond{})
	put(t, d, "r/d/e", "two", storage.Cond{})
	if err := d.Delete(t.Context(), "r/c", storage.Cond{}); err != nil {
		t.Fatal(err)
	}
	if got := early(); !slices.Equal(got, []string{"b", "a", "c"}) {
		t.Errorf("a watch that began before a rename noted %q", got)
	}
	if got := late(); !slices.Equal(got, []string{"a", "c"}) {
		t.Errorf("a watch that began after it noted %q", got)
	}
	if len(d.flights.watches) != 0 {
		t.Error("watches do not end")
	}
}
