package hostile

import (
	"encoding/base64"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"berth/tests/content"
	"berth/tests/harness"
)

// The tests of this file hold the registry to what others learned the hard way. Each is named after the advisory, or the
// fix where there was none.

// putManifest is a push of a document as it stands.
func putManifest(repo, reference, mediaType, body string) harness.Call {
	return harness.Call{Method: "PUT", Path: "/v2/" + repo + "/manifests/" + reference, Body: []byte(body), Header: http.Header{"Content-Type": {mediaType}}}
}

// TestCVE_2021_41190 pushes documents that two readers take for different things.
func TestCVE_2021_41190(t *testing.T) {
	s := start(t)
	config := content.Algorithm(content.Digest).Of([]byte("{}"))
	if err := s.PushBlob("confused", config); err != nil {
		t.Fatal(err)
	}
	d := fmt.Sprintf(`{"mediaType":"a/b","digest":%q,"size":2}`, config.Digest)
	image, index := content.ImageManifest, content.ImageIndex
	for name, c := range map[string][2]string{
		"layers and manifests":           {image, `{"schemaVersion":2,"config":` + d + `,"layers":[],"manifests":[]}`},
		"layers and manifests, an index": {index, `{"schemaVersion":2,"config":` + d + `,"layers":[],"manifests":[]}`},
		"layers alone in an index":       {index, `{"schemaVersion":2,"layers":[],"manifests":[]}`},
		"another type inside":            {image, `{"schemaVersion":2,"mediaType":"` + index + `","config":` + d + `,"layers":[]}`},
		"another type outside":           {index, `{"schemaVersion":2,"mediaType":"` + image + `","config":` + d + `,"layers":[]}`},
		"an image called index":          {index, `{"schemaVersion":2,"config":` + d + `,"layers":[]}`},
		"an index called image":          {image, `{"schemaVersion":2,"manifests":[]}`},
		"two types":                      {image, `{"schemaVersion":2,"mediaType":"` + image + `","mediaType":"` + index + `","config":` + d + `,"layers":[]}`},
		"two lists":                      {image, `{"schemaVersion":2,"config":` + d + `,"layers":[],"layers":[` + d + `]}`},
		"another case":                   {image, `{"schemaVersion":2,"config":` + d + `,"layers":[],"Manifests":[]}`},
		"a case that folds":              {image, `{"schemaVersion":2,"config":` + d + `,"layer\u017f":[` + d + `],"layers":[]}`},
		"an escaped member":              {image, `{"schemaVersion":2,"config":` + d + `,"layers":[],"\u006canifests":[],"m\u0061nifests":[]}`},
		"schema 1":                       {image, `{"schemaVersion":1,"name":"x","fsLayers":[]}`},
		"two documents":                  {image, `{"schemaVersion":2,"config":` + d + `,"layers":[]}{"manifests":[]}`},
		"a byte order mark":              {image, "\ufeff" + `{"schemaVersion":2,"config":` + d + `,"layers":[]}`},
	} {
		r := call(t, s, putManifest("confused", "v", c[0], c[1]), 400)
		if codes := r.Codes(); len(codes) != 1 || codes[0] != "MANIFEST_INVALID" {
			t.Errorf("%s: %s", name, r.Body)
		}
	}
	body := `{"schemaVersion":2,"config":` + d + `,"layers":[]}`
	call(t, s, putManifest("confused", "v", image, body), 201)
	for _, accept := range []string{index, "*/*", "text/html", ""} {
		r := call(t, s, harness.Call{Method: "GET", Path: "/v2/confused/manifests/v", Header: http.Header{"Accept": {accept}}}, 200)
		if r.Header.Get("Content-Type") != image || string(r.Body) != body {
			t.Errorf("asked for %q, answered %q", accept, r.Header.Get("Content-Type"))
		}
	}
}

// TestCVE_2026_41888 asks for every delete while deleting is disabled, by every name it goes by.
func TestCVE_2026_41888(t *testing.T) {
	s := start(t, "REGISTRY_STORAGE_DELETE_ENABLED=false")
	set := image()
	top := set.Top()
	for _, path := range []string{"manifests/v", "manifests/" + top.Digest, "blobs/" + set.Blobs[0].Digest, "manifests/absent", "tags/list", "tags/v"} {
		for _, c := range []harness.Call{
			{Method: "DELETE"}, {Method: "DELETE", Query: url.Values{"force": {"true"}}}, {Method: "DELETE", Body: []byte("{}")},
			{Method: "POST", Header: http.Header{"X-Http-Method-Override": {"DELETE"}}}, {Method: "POST", Query: url.Values{"_method": {"DELETE"}}},
			{Method: "delete"}, {Method: "PURGE"},
		} {
			c.Path = "/v2/bystander/" + path
			call(t, s, c, 400, 404, 405, 501)
		}
	}
	if err := s.Verify("bystander", set); err != nil {
		t.Error(err)
	}
	call(t, s, harness.Call{Method: "DELETE", Path: begin(t, s, "bystander")}, 204) // an upload is not content
}

// TestCVE_2024_39897 tries to read by its digest what only another repository holds: a digest is not a capability.
func TestCVE_2024_39897(t *testing.T) {
	s := start(t)
	secret := content.Random("secret", 5000)
	if err := s.PushBlob("private/app", secret); err != nil {
		t.Fatal(err)
	}
	absent := func(when string) {
		t.Helper()
		for _, method := range []string{"GET", "HEAD"} {
			if r := call(t, s, harness.Call{Method: method, Path: "/v2/public/blobs/" + secret.Digest}, 404); len(r.Body) > 1000 {
				t.Errorf("%s: a body of %d bytes", when, len(r.Body))
			}
		}
	}
	absent("at first")
	d := fmt.Sprintf(`{"mediaType":"a/b","digest":%q,"size":5000}`, secret.Digest)
	call(t, s, putManifest("public", "v", content.ImageManifest, `{"schemaVersion":2,"config":`+d+`,"layers":[]}`), 404)
	absent("after a manifest that names it")
	for _, body := range [][]byte{nil, secret.Bytes[:100]} {
		call(t, s, harness.Call{Method: "PUT", Path: begin(t, s, "public"), Query: url.Values{"digest": {secret.Digest}}, Body: body}, 400)
		call(t, s, harness.Call{Method: "POST", Path: "/v2/public/blobs/uploads/", Query: url.Values{"digest": {secret.Digest}}, Body: body}, 400)
	}
	absent("after pushes without the bytes")
	for _, from := range []string{"public", "nobody", "private", "private/app2"} {
		call(t, s, harness.Call{Method: "POST", Path: "/v2/public/blobs/uploads/", Query: url.Values{"mount": {secret.Digest}, "from": {from}}}, 202)
	}
	absent("after mounts from where it is not")
	call(t, s, harness.Call{Method: "DELETE", Path: "/v2/public/blobs/" + secret.Digest}, 404)
	if _, err := s.PullBlob("private/app", secret.Digest); err != nil {
		t.Errorf("the blob of the other repository: %v", err)
	}
}

// TestCVE_2026_35172 deletes a blob from one of two repositories: no memory of it may bring it back.
func TestCVE_2026_35172(t *testing.T) {
	s := start(t)
	blob := content.Random("revived", 3000)
	gone := func() {
		t.Helper()
		for _, method := range []string{"GET", "HEAD"} {
			call(t, s, harness.Call{Method: method, Path: "/v2/revived/a/blobs/" + blob.Digest}, 404)
		}
		d := fmt.Sprintf(`{"mediaType":"a/b","digest":%q,"size":3000}`, blob.Digest)
		call(t, s, putManifest("revived/a", "v", content.ImageManifest, `{"schemaVersion":2,"config":`+d+`,"layers":[]}`), 404)
	}
	for _, repo := range []string{"revived/a", "revived/b"} {
		if err := s.PushBlob(repo, blob); err != nil {
			t.Fatal(err)
		}
		if _, err := s.PullBlob(repo, blob.Digest); err != nil { // which remembers it
			t.Fatal(err)
		}
	}
	call(t, s, harness.Call{Method: "DELETE", Path: "/v2/revived/a/blobs/" + blob.Digest}, 202)
	gone()
	if _, err := s.PullBlob("revived/b", blob.Digest); err != nil {
		t.Error(err)
	}
	gone()
	if err := s.PushBlob("revived/a", blob); err != nil {
		t.Fatal(err)
	}
	if _, err := s.PullBlob("revived/a", blob.Digest); err != nil {
		t.Error(err)
	}
}

// TestCVE_2026_32589 uses the ids of uploads in other repositories, forged and misspelt: an id is good for nothing else.
func TestCVE_2026_32589(t *testing.T) {
	s := start(t)
	blob := content.Random("theirs", 2000)
	theirs := begin(t, s, "theirs")
	call(t, s, harness.Call{Method: "PATCH", Path: theirs, Body: blob.Bytes[:1000]}, 202)
	id := theirs[strings.LastIndexByte(theirs, '/')+1:]
	raw, err := base64.RawURLEncoding.DecodeString(id)
	if err != nil {
		t.Fatal(err)
	}
	forged := []string{"/v2/ours/blobs/uploads/" + id, "/v2/theirs/b/blobs/uploads/" + id, "/v2/theirs/blobs/uploads/" + id + "A", "/v2/theirs/blobs/uploads/" + id[1:],
		"/v2/theirs/blobs/uploads/" + id + "=", "/v2/theirs/blobs/uploads/" + strings.Repeat("A", len(id)), "/v2/theirs/blobs/uploads/" + strings.Repeat("A", 5000)}
	for i := range raw {
		other := append([]byte(nil), raw...)
		other[i] ^= 1
		forged = append(forged, "/v2/theirs/blobs/uploads/"+base64.RawURLEncoding.EncodeToString(other))
	}
	if last := id[len(id)-1]; len(raw)*8%6 != 0 { // the bits of the last letter that mean nothing
		forged = append(forged, "/v2/theirs/blobs/uploads/"+id[:len(id)-1]+string(last+1))
	}
	for _, path := range forged {
		for _, c := range []harness.Call{
			{Method: "GET"}, {Method: "PATCH", Body: []byte("x")}, {Method: "DELETE"},
			{Method: "PUT", Query: url.Values{"digest": {blob.Digest}}, Body: blob.Bytes[1000:]},
		} {
			c.Path = path
			if r := call(t, s, c, 400, 404); r.Header.Get("Range") != "" {
				t.Errorf("%s: tells where the upload stands", r.Call)
			}
		}
	}
	if r := call(t, s, harness.Call{Method: "GET", Path: theirs}, 204); r.Header.Get("Range") != "0-999" {
		t.Errorf("the upload stands at %q", r.Header.Get("Range"))
	}
	call(t, s, harness.Call{Method: "PUT", Path: theirs, Query: url.Values{"digest": {blob.Digest}}, Body: blob.Bytes[1000:]}, 201)
}

// TestCVE_2026_31801 pushes conditionally to tags of all names: none is special, and latest least of all.
func TestCVE_2026_31801(t *testing.T) {
	s := start(t)
	set, other := image(), content.Algorithm(content.Digest).Image("other", content.AMD64(), []int{100}, nil)
	for _, tag := range []string{"latest", "v1", "_", "stable", "sha256-" + strings.Repeat("a", 64)} {
		if err := s.Push("tags", set, tag); err != nil {
			t.Fatal(err)
		}
		if err := s.Push("tags", other); err != nil {
			t.Fatal(err)
		}
		for _, condition := range []http.Header{{"If-None-Match": {"*"}}, {"If-Match": {`"` + other.Top().Digest + `"`}}} {
			c := putManifest("tags", tag, content.ImageManifest, string(other.Top().Bytes))
			c.Header["If-None-Match"], c.Header["If-Match"] = condition["If-None-Match"], condition["If-Match"]
			call(t, s, c, 412)
		}
		if got, err := s.Resolve("tags", tag); err != nil || got != set.Top().Digest {
			t.Errorf("the tag %s is at %q, %v", tag, got, err)
		}
	}
}

// TestZot4266 tries to move a tag past a condition, by the parameter tag of a push by digest.
func TestZot4266(t *testing.T) {
	s := start(t)
	other := content.Algorithm(content.Digest).Image("other", content.AMD64(), []int{100}, nil)
	if err := s.Push("bystander", other); err != nil {
		t.Fatal(err)
	}
	c := putManifest("bystander", other.Top().Digest, content.ImageManifest, string(other.Top().Bytes))
	c.Query = url.Values{"tag": {"v"}}
	c.Header.Set("If-None-Match", "*")
	call(t, s, c, 400, 412)
	if got, err := s.Resolve("bystander", "v"); err != nil || got != image().Top().Digest {
		t.Errorf("the tag is at %q, %v", got, err)
	}
}

// TestZot3844 looks for redirects to elsewhere (and zot #4238).
func TestZot3844(t *testing.T) {
	s := start(t)
	for _, path := range []string{
		"//evil.example/", "/\\evil.example/", "/%5cevil.example/", "/%2fevil.example/", "/v2//evil.example/..", "///evil.example/%2f..", "/v2/../../evil.example",
		"/?next=https://evil.example", "/v2/?callback=https://evil.example", "/https://evil.example", "/.evil.example", "/@evil.example", "https://evil.example/",
		"http://evil.example/v2/", "/%09/evil.example", "/v2;/evil.example",
	} {
		l := dial(t, s)
		l.send("GET %s HTTP/1.1\nHost: x\nConnection: close\n\n", path)
		if r := l.reply("GET", slack); r != nil && (r.StatusCode >= 300 && r.StatusCode < 400 || r.Header.Get("Location") != "" || r.Header.Get("Refresh") != "") {
			t.Errorf("%s: answered %d, Location %q", path, r.StatusCode, r.Header.Get("Location"))
		}
		l.Close()
	}
}

// TestZot3980 configures what browsers must not be told: anybody, with credentials.
func TestZot3980(t *testing.T) {
	s := start(t, `REGISTRY_HTTP_HEADERS={Access-Control-Allow-Origin: ['*'], Access-Control-Allow-Credentials: ['true']}`)
	for _, method := range []string{"GET", "OPTIONS"} {
		r := call(t, s, harness.Call{Method: method, Path: "/v2/", Header: http.Header{"Origin": {"https://evil.example"}, "Access-Control-Request-Method": {"DELETE"}}}, 200, 204)
		if r.Header.Get("Access-Control-Allow-Origin") != "*" || r.Header.Get("Access-Control-Allow-Credentials") != "" {
			t.Errorf("%s: %v", r.Call, r.Header)
		}
	}
}

// TestCVE_2020_15157 pushes manifests whose layers are elsewhere, by URLs that nobody here may ever ask.
func TestCVE_2020_15157(t *testing.T) {
	asked := make(chan string, 100)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			asked <- c.RemoteAddr().String()
			c.Close()
		}
	}()
	const foreign = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
	config := content.Algorithm(content.Digest).Of([]byte("{}"))
	missing := content.Random("elsewhere", 10).Describe(foreign)
	missing.URLs = []string{"http://" + l.Addr().String() + "/layer"}
	manifest := content.Algorithm(content.Digest).Document(content.ImageManifest,
		content.Fields{"config": config.Describe("a/b"), "layers": []content.Descriptor{missing}})
	for rule, status := range map[string]int{"DENY=['^http://']": 400, "ALLOW=['^https://']": 400, "ALLOW=['^http://']": 201} {
		s := start(t, "REGISTRY_VALIDATION_MANIFESTS_URLS_"+rule)
		if err := s.PushBlob("foreign", config); err != nil {
			t.Fatal(err)
		}
		call(t, s, putManifest("foreign", "v", content.ImageManifest, string(manifest.Bytes)), status)
		call(t, s, harness.Call{Method: "GET", Path: "/v2/foreign/blobs/" + missing.Digest}, 404)
	}
	select {
	case who := <-asked:
		t.Errorf("somebody asked the URL of a layer: %s", who)
	case <-time.After(200 * time.Millisecond):
	}
}
