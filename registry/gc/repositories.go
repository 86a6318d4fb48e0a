package gc

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"sync"

	"berth/registry"
	"berth/registry/lease"
	"berth/storage"
)

// reads is a set of marks that several goroutines add to.
type reads struct {
	mu    sync.Mutex
	marks *marks
}

func newReads(m *marks) *reads { return &reads{marks: m} }

func (s *reads) add(hashes []uint64) {
	if len(hashes) == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, h := range hashes {
		s.marks.add(h)
	}
}

// A repository is one whose keys are passing by. All keys of a repository follow each other in a listing, its manifests
// before what else refers to them.
type repository struct {
	name       string
	mentioned  *reads         // what its manifests mention
	present    *marks         // its manifests
	manifests  team           // who reads them
	failed     error          // that one could not be read
	links      []storage.Info // the first of them
	moreLinks  bool           // than these
	referrers  bool
	hints      []registry.Key // whose manifest is not there
	hintsExist int64
}

// keptLinks is how many links of a repository are kept in memory until its manifests were read. Those of one that has more
// are listed again.
const keptLinks = 20_000

// links sweeps, repository by repository, the links that no manifest of it mentions, and the hints, tags and entries of
// referrers whose manifest is gone.
func (r *run) links(ctx context.Context, l *Layer) error {
	tags := r.newLayer("tags", l.Start)
	referrers := r.newLayer("referrers", l.Start)
	var at *repository
	finish := func() error {
		if at == nil {
			return nil
		}
		return r.sweepRepository(ctx, l, tags, referrers, at)
	}
	for info, err := range r.candidates(ctx, registry.RepositoryPrefix, "") {
		if err != nil {
			if at != nil {
				err = errors.Join(err, at.manifests.Wait())
			}
			return fmt.Errorf("list what repositories have: %w", err)
		}
		k := registry.ParseKey(info.Key)
		if k.Repository == "" || r.isDoomed(info.Key) {
			continue
		}
		if at == nil || at.name != k.Repository {
			if err := finish(); err != nil {
				return err
			}
			at = r.newRepository(k.Repository)
		}
		r.see(ctx, at, info, k)
	}
	return finish()
}

func (r *run) newRepository(name string) *repository {
	at := &repository{name: name, mentioned: newReads(newMarks()), present: newMarks()}
	at.manifests, _ = r.team(context.Background()) // what fails in one repository does not end the others
	return at
}

// see takes an object of a repository.
func (r *run) see(ctx context.Context, at *repository, info storage.Info, k registry.Key) {
	hash := r.c.memo.hash
	switch k.Kind {
	case registry.LinkKind:
		if at.moreLinks = len(at.links) == keptLinks; !at.moreLinks {
			at.links = append(at.links, info)
		}
	case registry.ReferrersKind:
		at.referrers = true
	case registry.HintKind:
		at.hintsExist++
		if !at.present.has(hash(k.Digest.String())) {
			at.hints = append(at.hints, k)
		}
	case registry.ManifestKind:
		at.present.add(hash(k.Digest.String()))
		memoKey := r.c.memo.key(k.Digest.String())
		if known, ok := r.c.memo.get(memoKey); ok {
			at.mentioned.add(known)
			return
		}
		if err := at.manifests.do(func() error {
			mentions, err := r.readManifest(ctx, info.Key, k.Digest)
			if err != nil {
				return ignoreGone(err) // which is nothing to remember: it may come back
			}
			r.c.memo.put(memoKey, mentions)
			at.mentioned.add(mentions)
			return nil
		}); err != nil {
			at.failed = err
		}
	}
}

func ignoreGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// readManifest returns the hashes of the digests that a manifest mentions.
func (r *run) readManifest(ctx context.Context, key string, d registry.Digest) ([]uint64, error) {
	body, _, err := storage.ReadAll(ctx, r.scan, key, maxRecord)
	if err != nil {
		return nil, err
	}
	digests, err := registry.ReadManifestRecord(key, d, body)
	hashes := make([]uint64, len(digests))
	for i, d := range digests {
		hashes[i] = r.c.memo.hash(d.String())
	}
	return hashes, err
}

// sweepRepository sweeps a repository all of whose keys were seen. What fails in one does not keep others from being swept.
func (r *run) sweepRepository(ctx context.Context, l, tags, referrers *Layer, at *repository) error {
	err := cmp.Or(at.failed, at.manifests.Wait())
	name, parseErr := registry.ParseName(at.name)
	if err = errors.Join(err, parseErr); err != nil {
		l.skip("the links of %s: a manifest could not be read", at.name)
		return r.failed(ctx, l, fmt.Errorf("the links of %s stay: %w", at.name, err))
	}
	p := r.registry.Repository(name)
	links := each(at.links)
	if at.moreLinks {
		links = r.candidates(ctx, p.Links(), "")
	}
	if err := r.sweep(ctx, l, links, func(key string) bool {
		k := registry.ParseKey(key)
		return k.Kind != registry.LinkKind || at.mentioned.marks.has(r.c.memo.hash(k.Digest.String()))
	}, r.stat("no manifest of the repository mentions the blob")); err != nil {
		return r.failed(ctx, l, err)
	}
	tags.count(&tags.Examined, at.hintsExist)
	for _, k := range at.hints {
		if err := r.sweepHint(ctx, tags, p, k); err != nil {
			return err
		}
	}
	if at.referrers {
		return r.sweepReferrers(ctx, referrers, p, at.present)
	}
	return nil
}

func each(infos []storage.Info) iter.Seq2[storage.Info, error] {
	return func(yield func(storage.Info, error) bool) {
		for _, info := range infos {
			if !yield(info, nil) {
				return
			}
		}
	}
}

func (r *run) sweepHint(ctx context.Context, l *Layer, p registry.Repository, k registry.Key) error {
	hint, tag, err := p.SweepHint(ctx, k, r.limit(l), r.dry)
	if err != nil {
		return r.failed(ctx, l, fmt.Errorf("the hint of %s at %s stays: %w", p.Name(), k.Tag, err))
	}
	if tag {
		r.removed(l, Finding{Key: p.Name().String() + ":" + k.Tag, Why: "the manifest that the tag names is gone"})
	}
	if hint {
		r.removed(l, Finding{Key: p.Name().String() + ":" + k.Tag + "@" + k.Digest.String(), Why: "a hint whose manifest is gone"})
	}
	return nil
}

// sweepReferrers takes manifests that are gone from the pages of referrers, and removes empty pages.
func (r *run) sweepReferrers(ctx context.Context, l *Layer, p registry.Repository, present *marks) error {
	subjects := map[registry.Digest]bool{} // kept only where nobody else uses the store
	for info, err := range r.scan.List(ctx, p.Referring(), "") {
		if err != nil {
			return r.failed(ctx, l, err)
		}
		l.count(&l.Examined, 1)
		if r.alone && !r.dry {
			subjects[registry.ParseKey(info.Key).Digest] = true
		}
		if err := r.sweepPage(ctx, l, p, present, info); err != nil {
			if err := r.failed(ctx, l, err); err != nil {
				return err
			}
		}
	}
	for subject := range subjects {
		n, err := p.SweepPages(ctx, subject)
		for range n {
			r.removed(l, Finding{Key: p.Referring() + subject.String(), Why: "a page of referrers that lists nothing"})
		}
		if err != nil {
			err = r.failed(ctx, l, fmt.Errorf("the referrers of %s: %w", subject, err))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (r *run) sweepPage(ctx context.Context, l *Layer, p registry.Repository, present *marks, info storage.Info) error {
	key := r.c.memo.key(info.Key, info.ModTime.UnixNano(), info.Size)
	listed, known := r.c.memo.get(key)
	if known && len(listed) > 0 && allIn(present, listed) {
		return nil
	}
	body, _, err := storage.ReadAll(ctx, r.scan, info.Key, maxRecord)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	digests, err := registry.ReadReferrersRecord(info.Key, body)
	if err != nil {
		if !r.dry && p.RestoreReferrers(ctx, registry.ParseKey(info.Key).Digest) == nil {
			err = fmt.Errorf("%w: it was written anew, out of the manifests", err)
		}
		return err
	}
	hashes := make([]uint64, len(digests))
	for i, d := range digests {
		hashes[i] = r.c.memo.hash(d.String())
		if present.has(hashes[i]) {
			continue
		}
		gone, err := p.SweepReferrer(ctx, registry.ParseKey(info.Key).Digest, d, r.dry)
		if err != nil {
			return err
		}
		if gone {
			r.removed(l, Finding{Key: info.Key, Why: "the referrer " + d.String() + " is gone", Touched: info.ModTime})
		}
	}
	if len(digests) == 0 && !r.dry {
		gone, err := r.registry.SweepReferrers(ctx, info.Key, r.limit(l))
		if gone {
			r.removed(l, Finding{Key: info.Key, Why: "a page of referrers that lists nothing", Touched: info.ModTime, Bytes: info.Size})
		}
		return err
	}
	if info.ModTime.Before(l.Start.Add(-settled)) {
		r.c.memo.put(key, hashes)
	}
	return nil
}

func allIn(m *marks, hashes []uint64) bool {
	for _, h := range hashes {
		if !m.has(h) {
			return false
		}
	}
	return true
}

// leases sweeps the leases that ended long ago.
func (r *run) leases(ctx context.Context, l *Layer) error {
	n, err := lease.Sweep(ctx, r.store, l.Start.Add(-r.registry.Grace()), r.dry)
	l.count(&l.Removed, n)
	return err
}

// leftovers lets the driver remove what calls that were cut short left where no listing shows it.
func (r *run) leftovers(ctx context.Context, l *Layer) error {
	if _, ok := storage.As[storage.Tidier](r.c.store); ok && r.dry {
		l.skip("they are not counted without being removed")
		return nil
	}
	n, size, err := r.registry.Tidy(ctx, r.limit(l))
	l.count(&l.Removed, int64(n))
	l.count(&l.Bytes, size)
	return err
}

// tombstones has the driver forget what it keeps of deleted objects, when nobody else uses the store.
func (r *run) tombstones(ctx context.Context, l *Layer) error {
	d, ok := storage.As[storage.Compacter](r.c.store)
	switch {
	case !ok:
		return nil // the storage keeps none
	case r.dry:
		l.skip("they are not counted without being removed")
		return nil
	case !r.alone:
		l.skip("others may need them; `berth garbage-collect` removes them while all servers are stopped")
		return nil
	}
	for _, prefix := range []string{registry.RepositoryPrefix, registry.BlobPrefix, registry.CatalogPrefix, registry.UploadPrefix, lease.Prefix} {
		n, err := d.Compact(ctx, prefix)
		l.count(&l.Removed, int64(n))
		if err != nil {
			return err
		}
	}
	return nil
}
