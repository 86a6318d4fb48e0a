package registry

import (
	"crypto"
	_ "crypto/sha256" // the algorithms of digests are looked up in crypto
	_ "crypto/sha512"
	"fmt"
	"hash"
	"strings"

	"github.com/opencontainers/go-digest"
)

// A Name is the name of a repository, as the OCI distribution specification defines <name>. It is made by [ParseName].
type Name struct{ s string }

// Bounds of names. A component leaves room for the one byte that a catalog key adds to it in a file name of 255.
const (
	maxName      = 255
	maxComponent = 254
	maxTag       = 128
)

// ParseName parses the name of a repository: components of lower-case letters and digits joined by ".", "_", "__" or
// dashes, separated by slashes, 255 bytes in all. Errors are of code [NameInvalid].
func ParseName(s string) (Name, error) {
	if s == "" || len(s) > maxName {
		return Name{}, newError(NameInvalid, "a repository name has 1 to %d bytes, this one has %d", maxName, len(s))
	}
	for component := range strings.SplitSeq(s, "/") {
		if !validComponent(component) {
			return Name{}, newError(NameInvalid,
				"the component %q of a repository name must be lower-case letters and digits joined by '.', '_', '__' or '-'", component)
		}
	}
	return Name{s}, nil
}

// validComponent follows the grammar [a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*.
func validComponent(s string) bool {
	if s == "" || len(s) > maxComponent || !isLowerAlnum(s[0]) || !isLowerAlnum(s[len(s)-1]) {
		return false
	}
	for i := 0; i < len(s); {
		if isLowerAlnum(s[i]) {
			i++
			continue
		}
		run := i
		for i < len(s) && s[i] == s[run] {
			i++
		}
		switch n := i - run; {
		case s[run] == '-', s[run] == '.' && n == 1, s[run] == '_' && n <= 2:
		default:
			return false
		}
		if !isLowerAlnum(s[i]) {
			return false
		}
	}
	return true
}

func isLowerAlnum(c byte) bool { return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' }

func (n Name) String() string { return n.s }

// A Digest names content by its hash. It is made by [ParseDigest]; the zero Digest names nothing.
type Digest struct{ s string }

// ParseDigest parses a digest of a registered algorithm: sha256 or sha512, in lower-case hexadecimal. Errors are of code
// [DigestInvalid].
func ParseDigest(s string) (Digest, error) {
	alg, hex, found := strings.Cut(s, ":")
	if !found {
		return Digest{}, newError(DigestInvalid, "%q is not a digest, which has the form algorithm:hex", clip(s))
	}
	a, err := ParseAlgorithm(alg)
	if err != nil {
		return Digest{}, err
	}
	if len(hex) != a.digits() || !isHex(hex) {
		return Digest{}, newError(DigestInvalid, "a %s digest has %d lower-case hexadecimal digits", alg, a.digits())
	}
	return Digest{s}, nil
}

func isHex(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < '0' || c > '9' && c < 'a' || c > 'f' {
			return false
		}
	}
	return true
}

func (d Digest) String() string { return d.s }

// IsZero reports whether d names nothing.
func (d Digest) IsZero() bool { return d.s == "" }

// Algorithm returns the algorithm of d.
func (d Digest) Algorithm() Algorithm {
	alg, _, _ := strings.Cut(d.s, ":")
	return Algorithm(alg)
}

// Hex returns the hexadecimal part of d.
func (d Digest) Hex() string {
	_, hex, _ := strings.Cut(d.s, ":")
	return hex
}

// An Algorithm is a hash algorithm of the OCI image specification's registered set.
type Algorithm string

// The algorithms that digests can have.
const (
	SHA256 Algorithm = "sha256"
	SHA512 Algorithm = "sha512"
)

// ParseAlgorithm parses the name of an algorithm. Errors are of code [DigestInvalid].
func ParseAlgorithm(s string) (Algorithm, error) {
	switch a := Algorithm(s); a {
	case SHA256, SHA512:
		return a, nil
	}
	return "", newError(DigestInvalid, "the digest algorithm %q is not supported; sha256 and sha512 are", clip(s))
}

func (a Algorithm) new() hash.Hash {
	if a == SHA512 {
		return crypto.SHA512.New()
	}
	return crypto.SHA256.New()
}

// digits is how many hexadecimal digits a digest has.
func (a Algorithm) digits() int {
	if a == SHA512 {
		return 2 * crypto.SHA512.Size()
	}
	return 2 * crypto.SHA256.Size()
}

func (a Algorithm) fromHash(h hash.Hash) Digest {
	return Digest{digest.NewDigest(digest.Algorithm(a), h).String()}
}

// FromBytes returns the digest of p.
func (a Algorithm) FromBytes(p []byte) Digest {
	h := a.new()
	h.Write(p)
	return a.fromHash(h)
}

// A Tag is the name of a tag. It is made by [ParseTag].
type Tag struct{ s string }

// ParseTag parses a tag: [a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}. Errors are of code [TagInvalid].
func ParseTag(s string) (Tag, error) {
	ok := s != "" && len(s) <= maxTag && s[0] != '.' && s[0] != '-'
	for i := 0; ok && i < len(s); i++ {
		c := s[i]
		ok = isLowerAlnum(c) || 'A' <= c && c <= 'Z' || c == '_' || c == '.' || c == '-'
	}
	if !ok {
		return Tag{}, newError(TagInvalid, "%q is not a tag: 1 to %d letters, digits, '_', '.' or '-', beginning with none of the last two",
			clip(s), maxTag)
	}
	return Tag{s}, nil
}

func (t Tag) String() string { return t.s }

// A Reference names a manifest by digest or by tag; exactly one of the two is set.
type Reference struct {
	Digest Digest
	Tag    Tag
}

// ParseReference parses a digest (it has a colon) or a tag.
func ParseReference(s string) (Reference, error) {
	if strings.Contains(s, ":") {
		d, err := ParseDigest(s)
		return Reference{Digest: d}, err
	}
	t, err := ParseTag(s)
	return Reference{Tag: t}, err
}

// IsTag reports whether r names a manifest by tag.
func (r Reference) IsTag() bool { return r.Digest.IsZero() }

func (r Reference) String() string {
	if r.IsTag() {
		return r.Tag.s
	}
	return r.Digest.s
}

// clip bounds what an error repeats of its input.
func clip(s string) string {
	const limit = 100
	if len(s) > limit {
		return fmt.Sprintf("%.*s…", limit, s)
	}
	return s
}
