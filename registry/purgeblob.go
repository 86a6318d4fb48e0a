package registry

import (
	"context"
	"errors"
	"slices"

	"berth/storage"
)

// PurgeBlobResult counts what a purge of one digest did.
type PurgeBlobResult struct {
	Links     []Name // repositories that could serve the blob
	Manifests []Name // repositories that had it as a manifest
	Objects   int    // data objects that were removed
	Bytes     int64  // what the blob had
}

// PurgeBlob removes content that must not be there, such as a secret that was pushed: its bytes at once, its links in every
// repository, and manifests that have the digest. With refuse it cannot be pushed again, until [Registry.AllowBlob]. It can
// be repeated when it was cut short. Manifests that name the blob stay, and are broken: that is what was asked for.
func (r *Registry) PurgeBlob(ctx context.Context, d Digest, refuse bool) (PurgeBlobResult, error) {
	var result PurgeBlobResult
	uploads, segments, err := r.uploadsOf(ctx, d)
	if err == nil {
		segments, err = r.condemn(ctx, d, refuse, segments, &result)
	}
	if err == nil { // now, and not before: what a collection then removes of them is in the note
		err = r.cancelUploads(ctx, uploads)
	}
	for _, s := range segments {
		if err == nil {
			err = r.store.Delete(ctx, s.Key, storage.Cond{})
			result.Objects++
		}
	}
	if err == nil {
		err = r.unlinkEverywhere(ctx, d, &result)
	}
	if err == nil { // of the record, which may have had the bytes, and of what a purge that was cut short removed
		err = r.tell(ctx)
	}
	return result, storeError("purge "+d.s, err)
}

// AllowBlob lets a blob that was refused be pushed again.
func (r *Registry) AllowBlob(ctx context.Context, d Digest) error {
	var rec blobRecord
	return storeError("allow "+d.s, r.update(ctx, blobKey(d), &rec, func(exists bool, payload []byte) ([]byte, bool, error) {
		keep := !exists || !rec.Refused
		rec.Refused = false
		return payload, keep, nil
	}))
}

// uploadsOf returns the closed uploads that are to become the blob d, or did, and the data objects of all of them.
func (r *Registry) uploadsOf(ctx context.Context, d Digest) (keys []string, segments []segment, err error) {
	for key, err := range storage.Keys(ctx, r.store, uploadPrefix, "") {
		if err != nil {
			return nil, nil, err
		}
		var rec uploadRecord
		_, _, err = read(ctx, r.store, key, &rec)
		switch {
		case isAbsent(err), errors.Is(err, errDamaged):
		case err != nil:
			return nil, nil, err
		case rec.State == uploadClosed && rec.Digest == d.s:
			keys, segments = append(keys, key), append(segments, rec.Segments...)
		}
	}
	return keys, segments, nil
}

// cancelUploads makes sure that no closed upload is made a blob any more, except by a request that is under way.
func (r *Registry) cancelUploads(ctx context.Context, keys []string) error {
	for _, key := range keys {
		var rec uploadRecord
		err := r.update(ctx, key, &rec, func(exists bool, _ []byte) ([]byte, bool, error) {
			if !exists || rec.State != uploadClosed {
				return nil, true, nil
			}
			rec.State = uploadCancelled
			return nil, false, nil
		})
		if err != nil && !errors.Is(err, errDamaged) {
			return err
		}
	}
	return nil
}

// condemn turns the record of a blob into a note of the data objects that are to go. The note outlives every request that
// could still make the blob of the same objects, see [blobRecord.refuse].
func (r *Registry) condemn(ctx context.Context, d Digest, refuse bool, segments []segment, result *PurgeBlobResult) ([]segment, error) {
	var rec blobRecord
	var all []segment
	err := r.update(ctx, blobKey(d), &rec, func(exists bool, _ []byte) ([]byte, bool, error) {
		if !rec.Purged {
			result.Bytes = rec.Size
		}
		all = slices.Clone(rec.Segments)
		for _, s := range segments {
			if !slices.Contains(all, s) {
				all = append(all, s)
			}
		}
		rec.Segments, rec.Purged, rec.Refused = all, true, rec.Refused || refuse
		return nil, !exists && len(all) == 0 && !refuse, nil
	})
	return all, err
}

// refuse returns why a blob cannot take the place of one that was purged, if it cannot.
func (b *blobRecord) refuse(d Digest, segments []segment) error {
	if b.Refused {
		return newError(Denied, "the blob %s was purged, and is refused", d)
	}
	for _, s := range segments {
		if slices.Contains(b.Segments, s) {
			return newError(UploadUnknown, "the blob %s was purged meanwhile", d)
		}
	}
	return nil
}

func (r *Registry) unlinkEverywhere(ctx context.Context, d Digest, result *PurgeBlobResult) error {
	for key, err := range storage.Keys(ctx, r.store, RepositoryPrefix, "") {
		if err != nil {
			return err
		}
		k := ParseKey(key)
		if k.Digest != d || k.Kind != LinkKind && k.Kind != ManifestKind {
			continue
		}
		name, err := ParseName(k.Repository)
		if err != nil {
			return err
		}
		if k.Kind == LinkKind {
			_, err = r.remove(ctx, key)
			result.Links = append(result.Links, name)
		} else {
			err, result.Manifests = r.Repository(name).freed().DeleteManifest(ctx, d), append(result.Manifests, name)
		}
		if err != nil && CodeOf(err) != ManifestUnknown && CodeOf(err) != NameUnknown {
			return err
		}
	}
	return nil
}

// freed returns p with no immutable tags.
func (p Repository) freed() Repository {
	r := *p.Registry
	r.immutable = nil
	return r.Repository(p.name)
}
