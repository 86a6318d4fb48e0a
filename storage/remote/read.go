package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"berth/storage"
)

// A Reader reads a range of one content of an object, over as many connections as it takes. It is not safe for concurrent use.
type Reader struct {
	ctx    context.Context
	info   storage.Info
	resume func(ctx context.Context, off, n int64) (io.ReadCloser, error)
	body   io.ReadCloser // nil: broken
	off    int64         // of the next byte
	left   int64
	fails  int // in a row
}

// resumes is how often in a row a reader goes on without having read a byte.
const resumes = 5

// NewReader reads a body, which has the n bytes of an object from the offset off, as far as the object goes; n < 0 means to
// its end. Where the body breaks off, resume is asked for n bytes of the same content from off on; it answers ErrConflict or
// fs.ErrNotExist when that is gone.
func NewReader(ctx context.Context, info storage.Info, body io.ReadCloser, off, n int64, resume func(ctx context.Context, off, n int64) (io.ReadCloser, error)) *Reader {
	left := max(0, info.Size-off)
	if n >= 0 {
		left = min(left, n)
	}
	return &Reader{ctx: ctx, info: info, resume: resume, body: body, off: off, left: left}
}

// Read returns io.EOF only when all of the range was read.
func (r *Reader) Read(p []byte) (int, error) {
	for r.left > 0 {
		if r.body == nil {
			if err := r.again(); err != nil {
				return 0, err
			}
		}
		n, err := r.body.Read(p[:min(int64(len(p)), r.left)])
		r.off, r.left = r.off+int64(n), r.left-int64(n)
		if n > 0 {
			r.fails = 0
		}
		if err != nil && r.left > 0 {
			if err := r.broken(err); err != nil {
				return n, err
			}
		}
		if n > 0 || len(p) == 0 {
			return n, nil
		}
	}
	return 0, io.EOF
}

// broken drops the connection, and returns an error if there were too many.
func (r *Reader) broken(cause error) error {
	_ = r.body.Close()
	r.body = nil
	if err := r.ctx.Err(); err != nil {
		return fmt.Errorf("read %s: %w", r.info.Key, err)
	}
	if r.fails++; r.fails > resumes {
		return fmt.Errorf("read %s: %w: at %d: %v", r.info.Key, storage.ErrUnavailable, r.off, cause)
	}
	return Sleep(r.ctx, time.Duration(r.fails-1)*FirstDelay)
}

func (r *Reader) again() error {
	body, err := r.resume(r.ctx, r.off, r.left)
	if errors.Is(err, storage.ErrConflict) || errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read %s: %w: it broke off at %d, and the object has changed since", r.info.Key, storage.ErrUnavailable, r.off)
	}
	if err == nil {
		r.body = body
	}
	return err
}

// Close ends the request.
func (r *Reader) Close() error {
	if r.body == nil {
		return nil
	}
	err := r.body.Close()
	r.body, r.left = nil, 0
	if err != nil {
		return fmt.Errorf("close %s: %w", r.info.Key, err)
	}
	return nil
}
