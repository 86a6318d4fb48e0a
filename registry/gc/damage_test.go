package gc_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"berth/registry"
	"berth/registry/gc"
	"berth/storage"
	"berth/storage/cached"
	"berth/storage/filesystem"
	"berth/storage/storagetest"
)

// TestFailedMark fails each read of a run, one after another: what a manifest names must never go.
func TestFailedMark(t *testing.T) {
	f := newFixture(t, gc.Options{Concurrency: 1})
	p := f.repository("a")
	config, data := f.push(p, "config"), f.push(p, large("layer"))
	f.put(p, "v1", image("", config, data))
	f.push(f.repository("b"), large("garbage"))
	kept := slices.DeleteFunc(f.keys(), func(key string) bool { return strings.Contains(key, "/b/") || strings.Contains(key, "data/") })
	f.clock.advance(2 * grace)
	for n := 1; ; n++ {
		for _, mode := range []storagetest.Mode{storagetest.FailBefore, storagetest.FailMidway, storagetest.FailAfter, storagetest.ConflictAfter} {
			f.flaky.FailNth(n, mode)
			_, err := gc.New(f.flaky, f.registry, gc.Options{Now: f.clock.now, Elapsed: f.clock.elapsed, Holder: "test"}).Run(t.Context(), gc.RunOptions{})
			if err != nil && !errors.Is(err, storage.ErrUnavailable) && !errors.Is(err, storage.ErrConflict) && !errors.Is(err, gc.ErrBusy) {
				t.Fatalf("call %d: %v", n, err)
			}
			keys := f.keys()
			for _, key := range kept {
				if key != "blobs/" && !slices.Contains(keys, key) && !strings.HasPrefix(key, "blobs/sha256/") {
					t.Fatalf("failing call %d in way %d lost %s", n, mode, key)
				}
			}
			for _, d := range []registry.Digest{config, data} {
				if b, err := p.Blob(t.Context(), d); err != nil {
					t.Fatalf("failing call %d in way %d: %v", n, mode, err)
				} else if r, err := b.Open(t.Context(), 0, b.Size); err != nil {
					t.Fatalf("failing call %d in way %d: %v", n, mode, err)
				} else {
					r.Close()
				}
			}
		}
		if f.flaky.Faults() == 0 {
			break
		}
	}
	f.flaky.Plan(nil)
	f.clean()
	if keys := f.keys(); slices.ContainsFunc(keys, func(key string) bool { return strings.Contains(key, "/b/") }) {
		t.Errorf("garbage is left: %q", keys)
	}
}

// A lacking driver has one listing, the nth, lack what is replaced at that moment.
type lacking struct {
	storage.Driver
	n       int
	replace func() (replaced []string)
}

func (l *lacking) List(ctx context.Context, prefix, after string) iter.Seq2[storage.Info, error] {
	if l.n--; l.n != 0 {
		return l.Driver.List(ctx, prefix, after)
	}
	replaced := l.replace()
	return func(yield func(storage.Info, error) bool) {
		for info, err := range l.Driver.List(ctx, prefix, after) {
			if !slices.Contains(replaced, info.Key) && !yield(info, err) {
				return
			}
		}
	}
}

// TestListingsThatLack has each listing of a run lack, one after another, all that is renewed when it begins: nothing of it must go.
func TestListingsThatLack(t *testing.T) {
	for n, more := 1, true; more; n++ {
		f := newFixture(t, gc.Options{})
		p := f.repository("a")
		pushAll := func() { f.put(p, "v1", image("", f.push(p, "config"), f.push(p, large("layer")))) }
		pushAll()
		f.push(f.repository("b"), large("garbage"))
		f.clock.advance(2 * grace)
		revs := func() map[string]storage.Rev {
			all := map[string]storage.Rev{}
			for _, key := range f.keys() {
				info, err := f.store.Stat(t.Context(), key)
				if err != nil {
					t.Fatal(err)
				}
				all[key] = info.Rev
			}
			return all
		}
		store := &lacking{Driver: f.store, n: n, replace: func() (replaced []string) {
			before := revs()
			pushAll()
			for key, rev := range revs() {
				if before[key] != "" && before[key] != rev {
					replaced = append(replaced, key)
				}
			}
			if len(replaced) < 3 {
				t.Errorf("only %q were replaced", replaced)
			}
			return replaced
		}}
		if _, err := gc.New(store, f.registry, gc.Options{Now: f.clock.now, Elapsed: f.clock.elapsed, Holder: "test"}).Run(t.Context(), gc.RunOptions{}); err != nil {
			t.Fatal(err)
		}
		more = store.n <= 0
		for _, content := range []string{"config", large("layer")} {
			b, err := p.Blob(t.Context(), registry.SHA256.FromBytes([]byte(content)))
			if err != nil {
				t.Fatalf("when listing %d lacks something: %v", n, err)
			}
			r, err := b.Open(t.Context(), 0, b.Size)
			if err != nil {
				t.Fatalf("when listing %d lacks something: %v", n, err)
			}
			r.Close()
		}
		if keys := f.keys(); !slices.Contains(keys, "catalog/a!") {
			t.Fatalf("when listing %d lacks something: the catalog has lost the repository; there are %q", n, keys)
		}
	}
}

// TestDamagedManifest wants a manifest that cannot be read to keep every link of its repository, and the report to say so.
func TestDamagedManifest(t *testing.T) {
	f := newFixture(t, gc.Options{})
	p := f.repository("a")
	config := f.push(p, "config")
	d := f.put(p, "v1", image("", config))
	key := "repositories/a/_manifests/sha256/" + d.Hex()
	body, _, err := storage.ReadAll(t.Context(), f.store, key, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	broken := strings.Replace(string(body), config.Hex()[:8], "00000000", 1)
	if _, err := f.store.Put(t.Context(), key, strings.NewReader(broken), int64(len(broken)), storage.Cond{}); err != nil {
		t.Fatal(err)
	}
	f.push(f.repository("b"), "garbage")
	f.clock.advance(2 * grace)
	r := f.run(gc.RunOptions{})
	if _, err := p.Blob(t.Context(), config); err != nil {
		t.Error(err)
	}
	if l := layer(r, "links"); !strings.Contains(l.Skipped, "links of a") || l.Failed != 1 || l.Removed != 1 {
		t.Errorf("the layer is %+v", l)
	}
}

// TestDamagedReferrers damages the pages of referrers of several subjects: one collection writes all of them anew, and says so.
func TestDamagedReferrers(t *testing.T) {
	f := newFixture(t, gc.Options{})
	p := f.repository("a")
	config := f.push(p, "config")
	var subjects []registry.Digest
	for i := range 3 {
		subjects = append(subjects, f.put(p, fmt.Sprint("v", i), image("", config, f.push(p, fmt.Sprint("layer", i)))))
		f.put(p, fmt.Sprint("signature", i), image(subjects[i].String(), config))
	}
	listed := func() (n int, err error) {
		for _, subject := range subjects {
			all, _, listErr := p.Referrers(t.Context(), subject, "", "", 1<<20)
			n, err = n+len(all), errors.Join(err, listErr)
		}
		return n, err
	}
	for _, key := range f.keys() {
		if strings.Contains(key, "/_referrers/") {
			if _, err := f.store.Put(t.Context(), key, strings.NewReader("damaged"), 7, storage.Cond{}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if report := f.run(gc.RunOptions{DryRun: true}); report.Failed() != 3 {
		t.Errorf("a dry run: %+v", report)
	}
	if n, err := listed(); err == nil {
		t.Errorf("%d are listed after a dry run", n)
	}
	if report := f.run(gc.RunOptions{}); report.Failed() != 3 {
		t.Errorf("a run: %+v", report)
	}
	if n, err := listed(); n != 3 || err != nil {
		t.Errorf("%d are listed after a run, %v", n, err)
	}
	f.clean()
}

// TestSealedPages wants pages of referrers that list nothing any more to go when nobody else uses the store, those after one that
// lists something, too; and a repository of which nothing else is left to be none.
func TestSealedPages(t *testing.T) {
	f := newFixture(t, gc.Options{})
	p := f.repository("a")
	config := f.push(p, "config")
	subject := f.put(p, "v1", image("", config))
	signature := f.put(p, "", image(subject.String(), config))
	pages := p.Referring() + "sha256/" + subject.Hex() + "/"
	listed, _, err := storage.ReadAll(t.Context(), f.store, pages+"0", 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	_, list, _ := strings.Cut(string(listed), "\n")
	for page, body := range map[string]string{"0": `{"nonce":"a","sealed":true}` + "\n[]", "1": `{"nonce":"b","sealed":true}` + "\n" + list,
		"2": `{"nonce":"c","sealed":true}` + "\n[]", "3": `{"nonce":"d","sealed":true}` + "\n[]"} {
		if _, err := f.store.Put(t.Context(), pages+page, strings.NewReader(body), int64(len(body)), storage.Cond{}); err != nil {
			t.Fatal(err)
		}
	}
	left := func() string {
		var names []string
		for _, key := range f.keys() {
			if name, ok := strings.CutPrefix(key, pages); ok {
				names = append(names, name)
			}
		}
		return strings.Join(names, " ")
	}
	f.clock.advance(2 * grace)
	f.clean()
	if got := left(); got != "0 1 2 3" {
		t.Errorf("beside others, who may be about to go on from a sealed page, a collection left %q", got)
	}
	f.run(gc.RunOptions{Alone: true})
	if got := left(); got != "0 1" {
		t.Errorf("alone it left %q", got)
	}
	if all, _, err := p.Referrers(t.Context(), subject, "", "", 1<<20); err != nil || len(all) != 1 {
		t.Errorf("%d referrers, %v", len(all), err)
	}
	for _, d := range []registry.Digest{signature, subject} {
		if err := p.DeleteManifest(t.Context(), d); err != nil {
			t.Fatal(err)
		}
	}
	f.clock.advance(2 * grace)
	f.clean()
	if _, err := p.Remove(t.Context(), false); registry.CodeOf(err) != registry.NameUnknown || left() == "" {
		t.Errorf("to remove a repository of which there are but pages %q: %v", left(), err)
	}
	f.run(gc.RunOptions{Alone: true})
	if keys := f.keys(); len(keys) != 0 {
		t.Errorf("in the end there is %q", keys)
	}
}

// TestDamagedBlobRecord wants a blob record that cannot be read to keep all data objects, its own among them, until it is
// healed by a push.
func TestDamagedBlobRecord(t *testing.T) {
	f := newFixture(t, gc.Options{})
	p := f.repository("a")
	data := f.push(p, large("layer"))
	f.put(p, "v1", image("", data))
	f.push(p, large("garbage"))
	f.clock.advance(2 * grace)
	key := registry.KeyOfBlob(data)
	if _, err := f.store.Put(t.Context(), key, strings.NewReader("damaged"), 7, storage.Cond{}); err != nil {
		t.Fatal(err)
	}
	r := f.run(gc.RunOptions{})
	if l := layer(r, "data"); l.Removed != 0 || l.Skipped == "" || len(l.Problems) != 1 || !strings.Contains(l.Problems[0], key) {
		t.Errorf("the layer is %+v", l)
	}
	if _, err := f.store.Stat(t.Context(), key); err != nil {
		t.Errorf("the record that a link leads to: %v", err)
	}
	f.push(p, large("layer"))
	f.clock.advance(2 * grace)
	if l := layer(f.clean(), "data"); l.Removed != 2 {
		t.Errorf("once it is healed %d data objects went, want the garbage and the old copy", l.Removed)
	}
	if w, err := f.gc.Why(t.Context(), data); err != nil || !w.Kept || w.Damaged != "" {
		t.Errorf("%+v, %v", w, err)
	}
}

// TestDamagedUpload wants the record of an upload that cannot be read to keep all data objects for as long as it could be one of
// an upload that goes on, and no longer: nobody can heal it.
func TestDamagedUpload(t *testing.T) {
	for _, age := range []time.Duration{0, 7 * grace} { // 0: open uploads stay
		t.Run(age.String(), func(t *testing.T) { damagedUpload(t, age) })
	}
}

func damagedUpload(t *testing.T, age time.Duration) {
	f := newFixture(t, gc.Options{UploadAge: age})
	p := f.repository("a")
	data := f.push(p, large("layer"))
	f.put(p, "v1", image("", data))
	f.push(p, large("garbage"))
	u := p.NewUpload("", registry.SHA256)
	if err := u.Append(t.Context(), registry.Chunk{Body: strings.NewReader("part"), Size: 4, Start: -1, End: -1}); err != nil {
		t.Fatal(err)
	}
	key := registry.UploadPrefix + u.UUID()
	if _, err := f.store.Put(t.Context(), key, strings.NewReader("damaged"), 7, storage.Cond{}); err != nil {
		t.Fatal(err)
	}
	f.clock.advance(2 * grace)
	r := f.run(gc.RunOptions{})
	if l := layer(r, "data"); l.Removed != 0 || len(l.Problems) != 1 || !strings.Contains(l.Problems[0], key) {
		t.Errorf("the layer is %+v", l)
	}
	f.clock.advance(6 * grace)
	r = f.clean()
	if u, l := layer(r, "uploads"), layer(r, "data"); u.Removed != 1 || l.Removed != 2 {
		t.Errorf("once it is older than any upload: %+v, %+v", u, l)
	}
	if b, err := p.Blob(t.Context(), data); err != nil {
		t.Error(err)
	} else if r, err := b.Open(t.Context(), 0, b.Size); err != nil {
		t.Error(err)
	} else {
		r.Close()
	}
}

// A tidied driver has leftovers of two objects.
type tidied struct {
	storage.Driver
	gone []string
}

func (d *tidied) Tidy(_ context.Context, _ time.Time, keep func(string) bool) (int, int64, error) {
	d.gone = slices.DeleteFunc([]string{"data/1/on-its-way", "data/1/cut-short"}, keep)
	return len(d.gone), 0, nil
}

// TestLeftoversOnTheirWay wants the driver to keep what it has of a body that has been flowing for longer than the grace.
func TestLeftoversOnTheirWay(t *testing.T) {
	f := newFixture(t, gc.Options{})
	record := `{"nonce":"n","state":"open","pending":"data/1/on-its-way"}` + "\n"
	if _, err := f.store.Put(t.Context(), registry.UploadPrefix+"u", strings.NewReader(record), int64(len(record)), storage.Cond{}); err != nil {
		t.Fatal(err)
	}
	store := &tidied{Driver: f.store}
	f.gc = gc.New(store, f.registry, gc.Options{Now: f.clock.now, Elapsed: f.clock.elapsed, Holder: "test"})
	if l := layer(f.clean(), "leftovers"); l.Removed != 1 || !slices.Equal(store.gone, []string{"data/1/cut-short"}) {
		t.Errorf("there went %q, the report has %d", store.gone, l.Removed)
	}
}

// A full driver has room for some objects more, and tells the time without. To replace one takes room for another meanwhile.
type full struct {
	storage.Driver
	clock *clock
	mu    sync.Mutex
	room  int
}

func (d *full) Now() (time.Time, error) { return d.clock.now(), nil }

func (d *full) Put(ctx context.Context, key string, r io.Reader, size int64, cond storage.Cond) (storage.Info, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.room == 0 {
		return storage.Info{}, fmt.Errorf("put %s: %w", key, storage.ErrNoSpace)
	}
	if _, err := d.Stat(ctx, key); err != nil {
		d.room--
	}
	return d.Driver.Put(ctx, key, r, size, cond)
}

func (d *full) Delete(ctx context.Context, key string, cond storage.Cond) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, err := d.Stat(ctx, key); err == nil {
		d.room++
	}
	return d.Driver.Delete(ctx, key, cond)
}

// TestFullStorage collects a storage without room for a lease, for asking the time by a put, or for a report: what makes room takes none.
func TestFullStorage(t *testing.T) {
	f := newFixture(t, gc.Options{})
	p := f.repository("a")
	kept := f.push(p, large("kept"))
	f.put(p, "v1", image("", kept))
	for i := range 10 {
		f.push(p, large(fmt.Sprint(i)))
	}
	f.clock.advance(2 * grace)
	store := &full{Driver: f.store, clock: f.clock}
	reg, err := registry.Open(t.Context(), store, &registry.Options{Now: f.clock.now, Grace: grace})
	if err != nil {
		t.Fatal(err)
	}
	f.gc = gc.New(store, reg, gc.Options{Now: f.clock.now, Elapsed: f.clock.elapsed, Holder: "test", Keep: 2})
	if r := f.clean(); layer(r, "links").Removed != 10 || layer(r, "blobs").Removed != 10 || layer(r, "data").Removed != 10 {
		t.Errorf("on a full storage: %+v", r)
	}
	for range 2 {
		f.clock.advance(time.Hour)
		f.clean()
	}
	store.room = 0 // and no garbage: a report makes room for the next
	f.clock.advance(time.Hour)
	last := f.clean()
	if reports, err := f.gc.History(t.Context(), 10); err != nil || len(reports) != 2 || reports[0].ID != last.ID {
		t.Errorf("the reports are %+v, %v", reports, err)
	}
}

// TestRunsThatCannotBegin wants a run to be told of whose lease cannot be taken, unless that is held.
func TestRunsThatCannotBegin(t *testing.T) {
	var told error
	f := newFixture(t, gc.Options{Ended: func(_ *gc.Report, err error) { told = err }})
	f.flaky.FailNth(2, storagetest.FailBefore)
	if _, err := f.gc.Run(t.Context(), gc.RunOptions{}); !errors.Is(err, storage.ErrUnavailable) || !errors.Is(told, storage.ErrUnavailable) {
		t.Errorf("the run: %v; told: %v", err, told)
	}
}

// TestOnDisk collects a store on a disk, below the cache that serves: what goes is not served from memory either, and leaves
// neither files nor folders.
func TestOnDisk(t *testing.T) {
	root := t.TempDir()
	files, err := filesystem.Open(t.Context(), filesystem.Options{Root: root})
	if err != nil {
		t.Fatal(err)
	}
	defer files.Close()
	store := cached.New(files, &cached.Options{Skip: registry.IsData})
	reg, err := registry.Open(t.Context(), store, nil)
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{T: t, store: store, registry: reg, gc: gc.New(store, reg, gc.Options{Scan: files})}
	p := f.repository("a")
	config, data, gone := f.push(p, "config"), f.push(p, large("layer")), f.push(p, large("gone"))
	d := f.put(p, "v1", image("", config, data))
	if r := f.clean(); layer(r, "links").Young != 1 {
		t.Errorf("within the grace: %+v", layer(r, "links"))
	}
	if r := f.run(gc.RunOptions{Alone: true}); layer(r, "links").Removed != 1 || layer(r, "data").Removed != 1 {
		t.Errorf("alone: %+v, %+v", layer(r, "links"), layer(r, "data"))
	}
	if _, err := p.Blob(t.Context(), gone); registry.CodeOf(err) != registry.BlobUnknown {
		t.Errorf("what went is still served: %v", err)
	}
	if _, err := p.Blob(t.Context(), data); err != nil {
		t.Error(err)
	}
	if err := p.DeleteManifest(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	f.run(gc.RunOptions{Alone: true})
	if keys := f.keys(); len(keys) != 0 {
		t.Errorf("left %q", keys)
	}
	for _, folder := range []string{"repositories", "blobs", "data"} {
		err := filepath.WalkDir(filepath.Join(root, "objects", folder), func(path string, _ fs.DirEntry, err error) error {
			if err == nil {
				t.Errorf("left %s", path)
			}
			return nil
		})
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Error(err)
		}
	}
}
