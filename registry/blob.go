package registry

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"berth/storage"
)

// A blobRecord says where the bytes of a blob are. There is one for the whole registry, whoever pushed it first. A record
// without segments has the bytes itself, as its payload.
type blobRecord struct {
	nonce
	Size     int64     `json:"size"`
	Segments []segment `json:"segments,omitempty"`
	// Origin is a repository that held the blob: a place to look for a mount that names none, never a permission.
	Origin string `json:"origin,omitempty"`
	// Purged says that the segments were removed, or are about to be, by [Registry.PurgeBlob]; Refused that the blob must not
	// come back.
	Purged  bool `json:"purged,omitempty"`
	Refused bool `json:"refused,omitempty"`
}

// A segment is a run of a blob's bytes: a data object.
type segment struct {
	Key  string `json:"key"`
	Size int64  `json:"size"`
}

// A linkRecord says that a repository may serve a blob. Nothing else does: a digest is never a capability.
type linkRecord struct {
	nonce
	Size int64 `json:"size"`
}

// A Blob is a blob of one repository.
type Blob struct {
	Digest     Digest
	Size       int64 // bytes
	repository Repository
}

// Blob finds a blob that p may serve; [BlobUnknown] when there is none.
func (p Repository) Blob(ctx context.Context, d Digest) (*Blob, error) {
	var link linkRecord
	_, _, err := read(ctx, p.reads, p.linkKey(d), &link)
	return p.blob(d, link, err)
}

// CheckBlob is [Repository.Blob] for a client that is about to rely on the answer, as by HEAD before a push: the link is
// renewed when it needs to be. [BlobUnknown] also for a blob that a reader found damaged: a client then pushes it again.
func (p Repository) CheckBlob(ctx context.Context, d Digest) (*Blob, error) {
	if p.damaged.has(d.s) {
		return nil, newError(BlobUnknown, "the blob %s is damaged; push it again", d)
	}
	var link linkRecord
	if _, info, err := read(ctx, p.reads, p.linkKey(d), &link); isAbsent(err) || err == nil && (p.fresh(info) || p.readOnly()) {
		return p.blob(d, link, err)
	}
	_, _, err := p.rely(ctx, p.linkKey(d), &link)
	if errors.Is(err, errDamaged) {
		return nil, newError(BlobUnknown, "the link to the blob %s is damaged; push it again", d)
	}
	if err != nil && !isAbsent(err) {
		return p.Blob(ctx, d) // a failed renewal costs a HEAD nothing: the push that relies on it renews again
	}
	return p.blob(d, link, err)
}

func (p Repository) blob(d Digest, link linkRecord, err error) (*Blob, error) {
	switch {
	case isAbsent(err):
		return nil, newError(BlobUnknown, "the repository %s has no blob %s", p.name, d)
	case err != nil:
		return nil, storeError("read the link of a blob", err)
	}
	return &Blob{d, link.Size, p}, nil
}

// DeleteBlob removes a blob from p. Its bytes go when no repository links them any more.
func (p Repository) DeleteBlob(ctx context.Context, d Digest) error {
	existed, err := p.remove(ctx, p.linkKey(d))
	if err == nil && !existed {
		return newError(BlobUnknown, "the repository %s has no blob %s", p.name, d)
	}
	return storeError("delete the link of a blob", err)
}

// MountBlob makes a blob of another repository one of p, without its bytes; [BlobUnknown] when that repository lacks it, and when
// it is damaged as far as is known: a client then pushes it, which heals it. The caller has authorised pulling from there.
func (p Repository) MountBlob(ctx context.Context, d Digest, from Name) (mounted *Blob, err error) {
	err = p.inTime(ctx, func(ctx context.Context) error {
		mounted, err = p.mount(ctx, d, from)
		return err
	})
	return mounted, err
}

func (p Repository) mount(ctx context.Context, d Digest, from Name) (*Blob, error) {
	source := p.Repository(from)
	var link linkRecord
	var rec blobRecord
	_, _, err := source.rely(ctx, source.linkKey(d), &link)
	if err == nil {
		_, _, err = p.rely(ctx, blobKey(d), &rec)
	}
	switch {
	case errors.Is(err, errDamaged), err == nil && p.damaged.has(d.s):
		return nil, newError(BlobUnknown, "the blob %s of the repository %s is damaged; push it", d, from)
	case err != nil:
		return source.blob(d, link, err)
	case rec.Purged:
		return nil, newError(BlobUnknown, "the blob %s was purged", d)
	}
	if err := p.link(ctx, d, rec.Size); err != nil {
		return nil, err
	}
	return &Blob{d, rec.Size, p}, nil
}

// BlobOrigin names a repository that is likely to hold d, for a mount that names none; [BlobUnknown] when none is known, also
// because the record of d cannot be read. The caller authorises pulling from it before mounting.
func (p Repository) BlobOrigin(ctx context.Context, d Digest) (Name, error) {
	var rec blobRecord
	if _, _, err := read(ctx, p.reads, blobKey(d), &rec); err != nil && !isAbsent(err) && !errors.Is(err, errDamaged) {
		return Name{}, storeError("read the record of a blob", err)
	}
	if rec.Origin == "" {
		return Name{}, newError(BlobUnknown, "no repository is known to hold the blob %s", d)
	}
	return ParseName(rec.Origin)
}

// link lets p serve a blob whose record is there and was touched.
func (p Repository) link(ctx context.Context, d Digest, size int64) error {
	_, err := p.put(ctx, p.linkKey(d), encodeRecord(&linkRecord{Size: size}, nil), storage.Cond{})
	return storeError("link a blob", err)
}

// A stored blob is its record and, where that has no segments, its bytes.
type stored struct {
	blobRecord
	content []byte
}

func (s *stored) encode() []byte { return encodeRecord(&s.blobRecord, s.content) }

// publish makes bytes a blob of p, after the objects in first: blob record, then link. It reports whether the record
// names these bytes, or may name them; it does not when another push of the same content was earlier, or when the store
// became full before.
func (p Repository) publish(ctx context.Context, d Digest, blob stored, first ...storage.Object) (ours bool, err error) {
	err = p.inTime(ctx, func(ctx context.Context) error {
		ours, err = p.publishInTime(ctx, d, blob, first)
		return err
	})
	return ours, err
}

func (p Repository) publishInTime(ctx context.Context, d Digest, blob stored, first []storage.Object) (ours bool, err error) {
	blob.Origin = p.name.s
	objects := append(first,
		storage.Object{Key: blobKey(d), Body: blob.encode(), Cond: storage.Absent()},
		storage.Object{Key: p.linkKey(d), Body: encodeRecord(&linkRecord{Size: blob.Size}, nil)})
	done, err := p.putAll(ctx, objects...)
	if err == nil {
		return true, nil
	}
	if done != len(first) || !isConflict(err) {
		unnamed := done <= len(first) && errors.Is(err, storage.ErrNoSpace) // which says that the put had no effect
		return !unnamed, storeError("store a blob", err)
	}
	if ours, err = p.adopt(ctx, d, blob); err != nil {
		return true, err
	}
	return ours, p.link(ctx, d, blob.Size)
}

// adopt relies on the record of a blob that was there before. Where that is damaged, or the bytes that it has or names are
// missing, cut short or known to be damaged, blob takes its place: pushing a blob again heals it.
func (p Repository) adopt(ctx context.Context, d Digest, blob stored) (ours bool, err error) {
	key := blobKey(d)
	for attempt := 0; ; attempt++ {
		var present stored
		var info storage.Info
		present.content, info, err = p.rely(ctx, key, &present.blobRecord)
		cond := storage.Match(info.Rev)
		switch {
		case isAbsent(err):
			cond = storage.Absent()
		case err == nil && present.Purged:
			if err := present.refuse(d, blob.Segments); err != nil {
				return true, err
			}
		case errors.Is(err, errDamaged), err == nil && present.Size != blob.Size:
		case err != nil:
			return true, storeError("store a blob", err)
		case len(blob.Segments) > 0 && slices.Equal(present.Segments, blob.Segments):
			return true, nil // a reply was lost, and the record renewed since
		default:
			intact, err := p.intact(ctx, d, present)
			if intact || err != nil {
				return err != nil, storeError("store a blob", err)
			}
		}
		if _, err = p.put(ctx, key, blob.encode(), cond); err == nil {
			p.damaged.remove(d.s)
		}
		if !isConflict(err) {
			return true, storeError("store a blob", err)
		}
		if err := pause(ctx, attempt); err != nil {
			return true, err
		}
	}
}

// intact reports whether a record has the bytes of its blob, or all the data objects that it names are there in their full
// size and no reader found them damaged.
func (r *Registry) intact(ctx context.Context, d Digest, blob stored) (bool, error) {
	if len(blob.Segments) == 0 {
		return d.Algorithm().FromBytes(blob.content) == d, nil
	}
	if r.damaged.has(d.s) {
		return false, nil
	}
	for _, s := range blob.Segments {
		info, err := r.store.Stat(ctx, s.Key)
		switch {
		case isAbsent(err) || err == nil && info.Size != s.Size:
			return false, nil
		case err != nil:
			return false, err
		}
	}
	return true, nil
}

// discard removes data objects that no record ever named. What fails here is left to the collection.
func (r *Registry) discard(ctx context.Context, segments ...segment) {
	for _, s := range segments {
		_ = r.store.Delete(ctx, s.Key, storage.Cond{}) // best effort, as said
	}
}

// smallBlob is the size, in bytes, up to which a blob pushed in one go is checked in memory before anything is written.
const smallBlob = 256 << 10

// inlineBlob is the size, in bytes, up to which a blob pushed in one go is kept in its record: the configurations and
// signatures that come with every image cost one object less. Little enough that reading a record costs the same.
const inlineBlob = 8 << 10

// pushSmall stores a blob whose bytes are at hand: all of it in one batch.
func (p Repository) pushSmall(ctx context.Context, d Digest, body []byte) (*Blob, error) {
	if got := d.Algorithm().FromBytes(body); got != d {
		return nil, digestMismatch(d, got)
	}
	blob := stored{blobRecord: blobRecord{Size: int64(len(body))}, content: body}
	var first []storage.Object
	if len(body) > inlineBlob {
		key := newDataKey(p.now())
		blob.Segments, blob.content = []segment{{key, blob.Size}}, nil
		first = []storage.Object{{Key: key, Body: body, Cond: storage.Absent()}}
	}
	ours, err := p.publish(ctx, d, blob, first...)
	if !ours {
		p.discard(ctx, blob.Segments...)
	}
	if err != nil {
		return nil, err
	}
	return &Blob{d, blob.Size, p}, nil
}

func digestMismatch(want, got Digest) error {
	return &Error{Code: DigestInvalid, Message: fmt.Sprintf("the content has the digest %s, not %s", got, want),
		Detail: map[string]string{"expected": want.s, "actual": got.s}}
}
