package registry_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"berth/registry"
	"berth/storage"
)

// A tidied driver has one leftover, of the object at a key.
type tidied struct {
	storage.Driver
	key    string
	before time.Time // what it was told
	kept   bool
}

func (d *tidied) Tidy(_ context.Context, before time.Time, keep func(string) bool) (int, int64, error) {
	d.before, d.kept = before, keep(d.key)
	return 0, 0, nil
}

// TestPurgeLeavesBodiesOnTheirWay purges while a body has been flowing for longer than uploads may lie idle: what the driver has of
// it stays, and what nobody goes on with goes, though not before the grace is over.
func TestPurgeLeavesBodiesOnTheirWay(t *testing.T) {
	c := newClock()
	store := &tidied{Driver: c.store()}
	f := newFixture(t, store, &registry.Options{Now: c.now})
	p := f.repository("team/app")
	u := p.NewUpload("", registry.SHA256)
	if err := u.Append(t.Context(), chunk("first")); err != nil {
		t.Fatal(err)
	}
	key := f.keys("uploads/")[0]
	f.overwrite(key, []byte(strings.Replace(string(f.read(key)), `"state":`, `"pending":"data/1/on-its-way","state":`, 1)))
	for pending, kept := range map[string]bool{"data/1/on-its-way": true, "data/1/other": false} {
		store.key = pending
		if _, err := f.registry.PurgeUploads(t.Context(), time.Hour, false); err != nil || store.kept != kept {
			t.Errorf("%s: kept is %v, %v", pending, store.kept, err)
		}
	}
	if want := c.now().Add(-f.grace()); !store.before.Equal(want) {
		t.Errorf("what began before %v goes, want %v", store.before, want)
	}
	store.before = time.Time{}
	if _, err := f.registry.PurgeUploads(t.Context(), time.Hour, true); err != nil || !store.before.IsZero() {
		t.Errorf("a dry run: %v, %v", store.before, err)
	}
	f.overwrite(key, []byte("damaged"))
	if _, _, err := f.registry.Tidy(t.Context(), c.now()); err == nil || !store.kept {
		t.Errorf("where an upload cannot be read: kept is %v, %v", store.kept, err)
	}
}
