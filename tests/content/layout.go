package content

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
)

// refName is the annotation by which clients find an entry of a layout.
const refName = "org.opencontainers.image.ref.name"

// WriteLayout writes a set as an OCI layout in dir, its top manifest under the name ref.
func WriteLayout(dir, ref string, set Set) error {
	for _, b := range set.Blobs {
		if err := writeBlob(dir, b.Digest, b.Bytes); err != nil {
			return err
		}
	}
	for _, m := range set.Manifests {
		if err := writeBlob(dir, m.Digest, m.Bytes); err != nil {
			return err
		}
	}
	top := set.Top().Describe()
	top.Annotations = map[string]string{refName: ref}
	index, err := json.Marshal(Fields{"schemaVersion": 2, "mediaType": ImageIndex, "manifests": []Descriptor{top}})
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "index.json"), index, 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "oci-layout"), []byte(`{"imageLayoutVersion":"1.0.0"}`), 0o644)
}

func writeBlob(dir, digest string, b []byte) error {
	path := blobPath(dir, digest)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, b, 0o644)
}

func blobPath(dir, digest string) string {
	algorithm, encoded, _ := strings.Cut(digest, ":")
	return filepath.Join(dir, "blobs", algorithm, encoded)
}

// ReadLayoutBlob reads a blob or a manifest of the layout in dir.
func ReadLayoutBlob(dir, digest string) ([]byte, error) { return os.ReadFile(blobPath(dir, digest)) }
