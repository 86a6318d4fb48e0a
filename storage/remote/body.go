package remote

import (
	"cmp"
	"context"
	"errors"
	"io"
	"iter"
	"slices"
	"sync"
	"sync/atomic"
)

// pageSize is what a buffer grows by: slow senders hold little, and what is larger than a page leaves less than one unused.
const pageSize = 64 << 10

// A buffer holds a part, in pages that are full but for the last one.
type buffer struct {
	pool  *sync.Pool // of *[pageSize]byte
	pages [][]byte
	size  int64
}

// fill reads up to limit bytes and reports whether that is all.
func (b *buffer) fill(ctx context.Context, r io.Reader, limit int64) (done bool, err error) {
	for b.size < limit {
		n, err := r.Read(b.room(limit - b.size))
		b.size += int64(n)
		last := &b.pages[len(b.pages)-1]
		*last = (*last)[:len(*last)+n]
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

// room is where up to limit bytes go next. An object that is known to be smaller than a page takes no more than its size.
func (b *buffer) room(limit int64) []byte {
	if b.size == 0 && len(b.pages) == 0 && limit < pageSize {
		b.pages = append(b.pages, make([]byte, 0, limit))
	}
	if full := int64(len(b.pages)) * pageSize; b.size == full {
		b.pages = append(b.pages, b.page()[:0])
	}
	last := b.pages[len(b.pages)-1]
	return last[len(last):min(int64(cap(last)), int64(len(last))+limit)]
}

// page returns one that was used before, if there is one.
func (b *buffer) page() []byte {
	if p, ok := b.pool.Get().(*[pageSize]byte); ok {
		return p[:]
	}
	return make([]byte, pageSize)
}

// release lets others use the pages.
func (b *buffer) release() {
	for _, p := range b.pages {
		if cap(p) == pageSize {
			b.pool.Put((*[pageSize]byte)(p[:pageSize]))
		}
	}
	b.pages, b.size = nil, 0
}

// ReadAt implements [io.ReaderAt].
func (b *buffer) ReadAt(p []byte, off int64) (n int, err error) {
	for n < len(p) && off < b.size {
		got := copy(p[n:], b.pages[off/pageSize][off%pageSize:])
		n, off = n+got, off+int64(got)
	}
	if n < len(p) {
		err = io.EOF
	}
	return n, err
}

// A Part is a run of bytes of an object on its way up, numbered from 1.
type Part struct {
	Number int
	b      *buffer
	taken  atomic.Int32
}

// PartOf makes a part of bytes that are at hand.
func PartOf(body []byte) *Part {
	b := &buffer{pool: new(sync.Pool), size: int64(len(body))}
	for page := range slices.Chunk(body, pageSize) {
		b.pages = append(b.pages, slices.Clip(page))
	}
	return &Part{Number: 1, b: b}
}

// Size is its length in bytes.
func (p *Part) Size() int { return int(p.b.size) }

// Pages returns the bytes, to be looked at before the part was sent.
func (p *Part) Pages() iter.Seq[[]byte] { return slices.Values(p.b.pages) }

// Body returns the bytes, for one attempt to send them: a second one keeps them from being used again, since the first may
// still be reading.
func (p *Part) Body() io.ReadSeeker {
	p.taken.Add(1)
	return partReader{io.NewSectionReader(p.b, 0, p.b.size), p.b}
}

// A partReader reads a part. It also writes itself: what hashes a part before it is sent then makes no buffer of its own.
type partReader struct {
	*io.SectionReader
	b *buffer
}

// WriteTo implements [io.WriterTo].
func (r partReader) WriteTo(w io.Writer) (n int64, err error) {
	off, err := r.Seek(0, io.SeekCurrent)
	for off+n < r.b.size && err == nil {
		var written int
		written, err = w.Write(r.b.pages[(off+n)/pageSize][(off+n)%pageSize:])
		n += int64(written)
	}
	_, seekErr := r.Seek(off+n, io.SeekStart)
	return n, cmp.Or(err, seekErr)
}

// Sent says that the part was sent and is not looked at any more. Of one that is not known to be sent, an attempt may still be
// reading: nothing is said of it.
func (p *Part) Sent() {
	if p.taken.Load() == 1 {
		p.b.release()
	}
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
