package registry

import (
	"context"
	"slices"
	"time"

	"berth/storage"
)

// Over returns r with another driver over the same store, for work that is counted or slowed down.
func (r *Registry) Over(store storage.Driver) *Registry {
	over := *r
	over.store, over.reads = store, store
	return &over
}

// Grace returns how long what nothing refers to is kept.
func (r *Registry) Grace() time.Duration { return r.grace }

// UploadAge returns how long an upload may lie idle, and from its beginning its id means something.
func (r *Registry) UploadAge() time.Duration { return r.uploadAge }

// SweepHint removes a hint that was last touched before a time, when its manifest is gone, and the tag if it still names that
// manifest. It reports what it removed; a dry run removes nothing. The caller has seen that the manifest is absent.
func (p Repository) SweepHint(ctx context.Context, k Key, before time.Time, dryRun bool) (hint, tag bool, err error) {
	t, err := ParseTag(k.Tag)
	if err != nil {
		return false, false, err
	}
	key := p.hintKey(k.Digest, t)
	info, err := p.store.Stat(ctx, key)
	if isAbsent(err) || err == nil && !info.ModTime.Before(before) {
		return false, false, nil
	}
	if err != nil {
		return false, false, err
	}
	rec, at, err := p.readTag(ctx, p.store, t)
	switch {
	case isAbsent(err) || err == nil && rec.Digest != k.Digest.s:
	case err != nil:
		return false, false, err
	default:
		if err := p.findManifest(ctx, k.Digest); !isAbsent(err) {
			return false, false, err // it was pushed again
		}
		if tag = true; !dryRun {
			if err := p.store.Delete(ctx, p.tagKey(t), storage.Match(at.Rev)); err != nil {
				return false, false, ignoreConflict(err)
			}
		}
	}
	if dryRun {
		return true, tag, nil
	}
	if err := p.store.Delete(ctx, key, storage.Match(info.Rev)); err != nil {
		return false, tag, ignoreConflict(err) // a push is about to set the tag
	}
	return true, tag, nil
}

// SweepReferrer removes what a page of referrers says of a manifest, if that is gone, and reports whether it is.
func (p Repository) SweepReferrer(ctx context.Context, subject, d Digest, dryRun bool) (bool, error) {
	if err := p.findManifest(ctx, d); !isAbsent(err) {
		return false, err
	}
	if dryRun {
		return true, nil
	}
	return true, p.removeReferrer(ctx, subject, d)
}

// SweepReferrers removes a page of referrers that lists nothing, if nothing was added to it since it was listed. A sealed
// page stays: it leads on to the next; see [Repository.SweepPages].
func (r *Registry) SweepReferrers(ctx context.Context, key string, before time.Time) (bool, error) {
	var rec referrersRecord
	payload, info, err := read(ctx, r.store, key, &rec)
	if err != nil || rec.Sealed || !info.ModTime.Before(before) {
		return false, ignoreAbsent(err)
	}
	if list, err := decodeReferrers(payload); err != nil || len(list) > 0 {
		return false, err
	}
	if err := r.store.Delete(ctx, key, storage.Match(info.Rev)); err != nil {
		return false, ignoreConflict(err)
	}
	return true, nil
}

// SweepPages removes the last pages of the referrers of a subject that list nothing, also sealed ones, and returns how many.
// Nobody else may use the store: who has read a sealed page is about to go on to the next, and nobody would find that.
func (p Repository) SweepPages(ctx context.Context, subject Digest) (n int, err error) {
	var empty []storage.Info
	for page := 0; ; page++ {
		list, info, err := p.readReferrers(ctx, subject, page)
		if isAbsent(err) {
			break
		}
		if err != nil {
			return 0, err
		}
		if empty = append(empty, info); len(list) > 0 {
			empty = nil
		}
	}
	for _, info := range slices.Backward(empty) {
		if err := p.store.Delete(ctx, info.Key, storage.Match(info.Rev)); err != nil {
			return n, ignoreConflict(err)
		}
		n++
	}
	return n, nil
}

func ignoreAbsent(err error) error {
	if isAbsent(err) {
		return nil
	}
	return err
}
