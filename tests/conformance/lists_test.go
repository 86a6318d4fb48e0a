package conformance

import (
	"encoding/json"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"berth/tests/content"
)

const listTags = "Listing Tags"

var nextLink = regexp.MustCompile(`^<([^>]+)>; *rel="next"$`)

// next is where the Link of an answer leads, "" when there is none.
func next(a answer) string {
	a.t.Helper()
	link := a.Header.Get("Link")
	if link == "" {
		return ""
	}
	m := nextLink.FindStringSubmatch(link)
	if m == nil {
		a.t.Fatalf("%s answered the Link %q", a.Call, link)
	}
	return m[1]
}

// tags reads a list of tags.
func (x trial) tags(path string, options ...option) ([]string, answer) {
	x.Helper()
	a := x.do("GET", path, options...).is(200)
	var list struct {
		Name string   `json:"name"`
		Tags []string `json:"tags"`
	}
	if err := json.Unmarshal(a.Body, &list); err != nil || list.Name != x.repo || list.Tags == nil {
		x.Fatalf("%s answered %s (%v)", a.Call, a.Body, err)
	}
	return list.Tags, a
}

// someTags are tags in the order of bytes.
var someTags = []string{"1.0", "1.10", "1.9", "A", "Z.z", "_", "a", "a-b", "a.b", "aa", "b", "z"}

// tagged pushes an image with someTags.
func (x trial) tagged() {
	x.Helper()
	shuffled := append(slices.Clone(someTags[5:]), someTags[:5]...)
	x.pushed(shuffled...)
}

func (x trial) equal(got, want []string) {
	x.Helper()
	if !slices.Equal(got, want) {
		x.Fatalf("listed are %q, not %q", got, want)
	}
}

var tagRows = []row{
	{listTags, "MUST", "the list of a repository is 200, with its name and its tags in the order of bytes", func(x trial) {
		x.tagged()
		all, a := x.tags("tags/list")
		x.equal(all, someTags)
		a.has("Content-Type", "application/json").lacks("Link")
	}},
	{listTags, "MUST", "a repository without tags has an empty list", func(x trial) {
		x.pushed()
		all, _ := x.tags("tags/list")
		x.equal(all, nil)
	}},
	{listTags, "MUST", "n bounds the list, with a Link when there is more; the pages are all tags, once, in order", func(x trial) {
		x.tagged()
		for _, n := range []int{1, 5, len(someTags), 100} {
			var got []string
			for path := "tags/list?n=" + strconv.Itoa(n); path != ""; {
				page, a := x.tags(path)
				if len(page) > n || len(page) < n && a.Header.Get("Link") != "" {
					x.Fatalf("a page of %d, n is %d", len(page), n)
				}
				got = append(got, page...)
				path = next(a)
			}
			x.equal(got, someTags)
		}
	}},
	{listTags, "MUST", "n=0 is an empty list without a Link", func(x trial) {
		x.tagged()
		all, a := x.tags("tags/list", query("n", "0"))
		x.equal(all, nil)
		a.lacks("Link")
	}},
	{listTags, "MUST", "last begins after a tag, which need not exist, with and without n", func(x trial) {
		x.tagged()
		for i, tag := range someTags {
			all, _ := x.tags("tags/list", query("last", tag))
			x.equal(all, someTags[i+1:])
			all, _ = x.tags("tags/list", query("last", tag), query("n", "2"))
			x.equal(all, someTags[i+1:min(i+3, len(someTags))])
		}
		all, _ := x.tags("tags/list", query("last", "1.5"))
		x.equal(all, someTags[2:])
		all, _ = x.tags("tags/list", query("last", "zz"))
		x.equal(all, nil)
	}},
	{listTags, "suite", "without n all tags are in the first page", func(x trial) {
		set := x.pushed()
		var batches [12][]string
		for i := range 1200 {
			batches[i/100] = append(batches[i/100], "t"+strconv.Itoa(10_000+i))
		}
		want := slices.Concat(batches[:]...)
		if all, _ := x.tags("tags/list"); len(all) == 0 { // not left by an earlier run
			x.Run("push", func(t *testing.T) {
				for i, tags := range batches {
					t.Run(strconv.Itoa(i), func(t *testing.T) {
						t.Parallel()
						x.with(t).put(set.Top().Digest, set.Top(), query("tag", tags...)).is(201)
					})
				}
			})
		}
		all, a := x.tags("tags/list")
		x.equal(all, want)
		a.lacks("Link")
	}},
	{listTags, "ours", "an n that is no number is 400", func(x trial) {
		x.tagged()
		for _, n := range []string{"-1", "a", "1.5", "99999999999999999999"} {
			x.do("GET", "tags/list", query("n", n)).is(400)
		}
	}},
	{"Catalog (reserved)", "ours", "_catalog lists repositories in order, in pages", func(x trial) {
		x.pushed()
		var all []string
		for path := "/v2/_catalog?n=7"; path != ""; {
			a := x.do("GET", path).is(200)
			var list struct{ Repositories []string }
			if err := json.Unmarshal(a.Body, &list); err != nil || len(list.Repositories) > 7 {
				x.Fatalf("%s answered %s", a.Call, a.Body)
			}
			all = append(all, list.Repositories...)
			path = next(a)
		}
		if !slices.IsSorted(all) || !slices.Contains(all, x.repo) || len(slices.Compact(slices.Clone(all))) != len(all) {
			x.Errorf("the catalog is %q", all)
		}
	}},
}

var deleteRows = []row{
	{"Deleting tags", "MUST", "DELETE of a tag is 202; the tag is 404, the manifest and other tags stay", func(x trial) {
		set := x.pushed("v1", "v2")
		x.do("DELETE", "manifests/v1").is(202)
		x.do("GET", "manifests/v1").is(404)
		x.do("HEAD", "manifests/v1").is(404)
		x.serves("v2", set.Top())
		x.serves(set.Top().Digest, set.Top())
		all, _ := x.tags("tags/list")
		x.equal(all, []string{"v2"})
		x.do("DELETE", "manifests/v1").is(404)
	}},
	{"Deleting Manifests", "MUST", "DELETE by digest is 202; the manifest and every tag of it are 404", each(func(x trial, a content.Algorithm) {
		m := x.manifest(a, content.Fields{"annotations": map[string]string{"case": "delete"}})
		x.put(m.Digest, m, query("tag", "d1", "d2")).is(201)
		x.do("DELETE", "manifests/"+m.Digest).is(202)
		for _, reference := range []string{m.Digest, "d1", "d2"} {
			x.do("GET", "manifests/"+reference).is(404)
			x.do("HEAD", "manifests/"+reference).is(404)
		}
		all, _ := x.tags("tags/list")
		x.equal(all, nil)
	})},
	{"Deleting Manifests", "MUST", "DELETE in a repository that does not exist is 404, as is that of an unknown manifest", func(x trial) {
		missing := content.Digest([]byte("missing"))
		x.do("DELETE", "/v2/"+x.fresh+"/manifests/"+missing).is(404).code("NAME_UNKNOWN")
		x.pushed()
		x.do("DELETE", "manifests/"+missing).is(404).code("MANIFEST_UNKNOWN")
	}},
	{"Deleting Manifests", "suite", "what was deleted can be pushed again, also under tags with other content", func(x trial) {
		for range 2 {
			for _, n := range []string{"1", "2"} {
				m := x.manifest(content.Digest, content.Fields{"annotations": map[string]string{"n": n}})
				x.put("image", m).is(201)
				x.serves("image", m)
				x.do("DELETE", "manifests/image").is(202)
				x.do("DELETE", "manifests/"+m.Digest).is(202)
				x.do("HEAD", "manifests/"+m.Digest).is(404)
			}
		}
	}},
	{"Deleting Blobs", "MUST", "DELETE of a blob is 202, and the blob is 404", each(func(x trial, a content.Algorithm) {
		b := x.blob(a, 800)
		x.do("DELETE", "blobs/"+b.Digest).is(202)
		x.do("HEAD", "blobs/"+b.Digest).is(404)
		x.do("GET", "blobs/"+b.Digest).is(404)
		x.stored(x.closes(x.begin(), b.Digest, octets(b.Bytes)), b)
	})},
	{"Deleting Blobs", "MUST", "DELETE of an unknown blob is 404", func(x trial) {
		x.pushed()
		x.do("DELETE", "blobs/"+content.Digest([]byte("missing"))).is(404)
		x.do("DELETE", "/v2/"+x.fresh+"/blobs/"+content.Digest([]byte("missing"))).is(404)
	}},
}

// faults are requests that are answered with an error, and its code.
var faults = []struct{ method, path, code string }{
	{"GET", "/v2/conformance/nowhere/manifests/latest", "NAME_UNKNOWN"},
	{"GET", "/v2/conformance/UPPER/manifests/latest", "NAME_INVALID"},
	{"GET", "/v2/conformance/nowhere/blobs/sha256:x", "DIGEST_INVALID"},
	{"PUT", "/v2/conformance/nowhere/manifests/latest", "MANIFEST_INVALID"},
	{"PATCH", "/v2/conformance/nowhere/blobs/uploads/x", "BLOB_UPLOAD_UNKNOWN"},
	{"POST", "/v2/conformance/nowhere/tags/list", "UNSUPPORTED"},
	{"GET", "/v2/conformance/nowhere/elsewhere/x", "UNSUPPORTED"},
}

var codeForm = regexp.MustCompile(`^[A-Z_]+$`)

var errorRows = []row{
	{"Error Codes", "MUST", "an error in JSON has errors of code, message and detail, with a code of the specification", func(x trial) {
		for _, f := range faults {
			a := x.do(f.method, f.path).code(f.code)
			if a.Status/100 != 4 || !strings.HasPrefix(a.Header.Get("Content-Type"), "application/json") {
				x.Errorf("%s answered %d %q", a.Call, a.Status, a.Header.Get("Content-Type"))
			}
			for _, code := range a.Codes() {
				if !codeForm.MatchString(code) {
					x.Errorf("the code is %q", code)
				}
			}
		}
	}},
	{"Error Codes", "MUST", "a method that is not for a path is 405, and Allow says which are", func(x trial) {
		if a := x.do("POST", "tags/list").is(405); !strings.Contains(a.Header.Get("Allow"), "GET") {
			x.Errorf("Allow is %q", a.Header.Get("Allow"))
		}
	}},
	{"Warnings", "MUST", "a Warning, if there, is 299 - and at most 4,096 bytes", func(x trial) {
		x.pushed("v1")
		total := 0
		for _, w := range x.do("GET", "manifests/v1").is(200).Header.Values("Warning") {
			if total += len(w); !strings.HasPrefix(w, "299 - ") {
				x.Errorf("the Warning is %q", w)
			}
		}
		if total > 4096 {
			x.Errorf("the warnings have %d bytes", total)
		}
	}},
}

var generalRows = []row{
	{"Determining Support", "MUST", "GET of /v2/ is 200", func(x trial) {
		x.do("GET", "/v2/").is(200).has("Docker-Distribution-Api-Version", "registry/2.0")
	}},
	{"Registry Proxying", "MAY", "the parameter ns of a pull is ignored, and not answered", func(x trial) {
		set := x.pushed("v1")
		x.do("GET", "manifests/v1", query("ns", "docker.io")).is(200).carries(set.Top().Bytes).lacks("OCI-Namespace")
		x.do("GET", "blobs/"+set.Blobs[0].Digest, query("ns", "docker.io")).is(200).carries(set.Blobs[0].Bytes)
	}},
	{"Use Cases: resumable pull", "SHOULD", "a pull that was cut goes on by Range", func(x trial) {
		b := x.blob(content.Digest, 5000)
		rest := x.do("GET", "blobs/"+b.Digest, header("Range", "bytes=1234-")).is(206)
		if content.Digest(append(b.Bytes[:1234:1234], rest.Body...)) != b.Digest {
			x.Error("the parts are not the blob")
		}
	}},
}
