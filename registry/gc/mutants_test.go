package gc_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"slices"
	"strings"
	"testing"

	"berth/registry"
	"berth/storage"
)

var mutantSeeds = flag.Int("mutant.seeds", 0, "how many seeds the model may take to find out a mutant; 0: only those that it finds out at once are tried")

// A decorated driver changes how puts, deletions and reads reach the store.
type decorated struct {
	storage.Driver
	put    func(ctx context.Context, key string, body []byte, cond storage.Cond) (info storage.Info, handled bool, err error)
	delete func(cond storage.Cond) storage.Cond
	open   func(err error) error
	ctx    func(context.Context) context.Context
	all    func([]storage.Object) []storage.Object
	list   func(ctx context.Context, prefix, after string) iter.Seq2[storage.Info, error]
}

func (d *decorated) context(ctx context.Context) context.Context {
	if d.ctx != nil {
		return d.ctx(ctx)
	}
	return ctx
}

func (d *decorated) Open(ctx context.Context, key string, off, n int64) (io.ReadCloser, storage.Info, error) {
	r, info, err := d.Driver.Open(d.context(ctx), key, off, n)
	if d.open != nil {
		err = d.open(err)
	}
	return r, info, err
}

func (d *decorated) Stat(ctx context.Context, key string) (storage.Info, error) {
	return d.Driver.Stat(d.context(ctx), key)
}

func (d *decorated) Put(ctx context.Context, key string, r io.Reader, size int64, cond storage.Cond) (storage.Info, error) {
	ctx = d.context(ctx)
	if d.put != nil && !registry.IsData(key) {
		body, err := io.ReadAll(r)
		if err != nil {
			return storage.Info{}, err
		}
		if info, handled, err := d.put(ctx, key, body, cond); handled {
			return info, err
		}
		r = bytes.NewReader(body)
	}
	return d.Driver.Put(ctx, key, r, size, cond)
}

func (d *decorated) PutAll(ctx context.Context, objects []storage.Object) ([]storage.Info, error) {
	if d.all != nil {
		objects = d.all(objects)
	}
	var infos []storage.Info
	for _, o := range objects {
		info, err := d.Put(ctx, o.Key, bytes.NewReader(o.Body), int64(len(o.Body)), o.Cond)
		if err != nil {
			return infos, err
		}
		infos = append(infos, info)
	}
	return infos, nil
}

func (d *decorated) Delete(ctx context.Context, key string, cond storage.Cond) error {
	if d.delete != nil {
		cond = d.delete(cond)
	}
	return d.Driver.Delete(d.context(ctx), key, cond)
}

func (d *decorated) List(ctx context.Context, prefix, after string) iter.Seq2[storage.Info, error] {
	if d.list != nil {
		return d.list(ctx, prefix, after)
	}
	return d.Driver.List(d.context(ctx), prefix, after)
}

// pretended answers a put that does not take place as if it had.
func pretended(ctx context.Context, d storage.Driver, key string, cond storage.Cond) (storage.Info, bool, error) {
	info, err := d.Stat(ctx, key)
	if exists := err == nil; !cond.Holds(exists, info.Rev) {
		return info, true, storage.ErrConflict
	}
	put, err := d.Put(ctx, "config/clock", strings.NewReader("x"), 1, storage.Cond{}) // which takes as long
	info.ModTime = put.ModTime                                                        // an older one would say that the clock is off
	return info, true, err
}

// without suppresses the puts that a rule is about.
func without(suppress func(key string, body []byte, cond storage.Cond) bool) func(storage.Driver) storage.Driver {
	return func(d storage.Driver) storage.Driver {
		return &decorated{Driver: d, put: func(ctx context.Context, key string, body []byte, cond storage.Cond) (storage.Info, bool, error) {
			if suppress(key, body, cond) {
				return pretended(ctx, d, key, cond)
			}
			return storage.Info{}, false, nil
		}}
	}
}

func isRewrite(kind registry.Kind) func(string, []byte, storage.Cond) bool {
	return func(key string, _ []byte, cond storage.Cond) bool {
		_, match := cond.Rev()
		return match && registry.KindOf(key) == kind
	}
}

// uploadOf decodes the record of an upload, if that is what is put.
func uploadOf(key string, body []byte) (u struct{ State, Pending string }, ok bool) {
	if registry.KindOf(key) != registry.UploadKind {
		return u, false
	}
	header, _, _ := bytes.Cut(body, []byte("\n"))
	return u, json.Unmarshal(header, &u) == nil
}

// later makes objects of some kinds look as if they were touched three quarters of the grace later: so the threshold of a
// quarter becomes a whole.
type later struct {
	storage.Driver
}

func (l later) Open(ctx context.Context, key string, off, n int64) (io.ReadCloser, storage.Info, error) {
	r, info, err := l.Driver.Open(ctx, key, off, n)
	if kind := registry.KindOf(key); kind == registry.LinkKind || kind == registry.BlobKind {
		info.ModTime = info.ModTime.Add(modelGrace * 3 / 4)
	}
	return r, info, err
}

// blobsFirst lists blob records before uploads, instead of after them, and for the second look no more.
type blobsFirst struct {
	storage.Driver
	infos *[]storage.Info // of this run; nil: uploads were not listed yet
}

func (b blobsFirst) List(ctx context.Context, prefix, after string) iter.Seq2[storage.Info, error] {
	switch {
	case prefix == registry.RepositoryPrefix: // which a run lists before all uploads
		*b.infos = nil
	case prefix == registry.UploadPrefix && *b.infos == nil:
		*b.infos = []storage.Info{}
		for info, err := range b.Driver.List(ctx, registry.BlobPrefix, "") {
			if err == nil {
				*b.infos = append(*b.infos, info)
			}
		}
	case prefix == registry.BlobPrefix && *b.infos != nil:
		infos := *b.infos
		return func(yield func(storage.Info, error) bool) {
			for _, info := range infos {
				if !yield(info, nil) {
					return
				}
			}
		}
	}
	return b.Driver.List(ctx, prefix, after)
}

// mutants break the rules of docs/design.md one by one.
var mutants = []mutant{
	{name: "a link that is relied upon is not touched", plain: true, registry: without(isRewrite(registry.LinkKind))},
	{name: "a blob record that is relied upon is not touched", plain: true, registry: without(isRewrite(registry.BlobKind))},
	{name: "a closed upload is not renewed before a blob is made of it", registry: notRenewed},
	{name: "closing an upload is no claim", plain: true, registry: without(func(key string, body []byte, _ storage.Cond) bool {
		u, ok := uploadOf(key, body)
		return ok && u.State == "closed"
	})},
	{name: "a long body is not held", registry: without(func(key string, body []byte, _ storage.Cond) bool {
		u, ok := uploadOf(key, body)
		return ok && u.Pending != ""
	})},
	{name: "what was touched within the whole grace is not touched again", registry: func(d storage.Driver) storage.Driver { return later{d} }},
	{name: "a request relies for as long as it takes", registry: func(d storage.Driver) storage.Driver {
		return &decorated{Driver: d, ctx: context.WithoutCancel}
	}},
	{name: "the link is put before the blob record", registry: func(d storage.Driver) storage.Driver {
		return &decorated{Driver: d, all: func(objects []storage.Object) []storage.Object {
			if n := len(objects); n >= 2 && registry.KindOf(objects[n-1].Key) == registry.LinkKind {
				objects = slices.Clone(objects)
				objects[n-1], objects[n-2] = objects[n-2], objects[n-1]
			}
			return objects
		}}
	}},
	{name: "the collector deletes without a condition", collector: func(d storage.Driver) storage.Driver {
		return &decorated{Driver: d, delete: func(storage.Cond) storage.Cond { return storage.Cond{} }}
	}},
	{name: "a failed read counts as nothing there", plain: true, collector: func(d storage.Driver) storage.Driver {
		return &decorated{Driver: d, open: func(err error) error {
			if errors.Is(err, storage.ErrUnavailable) {
				return fmt.Errorf("passed over: %w", fs.ErrNotExist)
			}
			return err
		}}
	}},
	{name: "the start of a layer is taken too late", late: modelGrace * 3 / 4},
	{name: "whoever deletes a blob from a repository deletes its record", plain: true, registry: func(d storage.Driver) storage.Driver { return deletesRecords{d} }},
	{name: "a purge leaves no note", registry: noteless},
	{name: "a manifest without a tag is no root", plain: true, collector: func(d storage.Driver) storage.Driver { return taggedOnly{d} }},
	{name: "a blob that only an index names is garbage", collector: func(d storage.Driver) storage.Driver { return blind{d} }},
	{name: "what a listing did not have is gone", collector: func(d storage.Driver) storage.Driver { return believesListings{d} }},
	{name: "blob records are read before uploads", fearless: true, collector: func(d storage.Driver) storage.Driver {
		return blobsFirst{Driver: d, infos: new([]storage.Info)}
	}},
}

// deletesRecords deletes the record of a blob with a link.
type deletesRecords struct{ storage.Driver }

func (d deletesRecords) Delete(ctx context.Context, key string, cond storage.Cond) error {
	k := registry.ParseKey(key)
	if err := d.Driver.Delete(ctx, key, cond); err != nil || k.Kind != registry.LinkKind {
		return err
	}
	return d.Driver.Delete(ctx, registry.KeyOfBlob(k.Digest), storage.Cond{})
}

// noteless removes the record of a blob that is purged.
func noteless(d storage.Driver) storage.Driver {
	return &decorated{Driver: d, put: func(ctx context.Context, key string, body []byte, cond storage.Cond) (storage.Info, bool, error) {
		var b modelBlob
		header, _, _ := bytes.Cut(body, []byte("\n"))
		if registry.KindOf(key) != registry.BlobKind || json.Unmarshal(header, &b) != nil || !b.Purged {
			return storage.Info{}, false, nil
		}
		return storage.Info{}, true, d.Delete(ctx, key, storage.Cond{})
	}}
}

// taggedOnly lists no manifest but those that hints lead from.
type taggedOnly struct{ storage.Driver }

func (d taggedOnly) List(ctx context.Context, prefix, after string) iter.Seq2[storage.Info, error] {
	return func(yield func(storage.Info, error) bool) {
		var all []storage.Info
		tagged := map[registry.Digest]bool{}
		for info, err := range d.Driver.List(ctx, prefix, after) {
			if err != nil {
				yield(info, err)
				return
			}
			all = append(all, info)
			if k := registry.ParseKey(info.Key); k.Kind == registry.HintKind {
				tagged[k.Digest] = true
			}
		}
		for _, info := range all {
			if k := registry.ParseKey(info.Key); k.Kind == registry.ManifestKind && !tagged[k.Digest] {
				continue
			}
			if !yield(info, nil) {
				return
			}
		}
	}
}

// blind reads indexes as if they were gone.
type blind struct{ storage.Driver }

func (d blind) Open(ctx context.Context, key string, off, n int64) (io.ReadCloser, storage.Info, error) {
	r, info, err := d.Driver.Open(ctx, key, off, n)
	if err != nil || registry.KindOf(key) != registry.ManifestKind {
		return r, info, err
	}
	body, err := io.ReadAll(r)
	if err == nil && bytes.Contains(body, []byte(indexType)) {
		err = fs.ErrNotExist
	}
	return io.NopCloser(bytes.NewReader(body)), info, err
}

// believesListings finds no manifest by asking for it.
type believesListings struct{ storage.Driver }

func (d believesListings) Stat(ctx context.Context, key string) (storage.Info, error) {
	if registry.KindOf(key) == registry.ManifestKind {
		return storage.Info{}, fs.ErrNotExist
	}
	return d.Driver.Stat(ctx, key)
}

// notRenewed suppresses the puts of closed uploads that were closed before.
func notRenewed(d storage.Driver) storage.Driver {
	return &decorated{Driver: d, put: func(ctx context.Context, key string, body []byte, cond storage.Cond) (storage.Info, bool, error) {
		if u, ok := uploadOf(key, body); !ok || u.State != "closed" {
			return storage.Info{}, false, nil
		}
		present, _, err := storage.ReadAll(ctx, d, key, 1<<20)
		if u, ok := uploadOf(key, present); err != nil || !ok || u.State != "closed" {
			return storage.Info{}, false, nil
		}
		return pretended(ctx, d, key, cond)
	}}
}

// TestMutants breaks each rule in turn: the model must find out, and tell how.
func TestMutants(t *testing.T) {
	seeds := *mutantSeeds
	for _, m := range mutants {
		if *mutantSeeds == 0 {
			if seeds = 100; !m.plain {
				continue // one history in a hundred shows it
			}
		}
		t.Run(strings.ReplaceAll(m.name, " ", "-"), func(t *testing.T) {
			for seed := range uint64(seeds) {
				if broken, w := model(t, *modelSeed+seed, m, *modelSteps); broken != "" {
					first, _, _ := strings.Cut(broken, "\n")
					t.Logf("found after %d histories: %s", seed+1, first)
					if testing.Verbose() {
						t.Log(w.story(25))
					}
					return
				}
			}
			t.Errorf("%d histories do not find it out", seeds)
		})
	}
}
