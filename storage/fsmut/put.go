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
	"sync"
	"syscall"

	"berth/storage"
)

// Sizes, in bytes, of how bodies are written.
const (
	// writeback is how much of a large body is written before the disk is told to begin with it. At most twice as much
	// of one body waits in memory, since a sync of others may have to write that too.
	writeback = 8 << 20
	// syncAlone is the size above which a file is synced by itself, so that others need not wait for it.
	syncAlone = 4 << 20
)

// buffers are what bodies pass through. One holds any small object whole, and is not full then.
var buffers = sync.Pool{New: func() any { return new([smallObject]byte) }}

// A staged object has its body in a temporary file and waits to be put in its place.
type staged struct {
	key, path string
	cond      storage.Cond
	file      *os.File // open until the content is durable
	temp      string
	size      int64
	reserved  int64       // bytes of the limit, given back unless the object is placed
	rev       storage.Rev // empty if the object is not small
	info      storage.Info
	placed    bool
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

// write copies the body to the temporary file of s, in whole buffers.
func (d *Driver) write(ctx context.Context, s *staged, r io.Reader, size int64) error {
	r = &stoppable{ctx, r}
	if size >= 0 {
		r = io.LimitReader(r, size+1) // one more, to see that it ends
	}
	buf := buffers.Get().(*[smallObject]byte)
	defer buffers.Put(buf)
	for first := true; ; first = false {
		n, ended, err := fill(r, buf[:])
		if err != nil {
			return fmt.Errorf("read the body: %w", err)
		}
		if size >= 0 && s.size+int64(n) > size {
			return fmt.Errorf("the body goes on after its %d bytes", size)
		}
		if err := d.writeChunk(s, buf[:n]); err != nil {
			return classify(err)
		}
		if ended {
			if first && n < smallObject {
				s.rev = smallRev(buf[:n])
			}
			break
		}
	}
	if size >= 0 && s.size < size {
		return fmt.Errorf("the body ends after %d of %d bytes: %w", s.size, size, io.ErrUnexpectedEOF)
	}
	return ctx.Err()
}

// fill reads until buf is full or r ended. Unlike io.ReadFull it does not mistake a reader that was cut off, and says so by
// io.ErrUnexpectedEOF as the body of a request does, for one that ended.
func fill(r io.Reader, buf []byte) (n int, ended bool, err error) {
	for n < len(buf) && err == nil {
		var m int
		m, err = r.Read(buf[n:])
		n += m
	}
	if err == io.EOF {
		return n, true, nil
	}
	return n, false, err
}

// writeChunk appends to the temporary file, and keeps the disk busy with what it has of a large one.
func (d *Driver) writeChunk(s *staged, p []byte) error {
	if err := d.space.reserve(int64(len(p))); err != nil {
		return err
	}
	s.reserved += int64(len(p))
	if len(p) == 0 {
		return nil
	}
	if _, err := s.file.Write(p); err != nil {
		return err
	}
	before := s.size / writeback
	s.size += int64(len(p))
	if d.options.NoSync || s.size/writeback == before {
		return nil
	}
	start := before * writeback
	if err := startWriteback(s.file, start, writeback); err != nil || start == 0 {
		return err
	}
	return waitWriteback(s.file, start-writeback, writeback)
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

// commit makes the contents of a batch durable, puts them in their places in order, each under its condition, and makes
// that durable. It returns an Info for each that was placed, and the error that stopped it.
func (d *Driver) commit(ctx context.Context, batch []*staged) ([]storage.Info, error) {
	if len(batch) == 0 {
		return nil, nil
	}
	if err := d.syncContents(batch); err != nil {
		return nil, putError(batch[0].key, err)
	}
	keys := make([]string, len(batch))
	for i, s := range batch {
		keys[i] = s.key
	}
	unlock, err := d.locks.lock(ctx, keys...)
	if err != nil {
		return nil, putError(batch[0].key, err)
	}
	defer unlock()
	leave, err := d.change()
	if err = errors.Join(ctx.Err(), err); err != nil {
		return nil, putError(batch[0].key, err)
	}
	defer leave()
	return d.publish(batch)
}

// syncContents makes the temporary files of a batch durable, and closes them.
func (d *Driver) syncContents(batch []*staged) error {
	targets := make([]target, 0, len(batch))
	for _, s := range batch {
		if s.size <= syncAlone {
			targets = append(targets, target{file: s.file})
		} else if err := d.synced(d.syncer.syncEach([]target{{file: s.file}})); err != nil {
			return err
		}
	}
	if err := d.synced(d.syncer.sync(targets)); err != nil {
		return err
	}
	for _, s := range batch {
		if err := s.describe(); err != nil {
			return err
		}
	}
	return nil
}

// synced judges a sync of temporary files. A full disk or quota may show only now; nobody relies on these files, so that
// alone stops nothing else, if it was their own sync that told.
func (d *Driver) synced(err error) error {
	if err == nil || isFull(err) && !d.traits.syncsWhole {
		return classify(err)
	}
	return d.fail(err)
}

// describe fills in the Info, now that a server cannot change the time of the file any more, and closes the file.
func (s *staged) describe() error {
	st, err := s.file.Stat()
	if err != nil {
		return classify(err)
	}
	s.info = storage.Info{Key: s.key, Size: s.size, ModTime: st.ModTime(), Rev: s.rev}
	if s.rev == "" {
		if s.info.Rev, err = largeRev(s.file, st); err != nil {
			return err
		}
	}
	err = s.file.Close()
	s.file = nil
	return classify(err)
}

// publish places a batch, under the locks of its keys. Once a change can be seen it is brought to an end, whatever
// becomes of the caller.
func (d *Driver) publish(batch []*staged) ([]storage.Info, error) {
	flight := newFlight()
	infos := make([]storage.Info, 0, len(batch))
	var dirs []string
	var err error
	for i, s := range batch {
		if err = d.place(s, flight); err != nil {
			err = putError(s.key, err)
			break
		}
		infos = append(infos, s.info)
		dirs = append(dirs, filepath.Dir(s.path))
		if !d.traits.orders && i < len(batch)-1 {
			if syncErr := d.syncFolders(dirs[i:]); syncErr != nil {
				d.flights.end(flight, syncErr)
				return infos[:i], putError(s.key, syncErr)
			}
		}
	}
	syncErr := d.syncFolders(dirs)
	d.flights.end(flight, syncErr)
	if syncErr != nil {
		return nil, putError(batch[0].key, syncErr)
	}
	return infos, err
}

// syncFolders makes the entries of folders durable.
func (d *Driver) syncFolders(dirs []string) error {
	if len(dirs) == 0 {
		return nil
	}
	targets, durable := d.folders.entries(dirs)
	if err := d.syncer.sync(targets); err != nil {
		return d.fail(err)
	}
	durable()
	return nil
}

// place gives an object its name, if its condition holds.
func (d *Driver) place(s *staged, flight *flight) error {
	if _, ok := s.cond.Rev(); ok {
		switch c, err := load(s.path, s.key); {
		case err != nil && !errors.Is(err, fs.ErrNotExist):
			return err
		case !s.cond.Holds(err == nil, c.close().info.Rev):
			return storage.ErrConflict
		}
	}
	old := d.sizeAt(s.path)
	d.flights.begin(s.key, flight)
	if err := d.rename(s); err != nil {
		return err
	}
	s.placed = true
	d.space.free(old)
	return nil
}

// close closes the file of a content, if it has one.
func (c content) close() content {
	if c.file != nil {
		c.file.Close()
	}
	return c
}

// sizeAt returns how much of the limit the object at path takes.
func (d *Driver) sizeAt(path string) int64 {
	if d.space.limit == 0 {
		return 0
	}
	st, err := os.Lstat(path)
	if err != nil || !st.Mode().IsRegular() {
		return 0
	}
	return st.Size()
}

// rename moves the temporary file to its place. Folders come and go meanwhile: a delete removes those that it leaves
// empty, and one that was left over may be where the object belongs.
func (d *Driver) rename(s *staged) error {
	rename := d.sys.rename
	if s.cond.IsAbsent() {
		rename = d.sys.renameNew
	}
	const tries = 1000
	var err error
	for range tries {
		err = rename(s.temp, s.path)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, fs.ErrNotExist):
			if err := d.folders.make(filepath.Dir(s.path)); err != nil {
				return classify(err)
			}
		case errors.Is(err, fs.ErrExist), errors.Is(err, syscall.EISDIR):
			if err := d.clearFolder(s); err != nil {
				return err
			}
		case errors.Is(err, syscall.ENOTDIR):
			return fmt.Errorf("%w: a part of %q is an object", storage.ErrInvalidKey, s.key)
		default:
			return classify(err)
		}
	}
	return classify(err)
}

// clearFolder is called when something is where s belongs. It removes an empty folder, so that the rename can be tried
// again.
func (d *Driver) clearFolder(s *staged) error {
	st, err := os.Lstat(s.path)
	switch {
	case isMissing(err):
		return nil
	case err != nil:
		return classify(err)
	case !st.IsDir():
		return storage.ErrConflict
	}
	err = d.sys.rmdir(s.path)
	switch {
	case err == nil, isMissing(err):
		return nil
	case errors.Is(err, fs.ErrExist): // which ENOTEMPTY is too
		return fmt.Errorf("%w: %q is a folder of other keys", storage.ErrInvalidKey, s.key)
	}
	return classify(err)
}
