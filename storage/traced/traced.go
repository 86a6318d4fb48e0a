// Package traced has every call of a driver followed, below the context of who calls.
package traced

import (
	"context"
	"io"
	"iter"

	"berth/storage"
)

// A Start is told that a call begins, such as "put" of a key; end is called when it returned. For a listing that is when the
// iteration ended. It is called from many goroutines at once.
type Start func(ctx context.Context, operation, key string) (_ context.Context, end func(error))

// Driver is a [storage.Driver] whose calls are followed.
type Driver struct {
	next  storage.Driver
	start Start
}

// New wraps a driver.
func New(next storage.Driver, start Start) *Driver { return &Driver{next, start} }

// Unwrap returns the driver that d wraps.
func (d *Driver) Unwrap() storage.Driver { return d.next }

// Open is followed until the reader is there.
func (d *Driver) Open(ctx context.Context, key string, off, n int64) (io.ReadCloser, storage.Info, error) {
	_, end := d.start(ctx, "open", key) // the reader lives longer, with the context of the caller
	r, info, err := d.next.Open(ctx, key, off, n)
	end(err)
	return r, info, err
}

// Stat is followed.
func (d *Driver) Stat(ctx context.Context, key string) (storage.Info, error) {
	ctx, end := d.start(ctx, "stat", key)
	info, err := d.next.Stat(ctx, key)
	end(err)
	return info, err
}

// Put is followed.
func (d *Driver) Put(ctx context.Context, key string, r io.Reader, size int64, cond storage.Cond) (storage.Info, error) {
	ctx, end := d.start(ctx, "put", key)
	info, err := d.next.Put(ctx, key, r, size, cond)
	end(err)
	return info, err
}

// PutAll is followed as one put, of the first key.
func (d *Driver) PutAll(ctx context.Context, objects []storage.Object) ([]storage.Info, error) {
	key := ""
	if len(objects) > 0 {
		key = objects[0].Key
	}
	ctx, end := d.start(ctx, "put", key)
	infos, err := storage.PutAll(ctx, d.next, objects...)
	end(err)
	return infos, err
}

// Delete is followed.
func (d *Driver) Delete(ctx context.Context, key string, cond storage.Cond) error {
	ctx, end := d.start(ctx, "delete", key)
	err := d.next.Delete(ctx, key, cond)
	end(err)
	return err
}

// List is followed.
func (d *Driver) List(ctx context.Context, prefix, after string) iter.Seq2[storage.Info, error] {
	return follow(ctx, d, prefix, func(ctx context.Context) iter.Seq2[storage.Info, error] { return d.next.List(ctx, prefix, after) })
}

// Keys is followed as List.
func (d *Driver) Keys(ctx context.Context, prefix, after string) iter.Seq2[string, error] {
	return follow(ctx, d, prefix, func(ctx context.Context) iter.Seq2[string, error] { return storage.Keys(ctx, d.next, prefix, after) })
}

func follow[T any](ctx context.Context, d *Driver, prefix string, list func(context.Context) iter.Seq2[T, error]) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		ctx, end := d.start(ctx, "list", prefix)
		var failed error
		defer func() { end(failed) }()
		for v, err := range list(ctx) {
			failed = err
			if !yield(v, err) {
				return
			}
		}
	}
}
