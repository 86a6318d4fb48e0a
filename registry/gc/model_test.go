package gc_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/cryptotest"
	"testing/synctest"
	"time"

	"berth/registry"
	"berth/registry/gc"
	"berth/storage"
	"berth/storage/storagetest"
)

var (
	modelSeed  = flag.Uint64("model.seed", 1, "the first seed of the model test")
	modelSeeds = flag.Int("model.seeds", 0, "how many seeds the model test tries; 0: a few")
	modelSteps = flag.Int("model.steps", 6000, "calls of the store per seed")
)

// A world is a store with everything that goes on in it: two replicas whose clocks differ, each with a collector, and clients
// that push, delete, mount, go on with uploads, and give up.
type world struct {
	*scheduler
	t        *testing.T
	random   *rand.Rand // for what clients do
	replicas []*replica
	active   sync.WaitGroup
	running  int // actors; guarded by mu
	actors   int

	uploads  []upload       // guarded by mu, as is the rest
	deleted  map[string]int // by repository, or repository@digest: deletions that began
	deleting map[string]int // that have not ended
	acked    map[string]bool
	taken    map[string]bool // repository@digest of blobs that users deleted or purged, until they are whole again
	taking   map[string]int  // deletions of these that have not ended; by digest alone, purges
	broken   string          // what is wrong, "" while nothing is
	pushed   int             // manifests acknowledged
	gone     int64           // objects collected
}

// A replica is a process over the store.
type replica struct {
	name     string
	registry *registry.Registry
	gc       *gc.Collector
	busy     bool
}

// An upload that clients go on with later.
type upload struct {
	repository, id string
	content        string
}

// A mutant breaks a rule of the design.
type mutant struct {
	name      string
	registry  func(storage.Driver) storage.Driver // around the store, for what serves
	collector func(storage.Driver) storage.Driver // for what collects
	late      time.Duration                       // how much later a layer's start is than it should be
	plain     bool                                // every few histories show it
	fearless  bool                                // collectors ignore each other's leases
}

const (
	modelGrace = 24 * time.Hour
	modelAge   = 3 * modelGrace
)

func newWorld(t *testing.T, seed uint64, m mutant) *world {
	faults := []float64{0, 0.002, 0.02}[seed%3]
	w := &world{scheduler: newScheduler(seed, faults), t: t, random: rand.New(rand.NewPCG(seed, 2)), deleted: map[string]int{}, deleting: map[string]int{}, acked: map[string]bool{}, taken: map[string]bool{}, taking: map[string]int{}}
	w.written = w.check
	skew := modelGrace / 8 * time.Duration(w.random.IntN(199)-99) / 100
	for i, skew := range []time.Duration{skew, -skew} {
		name := fmt.Sprint("replica", i)
		r := &replica{name: name}
		open := func(wrap func(storage.Driver) storage.Driver, skew time.Duration) (storage.Driver, *registry.Registry) {
			var d storage.Driver = w.scheduler
			if wrap != nil {
				d = wrap(d)
			}
			reg, err := registry.Open(t.Context(), d, &registry.Options{
				Now: func() time.Time { return time.Now().Add(skew) }, Grace: modelGrace, UploadAge: modelAge, Secret: []byte("0123456789abcdef"),
			})
			if err != nil {
				t.Fatal(err)
			}
			return d, reg
		}
		_, r.registry = open(m.registry, skew)
		collects := func(d storage.Driver) storage.Driver {
			if m.collector != nil {
				d = m.collector(d)
			}
			if m.late > 0 {
				d = lateClock{d, m.late}
			}
			if seed%2 == 0 || m.fearless {
				d = ownLease{d, name}
			}
			return d
		}
		store, reg := open(collects, skew+m.late)
		r.gc = gc.New(store, reg, gc.Options{Now: func() time.Time { return time.Now().Add(skew + m.late) }, Holder: name, Concurrency: 2, UploadAge: modelAge})
		w.replicas = append(w.replicas, r)
	}
	return w
}

// lateClock answers with a time of the store that is later than it is.
type lateClock struct {
	storage.Driver
	by time.Duration
}

func (l lateClock) Put(ctx context.Context, key string, r io.Reader, size int64, cond storage.Cond) (storage.Info, error) {
	info, err := l.Driver.Put(ctx, key, r, size, cond)
	info.ModTime = info.ModTime.Add(l.by)
	return info, err
}

// ownLease makes a collector hold a lease that nobody else asks for.
type ownLease struct {
	storage.Driver
	name string
}

func (o ownLease) key(key string) string {
	if key == "leases/gc" {
		return key + "-" + o.name
	}
	return key
}

func (o ownLease) Open(ctx context.Context, key string, off, n int64) (io.ReadCloser, storage.Info, error) {
	return o.Driver.Open(ctx, o.key(key), off, n)
}

func (o ownLease) Put(ctx context.Context, key string, r io.Reader, size int64, cond storage.Cond) (storage.Info, error) {
	return o.Driver.Put(ctx, o.key(key), r, size, cond)
}

func (o ownLease) Delete(ctx context.Context, key string, cond storage.Cond) error {
	return o.Driver.Delete(ctx, o.key(key), cond)
}

// contents are what clients push: few, so that they meet; some are kept in records, some are data objects.
var contents = func() []string {
	var all []string
	for i := range 5 {
		all = append(all, fmt.Sprint("small", i), fmt.Sprint("large", i)+strings.Repeat("-", 9000))
	}
	return all
}()

func digestOf(content string) registry.Digest { return registry.SHA256.FromBytes([]byte(content)) }

// fail says what is wrong, once; mu is held.
func (w *world) fail(format string, args ...any) {
	if w.broken == "" {
		w.broken = fmt.Sprintf(format, args...)
	}
}

// modelBlob is what a blob record says.
type modelBlob struct {
	Size     int64
	Purged   bool
	Refused  bool
	Segments []struct {
		Key  string
		Size int64
	}
}

func (w *world) header(key string, into any) (payload string, ok bool) {
	body, _, err := storage.ReadAll(context.Background(), w.base, key, 1<<20)
	if err != nil {
		return "", false
	}
	header, payload, _ := strings.Cut(string(body), "\n")
	if err := json.Unmarshal([]byte(header), into); err != nil {
		w.fail("the record %s: %v", key, err)
	}
	return payload, true
}

// bytesOf returns what a blob has, or why it has none.
func (w *world) bytesOf(hex string) (string, string) {
	var b modelBlob
	key := "blobs/sha256/" + hex[:2] + "/" + hex
	content, ok := w.header(key, &b)
	if !ok || b.Purged {
		return "", "there is no record " + key
	}
	for _, s := range b.Segments {
		body, _, err := storage.ReadAll(context.Background(), w.base, s.Key, 1<<20)
		if err != nil {
			return "", fmt.Sprintf("the record %s names %s: %v", key, s.Key, err)
		}
		content += string(body)
	}
	return content, ""
}

// check looks, after a change, whether every manifest has its blobs, and no two blobs share data; mu is held.
func (w *world) check(op storagetest.Op, key string) {
	k := registry.ParseKey(key)
	switch {
	case op == storagetest.OpPut && k.Kind == registry.BlobKind:
		w.checkSharing(key)
		w.checkData(k.Digest)
		w.restored(k.Digest)
	case op == storagetest.OpPut && k.Kind == registry.LinkKind:
		w.restored(k.Digest)
	case op == storagetest.OpPut && k.Kind == registry.ManifestKind:
		w.checkManifest(key, k.Repository)
	case op == storagetest.OpDelete && (k.Kind == registry.LinkKind || k.Kind == registry.BlobKind || k.Kind == registry.DataKind):
		for info := range w.base.List(context.Background(), "", "") {
			switch k := registry.ParseKey(info.Key); k.Kind {
			case registry.BlobKind:
				w.checkData(k.Digest)
			case registry.ManifestKind:
				w.checkManifest(info.Key, k.Repository)
			}
		}
	}
	if op == storagetest.OpDelete && k.Kind == registry.ManifestKind && w.acked[k.Repository+"@"+k.Digest.String()] {
		w.fail("the manifest %s was removed, and nobody asked for that", key)
	}
}

func (w *world) checkManifest(key, repository string) {
	var header struct{}
	payload, ok := w.header(key, &header)
	if !ok {
		return
	}
	var m struct {
		Config            descriptor
		Layers, Manifests []descriptor
	}
	if err := json.Unmarshal([]byte(payload), &m); err != nil {
		w.fail("the manifest %s: %v", key, err)
		return
	}
	for _, d := range append(append(m.Layers, m.Manifests...), m.Config) {
		wrong := ""
		switch {
		case d.Digest == "": // an index has no config
		case d.MediaType == imageType:
			wrong = w.childWrong(repository, d.Digest)
		case !w.taken[repository+"@"+d.Digest]:
			wrong = w.blobWrong(repository, d.Digest)
		}
		if wrong != "" {
			w.fail("the manifest %s names %s", key, wrong)
			return
		}
	}
}

// childWrong says what is wrong with a manifest that an index names: it may only be missing if somebody deleted it.
func (w *world) childWrong(repository, digest string) string {
	key := "repositories/" + repository + "/_manifests/" + strings.Replace(digest, ":", "/", 1)
	if _, err := w.base.Stat(context.Background(), key); err == nil || w.deleted[repository]+w.deleted[repository+"@"+digest] > 0 {
		return ""
	}
	return "a manifest that is gone: " + key
}

// blobWrong says why a repository cannot serve a blob, "" if it can.
func (w *world) blobWrong(repository, digest string) string {
	_, digest, _ = strings.Cut(digest, ":")
	link := "repositories/" + repository + "/_blobs/sha256/" + digest
	if _, err := w.base.Stat(context.Background(), link); err != nil {
		return "a blob without " + link
	}
	content, missing := w.bytesOf(digest)
	if missing != "" {
		return "a blob that is gone: " + missing
	}
	if sum := sha256.Sum256([]byte(content)); hex.EncodeToString(sum[:]) != digest {
		return "the blob " + digest + ", whose bytes are others"
	}
	return ""
}

// checkData wants a record of a blob to have its data, unless it is just being purged.
func (w *world) checkData(d registry.Digest) {
	var b modelBlob
	key := registry.KeyOfBlob(d)
	if _, ok := w.header(key, &b); !ok || b.Purged || w.taking[d.String()] > 0 {
		return
	}
	for _, s := range b.Segments {
		if _, err := w.base.Stat(context.Background(), s.Key); err != nil {
			w.fail("the record %s names %s, which is gone", key, s.Key)
		}
	}
}

// take notes that a user takes a blob from repositories: until over is called, and whoever pushes it again, manifests there may
// lack it.
func (w *world) take(d registry.Digest, from ...string) (over func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, repository := range from {
		w.taking[repository+"@"+d.String()]++
		w.taken[repository+"@"+d.String()] = true
	}
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, repository := range from {
			w.taking[repository+"@"+d.String()]--
		}
		w.restored(d)
	}
}

// restored looks where a blob that was taken is whole again; mu is held.
func (w *world) restored(d registry.Digest) {
	for _, repository := range repositories {
		key := repository + "@" + d.String()
		if w.taken[key] && w.taking[key] == 0 && w.blobWrong(repository, d.String()) == "" {
			delete(w.taken, key)
		}
	}
}

func (w *world) checkSharing(key string) {
	var b modelBlob
	if _, ok := w.header(key, &b); !ok {
		return
	}
	for info := range w.base.List(context.Background(), "blobs/", "") {
		var other modelBlob
		if _, ok := w.header(info.Key, &other); !ok || info.Key == key {
			continue
		}
		for _, s := range b.Segments {
			if slices.Contains(other.Segments, s) {
				w.fail("the blobs %s and %s share %s", key, info.Key, s.Key)
			}
		}
	}
}

// run makes random steps, and then lets everything end.
func (w *world) run(steps int) {
	for w.steps < steps && w.broken == "" {
		switch n := w.random.IntN(1000); {
		case n < 60 && w.count() < 8:
			w.act()
		case n < 66:
			time.Sleep(modelGrace / time.Duration(int64(1)<<w.random.IntN(8)))
		case !w.step(false):
			time.Sleep(modelGrace / 64)
		}
	}
	for n := 0; w.count() > 0 && w.broken == ""; n++ {
		if !w.step(true) {
			time.Sleep(modelGrace / 64)
		}
		if n > 200_000 {
			w.t.Fatalf("it never ends\n%s", w.story(100))
		}
	}
}

func (w *world) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.running
}

// start lets an actor do something, whatever comes of it.
func (w *world) start(kind string, do func(ctx context.Context, name string, random *rand.Rand) error) {
	w.actors++
	name := fmt.Sprintf("%s%d", kind, w.actors)
	random := rand.New(rand.NewPCG(w.random.Uint64(), 3))
	w.mu.Lock()
	w.running++
	w.mu.Unlock()
	w.active.Go(func() {
		err := do(as(context.Background(), name), name, random)
		w.remark(name, "ends: %v", err)
		w.mu.Lock()
		w.running--
		w.mu.Unlock()
	})
}

// settle lets collectors run until all that was unreachable is gone, and wants nothing else to be gone.
func (w *world) settle() {
	collect := func(span time.Duration) {
		for passed := time.Duration(0); passed < span && w.broken == ""; passed += modelGrace / 4 {
			time.Sleep(modelGrace / 4)
			for _, r := range w.replicas {
				w.collect(r)
			}
			for n := 0; w.count() > 0; n++ {
				if !w.step(true) {
					time.Sleep(time.Second)
				}
			}
		}
	}
	collect(2 * modelGrace)
	w.checkLeft(false)
	collect(modelAge)
	w.checkLeft(true)
}

// checkLeft wants nothing to be left that is not reached.
func (w *world) checkLeft(uploads bool) {
	reached := map[string]bool{}
	var manifests []registry.Key
	for info := range w.base.List(context.Background(), "", "") {
		k := registry.ParseKey(info.Key)
		switch k.Kind {
		case registry.ManifestKind:
			w.reach(reached, info.Key, k.Repository)
			reached["catalog/"+k.Repository+"!"] = true
			manifests = append(manifests, k)
		case registry.UploadKind:
			if !uploads {
				var u struct{ Segments []struct{ Key string } }
				w.header(info.Key, &u)
				for _, s := range u.Segments {
					reached[s.Key] = true
				}
				reached[info.Key] = true
			}
		}
	}
	w.checkReferrers(manifests)
	for key := range w.acked {
		repository, digest, _ := strings.Cut(key, "@")
		if !slices.ContainsFunc(manifests, func(k registry.Key) bool { return k.Repository == repository && k.Digest.String() == digest }) {
			w.fail("the manifest %s is gone, and nobody asked for that", key)
		}
	}
	for info := range w.base.List(context.Background(), "", "") {
		k := registry.ParseKey(info.Key)
		switch k.Kind {
		case registry.LinkKind, registry.BlobKind, registry.DataKind, registry.UploadKind, registry.CatalogKind:
			if !reached[info.Key] && !w.isRefusal(k, info.Key) {
				w.fail("nothing reaches %s, last touched at %s, and it is still there", info.Key, info.ModTime.Sub(w.epoch))
			}
		case registry.HintKind:
			if !slices.ContainsFunc(manifests, func(m registry.Key) bool { return m.Repository == k.Repository && m.Digest == k.Digest }) {
				w.fail("the hint %s leads from a manifest that is gone", info.Key)
			}
		case registry.TagKind:
			var tag struct{ Digest string }
			w.header(info.Key, &tag)
			if !slices.ContainsFunc(manifests, func(m registry.Key) bool { return m.Repository == k.Repository && m.Digest.String() == tag.Digest }) {
				w.fail("the tag %s names a manifest that is gone", info.Key)
			}
		}
	}
}

// isRefusal reports whether a record is the note that a blob is not wanted, which stays.
func (w *world) isRefusal(k registry.Key, key string) bool {
	var b modelBlob
	_, ok := w.header(key, &b)
	return k.Kind == registry.BlobKind && ok && b.Refused
}

// checkReferrers wants the referrers of each manifest to be those that are there. Of a push that was cut off, what names its
// subject may be there without being listed.
func (w *world) checkReferrers(manifests []registry.Key) {
	there, wanted := map[string]bool{}, map[string][]string{}
	for _, k := range manifests {
		there[k.Repository+"@"+k.Digest.String()] = true
		var m struct{ Subject descriptor }
		payload, _ := w.header("repositories/"+k.Repository+"/_manifests/sha256/"+k.Digest.Hex(), &struct{}{})
		if err := json.Unmarshal([]byte(payload), &m); err == nil && m.Subject.Digest != "" && w.acked[k.Repository+"@"+k.Digest.String()] {
			subject := k.Repository + "@" + m.Subject.Digest
			wanted[subject] = append(wanted[subject], k.Digest.String())
		}
	}
	for info := range w.base.List(context.Background(), "repositories/", "") {
		k := registry.ParseKey(info.Key)
		if k.Kind != registry.ReferrersKind {
			continue
		}
		listed, _, err := w.named(w.replicas[0], k.Repository).Referrers(context.Background(), k.Digest, "", "", 1<<20)
		if err != nil {
			w.fail("the referrers %s: %v", info.Key, err)
		}
		subject := k.Repository + "@" + k.Digest.String()
		for _, d := range listed {
			if !there[k.Repository+"@"+d.Digest] {
				w.fail("%s is listed at %s, and gone", d.Digest, info.Key)
			}
			wanted[subject] = slices.DeleteFunc(wanted[subject], func(digest string) bool { return digest == d.Digest })
		}
	}
	for subject, digests := range wanted {
		if len(digests) > 0 {
			w.fail("the referrers of %s lack %v", subject, digests)
		}
	}
}

// reach marks what a manifest needs.
func (w *world) reach(reached map[string]bool, key, repository string) {
	var header struct{}
	payload, _ := w.header(key, &header)
	for _, part := range strings.Split(payload, `"`) {
		d, err := registry.ParseDigest(part)
		if err != nil {
			continue
		}
		var b modelBlob
		blob := "blobs/sha256/" + d.Hex()[:2] + "/" + d.Hex()
		w.header(blob, &b)
		reached[blob], reached["repositories/"+repository+"/_blobs/sha256/"+d.Hex()] = true, true
		for _, s := range b.Segments {
			reached[s.Key] = true
		}
	}
}

func (w *world) collect(r *replica) {
	w.mu.Lock()
	busy := r.busy
	r.busy = true
	w.mu.Unlock()
	if busy {
		return
	}
	w.start("gc", func(ctx context.Context, name string, _ *rand.Rand) error {
		report, err := r.gc.Run(ctx, gc.RunOptions{Found: func(f gc.Finding) { w.remark(name, "removed %s: %s", f.Key, f.Why) }})
		w.mu.Lock()
		defer w.mu.Unlock()
		r.busy = false
		if report != nil {
			n, _ := report.Removed()
			w.gone += n
		}
		return err
	})
}

// model plays one seed, and returns what is wrong, with the story of it.
func model(t *testing.T, seed uint64, m mutant, steps int) (broken string, w *world) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1)) // of goroutines that wake together, always the same is first
	cryptotest.SetGlobalRandom(t, seed)
	synctest.Test(t, func(t *testing.T) {
		w = newWorld(t, seed, m)
		w.run(steps)
		if w.broken == "" {
			w.settle()
		}
		broken = w.broken
		for n := 0; w.count() > 0 && n < 1_000_000; n++ { // a bubble ends when all in it has
			if !w.step(true) {
				time.Sleep(modelGrace / 64)
			}
		}
	})
	if broken == "" {
		return "", w
	}
	words := strings.FieldsFunc(broken, func(r rune) bool { return strings.ContainsRune(" :,", r) })
	keys := slices.DeleteFunc(words, func(s string) bool { return !strings.Contains(s, "/") })
	for i, key := range keys {
		keys[i] = key[strings.LastIndexByte(key, '/')+1:]
	}
	return fmt.Sprintf("seed %d, %d steps: %s\n%s", seed, w.steps, broken, w.story(40, keys...)), w
}

// TestModel plays many random histories: at every moment each manifest must have its blobs, no two blobs may share data, and
// in the end nothing may be left that is not reached. The flags -model.seeds, -model.steps and -model.seed make it longer, or
// repeat a history.
func TestModel(t *testing.T) {
	seeds := *modelSeeds
	if seeds == 0 {
		seeds = 6
	}
	steps, pushed, gone := 0, 0, int64(0)
	for i := range seeds {
		broken, w := model(t, *modelSeed+uint64(i), mutant{}, *modelSteps)
		if broken != "" {
			t.Fatal(broken)
		}
		steps, pushed, gone = steps+w.steps, pushed+w.pushed, gone+w.gone
	}
	t.Logf("%d histories, %d calls of the store, %d manifests pushed, %d objects collected", seeds, steps, pushed, gone)
	if pushed < 5*seeds || gone < int64(20*seeds) {
		t.Errorf("only %d manifests were pushed and %d objects collected: the model plays too little", pushed, gone)
	}
}

var errGaveUp = errors.New("the client gave up")
