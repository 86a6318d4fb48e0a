package conformance

import (
	"fmt"
	"strings"

	"berth/tests/content"
)

// A dataSet is content of the shape that the public suite pushes.
type dataSet struct {
	says string
	make func(seed string, a content.Algorithm) content.Set
}

// dataRows push, list, pull, refer to and delete each data set as the public suite does, by both algorithms.
var dataRows = makeDataRows()

func makeDataRows() []row {
	var all []row
	for _, d := range dataSets {
		all = append(all, row{"public suite: data sets", "suite", d.says, each(func(x trial, a content.Algorithm) {
			x.roundTrip(d.make(x.repo, a))
		})})
	}
	return all
}

// roundTrip is the life of a set: every manifest by digest and by a tag of its own, pulled, listed, and deleted.
func (x trial) roundTrip(set content.Set) {
	x.Helper()
	x.push(x.repo, content.Set{Blobs: set.Blobs})
	for i, m := range set.Manifests {
		x.put(m.Digest, m, stream(m.Bytes)).is(201)
		x.put(m.Digest, m, stream(m.Bytes), query("tag", fmt.Sprintf("set-%d", i), fmt.Sprintf("set-%d-again", i))).is(201)
	}
	listed, _ := x.tags("tags/list")
	for i, m := range set.Manifests {
		x.serves(m.Digest, m)
		x.serves(fmt.Sprintf("set-%d", i), m)
		if len(listed) != 2*len(set.Manifests) {
			x.Fatalf("%d tags are listed", len(listed))
		}
		x.do("DELETE", "manifests/"+fmt.Sprintf("set-%d", i)).is(202)
		x.do("HEAD", "manifests/"+fmt.Sprintf("set-%d", i)).is(404)
	}
	for i := len(set.Manifests) - 1; i >= 0; i-- {
		x.do("DELETE", "manifests/"+set.Manifests[i].Digest).is(202, 404)
		x.do("HEAD", "manifests/"+set.Manifests[i].Digest).is(404)
	}
	for _, b := range set.Blobs {
		x.do("DELETE", "blobs/"+b.Digest).is(202, 404)
		x.do("HEAD", "blobs/"+b.Digest).is(404)
	}
}

// indexOf makes an index over the top manifests of sets.
func indexOf(a content.Algorithm, extra content.Fields, sets ...content.Set) content.Set {
	var all content.Set
	entries := []content.Descriptor{}
	for _, s := range sets {
		all = all.Join(s)
		entries = append(entries, s.Top().Describe())
	}
	fields := content.Fields{"manifests": entries}
	for k, v := range extra {
		fields[k] = v
	}
	all.Manifests = append(all.Manifests, a.Document(content.ImageIndex, fields))
	return all
}

// annotations fill a manifest to the size of the largest one of the suite.
func annotations() map[string]string {
	all := map[string]string{}
	for i := range 390 {
		all[fmt.Sprintf("org.example.%d", i)] = strings.Repeat("x", 10_000)
	}
	return all
}

// layersOf makes an image with the given layers over a config blob.
func layersOf(a content.Algorithm, blobs []content.Blob, layers []content.Descriptor) content.Set {
	config := a.Of([]byte(`{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}`))
	m := a.Document(content.ImageManifest, content.Fields{"config": config.Describe(content.ImageConfig), "layers": layers})
	return content.Set{Blobs: append(blobs, config), Manifests: []content.Manifest{m}}
}

func foreign(a content.Algorithm, mediaType string, size int) content.Descriptor {
	return content.Descriptor{MediaType: mediaType, Size: size, Digest: a([]byte(mediaType)),
		URLs: []string{"https://store.example.com/blobs/" + fmt.Sprint(size)}}
}

var dataSets = []dataSet{
	{"image", func(seed string, a content.Algorithm) content.Set {
		return a.Image(seed, content.AMD64(), []int{512, 512}, nil)
	}},
	{"image of uncompressed layers", func(seed string, a content.Algorithm) content.Set {
		layer := a.Of(content.Random(seed, 2048).Bytes)
		return layersOf(a, []content.Blob{layer}, []content.Descriptor{layer.Describe(content.LayerTar)})
	}},
	{"manifest of 3.9 MB", func(seed string, a content.Algorithm) content.Set {
		return a.Image(seed, content.AMD64(), []int{512}, content.Fields{"annotations": annotations()})
	}},
	{"index of images", func(seed string, a content.Algorithm) content.Set { return a.Index(seed, nil) }},
	{"index of indexes", func(seed string, a content.Algorithm) content.Set {
		return indexOf(a, nil, a.Index(seed+"1", nil), a.Index(seed+"2", nil))
	}},
	{"index of nothing", func(seed string, a content.Algorithm) content.Set { return indexOf(a, nil) }},
	{"artifact", func(seed string, a content.Algorithm) content.Set { return a.Artifact(seed, exampleV1, nil) }},
	{"index of artifacts", func(seed string, a content.Algorithm) content.Set {
		return indexOf(a, content.Fields{"artifactType": exampleV1}, a.Artifact(seed+"1", exampleV1, nil), a.Artifact(seed+"2", exampleV1, nil))
	}},
	{"artifact whose config and layer are the empty object", func(_ string, a content.Algorithm) content.Set {
		empty := a.Of([]byte("{}"))
		m := a.Document(content.ImageManifest, content.Fields{"artifactType": exampleV1, "config": empty.Describe(content.EmptyJSON),
			"layers": []content.Descriptor{empty.Describe(content.EmptyJSON)}})
		return content.Set{Blobs: []content.Blob{empty}, Manifests: []content.Manifest{m}}
	}},
	{"image with artifacts that have it as subject", func(seed string, a content.Algorithm) content.Set {
		set := a.Image(seed, content.AMD64(), []int{512}, nil)
		subject := set.Top().Describe()
		set = set.Join(a.Image(seed+"1", content.AMD64(), []int{512}, content.Fields{"subject": subject}))
		return set.Join(a.Artifact(seed+"2", exampleV2, content.Fields{"subject": subject}))
	}},
	{"index as subject of an index and its images", func(seed string, a content.Algorithm) content.Set {
		set := a.Index(seed, nil)
		subject := content.Fields{"subject": set.Top().Describe(), "artifactType": exampleV1}
		return set.Join(indexOf(a, subject, a.Artifact(seed+"1", exampleV1, subject), a.Artifact(seed+"2", exampleV1, subject)))
	}},
	{"artifact with a subject that is missing", func(seed string, a content.Algorithm) content.Set {
		missing := content.Descriptor{MediaType: content.ImageManifest, Digest: a([]byte("missing content")), Size: 123}
		return a.Artifact(seed, exampleV1, content.Fields{"subject": missing})
	}},
	{"data in descriptors", func(seed string, a content.Algorithm) content.Set {
		layer := a.Of(content.Random(seed, 100).Bytes)
		d := layer.Describe(content.LayerTar)
		d.Data = layer.Bytes
		return layersOf(a, []content.Blob{layer}, []content.Descriptor{d})
	}},
	{"layers that are not distributable and never pushed", func(seed string, a content.Algorithm) content.Set {
		layer := a.Of(content.Random(seed, 512).Bytes)
		const kind = "application/vnd.oci.image.layer.nondistributable.v1.tar"
		return layersOf(a, []content.Blob{layer}, []content.Descriptor{
			foreign(a, kind+"+gzip", 123456), foreign(a, kind, 12345), layer.Describe(content.LayerTar)})
	}},
	{"members nobody knows", func(seed string, a content.Algorithm) content.Set {
		odd := content.Fields{"org.RANDOM": "value"}
		return indexOf(a, odd, a.Image(seed, content.AMD64(), []int{512}, odd))
	}},
	{"image without layers", func(_ string, a content.Algorithm) content.Set { return layersOf(a, nil, []content.Descriptor{}) }},
}
