package registry

import (
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"strings"

	specs "github.com/opencontainers/image-spec/specs-go/v1"
)

// Media types of Docker's image format, which clients still push.
const (
	dockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	dockerList     = "application/vnd.docker.distribution.manifest.list.v2+json"
	dockerForeign  = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
	dockerSchema1  = "application/vnd.docker.distribution.manifest.v1"
	ociArtifact    = "application/vnd.oci.artifact.manifest.v1+json" // of a draft that some clients implemented
)

func isKnownType(mediaType string) bool {
	switch mediaType {
	case specs.MediaTypeImageManifest, dockerManifest, specs.MediaTypeImageIndex, dockerList, ociArtifact:
		return true
	}
	return false
}

// A document is what the registry understands of a manifest. Its bytes are kept as they came.
type document struct {
	mediaType    string
	saysType     bool   // its bytes say so: they cannot be pushed as another one
	artifactType string // for the descriptor among the referrers of subject
	annotations  map[string]string
	subject      Digest
	// What the manifest cannot do without.
	blobs     []descriptor // config, layers, blobs
	manifests []descriptor
	// mentioned are the other digests anywhere in it: kept as well when the repository has them.
	mentioned []Digest
}

// A descriptor points at content (OCI image specification, descriptor.md).
type descriptor struct {
	MediaType string   `json:"mediaType"`
	Digest    string   `json:"digest"`
	Size      int64    `json:"size"`
	URLs      []string `json:"urls"`
	Platform  *struct {
		Architecture string `json:"architecture"`
		OS           string `json:"os"`
	} `json:"platform"`
	parsed Digest
}

// manifestJSON is the union of the fields of all manifests; which of them count depends on the media type.
type manifestJSON struct {
	SchemaVersion int               `json:"schemaVersion"`
	MediaType     string            `json:"mediaType"`
	ArtifactType  string            `json:"artifactType"`
	Config        *descriptor       `json:"config"`
	Layers        []descriptor      `json:"layers"`
	Blobs         []descriptor      `json:"blobs"`
	Manifests     []descriptor      `json:"manifests"`
	Subject       *descriptor       `json:"subject"`
	Annotations   map[string]string `json:"annotations"`
}

// parseDocument reads a manifest of the media type that came with it, "" when none came. Errors are of code
// [ManifestInvalid]. A manifest that two readers could understand differently is refused: one with two members of a
// name, with layers beside manifests, or with another media type inside than outside (CVE-2021-41190).
func parseDocument(contentType string, body []byte) (*document, error) {
	mediaType, err := outerType(contentType)
	if err != nil {
		return nil, err
	}
	found, err := scanJSON(body, maxMembers)
	if err != nil {
		return nil, &Error{Code: ManifestInvalid, Message: "the manifest is not a JSON document that can be accepted: " + err.Error()}
	}
	var m manifestJSON
	mismatch := json.Unmarshal(body, &m) // fills the other members all the same
	if mediaType == "" {
		if mediaType, err = innerType(&m); err != nil {
			return nil, err
		}
	}
	known := isKnownType(mediaType)
	switch {
	case known && found.variant != "":
		return nil, newError(ManifestInvalid, "the manifest is ambiguous: some readers take its member %q for another one", clip(found.variant))
	case known && mismatch != nil:
		return nil, &Error{Code: ManifestInvalid, Message: "the manifest has a member of the wrong type: " + mismatch.Error()}
	case m.MediaType != "" && m.MediaType != mediaType:
		return nil, newError(ManifestInvalid, "the manifest says it is %q, the request says %q", clip(m.MediaType), clip(mediaType))
	case isSchema1(mediaType), known && m.SchemaVersion == 1:
		return nil, newError(ManifestInvalid, "manifests of Docker's schema 1 are not supported; push schema 2 or an OCI manifest")
	case known && m.Manifests != nil && (m.Layers != nil || m.Config != nil):
		return nil, newError(ManifestInvalid, "the manifest is ambiguous: it has manifests beside a config or layers")
	}
	doc := &document{mediaType: mediaType, saysType: m.MediaType != "", artifactType: m.ArtifactType, annotations: m.Annotations}
	if err := doc.understand(&m); err != nil {
		return nil, err
	}
	doc.mention(found.digests)
	return doc, nil
}

func isSchema1(mediaType string) bool {
	return strings.HasPrefix(strings.ToLower(mediaType), dockerSchema1)
}

// outerType returns the media type of a Content-Type, without its parameters. One that is not known stays as it is written: a
// manifest that says its type inside says it so, and gets it back so.
func outerType(contentType string) (string, error) {
	if contentType == "" {
		return "", nil
	}
	mediaType, _, err := mime.ParseMediaType(contentType)
	if err != nil && !errors.Is(err, mime.ErrInvalidMediaParameter) || len(mediaType) > 255 || !strings.Contains(mediaType, "/") {
		return "", newError(ManifestInvalid, "the content type %q is not a media type", clip(contentType))
	}
	switch {
	case mediaType == "application/json", mediaType == "application/octet-stream", mediaType == "application/x-www-form-urlencoded":
		return "", nil // what clients send that do not say: the manifest says it
	case !strings.HasSuffix(mediaType, "+json") && !isSchema1(mediaType):
		return "", newError(ManifestInvalid, "the content type %q is not that of a manifest", clip(mediaType))
	case isKnownType(mediaType):
		return mediaType, nil
	}
	written, _, _ := strings.Cut(contentType, ";")
	return strings.TrimSpace(written), nil
}

// innerType returns the media type of a manifest that came without one: what it says itself, if that is the type of a
// manifest (what a browser takes for a page must not be served as one), or else what it looks like.
func innerType(m *manifestJSON) (string, error) {
	mediaType, err := outerType(m.MediaType)
	switch {
	case err != nil || mediaType != "":
		return mediaType, err
	case m.Manifests != nil:
		return specs.MediaTypeImageIndex, nil
	default:
		return specs.MediaTypeImageManifest, nil
	}
}

// understand takes from m what its media type gives meaning to.
func (doc *document) understand(m *manifestJSON) error {
	if m.Subject != nil {
		if err := m.Subject.parse("subject"); err != nil && isKnownType(doc.mediaType) {
			return err
		}
		doc.subject = m.Subject.parsed
	}
	var blobs []descriptor
	switch doc.mediaType {
	case specs.MediaTypeImageManifest, dockerManifest:
		if m.SchemaVersion != 2 || m.Config == nil || m.Manifests != nil {
			return newError(ManifestInvalid, "an image manifest has schemaVersion 2, a config and layers")
		}
		blobs = append([]descriptor{*m.Config}, m.Layers...)
		if doc.artifactType == "" {
			doc.artifactType = m.Config.MediaType
		}
	case specs.MediaTypeImageIndex, dockerList:
		if m.SchemaVersion != 2 || m.Manifests == nil {
			return newError(ManifestInvalid, "an index has schemaVersion 2 and manifests")
		}
		doc.manifests = m.Manifests
	case ociArtifact:
		blobs = m.Blobs
	default: // a type of the future: its own members may mean anything; what it mentions is kept
		return nil
	}
	for i := range doc.manifests {
		if err := doc.manifests[i].parse("manifests"); err != nil {
			return err
		}
	}
	for i := range blobs {
		if err := blobs[i].parse("config and layers"); err != nil {
			return err
		}
	}
	doc.blobs = blobs
	return nil
}

func (d *descriptor) parse(member string) error {
	parsed, err := ParseDigest(d.Digest)
	if err != nil {
		return &Error{Code: ManifestInvalid, Message: fmt.Sprintf("a descriptor in %s is not valid: %s", member, err)}
	}
	if d.Size < 0 {
		return newError(ManifestInvalid, "the descriptor of %s has a negative size", parsed)
	}
	d.parsed = parsed
	return nil
}

// elsewhere reports whether the content is allowed to be absent, because the descriptor says where else it is.
func (d *descriptor) elsewhere() bool {
	return len(d.URLs) > 0 || d.MediaType == dockerForeign || strings.Contains(d.MediaType, ".nondistributable.")
}

// mention keeps those of the found digests that no descriptor requires.
func (doc *document) mention(found []Digest) {
	required := map[Digest]bool{doc.subject: true}
	for _, list := range [][]descriptor{doc.blobs, doc.manifests} {
		for _, d := range list {
			required[d.parsed] = true
		}
	}
	for _, d := range found {
		if !required[d] {
			required[d] = true
			doc.mentioned = append(doc.mentioned, d)
		}
	}
}
