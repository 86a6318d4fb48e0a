package gc_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"berth/registry"
	"berth/registry/gc"
	"berth/storage"
)

// TestPurgeCutShort cuts a purge short while an upload is being made a blob, and collects: what the upload had must not be
// removed from under the blob. The model found it, once in some hundred histories.
func TestPurgeCutShort(t *testing.T) {
	f := newFixture(t, gc.Options{})
	open := func(store storage.Driver) registry.Repository {
		reg, err := registry.Open(t.Context(), store, &registry.Options{Now: f.clock.now, Grace: grace, Secret: []byte("0123456789abcdef")})
		if err != nil {
			t.Fatal(err)
		}
		name, err := registry.ParseName("a")
		if err != nil {
			t.Fatal(err)
		}
		return reg.Repository(name)
	}
	content := large("secret")
	d := digestOf(content)
	cut := errors.New("the power is cut")
	for _, kind := range []registry.Kind{registry.BlobKind, registry.UploadKind, registry.DataKind} { // at which the purge ends
		met := false
		p := open(&decorated{Driver: f.store, put: func(ctx context.Context, key string, _ []byte, _ storage.Cond) (storage.Info, bool, error) {
			if registry.KindOf(key) != registry.BlobKind || met {
				return storage.Info{}, false, nil
			}
			met = true
			purger := open(failing{f.store, kind, cut})
			if _, err := purger.PurgeBlob(ctx, d, false); !errors.Is(err, cut) {
				t.Errorf("the purge was not cut at %v: %v", kind, err)
			}
			f.clean()
			return storage.Info{}, false, nil
		}})
		u := p.NewUpload("", registry.SHA256)
		if err := u.Append(t.Context(), registry.Chunk{Body: strings.NewReader(content), Size: -1, Start: -1, End: -1}); err != nil {
			t.Fatal(err)
		}
		f.clock.advance(grace + time.Hour)
		if u, err := p.Upload(t.Context(), "", u.ID()); err != nil {
			t.Fatal(err)
		} else if _, err := u.Commit(t.Context(), d, registry.Chunk{Start: -1, End: -1}); err == nil {
			if why, err := f.gc.Why(t.Context(), d); err != nil || why.Damaged != "" || !why.Exists {
				t.Errorf("cut at %v, the blob was made, and is %+v, %v", kind, why, err)
			}
		}
		if !met {
			t.Error("no blob was made")
		}
		f.clock.advance(3 * grace) // nothing is left for the next
		f.clean()
		f.clean()
	}
}

// failing fails all changes of a kind of object.
type failing struct {
	storage.Driver
	kind registry.Kind
	err  error
}

func (d failing) Put(ctx context.Context, key string, r io.Reader, size int64, cond storage.Cond) (storage.Info, error) {
	if registry.KindOf(key) == d.kind {
		return storage.Info{}, d.err
	}
	return d.Driver.Put(ctx, key, r, size, cond)
}

func (d failing) Delete(ctx context.Context, key string, cond storage.Cond) error {
	if registry.KindOf(key) == d.kind {
		return d.err
	}
	return d.Driver.Delete(ctx, key, cond)
}
