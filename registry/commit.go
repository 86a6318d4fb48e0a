package registry

import (
	"bytes"
	"context"
	"hash"
	"io"

	"berth/storage"
)

// PushBlob stores a blob whose bytes come in one request; size is their number, -1 when it was not announced.
func (p Repository) PushBlob(ctx context.Context, d Digest, body io.Reader, size int64) (*Blob, error) {
	return p.NewUpload("", d.Algorithm()).Commit(ctx, d, Chunk{Body: body, Size: size, Start: -1, End: -1})
}

// Commit makes a blob of the upload and a last chunk, which may have no body. [DigestInvalid] when the content does not
// have the digest; the upload is then as it was. Committing again with the same digest answers as the first time.
func (u *Upload) Commit(ctx context.Context, d Digest, c Chunk) (*Blob, error) {
	if u.Closed() {
		return u.conclude(ctx, d)
	}
	c = c.orEmpty()
	if err := u.check(c); err != nil {
		return nil, err
	}
	if u.rev == "" && c.length() <= smallBlob {
		content, complete, err := u.readSmall(c)
		if err != nil {
			return nil, err
		}
		if complete {
			return u.repository.pushSmall(ctx, d, content)
		}
		c.Body = io.MultiReader(bytes.NewReader(content), c.Body)
	}
	return u.commit(ctx, d, c)
}

// readSmall reads a body to its end if it is small, and otherwise the beginning of it.
func (u *Upload) readSmall(c Chunk) (content []byte, complete bool, err error) {
	body := u.ingest(c, nil)
	limit := c.length()
	if limit < 0 {
		limit = smallBlob
	}
	content, err = readUpTo(body, int(limit)+1) // one more, to see the end
	n := int64(len(content))
	switch {
	case err != nil:
		return nil, false, u.repository.bodyError(body, err)
	case n > limit:
		return content, false, nil
	case c.length() >= 0 && n != c.length():
		return nil, false, newError(SizeInvalid, "the body was announced with %d bytes and has %d", c.length(), n)
	}
	return content, true, nil
}

// readUpTo reads a body, no more than limit bytes of it. What is announced is not worth more memory than four times what came.
func readUpTo(body io.Reader, limit int) ([]byte, error) {
	content := make([]byte, 0, min(limit, 16<<10))
	for len(content) < limit {
		if len(content) == cap(content) {
			content = append(make([]byte, 0, min(limit, 4*len(content)+1)), content...)
		}
		n, err := body.Read(content[len(content):cap(content)])
		content = content[:len(content)+n]
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, err
		}
	}
	return content, nil
}

// commit streams the last chunk, compares the digest, and closes the upload.
func (u *Upload) commit(ctx context.Context, d Digest, c Chunk) (*Blob, error) {
	p, algorithm := u.repository, u.algorithm
	if u.record.Offset == 0 {
		algorithm = d.Algorithm()
	}
	h, err := u.hash(algorithm)
	if err != nil {
		return nil, err
	}
	body := u.ingest(c, h)
	added, err := u.receive(ctx, body)
	if err != nil {
		return nil, err
	}
	if c.length() >= 0 && body.n != c.length() {
		p.discard(ctx, added...)
		return nil, newError(SizeInvalid, "the body was announced with %d bytes and has %d", c.length(), body.n)
	}
	next := u.advanced(added, body.n)
	if algorithm != d.Algorithm() {
		if h, err = p.hashSegments(ctx, d.Algorithm(), next.Segments); err != nil {
			p.discard(ctx, added...)
			return nil, err
		}
	}
	if got := d.Algorithm().fromHash(h); got != d {
		p.discard(ctx, added...)
		return nil, digestMismatch(d, got)
	}
	if u.rev == "" && u.pending == "" {
		return u.single(ctx, d, next)
	}
	next.State, next.Digest, next.Hash = uploadClosed, d.s, nil
	if err := u.saveInTime(ctx, next); err != nil {
		u.unsaved(ctx, err, added)
		if !u.Closed() {
			return nil, err
		}
	}
	return u.conclude(ctx, d)
}

// single publishes a blob that came in one request short enough to need no record of its upload.
func (u *Upload) single(ctx context.Context, d Digest, next uploadRecord) (*Blob, error) {
	p := u.repository
	ours, err := p.publish(ctx, d, stored{blobRecord: blobRecord{Size: next.Offset, Segments: next.Segments}})
	if !ours {
		p.discard(ctx, next.Segments...)
	}
	if err != nil {
		return nil, err
	}
	if ours {
		p.verified.add(d.s)
	}
	return &Blob{d, next.Offset, p}, nil
}

// conclude publishes the blob of a closed upload. The first to close it decided which blob that is: were another made of
// the same bytes, two blobs would share them. Bytes that turn out not to be needed stay until the collection.
func (u *Upload) conclude(ctx context.Context, d Digest) (*Blob, error) {
	if u.record.Digest != d.s {
		return nil, newError(UploadInvalid, "the upload was closed as %s", u.record.Digest)
	}
	if err := u.renew(ctx); err != nil {
		return nil, err
	}
	p, size := u.repository, u.record.Offset
	ours, err := p.publish(ctx, d, stored{blobRecord: blobRecord{Size: size, Segments: u.record.Segments}})
	if err != nil {
		return nil, err
	}
	if ours {
		p.verified.add(d.s)
	}
	return &Blob{d, size, p}, nil
}

// renew rewrites the record of a closed upload that was last touched more than a quarter of the grace ago: until the blob
// that is about to be made names the data objects, nothing else does.
func (u *Upload) renew(ctx context.Context) error {
	for !u.repository.fresh(storage.Info{ModTime: u.touched}) {
		err := u.save(ctx, u.record)
		if err == nil || CodeOf(err) != RangeInvalid || !u.Closed() {
			return err
		}
	}
	return nil
}

// hashSegments reads data objects again, for a digest of another algorithm than they were hashed by.
func (r *Registry) hashSegments(ctx context.Context, a Algorithm, segments []segment) (hash.Hash, error) {
	h := a.new()
	for _, s := range segments {
		if err := r.hashSegment(ctx, h, s.Key); err != nil {
			return nil, storeError("read an upload again for its digest", err)
		}
	}
	return h, nil
}

func (r *Registry) hashSegment(ctx context.Context, h hash.Hash, key string) error {
	body, _, err := r.store.Open(ctx, key, 0, -1)
	if err != nil {
		return err
	}
	defer body.Close()
	_, err = io.Copy(h, body)
	return err
}

// eof is an empty body.
type eof struct{}

func (eof) Read([]byte) (int, error) { return 0, io.EOF }
