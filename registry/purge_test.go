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

// TestPurgeStopsInReadOnlyMode switches to read-only mode in the middle of a purge: the upload that it is at is the last to go.
func TestPurgeStopsInReadOnlyMode(t *testing.T) {
	c := newClock()
	readOnly := false
	hook := &hooked{Driver: c.store()}
	store := &tidied{Driver: hook}
	f := newFixture(t, store, &registry.Options{Now: c.now, ReadOnly: func() bool { return readOnly }})
	for range 3 {
		if err := f.repository("a").NewUpload("", registry.SHA256).Append(t.Context(), chunk("part")); err != nil {
			t.Fatal(err)
		}
	}
	c.advance(2 * time.Hour)
	hook.put = func(ctx context.Context, key string, put func(context.Context) (storage.Info, error)) (storage.Info, error) {
		readOnly = readOnly || strings.HasPrefix(key, "uploads/")
		return put(ctx)
	}
	result, err := f.registry.PurgeUploads(t.Context(), time.Hour, false)
	if err != nil || result.Uploads != 1 || len(f.keys("uploads/")) != 2 || len(f.keys("data/")) != 2 || !store.before.IsZero() {
		t.Errorf("purged %+v, %v, and left %q and %q; the driver tidied before %v", result, err, f.keys("uploads/"), f.keys("data/"), store.before)
	}
}

// TestPurgeOnAFullStorage purges where nothing can be put: what an upload received goes with its record.
func TestPurgeOnAFullStorage(t *testing.T) {
	c := newClock()
	store := &timed{hooked{Driver: c.store()}, c}
	f := newFixture(t, store, &registry.Options{Now: c.now})
	u := f.repository("a").NewUpload("", registry.SHA256)
	if err := u.Append(t.Context(), chunk("part")); err != nil {
		t.Fatal(err)
	}
	c.advance(2 * time.Hour)
	store.put = func(context.Context, string, func(context.Context) (storage.Info, error)) (storage.Info, error) {
		return storage.Info{}, storage.ErrNoSpace
	}
	result, err := f.registry.PurgeUploads(t.Context(), time.Hour, false)
	if left := append(f.keys("uploads/"), f.keys("data/")...); err != nil || result.Uploads != 1 || len(left) != 0 {
		t.Errorf("purged %+v, %v, and left %q", result, err, left)
	}
	store.put = nil
	wantCode(t, "a request that began before", u.Append(t.Context(), chunk("more")), registry.UploadUnknown)
}

// A timed driver tells its time without a put.
type timed struct {
	hooked
	clock *clock
}

func (d *timed) Now() (time.Time, error) { return d.clock.now(), nil }
