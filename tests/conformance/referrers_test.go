package conformance

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"berth/tests/content"
)

const (
	listReferrers   = "Listing Referrers"
	enableReferrers = "Enabling the Referrers API"
	exampleV1       = "application/vnd.example.oci.conformance.v1"
	exampleV2       = "application/vnd.example.oci.conformance.v2"
)

// referrers asks for the referrers of a digest, holding the answer to its form.
func (x trial) referrers(digest string, options ...option) ([]content.Descriptor, answer) {
	x.Helper()
	a := x.do("GET", "referrers/"+digest, options...).is(200).has("Content-Type", content.ImageIndex)
	var index struct {
		SchemaVersion int                  `json:"schemaVersion"`
		MediaType     string               `json:"mediaType"`
		Manifests     []content.Descriptor `json:"manifests"`
	}
	if err := json.Unmarshal(a.Body, &index); err != nil {
		x.Fatal(err)
	}
	if index.SchemaVersion != 2 || index.MediaType != content.ImageIndex || index.Manifests == nil {
		x.Fatalf("%s answered %s: no index", a.Call, a.Body)
	}
	return index.Manifests, a
}

// listed asks that exactly one of the descriptors be of m, with an artifact type and at least the annotations.
func (x trial) listed(all []content.Descriptor, m content.Manifest, artifactType string, annotations map[string]string) {
	x.Helper()
	var found []content.Descriptor
	for _, d := range all {
		if d.Digest == m.Digest {
			found = append(found, d)
		}
	}
	if len(found) != 1 {
		x.Fatalf("%s is listed %d times", m.Digest, len(found))
	}
	d := found[0]
	if d.MediaType != m.MediaType || d.Size != len(m.Bytes) || d.ArtifactType != artifactType {
		x.Errorf("the descriptor is %+v; the artifact type should be %q", d, artifactType)
	}
	for k, v := range annotations {
		if d.Annotations[k] != v {
			x.Errorf("the annotation %s is %q, not %q", k, d.Annotations[k], v)
		}
	}
}

// refer makes an artifact that refers to a subject.
func (x trial) refer(a content.Algorithm, seed, artifactType string, subject content.Descriptor, annotations map[string]string) content.Set {
	return a.Artifact(x.repo+seed, artifactType, content.Fields{"subject": subject, "annotations": annotations})
}

var subjectRows = []row{
	{pushSubject, "MUST", "a manifest or index with a subject answers OCI-Subject, by digest and by tag", each(func(x trial, a content.Algorithm) {
		subject := x.manifest(a, nil)
		x.put(subject.Digest, subject).is(201).lacks("OCI-Subject")
		artifact := x.refer(a, "1", exampleV1, subject.Describe(), nil)
		x.push(x.repo, artifact)
		x.put(artifact.Top().Digest, artifact.Top()).is(201).has("OCI-Subject", subject.Digest)
		x.put("artifact", artifact.Top()).is(201).has("OCI-Subject", subject.Digest)
		index := a.Document(content.ImageIndex, content.Fields{"manifests": []any{}, "artifactType": exampleV1, "subject": subject.Describe()})
		x.put(index.Digest, index).is(201).has("OCI-Subject", subject.Digest)
	})},
	{pushSubject, "MUST", "a subject that is not there is accepted, and its referrers are listed", func(x trial) {
		subject := x.missing(content.ImageManifest)
		artifact := x.refer(content.Digest, "1", exampleV1, subject, nil)
		x.push(x.repo, content.Set{Blobs: artifact.Blobs})
		x.put(artifact.Top().Digest, artifact.Top()).is(201).has("OCI-Subject", subject.Digest)
		all, _ := x.referrers(subject.Digest)
		x.listed(all, artifact.Top(), exampleV1, nil)
	}},
}

var referrersRows = []row{
	{listReferrers, "MUST", "a repository or a digest that nobody knows has an empty list, not 404", func(x trial) {
		x.repo = x.fresh
		if all, _ := x.referrers(content.Digest([]byte(x.repo))); len(all) != 0 {
			x.Errorf("it has %d referrers", len(all))
		}
	}},
	{listReferrers, "MUST", "a malformed digest is 400", func(x trial) {
		x.pushed()
		x.do("GET", "referrers/sha256:abc").is(400).code("DIGEST_INVALID")
		x.do("GET", "referrers/latest").is(400)
	}},
	{listReferrers, "MUST", "every manifest and index with the subject is listed, with all of its annotations", each(func(x trial, a content.Algorithm) {
		subject := x.manifest(a, nil)
		x.put(subject.Digest, subject).is(201)
		notes := map[string]string{"org.opencontainers.conformance": "hello", "org.example." + x.repo: "<&> ü"}
		one := x.refer(a, "1", exampleV1, subject.Describe(), notes)
		two := x.refer(a, "2", exampleV2, subject.Describe(), nil)
		x.push(x.repo, one)
		x.push(x.repo, two)
		index := a.Document(content.ImageIndex, content.Fields{"manifests": []content.Descriptor{one.Top().Describe()},
			"artifactType": exampleV1, "subject": subject.Describe(), "annotations": notes})
		x.put(index.Digest, index).is(201)
		all, _ := x.referrers(subject.Digest)
		if x.listed(all, one.Top(), exampleV1, notes); len(all) != 3 {
			x.Errorf("%d are listed", len(all))
		}
		x.listed(all, two.Top(), exampleV2, nil)
		x.listed(all, index, exampleV1, notes)
	})},
	{listReferrers, "MUST", "an image without an artifactType has the media type of its config; an index without one has none", func(x trial) {
		subject := x.pushed().Top()
		image := x.manifest(content.Digest, content.Fields{"subject": subject.Describe()})
		x.put(image.Digest, image).is(201)
		index := content.Algorithm(content.Digest).Document(content.ImageIndex, content.Fields{"manifests": []any{}, "subject": subject.Describe()})
		x.put(index.Digest, index).is(201)
		all, _ := x.referrers(subject.Digest)
		x.listed(all, image, content.ImageConfig, nil)
		x.listed(all, index, "", nil)
	}},
	{listReferrers, "MUST", "a filter by artifactType is said in OCI-Filters-Applied and leaves only what matches", func(x trial) {
		subject := x.pushed().Top()
		one := x.refer(content.Digest, "1", exampleV1, subject.Describe(), map[string]string{"n": "1"})
		two := x.refer(content.Digest, "2", exampleV2+"+json", subject.Describe(), map[string]string{"n": "2"})
		x.push(x.repo, one)
		x.push(x.repo, two)
		all, a := x.referrers(subject.Digest, query("artifactType", exampleV2+"+json"))
		a.has("OCI-Filters-Applied", "artifactType")
		if x.listed(all, two.Top(), exampleV2+"+json", map[string]string{"n": "2"}); len(all) != 1 {
			x.Errorf("%d match", len(all))
		}
		all, a = x.referrers(subject.Digest, query("artifactType", "application/nobody"))
		if a.has("OCI-Filters-Applied", "artifactType"); len(all) != 0 {
			x.Errorf("%d match", len(all))
		}
		_, a = x.referrers(subject.Digest)
		a.lacks("OCI-Filters-Applied")
	}},
	{listReferrers, "MUST", "more than fits is in pages, each an index, with a Link to the next", func(x trial) {
		const n = 8
		subject := x.missing(content.ImageManifest)
		want := map[string]bool{}
		for i := range n {
			notes := map[string]string{"filler": strings.Repeat(string(rune('a'+i)), 1<<20)}
			artifact := x.refer(content.Digest, "pages", exampleV1, subject, notes)
			x.push(x.repo, artifact)
			want[artifact.Top().Digest] = true
		}
		got, pages := map[string]bool{}, 0
		for path := "referrers/" + subject.Digest; path != ""; pages++ {
			a := x.do("GET", path).is(200).has("Content-Type", content.ImageIndex)
			var index struct{ Manifests []content.Descriptor }
			if err := json.Unmarshal(a.Body, &index); err != nil || len(a.Body) > 4<<20 {
				x.Fatalf("a page of %d bytes: %v", len(a.Body), err)
			}
			for _, d := range index.Manifests {
				got[d.Digest] = true
			}
			path = next(a)
		}
		if !maps.Equal(got, want) || pages < 2 || pages > n {
			x.Errorf("%d pages list %d referrers of %d", pages, len(got), n)
		}
	}},
	{listReferrers, "ours", "a deleted referrer is listed no more", func(x trial) {
		subject := x.pushed().Top()
		artifact := x.refer(content.Digest, "gone", exampleV1, subject.Describe(), nil)
		x.push(x.repo, artifact)
		x.do("DELETE", "manifests/"+artifact.Top().Digest).is(202)
		all, _ := x.referrers(subject.Digest)
		if slices.ContainsFunc(all, func(d content.Descriptor) bool { return d.Digest == artifact.Top().Digest }) {
			x.Error("it is listed")
		}
		x.push(x.repo, artifact)
		all, _ = x.referrers(subject.Digest)
		x.listed(all, artifact.Top(), exampleV1, nil)
	}},
	{enableReferrers, "MUST", "manifests that a referrers tag lists, and that have the subject, are in the referrers", func(x trial) {
		subject := x.pushed().Top()
		artifact := x.refer(content.Digest, "tagged", exampleV1, subject.Describe(), map[string]string{"n": "1"})
		x.push(x.repo, artifact)
		entry := artifact.Top().Describe()
		entry.ArtifactType = exampleV1
		index := content.Algorithm(content.Digest).Document(content.ImageIndex, content.Fields{"manifests": []content.Descriptor{entry}})
		x.put(strings.Replace(subject.Digest, ":", "-", 1), index).is(201)
		all, _ := x.referrers(subject.Digest)
		x.listed(all, artifact.Top(), exampleV1, map[string]string{"n": "1"})
	}},
}
