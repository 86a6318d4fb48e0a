package registry_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
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

func newStore() storage.Driver { return memory.New() }

func newFixture(t *testing.T, store storage.Driver, o *registry.Options) *fixture {
	t.Helper()
	if store == nil {
		store = newStore()
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
	r, err := b.Open(ctx, 0, b.Size)
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

// put pushes a manifest that must be accepted.
func (f *fixture) put(p registry.Repository, reference string, body []byte) *registry.Manifest {
	f.Helper()
	m, err := push(f.Context(), p, reference, body)
	if err != nil {
		f.Fatalf("push %s: %v", reference, err)
	}
	return m
}

// push pushes a manifest by tag or digest, as the media type that it names itself.
func push(ctx context.Context, p registry.Repository, reference string, body []byte) (*registry.Manifest, error) {
	r, err := registry.ParseReference(reference)
	if err != nil {
		return nil, err
	}
	return p.PutManifest(ctx, registry.ManifestPush{Reference: r, Body: body})
}

// at returns the digest that a reference resolves to, "" for none.
func (f *fixture) at(p registry.Repository, reference string) string {
	f.Helper()
	m, err := p.Manifest(f.Context(), ref(f, reference))
	if code := registry.CodeOf(err); code == registry.ManifestUnknown || code == registry.NameUnknown {
		return ""
	}
	if err != nil {
		f.Fatalf("%s: %v", reference, err)
	}
	return m.Digest.String()
}

// keys lists the keys of the store below a prefix.
func (f *fixture) keys(prefix string) []string {
	f.Helper()
	var keys []string
	for info, err := range f.store.List(f.Context(), prefix, "") {
		if err != nil {
			f.Fatal(err)
		}
		keys = append(keys, info.Key)
	}
	return keys
}

func wantCode(t testing.TB, what string, err error, want registry.Code) {
	t.Helper()
	if err == nil || registry.CodeOf(err) != want {
		t.Errorf("%s: got %v (code %d), want code %d", what, err, registry.CodeOf(err), want)
	}
}

// chunk is a piece whose size is announced.
func chunk(content string) registry.Chunk {
	return registry.Chunk{Body: strings.NewReader(content), Size: int64(len(content)), Start: -1, End: -1}
}

// stream is a piece whose size is not announced.
func stream(body io.Reader) registry.Chunk {
	return registry.Chunk{Body: body, Size: -1, Start: -1, End: -1}
}

// nothing is a piece that no body came with.
var nothing = registry.Chunk{Size: -1, Start: -1, End: -1}

// A hooked driver lets a test step in: put stands in for every Put, open is called before every Open, and openErr may
// refuse one.
type hooked struct {
	storage.Driver
	put     func(ctx context.Context, key string, put func(context.Context) (storage.Info, error)) (storage.Info, error)
	open    func(key string)
	openErr func(key string) error
}

func (h *hooked) Put(ctx context.Context, key string, r io.Reader, size int64, cond storage.Cond) (storage.Info, error) {
	put := func(ctx context.Context) (storage.Info, error) { return h.Driver.Put(ctx, key, r, size, cond) }
	if h.put == nil {
		return put(ctx)
	}
	return h.put(ctx, key, put)
}

func (h *hooked) Open(ctx context.Context, key string, off, n int64) (io.ReadCloser, storage.Info, error) {
	if h.open != nil {
		h.open(key)
	}
	if h.openErr != nil {
		if err := h.openErr(key); err != nil {
			return nil, storage.Info{}, err
		}
	}
	return h.Driver.Open(ctx, key, off, n)
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

// TestCatalog lists many repositories in pages, in the order of their names and not of their keys.
func TestCatalog(t *testing.T) {
	f := newFixture(t, nil, nil)
	var want []string
	for i := range 300 {
		want = append(want, fmt.Sprintf("a%s%d", []string{"", "/", "-", ".", "_", "0", "b/c"}[i%7], i))
	}
	body := []byte(`{"schemaVersion":2,"manifests":[]}`)
	for _, name := range want {
		f.put(f.repository(name), "v1", body)
		f.pushBlob(f.repository("blobs/alone"), name)
	}
	slices.Sort(want)
	for _, n := range []int{1, 7, 299, 300, 301, -1} {
		var got []string
		for after, more := "", true; more; {
			var names []registry.Name
			var err error
			if names, more, err = f.registry.Catalog(t.Context(), after, n); err != nil || more && len(names) != n || len(got) > len(want) {
				t.Fatalf("after %q: %v, %v, %v", after, names, more, err)
			}
			for _, name := range names {
				got, after = append(got, name.String()), name.String()
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("in pages of %d: %v", n, got)
		}
	}
	if names, more, err := f.registry.Catalog(t.Context(), "", 0); err != nil || !more || len(names) != 0 {
		t.Errorf("none of them: %v %v %v", names, more, err)
	}
}
