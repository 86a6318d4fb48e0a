package api

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"berth/registry"
)

const (
	testDigest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	testSHA512 = "sha512:cf83e1357eefb8bdf1542850d66d8007d620e4050b5715dc83f4a921d36ce9ce47d0d13c5d85f2b0ff8318d2877eec2f63b931bd47417a81a538327af927da3e"
)

// shown is a request as one string, so that a table can say what it expects.
func (q *request) shown() string {
	names := map[kind]string{kindRoot: "root", kindCatalog: "catalog", kindTags: "tags", kindManifest: "manifest", kindBlob: "blob",
		kindUploads: "uploads", kindUpload: "upload", kindReferrers: "referrers", kindRepository: "repository"}
	parts := []string{names[q.kind]}
	add := func(label, value, absent string) {
		if value != absent {
			parts = append(parts, label+"="+strings.ReplaceAll(strings.ReplaceAll(value, testDigest, "D"), testSHA512, "D512"))
		}
	}
	add("name", q.name.String(), "")
	add("ref", q.reference.String(), "")
	add("digest", q.digest.String(), "")
	add("upload", q.upload, "")
	add("mount", q.mount.String(), "")
	add("from", q.from.String(), "")
	add("alg", string(q.algorithm), "sha256")
	for _, t := range q.tags {
		add("tag", t.String(), "")
	}
	add("n", itoa(int64(q.n)), "-1")
	add("last", q.last, "")
	add("type", q.artifactType, "")
	return strings.Join(parts, " ")
}

func TestParse(t *testing.T) {
	expand := strings.NewReplacer("{D}", testDigest, "{D512}", testSHA512, "{D%}", strings.Replace(testDigest, ":", "%3A", 1))
	for _, test := range []struct{ method, target, want string }{
		{"GET", "/v2", "root"},
		{"GET", "/v2/", "root"},
		{"GET", "/v2/_catalog", "catalog"},
		{"GET", "/v2/_catalog?n=5&last=a/b", "catalog n=5 last=a/b"},
		{"GET", "/v2/a/tags/list", "tags name=a"},
		{"GET", "/v2/a/tags/list?n=0", "tags name=a n=0"},
		{"GET", "/v2/a/tags/tags/list?last=v1", "tags name=a/tags last=v1"},
		{"DELETE", "/v2/a/b/_berth/repository", "repository name=a/b"},
		{"DELETE", "/v2/_berth/repository", "404 UNSUPPORTED"},
		{"GET", "/v2/a/manifests/list", "manifest name=a ref=list"},
		{"GET", "/v2/a/b/c/manifests/{D}", "manifest name=a/b/c ref=D"},
		{"GET", "/v2/a/manifests/{D%}", "manifest name=a ref=D"},
		{"GET", "/v2/a/manifests/v1?tag=x&ns=docker.io", "manifest name=a ref=v1"},
		{"PUT", "/v2/a/manifests/{D}?tag=x&tag=y", "manifest name=a ref=D tag=x tag=y"},
		{"GET", "/v2/manifests/manifests/manifests", "manifest name=manifests ref=manifests"},
		{"GET", "/v2/a/blobs/{D512}", "blob name=a digest=D512"},
		{"GET", "/v2/a/blobs/manifests/v1", "manifest name=a/blobs ref=v1"},
		{"POST", "/v2/a/blobs/uploads/", "uploads name=a"},
		{"POST", "/v2/a/blobs/uploads", "uploads name=a"},
		{"POST", "/v2/a/blobs/uploads/?digest={D}", "uploads name=a digest=D"},
		{"POST", "/v2/a/blobs/uploads/?mount={D}&from=b/c", "uploads name=a mount=D from=b/c"},
		{"POST", "/v2/a/blobs/uploads/?mount={D}", "uploads name=a mount=D"},
		{"POST", "/v2/a/blobs/uploads/?digest-algorithm=sha512", "uploads name=a alg=sha512"},
		{"PATCH", "/v2/a/blobs/uploads/x-_9", "upload name=a upload=x-_9"},
		{"PUT", "/v2/a/blobs/uploads/x?digest={D}", "upload name=a digest=D upload=x"},
		{"GET", "/v2/a/blobs/uploads/x?digest={D}", "upload name=a upload=x"},
		{"GET", "/v2/a/blobs/uploads/manifests/v1", "manifest name=a/blobs/uploads ref=v1"},
		{"GET", "/v2/a/referrers/{D}?artifactType=application%2Fx%2Bjson", "referrers name=a digest=D type=application/x+json"},

		{"GET", "/", "404 UNSUPPORTED"},
		{"GET", "/v1/", "404 UNSUPPORTED"},
		{"GET", "/v2x", "404 UNSUPPORTED"},
		{"GET", "/v2//", "404 UNSUPPORTED"},
		{"GET", "/v2/a", "404 UNSUPPORTED"},
		{"GET", "/v2/a/manifests/", "404 UNSUPPORTED"},
		{"GET", "/v2/a/uploads/x", "404 UNSUPPORTED"},
		{"GET", "/v2/a/manifests/v1/", "404 UNSUPPORTED"},
		{"GET", "/v2/A/manifests/v1", "400 NAME_INVALID"},
		{"GET", "/v2//manifests/v1", "400 NAME_INVALID"},
		{"GET", "/v2/a/../b/manifests/v1", "400 NAME_INVALID"},
		{"GET", "/v2/a%2Fb/manifests/v1", "400 NAME_INVALID"},
		{"GET", "/v2/%2e%2e/manifests/v1", "400 NAME_INVALID"},
		{"GET", "/v2/a/manifests/sha256:bad", "400 DIGEST_INVALID"},
		{"GET", "/v2/a/manifests/.v1", "404 MANIFEST_UNKNOWN"},
		{"HEAD", "/v2/a/manifests/.v1", "404 MANIFEST_UNKNOWN"},
		{"PUT", "/v2/a/manifests/.v1", "400 MANIFEST_INVALID"},
		{"DELETE", "/v2/a/manifests/.v1", "400 MANIFEST_INVALID"},
		{"GET", "/v2/a/blobs/uploads", "uploads name=a"},
		{"GET", "/v2/a/blobs/md5:00", "400 DIGEST_INVALID"},
		{"GET", "/v2/a/referrers/latest", "400 DIGEST_INVALID"},
		{"GET", "/v2/a/tags/list?n=-1", "400 UNSUPPORTED"},
		{"GET", "/v2/a/tags/list?n=1e3", "400 UNSUPPORTED"},
		{"GET", "/v2/a/tags/list?last=..", "400 MANIFEST_INVALID"},
		{"GET", "/v2/_catalog?last=..", "400 NAME_INVALID"},
		{"GET", "/v2/_catalog?n=99999999999", "400 UNSUPPORTED"},
		{"GET", "/v2/a/tags/list?n=%zz", "400 UNSUPPORTED"},
		{"POST", "/v2/a/blobs/uploads/?digest=", "400 DIGEST_INVALID"},
		{"POST", "/v2/a/blobs/uploads/?mount=x&from=b", "400 DIGEST_INVALID"},
		{"POST", "/v2/a/blobs/uploads/?mount={D}&from=../b", "400 NAME_INVALID"},
		{"POST", "/v2/a/blobs/uploads/?digest-algorithm=md5", "400 DIGEST_INVALID"},
		{"PUT", "/v2/a/blobs/uploads/x", "400 DIGEST_INVALID"},
		{"PATCH", "/v2/a/blobs/uploads/" + strings.Repeat("x", maxUploadID+1), "404 BLOB_UPLOAD_UNKNOWN"},
		{"PUT", "/v2/a/manifests/v1?tag=x", "400 UNSUPPORTED"},
		{"PUT", "/v2/a/manifests/{D}?tag=.", "400 MANIFEST_INVALID"},
		{"PUT", "/v2/a/manifests/{D}?" + strings.Repeat("tag=x&", maxTagParams+1), "414 MANIFEST_INVALID"},
		{"GET", "/v2/a/referrers/{D}?last=x", "400 DIGEST_INVALID"},
	} {
		path, query, _ := strings.Cut(expand.Replace(test.target), "?")
		q, err := parse(test.method, path, query)
		var got string
		if err != nil {
			p := explain(err, "")
			got = itoa(int64(p.status)) + " " + p.code
		} else {
			got = q.shown()
		}
		if got != test.want {
			t.Errorf("%s %s:\n got %s\nwant %s", test.method, test.target, got, test.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{"/v2/", "/v2/a/b/manifests/v1", "/v2/a/blobs/uploads/x", "/v2/a/tags/list", "/v2/a/referrers/" + testDigest} {
		f.Add("GET", seed, "n=1&last=x")
		f.Add("POST", seed, "mount="+testDigest+"&from=b")
		f.Add("PUT", seed, "digest="+testDigest+"&tag=a")
	}
	f.Fuzz(func(t *testing.T, method, path, query string) {
		q, err := parse(method, path, query)
		if err != nil {
			if p := explain(err, ""); p.status < 400 || p.status >= 500 {
				t.Fatalf("%s %q?%q is the server's fault: %v", method, path, query, err)
			}
			return
		}
		if q.kind >= kinds {
			t.Fatalf("%q has the kind %d", path, q.kind)
		}
		hasName := q.kind != kindRoot && q.kind != kindCatalog && q.kind != kindToken
		if hasName != (q.name != registry.Name{}) {
			t.Fatalf("%q: the name is %q", path, q.name)
		}
		if hasName && !strings.HasPrefix(path, "/v2/"+q.name.String()+"/") {
			t.Fatalf("%q was read as the repository %s", path, q.name)
		}
	})
}

func TestEveryRouteNeedsAccess(t *testing.T) {
	name, err := registry.ParseName("a/b")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, r := range routes {
		key := r.method + " " + itoa(int64(r.kind))
		if seen[key] {
			t.Errorf("%s is routed twice", key)
		}
		seen[key] = true
		if r.logsIn != (r.kind == kindToken) {
			t.Errorf("the route %s: logsIn is %t", key, r.logsIn)
		}
		if r.access == nil || r.handle == nil {
			t.Errorf("the route %s lacks its access or its handler", key)
			continue
		}
		wants := r.access(&request{kind: r.kind, name: name})
		if len(wants) == 0 {
			t.Errorf("the route %s needs no access", key)
		}
		for _, want := range wants {
			global := r.kind == kindRoot || r.kind == kindCatalog || r.kind == kindToken
			if global != (want.Repository == "") || !global && want.Repository != "a/b" {
				t.Errorf("the route %s needs %v", key, want)
			}
		}
		if isDelete := r.method == http.MethodDelete && r.kind != kindUpload; isDelete != r.deletes {
			t.Errorf("the route %s: deletes is %t", key, r.deletes)
		}
	}
}

func TestAllow(t *testing.T) {
	for k, want := range map[kind]string{
		kindRoot:     "GET, HEAD, OPTIONS",
		kindManifest: "DELETE, GET, HEAD, PUT, OPTIONS",
		kindUploads:  "POST, OPTIONS",
		kindUpload:   "DELETE, GET, HEAD, PATCH, PUT, OPTIONS",
	} {
		if got := allow(k, func(*route) bool { return true }); got != want {
			t.Errorf("allow(%d) is %q, want %q", k, got, want)
		}
	}
	if got, want := allow(kindBlob, new(API).offers), "GET, HEAD, OPTIONS"; got != want {
		t.Errorf("with deletes disabled a blob allows %q, want %q", got, want)
	}
}

// TestEveryCodeIsExplained fails when the domain gets a code that the API does not know.
func TestEveryCodeIsExplained(t *testing.T) {
	for code := registry.Unknown + 1; code <= registry.NoSpace; code++ {
		p := explain(&registry.Error{Code: code, Detail: "d", Err: errors.New("secret")}, "id")
		if p.status == http.StatusInternalServerError || p.code == "" || p.message == "" || p.detail != "d" {
			t.Errorf("the code %d is explained as %+v", code, p)
		}
		if body := string(errorBody(p)); strings.Contains(body, "secret") {
			t.Errorf("the code %d tells its cause: %s", code, body)
		}
	}
	p := explain(errors.New("secret"), "id7")
	if p.status != http.StatusInternalServerError || p.code != "UNKNOWN" || strings.Contains(p.message, "secret") || !strings.Contains(p.message, "id7") {
		t.Errorf("an unknown error is explained as %+v", p)
	}
}
