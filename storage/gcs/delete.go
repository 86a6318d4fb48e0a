package gcs

import (
	"context"
	"errors"
	"io/fs"

	"golang.org/x/sync/errgroup"

	"berth/storage"
	"berth/storage/remote"
)

// Delete removes an object, under the condition of the service.
func (d *Driver) Delete(ctx context.Context, key string, cond storage.Cond) error {
	if err := check(ctx, "delete", key); err != nil {
		return err
	}
	if cond.IsAbsent() {
		return d.holds(ctx, "delete", key, cond)
	}
	object, ok := under(d.object(key), cond)
	if !ok {
		return conflict("delete", key)
	}
	if expected, matches := cond.Rev(); matches && d.named {
		n, _ := generation(expected)
		object = d.object(key).Generation(n)
	}
	err := d.write(ctx, write{remote.Call{Operation: "delete", Key: key}, cond}, func(ctx context.Context) error { return object.Delete(ctx) })
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if _, err := d.look(ctx, "delete", key); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err // the bucket is missing, which the answer to a DELETE does not say
	}
	if !cond.IsAlways() {
		return conflict("delete", key)
	}
	return nil
}

// deletions is how many objects are deleted at a time.
const deletions = 16

// DeleteAll removes objects, several at a time: the service has no call for many.
func (d *Driver) DeleteAll(ctx context.Context, keys []string) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(deletions)
	for _, key := range keys {
		group.Go(func() error { return d.Delete(ctx, key, storage.Cond{}) })
	}
	return group.Wait()
}
