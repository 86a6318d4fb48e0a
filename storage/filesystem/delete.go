package filesystem

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"berth/storage"
)

// Delete implements [storage.Driver].
func (d *Driver) Delete(ctx context.Context, key string, cond storage.Cond) error {
	if err := d.delete(ctx, key, cond); err != nil {
		return fmt.Errorf("delete %s: %w", key, err)
	}
	return nil
}

func (d *Driver) delete(ctx context.Context, key string, cond storage.Cond) error {
	path, err := d.path(key)
	if err = errors.Join(ctx.Err(), err); err != nil {
		return err
	}
	unlock, err := d.lock(ctx, key)
	if err != nil {
		return err
	}
	defer unlock()
	leave, err := d.change()
	if err != nil {
		return err
	}
	defer leave()

	c, err := d.load(path, key)
	c.close()
	exists := err == nil
	if !exists && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if !cond.Holds(exists, c.info.Rev) {
		return storage.ErrConflict
	}
	if !exists {
		return nil
	}
	return d.erase(key, path, c.info.Size)
}

// erase removes a file, under the lock of its key, makes that durable, and removes the folders that it leaves empty.
func (d *Driver) erase(key, path string, size int64) error {
	flight := newFlight()
	d.flights.begin(key, flight)
	dir := filepath.Dir(path)
	err := classify(d.sys.unlink(path))
	if err == nil {
		d.space.free(size)
	}
	var syncErr error
	if err == nil || ambiguous(err) {
		syncErr = d.syncFolders([]string{dir})
	}
	d.flights.end(flight, syncErr)
	if err = cmp.Or(syncErr, err); err != nil {
		return err
	}
	for len(dir) > len(d.objects) && d.sys.rmdir(dir) == nil { // no more than tidiness, so it need not be durable
		dir = filepath.Dir(dir)
	}
	return nil
}
