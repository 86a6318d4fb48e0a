package gc_test

import (
	"context"
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
// choose its histories; the same seed gives a similar history, not always the same.
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
