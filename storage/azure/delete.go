package azure

import (
	"context"
	"errors"
	"io/fs"

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
	"golang.org/x/sync/errgroup"

	"berth/storage"
	"berth/storage/remote"
)

// Delete removes an object, with its snapshots if somebody made some.
func (d *Driver) Delete(ctx context.Context, key string, cond storage.Cond) error {
	if err := d.check(ctx, "delete", key); err != nil {
		return err
	}
	expected, matches := cond.Rev()
	if matches && !isRev(expected) {
		return conflict("delete", key)
	}
	if cond.IsAbsent() {
		return d.mustBeAbsent(ctx, key)
	}
	snapshots := blob.DeleteSnapshotsOptionTypeInclude
	options := &blob.DeleteOptions{AccessConditions: access(cond), DeleteSnapshots: &snapshots}
	err := d.service.Do(ctx, remote.Call{Operation: "delete", Key: key, Conditional: matches}, func(ctx context.Context) error {
		_, err := d.blob(key).Delete(ctx, options)
		return err
	})
	switch {
	case !errors.Is(err, fs.ErrNotExist):
		return err
	case matches:
		return conflict("delete", key)
	}
	return nil
}

// mustBeAbsent is a deletion of what is not there.
func (d *Driver) mustBeAbsent(ctx context.Context, key string) error {
	_, err := d.Stat(ctx, key)
	switch {
	case err == nil:
		return conflict("delete", key)
	case errors.Is(err, fs.ErrNotExist):
		return nil
	}
	return err
}

// DeleteAll removes objects, as many at a time as blocks go up.
func (d *Driver) DeleteAll(ctx context.Context, keys []string) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(d.o.Parallel)
	for _, key := range keys {
		group.Go(func() error { return d.Delete(ctx, key, storage.Cond{}) })
	}
	return group.Wait()
}
