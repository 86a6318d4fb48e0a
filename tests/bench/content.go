package main

import (
	"crypto/sha256"
	"encoding"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash"
	"math/rand/v2"
	"strings"
)

const (
	kib = 1 << 10
	mib = 1 << 20

	imageType    = "application/vnd.oci.image.manifest.v1+json"
	configType   = "application/vnd.oci.image.config.v1+json"
	layerType    = "application/vnd.oci.image.layer.v1.tar+gzip"
	artifactType = "application/vnd.bench.attachment"

	digestLength = len("sha256:") + 2*sha256.Size
)

// noise returns n bytes that do not compress, the same ones for the same seed.
func noise(n int, seed byte) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{seed}).Read(b)
	return b
}

func digestOf(b []byte) string {
	sum := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// A series is contents of one size that differ only at their end, so that a new one costs the hashing of one block. Not
// safe for concurrent use.
type series struct {
	body   []byte // all but the tail
	tail   []byte // the number of the worker and that of the content
	digest []byte // as text

	hash     hash.Hash
	midstate []byte // of the hash, after body
	sum      []byte
}

const tailSize = 64

// newSeries makes the series of one worker over a body that workers may share.
func newSeries(body []byte, worker int) *series {
	s := &series{
		body: body, tail: make([]byte, tailSize), digest: append(make([]byte, 0, digestLength), "sha256:"...),
		hash: sha256.New(), sum: make([]byte, 0, sha256.Size),
	}
	s.hash.Write(body)
	s.midstate, _ = s.hash.(encoding.BinaryMarshaler).MarshalBinary() // those of the standard library do not fail
	binary.BigEndian.PutUint64(s.tail, uint64(worker))
	return s
}

func (s *series) size() int { return len(s.body) + tailSize }

// next goes on to the next content.
func (s *series) next() error {
	binary.BigEndian.PutUint64(s.tail[8:], binary.BigEndian.Uint64(s.tail[8:])+1)
	if err := s.hash.(encoding.BinaryUnmarshaler).UnmarshalBinary(s.midstate); err != nil {
		return err
	}
	s.hash.Write(s.tail)
	s.sum = s.hash.Sum(s.sum[:0])
	s.digest = hex.AppendEncode(s.digest[:len("sha256:")], s.sum)
	return nil
}

// A part is a descriptor in a manifest.
type part struct {
	mediaType, digest string
	size              int
}

func (p part) String() string {
	return fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":%d}`, p.mediaType, p.digest, p.size)
}

// image renders an image manifest. The note makes it differ from others of the same parts.
func image(config part, layers []part, note string) []byte {
	list := make([]string, len(layers))
	for i, l := range layers {
		list[i] = l.String()
	}
	return fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"config":%v,"layers":[%s],"annotations":{"note":%q}}`,
		imageType, config, strings.Join(list, ","), note)
}

// attachment renders a manifest that refers to a subject.
func attachment(empty, subject part, note string) []byte {
	return fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"artifactType":%q,"config":%v,"layers":[%v],"subject":%v,`+
		`"annotations":{"note":%q}}`, imageType, artifactType, empty, empty, subject, note)
}
