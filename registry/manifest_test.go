package registry_test

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"berth/registry"
	"berth/storage"
)

// pushable are manifests of every kind that name a pushed blob $A and a pushed manifest $M.
var pushable = []struct{ contentType, body, want string }{
	{imageType, `{$2,$image,"config":$A,"layers":[$A]}`, imageType},
	{imageType, `{$2,"config":$A,"layers":[]}` + "\r\n \n", imageType},
	{dockerImageType, `{$2,"mediaType":"` + dockerImageType + `","config":$A,"layers":[$A,$A]}`, dockerImageType},
	{indexType, `{$2,$index,"manifests":[$M]}`, indexType},
	{indexType, `{$2,$index,"manifests":[]}`, indexType},
	{dockerListType, `{$2,"manifests":[$M]}`, dockerListType},
	{artifactType, `{"mediaType":"` + artifactType + `","blobs":[$A],"subject":$M}`, artifactType},
	{futureType, `{"schemaVersion":9, "things":["` + digestB + `"]}`, futureType},
	{"", `{$2,$image,"config":$A,"layers":[]}`, imageType},
	{imageType + "; charset=utf-8", "\n\t" + `{$2,"config":$A,"layers":[],"annotations":{"b":"2","a":"<&>"}}`, imageType},
}

func TestManifestsOfEveryKind(t *testing.T) {
	f := newFixture(t, nil, nil)
	p := f.repository("team/app")
	blob := f.pushBlob(p, "blob")
	child := f.put(p, "child", image("child", blob))
	fill := strings.NewReplacer("$M", fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":1}`, imageType, child.Digest))
	for i, c := range pushable {
		body := []byte(strings.ReplaceAll(doc(fill.Replace(c.body)), digestA, blob.String()))
		for _, algorithm := range []registry.Algorithm{registry.SHA256, registry.SHA512} {
			tag := fmt.Sprintf("t%d", i)
			references := []string{algorithm.FromBytes(body).String()}
			if algorithm == registry.SHA256 {
				references = append(references, tag)
			}
			for _, reference := range references {
				m, err := p.PutManifest(t.Context(), registry.ManifestPush{Reference: ref(t, reference), MediaType: c.contentType, Body: body})
				if err != nil {
					t.Fatalf("%s: %v", body, err)
				}
				got, err := p.Manifest(t.Context(), ref(t, reference))
				if err != nil || !bytes.Equal(got.Body, body) || got.MediaType != c.want || got.Digest != m.Digest || m.Digest.String() != references[0] {
					t.Errorf("%s: got %+v, %v", reference, got, err)
				}
			}
		}
	}
}

func TestManifestRefused(t *testing.T) {
	f := newFixture(t, nil, &registry.Options{MaxManifest: 1000})
	p := f.repository("team/app")
	blob := f.pushBlob(p, "blob")
	good := image("good", blob)
	other := registry.SHA256.FromBytes([]byte("other"))
	put := func(push registry.ManifestPush) error {
		_, err := p.PutManifest(t.Context(), push)
		return err
	}
	wantCode(t, "too large", put(registry.ManifestPush{Reference: ref(t, "v1"), Body: append(good, strings.Repeat(" ", 1000)...)}), registry.ManifestTooLarge)
	wantCode(t, "another digest", put(registry.ManifestPush{Reference: registry.Reference{Digest: other}, Body: good}), registry.DigestInvalid)
	wantCode(t, "another digest and no manifest", put(registry.ManifestPush{Reference: registry.Reference{Digest: other}, Body: []byte("x")}), registry.DigestInvalid)
	wantCode(t, "no manifest", put(registry.ManifestPush{Reference: ref(t, "v1"), Body: []byte("x")}), registry.ManifestInvalid)
	wantCode(t, "a blob lacks", put(registry.ManifestPush{Reference: ref(t, "v1"), Body: image("", other)}), registry.ManifestBlobUnknown)
	for _, prefix := range []string{"repositories/team/app/_manifests", "repositories/team/app/_tag", "catalog/"} {
		if keys := f.keys(prefix); len(keys) != 0 {
			t.Errorf("what was refused left %q", keys)
		}
	}
	exact := append(good, strings.Repeat(" ", 1000-len(good))...)
	if err := put(registry.ManifestPush{Reference: ref(t, "v1"), Body: exact}); err != nil {
		t.Errorf("as large as allowed: %v", err)
	}
}

func TestMissingContentIsNamed(t *testing.T) {
	f := newFixture(t, nil, nil)
	p, elsewhere := f.repository("team/app"), f.repository("elsewhere")
	here := f.pushBlob(p, "here")
	var missing []string
	digests := []registry.Digest{here}
	for i := range 40 { // more than are looked up at a time
		d := f.pushBlob(elsewhere, fmt.Sprint("there ", i)) // being known elsewhere is not enough
		digests, missing = append(digests, d), append(missing, d.String())
	}
	slices.Sort(missing)
	_, err := push(t.Context(), p, "v1", image("", append(digests, digests...)...))
	wantMissing(t, err, missing)

	child := f.put(p, "child", image("child", here)).Digest.String()
	_, err = push(t.Context(), p, "v1", index(entry{Type: imageType, Digest: child}, entry{Type: imageType, Digest: digestB},
		entry{Type: indexType, Digest: digestA}, entry{Type: imageType, Digest: here.String()}))
	wantMissing(t, err, []string{digestA, digestB, here.String()})
}

func wantMissing(t *testing.T, err error, want []string) {
	t.Helper()
	wantCode(t, "missing content", err, registry.ManifestBlobUnknown)
	slices.Sort(want)
	if e, ok := errors.AsType[*registry.Error](err); !ok || !reflect.DeepEqual(e.Detail, want) {
		t.Errorf("missing are %v, want %v", e, want)
	}
}

type entry struct{ Type, Digest, OS, Architecture string }

// index returns an index of entries.
func index(entries ...entry) []byte {
	var b strings.Builder
	for i, e := range entries {
		fmt.Fprintf(&b, `%s{"mediaType":%q,"digest":%q,"size":1`, strings.Repeat(",", min(i, 1)), e.Type, e.Digest)
		if e.OS != "" {
			fmt.Fprintf(&b, `,"platform":{"os":%q,"architecture":%q}`, e.OS, e.Architecture)
		}
		b.WriteByte('}')
	}
	return []byte(`{"schemaVersion":2,"mediaType":"` + indexType + `","manifests":[` + b.String() + `]}`)
}

// TestIndexOfBlobs pushes what BuildKit exports as a cache: an index whose entries are layers.
func TestIndexOfBlobs(t *testing.T) {
	f := newFixture(t, nil, nil)
	p := f.repository("team/cache")
	const layer, config = "application/vnd.oci.image.layer.v1.tar+gzip", "application/vnd.buildkit.cacheconfig.v0"
	blob := f.pushBlob(p, "a layer").String()
	body := index(entry{Type: layer, Digest: blob}, entry{Type: config, Digest: digestA})
	_, err := push(t.Context(), p, "cache", body)
	wantMissing(t, err, []string{digestA})
	f.put(p, "cache", index(entry{Type: layer, Digest: blob}))
}

func TestPolicies(t *testing.T) {
	foreign := func(mediaType, urls string) []byte {
		return []byte(doc(`{$2,$image,"config":$C,"layers":[{"mediaType":"` + mediaType + `","digest":"` + digestA + `","size":1` + urls + `}]}`))
	}
	const layer, url = "application/vnd.oci.image.layer.v1.tar", `,"urls":["https://example.com/a"]`
	example := []*regexp.Regexp{regexp.MustCompile(`^https://example\.com/`)}
	linux := registry.Policy{Platforms: registry.OnlyPlatforms("Linux/amd64")}
	platforms := index(entry{imageType, digestA, "linux", "AMD64"}, entry{imageType, digestB, "windows", "amd64"}, entry{Type: imageType, Digest: digestB})
	for _, c := range []struct {
		why    string
		policy registry.Policy
		body   []byte
		want   registry.Code
	}{
		{"a layer that lacks", registry.Policy{}, foreign(layer, ""), registry.ManifestBlobUnknown},
		{"a layer with no URLs", registry.Policy{}, foreign(layer, `,"urls":[]`), registry.ManifestBlobUnknown},
		{"a layer that is elsewhere", registry.Policy{}, foreign(layer, url), registry.Unknown},
		{"a non-distributable layer", registry.Policy{}, foreign("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", ""), registry.Unknown},
		{"a foreign layer", registry.Policy{}, foreign("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", ""), registry.Unknown},
		{"an allowed URL", registry.Policy{AllowURLs: example}, foreign(layer, url), registry.Unknown},
		{"a denied URL", registry.Policy{DenyURLs: example}, foreign(layer, url), registry.ManifestInvalid},
		{"denied counts more", registry.Policy{AllowURLs: example, DenyURLs: example}, foreign(layer, url), registry.ManifestInvalid},
		{"a URL not allowed", registry.Policy{AllowURLs: example}, foreign(layer, `,"urls":["https://example.com/a","https://example.org"]`), registry.ManifestInvalid},
		{"sparse", registry.Policy{AllowMissing: true}, foreign(layer, ""), registry.Unknown},
		{"sparse index", registry.Policy{AllowMissing: true}, index(entry{Type: imageType, Digest: digestA}), registry.Unknown},
		{"index", registry.Policy{}, index(entry{Type: imageType, Digest: digestA}), registry.ManifestBlobUnknown},
		{"index without the platform", linux, platforms, registry.ManifestBlobUnknown},
		{"index of other platforms", linux, index(entry{imageType, digestA, "linux", "arm64"}, entry{Type: imageType, Digest: digestB}), registry.Unknown},
		{"no platform asked for", registry.Policy{Platforms: registry.OnlyPlatforms()}, platforms, registry.Unknown},
		{"an image, whatever the platforms", linux, foreign(layer, ""), registry.ManifestBlobUnknown},
	} {
		f := newFixture(t, nil, &registry.Options{Manifests: c.policy})
		p := f.repository("team/app")
		config := fmt.Sprintf(`{"mediaType":"application/x","digest":%q,"size":1}`, f.pushBlob(p, "config"))
		_, err := push(t.Context(), p, "v1", bytes.ReplaceAll(c.body, []byte("$C"), []byte(config)))
		if c.want == registry.Unknown && err != nil {
			t.Errorf("%s: %v", c.why, err)
		} else if c.want != registry.Unknown {
			wantCode(t, c.why, err, c.want)
		}
	}
}

func TestMoreTags(t *testing.T) {
	f := newFixture(t, nil, nil)
	p := f.repository("team/app")
	blob := f.pushBlob(p, "blob")
	body := image("", blob)
	d := registry.SHA512.FromBytes(body)
	for _, reference := range []string{d.String(), "v0", "v1"} { // v1 is named twice
		r := ref(t, reference)
		m, err := p.PutManifest(t.Context(), registry.ManifestPush{Reference: r, Tags: []registry.Tag{ref(t, "v1").Tag, ref(t, "v2").Tag}, Body: body})
		if err != nil {
			t.Fatal(err)
		}
		for _, tag := range []string{"v1", "v2"} {
			if got := f.at(p, tag); got != m.Digest.String() {
				t.Errorf("%s is at %s, want %s", tag, got, m.Digest)
			}
		}
	}
	if tags, _, err := p.Tags(t.Context(), "", -1); err != nil || !slices.Equal(tags, []string{"v0", "v1", "v2"}) {
		t.Errorf("tags: %v %v", tags, err)
	}
}

func TestConditionsOfTags(t *testing.T) {
	f := newFixture(t, nil, nil)
	p := f.repository("team/app")
	blob := f.pushBlob(p, "blob")
	bodies := [][]byte{image("0", blob), image("1", blob), image("2", blob)}
	digest := func(i int) registry.Digest { return registry.SHA256.FromBytes(bodies[i]) }
	put := func(i int, absent bool, match ...registry.Digest) error {
		_, err := p.PutManifest(t.Context(), registry.ManifestPush{Reference: ref(t, "v"), Tags: []registry.Tag{ref(t, "v").Tag}, Body: bodies[i], IfAbsent: absent, IfMatch: match})
		return err
	}
	steps := []struct {
		why   string
		err   error
		fails bool
	}{
		{"match of no tag", put(0, false, digest(0)), true},
		{"absent", put(0, true), false},
		{"absent again", put(0, true), true},
		{"absent, other", put(1, true), true},
		{"match another", put(1, false, digest(1), digest(2)), true},
		{"match", put(1, false, digest(2), digest(0)), false},
		{"match, stale", put(2, false, digest(0)), true},
		{"unconditional", put(2, false), false},
	}
	for _, s := range steps {
		if s.fails {
			wantCode(t, s.why, s.err, registry.PreconditionFailed)
		} else if s.err != nil {
			t.Errorf("%s: %v", s.why, s.err)
		}
	}
	if got := f.at(p, "v"); got != digest(2).String() {
		t.Errorf("the tag is at %s", got)
	}
	// A tag whose manifest is gone, as a DELETE that was cut short leaves it, is absent.
	f.remove("repositories/team/app/_manifests/sha256/" + digest(2).Hex())
	wantCode(t, "match of a dangling tag", put(0, false, digest(2)), registry.PreconditionFailed)
	if err := put(0, true); err != nil || f.at(p, "v") != digest(0).String() {
		t.Errorf("a dangling tag: %v", err)
	}
}

func (f *fixture) remove(key string) {
	f.Helper()
	if err := f.store.Delete(f.Context(), key, storage.Cond{}); err != nil {
		f.Fatal(err)
	}
}

// TestDamagedManifest wants a manifest whose bytes changed never to be served, and both a push and a delete to help.
func TestDamagedManifest(t *testing.T) {
	f := newFixture(t, nil, nil)
	p := f.repository("team/app")
	body := image("", f.pushBlob(p, "blob"))
	m := f.put(p, "v1", body)
	key := "repositories/team/app/_manifests/sha256/" + m.Digest.Hex()
	for _, heal := range []func() error{
		func() error { _, err := push(t.Context(), p, "v1", body); return err },
		func() error { return p.DeleteManifest(t.Context(), m.Digest) },
	} {
		record, _, err := storage.ReadAll(t.Context(), f.store, key, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		record[len(record)-5] ^= 1
		f.overwrite(key, record)
		if got, err := p.Manifest(t.Context(), ref(t, "v1")); err == nil {
			t.Fatalf("a damaged manifest is served: %s", got.Body)
		}
		if err := heal(); err != nil {
			t.Fatal(err)
		}
		f.at(p, "v1")
	}
	if got := f.at(p, m.Digest.String()); got != "" {
		t.Error("a damaged manifest cannot be deleted")
	}
}

func (f *fixture) overwrite(key string, body []byte) {
	f.Helper()
	if _, err := f.store.Put(f.Context(), key, bytes.NewReader(body), int64(len(body)), storage.Cond{}); err != nil {
		f.Fatal(err)
	}
}
