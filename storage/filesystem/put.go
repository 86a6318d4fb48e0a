package filesystem

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"berth/storage"
)

// syncAlone is the size, in bytes, above which a file is synced by itself, so that others need not wait for it.
const syncAlone = 4 << 20

// A staged object has its body in a temporary file and waits to be put in its place.
type staged struct {
	key, path string
	cond      storage.Cond
	file      *os.File // open until the content is durable
	temp      string
	size      int64
	reserved  int64       // bytes of the limit, given back unless the object is placed
	rev       storage.Rev // empty if the object is not small
	ends      ends        // of an object that is not small
	info      storage.Info
	placed    bool
	past      bool // the file is written past the memory of the system
}

// Put implements [storage.Driver].
func (d *Driver) Put(ctx context.Context, key string, r io.Reader, size int64, cond storage.Cond) (storage.Info, error) {
	if err := d.expect(ctx, key, cond); err != nil {
		return storage.Info{}, putError(key, err)
	}
	s, err := d.stage(ctx, key, r, size, cond)
	if err != nil {
		return storage.Info{}, err
	}
	defer d.discard(s)
	infos, err := d.commit(ctx, []*staged{s})
	if err != nil {
		return storage.Info{}, err
	}
	return infos[0], nil
}

// PutAll implements [storage.Batcher]: all bodies share one sync, and so do all folders.
func (d *Driver) PutAll(ctx context.Context, objects []storage.Object) ([]storage.Info, error) {
	batch := make([]*staged, 0, len(objects))
	defer func() {
		for _, s := range batch {
			d.discard(s)
		}
	}()
	var stageErr error
	for _, o := range objects {
		s, err := d.stage(ctx, o.Key, bytes.NewReader(o.Body), int64(len(o.Body)), o.Cond)
		if stageErr = err; err != nil {
			break // those before it are put all the same
		}
		batch = append(batch, s)
	}
	infos, err := d.commit(ctx, batch)
	if err == nil {
		err = stageErr
	}
	return infos, err
}

func putError(key string, err error) error { return fmt.Errorf("put %s: %w", key, err) }

// expect refuses a put whose condition does not hold even before its body is read.
func (d *Driver) expect(ctx context.Context, key string, cond storage.Cond) error {
	if cond.IsAlways() {
		return nil
	}
	c, err := d.content(ctx, key)
	if c.file != nil {
		c.file.Close()
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if !cond.Holds(err == nil, c.info.Rev) {
		return storage.ErrConflict
	}
	return nil
}

// stage writes a body to a temporary file.
func (d *Driver) stage(ctx context.Context, key string, r io.Reader, size int64, cond storage.Cond) (*staged, error) {
	path, err := d.path(key)
	if err = errors.Join(ctx.Err(), err, d.Healthy()); err != nil {
		return nil, putError(key, err)
	}
	s := &staged{key: key, path: path, cond: cond}
	s.temp = filepath.Join(d.temp, strconv.FormatUint(d.tempNames.Add(1), 36))
	s.file, err = os.OpenFile(s.temp, os.O_RDWR|os.O_CREATE|os.O_EXCL, d.options.FileMode)
	if err != nil {
		return nil, putError(key, classify(err))
	}
	if err := d.write(ctx, s, r, size); err != nil {
		d.discard(s)
		return nil, putError(key, err)
	}
	return s, nil
}

// discard removes what is left of s: nothing, if it was placed.
func (d *Driver) discard(s *staged) {
	if s.file != nil {
		s.file.Close()
	}
	if !s.placed {
		d.sys.unlink(s.temp) // if it fails, the next start sweeps it
		d.space.free(s.reserved)
	}
}
