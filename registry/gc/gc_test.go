package gc_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"berth/registry"
	"berth/registry/gc"
	"berth/storage"
	"berth/storage/memory"
	"berth/storage/storagetest"
)

// A clock is the time of a store, of its registries and of its collectors.
type clock struct {
	mu   sync.Mutex
	at   time.Time
	jump time.Duration // of what elapsed does not know
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at.Add(c.jump)
}

func (c *clock) elapsed() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at.Sub(time.Unix(0, 0))
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

const grace = 24 * time.Hour

// A fixture is a collector over a store, with short ways to say what tests do.
type fixture struct {
	*testing.T
	clock    *clock
	store    storage.Driver
	flaky    *storagetest.Flaky
	registry *registry.Registry
	gc       *gc.Collector
}

func newFixture(t *testing.T, o gc.Options) *fixture {
	t.Helper()
	c := &clock{at: time.Date(2026, 11, 1, 0, 0, 0, 500, time.UTC)}
	store := memory.NewWith(memory.Options{Now: c.now})
	f := &fixture{T: t, clock: c, store: store, flaky: storagetest.NewFlaky(store)}
	var err error
	if f.registry, err = registry.Open(t.Context(), store, &registry.Options{Now: c.now, Grace: grace, UploadAge: o.UploadAge}); err != nil {
		t.Fatal(err)
	}
	o.Now, o.Elapsed, o.Holder = c.now, c.elapsed, "test"
	f.gc = gc.New(f.flaky, f.registry, o)
	return f
}

func (f *fixture) repository(name string) registry.Repository {
	f.Helper()
	n, err := registry.ParseName(name)
	if err != nil {
		f.Fatal(err)
	}
	return f.registry.Repository(n)
}

// push pushes a blob: with bytes beyond what is kept in a record, as a data object.
func (f *fixture) push(p registry.Repository, content string) registry.Digest {
	f.Helper()
	d := registry.SHA256.FromBytes([]byte(content))
	if _, err := p.PushBlob(f.Context(), d, strings.NewReader(content), int64(len(content))); err != nil {
		f.Fatal(err)
	}
	return d
}

// large is content of a data object.
func large(what string) string { return what + strings.Repeat(".", 10<<10) }

type descriptor struct {
	MediaType string `json:"mediaType"`
	Digest    string `json:"digest"`
	Size      int    `json:"size"`
}

// image returns an image manifest of blobs, the first its config.
func image(subject string, blobs ...registry.Digest) []byte {
	list := make([]descriptor, len(blobs))
	for i, d := range blobs {
		list[i] = descriptor{"application/octet-stream", d.String(), 1}
	}
	m := map[string]any{"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": list[0], "layers": list[1:]}
	if subject != "" {
		m["subject"] = descriptor{"application/vnd.oci.image.manifest.v1+json", subject, 1}
	}
	text, err := json.Marshal(m)
	if err != nil {
		panic(err)
	}
	return text
}

// put pushes a manifest to a tag, or by digest if that is empty.
func (f *fixture) put(p registry.Repository, tag string, body []byte) registry.Digest {
	f.Helper()
	d := registry.SHA256.FromBytes(body)
	if tag == "" {
		tag = d.String()
	}
	ref, err := registry.ParseReference(tag)
	if err != nil {
		f.Fatal(err)
	}
	if _, err := p.PutManifest(f.Context(), registry.ManifestPush{Reference: ref, Body: body}); err != nil {
		f.Fatal(err)
	}
	return d
}

func (f *fixture) run(o gc.RunOptions) *gc.Report {
	f.Helper()
	r, err := f.gc.Run(f.Context(), o)
	if err != nil {
		f.Fatal(err)
	}
	return r
}

// clean runs a collection that must have no problems.
func (f *fixture) clean() *gc.Report {
	f.Helper()
	r := f.run(gc.RunOptions{})
	for _, l := range r.Layers {
		if l.Failed > 0 {
			f.Errorf("%s: %q", l.Name, l.Problems)
		}
	}
	return r
}

// keys returns the keys under the prefixes of content.
func (f *fixture) keys() []string {
	f.Helper()
	var keys []string
	for _, prefix := range []string{"repositories/", "blobs/", "data/", "uploads/", "catalog/", "leases/"} {
		for info, err := range f.store.List(f.Context(), prefix, "") {
			if err != nil {
				f.Fatal(err)
			}
			keys = append(keys, info.Key)
		}
	}
	return keys
}

func layer(r *gc.Report, name string) *gc.Layer {
	i := slices.IndexFunc(r.Layers, func(l *gc.Layer) bool { return l.Name == name })
	if i < 0 {
		return &gc.Layer{Name: "no layer " + name}
	}
	return r.Layers[i]
}

// TestEverythingUnreachedGoes deletes all there is of every kind: nothing is left after the grace, and nothing goes before.
func TestEverythingUnreachedGoes(t *testing.T) {
	f := newFixture(t, gc.Options{UploadAge: 48 * time.Hour})
	p, q := f.repository("a"), f.repository("a/b")
	config, data := f.push(p, "config"), f.push(p, large("layer"))
	if _, err := q.MountBlob(t.Context(), data, p.Name()); err != nil {
		t.Fatal(err)
	}
	f.push(q, "never named")
	d := f.put(p, "v1", image("", config, data))
	referrer := f.put(p, "", image(d.String(), config))
	open, cancelled := p.NewUpload("", registry.SHA256), p.NewUpload("", registry.SHA256)
	for _, u := range []*registry.Upload{open, cancelled} {
		if err := u.Append(t.Context(), registry.Chunk{Body: strings.NewReader("part"), Size: 4, Start: -1, End: -1}); err != nil {
			t.Fatal(err)
		}
	}
	if err := cancelled.Cancel(t.Context()); err != nil {
		t.Fatal(err)
	}
	before := f.keys()
	f.clean()
	if got := f.keys(); !slices.Equal(got, before) {
		t.Errorf("what was just pushed went: %q of %q", got, before)
	}
	f.clock.advance(grace + time.Second)
	r := f.clean()
	if n := layer(r, "links").Removed; n != 2 {
		t.Errorf("%d links went, want the two that no manifest mentions", n)
	}
	if n := layer(r, "data").Removed; n != 1 {
		t.Errorf("%d data objects went, want that of the cancelled upload", n)
	}
	for _, d := range []registry.Digest{referrer, d} {
		if err := p.DeleteManifest(t.Context(), d); err != nil {
			t.Fatal(err)
		}
	}
	f.clock.advance(grace + time.Second)
	f.clean()
	if keys := f.keys(); len(keys) != 0 {
		t.Errorf("there is left %q", keys)
	}
}

// TestCancelledUploads wants a cancelled upload to stay one for as long as its id could mean another, and its bytes to go.
func TestCancelledUploads(t *testing.T) {
	for _, o := range []gc.RunOptions{{}, {Alone: true}} {
		f := newFixture(t, gc.Options{UploadAge: 3 * grace})
		p := f.repository("a")
		u := p.NewUpload("", registry.SHA256)
		if err := u.Append(t.Context(), registry.Chunk{Body: strings.NewReader("part"), Size: 4, Start: -1, End: -1}); err != nil {
			t.Fatal(err)
		}
		if err := u.Cancel(t.Context()); err != nil {
			t.Fatal(err)
		}
		f.clock.advance(2 * grace)
		if r := f.run(o); layer(r, "data").Removed != 1 {
			t.Errorf("of a cancelled upload there went %+v", layer(r, "data"))
		}
		if _, err := p.Upload(t.Context(), "", u.ID()); registry.CodeOf(err) != registry.UploadUnknown {
			t.Errorf("a cancelled upload, after a collection: %v", err)
		}
		f.clock.advance(grace + time.Second)
		f.run(o)
		if keys := f.keys(); len(keys) != 0 {
			t.Errorf("there is left %q", keys)
		}
	}
}

// TestDryRun wants a dry run to tell exactly what the next run removes, through all layers, and to remove nothing.
func TestDryRun(t *testing.T) {
	f := newFixture(t, gc.Options{})
	p := f.repository("a")
	config, data := f.push(p, "config"), f.push(p, large("layer"))
	d := f.put(p, "v1", image("", config, data))
	f.push(p, large("never named"))
	if err := p.DeleteManifest(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	f.clock.advance(2 * grace)
	before := f.keys()
	collect := func(dry bool) (found []string, r *gc.Report) {
		var mu sync.Mutex
		r = f.run(gc.RunOptions{DryRun: dry, Found: func(x gc.Finding) {
			mu.Lock()
			defer mu.Unlock()
			found = append(found, fmt.Sprint(x.Layer, " ", x.Key, " ", x.Bytes, " ", x.Why))
		}})
		slices.Sort(found)
		return found, r
	}
	dry, dryReport := collect(true)
	if got := f.keys(); !slices.Equal(got, before) {
		t.Fatalf("a dry run left %q of %q", got, before)
	}
	wet, report := collect(false)
	if !slices.Equal(dry, wet) || len(wet) < 10 {
		t.Errorf("the dry run told\n%s\nwhat went was\n%s", strings.Join(dry, "\n"), strings.Join(wet, "\n"))
	}
	n, size := report.Removed()
	dryN, drySize := dryReport.Removed()
	if n != dryN || size != drySize || size != int64(len("config")+2*(10<<10)+len("layernever named")) {
		t.Errorf("removed %d, %d bytes, told %d, %d", n, size, dryN, drySize)
	}
	if keys := f.keys(); len(keys) != 0 {
		t.Errorf("left %q", keys)
	}
}

// TestUnchangedStoreIsNotReadAgain wants a second run to read no record that it knows.
func TestUnchangedStoreIsNotReadAgain(t *testing.T) {
	f := newFixture(t, gc.Options{})
	p := f.repository("a")
	for i := range 20 {
		config := f.push(p, fmt.Sprint("config", i))
		d := f.put(p, fmt.Sprint("v", i), image("", config, f.push(p, large(fmt.Sprint(i)))))
		f.put(p, "", image(d.String(), config))
	}
	f.clock.advance(2 * grace)
	f.clean()
	f.flaky.Plan(nil)
	f.clean()
	if n := f.flaky.Count(storagetest.OpOpen); n > 5 { // the lease, and the last report
		t.Errorf("an unchanged store is read by %d calls", n)
	}
	if n := f.flaky.Count(storagetest.OpStat); n > 0 {
		t.Errorf("an unchanged store is asked about by %d calls", n)
	}
}

// TestHistory wants the last reports to be kept, and no more than asked for.
func TestHistory(t *testing.T) {
	f := newFixture(t, gc.Options{Keep: 3})
	for range 5 {
		f.clean()
		f.clock.advance(time.Hour)
	}
	got, err := f.gc.History(t.Context(), 10)
	if err != nil || len(got) != 3 || !got[0].Started.After(got[1].Started) || got[0].Calls == 0 {
		t.Errorf("%+v, %v", got, err)
	}
}

// TestOneAtATime wants a run to be refused beside another, also on a machine whose clock is ahead by more than leases last.
func TestOneAtATime(t *testing.T) {
	f := newFixture(t, gc.Options{})
	ahead := func() time.Time { return f.clock.now().Add(2 * time.Minute) }
	other := gc.New(f.store, f.registry, gc.Options{Now: ahead, Elapsed: f.clock.elapsed, Holder: "other"})
	var nested error
	f.push(f.repository("a"), "x")
	f.clock.advance(2 * grace)
	f.run(gc.RunOptions{Found: func(gc.Finding) {
		if nested == nil {
			_, nested = other.Run(context.Background(), gc.RunOptions{})
		}
	}})
	if !errors.Is(nested, gc.ErrBusy) || !strings.Contains(fmt.Sprint(nested), "test") {
		t.Errorf("another run beside this one: %v", nested)
	}
	if _, err := other.Run(t.Context(), gc.RunOptions{}); err != nil {
		t.Errorf("a run after it: %v", err)
	}
}

// TestDamagedReport wants runs to go on when the report of the last one cannot be read.
func TestDamagedReport(t *testing.T) {
	f := newFixture(t, gc.Options{})
	f.clean()
	for info := range f.store.List(t.Context(), "gc/", "") {
		if _, err := f.store.Put(t.Context(), info.Key, strings.NewReader("damaged"), 7, storage.Cond{}); err != nil {
			t.Fatal(err)
		}
	}
	f.clock.advance(time.Hour)
	f.clean()
}

// TestClocks wants no run where a clock cannot be right.
func TestClocks(t *testing.T) {
	var clockError *gc.ClockError
	early := newFixture(t, gc.Options{})
	early.push(early.repository("a"), "pushed when the machine thought it was another day")
	early.clock.jump = 3 * grace
	if _, err := early.gc.Run(t.Context(), gc.RunOptions{}); !errors.As(err, &clockError) || len(early.keys()) != 2 {
		t.Errorf("after a jump before the first run: %v, left %q", err, early.keys())
	}
	f := newFixture(t, gc.Options{})
	f.clean()
	f.clock.jump = 4 * time.Hour
	if _, err := f.gc.Run(t.Context(), gc.RunOptions{}); !errors.As(err, &clockError) || !strings.Contains(err.Error(), "jumped by 4h") {
		t.Errorf("after a jump: %v", err)
	}
	f.clock.advance(grace / 2)
	if _, err := f.gc.Run(t.Context(), gc.RunOptions{}); !errors.As(err, &clockError) {
		t.Errorf("soon after a jump: %v", err)
	}
	f.clock.advance(grace / 2)
	f.clean()
	f.clock.jump = -2 * grace
	restarted := gc.New(f.store, f.registry, gc.Options{Now: f.clock.now, Elapsed: f.clock.elapsed})
	if _, err := restarted.Run(t.Context(), gc.RunOptions{}); !errors.As(err, &clockError) || !strings.Contains(err.Error(), "behind the last run") {
		t.Errorf("before the last run: %v", err)
	}
	skewed := func() time.Time { return f.clock.now().Add(-grace/8 - time.Second) }
	reg, err := registry.Open(t.Context(), f.store, &registry.Options{Now: skewed, Grace: grace})
	if err != nil {
		t.Fatal(err)
	}
	_, err = gc.New(f.store, reg, gc.Options{Now: skewed}).Run(t.Context(), gc.RunOptions{})
	if !errors.As(err, &clockError) || !strings.Contains(err.Error(), "ahead of the clock of this machine") {
		t.Errorf("with a clock that is off: %v", err)
	}
}

// TestJumpWithinALayer has the clock jump while a layer is being swept: nothing more may go, since a push may take what is old
// for fresh.
func TestJumpWithinALayer(t *testing.T) {
	for name, most := range map[string]int64{"links": 1, "blobs": 1, "data": 16} {
		f := newFixture(t, gc.Options{Concurrency: 1})
		for i := range 40 {
			f.push(f.repository("a"), large(fmt.Sprint(i)))
		}
		f.clock.advance(2 * grace)
		report, err := f.gc.Run(t.Context(), gc.RunOptions{Found: func(x gc.Finding) {
			if x.Layer == name {
				f.clock.mu.Lock()
				defer f.clock.mu.Unlock()
				f.clock.jump = -26 * time.Hour
			}
		}})
		l := layer(report, name)
		if _, ok := errors.AsType[*gc.ClockError](err); !ok || l.Removed == 0 || l.Removed > most {
			t.Errorf("of %s %d went, and the run ended with %v", name, l.Removed, err)
		}
		if report.Stopped == "" {
			t.Errorf("the report does not say why it stopped at %s", name)
		}
	}
}

// TestWhy wants to be told which manifests keep a blob, and when one that nothing keeps may go.
func TestWhy(t *testing.T) {
	f := newFixture(t, gc.Options{})
	p := f.repository("a")
	config, data := f.push(p, "config"), f.push(p, large("layer"))
	m := f.put(p, "v1", image("", config, data))
	loose := f.push(p, "loose")
	why := func(d registry.Digest) *gc.Why {
		t.Helper()
		w, err := f.gc.Why(t.Context(), d)
		if err != nil {
			t.Fatal(err)
		}
		return w
	}
	for range 2 { // by reading manifests, and from memory
		if w := why(data); !w.Kept || len(w.Links) != 1 || !slices.Equal(w.Links[0].Manifests, []string{m.String()}) || w.Size != int64(len(large("layer"))) || w.Damaged != "" {
			t.Errorf("a layer is kept by %+v", w)
		}
		f.clean()
	}
	pushed := f.clock.now()
	if w := why(loose); w.Kept || !w.MayGo.Equal(pushed.Add(grace)) {
		t.Errorf("what nothing names: %+v", w)
	}
	if w := why(digestOf("never pushed")); w.Exists || w.Kept || len(w.Links) != 0 {
		t.Errorf("what never was: %+v", w)
	}
	if _, err := f.registry.PurgeBlob(t.Context(), data, true); err != nil {
		t.Fatal(err)
	}
	if w := why(data); !w.Refused || w.Kept {
		t.Errorf("what was purged and is refused: %+v", w)
	}
	f.clock.advance(2 * grace)
	f.clean()
	if w := why(data); !w.Refused {
		t.Error("the collection removed the note that a blob is refused")
	}
}

// TestAlone collects a store that nobody serves: all goes at once that is not tagged, and what tags lead to stays.
func TestAlone(t *testing.T) {
	f := newFixture(t, gc.Options{})
	p := f.repository("a")
	config, data, gone := f.push(p, "config"), f.push(p, large("layer")), f.push(p, large("gone"))
	child := f.put(p, "", image("", config, data))
	index, err := json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
		"manifests": []descriptor{{"application/vnd.oci.image.manifest.v1+json", child.String(), 1}}})
	if err != nil {
		t.Fatal(err)
	}
	f.put(p, "v1", index)
	signature := f.put(p, "", image(child.String(), config))
	untagged := f.put(p, "", image("", gone))
	f.put(f.repository("b"), "", image("", f.push(f.repository("b"), large("gone too"))))
	f.clock.jump = -time.Hour // no clock is asked
	r := f.run(gc.RunOptions{Alone: true})
	if n, _ := r.Removed(); n != 0 {
		t.Errorf("%d objects went without being asked for", n)
	}
	dry := f.run(gc.RunOptions{Alone: true, Untagged: true, DryRun: true})
	wet := f.run(gc.RunOptions{Alone: true, Untagged: true})
	n, size := wet.Removed()
	if told, toldSize := dry.Removed(); n != told || size != toldSize || layer(wet, "untagged").Removed != 2 || layer(wet, "data").Removed != 2 {
		t.Errorf("removed %d, %d bytes, told %d, %d: %+v", n, size, told, toldSize, layer(wet, "untagged"))
	}
	for d, want := range map[registry.Digest]bool{child: true, signature: true, untagged: false} {
		_, err := p.Manifest(t.Context(), registry.Reference{Digest: d})
		if (err == nil) != want {
			t.Errorf("the manifest %s: %v", d, err)
		}
	}
	if _, err := p.Blob(t.Context(), data); err != nil {
		t.Error(err)
	}
	if keys := f.keys(); slices.ContainsFunc(keys, func(key string) bool { return strings.Contains(key, "/b/") || key == "catalog/b!" }) {
		t.Errorf("left %q", keys)
	}
}

// TestPaused wants read-only mode to keep a run from beginning, and to end one that has begun.
func TestPaused(t *testing.T) {
	paused := false
	f := newFixture(t, gc.Options{Concurrency: 1, Paused: func() bool { return paused }})
	for i := range 20 {
		f.push(f.repository("a"), fmt.Sprint(i))
	}
	f.clock.advance(2 * grace)
	r, err := f.gc.Run(t.Context(), gc.RunOptions{Found: func(gc.Finding) { paused = true }})
	if n, _ := r.Removed(); !errors.Is(err, gc.ErrPaused) || n != 1 {
		t.Errorf("%d removed, %v", n, err)
	}
	if _, err := f.gc.Run(t.Context(), gc.RunOptions{}); !errors.Is(err, gc.ErrPaused) {
		t.Errorf("a run in read-only mode: %v", err)
	}
}

// TestCalls bounds what a first run asks of a store that lists by the thousand: a read for each manifest and blob record, and
// one call to remove each record.
func TestCalls(t *testing.T) {
	f := newFixture(t, gc.Options{})
	p := f.repository("a")
	const n = 100
	for i := range n {
		f.put(p, fmt.Sprint("v", i), image("", f.push(p, fmt.Sprint("config", i)), f.push(p, large(fmt.Sprint(i)))))
		f.push(p, large(fmt.Sprint("garbage", i)))
	}
	f.clock.advance(2 * grace)
	f.flaky.Plan(nil)
	r := f.clean()
	for op, most := range map[storagetest.Op]int{
		storagetest.OpOpen: n + 2*n + n + 10, storagetest.OpStat: 0, storagetest.OpDelete: 3*n + 5, storagetest.OpPut: 12, storagetest.OpList: 20,
	} {
		if got := f.flaky.Count(op); got > most {
			t.Errorf("%d calls of %s, want at most %d", got, op, most)
		}
	}
	if removed, _ := r.Removed(); removed > 3*n || removed < 3*n-6 { // a mark by mistake keeps a link, a record and its data
		t.Errorf("%d objects went, want %d", removed, 3*n)
	}
}

// TestRunning wants to be told of a run while it is under way.
func TestRunning(t *testing.T) {
	f := newFixture(t, gc.Options{Concurrency: 1})
	for i := range 3 {
		f.push(f.repository("a"), fmt.Sprint(i))
	}
	if f.gc.Running() != nil {
		t.Error("a run is under way before any began")
	}
	f.clock.advance(2 * grace)
	var seen []int64
	report := f.run(gc.RunOptions{Found: func(x gc.Finding) {
		if now := f.gc.Running(); x.Layer == "links" && now != nil && now.ID != "" {
			seen = append(seen, now.Layers[0].Removed)
		}
	}})
	if !slices.Equal(seen, []int64{1, 2, 3}) || layer(report, "links").Removed != 3 {
		t.Errorf("while links went, %v were told", seen)
	}
}
