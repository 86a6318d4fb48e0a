package registry

import (
	"context"
	"errors"
	"strings"
	"time"

	"berth/storage"
)

// RemoveResult counts what the removal of a repository did.
type RemoveResult struct {
	Manifests int
	Tags      int // that no manifest led to
	Links     int
	// Later is how many links stay until the collection removes them: a push may rely on them. Nothing but the digest of a
	// blob leads to them.
	Later int
}

// Remove removes everything in p: manifests with their tags, the links to blobs, the entry in the catalog. [Denied] when there
// is an immutable tag, unless force is set; [NameUnknown] when there is no such repository. It can be repeated when it was cut
// short. A push at the same time is part of what is removed, or makes a new repository, and is whole in either case.
func (p Repository) Remove(ctx context.Context, force bool) (RemoveResult, error) {
	var result RemoveResult
	if force {
		p = p.freed()
	}
	if err := p.checkRemoval(ctx); err != nil {
		return result, err
	}
	for _, step := range []func(context.Context, *RemoveResult) error{p.removeManifests, p.removeTags, p.removeLinks, p.strike} {
		if err := step(ctx, &result); err != nil {
			return result, storeError("remove the repository "+p.name.s, err)
		}
	}
	return result, nil
}

func (p Repository) checkRemoval(ctx context.Context) error {
	there, err := p.Exists(ctx)
	if err != nil {
		return err
	}
	for key, err := range storage.Keys(ctx, p.store, p.prefix()+"_", "") {
		if err != nil {
			return storeError("look what the repository "+p.name.s+" has", err)
		}
		k := ParseKey(key)
		there = there || k.Kind != ReferrersKind // pages that list nothing may stay
		if k.Kind != TagKind || p.immutable == nil {
			continue
		}
		if t, err := ParseTag(k.Tag); err == nil && p.keeps(t) {
			return p.refuse(t)
		}
	}
	if !there {
		return newError(NameUnknown, "there is no repository %s", p.name)
	}
	return nil
}

func (p Repository) removeManifests(ctx context.Context, result *RemoveResult) error {
	for key, err := range storage.Keys(ctx, p.store, p.Manifests(), "") {
		if err != nil {
			return err
		}
		err = p.DeleteManifest(ctx, ParseKey(key).Digest)
		if err != nil && CodeOf(err) != ManifestUnknown && CodeOf(err) != NameUnknown {
			return err
		}
		result.Manifests++
	}
	return nil
}

// removeTags removes tags that an earlier deletion of their manifest left behind.
func (p Repository) removeTags(ctx context.Context, result *RemoveResult) error {
	for key, err := range storage.Keys(ctx, p.store, p.tagPrefix(), "") {
		if err != nil {
			return err
		}
		t, err := ParseTag(strings.TrimPrefix(key, p.tagPrefix()))
		if err != nil {
			return err
		}
		rec, _, err := p.readTag(ctx, p.store, t)
		if isAbsent(err) {
			continue
		}
		if err == nil {
			err = p.dropTag(ctx, t, Digest{rec.Digest})
		} else if errors.Is(err, errDamaged) {
			err = p.DeleteTag(ctx, t)
		}
		if err != nil {
			return err
		}
		result.Tags++
	}
	return nil
}

// removeLinks removes those links that no push can rely on any more, by the rule of the collection: once there is no
// manifest, those that were last touched more than the grace ago.
func (p Repository) removeLinks(ctx context.Context, result *RemoveResult) error {
	start, _, err := p.StoreTime(ctx)
	if err != nil {
		return err
	}
	if there, err := p.has(ctx, "_manifests/"); there || err != nil {
		return err // a push makes a new repository of it
	}
	limit := start.Add(-p.grace)
	for key, err := range storage.Keys(ctx, p.store, p.Links(), "") {
		if err != nil {
			return err
		}
		gone, err := p.removeOld(ctx, key, limit)
		switch {
		case err != nil:
			return err
		case gone:
			result.Links++
		default:
			result.Later++
		}
	}
	return nil
}

// has reports whether there is a key of a kind.
func (p Repository) has(ctx context.Context, kind string) (bool, error) {
	for _, err := range storage.Keys(ctx, p.store, p.prefix()+kind, "") {
		return err == nil, err
	}
	return false, nil
}

func (r *Registry) removeOld(ctx context.Context, key string, limit time.Time) (bool, error) {
	info, err := r.store.Stat(ctx, key)
	if isAbsent(err) || err == nil && !info.ModTime.Before(limit) {
		return false, nil
	}
	if err == nil {
		err = r.store.Delete(ctx, key, storage.Match(info.Rev))
	}
	return err == nil, ignoreConflict(err)
}

// strike takes p from the catalog. A push at the same time looks at the catalog after its manifest is there, and strike at
// the manifests after the entry is gone: one of them sees the other, and the repository is entered again.
func (p Repository) strike(ctx context.Context, _ *RemoveResult) error {
	if _, err := p.remove(ctx, catalogKey(p.name.s)); err != nil {
		return err
	}
	there, err := p.has(ctx, "_manifests/")
	if there {
		err = p.enroll(ctx)
	}
	return err
}
