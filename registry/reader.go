package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash"
	"io"

	"berth/storage"
)

// Open returns a reader over the bytes of b. A read of the whole blob ends with an error instead of its last bytes when
// they do not have its digest; once that was checked, later readers get what the driver returns (for files, one that the
// kernel can send by itself). Bytes that are missing or cut short are an error: from the start for a blob of one data
// object, for one of several when the reader gets there.
func (b *Blob) Open(ctx context.Context) (io.ReadSeekCloser, error) {
	r := b.repository.Registry
	from := r.reads
	if r.damaged.has(b.Digest.s) {
		from = r.store
	}
	content, err := b.content(ctx, from)
	if err != nil && from != r.store { // which may know of another record, since the blob was pushed again
		content, err = b.content(ctx, r.store)
	}
	if err != nil {
		return nil, storeError("open the blob "+b.Digest.s, err)
	}
	if r.verified.has(b.Digest.s) {
		return content, nil
	}
	return &verifier{ReadSeekCloser: content, blob: b, hash: b.Digest.Algorithm().new()}, nil
}

// content returns a reader over bytes that were not compared with the digest, by the record that a driver has.
func (b *Blob) content(ctx context.Context, from storage.Driver) (io.ReadSeekCloser, error) {
	r := b.repository.Registry
	var rec blobRecord
	payload, _, err := read(ctx, from, blobKey(b.Digest), &rec)
	if err != nil {
		return nil, err
	}
	if rec.Purged {
		return nil, newError(BlobUnknown, "the blob %s was purged", b.Digest)
	}
	if rec.Size != b.Size {
		return nil, fmt.Errorf("its record has %d bytes, its link %d", rec.Size, b.Size)
	}
	if len(rec.Segments) == 0 {
		if rec.Size != int64(len(payload)) {
			return nil, fmt.Errorf("its record has %d bytes of %d: %w", len(payload), rec.Size, errDamaged)
		}
		return inMemory{bytes.NewReader(payload)}, nil
	}
	content := &segmentReader{ctx: ctx, store: r.store, segments: rec.Segments, size: rec.Size}
	if len(rec.Segments) > 1 {
		return content, nil
	}
	whole, info, err := r.store.Open(ctx, rec.Segments[0].Key, 0, -1)
	if err != nil {
		return nil, err
	}
	if info.Size != rec.Size {
		return nil, errors.Join(fmt.Errorf("its data has %d bytes instead of %d", info.Size, rec.Size), whole.Close())
	}
	if seekable, ok := whole.(io.ReadSeekCloser); ok {
		return seekable, nil
	}
	content.current = whole
	return content, nil
}

// inMemory reads a blob that is kept in its record.
type inMemory struct{ *bytes.Reader }

func (inMemory) Close() error { return nil }

// A segmentReader reads the data objects of a blob one after another. It opens them when they are read, and goes on at
// the same byte, once, when a read breaks off.
type segmentReader struct {
	ctx      context.Context
	store    storage.Driver
	segments []segment
	size     int64
	offset   int64         // of the next byte in the blob
	current  io.ReadCloser // positioned at offset; nil: none is open
	opened   int64         // where current was opened
}

func (s *segmentReader) Read(p []byte) (int, error) {
	if s.offset >= s.size {
		return 0, io.EOF
	}
	if len(p) == 0 {
		return 0, nil
	}
	for retried := false; ; {
		if s.current == nil {
			if err := s.open(); err != nil {
				return 0, storeError("read a blob", err)
			}
		}
		n, err := s.current.Read(p)
		s.offset += int64(n)
		if err != nil {
			s.close()
		}
		switch {
		case n > 0:
			return n, nil
		case err == nil, err == io.EOF && s.atBoundary():
		case retried:
			return 0, storeError("read a blob", fmt.Errorf("at byte %d of %d: %w", s.offset, s.size, noEOF(err)))
		default:
			retried = true
		}
	}
}

// atBoundary reports whether a segment was read to its end, and more follow.
func (s *segmentReader) atBoundary() bool {
	_, within, err := s.locate()
	return err == nil && within == 0 && s.offset > s.opened
}

func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// locate returns the segment that has the next byte, and where in it.
func (s *segmentReader) locate() (segment, int64, error) {
	within := s.offset
	for _, seg := range s.segments {
		if within < seg.Size {
			return seg, within, nil
		}
		within -= seg.Size
	}
	return segment{}, 0, fmt.Errorf("its segments end before byte %d of %d", s.offset, s.size)
}

func (s *segmentReader) open() error {
	seg, within, err := s.locate()
	if err != nil {
		return err
	}
	s.opened = s.offset
	s.current, _, err = s.store.Open(s.ctx, seg.Key, within, seg.Size-within)
	return err
}

func (s *segmentReader) close() {
	if s.current != nil {
		s.current.Close()
		s.current = nil
	}
}

func (s *segmentReader) Seek(offset int64, whence int) (int64, error) {
	offset, err := seekTo(s.offset, s.size, offset, whence)
	if err == nil && offset != s.offset {
		s.close()
		s.offset = offset
	}
	return offset, err
}

func (s *segmentReader) Close() error {
	s.close()
	return nil
}

func seekTo(at, size, offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += at
	case io.SeekEnd:
		offset += size
	}
	if offset < 0 {
		return at, errors.New("seek before the beginning of a blob")
	}
	return offset, nil
}

// A verifier hashes a blob that is read from its beginning to its end, and withholds the end when the hash is wrong.
// Reads that begin elsewhere pass unverified: a part has no digest.
type verifier struct {
	io.ReadSeekCloser
	blob *Blob
	at   int64
	hash hash.Hash // of the bytes up to at; nil: they were not all read
}

func (v *verifier) Read(p []byte) (int, error) {
	n, err := v.ReadSeekCloser.Read(p)
	v.at += int64(n)
	if v.hash == nil || n == 0 {
		return n, err
	}
	v.hash.Write(p[:n])
	if v.at < v.blob.Size {
		return n, err
	}
	r := v.blob.repository.Registry
	if got := v.blob.Digest.Algorithm().fromHash(v.hash); got != v.blob.Digest {
		r.damaged.add(v.blob.Digest.s)
		return 0, storeError("read the blob "+v.blob.Digest.s, fmt.Errorf("it is damaged: its content has the digest %s", got))
	}
	v.hash = nil
	r.damaged.remove(v.blob.Digest.s)
	r.verified.add(v.blob.Digest.s)
	return n, err
}

func (v *verifier) Seek(offset int64, whence int) (int64, error) {
	at, err := v.ReadSeekCloser.Seek(offset, whence)
	switch {
	case err != nil || at == v.at:
	case at == 0:
		v.hash = v.blob.Digest.Algorithm().new()
	default:
		v.hash = nil
	}
	v.at = at
	return at, err
}
