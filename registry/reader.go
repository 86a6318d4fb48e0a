package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"slices"
	"time"

	"berth/storage"
)

// A Span is a run of the bytes of a blob.
type Span struct{ From, N int64 }

// Open returns a reader over the bytes of b, of which n from the offset from on will be read first, and then those spans in this
// order; reading others may cost more calls of the store. A read of the whole blob ends with an error instead of its last bytes when
// they do not have its digest; once that was checked, later readers get what the driver returns (for files, one that the kernel can
// send by itself). Bytes that are missing or cut short are an error: from the start for a blob of one data object, for one of several
// when the reader gets there.
func (b *Blob) Open(ctx context.Context, from, n int64, then ...Span) (io.ReadSeekCloser, error) {
	r := b.repository.Registry
	var content io.ReadSeekCloser
	wanted := append([]Span{{from, n}}, then...)
	err := b.byRecord(ctx, func(rec blobRecord, payload []byte) (err error) {
		content, err = r.content(ctx, rec, payload, wanted)
		return err
	})
	if err != nil {
		return nil, storeError("open the blob "+b.Digest.s, err)
	}
	if r.verified.has(b.Digest.s) {
		return content, nil
	}
	return &verifier{ReadSeekCloser: content, blob: b, hash: b.Digest.Algorithm().new()}, nil
}

// SignedURL returns a URL at which a client can get the bytes of b from the store itself until it expires. The error is
// errors.ErrUnsupported when there is none: the store has none, or has the bytes in several objects, or next to the record.
func (b *Blob) SignedURL(ctx context.Context, expiry time.Duration) (url string, err error) {
	store := b.repository.store
	err = b.byRecord(ctx, func(rec blobRecord, _ []byte) (err error) {
		if len(rec.Segments) != 1 {
			return errors.ErrUnsupported
		}
		url, err = storage.SignedURL(ctx, store, rec.Segments[0].Key, expiry)
		return err
	})
	if errors.Is(err, errors.ErrUnsupported) {
		return "", errors.ErrUnsupported
	}
	return url, storeError("sign a URL of the blob "+b.Digest.s, err)
}

// byRecord calls use with the record of b: the one that was read before, perhaps, and when that fails the one that the
// store has now, since the blob may have been pushed again.
func (b *Blob) byRecord(ctx context.Context, use func(rec blobRecord, payload []byte) error) error {
	r := b.repository.Registry
	from := r.reads
	if r.damaged.has(b.Digest.s) {
		from = r.store
	}
	err := b.byRecordOf(ctx, from, use)
	if err != nil && from != r.store && !errors.Is(err, errors.ErrUnsupported) {
		err = b.byRecordOf(ctx, r.store, use)
	}
	return err
}

func (b *Blob) byRecordOf(ctx context.Context, from storage.Driver, use func(rec blobRecord, payload []byte) error) error {
	var rec blobRecord
	payload, _, err := read(ctx, from, blobKey(b.Digest), &rec)
	switch {
	case err != nil:
		return err
	case rec.Size != b.Size:
		return fmt.Errorf("its record has %d bytes, its link %d", rec.Size, b.Size)
	case len(rec.Segments) == 0 && rec.Size != int64(len(payload)):
		return fmt.Errorf("its record has %d bytes of %d: %w", len(payload), rec.Size, errDamaged)
	}
	return use(rec, payload)
}

// content returns a reader over bytes that were not compared with their digest. From a store whose readers cannot seek,
// one that has its data in one object is open where it will be read first.
func (r *Registry) content(ctx context.Context, rec blobRecord, payload []byte, wanted []Span) (io.ReadSeekCloser, error) {
	if len(rec.Segments) == 0 {
		return inMemory{bytes.NewReader(payload)}, nil
	}
	content := &segmentReader{ctx: ctx, store: r.store, segments: rec.Segments, size: rec.Size, wanted: wanted}
	if len(rec.Segments) > 1 {
		return content, nil
	}
	from, until := int64(0), rec.Size
	if r.ranged.Load() {
		from, until = wanted[0].From, content.reach(wanted[0].From)
	}
	whole, info, err := r.store.Open(ctx, rec.Segments[0].Key, from, until-from)
	if err != nil {
		return nil, err
	}
	if info.Size != rec.Size {
		return nil, errors.Join(fmt.Errorf("its data has %d bytes instead of %d", info.Size, rec.Size), whole.Close())
	}
	if seekable, ok := whole.(io.ReadSeekCloser); ok {
		return seekable, nil
	}
	r.ranged.Store(true)
	content.current, content.at, content.until = whole, from, until
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
	wanted   []Span        // will be read in this order; what was read before may be left out
	offset   int64         // of the next byte in the blob
	current  io.ReadCloser // nil: none is open
	at       int64         // where current is in the blob
	until    int64         // where it ends
}

func (s *segmentReader) Read(p []byte) (int, error) {
	if s.offset >= s.size {
		return 0, io.EOF
	}
	if len(p) == 0 {
		return 0, nil
	}
	for retried := false; ; {
		if err := s.open(); err != nil {
			return 0, storeError("read a blob", err)
		}
		n, err := s.current.Read(p)
		s.offset += int64(n)
		s.at = s.offset
		if err != nil {
			s.close()
		}
		switch {
		case n > 0:
			return n, nil
		case err == nil, err == io.EOF && s.at == s.until:
		case retried:
			return 0, storeError("read a blob", fmt.Errorf("at byte %d of %d: %w", s.offset, s.size, noEOF(err)))
		default:
			retried = true
		}
	}
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

// near is how many bytes that nobody wants are rather read than left out by another call of the store. It also bounds what a client
// can have read that it does not get, by asking for many little ranges.
const near = 128 << 10

// reach returns how far to read from an offset on: what is wanted there, and what is wanted next, while that is near.
func (s *segmentReader) reach(offset int64) int64 {
	i := slices.IndexFunc(s.wanted, func(w Span) bool { return w.From <= offset && offset < w.From+w.N })
	if i < 0 {
		return s.size
	}
	s.wanted = s.wanted[i:] // what came before was read
	end := s.wanted[0].From + s.wanted[0].N
	for _, w := range s.wanted[1:] {
		if w.From < end || w.From > end+near {
			break
		}
		end = w.From + w.N
	}
	return end
}

// open makes current one that is at the next byte.
func (s *segmentReader) open() error {
	if s.skip() {
		return nil
	}
	s.close()
	seg, within, err := s.locate()
	if err != nil {
		return err
	}
	n := min(seg.Size-within, s.reach(s.offset)-s.offset)
	s.at, s.until = s.offset, s.offset+n
	s.current, _, err = s.store.Open(s.ctx, seg.Key, within, n)
	return err
}

// skip reports whether current is at the next byte, or could be read that far.
func (s *segmentReader) skip() bool {
	ahead := s.offset - s.at
	if s.current == nil || ahead < 0 || ahead > near || s.offset >= s.until {
		return false
	}
	_, err := io.CopyN(io.Discard, s.current, ahead)
	return err == nil
}

func (s *segmentReader) close() {
	if s.current != nil {
		s.current.Close()
		s.current = nil
	}
}

func (s *segmentReader) Seek(offset int64, whence int) (int64, error) {
	offset, err := seekTo(s.offset, s.size, offset, whence)
	if err == nil {
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
