package registry_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"berth/registry"
	"berth/storage"
	"berth/storage/memory"
)

// A clock is the time of a store and of its registries.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func newClock() *clock { return &clock{at: time.Now()} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

func (c *clock) store() storage.Driver { return memory.NewWith(memory.Options{Now: c.now}) }

func (f *fixture) grace() time.Duration { return 24 * time.Hour }

// refuseLinks makes every put of a link fail.
func refuseLinks(reason error) func(context.Context, string, func(context.Context) (storage.Info, error)) (storage.Info, error) {
	return func(ctx context.Context, key string, put func(context.Context) (storage.Info, error)) (storage.Info, error) {
		if strings.Contains(key, "/_blobs/") {
			return storage.Info{}, reason
		}
		return put(ctx)
	}
}

// TestTouch wants what is relied upon to be renewed once it is older than a quarter of the grace, and not before.
func TestTouch(t *testing.T) {
	c := newClock()
	f := newFixture(t, c.store(), &registry.Options{Now: c.now})
	p, other := f.repository("team/app"), f.repository("other")
	config, layer := f.pushBlob(p, "config"), f.pushBlob(p, "layer")
	mentioned := f.pushBlob(p, "mentioned")
	annotated := image(mentioned.String(), config, layer)
	f.put(p, "v1", annotated)
	link := func(d registry.Digest) string { return "repositories/team/app/_blobs/sha256/" + d.Hex() }
	record := func(d registry.Digest) string { return "blobs/sha256/" + d.Hex()[:2] + "/" + d.Hex() }
	links := []string{link(config), link(layer), link(mentioned), "catalog/team/app!"}
	for _, e := range []struct {
		why     string
		rely    func() error
		renewed []string
	}{
		{"HEAD", func() error { _, err := p.CheckBlob(t.Context(), config); return err }, []string{link(config)}},
		{"mount", func() error { _, err := other.MountBlob(t.Context(), layer, p.Name()); return err }, []string{link(layer), record(layer)}},
		{"push of a manifest", func() error { _, err := push(t.Context(), p, "v2", annotated); return err }, links},
		{"push by digest", func() error {
			_, err := push(t.Context(), p, registry.SHA512.FromBytes(annotated).String(), annotated)
			return err
		}, links},
		{"moving a tag back", func() error { _, err := push(t.Context(), p, "v1", annotated); return err }, links},
		{"push of a blob", func() error {
			_, err := p.PushBlob(t.Context(), layer, strings.NewReader("layer"), 5)
			return err
		}, []string{record(layer)}},
	} {
		for _, key := range append(f.keys("repositories/"), append(f.keys("blobs/"), f.keys("catalog/")...)...) {
			f.overwrite(key, f.read(key)) // all are of now
		}
		c.advance(f.grace() / 4)
		for _, late := range []bool{false, true} {
			if late {
				c.advance(time.Nanosecond)
			}
			if err := e.rely(); err != nil {
				t.Errorf("%s: %v", e.why, err)
			}
			for _, key := range e.renewed {
				info, err := f.store.Stat(t.Context(), key)
				if renewed := info.ModTime.Equal(c.now()); err != nil || renewed != late {
					t.Errorf("%s after more than G/4: %v: %s renewed: %v, %v", e.why, late, key, renewed, err)
				}
			}
		}
	}
}

// TestReadingTouchesNothing wants plain reads to write nothing, however old things are, nor HEAD when all is read-only.
func TestReadingTouchesNothing(t *testing.T) {
	c := newClock()
	readOnly := false
	f := newFixture(t, c.store(), &registry.Options{Now: c.now, ReadOnly: func() bool { return readOnly }})
	p := f.repository("team/app")
	d := f.pushBlob(p, "content")
	f.put(p, "v1", image("", d))
	then := c.now()
	c.advance(10 * f.grace())
	readOnly = true
	if _, err := p.CheckBlob(t.Context(), d); err != nil {
		t.Error(err)
	}
	readOnly = false
	if _, err := readBlob(t.Context(), p, d); err != nil {
		t.Error(err)
	}
	f.at(p, "v1")
	for info, err := range f.store.List(t.Context(), "", "") {
		if err != nil || !info.ModTime.Equal(then) {
			t.Errorf("%s was written at %v, %v", info.Key, info.ModTime, err)
		}
	}
}

// TestTouchOptional wants the blobs of an index to be renewed also where a policy does without them: they must not be collected
// between being seen and being named.
func TestTouchOptional(t *testing.T) {
	for _, policy := range []registry.Policy{{AllowMissing: true}, {Platforms: registry.OnlyPlatforms("linux/amd64")}} {
		c := newClock()
		f := newFixture(t, c.store(), &registry.Options{Now: c.now, Manifests: policy})
		p := f.repository("cache")
		layer := f.pushBlob(p, "layer")
		c.advance(f.grace())
		f.put(p, "v1", fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"manifests":[{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":%q,"size":5}]}`,
			indexType, layer.String()))
		info, err := f.store.Stat(t.Context(), "repositories/cache/_blobs/sha256/"+layer.Hex())
		if err != nil || !info.ModTime.Equal(c.now()) {
			t.Errorf("%+v: the link is of %v, %v, and not renewed", policy, info.ModTime, err)
		}
	}
}

// TestTouchMeetsReadOnly switches to read-only mode while a push is under way: it is refused, since what it relies on cannot
// be renewed, and may be collected by another process.
func TestTouchMeetsReadOnly(t *testing.T) {
	c := newClock()
	readOnly := false
	f := newFixture(t, c.store(), &registry.Options{Now: c.now, ReadOnly: func() bool { return readOnly }})
	p, other := f.repository("team/app"), f.repository("other")
	d := f.pushBlob(p, "content")
	c.advance(f.grace())
	readOnly = true
	_, err := push(t.Context(), p, "v1", image("", d))
	wantCode(t, "push of a manifest", err, registry.Unavailable)
	_, err = other.MountBlob(t.Context(), d, p.Name())
	wantCode(t, "mount", err, registry.Unavailable)
	if keys := f.keys("repositories/"); len(keys) != 1 {
		t.Errorf("there is %q", keys)
	}
}
