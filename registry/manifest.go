package registry

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"berth/storage"
)

// A manifestRecord is a manifest; its payload is the manifest's exact bytes.
type manifestRecord struct {
	nonce
	MediaType string `json:"mediaType"`
	Subject   string `json:"subject,omitempty"`
}

// A Manifest is a manifest of one repository.
type Manifest struct {
	Digest    Digest
	MediaType string
	Body      []byte // exactly as it was pushed; not to be changed
	Subject   Digest // what it refers to; zero: nothing
}

// Manifest finds a manifest by digest or by tag. [ManifestUnknown] when there is none, [NameUnknown] when nothing was ever
// pushed to p.
func (p Repository) Manifest(ctx context.Context, ref Reference) (*Manifest, error) {
	if ref.IsTag() {
		return p.taggedManifest(ctx, ref.Tag)
	}
	m, err := p.readManifest(ctx, p.reads, ref.Digest)
	if isAbsent(err) {
		return nil, p.unknown(ctx, ManifestUnknown, "the repository %s has no manifest %s", p.name, ref)
	}
	return m, storeError("read a manifest", err)
}

// taggedManifest finds a manifest by tag. Where it is gone, the tag may have moved on before it was deleted: the tag is
// absent only if it names, after the manifest was seen to be gone in the store, what it named before.
func (p Repository) taggedManifest(ctx context.Context, t Tag) (*Manifest, error) {
	from, gone := p.reads, ""
	for attempt := 0; ; attempt++ {
		tag, _, err := p.readTag(ctx, from, t)
		if isAbsent(err) || err == nil && tag.Digest == gone {
			return nil, p.unknown(ctx, ManifestUnknown, "the repository %s has no tag %s", p.name, t)
		}
		if err != nil {
			return nil, storeError("read a tag", err)
		}
		m, err := p.readManifest(ctx, from, Digest{tag.Digest})
		if err == nil {
			return m.as(tag.MediaType), nil
		}
		if !isAbsent(err) {
			return nil, storeError("read a manifest", err)
		}
		if from = p.store; attempt > 0 {
			gone = tag.Digest
		}
	}
}

// as returns m as the media type by which a tag names it. The digest is of the bytes alone: the same bytes may have been pushed as
// something else since, and that moves no tag.
func (m *Manifest) as(mediaType string) *Manifest {
	if mediaType == "" || mediaType == m.MediaType {
		return m
	}
	named := *m
	named.MediaType = mediaType
	return &named
}

// readManifest reads a manifest and makes sure that its bytes are what the digest names. The result may be shared.
func (p Repository) readManifest(ctx context.Context, from storage.Driver, d Digest) (*Manifest, error) {
	key := p.manifestKey(d)
	c, err := storage.ReadCopy(ctx, from, key, maxRecord)
	if err != nil {
		return nil, err
	}
	if m, ok := c.Recall().(*Manifest); ok {
		return m, nil
	}
	var rec manifestRecord
	body, err := decodeRecord(key, c.Body, &rec)
	if err != nil {
		return nil, err
	}
	if got := d.Algorithm().FromBytes(body); got != d {
		return nil, fmt.Errorf("the manifest %s of %s is %w: its bytes have the digest %s", d, p.name, errDamaged, got)
	}
	m := &Manifest{Digest: d, MediaType: rec.MediaType, Body: body}
	if rec.Subject != "" {
		if m.Subject, err = ParseDigest(rec.Subject); err != nil {
			return nil, fmt.Errorf("the manifest %s of %s is %w: %w", d, p.name, errDamaged, err)
		}
	}
	c.Remember(m)
	return m, nil
}

// A ManifestPush is a manifest as a request carries it.
type ManifestPush struct {
	Reference Reference
	Tags      []Tag  // more tags to set
	MediaType string // what the request calls it; "": what it calls itself
	Body      []byte
	By        string // who pushes, for the history of the tags
	// IfMatch, when it is not empty, asks that each tag be at one of these digests; IfAbsent, that it not exist.
	IfMatch  []Digest
	IfAbsent bool
	// KeepTags refuses to move tags that exist.
	KeepTags bool

	id     string // made by PutManifest
	digest Digest // as well
}

// PutManifest stores a manifest and sets its tags. It is refused with [ManifestInvalid], [ManifestTooLarge],
// [DigestInvalid], [ManifestBlobUnknown] with the digests that p lacks, [PreconditionFailed], or [Denied] for a tag that is
// to stay as it is.
func (p Repository) PutManifest(ctx context.Context, push ManifestPush) (*Manifest, error) {
	if int64(len(push.Body)) > p.maxManifest {
		return nil, newError(ManifestTooLarge, "the manifest has more than the %d bytes allowed", p.maxManifest)
	}
	m, doc, err := p.parsePush(push)
	if err != nil {
		return nil, err
	}
	tags := push.Tags
	if push.Reference.IsTag() {
		tags = append([]Tag{push.Reference.Tag}, tags...)
	}
	push.id, push.digest, push.MediaType = randomHex(8), m.Digest, m.MediaType
	found, err := p.findTags(ctx, tags, push) // early, so that a push that has lost writes nothing
	if err != nil {
		return nil, err
	}
	err = p.inTime(ctx, func(ctx context.Context) error {
		if err := p.require(ctx, doc); err != nil {
			return err
		}
		if !p.isEnrolled(found) {
			if err := p.enroll(ctx); err != nil {
				return storeError("enter the repository in the catalog", err)
			}
		}
		return p.storeManifest(ctx, m, doc, found, push)
	})
	return m, err
}

// A tagPut is a tag that a push is to set.
type tagPut struct {
	tag    Tag
	before *tagBefore // as it was found; nil: it is to be looked at again
}

func (p Repository) findTags(ctx context.Context, tags []Tag, push ManifestPush) ([]tagPut, error) {
	var found []tagPut
	for _, t := range tags {
		before, err := p.checkTag(ctx, t, push)
		if err != nil {
			return nil, err
		}
		found = append(found, tagPut{t, &before})
	}
	return found, nil
}

// isEnrolled reports whether p is surely, or was lately, in the catalog: there is a tag, or this process saw its entry. It saves a
// look before the manifest is written; the one afterwards is what counts, see strike.
func (p Repository) isEnrolled(found []tagPut) bool {
	return p.enrolled.has(p.name.s) || slices.ContainsFunc(found, func(f tagPut) bool { return len(f.before.states) > 0 })
}

func (p Repository) parsePush(push ManifestPush) (*Manifest, *document, error) {
	doc, err := parseDocument(push.MediaType, push.Body)
	if err != nil {
		// The digest comes first: what does not have it is not the document that was meant.
		if want := push.Reference.Digest; !want.IsZero() && want.Algorithm().FromBytes(push.Body) != want {
			return nil, nil, digestMismatch(want, want.Algorithm().FromBytes(push.Body))
		}
		return nil, nil, err
	}
	algorithm := SHA256
	if !push.Reference.IsTag() {
		algorithm = push.Reference.Digest.Algorithm()
	}
	d := algorithm.FromBytes(push.Body)
	if want := push.Reference.Digest; !want.IsZero() && d != want {
		return nil, nil, digestMismatch(want, d)
	}
	if err := p.policy.checkURLs(doc); err != nil {
		return nil, nil, err
	}
	return &Manifest{Digest: d, MediaType: doc.mediaType, Body: push.Body, Subject: doc.subject}, doc, nil
}

// lookups is how many records one request looks up at a time.
const lookups = 16

// require makes sure, in the store, that p has what a manifest names, and renews the links that are about to be relied
// upon. All that is missing is named at once.
func (p Repository) require(ctx context.Context, doc *document) error {
	var (
		mu      sync.Mutex
		missing []string
	)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(lookups)
	look := func(d Digest, required bool, find func(context.Context, Digest) error) {
		group.Go(func() error {
			err := find(ctx, d)
			if !isAbsent(err) {
				return err
			}
			if required {
				mu.Lock()
				missing = append(missing, d.s)
				mu.Unlock()
			}
			return nil
		})
	}
	looked := map[Digest]bool{}
	for _, d := range doc.blobs {
		required := !p.policy.AllowMissing && !d.elsewhere()
		if !required || !looked[d.parsed] { // images name the same layer again and again
			looked[d.parsed] = required
			look(d.parsed, required, p.relyOnLink)
		}
	}
	for _, d := range doc.manifests {
		switch required := p.policy.requires(&d); {
		case !isKnownType(d.MediaType):
			look(d.parsed, required, p.findEither) // a blob must stay if it is there
		case required:
			look(d.parsed, true, p.findManifest)
		}
	}
	for _, d := range doc.mentioned {
		look(d, false, p.relyOnLink)
	}
	if err := group.Wait(); err != nil {
		return storeError("look up what a manifest names", err)
	}
	if len(missing) == 0 {
		return nil
	}
	slices.Sort(missing)
	missing = slices.Compact(missing)
	return &Error{Code: ManifestBlobUnknown, Detail: missing,
		Message: fmt.Sprintf("the manifest names content that the repository %s lacks; push %s first", p.name, missing[0])}
}

func (p Repository) relyOnLink(ctx context.Context, d Digest) error {
	_, _, err := p.rely(ctx, p.linkKey(d), &linkRecord{})
	return err
}

// findManifest looks in the store for a manifest.
func (p Repository) findManifest(ctx context.Context, d Digest) error {
	_, err := p.store.Stat(ctx, p.manifestKey(d))
	return err
}

// findEither looks for what an index names without calling it a manifest: it may be a blob, as in a cache of BuildKit.
func (p Repository) findEither(ctx context.Context, d Digest) error {
	err := p.findManifest(ctx, d)
	if isAbsent(err) {
		err = p.relyOnLink(ctx, d)
	}
	return err
}

// storeManifest writes the records of a manifest: the manifest, its entry among the referrers of its subject, and for
// each tag a hint and the tag. A DELETE at the same time may have removed the manifest again; then it is written anew.
func (p Repository) storeManifest(ctx context.Context, m *Manifest, doc *document, tags []tagPut, push ManifestPush) error {
	for attempt := 0; ; attempt++ {
		objects, err := p.manifestObjects(ctx, m, doc, push)
		if err != nil {
			return err
		}
		if !m.Subject.IsZero() {
			if err := p.writeReferrer(ctx, m, doc, objects); err != nil {
				return storeError("store a referrer", err)
			}
			objects = nil
		}
		for i := range tags {
			if err := p.setTag(ctx, &tags[i], m, push, objects); err != nil {
				return err
			}
			objects = nil
		}
		if _, err := p.putAll(ctx, objects...); err != nil {
			return storeError("store a manifest", err)
		}
		err = p.confirm(ctx, m, tags)
		if err == nil {
			err = p.enroll(ctx) // again: see strike
		}
		if err == nil {
			p.enrolled.add(p.name.s)
		}
		if !isAbsent(err) {
			return storeError("store a manifest", err)
		}
		if err := pause(ctx, attempt); err != nil {
			return err
		}
	}
}

// manifestObjects returns the put of m, or none when the store has it just so. Where others change the store, it is not asked:
// looking costs as much as writing. One that does not say what it is, as few do, is put at once.
func (p Repository) manifestObjects(ctx context.Context, m *Manifest, doc *document, push ManifestPush) ([]storage.Object, error) {
	if !doc.saysType {
		return nil, p.putUntyped(ctx, m, push)
	}
	if p.reads == p.store {
		present, err := p.readManifest(ctx, p.store, m.Digest)
		if err == nil && present.MediaType == m.MediaType {
			return nil, nil
		}
	}
	return []storage.Object{{Key: p.manifestKey(m.Digest), Body: m.encode()}}, nil
}

func (m *Manifest) encode() []byte {
	return encodeRecord(&manifestRecord{MediaType: m.MediaType, Subject: m.Subject.s}, m.Body)
}

func (p Repository) writeReferrer(ctx context.Context, m *Manifest, doc *document, first []storage.Object) error {
	if _, err := p.putAll(ctx, first...); err != nil {
		return err
	}
	return p.addReferrer(ctx, m.Subject, doc.descriptor(m))
}

// DeleteManifest removes a manifest and the tags that name it. [ManifestUnknown] when there is none; what an earlier
// deletion that was cut short left behind is removed all the same. [Denied] when an immutable tag names it.
func (p Repository) DeleteManifest(ctx context.Context, d Digest) error {
	if err := p.checkTagsOf(ctx, d, ""); err != nil {
		return err
	}
	m, err := p.readManifest(ctx, p.store, d)
	absent := isAbsent(err)
	switch {
	case absent, errors.Is(err, errDamaged): // it can still be deleted
		m = &Manifest{Digest: d}
	case err != nil:
		return storeError("delete a manifest", err)
	}
	if !m.Subject.IsZero() {
		if err := p.doubtReferrer(ctx, m.Subject, d); err != nil {
			return storeError("delete a referrer", err)
		}
	}
	if !absent {
		if err := p.removeManifest(ctx, d); err != nil {
			return err
		}
	}
	if err := p.dropTags(ctx, d); err != nil {
		return storeError("delete the tags of a manifest", err)
	}
	if absent {
		return p.unknown(ctx, ManifestUnknown, "the repository %s has no manifest %s", p.name, d)
	}
	if !m.Subject.IsZero() {
		return storeError("delete a referrer", p.removeReferrer(ctx, m.Subject, d))
	}
	return nil
}
