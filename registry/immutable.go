package registry

import (
	"context"
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

func (p Repository) refuse(t Tag) error {
	return newError(Denied, "the tag %s of the repository %s is immutable: it can be neither moved nor deleted", t, p.name)
}

// checkTagsOf refuses to do without a manifest that an immutable tag names: [Denied].
func (p Repository) checkTagsOf(ctx context.Context, d Digest) error {
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
		if err == nil && rec.Digest == d.s {
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
		if err := p.checkTagsOf(ctx, d); err != nil {
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
// manifest: a deletion that looked for immutable tags before this one was set then meets another revision.
func (p Repository) confirm(ctx context.Context, d Digest, tags []tagPut) error {
	if !slices.ContainsFunc(tags, func(t tagPut) bool { return p.keeps(t.tag) }) {
		return p.findManifest(ctx, d)
	}
	key := p.manifestKey(d)
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
		if _, err = p.put(ctx, key, encodeRecord(&rec, payload), storage.Match(info.Rev)); !isConflict(err) {
			return err
		}
		if err := pause(ctx, attempt); err != nil {
			return err
		}
	}
}
