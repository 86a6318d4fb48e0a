package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"berth/storage"
)

// keeps reports whether a tag of p, once there, stays as it is.
func (p Repository) keeps(t Tag) bool { return p.immutable != nil && p.immutable(p.name, t) }

// checkMove refuses a push that would move a tag from where it is and may not: [Denied]. The caller moves the tag only as
// long as it is there. To name the same bytes as another media type is a move.
func (p Repository) checkMove(ctx context.Context, t Tag, from tagState, push ManifestPush) error {
	immutable, same := p.keeps(t), from.Digest == push.digest.s && from.MediaType == push.MediaType
	if same || !immutable && !push.KeepTags {
		return nil
	}
	err := p.findManifest(ctx, Digest{from.Digest})
	switch {
	case isAbsent(err):
		return nil // the tag counts as absent
	case err != nil:
		return storeError("read a tag", err)
	case immutable:
		return p.refuse(t)
	}
	return newError(Denied, "the tag %s of the repository %s exists; only new tags may be pushed, and none moved", t, p.name)
}

// putUntyped puts a manifest whose bytes do not say what it is. What is there as another type stays so for who may push new tags
// alone, and where a tag that is to stay names it: [Denied].
func (p Repository) putUntyped(ctx context.Context, m *Manifest, push ManifestPush) error {
	key := p.manifestKey(m.Digest)
	for attempt := 0; ; attempt++ {
		var present manifestRecord
		body, info, err := read(ctx, p.store, key, &present)
		cond := storage.Match(info.Rev)
		switch {
		case isAbsent(err):
			cond = storage.Absent()
		case errors.Is(err, errDamaged), err == nil && !bytes.Equal(body, m.Body): // it is mended
		case err != nil:
			return storeError("store a manifest", err)
		case present.MediaType == m.MediaType:
			return nil
		case push.KeepTags:
			return newError(Denied, "the manifest %s of the repository %s exists as %s; only new tags may be pushed", m.Digest, p.name, present.MediaType)
		default:
			if err := p.checkTagsOf(ctx, m.Digest, m.MediaType); err != nil {
				return err
			}
		}
		_, err = p.put(ctx, key, m.encode(), cond)
		if err == nil && !cond.IsAbsent() {
			err = p.tell(ctx) // that it is no longer what it was
		}
		if !isConflict(err) {
			return storeError("store a manifest", err)
		}
		if err := pause(ctx, attempt); err != nil {
			return err
		}
	}
}

func (p Repository) refuse(t Tag) error {
	return newError(Denied, "the tag %s of the repository %s is immutable: it can be neither moved nor deleted", t, p.name)
}

// checkTagsOf refuses to do without a manifest that an immutable tag names, but for one that names it as a media type, "" for none:
// [Denied].
func (p Repository) checkTagsOf(ctx context.Context, d Digest, except string) error {
	if p.immutable == nil {
		return nil
	}
	for t, err := range p.hinted(ctx, d) {
		if err != nil {
			return storeError("list the tags of a manifest", err)
		}
		if !p.keeps(t) {
			continue
		}
		rec, _, err := p.readTag(ctx, p.store, t)
		if err != nil && !isAbsent(err) {
			return storeError("read a tag", err)
		}
		if err == nil && rec.Digest == d.s && (except == "" || rec.MediaType != except) {
			return p.refuse(t)
		}
	}
	return nil
}

// removeManifest removes the record of a manifest unless an immutable tag names it. A push that sets such a tag at the same
// time rewrites the record before it is acknowledged, see confirm: then the removal fails, and looks again.
func (p Repository) removeManifest(ctx context.Context, d Digest) error {
	key := p.manifestKey(d)
	if p.immutable == nil {
		_, err := p.remove(ctx, key)
		return storeError("delete a manifest", err)
	}
	for attempt := 0; ; attempt++ {
		_, info, err := storage.ReadAll(ctx, p.store, key, maxRecord)
		if isAbsent(err) {
			return nil
		}
		if err != nil {
			return storeError("delete a manifest", err)
		}
		if err := p.checkTagsOf(ctx, d, ""); err != nil {
			return err
		}
		if err := p.store.Delete(ctx, key, storage.Match(info.Rev)); !isConflict(err) {
			return storeError("delete a manifest", err)
		}
		if err := pause(ctx, attempt); err != nil {
			return err
		}
	}
}

// confirm looks, once its tags are set, whether a manifest is still there. When one of them is immutable it rewrites the
// manifest: a deletion, or a push as another media type, that looked for immutable tags before this one was set then meets another
// revision. What was made another type before that is gone as what was pushed.
func (p Repository) confirm(ctx context.Context, m *Manifest, tags []tagPut) error {
	if !slices.ContainsFunc(tags, func(t tagPut) bool { return p.keeps(t.tag) }) {
		return p.findManifest(ctx, m.Digest)
	}
	key := p.manifestKey(m.Digest)
	for attempt := 0; ; attempt++ {
		body, info, err := storage.ReadAll(ctx, p.store, key, maxRecord)
		if err != nil {
			return err
		}
		var rec manifestRecord
		payload, err := decodeRecord(key, body, &rec)
		if err != nil {
			return err
		}
		if rec.MediaType != m.MediaType {
			return fmt.Errorf("%s is %s now: %w", key, rec.MediaType, fs.ErrNotExist)
		}
		if _, err = p.put(ctx, key, encodeRecord(&rec, payload), storage.Match(info.Rev)); !isConflict(err) {
			return err
		}
		if err := pause(ctx, attempt); err != nil {
			return err
		}
	}
}
