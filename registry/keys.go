package registry

import (
	"crypto/rand"
	"encoding/hex"
	"strings"
	"time"
)

// The keys of the store, as docs/design.md lists them. "_" cannot begin a component of a repository name and "!" sorts
// below every byte of one, so no two kinds of keys collide.
const (
	catalogPrefix = "catalog/"
	uploadPrefix  = "uploads/"
	dataPrefix    = "data/"
	secretKey     = "config/secret"
	clockKey      = "config/clock"
)

// EpochKey is the key of an object that changes with every deletion of what [IsStable].
const EpochKey = "config/epoch"

// IsStable reports whether key is that of a record which means the same for as long as it is there. Others than this
// process may be told of it a little after it was deleted.
func IsStable(key string) bool {
	return strings.HasPrefix(key, "blobs/") || strings.HasPrefix(key, catalogPrefix) ||
		strings.HasPrefix(key, "repositories/") && (strings.Contains(key, "/_manifests/") || strings.Contains(key, "/_blobs/"))
}

// IsData reports whether key is that of a data object: large, written once, never changed.
func IsData(key string) bool { return strings.HasPrefix(key, dataPrefix) }

// A Kind is what an object of the store is.
type Kind uint8

// The kinds.
const (
	OtherKind Kind = iota
	DataKind
	BlobKind
	LinkKind
	ManifestKind
	TagKind
	HintKind // of the tags of a manifest
	ReferrersKind
	CatalogKind
	UploadKind
	FolderKind // not an object: the keys that begin with this
)

// KindOf tells from its key what an object is.
func KindOf(key string) Kind {
	top, rest, _ := strings.Cut(key, "/")
	switch {
	case strings.HasSuffix(key, "/"):
		return FolderKind
	case top == "repositories":
		return kindInRepository(rest)
	}
	switch top {
	case "data":
		return DataKind
	case "blobs":
		return BlobKind
	case "catalog":
		return CatalogKind
	case "uploads":
		return UploadKind
	}
	return OtherKind
}

// kindInRepository finds the collection: no part of the name before it begins with "_".
func kindInRepository(key string) Kind {
	at := strings.Index(key, "/_")
	if at < 0 {
		return OtherKind
	}
	collection, _, _ := strings.Cut(key[at+1:], "/")
	switch collection {
	case "_blobs":
		return LinkKind
	case "_manifests":
		return ManifestKind
	case "_tags":
		return TagKind
	case "_tagged":
		return HintKind
	case "_referrers":
		return ReferrersKind
	}
	return OtherKind
}

func newDataKey(now time.Time) string {
	return dataPrefix + now.UTC().Format("20060102") + "/" + randomHex(16)
}

func blobKey(d Digest) string {
	h := d.Hex()
	return "blobs/" + string(d.Algorithm()) + "/" + h[:2] + "/" + h
}

func uploadKey(uuid string) string { return uploadPrefix + uuid }

func catalogKey(name string) string { return catalogPrefix + name + "!" }

func (p Repository) prefix() string { return "repositories/" + p.name.s + "/" }

func digestPath(d Digest) string { return string(d.Algorithm()) + "/" + d.Hex() }

func (p Repository) linkKey(d Digest) string     { return p.prefix() + "_blobs/" + digestPath(d) }
func (p Repository) manifestKey(d Digest) string { return p.prefix() + "_manifests/" + digestPath(d) }
func (p Repository) tagPrefix() string           { return p.prefix() + "_tags/" }
func (p Repository) tagKey(t Tag) string         { return p.tagPrefix() + t.s }
func (p Repository) hintPrefix(d Digest) string  { return p.prefix() + "_tagged/" + digestPath(d) + "/" }
func (p Repository) hintKey(d Digest, t Tag) string {
	return p.hintPrefix(d) + t.s
}
func (p Repository) referrersPrefix(d Digest) string {
	return p.prefix() + "_referrers/" + digestPath(d) + "/"
}

// randomHex returns n random bytes in hexadecimal. crypto/rand.Read never fails.
func randomHex(n int) string {
	b := make([]byte, n)
	rand.Read(b)
	return hex.EncodeToString(b)
}
