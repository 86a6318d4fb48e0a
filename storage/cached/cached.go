// Package cached keeps small objects of a driver in memory.
//
// [New] is right only where every change of the store goes through it: over a store that one process holds exclusively.
// There it is authoritative: what it answers is what the store would answer, also that an object is absent. [NewShared] is
// for a store that several processes change.
package cached

import (
	"bytes"
	"container/list"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"io/fs"
	"iter"
	"sync"

	"berth/storage"
)

// Options: nil means defaults.
type Options struct {
	Bytes   int64                 // of memory for objects and their keys, about; 0: 64 MiB
	Largest int64                 // size of the largest object kept, in bytes; 0: 256 KiB
	Skip    func(key string) bool // objects that are never kept; nil: none
	// Report is told of every look into the cache: for the object of a key, or for the keys under a folder, which ends in a
	// slash. It is called by many goroutines at once. Nil: nobody is told.
	Report func(key string, hit bool)
}

// Driver is a [storage.Driver] that remembers the small objects of the driver it wraps.
type Driver struct {
	next    storage.Driver
	largest int64
	skip    func(string) bool
	report  func(string, bool)
	seed    maphash.Seed
	shards  [shards]shard
	names   names
}

const (
	shards = 16
	// overhead is what an entry takes besides its key and body, in bytes, about.
	overhead = 256
)

// New wraps a driver.
func New(next storage.Driver, o *Options) *Driver {
	if o == nil {
		o = &Options{}
	}
	d := &Driver{next: next, largest: o.Largest, skip: o.Skip, report: o.Report, seed: maphash.MakeSeed()}
	if d.largest <= 0 {
		d.largest = 256 << 10
	}
	if d.skip == nil {
		d.skip = func(string) bool { return false }
	}
	if d.report == nil {
		d.report = func(string, bool) {}
	}
	total := o.Bytes
	if total <= 0 {
		total = 64 << 20
	}
	d.names = newNames(total / 4)
	total -= total / 4
	for i := range d.shards {
		d.shards[i].room = total / shards
		d.shards[i].entries = map[string]*list.Element{}
		d.shards[i].writers = map[string]*writers{}
	}
	return d
}

// Unwrap returns the driver that d wraps.
func (d *Driver) Unwrap() storage.Driver { return d.next }

// A shard is a part of the cache, chosen by key.
type shard struct {
	mu      sync.Mutex
	room    int64
	entries map[string]*list.Element // of *entry
	recent  list.List                // most recently used first
	writers map[string]*writers      // of the keys being changed
	changes uint64                   // changes of any key begun or ended
}

// An entry is what is known of a key; copy is nil when there is no object.
type entry struct {
	key  string
	copy *storage.Copy
}

// writers are the changes of one key that are under way.
type writers struct {
	n       int
	several bool // more than one at some time: their order is not known
}

func (d *Driver) shard(key string) *shard { return &d.shards[maphash.String(d.seed, key)%shards] }

func (e *entry) cost() int64 {
	n := int64(len(e.key)) + overhead
	if e.copy != nil {
		n += 2 * int64(len(e.copy.Body)) // what readers remember is about as large again
	}
	return n
}

// get returns what is known of key, and the number of changes so far, for put.
func (s *shard) get(key string) (*entry, uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	element, ok := s.entries[key]
	if !ok {
		return nil, s.changes
	}
	s.recent.MoveToFront(element)
	return element.Value.(*entry), s.changes
}

// put keeps what a read found, unless something changed since the read began.
func (s *shard) put(e *entry, changes uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.changes == changes && s.writers[e.key] == nil {
		s.keep(e)
	}
}

func (s *shard) keep(e *entry) {
	s.forget(e.key)
	if e.cost() > s.room/4 {
		return
	}
	s.room -= e.cost()
	s.entries[e.key] = s.recent.PushFront(e)
	for s.room < 0 {
		s.forget(s.recent.Back().Value.(*entry).key)
	}
}

func (s *shard) forget(key string) {
	if element, ok := s.entries[key]; ok {
		s.room += element.Value.(*entry).cost()
		s.recent.Remove(element)
		delete(s.entries, key)
	}
}

// begin notes that a key is being changed. Until the change ends, readers ask the store: of several keys put together,
// none may look older than another one that the store shows already.
func (s *shard) begin(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changes++
	s.forget(key)
	w := s.writers[key]
	if w == nil {
		w = &writers{}
		s.writers[key] = w
	}
	w.n++
	w.several = w.several || w.n > 1
}

// end notes how a change ended: with e, or, when that is nil, in a way that only the store knows.
func (s *shard) end(key string, e *entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changes++
	w := s.writers[key]
	if w.n--; w.n == 0 {
		delete(s.writers, key)
	}
	if e == nil || w.several {
		s.forget(key)
		return
	}
	s.keep(e)
}

// load returns what the store has at key, from memory if possible: nil when the object is too large to be kept, and an
// error of fs.ErrNotExist when it is absent.
func (d *Driver) load(ctx context.Context, key string) (*storage.Copy, error) {
	s := d.shard(key)
	e, changes := s.get(key)
	d.report(key, e != nil)
	if e == nil {
		r, info, err := d.next.Open(ctx, key, 0, -1)
		e = &entry{key: key}
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return nil, err
		case info.Size > d.largest:
			return nil, r.Close()
		default:
			if e.copy, err = readCopy(r, info); err != nil {
				return nil, fmt.Errorf("read %s: %w", key, err)
			}
		}
		s.put(e, changes)
	}
	if e.copy == nil {
		return nil, &fs.PathError{Op: "open", Path: key, Err: fs.ErrNotExist}
	}
	return e.copy, nil
}

func readCopy(r io.ReadCloser, info storage.Info) (*storage.Copy, error) {
	defer r.Close()
	c := &storage.Copy{Info: info, Body: make([]byte, info.Size)}
	_, err := io.ReadFull(r, c.Body)
	return c, err
}

// Copy serves small objects from memory.
func (d *Driver) Copy(ctx context.Context, key string, limit int64) (*storage.Copy, error) {
	if d.skip(key) {
		return storage.ReadCopy(ctx, d.next, key, limit)
	}
	c, err := d.load(ctx, key)
	switch {
	case err != nil:
		return nil, err
	case c == nil:
		return storage.ReadCopy(ctx, d.next, key, limit)
	case c.Info.Size > limit:
		return nil, fmt.Errorf("read %s: it has %d bytes, more than the %d allowed", key, c.Info.Size, limit)
	}
	return c, nil
}

// Open serves small objects from memory.
func (d *Driver) Open(ctx context.Context, key string, off, n int64) (io.ReadCloser, storage.Info, error) {
	if d.skip(key) || off < 0 {
		return d.next.Open(ctx, key, off, n)
	}
	c, err := d.load(ctx, key)
	if err != nil {
		return nil, storage.Info{}, err
	}
	if c == nil {
		return d.next.Open(ctx, key, off, n)
	}
	if off == 0 && n < 0 {
		return whole{bytes.NewReader(c.Body)}, c.Info, nil
	}
	part := c.Body[min(off, c.Info.Size):]
	if n >= 0 && n < int64(len(part)) {
		part = part[:n]
	}
	return io.NopCloser(struct{ io.Reader }{bytes.NewReader(part)}), c.Info, nil
}

// whole reads a whole object, and can seek in it.
type whole struct{ *bytes.Reader }

func (whole) Close() error { return nil }

// Stat answers for small objects from memory.
func (d *Driver) Stat(ctx context.Context, key string) (storage.Info, error) {
	if d.skip(key) {
		return d.next.Stat(ctx, key)
	}
	c, err := d.load(ctx, key)
	if err != nil {
		return storage.Info{}, err
	}
	if c == nil {
		return d.next.Stat(ctx, key)
	}
	return c.Info, nil
}

// Put keeps a small object when the store has it.
func (d *Driver) Put(ctx context.Context, key string, r io.Reader, size int64, cond storage.Cond) (storage.Info, error) {
	if d.skip(key) {
		defer d.names.change(key, cond)()
		return d.next.Put(ctx, key, r, size, cond)
	}
	var content []byte
	if size >= 0 && size <= d.largest {
		content = make([]byte, size)
		if n, err := io.ReadFull(r, content); err != nil { // let the driver refuse what is short, as it does
			r = io.MultiReader(bytes.NewReader(content[:n]), failing{err})
			content = nil
		} else {
			r = io.MultiReader(bytes.NewReader(content), r)
		}
	}
	s := d.shard(key)
	s.begin(key)
	defer d.names.change(key, cond)()
	info, err := d.next.Put(ctx, key, r, size, cond)
	if err != nil || content == nil {
		s.end(key, nil)
	} else {
		s.end(key, &entry{key, &storage.Copy{Info: info, Body: content}})
	}
	return info, err
}

// failing is the rest of a body that could not be read.
type failing struct{ err error }

func (f failing) Read([]byte) (int, error) {
	if f.err == io.ErrUnexpectedEOF {
		return 0, io.EOF
	}
	return 0, f.err
}

// PutAll keeps the small objects that the store has.
func (d *Driver) PutAll(ctx context.Context, objects []storage.Object) ([]storage.Info, error) {
	for _, o := range objects {
		d.shard(o.Key).begin(o.Key)
		defer d.names.change(o.Key, o.Cond)()
	}
	infos, err := storage.PutAll(ctx, d.next, objects...)
	for i, o := range objects {
		var e *entry
		if i < len(infos) && int64(len(o.Body)) <= d.largest && !d.skip(o.Key) {
			e = &entry{o.Key, &storage.Copy{Info: infos[i], Body: bytes.Clone(o.Body)}}
		}
		d.shard(o.Key).end(o.Key, e)
	}
	return infos, err
}

// Delete forgets the object.
func (d *Driver) Delete(ctx context.Context, key string, cond storage.Cond) error {
	s := d.shard(key)
	s.begin(key)
	defer d.names.change(key, storage.Cond{})()
	err := d.next.Delete(ctx, key, cond)
	s.end(key, nil)
	return err
}

// List asks the store; [Driver.Keys] remembers.
func (d *Driver) List(ctx context.Context, prefix, after string) iter.Seq2[storage.Info, error] {
	return d.next.List(ctx, prefix, after)
}
