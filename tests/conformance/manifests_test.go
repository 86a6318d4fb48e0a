package conformance

import (
	"bytes"
	"slices"
	"strconv"
	"strings"

	"berth/tests/content"
)

const (
	pushManifests = "Pushing Manifests"
	pushTags      = "Pushing Manifests with Tags"
	pushSubject   = "Pushing Manifests with Subject"
)

// missing is a descriptor of what is nowhere.
func (x trial) missing(mediaType string) content.Descriptor {
	return content.Descriptor{MediaType: mediaType, Digest: content.Digest([]byte("missing " + x.repo)), Size: 123}
}

// manifest is an image of blobs the row pushed, with members of its own.
func (x trial) manifest(a content.Algorithm, extra content.Fields) content.Manifest {
	x.Helper()
	set := x.image(a, extra)
	x.push(x.repo, content.Set{Blobs: set.Blobs})
	return set.Top()
}

// pushSparseIndex puts an index of a manifest that is not there.
func (x trial) pushSparseIndex() answer {
	x.Helper()
	entry := x.missing(content.ImageManifest)
	entry.Platform = &content.Platform{Architecture: "arm64", OS: "linux"}
	return x.put("sparse", content.Algorithm(content.Digest).Document(content.ImageIndex, content.Fields{"manifests": []content.Descriptor{entry}}))
}

var manifestRows = []row{
	{pushManifests, "MUST", "PUT by digest answers 201, the Location of the manifest and its digest", each(func(x trial, a content.Algorithm) {
		m := x.manifest(a, nil)
		got := x.put(m.Digest, m).is(201).has("Docker-Content-Digest", m.Digest)
		x.do("GET", got.located()).is(200).carries(m.Bytes).has("Content-Type", m.MediaType)
		x.serves(m.Digest, m)
	})},
	{pushManifests, "MUST", "PUT by tag answers 201, the Location of the manifest and its digest", func(x trial) {
		m := x.manifest(content.Digest, nil)
		got := x.put("v1", m).is(201).has("Docker-Content-Digest", m.Digest)
		x.do("GET", got.located()).is(200).carries(m.Bytes).has("Content-Type", m.MediaType)
		x.serves("v1", m)
		x.put("v1", m).is(201)
	}},
	{pushManifests, "MUST", "a manifest is stored byte for byte", func(x trial) {
		m := x.manifest(content.Digest, nil)
		odd := bytes.Replace(m.Bytes, []byte(`{`), []byte("{\n\t \"z\\u0061\" : 1.50,  "), 1)
		m = content.Manifest{Bytes: append(odd, '\n'), MediaType: m.MediaType}
		m.Digest = content.Digest(m.Bytes)
		x.put("odd", m).is(201)
		x.serves("odd", m)
	}},
	{pushManifests, "MUST", "a digest that the manifest does not have is 400, and nothing is stored", each(func(x trial, a content.Algorithm) {
		m := x.manifest(a, content.Fields{"annotations": map[string]string{"case": "bad digest"}})
		x.put(m.Digest, m, body(append(m.Bytes[:len(m.Bytes):len(m.Bytes)], "  "...))).is(400).code("DIGEST_INVALID")
		x.do("GET", "manifests/"+m.Digest).is(404)
	})},
	{pushManifests, "suite", "a malformed digest is 400", func(x trial) {
		m := x.manifest(content.Digest, nil)
		x.put("sha256:baddigeststring", m).is(400)
	}},
	{pushManifests, "SHOULD", "parameters of the Content-Type are ignored", func(x trial) {
		m := x.manifest(content.Digest, nil)
		x.put("params", m, header("Content-Type", m.MediaType+"; charset=utf-8")).is(201)
		x.serves("params", m)
	}},
	{pushManifests, "MUST", "the mediaType of a manifest is its Content-Type: another is refused", func(x trial) {
		m := x.manifest(content.Digest, nil)
		x.put("other", m, header("Content-Type", content.ImageIndex)).is(400).code("MANIFEST_INVALID")
		x.do("GET", "manifests/other").is(404)
	}},
	{pushManifests, "suite", "a manifest without a Content-Length is accepted", func(x trial) {
		m := x.manifest(content.Digest, nil)
		x.put("chunked", m, stream(m.Bytes)).is(201)
		x.serves("chunked", m)
	}},
	{pushManifests, "SHOULD", "manifests of at least 4 MiB are accepted", func(x trial) {
		m := x.manifest(content.Digest, content.Fields{"annotations": map[string]string{"filler": strings.Repeat("x", 4_190_000)}})
		if len(m.Bytes) > 4<<20 {
			x.Fatalf("the manifest has %d bytes", len(m.Bytes))
		}
		x.put("large", m, stream(m.Bytes)).is(201)
		x.serves("large", m)
	}},
	{pushManifests, "SHOULD", "a manifest above the limit is 413, with and without a Content-Length", func(x trial) {
		m := x.manifest(content.Digest, content.Fields{"annotations": map[string]string{"filler": strings.Repeat("x", 4<<20)}})
		x.put("huge", m, stream(m.Bytes)).is(413)
		x.put("huge", m).is(413)
		x.do("GET", "manifests/huge").is(404)
	}},
	{pushManifests, "MUST", "a manifest that names missing blobs is refused with MANIFEST_BLOB_UNKNOWN", func(x trial) {
		set := x.image(content.Digest, nil)
		config := set.Blobs[len(set.Blobs)-1]
		x.push(x.repo, content.Set{Blobs: []content.Blob{config}})
		fields := content.Fields{"config": config.Describe(content.ImageConfig), "layers": []content.Descriptor{x.missing(content.LayerGzip)}}
		m := content.Algorithm(content.Digest).Document(content.ImageManifest, fields)
		got := x.put("missing", m).code("MANIFEST_BLOB_UNKNOWN")
		if got.is(400, 404); !bytes.Contains(got.Body, []byte(x.missing("").Digest)) {
			x.Errorf("the answer does not name the digest that is missing: %s", got.Body)
		}
		x.do("GET", "manifests/missing").is(404)
	}},
	{pushManifests, "MUST", "an index that names missing manifests is refused with MANIFEST_BLOB_UNKNOWN", func(x trial) {
		x.pushSparseIndex().is(400, 404).code("MANIFEST_BLOB_UNKNOWN")
	}},
	{pushManifests, "ours", "a manifest of an unknown +json type is opaque content", func(x trial) {
		m := content.Algorithm(content.Digest).Document("application/vnd.example.future.v9+json", content.Fields{"anything": []int{1, 2}})
		x.put("future", m).is(201)
		x.serves("future", m)
	}},
	{pushManifests, "ours", "Docker schema 2 is served as it was pushed", func(x trial) {
		const image = "application/vnd.docker.distribution.manifest.v2+json"
		set := x.image(content.Digest, nil)
		x.push(x.repo, content.Set{Blobs: set.Blobs})
		n := len(set.Blobs) - 1
		m := content.Algorithm(content.Digest).Document(image, content.Fields{
			"config": set.Blobs[n].Describe("application/vnd.docker.container.image.v1+json"),
			"layers": []content.Descriptor{set.Blobs[0].Describe("application/vnd.docker.image.rootfs.diff.tar.gzip")},
		})
		x.put("docker", m).is(201)
		x.serves("docker", m)
	}},
	{pushManifests, "ours", "a conditional push by tag that loses is 412 and changes nothing", func(x trial) {
		first := x.pushed("v1").Top()
		second := x.manifest(content.Digest, content.Fields{"annotations": map[string]string{"n": "2"}})
		x.put("v1", second, header("If-None-Match", "*")).is(412)
		x.put("v1", second, header("If-Match", strconv.Quote(second.Digest))).is(412)
		x.serves("v1", first)
		x.put("v1", second, header("If-Match", x.do("GET", "manifests/v1").Header.Get("ETag"))).is(201)
		x.serves("v1", second)
	}},
}

// refusedBodies are manifests that no registry can take, by what is wrong.
var refusedBodies = map[string]string{
	"not JSON":           "{",
	"empty":              "",
	"an array":           "[]",
	"two documents":      `{"schemaVersion":2} {"schemaVersion":2}`,
	"image and index":    `{"schemaVersion":2,"mediaType":"` + content.ImageManifest + `","config":{},"layers":[],"manifests":[]}`,
	"another schema":     `{"schemaVersion":1,"mediaType":"` + content.ImageManifest + `"}`,
	"config no object":   `{"schemaVersion":2,"mediaType":"` + content.ImageManifest + `","config":7,"layers":[]}`,
	"a malformed digest": `{"schemaVersion":2,"mediaType":"` + content.ImageManifest + `","config":{"mediaType":"a/b","digest":"sha256:x","size":1},"layers":[]}`,
}

var refusalRows = []row{
	{pushManifests, "ours", "what is no manifest, or an ambiguous one, is MANIFEST_INVALID and stored nowhere", func(x trial) {
		x.pushed("v1")
		for name, text := range refusedBodies {
			a := x.do("PUT", "manifests/refused", body([]byte(text)), header("Content-Type", content.ImageManifest))
			if a.Status != 400 || !slices.Contains(a.Codes(), "MANIFEST_INVALID") && !slices.Contains(a.Codes(), "DIGEST_INVALID") {
				x.Errorf("%s is answered with %d %s", name, a.Status, a.Body)
			}
		}
		x.do("GET", "manifests/refused").is(404)
	}},
	{pushManifests, "MUST", "the reference is a tag or a digest: anything else is 400", func(x trial) {
		m := x.manifest(content.Digest, nil)
		for _, reference := range []string{".hidden", "a:b", "sha256:", "md5:d41d8cd98f00b204e9800998ecf8427e"} {
			x.put(reference, m).is(400)
		}
	}},
}

// many returns n tags.
func many(n int) []string {
	tags := make([]string, n)
	for i := range tags {
		tags[i] = "many-" + strconv.Itoa(i)
	}
	return tags
}

var tagParamRows = []row{
	{pushTags, "MUST", "PUT by digest with tag parameters answers 201 and an OCI-Tag for each; all resolve", each(func(x trial, a content.Algorithm) {
		m := x.manifest(a, nil)
		prefix, _, _ := strings.Cut(m.Digest, ":")
		tags := []string{prefix + "-b", prefix + "-a"}
		got := x.put(m.Digest, m, query("tag", tags...)).is(201).has("Docker-Content-Digest", m.Digest)
		accepted := strings.Join(got.Header.Values("OCI-Tag"), ",")
		for _, tag := range tags {
			if !slices.Contains(strings.FieldsFunc(accepted, func(r rune) bool { return r == ',' || r == ' ' }), tag) {
				x.Errorf("OCI-Tag %q lacks %s", accepted, tag)
			}
			x.serves(tag, m)
		}
		for _, tag := range tags {
			if list := x.do("GET", "tags/list").is(200); !bytes.Contains(list.Body, []byte(strconv.Quote(tag))) {
				x.Errorf("%s is not listed: %s", tag, list.Body)
			}
		}
	})},
	{pushTags, "MUST", "at least 10 tags are accepted at once", func(x trial) {
		m := x.manifest(content.Digest, nil)
		x.put(m.Digest, m, query("tag", many(10)...)).is(201)
		x.serves("many-9", m)
	}},
	{pushTags, "SHOULD", "too many tags are 414, and none is set", func(x trial) {
		m := x.manifest(content.Digest, content.Fields{"annotations": map[string]string{"case": "too many"}})
		x.put(m.Digest, m, query("tag", many(2000)...)).is(414, 431)
		x.do("GET", "manifests/"+m.Digest).is(404)
	}},
	{pushTags, "MUST", "a malformed tag parameter is 400, and nothing is stored", func(x trial) {
		m := x.manifest(content.Digest, content.Fields{"annotations": map[string]string{"case": "bad tag"}})
		x.put(m.Digest, m, query("tag", "good", "-bad")).is(400)
		x.do("GET", "manifests/good").is(404)
		x.do("GET", "manifests/"+m.Digest).is(404)
	}},
}
