package registry_test

import (
	"context"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"berth/registry"
	"berth/storage"
	"berth/storage/cached"
	"berth/storage/storagetest"
)

// TestRemove removes a repository, cutting it short at each call of the store, and again until it succeeds: nothing of it is
// left that anybody could find, and others have all they had.
func TestRemove(t *testing.T) {
	for n := 1; ; n++ {
		c := newClock()
		flaky := storagetest.NewFlaky(c.store())
		f := newFixture(t, flaky, &registry.Options{Now: c.now})
		p, other := f.repository("team/app"), f.repository("team/app/sub")
		old := f.pushBlob(p, "old")
		c.advance(2 * f.grace())
		config := f.pushBlob(p, "config")
		f.put(p, "v1", image("", config))
		f.put(p, "v2", image("x", config))
		f.pushBlob(other, "config")
		f.put(other, "v1", image("", config))
		kept := f.keys("repositories/team/app/sub/")
		flaky.FailNth(n, storagetest.FailBefore)
		_, err := p.Remove(t.Context(), false)
		cut := flaky.Faults() > 0
		if cut && err == nil {
			t.Errorf("cut at call %d, it answers nothing", n)
		}
		flaky.Plan(nil)
		result, err := p.Remove(t.Context(), false)
		if err != nil && registry.CodeOf(err) != registry.NameUnknown {
			t.Fatalf("again after call %d: %v", n, err)
		}
		for _, key := range f.keys("") {
			if strings.HasPrefix(key, "repositories/team/app/_manifests") || strings.HasPrefix(key, "repositories/team/app/_tags") || key == "catalog/team/app!" {
				t.Errorf("after call %d there is %s", n, key)
			}
		}
		if got := f.keys("repositories/team/app/sub/"); !slices.Equal(got, kept) {
			t.Errorf("after call %d the other repository has %q of %q", n, got, kept)
		}
		if _, err := p.Blob(t.Context(), old); registry.CodeOf(err) != registry.BlobUnknown {
			t.Errorf("after call %d a link that nobody can rely on is there: %v", n, err)
		}
		if _, err := p.Blob(t.Context(), config); err != nil {
			t.Errorf("after call %d a link that a push may rely on is gone: %v, %+v", n, err, result)
		}
		if !cut {
			return
		}
	}
}

// A telling store notes whether what others may have in memory was changed since they were last told.
type telling struct {
	storage.Driver
	untold atomic.Bool
}

func (d *telling) Put(ctx context.Context, key string, r io.Reader, size int64, cond storage.Cond) (storage.Info, error) {
	_, err := d.Driver.Stat(ctx, key)
	replaces := err == nil && registry.IsStable(key)
	info, err := d.Driver.Put(ctx, key, r, size, cond)
	switch {
	case err == nil && key == registry.EpochKey:
		d.untold.Store(false)
	case err == nil && replaces:
		d.untold.Store(true)
	}
	return info, err
}

func (d *telling) Delete(ctx context.Context, key string, cond storage.Cond) error {
	err := d.Driver.Delete(ctx, key, cond)
	if err == nil && registry.IsStable(key) {
		d.untold.Store(true)
	}
	return err
}

// TestDeletionsAreTold fails each call of a deletion in every way: what is acknowledged was told to the other replicas, and a purge
// that is repeated is, too.
func TestDeletionsAreTold(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(f *fixture, p registry.Repository, blob, manifest registry.Digest) error
	}{
		{"a blob", func(f *fixture, p registry.Repository, blob, _ registry.Digest) error {
			return p.DeleteBlob(f.Context(), blob)
		}},
		{"a manifest", func(f *fixture, p registry.Repository, _, manifest registry.Digest) error {
			return p.DeleteManifest(f.Context(), manifest)
		}},
		{"a repository", func(f *fixture, p registry.Repository, _, _ registry.Digest) error {
			_, err := p.Remove(f.Context(), false)
			return err
		}},
		{"purge", func(f *fixture, _ registry.Repository, blob, _ registry.Digest) error {
			_, err := f.registry.PurgeBlob(f.Context(), blob, false)
			return err
		}},
	} {
		for _, immutable := range []bool{false, true} {
			for _, w := range ways {
				for n, hit := 1, true; hit; n++ {
					told := &telling{Driver: newStore()}
					flaky := storagetest.NewFlaky(told)
					shared := cached.NewShared(flaky, registry.EpochKey, registry.IsStable, nil)
					o := &registry.Options{Reads: shared.Reads()}
					if immutable {
						o.Immutable = func(registry.Name, registry.Tag) bool { return false }
					}
					f := newFixture(t, shared, o)
					p := f.repository("a")
					blob := f.pushBlob(p, "content")
					m := f.put(p, "v1", image("", blob))
					told.untold.Store(false)
					flaky.Plan(func(c storagetest.Call) (fault storagetest.Fault) {
						if c.N == n || w.outage && c.N > n {
							fault.Mode = w.mode
						}
						return fault
					})
					err := c.do(f, p, blob, m.Digest)
					hit = flaky.Faults() > 0
					flaky.Plan(nil)
					if err == nil && told.untold.Load() {
						t.Errorf("%s, %s at call %d: acknowledged, and others were not told", c.name, w.name, n)
					}
					if err = c.do(f, p, blob, m.Digest); c.name == "purge" && (err != nil || told.untold.Load()) {
						t.Errorf("%s, %s at call %d: repeated, and others were not told, or %v", c.name, w.name, n, err)
					}
				}
			}
		}
	}
}

// A repeating store performs every deletion once more later, as happens to a request that was given up and sent again.
type repeating struct {
	storage.Driver
	again []func()
}

func (r *repeating) Delete(ctx context.Context, key string, cond storage.Cond) error {
	r.again = append(r.again, func() { _ = r.Driver.Delete(context.Background(), key, cond) })
	return r.Driver.Delete(ctx, key, cond)
}

// TestLateDeletion wants deletions that take effect once more, after what they deleted was pushed again, to delete nothing.
func TestLateDeletion(t *testing.T) {
	store := &repeating{Driver: newStore()}
	f := newFixture(t, store, nil)
	p := f.repository("a")
	d := f.pushBlob(p, "content")
	m := f.put(p, "v1", image("", d))
	if err := p.DeleteBlob(t.Context(), d); err != nil {
		t.Error(err)
	}
	if _, err := p.Remove(t.Context(), false); err != nil {
		t.Error(err)
	}
	f.pushBlob(p, "content")
	if _, err := f.registry.PurgeBlob(t.Context(), d, false); err != nil {
		t.Error(err)
	}
	f.pushBlob(p, "content")
	f.put(p, "v1", image("", d))
	before := f.keys("")
	for _, again := range store.again {
		again()
	}
	if after := f.keys(""); !slices.Equal(after, before) {
		t.Errorf("%q became %q", before, after)
	}
	if got := f.at(p, "v1"); got != m.Digest.String() {
		t.Errorf("the tag is at %q", got)
	}
}

func TestRemoveRefuses(t *testing.T) {
	f := newFixture(t, nil, &registry.Options{Immutable: func(_ registry.Name, tag registry.Tag) bool { return tag.String() == "v1" }})
	p := f.repository("a")
	_, err := p.Remove(t.Context(), false)
	wantCode(t, "a repository that never was", err, registry.NameUnknown)
	f.put(p, "v1", image("", f.pushBlob(p, "config")))
	_, err = p.Remove(t.Context(), false)
	wantCode(t, "an immutable tag", err, registry.Denied)
	f.at(p, "v1")
	if result, err := p.Remove(t.Context(), true); err != nil || result.Manifests != 1 || result.Later != 1 {
		t.Errorf("%+v, %v", result, err)
	}
}

// TestPurgeBlob purges a blob that came in one request and one that came in chunks, cutting it short at each call: when it
// was repeated the bytes are gone, and the blob can be pushed again or, if it is refused, cannot.
func TestPurgeBlob(t *testing.T) {
	for _, refuse := range []bool{false, true} {
		for n := 1; ; n++ {
			flaky := storagetest.NewFlaky(newStore())
			f := newFixture(t, flaky, nil)
			p, q := f.repository("a"), f.repository("b")
			content := pattern("secret", 20_000)
			d := digestOf([]byte(content))
			f.pushInChunks(p, content[:10_000], content[10_000:])
			if _, err := q.MountBlob(t.Context(), d, p.Name()); err != nil {
				t.Fatal(err)
			}
			f.put(p, "v1", image("", d))
			other := f.pushBlob(p, pattern("other", 20_000))
			flaky.FailNth(n, storagetest.FailBefore)
			_, err := f.registry.PurgeBlob(t.Context(), d, refuse)
			cut := flaky.Faults() > 0
			if cut && err == nil {
				t.Errorf("cut at call %d, it answers nothing", n)
			}
			flaky.Plan(nil)
			if _, err := f.registry.PurgeBlob(t.Context(), d, refuse); err != nil {
				t.Fatal(err)
			}
			for _, r := range []registry.Repository{p, q} {
				_, err := r.Blob(t.Context(), d)
				wantCode(t, "a purged blob", err, registry.BlobUnknown)
			}
			if keys := f.keys("data/"); len(keys) != 1 {
				t.Errorf("after call %d there are the data objects %q", n, keys)
			}
			if got, err := readBlob(t.Context(), p, other); err != nil || len(got) != 20_000 {
				t.Errorf("another blob: %d bytes, %v", len(got), err)
			}
			_, err = p.PushBlob(t.Context(), d, strings.NewReader(content), int64(len(content)))
			if refuse {
				wantCode(t, "a push of what is refused", err, registry.Denied)
				if err := f.registry.AllowBlob(t.Context(), d); err != nil {
					t.Fatal(err)
				}
				_, err = p.PushBlob(t.Context(), d, strings.NewReader(content), int64(len(content)))
			}
			if err != nil {
				t.Errorf("a push after it: %v", err)
			}
			if got, err := readBlob(t.Context(), p, d); err != nil || got != content {
				t.Errorf("pushed again: %d bytes, %v", len(got), err)
			}
			if !cut {
				break
			}
		}
	}
}

// TestPurgeBesideAClosingRequest purges a blob while a request is about to make it of an upload that was closed before: that
// must not bring back a blob without bytes.
func TestPurgeBesideAClosingRequest(t *testing.T) {
	f := newFixture(t, nil, nil)
	p := f.repository("a")
	content := pattern("secret", 20_000)
	d := digestOf([]byte(content))
	u := p.NewUpload("", registry.SHA256)
	if err := u.Append(t.Context(), chunk(content)); err != nil {
		t.Fatal(err)
	}
	if _, err := u.Commit(t.Context(), d, nothing); err != nil {
		t.Fatal(err)
	}
	again, err := p.Upload(t.Context(), "", u.ID())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.registry.PurgeBlob(t.Context(), d, false); err != nil {
		t.Fatal(err)
	}
	_, err = again.Commit(t.Context(), d, nothing)
	wantCode(t, "closing it again", err, registry.UploadUnknown)
	if _, err := p.Blob(t.Context(), d); registry.CodeOf(err) != registry.BlobUnknown {
		t.Errorf("there is a blob without bytes: %v", err)
	}
}

// TestClosedUploadIsRenewed wants a late second closing request to renew the record that keeps the bytes.
func TestClosedUploadIsRenewed(t *testing.T) {
	c := newClock()
	f := newFixture(t, c.store(), &registry.Options{Now: c.now})
	p := f.repository("a")
	u := p.NewUpload("", registry.SHA256)
	if err := u.Append(t.Context(), chunk("content")); err != nil {
		t.Fatal(err)
	}
	d := digestOf([]byte("content"))
	for range 2 {
		u, err := p.Upload(t.Context(), "", u.ID())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := u.Commit(t.Context(), d, nothing); err != nil {
			t.Fatal(err)
		}
		if info, err := f.store.Stat(t.Context(), f.keys("uploads/")[0]); err != nil || !info.ModTime.Equal(c.now()) {
			t.Errorf("the record was last touched at %v, %v", info.ModTime, err)
		}
		c.advance(f.grace()/4 + time.Second)
	}
}

// TestSlowStoreIsCut wants a push that relies on blobs for longer than half the grace to fail rather than be acknowledged.
func TestSlowStoreIsCut(t *testing.T) {
	flaky := storagetest.NewFlaky(newStore())
	f := newFixture(t, flaky, &registry.Options{Grace: 100 * time.Millisecond})
	p := f.repository("a")
	config := f.pushBlob(p, "config")
	flaky.Plan(func(c storagetest.Call) (fault storagetest.Fault) {
		if c.Op == storagetest.OpPut && strings.Contains(c.Key, "_manifests") {
			fault.Delay = 10 * time.Second
		}
		return fault
	})
	_, err := push(t.Context(), p, "v1", image("", config))
	wantCode(t, "a push that takes too long", err, registry.Unavailable)
	if !strings.Contains(err.Error(), "gc.grace") {
		t.Errorf("it does not say why: %v", err)
	}
}
