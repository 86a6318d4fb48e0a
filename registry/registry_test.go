package registry_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"strings"
	"testing"

	"berth/registry"
	"berth/storage"
	"berth/storage/memory"
)

// A fixture is a registry over a store, with short ways to say what tests do.
type fixture struct {
	*testing.T
	store    storage.Driver
	registry *registry.Registry
}

func newFixture(t *testing.T, store storage.Driver, o *registry.Options) *fixture {
	t.Helper()
	if store == nil {
		store = memory.New()
	}
	r, err := registry.Open(t.Context(), store, o)
	if err != nil {
		t.Fatal(err)
	}
	return &fixture{t, store, r}
}

func (f *fixture) repository(name string) registry.Repository {
	f.Helper()
	n, err := registry.ParseName(name)
	if err != nil {
		f.Fatal(err)
	}
	return f.registry.Repository(n)
}

// pushBlob pushes content and returns its digest.
func (f *fixture) pushBlob(p registry.Repository, content string) registry.Digest {
	f.Helper()
	d := registry.SHA256.FromBytes([]byte(content))
	if _, err := p.PushBlob(f.Context(), d, strings.NewReader(content), int64(len(content))); err != nil {
		f.Fatal(err)
	}
	return d
}

// readBlob returns what p serves for d.
func readBlob(ctx context.Context, p registry.Repository, d registry.Digest) (string, error) {
	b, err := p.Blob(ctx, d)
	if err != nil {
		return "", err
	}
	r, err := b.Open(ctx)
	if err != nil {
		return "", err
	}
	defer r.Close()
	content, err := io.ReadAll(r)
	return string(content), err
}

type descriptor struct {
	MediaType string `json:"mediaType"`
	Digest    string `json:"digest"`
	Size      int    `json:"size"`
}

const (
	imageType = "application/vnd.oci.image.manifest.v1+json"
	indexType = "application/vnd.oci.image.index.v1+json"
)

// image returns an image manifest of blobs, the first its config.
func image(annotation string, blobs ...registry.Digest) []byte {
	layers := []descriptor{}
	for _, d := range blobs[1:] {
		layers = append(layers, descriptor{"application/vnd.oci.image.layer.v1.tar+gzip", d.String(), 1})
	}
	body, err := json.Marshal(map[string]any{
		"schemaVersion": 2, "mediaType": imageType,
		"config":      descriptor{"application/vnd.oci.image.config.v1+json", blobs[0].String(), 1},
		"layers":      layers,
		"annotations": map[string]string{"note": annotation},
	})
	if err != nil {
		panic(err)
	}
	return body
}

func ref(t testing.TB, s string) registry.Reference {
	t.Helper()
	r, err := registry.ParseReference(s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestImage(t *testing.T) {
	f := newFixture(t, nil, nil)
	p := f.repository("team/app")
	ctx := t.Context()

	config, layer := f.pushBlob(p, `{"os":"linux"}`), f.pushBlob(p, strings.Repeat("layer", 100_000))
	body := image("one", config, layer)
	m, err := p.PutManifest(ctx, registry.ManifestPush{Reference: ref(t, "v1"), MediaType: imageType, Body: body})
	if err != nil {
		t.Fatal(err)
	}
	for _, reference := range []string{"v1", m.Digest.String()} {
		got, err := p.Manifest(ctx, ref(t, reference))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got.Body, body) || got.MediaType != imageType {
			t.Errorf("%s: got %s %s", reference, got.MediaType, got.Body)
		}
	}
	for range 2 { // verified, and then not again
		if content, err := readBlob(ctx, p, layer); err != nil || content != strings.Repeat("layer", 100_000) {
			t.Errorf("read the layer: %d bytes, %v", len(content), err)
		}
	}
	if tags, more, err := p.Tags(ctx, "", -1); err != nil || more || len(tags) != 1 || tags[0] != "v1" {
		t.Errorf("tags: %v %v %v", tags, more, err)
	}
	if names, _, err := f.registry.Catalog(ctx, "", 10); err != nil || len(names) != 1 || names[0].String() != "team/app" {
		t.Errorf("catalog: %v %v", names, err)
	}
	if err := p.DeleteManifest(ctx, m.Digest); err != nil {
		t.Fatal(err)
	}
	for _, reference := range []string{"v1", m.Digest.String()} {
		if _, err := p.Manifest(ctx, ref(t, reference)); registry.CodeOf(err) != registry.ManifestUnknown {
			t.Errorf("%s after its deletion: %v", reference, err)
		}
	}
}

func TestUploadInChunks(t *testing.T) {
	f := newFixture(t, nil, nil)
	p := f.repository("team/app")
	ctx := t.Context()
	content := strings.Repeat("0123456789", 50_000)
	for _, algorithm := range []registry.Algorithm{registry.SHA256, registry.SHA512} {
		id := p.NewUpload("", registry.SHA256).ID()
		for start := 0; start < len(content)-1000; start += 100_000 {
			u, err := p.Upload(ctx, "", id)
			if err != nil {
				t.Fatal(err)
			}
			part := content[start:min(start+100_000, len(content)-1000)]
			if err := u.Append(ctx, registry.Chunk{Body: strings.NewReader(part), Size: -1, Start: -1, End: -1}); err != nil {
				t.Fatal(err)
			}
		}
		last := registry.Chunk{Body: strings.NewReader(content[len(content)-1000:]), Size: 1000, Start: int64(len(content) - 1000), End: int64(len(content) - 1)}
		d := algorithm.FromBytes([]byte(content))
		for range 2 { // the first reply may have been lost
			u, err := p.Upload(ctx, "", id)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := u.Commit(ctx, d, last); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := readBlob(ctx, p, d); err != nil || got != content {
			t.Errorf("%s: %d bytes, %v", algorithm, len(got), err)
		}
	}
}
