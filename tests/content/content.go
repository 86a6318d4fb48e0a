// Package content makes what registries hold, from nothing: blobs of chosen bytes, images that container engines load,
// indexes, artifacts, and OCI layouts of them on disk. The same seed makes the same bytes.
package content

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"encoding/json"
	"hash/fnv"
	"math/rand/v2"
	"strings"
)

// The media types used here.
const (
	ImageManifest = "application/vnd.oci.image.manifest.v1+json"
	ImageIndex    = "application/vnd.oci.image.index.v1+json"
	ImageConfig   = "application/vnd.oci.image.config.v1+json"
	LayerGzip     = "application/vnd.oci.image.layer.v1.tar+gzip"
	LayerTar      = "application/vnd.oci.image.layer.v1.tar"
	EmptyJSON     = "application/vnd.oci.empty.v1+json"
	OctetStream   = "application/octet-stream"
)

// A Blob is bytes and their digest.
type Blob struct {
	Bytes  []byte
	Digest string
}

// A Manifest is a document as it is pushed.
type Manifest struct {
	Bytes     []byte
	Digest    string
	MediaType string
}

// A Set is content that belongs together, in the order in which it can be pushed.
type Set struct {
	Blobs     []Blob
	Manifests []Manifest // children first
}

// Top is the manifest that stands for the whole set.
func (s Set) Top() Manifest { return s.Manifests[len(s.Manifests)-1] }

// Descriptor describes content, as the OCI image specification has it.
type Descriptor struct {
	MediaType    string            `json:"mediaType"`
	Digest       string            `json:"digest"`
	Size         int               `json:"size"`
	URLs         []string          `json:"urls,omitempty"`
	Data         []byte            `json:"data,omitempty"`
	ArtifactType string            `json:"artifactType,omitempty"`
	Annotations  map[string]string `json:"annotations,omitempty"`
	Platform     *Platform         `json:"platform,omitempty"`
}

// Platform is what an image runs on.
type Platform struct {
	Architecture string `json:"architecture"`
	OS           string `json:"os"`
}

// Digest returns the sha256 digest of b.
func Digest(b []byte) string {
	sum := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// Digest512 returns the sha512 digest of b.
func Digest512(b []byte) string {
	sum := sha512.Sum512(b)
	return "sha512:" + hex.EncodeToString(sum[:])
}

// DigestLike returns the digest of b by the algorithm of another digest.
func DigestLike(other string, b []byte) string {
	if strings.HasPrefix(other, "sha512:") {
		return Digest512(b)
	}
	return Digest(b)
}

// An Algorithm computes digests: [Digest] or [Digest512].
type Algorithm func([]byte) string

// Of makes a blob of bytes.
func (a Algorithm) Of(b []byte) Blob { return Blob{b, a(b)} }

// Random returns a blob of size bytes that do not compress.
func Random(seed string, size int) Blob { return Algorithm(Digest).Of(randomBytes(seed, size)) }

func randomBytes(seed string, size int) []byte {
	h := fnv.New64a()
	h.Write([]byte(seed))
	var key [32]byte
	copy(key[:], h.Sum(nil))
	b := make([]byte, size)
	_, _ = rand.NewChaCha8(key).Read(b) // it never fails
	return b
}

// Describe returns the descriptor of a blob.
func (b Blob) Describe(mediaType string) Descriptor {
	return Descriptor{MediaType: mediaType, Digest: b.Digest, Size: len(b.Bytes)}
}

// Describe returns the descriptor of a manifest.
func (m Manifest) Describe() Descriptor {
	return Descriptor{MediaType: m.MediaType, Digest: m.Digest, Size: len(m.Bytes)}
}

// Fields are the members of a manifest besides its schema version and its media type.
type Fields map[string]any

// Document makes a manifest of the given members.
func (a Algorithm) Document(mediaType string, f Fields) Manifest {
	doc := Fields{"schemaVersion": 2, "mediaType": mediaType}
	for k, v := range f {
		doc[k] = v
	}
	b, err := json.Marshal(doc)
	if err != nil {
		panic(err) // a member that is not JSON: a mistake in a test
	}
	return Manifest{b, a(b), mediaType}
}

// Image makes an image for one platform that engines can load: layers of one file each, and a config with their true
// diff ids. Members of extra are added to the manifest.
func (a Algorithm) Image(seed string, p Platform, layerSizes []int, extra Fields) Set {
	var set Set
	diffs, layers := []string{}, []Descriptor{}
	for i, size := range layerSizes {
		name := seed + "-" + string(rune('a'+i))
		plain := tarOf("data-"+string(rune('a'+i)), randomBytes(name, size))
		diffs = append(diffs, Digest(plain))
		layer := a.Of(gzipped(plain))
		layers = append(layers, layer.Describe(LayerGzip))
		set.Blobs = append(set.Blobs, layer)
	}
	config, err := json.Marshal(map[string]any{
		"architecture": p.Architecture, "os": p.OS, "created": "2024-01-01T00:00:00Z", "author": seed,
		"config": map[string]any{"Cmd": []string{"/data-a"}}, "rootfs": map[string]any{"type": "layers", "diff_ids": diffs},
	})
	if err != nil {
		panic(err) // strings and slices always are JSON
	}
	blob := a.Of(config)
	set.Blobs = append(set.Blobs, blob)
	fields := Fields{"config": blob.Describe(ImageConfig), "layers": layers}
	for k, v := range extra {
		fields[k] = v
	}
	set.Manifests = []Manifest{a.Document(ImageManifest, fields)}
	return set
}

// Platforms are those of the multi-architecture indexes made here.
var platforms = [...]Platform{{"amd64", "linux"}, {"arm64", "linux"}, {"s390x", "linux"}}

// AMD64 is linux on amd64.
func AMD64() Platform { return platforms[0] }

// Index makes an index of images for several platforms.
func (a Algorithm) Index(seed string, extra Fields) Set {
	var set Set
	entries := []Descriptor{}
	for _, p := range platforms {
		image := a.Image(seed+"-"+p.Architecture, p, []int{300, 2000}, nil)
		set = set.Join(image)
		d := image.Top().Describe()
		d.Platform = &p
		entries = append(entries, d)
	}
	fields := Fields{"manifests": entries}
	for k, v := range extra {
		fields[k] = v
	}
	set.Manifests = append(set.Manifests, a.Document(ImageIndex, fields))
	return set
}

// Artifact makes an artifact of one blob, with the empty config. Members of extra (subject, annotations) are added.
func (a Algorithm) Artifact(seed, artifactType string, extra Fields) Set {
	empty, layer := a.Of([]byte("{}")), a.Of(randomBytes(seed, 2048))
	fields := Fields{"artifactType": artifactType, "config": empty.Describe(EmptyJSON), "layers": []Descriptor{layer.Describe(artifactType)}}
	for k, v := range extra {
		fields[k] = v
	}
	return Set{[]Blob{empty, layer}, []Manifest{a.Document(ImageManifest, fields)}}
}

// Join returns the content of both sets, that of s first.
func (s Set) Join(other Set) Set {
	return Set{append(s.Blobs[:len(s.Blobs):len(s.Blobs)], other.Blobs...),
		append(s.Manifests[:len(s.Manifests):len(s.Manifests)], other.Manifests...)}
}

func tarOf(name string, body []byte) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(body)), Format: tar.FormatUSTAR})
	if err == nil {
		_, err = w.Write(body)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		panic(err) // writing to memory does not fail
	}
	return b.Bytes()
}

func gzipped(b []byte) []byte {
	var out bytes.Buffer
	w, err := gzip.NewWriterLevel(&out, gzip.BestSpeed)
	if err == nil {
		_, err = w.Write(b)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		panic(err) // writing to memory does not fail
	}
	return out.Bytes()
}
