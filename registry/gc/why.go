package gc

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"berth/registry"
	"berth/storage"
)

// maxKeepers bounds how many manifests [Collector.Why] names for a repository.
const maxKeepers = 20

// A Why says what keeps a blob, or when it may go.
type Why struct {
	Digest  string    `json:"digest"`
	Exists  bool      `json:"exists"`           // there is a record of it
	Size    int64     `json:"size,omitempty"`   // bytes
	Touched time.Time `json:"touched,omitzero"` // when the record was; by the clock of the store
	Damaged string    `json:"damaged,omitempty"`
	// Refused says that it was purged and must not be pushed again.
	Refused bool   `json:"refused,omitempty"`
	Links   []Link `json:"links"`
	// Kept says that a manifest names it. Otherwise it may go after MayGo, unless somebody relies on it before.
	Kept  bool      `json:"kept"`
	MayGo time.Time `json:"may_go,omitzero"`
}

// A Link says that a repository may serve the blob.
type Link struct {
	Repository string    `json:"repository"`
	Touched    time.Time `json:"touched"`
	// Manifests are those of the repository that mention the blob: the first of them.
	Manifests []string `json:"manifests"`
	Unread    []string `json:"unread,omitempty"` // manifests that cannot be read, and so keep everything in the repository
}

// Why looks for all that keeps a blob, in the store as it is: it lists what repositories have, and reads the manifests of
// those that link the blob.
func (c *Collector) Why(ctx context.Context, d registry.Digest) (*Why, error) {
	w := &Why{Digest: d.String(), Links: []Link{}}
	if err := c.whyBlob(ctx, d, w); err != nil {
		return nil, err
	}
	for key, err := range storage.Keys(ctx, c.o.Scan, registry.RepositoryPrefix, "") {
		if err != nil {
			return nil, fmt.Errorf("list what links %s: %w", d, err)
		}
		k := registry.ParseKey(key)
		if k.Kind != registry.LinkKind || k.Digest != d {
			continue
		}
		link, err := c.whyLink(ctx, k, key)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		w.Links = append(w.Links, *link)
		w.Kept = w.Kept || len(link.Manifests)+len(link.Unread) > 0
	}
	w.MayGo = w.mayGo(c.registry.Grace())
	return w, nil
}

// mayGo is when the last that keeps the blob is old enough.
func (w *Why) mayGo(grace time.Duration) time.Time {
	if w.Kept || w.Refused || !w.Exists {
		return time.Time{}
	}
	last := w.Touched
	for _, l := range w.Links {
		if l.Touched.After(last) {
			last = l.Touched
		}
	}
	return last.Add(grace)
}

func (c *Collector) whyBlob(ctx context.Context, d registry.Digest, w *Why) error {
	key := registry.KeyOfBlob(d)
	body, info, err := storage.ReadAll(ctx, c.o.Scan, key, maxRecord)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the record of %s: %w", d, err)
	}
	w.Exists, w.Touched = true, info.ModTime
	parts, err := registry.ReadBlobRecord(key, body)
	if err != nil {
		w.Damaged = err.Error()
		return nil
	}
	w.Size, w.Refused = parts.Size, parts.Refused
	for _, data := range parts.Data {
		if _, err := c.o.Scan.Stat(ctx, data); err != nil {
			w.Damaged = fmt.Sprintf("the data object %s: %v", data, err)
		}
	}
	return nil
}

func (c *Collector) whyLink(ctx context.Context, k registry.Key, key string) (*Link, error) {
	info, err := c.o.Scan.Stat(ctx, key)
	if err != nil {
		return nil, err
	}
	name, err := registry.ParseName(k.Repository)
	if err != nil {
		return nil, err
	}
	link := &Link{Repository: k.Repository, Touched: info.ModTime, Manifests: []string{}}
	for key, err := range storage.Keys(ctx, c.o.Scan, c.registry.Repository(name).Manifests(), "") {
		if err != nil {
			return nil, fmt.Errorf("list the manifests of %s: %w", name, err)
		}
		mentions, err := c.mentions(ctx, key, k.Digest)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil && len(link.Unread) < maxKeepers:
			link.Unread = append(link.Unread, err.Error())
		case mentions && len(link.Manifests) < maxKeepers:
			link.Manifests = append(link.Manifests, registry.ParseKey(key).Digest.String())
		}
	}
	return link, nil
}

// mentions reports whether a manifest mentions a digest.
func (c *Collector) mentions(ctx context.Context, key string, d registry.Digest) (bool, error) {
	manifest := registry.ParseKey(key).Digest
	hash, found := c.memo.hash(d.String()), false
	if known, ok := c.memo.get(c.memo.key(manifest.String())); ok {
		for _, h := range known {
			found = found || h == hash
		}
		return found, nil
	}
	body, _, err := storage.ReadAll(ctx, c.o.Scan, key, maxRecord)
	if err != nil {
		return false, err
	}
	digests, err := registry.ReadManifestRecord(key, manifest, body)
	for _, mentioned := range digests {
		found = found || mentioned == d
	}
	return found, err
}
