package api

import (
	"context"
	"crypto/sha512"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"berth/auth"
	"berth/registry"
	"berth/storage"
	"berth/storage/memory"
)

// A world is an API over a registry in memory. Requests to it and what they must answer are written with names in
// braces: {hello} is the digest of the text "hello", {image} that of the manifest image, {loc} the last Location.
type world struct {
	t       *testing.T
	handler http.Handler
	names   map[string]string
	bodies  map[string]string
}

const ociManifest = "application/vnd.oci.image.manifest.v1+json"

func newWorld(t *testing.T, o *Options) *world {
	t.Helper()
	return newWorldFor(t, auth.Anonymous{}, auth.AllowAll{}, o)
}

func newWorldFor(t *testing.T, who auth.Authenticator, may auth.Authorizer, o *Options) *world {
	t.Helper()
	return newWorldOver(t, memory.New(), who, may, o)
}

func newWorldOver(t *testing.T, store storage.Driver, who auth.Authenticator, may auth.Authorizer, o *Options) *world {
	t.Helper()
	reg, err := registry.Open(context.Background(), store, nil)
	if err != nil {
		t.Fatal(err)
	}
	a, err := New(reg, who, may, o)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, handler: a, names: map[string]string{}, bodies: map[string]string{}}
	for _, text := range []string{"hello", "hello world", "other"} {
		w.name(text, text)
	}
	w.name("nothing", "")
	w.name("empty", "{}")
	sum := sha512.Sum512([]byte("hello"))
	w.names["hello512"] = "sha512:" + hex.EncodeToString(sum[:])
	w.name("image", `{"schemaVersion":2,"mediaType":"`+ociManifest+`","config":`+w.descriptor("application/vnd.oci.image.config.v1+json", "empty")+
		`,"layers":[`+w.descriptor("application/vnd.oci.image.layer.v1.tar", "hello")+`]}`)
	w.name("signature", `{"schemaVersion":2,"mediaType":"`+ociManifest+`","artifactType":"application/x.sig","config":`+
		w.descriptor("application/vnd.oci.empty.v1+json", "empty")+`,"layers":[],"subject":`+w.descriptor(ociManifest, "image")+
		`,"annotations":{"a":"b"}}`)
	return w
}

func (w *world) name(name, body string) {
	w.names[name], w.bodies[name] = registry.SHA256.FromBytes([]byte(body)).String(), body
}

func (w *world) descriptor(mediaType, name string) string {
	return fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":%d}`, mediaType, w.names[name], len(w.bodies[name]))
}

func (w *world) expand(s string) string {
	for name, value := range w.names {
		s = strings.ReplaceAll(s, "{"+name+"}", value)
	}
	return s
}

// An exchange is a request and what must be answered.
type exchange struct {
	do      string // method and target
	header  string // "Name: value" lines
	body    string
	chunked bool // sends the body without its length
	want    int
	code    string // of the error
	answer  string // "Name: value" lines; an empty value means that there is no such header
	content string // the body; not compared when empty
	says    string // is in the body
}

func (w *world) run(steps ...exchange) {
	w.t.Helper()
	for i, step := range steps {
		method, target, _ := strings.Cut(w.expand(step.do), " ")
		var body io.Reader = strings.NewReader(step.body)
		if step.chunked {
			body = struct{ io.Reader }{body}
		}
		r := httptest.NewRequest(method, "http://reg.test"+strings.TrimPrefix(target, "http://reg.test"), body)
		for name, value := range lines(w.expand(step.header)) {
			r.Header.Set(name, value)
		}
		answer := httptest.NewRecorder()
		w.handler.ServeHTTP(answer, r)
		w.check(fmt.Sprintf("step %d, %s", i+1, step.do), step, answer)
		if location := answer.Header().Get("Location"); location != "" {
			w.names["loc"] = location
		}
	}
}

func (w *world) check(at string, step exchange, answer *httptest.ResponseRecorder) {
	w.t.Helper()
	if answer.Code != step.want {
		w.t.Errorf("%s: answered %d, want %d: %s", at, answer.Code, step.want, answer.Body)
	}
	if step.code != "" {
		var got struct {
			Errors []struct{ Code, Message string }
		}
		if err := json.Unmarshal(answer.Body.Bytes(), &got); err != nil || len(got.Errors) == 0 || got.Errors[0].Code != step.code || got.Errors[0].Message == "" {
			w.t.Errorf("%s: answered %s, want an error with the code %s", at, answer.Body, step.code)
		}
	}
	for name, want := range lines(w.expand(step.answer)) {
		if got := strings.Join(answer.Header().Values(name), ", "); got != want {
			w.t.Errorf("%s: %s is %q, want %q", at, name, got, want)
		}
	}
	if want := w.expand(step.content); want != "" && answer.Body.String() != want {
		w.t.Errorf("%s: the body is %q, want %q", at, answer.Body, want)
	}
	if !strings.Contains(answer.Body.String(), step.says) {
		w.t.Errorf("%s: the body is %s, which does not say %q", at, answer.Body, step.says)
	}
	if got := answer.Header().Get("Docker-Distribution-Api-Version"); got != "registry/2.0" {
		w.t.Errorf("%s: Docker-Distribution-API-Version is %q", at, got)
	}
}

func lines(s string) map[string]string {
	m := map[string]string{}
	for line := range strings.Lines(s) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		m[name] = strings.TrimSpace(value)
	}
	return m
}

// push puts what the image needs, the image itself as v1, and a signature of it.
func (w *world) push(repository string) {
	w.t.Helper()
	w.run(
		exchange{do: "POST /v2/" + repository + "/blobs/uploads/?digest={empty}", body: "{}", want: 201},
		exchange{do: "POST /v2/" + repository + "/blobs/uploads/?digest={hello}", body: "hello", want: 201},
		exchange{do: "PUT /v2/" + repository + "/manifests/v1", header: "Content-Type: " + ociManifest, body: w.bodies["image"], want: 201},
		exchange{do: "PUT /v2/" + repository + "/manifests/{signature}", header: "Content-Type: " + ociManifest, body: w.bodies["signature"], want: 201},
	)
}

func TestUploads(t *testing.T) {
	const blob = "/v2/a/b/blobs/"
	for name, script := range map[string][]exchange{
		"one POST": {
			{do: "POST " + blob + "uploads/?digest={hello}", body: "hello", want: 201,
				answer: "Location: http://reg.test" + blob + "{hello}\nDocker-Content-Digest: {hello}\nContent-Length: 0"},
			{do: "GET {loc}", want: 200, content: "hello"},
		},
		"one POST, length unknown": {{do: "POST " + blob + "uploads?digest={hello}", body: "hello", chunked: true, want: 201}},
		"one POST, empty":          {{do: "POST " + blob + "uploads/?digest={nothing}", chunked: true, want: 201}},
		"one POST, sha512": {
			{do: "POST " + blob + "uploads/?digest={hello512}", body: "hello", want: 201, answer: "Docker-Content-Digest: {hello512}"},
			{do: "HEAD " + blob + "{hello512}", want: 200, answer: "Docker-Content-Digest: {hello512}\nContent-Length: 5"},
		},
		"one POST, wrong digest": {
			{do: "POST " + blob + "uploads/?digest={hello}", body: "hullo", want: 400, code: "DIGEST_INVALID"},
			{do: "HEAD " + blob + "{hello}", want: 404},
		},
		"POST and PUT": {
			{do: "POST " + blob + "uploads/", want: 202, answer: "Range: 0-0\nContent-Length: 0\nOCI-Chunk-Min-Length: 1024"},
			{do: "PUT {loc}?digest={hello}", body: "hello", want: 201, answer: "Docker-Content-Digest: {hello}"},
			{do: "GET " + blob + "{hello}", want: 200, content: "hello"},
		},
		"POST and PUT, announced sha512": {
			{do: "POST " + blob + "uploads/?digest-algorithm=sha512", want: 202},
			{do: "PATCH {loc}", body: "hello", want: 202},
			{do: "PUT {loc}?digest={hello512}", want: 201, answer: "Docker-Content-Digest: {hello512}"},
		},
		"POST and PUT, empty": {
			{do: "POST " + blob + "uploads/", want: 202},
			{do: "PUT {loc}?digest={nothing}", chunked: true, want: 201},
			{do: "HEAD " + blob + "{nothing}", want: 200, answer: "Content-Length: 0"},
		},
		"POST and PUT, wrong digest": {
			{do: "POST " + blob + "uploads/", want: 202},
			{do: "PUT {loc}?digest={hello}", body: "hullo", want: 400, code: "DIGEST_INVALID"},
		},
		"streamed PATCH": {
			{do: "POST " + blob + "uploads/", want: 202},
			{do: "PATCH {loc}", body: "hello", chunked: true, want: 202, answer: "Range: 0-4"},
			{do: "GET {loc}", want: 204, answer: "Range: 0-4\nContent-Length:"},
			{do: "HEAD {loc}", want: 204, answer: "Range: 0-4"},
			{do: "PUT {loc}?digest={hello}", header: "Content-Type: text/odd; x", want: 201},
			{do: "PUT " + "{loc}", want: 405, code: "UNSUPPORTED", answer: "Allow: GET, HEAD, OPTIONS"},
		},
		"chunks in order": {
			{do: "POST " + blob + "uploads/", want: 202},
			{do: "GET {loc}", want: 204, answer: "Range: 0-0"},
			{do: "PATCH {loc}", header: "Content-Range: 5-10", body: " world", want: 416, code: "BLOB_UPLOAD_INVALID", answer: "Range: 0-0\nLocation: {loc}"},
			{do: "PATCH {loc}", header: "Content-Range: 0-4", body: "hello", want: 202, answer: "Range: 0-4"},
			{do: "PATCH {loc}", header: "Content-Range: 0-4", body: "hello", want: 416, answer: "Range: 0-4\nLocation: {loc}"},
			{do: "PUT {loc}?digest={hello world}", header: "Content-Range: 6-11", body: " world", want: 416, answer: "Range: 0-4\nLocation: {loc}"},
			{do: "GET {loc}?digest={hello world}", want: 204, answer: "Range: 0-4"},
			{do: "PUT {loc}?digest={hello world}", header: "Content-Range: bytes 5-10/11", body: " world", want: 201},
			{do: "GET " + blob + "{hello world}", want: 200, content: "hello world"},
		},
		"odd chunks": {
			{do: "POST " + blob + "uploads/", want: 202},
			{do: "PATCH {loc}", header: "Content-Range: odd", body: "hello", want: 400, code: "BLOB_UPLOAD_INVALID"},
			{do: "PATCH {loc}", header: "Content-Range: 0-9", body: "hello", want: 400, code: "SIZE_INVALID"},
			{do: "PATCH {loc}", header: "Content-Range: 0-9", body: "hello", chunked: true, want: 400, code: "SIZE_INVALID"},
			{do: "PATCH {loc}", header: "Content-Range: 0-2", body: "hello", chunked: true, want: 400, code: "SIZE_INVALID"},
			{do: "GET {loc}", want: 204, answer: "Range: 0-0"},
		},
		"cancel": {
			{do: "POST " + blob + "uploads/", want: 202},
			{do: "PATCH {loc}", body: "hello", want: 202},
			{do: "DELETE {loc}", want: 204},
			{do: "GET {loc}", want: 404, code: "BLOB_UPLOAD_UNKNOWN"},
			{do: "PUT {loc}?digest={hello}", want: 404, code: "BLOB_UPLOAD_UNKNOWN"},
		},
		"unknown": {
			{do: "GET " + blob + "uploads/0000", want: 404, code: "BLOB_UPLOAD_UNKNOWN"},
			{do: "PATCH " + blob + "uploads/0000", body: "hello", want: 404, code: "BLOB_UPLOAD_UNKNOWN"},
			{do: "DELETE " + blob + "uploads/0000", want: 404, code: "BLOB_UPLOAD_UNKNOWN"},
		},
		"mount": {
			{do: "POST /v2/src/blobs/uploads/?digest={hello}", body: "hello", want: 201},
			{do: "POST " + blob + "uploads/?mount={hello}&from=src", want: 201, answer: "Location: http://reg.test" + blob + "{hello}\nDocker-Content-Digest: {hello}"},
			{do: "GET {loc}", want: 200, content: "hello"},
		},
		"mount without from": {
			{do: "POST /v2/src/blobs/uploads/?digest={hello}", body: "hello", want: 201},
			{do: "POST " + blob + "uploads/?mount={hello}", want: 201},
			{do: "GET " + blob + "{hello}", want: 200, content: "hello"},
		},
		"mount of what is missing": {
			{do: "POST " + blob + "uploads/?mount={hello}&from=src", want: 202},
			{do: "PUT {loc}?digest={hello}", body: "hello", want: 201},
			{do: "POST " + blob + "uploads/?mount={other}", want: 202},
		},
	} {
		t.Run(name, func(t *testing.T) {
			newWorld(t, &Options{ChunkMinLength: 1024}).run(script...)
		})
	}
}

func TestBlobs(t *testing.T) {
	w := newWorld(t, nil)
	w.push("a")
	const get, head = "GET /v2/a/blobs/{hello}", "HEAD /v2/a/blobs/{hello}"
	common := "Docker-Content-Digest: {hello}\nETag: \"{hello}\"\nCache-Control: max-age=31536000, immutable"
	w.run(
		exchange{do: get, want: 200, content: "hello", answer: common + "\nContent-Length: 5\nContent-Type: application/octet-stream\nAccept-Ranges: bytes"},
		exchange{do: head, want: 200, answer: common + "\nContent-Length: 5\nContent-Type: application/octet-stream\nAccept-Ranges: bytes"},
		exchange{do: "GET /v2/a/blobs/{other}", want: 404, code: "BLOB_UNKNOWN", answer: "ETag:\nCache-Control:"},
		exchange{do: "GET /v2/b/blobs/{hello}", want: 404, code: "BLOB_UNKNOWN"},

		exchange{do: get, header: "Range: bytes=1-3", want: 206, content: "ell", answer: "Content-Range: bytes 1-3/5\nContent-Length: 3"},
		exchange{do: get, header: "Range: bytes=3-", want: 206, content: "lo"},
		exchange{do: get, header: "Range: bytes=-2", want: 206, content: "lo", answer: "Content-Range: bytes 3-4/5"},
		exchange{do: get, header: "Range: bytes=3-99", want: 206, content: "lo", answer: "Content-Range: bytes 3-4/5"},
		exchange{do: get, header: "Range: bytes=5-", want: 416, answer: "Content-Range: bytes */5\nETag:"},
		exchange{do: get, header: "Range: bytes=3-0", want: 416, answer: "Content-Range: bytes */5"},
		exchange{do: get, header: "Range: pages=1-2", want: 200, content: "hello"},
		exchange{do: head, header: "Range: bytes=1-3", want: 200, answer: "Content-Length: 5\nContent-Range:"},
		exchange{do: head, header: "Range: bytes=9-", want: 200, answer: "Content-Length: 5\nContent-Range:"},
		exchange{do: get, header: "Range: bytes=" + strings.Repeat("0-0,", maxRanges), want: 200, content: "hello"},
		exchange{do: get, header: "Range: bytes=1-3\nIf-Range: \"{hello}\"", want: 206, content: "ell"},
		exchange{do: get, header: "Range: bytes=1-3\nIf-Range: \"{other}\"", want: 200, content: "hello"},

		exchange{do: get, header: "If-None-Match: \"{hello}\"", want: 304, answer: common},
		exchange{do: head, header: "If-None-Match: {hello}", want: 304},
		exchange{do: get, header: "If-None-Match: \"{other}\"", want: 200, content: "hello"},
		exchange{do: get, header: "If-Match: {hello}", want: 200, content: "hello"},
		exchange{do: get, header: "If-Match: \"{other}\"", want: 412},

		exchange{do: "PUT /v2/a/blobs/{hello}", want: 405, code: "UNSUPPORTED", answer: "Allow: GET, HEAD, OPTIONS"},
		exchange{do: "DELETE /v2/a/blobs/{hello}", want: 405, code: "UNSUPPORTED", answer: "Allow: GET, HEAD, OPTIONS"},
	)
}

func TestSeveralRanges(t *testing.T) {
	w := newWorld(t, nil)
	w.push("a")
	r := httptest.NewRequest(http.MethodGet, w.expand("/v2/a/blobs/{hello}"), nil)
	r.Header.Set("Range", "bytes=0-0,-1")
	answer := httptest.NewRecorder()
	w.handler.ServeHTTP(answer, r)
	if answer.Code != http.StatusPartialContent || !strings.HasPrefix(answer.Header().Get("Content-Type"), "multipart/byteranges") {
		t.Fatalf("answered %d with %v", answer.Code, answer.Header())
	}
	for _, part := range []string{"bytes 0-0/5\r\n", "\r\n\r\nh\r\n", "bytes 4-4/5", "\r\n\r\no\r\n"} {
		if !strings.Contains(answer.Body.String(), part) {
			t.Errorf("the body lacks %q: %q", part, answer.Body)
		}
	}
}

func TestManifests(t *testing.T) {
	w := newWorld(t, &Options{MaxManifest: 2048})
	w.push("a")
	image, size := w.bodies["image"], itoa(int64(len(w.bodies["image"])))
	put := exchange{do: "PUT /v2/a/manifests/v2", header: "Content-Type: " + ociManifest + "; charset=utf-8", body: image, want: 201,
		answer: "Location: http://reg.test/v2/a/manifests/{image}\nDocker-Content-Digest: {image}\nOCI-Subject:"}
	with := func(header string, want int) exchange {
		e := put
		e.header += "\n" + header
		e.want, e.answer = want, ""
		return e
	}
	w.run(
		exchange{do: "GET /v2/a/manifests/v1", header: "Accept: text/plain", want: 200, content: image,
			answer: "Content-Type: " + ociManifest + "\nContent-Length: " + size + "\nDocker-Content-Digest: {image}\nETag: \"{image}\""},
		exchange{do: "HEAD /v2/a/manifests/{image}", want: 200,
			answer: "Content-Type: " + ociManifest + "\nContent-Length: " + size + "\nDocker-Content-Digest: {image}"},
		exchange{do: "GET /v2/a/manifests/v1", header: "If-None-Match: \"{image}\"", want: 304, answer: "ETag: \"{image}\""},
		exchange{do: "GET /v2/a/manifests/v1", header: "If-Match: \"{other}\"", want: 412, code: "MANIFEST_INVALID"},
		exchange{do: "GET /v2/a/manifests/v9", want: 404, code: "MANIFEST_UNKNOWN"},
		exchange{do: "GET /v2/b/manifests/v9", want: 404, code: "NAME_UNKNOWN"},
		exchange{do: "HEAD /v2/a/manifests/{other}", want: 404},

		put,
		with("If-None-Match: *", 412),
		with("If-Match: \"{other}\"", 412),
		with("If-Match: nonsense", 412),
		with("If-Match: \"{other}\", {image}", 201),
		with("If-Match: *", 201),
		with("If-None-Match: {image}", 400),
		exchange{do: "PUT /v2/a/manifests/{image}", header: "If-Match: *\nContent-Type: " + ociManifest, body: image, want: 400, code: "UNSUPPORTED"},
		exchange{do: "PUT /v2/a/manifests/{image}?tag=x&tag=y", header: "Content-Type: " + ociManifest, body: image, want: 201, answer: "OCI-Tag: x, y"},
		exchange{do: "GET /v2/a/manifests/y", want: 200, content: image},
		exchange{do: "PUT /v2/a/manifests/sig", header: "Content-Type: " + ociManifest, body: w.bodies["signature"], chunked: true, want: 201, answer: "OCI-Subject: {image}"},

		exchange{do: "PUT /v2/a/manifests/{other}", header: "Content-Type: " + ociManifest, body: image, want: 400, code: "DIGEST_INVALID"},
		exchange{do: "PUT /v2/a/manifests/v3", header: "Content-Type: " + ociManifest, body: "{", want: 400, code: "MANIFEST_INVALID"},
		exchange{do: "PUT /v2/c/manifests/v3", header: "Content-Type: " + ociManifest, body: image, want: 404, code: "MANIFEST_BLOB_UNKNOWN"},
		exchange{do: "PUT /v2/a/manifests/v3", body: strings.Repeat(" ", 2049), want: 413, code: "MANIFEST_INVALID"},
		exchange{do: "PUT /v2/a/manifests/v3", body: strings.Repeat(" ", 2049), chunked: true, want: 413, code: "MANIFEST_INVALID"},
		exchange{do: "POST /v2/a/manifests/v3", want: 405, answer: "Allow: GET, HEAD, PUT, OPTIONS"},
	)
}

func TestDeletes(t *testing.T) {
	deletes := []string{"DELETE /v2/a/manifests/v1", "DELETE /v2/a/manifests/{image}", "DELETE /v2/a/blobs/{hello}"}
	t.Run("disabled", func(t *testing.T) {
		w := newWorld(t, nil)
		w.push("a")
		for _, do := range deletes {
			w.run(exchange{do: do, want: 405, code: "UNSUPPORTED"}, exchange{do: strings.Replace(do, "DELETE", "HEAD", 1), want: 200})
		}
	})
	t.Run("enabled", func(t *testing.T) {
		w := newWorld(t, &Options{DeleteEnabled: true})
		w.push("a")
		w.run(exchange{do: deletes[0], header: "If-Match: \"{other}\"", want: 400, code: "UNSUPPORTED"})
		for _, do := range deletes {
			w.run(exchange{do: do, want: 202}, exchange{do: strings.Replace(do, "DELETE", "HEAD", 1), want: 404}, exchange{do: do, want: 404})
		}
	})
}

func TestLists(t *testing.T) {
	w := newWorld(t, &Options{MaxTags: 2, MaxCatalog: 2})
	w.run(
		exchange{do: "GET /v2/", want: 200, content: "{}", answer: "Content-Type: application/json"},
		exchange{do: "GET /v2/_catalog", want: 200, content: "{\"repositories\":[]}\n"},
		exchange{do: "GET /v2/a/tags/list", want: 404, code: "NAME_UNKNOWN"},
		exchange{do: "GET /v2/a/referrers/{image}", want: 200, answer: "Content-Type: application/vnd.oci.image.index.v1+json",
			content: `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}`},
	)
	for _, repository := range []string{"a", "a/b", "a-b"} {
		w.push(repository)
	}
	w.run(
		exchange{do: "PUT /v2/a/manifests/{image}?tag=v2&tag=v3", header: "Content-Type: " + ociManifest, body: w.bodies["image"], want: 201},
		exchange{do: "GET /v2/a/tags/list", want: 200, content: "{\"name\":\"a\",\"tags\":[\"v1\",\"v2\",\"v3\"]}\n", answer: "Link:"},
		exchange{do: "GET /v2/a/tags/list?last=v1", want: 200, content: "{\"name\":\"a\",\"tags\":[\"v2\",\"v3\"]}\n"},
		exchange{do: "GET /v2/a/tags/list?n=1", want: 200, content: "{\"name\":\"a\",\"tags\":[\"v1\"]}\n", answer: "Link: </v2/a/tags/list?last=v1&n=1>; rel=\"next\""},
		exchange{do: "GET /v2/a/tags/list?n=99", want: 200, content: "{\"name\":\"a\",\"tags\":[\"v1\",\"v2\"]}\n", answer: "Link: </v2/a/tags/list?last=v2&n=2>; rel=\"next\""},
		exchange{do: "GET /v2/a/tags/list?n=2&last=v2", want: 200, content: "{\"name\":\"a\",\"tags\":[\"v3\"]}\n", answer: "Link:"},
		exchange{do: "GET /v2/a/tags/list?n=0", want: 200, content: "{\"name\":\"a\",\"tags\":[]}\n", answer: "Link:"},
		exchange{do: "GET /v2/_catalog", want: 200, content: "{\"repositories\":[\"a\",\"a-b\"]}\n", answer: "Link: </v2/_catalog?last=a-b&n=2>; rel=\"next\""},
		exchange{do: "GET /v2/_catalog?n=2&last=a-b", want: 200, content: "{\"repositories\":[\"a/b\"]}\n", answer: "Link:"},
		exchange{do: "GET /v2/_catalog?n=0", want: 200, content: "{\"repositories\":[]}\n", answer: "Link:"},
		exchange{do: "GET /v2/a/referrers/{image}", want: 200, answer: "OCI-Filters-Applied:", content: w.referrers("signature")},
		exchange{do: "GET /v2/a/referrers/{image}?artifactType=application/x.sig", want: 200, answer: "OCI-Filters-Applied: artifactType", content: w.referrers("signature")},
		exchange{do: "GET /v2/a/referrers/{image}?artifactType=x", want: 200, answer: "OCI-Filters-Applied: artifactType", content: w.referrers()},
		exchange{do: "GET /v2/a/referrers/{other}", want: 200, content: w.referrers()},
	)
}

func (w *world) referrers(names ...string) string {
	var list []string
	for _, name := range names {
		d := strings.TrimSuffix(w.descriptor(ociManifest, name), "}")
		list = append(list, d+`,"artifactType":"application/x.sig","annotations":{"a":"b"}}`)
	}
	return `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[` + strings.Join(list, ",") + `]}`
}

func TestPrefix(t *testing.T) {
	w := newWorld(t, &Options{Prefix: "/x/"})
	w.run(
		exchange{do: "GET /v2/", want: 404},
		exchange{do: "GET /x/v2/", want: 200},
		exchange{do: "POST /x/v2/a/blobs/uploads/", want: 202},
		exchange{do: "PUT {loc}?digest={hello}", body: "hello", want: 201, answer: "Location: http://reg.test/x/v2/a/blobs/{hello}"},
	)
}

// TestBrokenBodies cuts the body of each request that has one: it is the client's error and changes nothing.
func TestBrokenBodies(t *testing.T) {
	w := newWorld(t, nil)
	w.run(exchange{do: "POST /v2/a/blobs/uploads/", want: 202})
	for do, want := range map[string]int{
		"POST /v2/a/blobs/uploads/?digest={hello}": 400,
		"PUT {loc}?digest={hello}":                 400,
		"PUT /v2/a/manifests/v1":                   400,
	} {
		method, target, _ := strings.Cut(w.expand(do), " ")
		r := httptest.NewRequest(method, target, io.MultiReader(strings.NewReader("hel"), brokenReader{}))
		answer := httptest.NewRecorder()
		w.handler.ServeHTTP(answer, r)
		if answer.Code != want || !strings.Contains(answer.Body.String(), "SIZE_INVALID") {
			t.Errorf("%s with a body that breaks off: answered %d %s", do, answer.Code, answer.Body)
		}
	}
	w.run(exchange{do: "HEAD /v2/a/blobs/{hello}", want: 404})
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// TestHeadEqualsGet compares the headers of HEAD and GET on everything that has both.
func TestHeadEqualsGet(t *testing.T) {
	w := newWorld(t, nil)
	w.push("a")
	for _, target := range []string{"/v2/", "/v2/_catalog", "/v2/a/tags/list", "/v2/a/manifests/v1", "/v2/a/manifests/{image}",
		"/v2/a/blobs/{hello}", "/v2/a/referrers/{image}", "/v2/a/blobs/{other}", "/v2/a/manifests/v9"} {
		answers := map[string]http.Header{}
		for _, method := range []string{http.MethodGet, http.MethodHead} {
			r := httptest.NewRequest(method, w.expand(target), nil)
			r.Header.Set("X-Request-Id", "same")
			answer := httptest.NewRecorder()
			w.handler.ServeHTTP(answer, r)
			answers[method] = answer.Header()
		}
		if !maps.EqualFunc(answers["GET"], answers["HEAD"], slices.Equal) {
			t.Errorf("%s:\n GET %v\nHEAD %v", target, answers["GET"], answers["HEAD"])
		}
	}
}

// TestManyTags lists more tags than are gathered before an answer is sent.
func TestManyTags(t *testing.T) {
	w := newWorld(t, nil)
	w.push("a")
	var want []string
	long := strings.Repeat("x", 100)
	for len(want)*len(long) <= streamAt {
		query := ""
		for range maxTagParams {
			tag := fmt.Sprintf("t%s%06d", long, len(want))
			want, query = append(want, tag), query+"&tag="+tag
		}
		w.run(exchange{do: "PUT /v2/a/manifests/{image}?" + query, header: "Content-Type: " + ociManifest, body: w.bodies["image"], want: 201})
	}
	want = append(want, "v1")
	answer := httptest.NewRecorder()
	w.handler.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/v2/a/tags/list", nil))
	var got struct {
		Name string
		Tags []string
	}
	if err := json.Unmarshal(answer.Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got.Tags, want) || got.Name != "a" {
		t.Errorf("listed %d tags of %q, want %d of a", len(got.Tags), got.Name, len(want))
	}
	if length := answer.Header().Get("Content-Length"); length != "" {
		t.Errorf("the listing was gathered as a whole: it has the length %s", length)
	}
}
