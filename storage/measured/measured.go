// Package measured reports every call of a driver: how long it took and how it ended.
package measured

import (
	"context"
	"io"
	"iter"
	"time"

	"berth/storage"
)

// A Call is one call of a driver.
type Call struct {
	Operation Operation
	Key       string        // of what it is about: the first one of several, the prefix of a listing
	Took      time.Duration // until it returned; for Open until the reader was there, for List until the iteration ended
	Err       error
}

// An Operation is a method of [storage.Driver].
type Operation uint8

// The operations. Several puts together are one Put.
const (
	Open Operation = iota
	Stat
	Put
	Delete
	List
)

// A Report is told of every call. It is called from many goroutines at once.
type Report func(Call)

// Driver is a [storage.Driver] that reports the calls of the driver it wraps.
type Driver struct {
	next   storage.Driver
	report Report
}

// New wraps a driver.
func New(next storage.Driver, report Report) *Driver { return &Driver{next, report} }

// Unwrap returns the driver that d wraps.
func (d *Driver) Unwrap() storage.Driver { return d.next }

func (d *Driver) done(o Operation, key string, start time.Time, err *error) {
	d.report(Call{o, key, time.Since(start), *err})
}

// Open is reported.
func (d *Driver) Open(ctx context.Context, key string, off, n int64) (_ io.ReadCloser, _ storage.Info, err error) {
	defer d.done(Open, key, time.Now(), &err)
	return d.next.Open(ctx, key, off, n)
}

// Stat is reported.
func (d *Driver) Stat(ctx context.Context, key string) (_ storage.Info, err error) {
	defer d.done(Stat, key, time.Now(), &err)
	return d.next.Stat(ctx, key)
}

// Put is reported.
func (d *Driver) Put(ctx context.Context, key string, r io.Reader, size int64, cond storage.Cond) (_ storage.Info, err error) {
	defer d.done(Put, key, time.Now(), &err)
	return d.next.Put(ctx, key, r, size, cond)
}

// PutAll is reported as one Put; drivers that put one object after another are not reported apart.
func (d *Driver) PutAll(ctx context.Context, objects []storage.Object) (_ []storage.Info, err error) {
	key := ""
	if len(objects) > 0 {
		key = objects[0].Key
	}
	defer d.done(Put, key, time.Now(), &err)
	return storage.PutAll(ctx, d.next, objects...)
}

// Delete is reported.
func (d *Driver) Delete(ctx context.Context, key string, cond storage.Cond) (err error) {
	defer d.done(Delete, key, time.Now(), &err)
	return d.next.Delete(ctx, key, cond)
}

// List is reported.
func (d *Driver) List(ctx context.Context, prefix, after string) iter.Seq2[storage.Info, error] {
	return timed(d, prefix, d.next.List(ctx, prefix, after))
}

// Keys is reported as List.
func (d *Driver) Keys(ctx context.Context, prefix, after string) iter.Seq2[string, error] {
	return timed(d, prefix, storage.Keys(ctx, d.next, prefix, after))
}

func timed[T any](d *Driver, prefix string, listing iter.Seq2[T, error]) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var failed error
		defer d.done(List, prefix, time.Now(), &failed)
		for v, err := range listing {
			failed = err
			if !yield(v, err) {
				return
			}
		}
	}
}
