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
