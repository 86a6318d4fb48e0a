package registry

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"

	"golang.org/x/sync/errgroup"
)

// The referrers of a subject are kept as descriptors in pages, records numbered from 0. A page that has grown large is
// sealed: nothing is added to it any more, and a next page may exist.

// sealAt is the size of a page, in bytes, from which on it is sealed.
const sealAt = 512 << 10

// A referrersRecord is the header of a page; its payload is a JSON array of descriptors.
type referrersRecord struct {
	nonce
	Sealed bool `json:"sealed,omitempty"`
}

// A Descriptor describes a referrer, as the OCI distribution specification asks of "Listing Referrers".
type Descriptor struct {
	MediaType    string            `json:"mediaType"`
	Digest       string            `json:"digest"`
	Size         int64             `json:"size"`
	ArtifactType string            `json:"artifactType,omitempty"`
	Annotations  map[string]string `json:"annotations,omitempty"`
}

// descriptor describes m for the referrers of its subject.
func (doc *document) descriptor(m *Manifest) Descriptor {
	return Descriptor{m.MediaType, m.Digest.s, int64(len(m.Body)), doc.artifactType, doc.annotations}
}

func (p Repository) referrersKey(subject Digest, page int) string {
	return p.referrersPrefix(subject) + strconv.Itoa(page)
}

func decodeDescriptors(payload []byte) ([]Descriptor, error) {
	if len(payload) == 0 {
		return nil, nil
	}
	var list []Descriptor
	if err := json.Unmarshal(payload, &list); err != nil {
		return nil, fmt.Errorf("a page of referrers is damaged: %w", err)
	}
	return list, nil
}

// addReferrer enters a descriptor in the page that has it already, or in the first that is not sealed. The page is
// written even when it has the descriptor: a removal at the same time must not go unnoticed.
func (p Repository) addReferrer(ctx context.Context, subject Digest, d Descriptor) error {
	for page := 0; ; page++ {
		var rec referrersRecord
		passed := false
		err := p.update(ctx, p.referrersKey(subject, page), &rec, func(_ bool, payload []byte) ([]byte, bool, error) {
			passed = false
			list, err := decodeDescriptors(payload)
			if err != nil {
				return nil, false, err
			}
			i := slices.IndexFunc(list, func(e Descriptor) bool { return e.Digest == d.Digest })
			switch {
			case i >= 0:
				list[i] = d
			case rec.Sealed:
				passed = true
				return nil, true, nil
			case len(payload) >= sealAt:
				passed, rec.Sealed = true, true
			default:
				list = append(list, d)
			}
			next, err := json.Marshal(list)
			return next, false, err
		})
		if err != nil || !passed {
			return err
		}
	}
}

// removeReferrer takes a manifest that is gone from the referrers of its subject. One that was pushed again stays.
func (p Repository) removeReferrer(ctx context.Context, subject, d Digest) error {
	for page := 0; ; page++ {
		var rec referrersRecord
		last := true
		err := p.update(ctx, p.referrersKey(subject, page), &rec, func(exists bool, payload []byte) ([]byte, bool, error) {
			last = !rec.Sealed
			list, err := decodeDescriptors(payload)
			if err != nil || !exists {
				return nil, true, err
			}
			i := slices.IndexFunc(list, func(e Descriptor) bool { return e.Digest == d.s })
			if i < 0 {
				return nil, true, nil
			}
			if err := p.findManifest(ctx, d); !isAbsent(err) {
				return nil, true, err
			}
			next, err := json.Marshal(slices.Delete(list, i, i+1))
			return next, false, err
		})
		if err != nil || last {
			return err
		}
	}
}

// Referrers lists the manifests of p whose subject is the given one, in the order of their digests: those after a digest
// ("" for the first), of one artifact type ("" for all), as many as fit in about maxBytes of JSON and at least one, and
// whether there are more. A subject that nothing refers to, or that is unknown, has none. A page may list a manifest
// whose deletion was cut short: it is left out.
func (p Repository) Referrers(ctx context.Context, subject Digest, artifactType, after string, maxBytes int) ([]Descriptor, bool, error) {
	all, err := p.allReferrers(ctx, subject)
	if err != nil {
		return nil, false, storeError("read the referrers of "+subject.s, err)
	}
	all = slices.DeleteFunc(all, func(d Descriptor) bool {
		return d.Digest <= after || artifactType != "" && d.ArtifactType != artifactType
	})
	slices.SortFunc(all, func(a, b Descriptor) int { return cmp.Compare(a.Digest, b.Digest) })
	// One that moved from page to page while they were read was seen twice.
	all = slices.CompactFunc(all, func(a, b Descriptor) bool { return a.Digest == b.Digest })
	for {
		n := fitting(all, maxBytes)
		listed, err := p.present(ctx, all[:n])
		if err != nil {
			return nil, false, storeError("look for the referrers of "+subject.s, err)
		}
		if all = all[n:]; len(listed) > 0 || len(all) == 0 {
			return listed, len(all) > 0, nil
		}
	}
}

// allReferrers returns what all pages of a subject list.
func (p Repository) allReferrers(ctx context.Context, subject Digest) ([]Descriptor, error) {
	var all []Descriptor
	for page := 0; ; page++ {
		var rec referrersRecord
		payload, _, err := read(ctx, p.reads, p.referrersKey(subject, page), &rec)
		if isAbsent(err) {
			return all, nil
		}
		var list []Descriptor
		if err == nil {
			list, err = decodeDescriptors(payload)
		}
		if all = append(all, list...); err != nil || !rec.Sealed {
			return all, err
		}
	}
}

// fitting returns how many of the first in all fit in maxBytes, at least one if there is any.
func fitting(all []Descriptor, maxBytes int) int {
	size := 0
	for i := range all {
		if size += all[i].size(); size > maxBytes && i > 0 {
			return i
		}
	}
	return len(all)
}

// present returns those of all whose manifest is there.
func (p Repository) present(ctx context.Context, all []Descriptor) ([]Descriptor, error) {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(lookups)
	gone := make([]bool, len(all))
	for i := range all {
		group.Go(func() error {
			_, err := p.reads.Stat(ctx, p.manifestKey(Digest{all[i].Digest}))
			if gone[i] = isAbsent(err); gone[i] {
				return nil
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	listed := make([]Descriptor, 0, len(all))
	for i := range all {
		if !gone[i] {
			listed = append(listed, all[i])
		}
	}
	return listed, nil
}

// size is about how many bytes of JSON d takes.
func (d *Descriptor) size() int {
	n := 100 + len(d.MediaType) + len(d.Digest) + len(d.ArtifactType)
	for k, v := range d.Annotations {
		n += 8 + len(k) + len(v)
	}
	return n
}
