package registry

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sync/errgroup"

	"berth/storage"
)

// maxRestored bounds a page that is restored, in bytes of its manifests.
const maxRestored = maxRecord / 4

// RestoreReferrers writes the pages of a subject that are damaged anew: the first has the manifests of p that refer to the subject
// and that no other page has, the rest have none. All are sealed, since there may be a next. It may be overtaken by others: who
// needs a page looks again.
//
// A manifest is there before a page has it, so that one which is pushed meanwhile and is not found enters a page after this; one
// that is deleted meanwhile is taken from it after this.
func (p Repository) RestoreReferrers(ctx context.Context, subject Digest) error {
	var damaged []storage.Object
	elsewhere := map[string]bool{}
	for page := 0; ; page++ {
		list, info, err := p.readReferrers(ctx, subject, page)
		if isAbsent(err) {
			break
		}
		if errors.Is(err, errDamaged) {
			damaged = append(damaged, storage.Object{
				Key: p.referrersKey(subject, page), Body: encodeRecord(&referrersRecord{Sealed: true}, nil), Cond: storage.Match(info.Rev),
			})
		} else if err != nil {
			return err
		}
		for _, e := range list {
			elsewhere[e.Descriptor.Digest] = true
		}
	}
	if len(damaged) == 0 {
		return nil
	}
	list, err := p.findReferrers(ctx, subject, elsewhere)
	if err != nil {
		return err
	}
	payload, err := json.Marshal(list)
	if err != nil {
		return err
	}
	damaged[0].Body = append(damaged[0].Body, payload...)
	_, err = p.putAll(ctx, damaged...)
	return ignoreConflict(err)
}

// readReferrers reads a page in the store. The info of one that is damaged is right.
func (p Repository) readReferrers(ctx context.Context, subject Digest, page int) ([]referrer, storage.Info, error) {
	payload, info, err := read(ctx, p.store, p.referrersKey(subject, page), &referrersRecord{})
	if err != nil {
		return nil, info, err
	}
	list, err := decodeReferrers(payload)
	return list, info, err
}

// findReferrers reads all manifests of p, and returns those that refer to the subject, but some. What cannot be read is passed
// over: it enters a page when it is pushed again.
func (p Repository) findReferrers(ctx context.Context, subject Digest, but map[string]bool) ([]referrer, error) {
	var (
		mu    sync.Mutex
		found []referrer
		size  int
	)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(lookups)
	look := func(d Digest) error {
		m, err := p.readManifest(ctx, p.store, d)
		if isAbsent(err) || errors.Is(err, errDamaged) || err == nil && m.Subject != subject {
			return nil
		}
		if err != nil {
			return err
		}
		doc, err := parseDocument(m.MediaType, m.Body)
		if err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		if size += len(m.Body); size > maxRestored {
			return fmt.Errorf("the referrers of %s are %w, and too many to be found again at once", subject, errDamaged)
		}
		found = append(found, referrer{Descriptor: doc.descriptor(m)})
		return nil
	}
	var listing error
	for key, err := range storage.Keys(ctx, p.store, p.Manifests(), "") {
		if err != nil {
			listing = err
			break
		}
		if d := ParseKey(key).Digest; !d.IsZero() && !but[d.s] {
			group.Go(func() error { return look(d) })
		}
	}
	return found, cmp.Or(group.Wait(), listing)
}
