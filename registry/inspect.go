package registry

import (
	"bytes"
	"context"
	"fmt"
	"strings"

	"berth/storage"
)

// What follows tells a collection what the keys of the store are and what its records refer to; how records are written
// stays in this package.

// The prefixes under which kinds of keys are listed.
const (
	RepositoryPrefix = "repositories/"
	BlobPrefix       = "blobs/"
	UploadPrefix     = uploadPrefix
	DataPrefix       = dataPrefix
	CatalogPrefix    = catalogPrefix
)

// A Key is a key of the store, understood.
type Key struct {
	Kind       Kind
	Repository string // of what belongs to one
	Digest     Digest // of a link, a manifest or a blob; what a hint leads from; the subject of referrers
	Tag        string // of a tag or a hint
}

// ParseKey understands a key of the store; one that this package does not write is an [OtherKind].
func ParseKey(key string) Key {
	top, rest, _ := strings.Cut(key, "/")
	switch top {
	case "repositories":
		return parseRepositoryKey(rest)
	case "blobs":
		if alg, rest, ok := strings.Cut(rest, "/"); ok && len(rest) > 3 && rest[2] == '/' {
			return digestKey(BlobKind, "", alg+"/"+rest[3:])
		}
	case "uploads":
		return Key{Kind: UploadKind}
	case "data":
		return Key{Kind: DataKind}
	case "catalog":
		return Key{Kind: CatalogKind, Repository: strings.TrimSuffix(rest, "!")}
	}
	return Key{}
}

// parseRepositoryKey relies on no component of a name beginning with "_".
func parseRepositoryKey(rest string) Key {
	name, record, ok := strings.Cut(rest, "/_")
	if !ok {
		return Key{}
	}
	kind, rest, _ := strings.Cut(record, "/")
	switch kind {
	case "blobs":
		return digestKey(LinkKind, name, rest)
	case "manifests":
		return digestKey(ManifestKind, name, rest)
	case "tags":
		return Key{Kind: TagKind, Repository: name, Tag: rest}
	case "tagged", "referrers":
		digest, last, ok := cutLast(rest)
		if !ok {
			return Key{}
		}
		if kind == "referrers" {
			return digestKey(ReferrersKind, name, digest)
		}
		k := digestKey(HintKind, name, digest)
		k.Tag = last
		return k
	}
	return Key{}
}

func cutLast(path string) (before, last string, ok bool) {
	i := strings.LastIndexByte(path, '/')
	if i < 0 {
		return "", "", false
	}
	return path[:i], path[i+1:], true
}

func digestKey(kind Kind, repository, path string) Key {
	d, err := ParseDigest(strings.Replace(path, "/", ":", 1))
	if err != nil {
		return Key{}
	}
	return Key{Kind: kind, Repository: repository, Digest: d}
}

// The prefixes of the links of p, of its manifests, and of its pages of referrers.
func (p Repository) Links() string     { return p.prefix() + "_blobs/" }
func (p Repository) Manifests() string { return p.prefix() + "_manifests/" }
func (p Repository) Referring() string { return p.prefix() + "_referrers/" }

// KeyOfBlob returns the key of the record of a blob.
func KeyOfBlob(d Digest) string { return blobKey(d) }

// Tagged returns the manifests that tags of p name, whether they are there or not.
func (p Repository) Tagged(ctx context.Context) ([]Digest, error) {
	var digests []Digest
	for key, err := range storage.Keys(ctx, p.store, p.tagPrefix(), "") {
		if err != nil {
			return nil, err
		}
		t, err := ParseTag(strings.TrimPrefix(key, p.tagPrefix()))
		if err != nil {
			return nil, err
		}
		rec, _, err := p.readTag(ctx, p.store, t)
		if isAbsent(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		digests = append(digests, Digest{rec.Digest})
	}
	return digests, nil
}

// ReadManifestSubject returns what a manifest refers to; zero: nothing.
func ReadManifestSubject(key string, body []byte) (Digest, error) {
	var rec manifestRecord
	_, err := decodeRecord(key, body, &rec)
	return Digest{rec.Subject}, err
}

// ReadManifestRecord returns every digest that a manifest mentions, from the record at key. A record whose bytes do not have
// the digest is an error: a reference may have been lost.
func ReadManifestRecord(key string, d Digest, body []byte) ([]Digest, error) {
	payload, err := decodeRecord(key, body, &manifestRecord{})
	if err != nil {
		return nil, err
	}
	if got := d.Algorithm().FromBytes(payload); got != d {
		return nil, fmt.Errorf("the manifest %s is %w: its bytes have the digest %s", key, errDamaged, got)
	}
	return mentionedDigests(key, payload)
}

// mentionedDigests returns the strings of the manifest at key that are digests. In a document without a backslash a string is
// what is between its quotes; that takes a tenth of the time of parsing.
func mentionedDigests(key string, document []byte) ([]Digest, error) {
	if bytes.IndexByte(document, '\\') < 0 {
		return quotedDigests(document), nil
	}
	found, err := scanJSON(document, len(document)) // as many as fit: it was accepted once
	if err != nil {
		return nil, fmt.Errorf("the manifest %s cannot be understood: %w", key, err)
	}
	return found.digests, nil
}

func quotedDigests(document []byte) []Digest {
	var digests []Digest
	for {
		_, after, found := bytes.Cut(document, []byte(`"sha`))
		if !found {
			return digests
		}
		text, _, found := bytes.Cut(after[:min(len(after), maxDigest)], []byte{'"'})
		if d, err := ParseDigest("sha" + string(text)); found && err == nil {
			digests = append(digests, d)
		}
		document = after
	}
}

// maxDigest is the length of the longest digest with a quote, in bytes.
const maxDigest = len("sha512:") + 128 + 1

// BlobParts is what the record of a blob says.
type BlobParts struct {
	Size    int64
	Data    []string // the keys of its data objects
	Refused bool     // it is the note that this blob is not wanted, and stays
}

// ReadBlobRecord understands the record of a blob.
func ReadBlobRecord(key string, body []byte) (BlobParts, error) {
	var rec blobRecord
	if _, err := decodeRecord(key, body, &rec); err != nil {
		return BlobParts{}, err
	}
	if rec.Purged {
		return BlobParts{Refused: rec.Refused}, nil
	}
	return BlobParts{Size: rec.Size, Data: dataKeys(rec.Segments)}, nil
}

// UploadParts is what the record of an upload says.
type UploadParts struct {
	Open, Cancelled bool // neither: closed
	Received        int64
	Data            []string // the keys of its data objects
}

// ReadUploadRecord understands the record of an upload.
func ReadUploadRecord(key string, body []byte) (UploadParts, error) {
	var rec uploadRecord
	if _, err := decodeRecord(key, body, &rec); err != nil {
		return UploadParts{}, err
	}
	parts := UploadParts{Open: rec.State == uploadOpen, Cancelled: rec.State == uploadCancelled, Received: rec.Offset, Data: dataKeys(rec.Segments)}
	if rec.Pending != "" {
		parts.Data = append(parts.Data, rec.Pending)
	}
	return parts, nil
}

func dataKeys(segments []segment) []string {
	keys := make([]string, 0, len(segments)+1)
	for _, s := range segments {
		keys = append(keys, s.Key)
	}
	return keys
}

// ReadReferrersRecord returns the manifests that a page of referrers lists.
func ReadReferrersRecord(key string, body []byte) ([]Digest, error) {
	payload, err := decodeRecord(key, body, &referrersRecord{})
	if err != nil {
		return nil, err
	}
	list, err := decodeReferrers(payload)
	if err != nil {
		return nil, err
	}
	digests := make([]Digest, len(list))
	for i := range list {
		digests[i] = Digest{list[i].Descriptor.Digest}
	}
	return digests, nil
}
