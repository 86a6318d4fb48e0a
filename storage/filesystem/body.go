package filesystem

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"syscall"
)

// Sizes, in bytes, of how bodies are written.
const (
	// writeback is how much of a large body is written before the disk is told to begin with it. At most twice as much
	// of one body waits in memory, since a sync of others may have to write that too.
	writeback = 8 << 20
	// blockSize is what buffers, offsets and sizes are multiples of when the system's memory is passed by: the largest
	// block of the disks there are.
	blockSize = 4 << 10
	// directFrom is the size of a write from which on passing the system's memory by costs less than going through it.
	directFrom = 64 << 10
)

// buffers are what bodies pass through. One holds any small object whole, and is not full then. Go begins memory of this
// size at a page; the disk would refuse another, and the write go through the system's memory.
var buffers = sync.Pool{New: func() any { return new([smallObject]byte) }}

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

// writeChunk appends to the temporary file.
func (d *Driver) writeChunk(s *staged, p []byte) error {
	if err := d.space.reserve(int64(len(p))); err != nil {
		return err
	}
	s.reserved += int64(len(p))
	if d.traits.direct && !d.options.NoSync && len(p) >= directFrom {
		n, err := s.writePast(p[:len(p)&^(blockSize-1)])
		if err != nil {
			return err
		}
		return d.writeThrough(s, p[n:])
	}
	return d.writeThrough(s, p)
}

// writePast writes whole blocks to the disk without leaving them in memory. Where the file system will not, it writes
// less, and no error says so.
func (s *staged) writePast(p []byte) (int, error) {
	if !s.past {
		if err := setDirect(s.file, true); err != nil {
			return 0, nil
		}
		s.past = true
	}
	n, err := s.file.Write(p)
	s.wrote(p[:n])
	if errors.Is(err, syscall.EINVAL) {
		err = nil
	}
	return n, err
}

// writeThrough writes by way of the system's memory, and keeps the disk busy with what it has of a large body.
func (d *Driver) writeThrough(s *staged, p []byte) error {
	if len(p) == 0 {
		return nil
	}
	if s.past {
		if err := setDirect(s.file, false); err != nil {
			return err
		}
		s.past = false
	}
	if _, err := s.file.Write(p); err != nil {
		return err
	}
	before := s.size / writeback
	s.wrote(p)
	if d.options.NoSync || s.size/writeback == before {
		return nil
	}
	start := before * writeback
	if err := startWriteback(s.file, start, writeback); err != nil || start == 0 {
		return err
	}
	return waitWriteback(s.file, start-writeback, writeback)
}

// wrote counts what was appended.
func (s *staged) wrote(p []byte) {
	if s.size == 0 {
		copy(s.ends[:edge], p)
	}
	s.size += int64(len(p))
	last := s.ends[edge:]
	if len(p) < edge {
		copy(last, last[len(p):])
	}
	copy(last[edge-min(edge, len(p)):], p[len(p)-min(edge, len(p)):])
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
