package registry_test

import (
	"testing"
	"time"

	"berth/registry"
	"berth/storage/storagetest"
)

// TestClockOff opens a replica whose clock is off: it serves and writes nothing, until the clock is right again. One that
// goes off later acknowledges nothing: the write by which it notices may already rely on what is collected.
func TestClockOff(t *testing.T) {
	for _, off := range []time.Duration{4 * time.Hour, -4 * time.Hour, 100 * 24 * time.Hour} {
		store := newClock()
		flaky := storagetest.NewFlaky(store.store())
		right := newFixture(t, flaky, &registry.Options{Now: store.now})
		d := right.pushBlob(right.repository("team/app"), "content")
		right.put(right.repository("team/app"), "v1", image("", d))

		own := &clock{at: store.now().Add(off)}
		f := newFixture(t, flaky, &registry.Options{Now: own.now})
		p := f.repository("team/app")
		refused := func(why string) {
			t.Helper()
			if f.registry.ClockSkew() == nil {
				t.Errorf("%s by %s: nobody says so", why, off)
			}
			before := f.keys("")
			_, err := push(t.Context(), p, "v2", image("", d))
			wantCode(t, why, err, registry.Unavailable)
			if _, err := p.MountBlob(t.Context(), d, p.Name()); err == nil {
				t.Errorf("%s by %s: a mount", why, off)
			}
			if after := f.keys(""); len(after) != len(before) {
				t.Errorf("%s by %s: there is %q instead of %q", why, off, after, before)
			}
			if got, err := readBlob(t.Context(), p, d); err != nil || got != "content" || f.at(p, "v1") == "" {
				t.Errorf("%s by %s: reads %q, %v", why, off, got, err)
			}
		}
		refused("off from the start")
		own.advance(-off + 10*time.Second)
		f.put(p, "v2", image("", d))
		if err := f.registry.ClockSkew(); err != nil {
			t.Error(err)
		}
		own.advance(off)
		other := image("", d, d)
		_, err := push(t.Context(), p, registry.SHA256.FromBytes(other).String(), other)
		wantCode(t, "the push by which it is noticed", err, registry.Unavailable)
		flaky.Plan(nil)
		refused("off since")
		if n := flaky.Count(storagetest.OpPut); n > 1 {
			t.Errorf("%d puts while writing is refused", n)
		}
	}
}

// TestClockNearlyRight lets clocks differ as much as they may.
func TestClockNearlyRight(t *testing.T) {
	for _, off := range []time.Duration{-3 * time.Hour, 3 * time.Hour} {
		store := newClock()
		own := &clock{at: store.now().Add(off)}
		f := newFixture(t, store.store(), &registry.Options{Now: own.now})
		f.pushBlob(f.repository("team/app"), "content")
	}
}
