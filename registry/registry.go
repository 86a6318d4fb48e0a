// Package registry is the domain of Berth: repositories, blobs, uploads, manifests, tags and referrers over a
// [storage.Driver]. It knows no HTTP. Names, digests and references can only be made by parsing, and every method
// returns errors of type [Error], or those of its context.
//
// docs/design.md describes the records this package keeps, the order in which it writes them, and why a crash, a lost
// reply or a collection at any moment leaves nothing broken.
package registry

import (
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"berth/storage"
)

// Options: nil means defaults.
type Options struct {
	// Reads is the driver that serves reads; it may cache. Nil: the store itself.
	Reads storage.Driver
	// Grace is how long what nothing refers to is kept, G of docs/design.md. 0: 24 h.
	Grace time.Duration
	// UploadAge is how long an upload may lie idle. 0: a week.
	UploadAge time.Duration
	// ReadOnly reports whether nothing may be written, not even to renew a record. Nil: never.
	ReadOnly func() bool
	// MaxBlob returns the size of the largest blob that can be pushed, in bytes; 0: any size. Nil: any size, always.
	MaxBlob func() int64
	// MaxManifest is the size of the largest manifest, in bytes: 10 MiB at most, for records to hold what is made of it. 0: 4 MiB.
	MaxManifest int64
	// Manifests says which manifests are accepted.
	Manifests Policy
	// Immutable says of a tag that, once there, nobody moves or deletes it. Nil: none is.
	Immutable func(Name, Tag) bool
	// Secret is the key of the proof that upload ids carry, and of [Registry.DeriveKey]. Nil: one kept in the store, made when there is none.
	Secret []byte
	// Now is the clock. Nil: time.Now.
	Now func() time.Time
}

// A Registry is the content of one store. It is safe for concurrent use, by several processes on one store at once.
type Registry struct {
	store       storage.Driver // for writes, and for reads that a write relies on
	reads       storage.Driver // for serving
	grace       time.Duration
	uploadAge   time.Duration
	readOnly    func() bool
	maxBlob     func() int64
	maxManifest int64
	policy      Policy
	immutable   func(Name, Tag) bool
	secret      []byte
	ownSecret   bool // no other process has secret
	now         func() time.Time
	skew        *skew
	verified    *recentSet   // blobs that were read whole and matched since the start
	damaged     *recentSet   // blobs that were read whole and did not match
	enrolled    *recentSet   // repositories that were in the catalog; they may be gone
	ranged      *atomic.Bool // readers of data were seen that cannot seek
}

// Open makes a registry over a store.
func Open(ctx context.Context, store storage.Driver, o *Options) (*Registry, error) {
	if o == nil {
		o = &Options{}
	}
	r := &Registry{
		store: store, reads: o.Reads, grace: o.Grace, uploadAge: o.UploadAge, readOnly: o.ReadOnly,
		maxManifest: o.MaxManifest, policy: o.Manifests, immutable: o.Immutable, secret: o.Secret, now: o.Now,
		verified: newRecentSet(1 << 14), damaged: newRecentSet(1 << 14), enrolled: newRecentSet(1 << 14), ranged: new(atomic.Bool),
	}
	if r.reads == nil {
		r.reads = store
	}
	if r.grace <= 0 {
		r.grace = 24 * time.Hour
	}
	if r.uploadAge <= 0 {
		r.uploadAge = 7 * 24 * time.Hour
	}
	if r.readOnly == nil {
		r.readOnly = func() bool { return false }
	}
	if r.maxBlob = o.MaxBlob; r.maxBlob == nil {
		r.maxBlob = func() int64 { return 0 }
	}
	if r.maxManifest <= 0 {
		r.maxManifest = 4 << 20
	}
	if r.now == nil {
		r.now = time.Now
	}
	r.skew = newSkew(r.grace, r.now)
	if !r.readOnly() {
		_, _, _ = r.StoreTime(ctx) // a store that is full, say, still serves
	}
	if len(r.secret) == 0 {
		if err := r.shareSecret(ctx); err != nil {
			return nil, err
		}
	}
	return r, nil
}

type secretRecord struct {
	nonce
	Secret string `json:"secret"`
}

// SharesSecret is false where the store keeps no secret and read-only mode had none put there: what is made by it is of this
// process alone.
func (r *Registry) SharesSecret() bool { return !r.ownSecret }

// shareSecret takes the secret that the store holds, or puts one there, so that replicas agree without being configured.
func (r *Registry) shareSecret(ctx context.Context) error {
	var rec secretRecord
	err := r.update(ctx, secretKey, &rec, func(exists bool, _ []byte) ([]byte, bool, error) {
		if !exists {
			rec.Secret = randomHex(32)
		}
		r.ownSecret = !exists && r.readOnly()
		return nil, exists || r.ownSecret, nil
	})
	if err == nil {
		r.secret, err = hex.DecodeString(rec.Secret)
	}
	if err == nil && len(r.secret) < 16 {
		err = errors.New("it is too short")
	}
	if err != nil {
		return storeError("read the key of upload ids at "+secretKey, err)
	}
	return nil
}

// DeriveKey returns 32 bytes for one purpose that tell nothing of the secret and are the same on all replicas.
func (r *Registry) DeriveKey(purpose string) ([]byte, error) {
	key, err := hkdf.Key(sha256.New, r.secret, nil, purpose, sha256.Size)
	if err != nil {
		return nil, fmt.Errorf("derive the key of %s: %w", purpose, err)
	}
	return key, nil
}

// Repository returns the repository of a name, whether or not anything was pushed to it.
func (r *Registry) Repository(n Name) Repository { return Repository{r, n} }

// Catalog lists the repositories that hold, or held, manifests in the byte order of their names: up to n after the given
// one ("" for the first), and whether there are more.
func (r *Registry) Catalog(ctx context.Context, after string, n int) ([]Name, bool, error) {
	var names []Name
	start := ""
	if after != "" {
		start = catalogKey(after)
	}
	for key, err := range storage.Keys(ctx, r.store, catalogPrefix, start) {
		if err != nil {
			return nil, false, storeError("list the catalog", err)
		}
		name, err := ParseName(strings.TrimSuffix(strings.TrimPrefix(key, catalogPrefix), "!"))
		if err != nil {
			return nil, false, storeError("list the catalog", fmt.Errorf("the key %s is not one of a repository: %w", key, err))
		}
		if n >= 0 && len(names) == n {
			return names, true, nil
		}
		names = append(names, name)
	}
	return names, false, nil
}

// A Repository is a named scope of blobs, manifests and tags.
type Repository struct {
	*Registry
	name Name
}

// Name returns the name of p.
func (p Repository) Name() Name { return p.name }

// A catalogRecord says that a repository exists.
type catalogRecord struct{ nonce }

// Exists reports whether a manifest was ever pushed to p.
func (p Repository) Exists(ctx context.Context) (bool, error) {
	_, err := p.reads.Stat(ctx, catalogKey(p.name.s))
	if isAbsent(err) {
		return false, nil
	}
	return err == nil, storeError("look up the repository "+p.name.s, err)
}

// enroll makes sure that p is in the catalog, and stays there.
func (p Repository) enroll(ctx context.Context) error {
	var rec catalogRecord
	key := catalogKey(p.name.s)
	_, info, err := p.rely(ctx, key, &rec)
	cond := storage.Absent()
	switch {
	case errors.Is(err, errDamaged):
		cond = storage.Match(info.Rev)
	case !isAbsent(err):
		return err
	}
	_, err = p.put(ctx, key, encodeRecord(&rec, nil), cond)
	return ignoreConflict(err)
}

// unknown is the error of something that p lacks: of the given code, or of [NameUnknown] when there is no such repository.
func (p Repository) unknown(ctx context.Context, code Code, format string, args ...any) error {
	exists, err := p.Exists(ctx)
	if err != nil {
		return err
	}
	if !exists {
		return newError(NameUnknown, "there is no repository %s", p.name)
	}
	return newError(code, format, args...)
}
