// Package measured reports every call of a driver: how long it took and how it ended.
package measured

import (
	"context"
	"io"
	"iter"
	"time"

	"berth/storage"
)

// A Report is told of every call: its operation (open, stat, put, putall, delete, list), how long it took until it
// returned (for open, until the reader was there; for list, until the iteration ended), and its error. It is called from
// many goroutines at once.
type Report func(operation string, took time.Duration, err error)

// Driver is a [storage.Driver] that reports the calls of the driver it wraps.
type Driver struct {
	next   storage.Driver
	report Report
}

// New wraps a driver.
func New(next storage.Driver, report Report) *Driver { return &Driver{next, report} }

// Unwrap returns the driver that d wraps.
func (d *Driver) Unwrap() storage.Driver { return d.next }

func (d *Driver) done(operation string, start time.Time, err *error) {
	d.report(operation, time.Since(start), *err)
}

// Open is reported as "open".
func (d *Driver) Open(ctx context.Context, key string, off, n int64) (_ io.ReadCloser, _ storage.Info, err error) {
	defer d.done("open", time.Now(), &err)
	return d.next.Open(ctx, key, off, n)
}

// Stat is reported as "stat".
func (d *Driver) Stat(ctx context.Context, key string) (_ storage.Info, err error) {
	defer d.done("stat", time.Now(), &err)
	return d.next.Stat(ctx, key)
}

// Put is reported as "put".
func (d *Driver) Put(ctx context.Context, key string, r io.Reader, size int64, cond storage.Cond) (_ storage.Info, err error) {
	defer d.done("put", time.Now(), &err)
	return d.next.Put(ctx, key, r, size, cond)
}

// PutAll is reported as "putall", once; drivers that put one object after another are not reported apart.
func (d *Driver) PutAll(ctx context.Context, objects []storage.Object) (_ []storage.Info, err error) {
	defer d.done("putall", time.Now(), &err)
	return storage.PutAll(ctx, d.next, objects...)
}

// Delete is reported as "delete".
func (d *Driver) Delete(ctx context.Context, key string, cond storage.Cond) (err error) {
	defer d.done("delete", time.Now(), &err)
	return d.next.Delete(ctx, key, cond)
}

// List is reported as "list".
func (d *Driver) List(ctx context.Context, prefix, after string) iter.Seq2[storage.Info, error] {
	return timed(d, d.next.List(ctx, prefix, after))
}

// Keys is reported as "list".
func (d *Driver) Keys(ctx context.Context, prefix, after string) iter.Seq2[string, error] {
	return timed(d, storage.Keys(ctx, d.next, prefix, after))
}

func timed[T any](d *Driver, listing iter.Seq2[T, error]) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var failed error
		defer d.done("list", time.Now(), &failed)
		for v, err := range listing {
			failed = err
			if !yield(v, err) {
				return
			}
		}
	}
}
