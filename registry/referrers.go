package registry

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"berth/storage"
)

// The referrers of a subject are kept as descriptors in pages, records numbered from 0. A page that has grown large is
// sealed: nothing is added to it any more, and a next page may exist.

// sealAt is the size of a page, in bytes, from which on it is sealed.
const sealAt = 192 << 10

// A referrersRecord is the header of a page; its payload is a JSON array of referrers.
type referrersRecord struct {
	nonce
	Sealed bool `json:"sealed,omitempty"`
}

// A referrer is an entry of a page.
type referrer struct {
	Descriptor Descriptor `json:"descriptor"`
	// Deleting is set before the manifest is deleted, so that an entry that a deletion cut short leaves behind is known to
	// be in doubt: whether it is listed depends on the manifest.
	Deleting bool `json:"deleting,omitempty"`
}

// A Descriptor describes a referrer, as the OCI distribution specification asks of "Listing Referrers".
type Descriptor struct {
	descriptorFields
	json []byte // as it is kept; nil for one that was just made
}

type descriptorFields struct {
	MediaType    string            `json:"mediaType"`
	Digest       string            `json:"digest"`
	Size         int64             `json:"size"`
	ArtifactType string            `json:"artifactType,omitempty"`
	Annotations  map[string]string `json:"annotations,omitempty"`
}

// UnmarshalJSON also keeps the JSON.
func (d *Descriptor) UnmarshalJSON(b []byte) error {
	d.json = slices.Clone(b)
	return json.Unmarshal(b, &d.descriptorFields)
}

// MarshalJSON returns the JSON that d was read from, if it was.
func (d Descriptor) MarshalJSON() ([]byte, error) {
	if d.json != nil {
		return d.json, nil
	}
	return json.Marshal(d.descriptorFields)
}

// descriptor describes m for the referrers of its subject.
func (doc *document) descriptor(m *Manifest) Descriptor {
	return Descriptor{descriptorFields: descriptorFields{m.MediaType, m.Digest.s, int64(len(m.Body)), doc.artifactType, doc.annotations}}
}

func (p Repository) referrersKey(subject Digest, page int) string {
	return p.referrersPrefix(subject) + strconv.Itoa(page)
}

func decodeReferrers(payload []byte) ([]referrer, error) {
	if len(payload) == 0 {
		return nil, nil
	}
	var list []referrer
	if err := json.Unmarshal(payload, &list); err != nil {
		return nil, fmt.Errorf("a page of referrers is %w: %w", errDamaged, err)
	}
	return list, nil
}

// A pageEdit changes a page of referrers: its header, and its list, in which i is the index of the entry in question, -1
// when it is not there. It returns the new list, or keep to leave the page alone, and whether to look at the next page.
type pageEdit func(rec *referrersRecord, list []referrer, size, i int) (next []referrer, keep, onward bool, err error)

// editReferrers applies an edit to one page after another. One that is damaged is restored before.
func (p Repository) editReferrers(ctx context.Context, subject Digest, digest string, edit pageEdit) error {
	for page := 0; ; page++ {
		var rec referrersRecord
		var onward bool
		err := p.update(ctx, p.referrersKey(subject, page), &rec, func(_ bool, payload []byte) ([]byte, bool, error) {
			list, err := decodeReferrers(payload)
			if err != nil {
				return nil, false, err
			}
			i := slices.IndexFunc(list, func(e referrer) bool { return e.Descriptor.Digest == digest })
			var keep bool
			if list, keep, onward, err = edit(&rec, list, len(payload), i); err != nil || keep {
				return nil, keep, err
			}
			next, err := json.Marshal(list)
			return next, false, err
		})
		if errors.Is(err, errDamaged) {
			if err = p.RestoreReferrers(ctx, subject); err == nil {
				page--
				continue
			}
		}
		if err != nil || !onward {
			return err
		}
	}
}

// addReferrer enters a descriptor in the page that has it already, or in the first that is not sealed. The page is
// written even when it has the descriptor: a removal at the same time must not go unnoticed.
func (p Repository) addReferrer(ctx context.Context, subject Digest, d Descriptor) error {
	return p.editReferrers(ctx, subject, d.Digest, func(rec *referrersRecord, list []referrer, size, i int) ([]referrer, bool, bool, error) {
		switch {
		case i >= 0:
			list[i] = referrer{Descriptor: d}
		case rec.Sealed:
			return nil, true, true, nil
		case size >= sealAt:
			rec.Sealed = true
			return list, false, true, nil
		default:
			list = append(list, referrer{Descriptor: d})
		}
		return list, false, false, nil
	})
}

// doubtReferrer marks the entry of a manifest that is about to be deleted.
func (p Repository) doubtReferrer(ctx context.Context, subject, d Digest) error {
	return p.editReferrers(ctx, subject, d.s, func(rec *referrersRecord, list []referrer, _, i int) ([]referrer, bool, bool, error) {
		if i < 0 || list[i].Deleting {
			return nil, true, i < 0 && rec.Sealed, nil
		}
		list[i].Deleting = true
		return list, false, false, nil
	})
}

// removeReferrer takes a manifest that is gone from the referrers of its subject. One that was pushed again stays.
func (p Repository) removeReferrer(ctx context.Context, subject, d Digest) error {
	return p.editReferrers(ctx, subject, d.s, func(rec *referrersRecord, list []referrer, _, i int) ([]referrer, bool, bool, error) {
		if i < 0 {
			return nil, true, rec.Sealed, nil
		}
		if err := p.findManifest(ctx, d); !isAbsent(err) {
			return nil, true, false, err
		}
		return slices.Delete(list, i, i+1), false, rec.Sealed, nil
	})
}

// Referrers lists the manifests of p whose subject is the given one, in the order of their digests: those after a digest
// ("" for the first), of one artifact type ("" for all), as many as fit in about maxBytes of JSON and at least one, and
// whether there are more. A subject that nothing refers to, or that is unknown, has none.
func (p Repository) Referrers(ctx context.Context, subject Digest, artifactType, after string, maxBytes int) ([]Descriptor, bool, error) {
	wants := func(d *Descriptor) bool {
		return d.Digest > after && (artifactType == "" || d.ArtifactType == artifactType)
	}
	all, err := p.firstReferrers(ctx, subject, wants, maxBytes)
	if err != nil {
		return nil, false, storeError("read the referrers of "+subject.s, err)
	}
	listed := make([]Descriptor, 0, len(all))
	size := 0
	for i := range all {
		e := &all[i]
		d := &e.Descriptor
		if !wants(d) || i > 0 && all[i-1].Descriptor.Digest == d.Digest { // it moved from page to page while they were read
			continue
		}
		if e.Deleting {
			if err := p.findManifest(ctx, Digest{d.Digest}); isAbsent(err) {
				continue
			} else if err != nil {
				return nil, false, storeError("look for the referrers of "+subject.s, err)
			}
		}
		if size += len(d.json) + 1; size > maxBytes && len(listed) > 0 {
			return listed, true, nil
		}
		listed = append(listed, *d)
	}
	return listed, false, nil
}

// firstReferrers returns what the pages of a subject list, in the order of digests: at least the first that are wanted,
// until those that are not in doubt have more than maxBytes. Where there is one page it is returned as it is, and may be shared;
// of several, no more than one is in memory beside what is wanted.
func (p Repository) firstReferrers(ctx context.Context, subject Digest, wants func(*Descriptor) bool, maxBytes int) ([]referrer, error) {
	var all []referrer
	for page := 0; ; page++ {
		sealed, list, err := p.referrersPage(ctx, p.referrersKey(subject, page))
		switch {
		case isAbsent(err):
			return all, nil
		case err != nil:
			return nil, err
		case page == 0 && !sealed:
			return list, nil
		}
		for _, e := range list {
			if wants(&e.Descriptor) {
				all = append(all, e)
			}
		}
		slices.SortStableFunc(all, byDigest)
		all = cutReferrers(all, maxBytes)
		if !sealed {
			return all, nil
		}
	}
}

// cutReferrers lets go of what would be listed on a later page anyhow, so that the large annotations of many referrers are
// not in memory together. It ends all with the entry, other than the first, that goes beyond maxBytes.
func cutReferrers(all []referrer, maxBytes int) []referrer {
	listed, size := 0, 0
	for i := range all {
		d := &all[i].Descriptor
		if all[i].Deleting || i > 0 && all[i-1].Descriptor.Digest == d.Digest {
			continue
		}
		listed++
		if size += len(d.json) + 1; size > maxBytes && listed > 1 {
			return slices.Clone(all[:i+1])
		}
	}
	return all
}

func byDigest(a, b referrer) int { return cmp.Compare(a.Descriptor.Digest, b.Descriptor.Digest) }

// A referrersPage is what is remembered of a page that is kept in memory.
type referrersPage struct {
	sealed bool
	list   []referrer // in the order of digests; never changed
}

func (p Repository) referrersPage(ctx context.Context, key string) (sealed bool, list []referrer, err error) {
	c, err := storage.ReadCopy(ctx, p.reads, key, maxRecord)
	if err != nil {
		return false, nil, err
	}
	if page, ok := c.Recall().(*referrersPage); ok {
		return page.sealed, page.list, nil
	}
	var rec referrersRecord
	payload, err := decodeRecord(key, c.Body, &rec)
	if err == nil {
		list, err = decodeReferrers(payload)
	}
	if err != nil {
		return false, nil, err
	}
	slices.SortFunc(list, byDigest)
	c.Remember(&referrersPage{rec.Sealed, list})
	return rec.Sealed, list, nil
}
