package replicas

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"berth/tests/content"
	"berth/tests/harness"
)

// An operation is what clients do: act may be done again after an answer that left it open.
type operation struct {
	name                string
	prepare, act, check func(*scene) error
}

func nothing(*scene) error { return nil }

var operations = []operation{
	{"post of a small blob", nothing, func(x *scene) error { return x.post(x.blob("small", 100)) },
		func(x *scene) error { return x.holds(x.blob("small", 100)) }},
	{"post and put", nothing, func(x *scene) error { return x.chunked(x.blob("put", layerSize)) },
		func(x *scene) error { return x.holds(x.blob("put", layerSize)) }},
	{"post and patches and put", nothing, func(x *scene) error { return x.chunked(x.blob("patch", layerSize), 100_000, 100_000) },
		func(x *scene) error { return x.holds(x.blob("patch", layerSize)) }},
	{"patch in parts", nothing, func(x *scene) error { return x.chunked(x.blob("parts", 5<<20+1), 5<<20+1) },
		func(x *scene) error { return x.holds(x.blob("parts", 5<<20+1)) }},
	{"mount", func(x *scene) error { return x.client.PushBlob(x.repo+"/source", x.blob("mount", layerSize)) }, func(x *scene) error {
		_, err := x.do(harness.Call{Method: "POST", Path: x.path("blobs/uploads/"), Query: url.Values{
			"mount": {x.blob("mount", layerSize).Digest}, "from": {x.repo + "/source"}}}, 201)
		return err
	}, func(x *scene) error { return x.holds(x.blob("mount", layerSize)) }},
	{"cancel", func(x *scene) error {
		r, err := x.do(harness.Call{Method: "POST", Path: x.path("blobs/uploads/")}, 202)
		if err == nil {
			x.location = r.Header.Get("Location")
			_, err = x.do(harness.Call{Method: "PATCH", Path: x.location, Body: x.blob("cancel", layerSize).Bytes}, 202)
		}
		return err
	}, func(x *scene) error {
		return x.once(harness.Call{Method: "DELETE", Path: x.location}, 204)
	}, func(x *scene) error {
		_, err := x.do(harness.Call{Method: "GET", Path: x.location}, 404)
		return err
	}},
	{"first manifest", pushBlobs, func(x *scene) error { return x.tag("v1", x.image().Top()) }, func(x *scene) error {
		return x.tagged(map[string]content.Manifest{"v1": x.image().Top()})
	}},
	{"move of a tag", pushImage, func(x *scene) error { return x.move("v1", x.image().Top(), x.moved()) }, func(x *scene) error {
		return x.tagged(map[string]content.Manifest{"v1": x.moved(), "v2": x.image().Top()})
	}},
	{"referrer", pushImage, func(x *scene) error { return x.manifest(x.referrer()) }, func(x *scene) error {
		return x.refers(x.referrer().Digest)
	}},
	{"delete of a referrer", pushReferrer, func(x *scene) error {
		return x.once(harness.Call{Method: "DELETE", Path: x.path("manifests/" + x.referrer().Digest)}, 202)
	}, func(x *scene) error { return x.refers() }},
	{"delete of a manifest", pushImage, func(x *scene) error {
		return x.once(harness.Call{Method: "DELETE", Path: x.path("manifests/" + x.image().Top().Digest)}, 202)
	}, func(x *scene) error {
		if _, err := x.do(harness.Call{Method: "GET", Path: x.path("manifests/" + x.image().Top().Digest)}, 404); err != nil {
			return err
		}
		return x.tagged(nil)
	}},
	{"delete of a tag", pushImage, func(x *scene) error {
		return x.once(harness.Call{Method: "DELETE", Path: x.path("manifests/v1")}, 202)
	}, func(x *scene) error { return x.tagged(map[string]content.Manifest{"v2": x.image().Top()}) }},
	{"delete of a blob", pushBlobs, func(x *scene) error {
		return x.once(harness.Call{Method: "DELETE", Path: x.path("blobs/" + x.image().Blobs[0].Digest)}, 202)
	}, func(x *scene) error {
		_, err := x.do(harness.Call{Method: "HEAD", Path: x.path("blobs/" + x.image().Blobs[0].Digest)}, 404)
		return err
	}},
	{"pull", pushImage, func(x *scene) error {
		r, err := x.do(harness.Call{Method: "GET", Path: x.path("manifests/v1")}, 200)
		if err == nil && string(r.Body) != string(x.image().Top().Bytes) {
			err = fmt.Errorf("v1 reads as %q", r.Body)
		}
		for _, b := range x.image().Blobs {
			if err == nil {
				err = x.holds(b)
			}
		}
		return err
	}, nothing},
	{"lists", pushReferrer, func(x *scene) error {
		err := x.tagged(map[string]content.Manifest{"v1": x.image().Top(), "v2": x.image().Top()})
		if err == nil {
			err = x.refers(x.referrer().Digest)
		}
		if err == nil {
			_, err = x.do(harness.Call{Method: "GET", Path: "/v2/_catalog"}, 200)
		}
		return err
	}, nothing},
}

// layerSize is more than what is kept in a record or checked in memory, in bytes.
const layerSize = 300_000

func (x *scene) path(rest string) string { return "/v2/" + x.repo + "/" + rest }

// blob is one that no other scene has.
func (x *scene) blob(name string, size int) content.Blob { return content.Random(x.id+name, size) }

func (x *scene) image() content.Set {
	return content.Algorithm(content.Digest).Image(x.id, content.AMD64(), []int{layerSize}, nil)
}

func (x *scene) document(note string, more content.Fields) content.Manifest {
	config := x.image().Blobs[1]
	fields := content.Fields{"config": config.Describe(content.ImageConfig), "layers": []any{}, "annotations": map[string]string{"note": note}}
	for key, value := range more {
		fields[key] = value
	}
	return content.Algorithm(content.Digest).Document(content.ImageManifest, fields)
}

func (x *scene) moved() content.Manifest { return x.document("moved", nil) }

func (x *scene) referrer() content.Manifest {
	return x.document("referrer", content.Fields{"subject": x.image().Top().Describe()})
}

func pushBlobs(x *scene) error {
	for _, b := range x.image().Blobs {
		if err := x.client.PushBlob(x.repo, b); err != nil {
			return err
		}
	}
	return nil
}

func pushImage(x *scene) error { return x.client.Push(x.repo, x.image(), "v1", "v2") }

func pushReferrer(x *scene) error {
	if err := pushImage(x); err != nil {
		return err
	}
	return x.client.PushManifest(x.repo, "", x.referrer())
}

// once is a request that finds nothing to do when it is sent again.
func (x *scene) once(call harness.Call, status int) error {
	statuses := []int{status}
	if x.again {
		statuses = append(statuses, 404)
	}
	_, err := x.do(call, statuses...)
	return err
}

func (x *scene) post(b content.Blob) error {
	_, err := x.do(harness.Call{Method: "POST", Path: x.path("blobs/uploads/"), Query: url.Values{"digest": {b.Digest}}, Body: b.Bytes}, 201)
	return err
}

// chunked pushes chunks of some sizes, and closes the upload with the rest. Done again, it goes on where the upload stands.
func (x *scene) chunked(b content.Blob, sizes ...int) error {
	if x.location == "" {
		r, err := x.do(harness.Call{Method: "POST", Path: x.path("blobs/uploads/")}, 202)
		if err != nil {
			return err
		}
		x.location = r.Header.Get("Location")
	}
	at, err := x.standing()
	if err != nil {
		return err
	}
	end := 0
	for _, size := range sizes {
		if end += size; end <= at {
			continue
		}
		header := http.Header{"Content-Range": {fmt.Sprintf("%d-%d", at, end-1)}}
		if _, err := x.do(harness.Call{Method: "PATCH", Path: x.location, Body: b.Bytes[at:end], Header: header}, 202); err != nil {
			return err
		}
		at = end
	}
	_, err = x.do(harness.Call{Method: "PUT", Path: x.location, Query: url.Values{"digest": {b.Digest}}, Body: b.Bytes[at:]}, 201)
	return err
}

// standing is how many bytes an upload has.
func (x *scene) standing() (int, error) {
	r, err := x.do(harness.Call{Method: "GET", Path: x.location}, 204)
	if err != nil {
		return 0, err
	}
	last, err := strconv.Atoi(strings.TrimPrefix(r.Header.Get("Range"), "0-"))
	if err != nil || last == 0 {
		return 0, err
	}
	return last + 1, nil
}

// holds asks that a blob be there, whole.
func (x *scene) holds(b content.Blob) error {
	r, err := x.do(harness.Call{Method: "GET", Path: x.path("blobs/" + b.Digest)}, 200)
	if err == nil && content.Digest(r.Body) != b.Digest {
		err = fmt.Errorf("%s has %d bytes of %d with another digest", b.Digest, len(r.Body), len(b.Bytes))
	}
	return err
}

func (x *scene) put(reference string, m content.Manifest, header http.Header) (*harness.Reply, error) {
	all := http.Header{"Content-Type": {m.MediaType}}
	for key, values := range header {
		all[key] = values
	}
	statuses := []int{201}
	if header != nil && x.again {
		statuses = append(statuses, 412)
	}
	return x.do(harness.Call{Method: "PUT", Path: x.path("manifests/" + reference), Body: m.Bytes, Header: all}, statuses...)
}

func (x *scene) manifest(m content.Manifest) error {
	_, err := x.put(m.Digest, m, nil)
	return err
}

func (x *scene) tag(tag string, m content.Manifest) error {
	_, err := x.put(tag, m, nil)
	return err
}

// move moves a tag if it is where it was. Done again, it may have been moved already.
func (x *scene) move(tag string, from, to content.Manifest) error {
	_, err := x.put(tag, to, http.Header{"If-Match": {`"` + from.Digest + `"`}})
	return err
}

// tagged asks that the tags of the repository be at these manifests, and that there be no others.
func (x *scene) tagged(want map[string]content.Manifest) error {
	r, err := x.do(harness.Call{Method: "GET", Path: x.path("tags/list")}, 200)
	if err != nil {
		return err
	}
	var list struct{ Tags []string }
	if err := json.Unmarshal(r.Body, &list); err != nil {
		return err
	}
	if len(list.Tags) != len(want) {
		return fmt.Errorf("the tags are %q", list.Tags)
	}
	for tag, m := range want {
		r, err := x.do(harness.Call{Method: "GET", Path: x.path("manifests/" + tag)}, 200)
		if err != nil {
			return err
		}
		if string(r.Body) != string(m.Bytes) {
			return fmt.Errorf("the tag %s is at %s, not %s", tag, r.Header.Get("Docker-Content-Digest"), m.Digest)
		}
	}
	return nil
}

// refers asks that just these manifests refer to the image.
func (x *scene) refers(want ...string) error {
	r, err := x.do(harness.Call{Method: "GET", Path: x.path("referrers/" + x.image().Top().Digest)}, 200)
	if err != nil {
		return err
	}
	var index struct{ Manifests []content.Descriptor }
	if err := json.Unmarshal(r.Body, &index); err != nil {
		return err
	}
	var got []string
	for _, d := range index.Manifests {
		got = append(got, d.Digest)
	}
	if !slices.Equal(got, want) {
		return fmt.Errorf("the referrers are %q, not %q", got, want)
	}
	return nil
}
