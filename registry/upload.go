package registry

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding"
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
	"io"
	"slices"
	"time"

	"github.com/google/uuid"

	"berth/storage"
)

// maxSegments bounds the data objects of one blob, and so the chunks of one upload.
const maxSegments = 10_000

// An uploadRecord is an upload that received something. Its state only ever goes from open to one of the others.
type uploadRecord struct {
	nonce
	Repository string      `json:"repository"`
	Principal  string      `json:"principal,omitempty"`
	State      uploadState `json:"state"`
	Digest     string      `json:"digest,omitempty"` // when closed
	Offset     int64       `json:"offset"`
	Segments   []segment   `json:"segments"`
	Pending    string      `json:"pending,omitempty"` // a data object being written, named while that takes long
	Hash       []byte      `json:"hash,omitempty"`    // the state of the hash of the id's algorithm, after Offset bytes
}

type uploadState string

const (
	uploadOpen      uploadState = "open"
	uploadClosed    uploadState = "closed" // it became a blob, or is about to: nothing but Digest can be made of it
	uploadCancelled uploadState = "cancelled"
)

// An Upload is a blob on its way into a repository. Its id carries its own proof, so that beginning one writes nothing.
// It belongs to one request; the store arbitrates between requests, on whatever replica they are.
type Upload struct {
	repository Repository
	id         uuid.UUID
	algorithm  Algorithm // to hash by until the digest is known
	principal  string
	record     uploadRecord
	rev        storage.Rev // of the record; "" when there is none yet
	touched    time.Time   // when the record was last written
	pending    string      // the data object that this request began to hold, see hold; "": none
}

// NewUpload begins an upload by a principal; a is the algorithm its digest is expected to have.
func (p Repository) NewUpload(principal string, a Algorithm) *Upload {
	id := uuid.Must(uuid.NewV7())
	return &Upload{repository: p, id: id, algorithm: a, principal: principal, record: p.newUploadRecord(principal)}
}

func (p Repository) newUploadRecord(principal string) uploadRecord {
	return uploadRecord{Repository: p.name.s, Principal: principal, State: uploadOpen}
}

// The parts of an upload id: a UUID of version 7, which has the time the upload began, the algorithm, and the proof.
const (
	idProofSize = 16
	idSize      = 16 + 1 + idProofSize
)

var idAlgorithms = []Algorithm{SHA256, SHA512}

// ID returns the id, one segment of a URL path.
func (u *Upload) ID() string {
	b := append(make([]byte, 0, idSize), u.id[:]...)
	for i, a := range idAlgorithms {
		if a == u.algorithm {
			b = append(b, byte(i))
		}
	}
	return base64.RawURLEncoding.EncodeToString(append(b, u.repository.proof(b, u.principal)...))
}

// proof binds the unproven part of an id to a repository and a principal.
func (p Repository) proof(unproven []byte, principal string) []byte {
	mac := hmac.New(sha256.New, p.secret)
	fmt.Fprintf(mac, "upload\x00%s\x00%s\x00%s", unproven, p.name, principal)
	return mac.Sum(nil)[:idProofSize]
}

// parseUploadID returns what an id of p and the principal says, or false.
func (p Repository) parseUploadID(principal, s string) (uuid.UUID, Algorithm, bool) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil || len(b) != idSize || int(b[16]) >= len(idAlgorithms) || !hmac.Equal(b[17:], p.proof(b[:17], principal)) {
		return uuid.UUID{}, "", false
	}
	return uuid.UUID(b[:16]), idAlgorithms[b[16]], true
}

// Upload finds an upload of the principal by its id. [UploadUnknown] when it never was, is of another repository or
// principal, was cancelled, or expired.
func (p Repository) Upload(ctx context.Context, principal, id string) (*Upload, error) {
	unknown := newError(UploadUnknown, "there is no such upload in the repository %s; it may have expired: begin a new one", p.name)
	key, algorithm, ok := p.parseUploadID(principal, id)
	if !ok {
		return nil, unknown
	}
	u := &Upload{repository: p, id: key, algorithm: algorithm, principal: principal, record: p.newUploadRecord(principal)}
	var rec uploadRecord
	_, info, err := read(ctx, p.store, uploadKey(key.String()), &rec)
	switch {
	case isAbsent(err):
		if sec, nsec := key.Time().UnixTime(); p.now().Sub(time.Unix(sec, nsec)) > p.uploadAge {
			return nil, unknown
		}
		return u, nil
	case err != nil:
		return nil, storeError("read an upload", err)
	case rec.State == uploadCancelled, rec.Repository != p.name.s, rec.Principal != principal:
		return nil, unknown
	}
	u.record, u.rev, u.touched = rec, info.Rev, info.ModTime
	return u, nil
}

// UUID names the upload in logs and headers; unlike [Upload.ID] it is no proof of anything.
func (u *Upload) UUID() string { return u.id.String() }

// Offset returns how many bytes have arrived.
func (u *Upload) Offset() int64 { return u.record.Offset }

// Closed reports whether the upload became a blob, or is about to.
func (u *Upload) Closed() bool { return u.record.State == uploadClosed }

// save writes the record, if nobody else wrote it since it was read. If somebody did, the error is [RangeInvalid], and u is
// what that left.
func (u *Upload) save(ctx context.Context, next uploadRecord) error {
	key := uploadKey(u.id.String())
	for {
		cond := storage.Match(u.rev)
		if u.rev == "" {
			cond = storage.Absent()
		}
		info, err := u.repository.put(ctx, key, encodeRecord(&next, nil), cond)
		if err == nil {
			u.record, u.rev, u.touched = next, info.Rev, info.ModTime
			return nil
		}
		if !isConflict(err) {
			return storeError("write an upload", err)
		}
		var present uploadRecord
		_, info, readErr := read(ctx, u.repository.store, key, &present)
		switch {
		case isAbsent(readErr):
			return &Error{Code: UploadUnknown, Message: "the upload expired meanwhile", Err: err}
		case readErr != nil:
			return storeError("write an upload", readErr)
		case u.pending != "" && present.Pending == u.pending && present.State == uploadOpen:
			u.rev, u.touched = info.Rev, info.ModTime // hold wrote it, and lost the reply
		default:
			u.record, u.rev, u.touched = present, info.Rev, info.ModTime
			return &Error{Code: RangeInvalid, Message: "another request changed this upload at the same time; ask for its status", Err: err}
		}
	}
}

// saveInTime is save for a record that is the first to name a data object, or that nothing else will name soon: written late, it
// could name one that a collection removed meanwhile.
func (u *Upload) saveInTime(ctx context.Context, next uploadRecord) error {
	return u.repository.inTime(ctx, func(ctx context.Context) error { return u.save(ctx, next) })
}

// unsaved discards data objects of a request whose save failed, if it is known that no record names them.
func (u *Upload) unsaved(ctx context.Context, err error, added []segment) {
	if code := CodeOf(err); code == NoSpace || code == RangeInvalid && !u.has(added) {
		u.repository.discard(ctx, added...)
	}
}

// has reports whether the record has what a request added: then its save took place, whatever the store answered.
func (u *Upload) has(added []segment) bool {
	return len(added) > 0 && slices.Contains(u.record.Segments, added[0])
}

// A Chunk is a piece of a blob as a request carries it.
type Chunk struct {
	Body  io.Reader // nil: nothing
	Size  int64     // bytes announced; -1: unknown
	Start int64     // the offset announced; -1: wherever the upload stands
	End   int64     // the last byte announced; -1: unknown
}

// length returns how many bytes c says it has, -1 when it does not say.
func (c Chunk) length() int64 {
	if c.Start >= 0 && c.End >= 0 {
		return c.End - c.Start + 1
	}
	return c.Size
}

// orEmpty gives c a body.
func (c Chunk) orEmpty() Chunk {
	if c.Body == nil {
		c.Body, c.Size = eof{}, 0
	}
	return c
}

// check refuses a chunk that contradicts itself or does not begin where the upload stands.
func (u *Upload) check(c Chunk) error {
	switch {
	case c.Start >= 0 && c.End >= 0 && c.length() < 0:
		return newError(SizeInvalid, "the range %d-%d ends before it begins", c.Start, c.End)
	case c.Start >= 0 && c.Size >= 0 && c.length() != c.Size:
		return newError(SizeInvalid, "the range %d-%d has %d bytes, the body %d", c.Start, c.End, c.length(), c.Size)
	case c.Start >= 0 && c.Start != u.record.Offset:
		return newError(RangeInvalid, "the upload stands at byte %d, the chunk begins at %d", u.record.Offset, c.Start)
	case c.length() != 0 && len(u.record.Segments) >= maxSegments:
		return newError(UploadInvalid, "an upload has at most %d chunks; send larger ones", maxSegments)
	}
	if room := u.room(); room >= 0 && c.length() > room {
		return u.repository.tooLarge()
	}
	return nil
}

// room returns how many more bytes u may receive, -1 for any number.
func (u *Upload) room() int64 {
	most := u.repository.maxBlob()
	if most <= 0 {
		return -1
	}
	return max(0, most-u.record.Offset)
}

func (r *Registry) tooLarge() error {
	return newError(BlobTooLarge, "the registry takes blobs of at most %d bytes", r.maxBlob())
}

// Append adds a chunk. A body that breaks off is kept as far as it came, so that the client can go on from there; the
// error that broke it is returned with the upload at its new offset. [RangeInvalid] for a chunk that does not begin
// where the upload stands, and when another request moved the upload meanwhile.
func (u *Upload) Append(ctx context.Context, c Chunk) error {
	if u.Closed() {
		return newError(UploadUnknown, "the upload is closed")
	}
	c = c.orEmpty()
	if err := u.check(c); err != nil {
		return err
	}
	ctx = context.WithoutCancel(ctx) // a client that went away must not lose what it sent
	h, err := u.hash(u.algorithm)
	if err != nil {
		return err
	}
	body := u.ingest(c, h)
	body.lenient = true
	added, err := u.receive(ctx, body)
	if err != nil {
		return err
	}
	if c.length() >= 0 && body.broken == nil && body.n != c.length() {
		u.repository.discard(ctx, added...)
		return newError(SizeInvalid, "the chunk was announced with %d bytes and has %d", c.length(), body.n)
	}
	next := u.advanced(added, body.n)
	if next.Hash, err = h.(encoding.BinaryMarshaler).MarshalBinary(); err != nil {
		return storeError("keep the state of the hash", err)
	}
	err = u.saveInTime(ctx, next)
	if err != nil && (!u.has(added) || u.record.State == uploadCancelled) {
		u.unsaved(ctx, err, added)
		return err
	}
	if body.broken != nil {
		return &Error{Code: SizeInvalid, Message: "the chunk broke off", Err: body.broken}
	}
	return nil
}

// advanced returns the record after n more bytes.
func (u *Upload) advanced(added []segment, n int64) uploadRecord {
	next := u.record
	next.Pending = ""
	next.Offset += n
	next.Segments = append(next.Segments[:len(next.Segments):len(next.Segments)], added...)
	return next
}

// hash returns the hash of what arrived so far: kept in the record for the algorithm of the id, new at the beginning.
func (u *Upload) hash(a Algorithm) (hash.Hash, error) {
	h := a.new()
	if u.record.Offset == 0 {
		return h, nil
	}
	if err := h.(encoding.BinaryUnmarshaler).UnmarshalBinary(u.record.Hash); err != nil {
		return nil, storeError("restore the state of the hash", err)
	}
	return h, nil
}

// receive writes a body as one data object, or as none when it is empty. While that takes long, the record names the
// object, so that no collection takes it for garbage.
func (u *Upload) receive(ctx context.Context, body *ingest) ([]segment, error) {
	defer body.close()
	r := u.repository
	peek := make([]byte, 1)
	n, err := io.ReadFull(body, peek)
	if err != nil {
		if err == io.EOF {
			err = nil
		}
		return nil, u.repository.bodyError(body, err)
	}
	key := newDataKey(r.now())
	ctx, release := u.hold(ctx, key)
	info, err := r.store.Put(ctx, key, io.MultiReader(bytes.NewReader(peek[:n]), body), -1, storage.Absent())
	if isConflict(err) || errors.Is(err, storage.ErrUnavailable) { // nobody else knows the key: what is there is ours, and whole
		if there, statErr := r.store.Stat(ctx, key); statErr == nil && there.Size == body.n {
			info, err = there, nil
		}
	}
	if release() {
		return nil, &Error{Code: Unavailable, Message: "the registry's storage cannot do this now, try again", Err: errNotHeld}
	}
	if err != nil {
		return nil, u.repository.bodyError(body, err)
	}
	return []segment{{key, info.Size}}, nil
}

func (r *Registry) bodyError(body *ingest, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errTooLong):
		return &Error{Code: SizeInvalid, Message: fmt.Sprintf("the body has more than the %d bytes announced", body.limit)}
	case errors.Is(err, errTooLarge):
		return r.tooLarge()
	case body.broken != nil:
		return &Error{Code: SizeInvalid, Message: "the body broke off", Err: body.broken}
	default:
		return storeError("store the bytes of a blob", err)
	}
}

// errNotHeld is why a body is cut that may be collected before it is named.
var errNotHeld = errors.New("the record of the upload could not be written for half of gc.grace")

// hold names a data object in the record of u, again and again, for as long as it takes to write it: from an eighth of the grace
// on, or a quarter of the age of idle uploads, the record is refreshed that often. release ends it, and reports whether that did
// not succeed for long, be it that one write took so long; ctx ends then.
func (u *Upload) hold(parent context.Context, key string) (ctx context.Context, release func() (late bool)) {
	ctx, cancel := context.WithCancelCause(parent)
	done, late := make(chan struct{}), false
	go func() {
		defer close(done)
		tick := time.NewTicker(min(u.repository.grace/8, u.repository.uploadAge/4))
		defer tick.Stop()
		for last := time.Now(); ; {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			held, onward := u.holdOnce(context.WithoutCancel(ctx), key) // a put that is cut off may take place all the same
			if !onward {
				return
			}
			if late = time.Since(last) > u.repository.grace/2; late {
				cancel(errNotHeld)
				return
			}
			if held {
				last = time.Now()
			}
		}
	}()
	return ctx, func() bool { cancel(context.Canceled); <-done; return late }
}

// holdOnce reports whether the record was written, and whether to go on: whoever changed the upload meanwhile wins, as the
// save that ends this request will say. What fails otherwise is tried again.
func (u *Upload) holdOnce(ctx context.Context, key string) (held, onward bool) {
	u.pending = key
	other, next := *u, u.record
	next.Pending = key
	err := other.save(ctx, next)
	if err == nil {
		*u = other
	}
	return err == nil, err == nil || CodeOf(err) != RangeInvalid && CodeOf(err) != UploadUnknown
}

// Cancel ends the upload. What it received is removed with its record, later.
func (u *Upload) Cancel(ctx context.Context) error {
	if u.Closed() {
		return newError(UploadUnknown, "the upload is closed")
	}
	next := u.record
	next.State = uploadCancelled
	return u.save(ctx, next)
}
