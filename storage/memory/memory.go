// Package memory keeps objects in the memory of the process, sorted by key. It serves tests, where it is the model that
// the other drivers are held against, and storage.inmemory, a registry that forgets everything when it stops.
package memory

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/btree"

	"berth/storage"
)

// Options are the optional parts of a Driver.
type Options struct {
	Now func() time.Time // the clock that stamps ModTime; nil means time.Now
}

// A Driver is a [storage.Driver] in memory. Every Put gives its object a Rev of its own, even for equal bytes.
type Driver struct {
	now func() time.Time

	mu      sync.RWMutex
	objects *btree.BTreeG[object]
	puts    uint64 // the number of puts so far: the source of Revs
}

// An object is never changed once it is in the tree, so its bytes may be read without a lock.
type object struct {
	storage.Info
	body []byte
}

// New returns an empty Driver.
func New() *Driver { return NewWith(Options{}) }

// NewWith returns an empty Driver with options.
func NewWith(o Options) *Driver {
	if o.Now == nil {
		o.Now = time.Now
	}
	byKey := func(a, b object) bool { return a.Key < b.Key }
	return &Driver{now: o.Now, objects: btree.NewG(32, byKey)}
}

// Open implements [storage.Driver].
func (d *Driver) Open(ctx context.Context, key string, off, n int64) (io.ReadCloser, storage.Info, error) {
	if off < 0 {
		return nil, storage.Info{}, fmt.Errorf("open %s: negative offset %d", key, off)
	}
	o, err := d.get(ctx, "open", key)
	if err != nil {
		return nil, storage.Info{}, err
	}
	off = min(off, o.Size)
	if n < 0 || n > o.Size-off {
		n = o.Size - off
	}
	if n == o.Size {
		return whole{bytes.NewReader(o.body)}, o.Info, nil
	}
	return io.NopCloser(bytes.NewReader(o.body[off : off+n])), o.Info, nil
}

// whole reads a whole object and can seek in it.
type whole struct{ *bytes.Reader }

func (whole) Close() error { return nil }

// Stat implements [storage.Driver].
func (d *Driver) Stat(ctx context.Context, key string) (storage.Info, error) {
	o, err := d.get(ctx, "stat", key)
	return o.Info, err
}

func (d *Driver) get(ctx context.Context, op, key string) (object, error) {
	if err := check(ctx, key); err != nil {
		return object{}, fmt.Errorf("%s %s: %w", op, key, err)
	}
	d.mu.RLock()
	defer d.mu.RUnlock()
	o, ok := d.objects.Get(probe(key))
	if !ok {
		return object{}, fmt.Errorf("%s %s: %w", op, key, fs.ErrNotExist)
	}
	return o, nil
}

// Put implements [storage.Driver].
func (d *Driver) Put(ctx context.Context, key string, r io.Reader, size int64, cond storage.Cond) (storage.Info, error) {
	info, err := d.put(ctx, key, r, size, cond)
	if err != nil {
		return storage.Info{}, fmt.Errorf("put %s: %w", key, err)
	}
	return info, nil
}

func (d *Driver) put(ctx context.Context, key string, r io.Reader, size int64, cond storage.Cond) (storage.Info, error) {
	if err := check(ctx, key); err != nil {
		return storage.Info{}, err
	}
	body, err := readBody(ctx, r, size)
	if err != nil {
		return storage.Info{}, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if old, ok := d.objects.Get(probe(key)); !cond.Holds(ok, old.Rev) {
		return storage.Info{}, storage.ErrConflict
	}
	d.puts++
	info := storage.Info{
		Key:     key,
		Size:    int64(len(body)),
		ModTime: d.now(),
		Rev:     storage.Rev(strconv.FormatUint(d.puts, 36)),
	}
	d.objects.ReplaceOrInsert(object{info, body})
	return info, nil
}

// readBody reads all of r, which must have size bytes unless size is -1.
func readBody(ctx context.Context, r io.Reader, size int64) ([]byte, error) {
	r = &stoppable{ctx, r}
	if size >= 0 {
		r = io.LimitReader(r, size+1)
	}
	var body bytes.Buffer
	if _, err := body.ReadFrom(r); err != nil {
		return nil, fmt.Errorf("read the body: %w", err)
	}
	switch got := int64(body.Len()); {
	case size >= 0 && got < size:
		return nil, fmt.Errorf("the body ends after %d of %d bytes: %w", got, size, io.ErrUnexpectedEOF)
	case size >= 0 && got > size:
		return nil, fmt.Errorf("the body goes on after its %d bytes", size)
	}
	return body.Bytes(), ctx.Err()
}

// stoppable stops reading once its context is done.
type stoppable struct {
	ctx context.Context
	r   io.Reader
}

func (s *stoppable) Read(p []byte) (int, error) {
	if err := s.ctx.Err(); err != nil {
		return 0, err
	}
	return s.r.Read(p)
}

// Delete implements [storage.Driver].
func (d *Driver) Delete(ctx context.Context, key string, cond storage.Cond) error {
	if err := check(ctx, key); err != nil {
		return fmt.Errorf("delete %s: %w", key, err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if old, ok := d.objects.Get(probe(key)); !cond.Holds(ok, old.Rev) {
		return fmt.Errorf("delete %s: %w", key, storage.ErrConflict)
	}
	d.objects.Delete(probe(key))
	return nil
}

// List implements [storage.Driver]. It yields the objects that were there when the listing began.
func (d *Driver) List(ctx context.Context, prefix, after string) iter.Seq2[storage.Info, error] {
	return func(yield func(storage.Info, error) bool) {
		d.mu.Lock()
		snapshot := d.objects.Clone()
		d.mu.Unlock()
		snapshot.AscendGreaterOrEqual(probe(max(prefix, after)), func(o object) bool {
			if err := ctx.Err(); err != nil {
				yield(storage.Info{}, fmt.Errorf("list %s: %w", prefix, err))
				return false
			}
			if o.Key <= after {
				return true
			}
			return strings.HasPrefix(o.Key, prefix) && yield(o.Info, nil)
		})
	}
}

// probe is an object to look key up with.
func probe(key string) object { return object{Info: storage.Info{Key: key}} }

func check(ctx context.Context, key string) error {
	return errors.Join(ctx.Err(), storage.CheckKey(key))
}
