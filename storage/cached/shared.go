package cached

import (
	"bytes"
	"container/list"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"io/fs"
	"iter"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"berth/storage"
)

// How old what [Shared.Reads] answers may be.
const (
	// checkEach is how long after a look at the epoch the next one is due.
	checkEach = 2 * time.Second
	// trustFor is how long after a look at the epoch nothing is answered from memory any more, so that a deletion that was
	// acknowledged by any process is seen by all after that time.
	trustFor = 5 * time.Second
	// forgetEach is how often everything is forgotten: a process that dies between a deletion and its new epoch has
	// acknowledged nothing, and others may go on for that long.
	forgetEach = 5 * time.Minute
)

// SharedOptions: nil means defaults.
type SharedOptions struct {
	Options
	Now func() time.Time // the clock, which may be any; nil: time.Now
}

// Shared is a [storage.Driver] over a store that other processes change as well. It is the store itself for whoever needs
// the truth; [Shared.Reads] is for those who may be told what was true a few seconds ago.
//
// Kept are objects that are only ever created, renewed with the same meaning, and deleted. A deletion writes the epoch, an
// object of its own, before it is acknowledged. Every process looks at the epoch again and again while it serves reads,
// and forgets everything when that has changed.
type Shared struct {
	storage.Driver
	reads reads
	epoch string // its key

	asked  atomic.Uint64 // deletions that want a new epoch
	owed   atomic.Bool   // an epoch could not be written
	mu     sync.Mutex    // held while writing the epoch
	marked uint64        // deletions that an epoch was written for
}

// NewShared wraps a driver. keep says which objects are kept as described; epoch is the key of the epoch.
func NewShared(next storage.Driver, epoch string, keep func(key string) bool, o *SharedOptions) *Shared {
	if o == nil {
		o = &SharedOptions{}
	}
	s := &Shared{Driver: next, epoch: epoch}
	s.reads = reads{Driver: next, shared: s, keep: keep, report: o.Report, now: o.Now, largest: o.Largest, seed: maphash.MakeSeed()}
	if s.reads.report == nil {
		s.reads.report = func(string, bool) {}
	}
	if s.reads.now == nil {
		s.reads.now = time.Now
	}
	if s.reads.largest <= 0 {
		s.reads.largest = 256 << 10
	}
	total := o.Bytes
	if total <= 0 {
		total = 64 << 20
	}
	for i := range s.reads.shards {
		s.reads.shards[i] = shard{room: total / shards, entries: map[string]*list.Element{}, writers: map[string]*writers{}}
	}
	return s
}

// Unwrap returns the driver that s wraps.
func (s *Shared) Unwrap() storage.Driver { return s.Driver }

// Reads returns the driver that answers from memory. It sees what this process writes through s at once, and what
// others delete within five seconds after they were told that it is gone.
func (s *Shared) Reads() storage.Driver { return &s.reads }

// Put forgets what was kept of the object.
func (s *Shared) Put(ctx context.Context, key string, r io.Reader, size int64, cond storage.Cond) (storage.Info, error) {
	defer s.reads.change(key)()
	return s.Driver.Put(ctx, key, r, size, cond)
}

// PutAll forgets what was kept of the objects.
func (s *Shared) PutAll(ctx context.Context, objects []storage.Object) ([]storage.Info, error) {
	for _, o := range objects {
		defer s.reads.change(o.Key)()
	}
	return storage.PutAll(ctx, s.Driver, objects...)
}

// Delete forgets the object, and has every other process forget it.
func (s *Shared) Delete(ctx context.Context, key string, cond storage.Cond) error {
	defer s.reads.change(key)()
	err := s.Driver.Delete(ctx, key, cond)
	if s.reads.keep(key) { // whatever the answer, it may have taken effect: the reply may be lost, and the caller may have left
		err = errors.Join(err, s.mark(ctx))
	}
	return err
}

// Keys asks the store.
func (s *Shared) Keys(ctx context.Context, prefix, after string) iter.Seq2[string, error] {
	return storage.Keys(ctx, s.Driver, prefix, after)
}

// Deleted has every process forget what it keeps, after objects were deleted from the driver that s wraps: many at once,
// for which [Shared.Delete] would write an epoch each.
func (s *Shared) Deleted(ctx context.Context) error { return s.mark(ctx) }

// mark writes a new epoch. Deletions at the same time share it. One that could not be written is still owed: who asks for the
// deletion again is told that there is nothing to delete.
func (s *Shared) mark(ctx context.Context) error {
	ticket := s.asked.Add(1)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.marked >= ticket {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), trustFor) // what is deleted is so for all, whoever waits
	defer cancel()
	upTo := s.asked.Load()
	content := rand.Text()
	if _, err := s.Driver.Put(ctx, s.epoch, strings.NewReader(content), int64(len(content)), storage.Cond{}); err != nil {
		s.owed.Store(true)
		return fmt.Errorf("tell other processes of a deletion: %w", err)
	}
	s.marked = upTo
	s.owed.Store(false)
	return nil
}

// reads answers from memory what may be kept.
type reads struct {
	storage.Driver
	shared  *Shared
	keep    func(string) bool
	report  func(string, bool)
	now     func() time.Time
	largest int64
	seed    maphash.Seed
	shards  [shards]shard

	checked  atomic.Pointer[time.Time] // when the last look at the epoch that succeeded began, by a clock that does not jump; nil: never
	checking atomic.Bool
	known    string    // the epoch; guarded by checking, as is
	emptied  time.Time // when everything was last forgotten
}

// Unwrap returns the driver that r reads from.
func (r *reads) Unwrap() storage.Driver { return r.Driver }

func (r *reads) shard(key string) *shard { return &r.shards[maphash.String(r.seed, key)%shards] }

// change forgets a key, and keeps nothing of it until the change that begins here is over.
func (r *reads) change(key string) (over func()) {
	s := r.shard(key)
	s.begin(key)
	return func() { s.end(key, nil) }
}

// trusted reports whether what is in memory may be answered now. It has the epoch looked at when that is due.
func (r *reads) trusted(ctx context.Context) bool {
	age := trustFor
	if checked := r.checked.Load(); checked != nil {
		age = r.now().Sub(*checked)
	}
	if (age >= checkEach || age < 0) && r.checking.CompareAndSwap(false, true) {
		go r.check(context.WithoutCancel(ctx))
	}
	return age >= 0 && age < trustFor
}

// check looks at the epoch, and writes the one that is owed.
func (r *reads) check(ctx context.Context) {
	defer r.checking.Store(false)
	ctx, cancel := context.WithTimeout(ctx, trustFor)
	defer cancel()
	if r.shared.owed.Load() {
		_ = r.shared.mark(ctx) // or else it is owed still
	}
	began := r.now()
	content, _, err := storage.ReadAll(ctx, r.Driver, r.shared.epoch, 1<<10)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return // what is in memory is trusted no longer when this goes on
	}
	if string(content) != r.known || began.Sub(r.emptied) >= forgetEach {
		for i := range r.shards {
			r.shards[i].empty()
		}
		r.known, r.emptied = string(content), began
	}
	r.checked.Store(&began)
}

// empty forgets everything, also what is being read.
func (s *shard) empty() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changes++
	for s.recent.Len() > 0 {
		s.forget(s.recent.Back().Value.(*entry).key)
	}
}

// load returns an object that may be kept, from memory if possible; nil when it is too large for that.
func (r *reads) load(ctx context.Context, key string) (*storage.Copy, error) {
	s := r.shard(key)
	trusted := r.trusted(ctx)
	e, changes := s.get(key)
	hit := e != nil && trusted
	r.report(key, hit)
	if hit {
		return e.copy, nil
	}
	body, info, err := r.Driver.Open(ctx, key, 0, -1)
	if err != nil {
		return nil, err
	}
	if info.Size > r.largest {
		return nil, body.Close()
	}
	c, err := readCopy(body, info)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", key, err)
	}
	s.put(&entry{key, c}, changes)
	return c, nil
}

// Copy answers from memory if possible.
func (r *reads) Copy(ctx context.Context, key string, limit int64) (*storage.Copy, error) {
	if r.keep(key) {
		c, err := r.load(ctx, key)
		if err != nil || c != nil && c.Info.Size <= limit {
			return c, err
		}
	}
	return storage.ReadCopy(ctx, r.Driver, key, limit)
}

// Open answers from memory if possible, for whole objects.
func (r *reads) Open(ctx context.Context, key string, off, n int64) (io.ReadCloser, storage.Info, error) {
	if r.keep(key) && off == 0 && n < 0 {
		c, err := r.load(ctx, key)
		if err != nil {
			return nil, storage.Info{}, err
		}
		if c != nil {
			return whole{bytes.NewReader(c.Body)}, c.Info, nil
		}
	}
	return r.Driver.Open(ctx, key, off, n)
}

// Stat answers from memory if possible.
func (r *reads) Stat(ctx context.Context, key string) (storage.Info, error) {
	if !r.keep(key) {
		return r.Driver.Stat(ctx, key)
	}
	trusted := r.trusted(ctx) // before what is in memory is looked up, as in load: the answer must be of that time
	if e, _ := r.shard(key).get(key); e != nil && trusted {
		return e.copy.Info, nil
	}
	return r.Driver.Stat(ctx, key)
}
