package gc

import (
	"context"
	"errors"
	"fmt"

	"berth/registry"
	"berth/storage"
)

// untagged deletes the manifests that no tag leads to: neither by naming them, nor by way of an index, nor because they
// refer to a manifest that is kept. It works on a store that nobody serves, or under a policy that was written down.
func (r *run) untagged(ctx context.Context, l *Layer) error {
	var names []string
	last := ""
	for key, err := range storage.Keys(ctx, r.scan, registry.RepositoryPrefix, "") {
		if err != nil {
			return fmt.Errorf("list repositories: %w", err)
		}
		if k := registry.ParseKey(key); k.Kind == registry.ManifestKind && k.Repository != last {
			last = k.Repository
			names = append(names, last)
		}
	}
	for _, s := range names {
		name, err := registry.ParseName(s)
		if err == nil {
			err = r.deleteUntagged(ctx, l, r.registry.Repository(name))
		}
		if err != nil {
			l.skip("the untagged manifests of %s stay", s)
			if err := r.failed(ctx, l, fmt.Errorf("the untagged manifests of %s stay: %w", s, err)); err != nil {
				return err
			}
		}
	}
	return nil
}

// A graph is what the manifests of a repository mention, and by what they are mentioned.
type graph struct {
	mentions  map[registry.Digest][]registry.Digest
	referrers map[registry.Digest][]registry.Digest // by subject
	keys      map[registry.Digest]string
}

func (r *run) deleteUntagged(ctx context.Context, l *Layer, p registry.Repository) error {
	g, err := r.graph(ctx, p)
	if err != nil {
		return err
	}
	tagged, err := p.Tagged(ctx)
	if err != nil {
		return err
	}
	kept := map[registry.Digest]bool{}
	for _, d := range tagged {
		g.keep(kept, d)
	}
	for d, key := range g.keys {
		l.count(&l.Examined, 1)
		if kept[d] {
			continue
		}
		if !r.dry {
			if err := p.DeleteManifest(ctx, d); err != nil && registry.CodeOf(err) != registry.ManifestUnknown {
				return err
			}
		}
		r.removed(l, Finding{Key: key, Why: "no tag leads to the manifest"})
	}
	return nil
}

func (r *run) graph(ctx context.Context, p registry.Repository) (*graph, error) {
	g := &graph{map[registry.Digest][]registry.Digest{}, map[registry.Digest][]registry.Digest{}, map[registry.Digest]string{}}
	for key, err := range storage.Keys(ctx, r.scan, p.Manifests(), "") {
		if err != nil {
			return nil, err
		}
		d := registry.ParseKey(key).Digest
		body, _, err := storage.ReadAll(ctx, r.scan, key, maxRecord)
		if err != nil {
			return nil, err
		}
		mentions, err := registry.ReadManifestRecord(key, d, body)
		subject, subjectErr := registry.ReadManifestSubject(key, body)
		if err := errors.Join(err, subjectErr); err != nil {
			return nil, err
		}
		g.mentions[d], g.keys[d] = mentions, key
		if !subject.IsZero() {
			g.referrers[subject] = append(g.referrers[subject], d)
		}
	}
	return g, nil
}

// keep marks a manifest and all that it leads to.
func (g *graph) keep(kept map[registry.Digest]bool, d registry.Digest) {
	for open := []registry.Digest{d}; len(open) > 0; {
		d, open = open[len(open)-1], open[:len(open)-1]
		if kept[d] {
			continue
		}
		kept[d] = true
		open = append(append(open, g.mentions[d]...), g.referrers[d]...)
	}
}
