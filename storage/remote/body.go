package remote

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync/atomic"
)

// A buffer holds a part. It grows with what arrives, so that slow senders hold little.
type buffer struct{ bytes []byte }

// fill reads up to limit bytes and reports whether that is all.
func (b *buffer) fill(ctx context.Context, r io.Reader, limit int64) (done bool, err error) {
	b.bytes = b.bytes[:0]
	for int64(len(b.bytes)) < limit {
		if len(b.bytes) == cap(b.bytes) {
			b.grow(limit)
		}
		n, err := r.Read(b.bytes[len(b.bytes):min(int64(cap(b.bytes)), limit)])
		b.bytes = b.bytes[:len(b.bytes)+n]
		if ctx.Err() != nil {
			return false, ctx.Err()
		}
		if err == io.EOF {
			return true, nil
		}
		if err != nil {
			return false, err
		}
	}
	return false, nil
}

// grow makes room: 16 KiB, 256 KiB, then all.
func (b *buffer) grow(limit int64) {
	size := int64(max(16<<10, 16*cap(b.bytes)))
	if size > 256<<10 {
		size = limit
	}
	b.bytes = append(make([]byte, 0, min(size, limit)), b.bytes...)
}

// A Part is a run of bytes of an object on its way up, numbered from 1.
type Part struct {
	Number int
	b      *buffer
	taken  atomic.Int32
}

// Size is its length in bytes.
func (p *Part) Size() int { return len(p.b.bytes) }

// Bytes returns the bytes, to be looked at before [Uploads.Send]'s send returns.
func (p *Part) Bytes() []byte { return p.b.bytes }

// Body returns the bytes, for one attempt to send them: a second one keeps them from being used again, since the first may
// still be reading.
func (p *Part) Body() *bytes.Reader {
	p.taken.Add(1)
	return bytes.NewReader(p.b.bytes)
}

// sized is a reader that must have exactly as many bytes as were said.
type sized struct {
	r    io.Reader
	left int64
}

var (
	errShort = errors.New("the body is shorter than its size")
	errLong  = errors.New("the body is longer than its size")
)

// Read reads one byte more than it may return, to see whether it is there.
func (s *sized) Read(p []byte) (int, error) {
	if s.left == 0 {
		return 0, s.end()
	}
	n, err := s.r.Read(p[:min(int64(len(p)), s.left)])
	s.left -= int64(n)
	if err == io.EOF && s.left > 0 {
		return n, errShort
	}
	if err == nil && s.left == 0 {
		err = s.end()
	}
	return n, err
}

// end reads what must be the end.
func (s *sized) end() error {
	var extra [1]byte
	for range 100 { // as often as bufio tries
		if n, err := s.r.Read(extra[:]); n > 0 {
			return errLong
		} else if err != nil {
			return err
		}
	}
	return io.ErrNoProgress
}
