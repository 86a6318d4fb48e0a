package gcs

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"mime"
	"mime/multipart"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// A fake is Google Cloud Storage in memory, as far as the driver and the client library use it. It takes the place of the
// network. It is strict where emulators are not: in the conditions on generations, the protocol of resumable sessions, and
// the rate of writes to one object.
type fake struct {
	mu       sync.Mutex
	bucket   string
	objects  map[string]fakeObject
	sessions map[string]*fakeSession
	written  map[string]time.Time // the last write to each name, also of what is deleted
	serial   int64

	paced     bool // takes one write a second to one object
	lax       bool // ignores conditions of DELETE, as fake-gcs-server does
	laxer     bool // ignores all conditions
	payer     string
	requests  []string
	throttled int
	sign      func(payload []byte) []byte
}

type fakeObject struct {
	body       []byte
	generation int64
	modified   time.Time
	kms        string
}

// A fakeSession is an upload that goes on.
type fakeSession struct {
	name string
	kms  string
	cond url.Values
	body []byte
	done *fakeAnswer
}

type fakeAnswer struct {
	status int
	header http.Header
	body   []byte
}

func newFake() *fake {
	return &fake{bucket: "registry", objects: map[string]fakeObject{}, sessions: map[string]*fakeSession{}, written: map[string]time.Time{}, serial: 1_700_000_000_000_000}
}

// over are the options of a driver whose network is a service.
func over(service http.RoundTripper) Options {
	return Options{
		Bucket: "registry", Root: "root", Credentials: Credentials{Anonymous: true}, ChunkSize: chunkUnit,
		Transport: func(http.RoundTripper) http.RoundTripper { return service },
	}
}

// chunkUnit is the least size of a chunk.
const chunkUnit = 256 << 10

// openOver returns a driver that lives as long as a test.
func openOver(t testing.TB, o Options) *Driver {
	t.Helper()
	d, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// RoundTrip serves a request.
func (f *fake) RoundTrip(r *http.Request) (*http.Response, error) {
	var body []byte
	if r.Body != nil {
		var err error
		if body, err = io.ReadAll(r.Body); err != nil {
			return nil, err
		}
		r.Body.Close()
	}
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.requests = append(f.requests, r.Method+" "+r.URL.Path)
	answer := f.serve(r, body)
	return &http.Response{StatusCode: answer.status, Header: answer.header, Body: io.NopCloser(bytes.NewReader(answer.body)),
		ContentLength: int64(len(answer.body)), Request: r, ProtoMajor: 1, ProtoMinor: 1}, nil
}

func (f *fake) serve(r *http.Request, body []byte) fakeAnswer {
	const api = "/storage/v1/b/"
	query := r.URL.Query()
	path, uploading := strings.CutPrefix(r.URL.EscapedPath(), "/upload")
	rest, isJSON := strings.CutPrefix(path, api)
	switch {
	case strings.HasSuffix(r.URL.Path, ":signBlob"):
		return f.signBlob(body)
	case f.payer != "" && query.Get("userProject") != f.payer && r.Header.Get("X-Goog-User-Project") != f.payer:
		return refusal400("required")
	case uploading && query.Has("upload_id"):
		return f.resume(r, f.sessions[query.Get("upload_id")], body)
	case !isJSON:
		return f.media(r)
	}
	bucket, object, _ := strings.Cut(rest, "/o")
	name, err := url.PathUnescape(strings.TrimPrefix(object, "/"))
	if err != nil || bucket != f.bucket {
		return failure(http.StatusNotFound, "notFound")
	}
	switch {
	case uploading:
		return f.upload(r, query, body)
	case name == "" && strings.HasSuffix(rest, "/o"):
		return f.list(query)
	case name == "":
		return answer(map[string]any{"kind": "storage#bucket", "name": f.bucket})
	case r.Method == http.MethodDelete:
		return f.remove(name, query)
	}
	o, ok := f.objects[name]
	if !ok {
		return failure(http.StatusNotFound, "notFound")
	}
	return answer(f.resource(name, o))
}

// media serves an object by the XML API.
func (f *fake) media(r *http.Request) fakeAnswer {
	bucket, name, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	o, ok := f.objects[name]
	only := r.URL.Query().Get("generation")
	switch {
	case bucket != f.bucket:
		return xmlFailure(http.StatusNotFound, "NoSuchBucket")
	case !ok || only != "" && only != strconv.FormatInt(o.generation, 10):
		return xmlFailure(http.StatusNotFound, "NoSuchKey")
	}
	a := fakeAnswer{http.StatusOK, http.Header{}, o.body}
	if spec, ok := strings.CutPrefix(r.Header.Get("Range"), "bytes="); ok {
		first, last, _ := strings.Cut(spec, "-")
		from, _ := strconv.Atoi(first)
		to := len(o.body) - 1
		if n, err := strconv.Atoi(last); err == nil {
			to = min(to, n)
		}
		if from > to {
			return xmlFailure(http.StatusRequestedRangeNotSatisfiable, "InvalidRange")
		}
		a.status, a.body = http.StatusPartialContent, o.body[from:to+1]
		a.header.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, to, len(o.body)))
	}
	a.header.Set("Last-Modified", o.modified.UTC().Format(http.TimeFormat))
	a.header.Set("X-Goog-Generation", strconv.FormatInt(o.generation, 10))
	a.header.Set("X-Goog-Hash", "crc32c="+checksum(o.body))
	return a
}

func checksum(body []byte) string {
	return base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint32(nil, crc32.Checksum(body, castagnoli)))
}

// holds reports whether the condition of a change holds.
func (f *fake) holds(name string, cond url.Values) bool {
	if !cond.Has("ifGenerationMatch") || f.laxer {
		return true
	}
	return cond.Get("ifGenerationMatch") == strconv.FormatInt(f.objects[name].generation, 10)
}

// early reports whether a name was written a moment ago.
func (f *fake) early(name string) bool {
	if f.paced && time.Since(f.written[name]) < time.Second {
		f.throttled++
		return true
	}
	return false
}

func (f *fake) remove(name string, query url.Values) fakeAnswer {
	o, ok := f.objects[name]
	only := query.Get("generation")
	switch {
	case !ok || only != "" && only != strconv.FormatInt(o.generation, 10):
		return failure(http.StatusNotFound, "notFound")
	case !f.lax && !f.holds(name, query):
		return failure(http.StatusPreconditionFailed, "conditionNotMet")
	case f.early(name):
		return failure(http.StatusTooManyRequests, "rateLimitExceeded")
	}
	delete(f.objects, name)
	f.written[name] = time.Now()
	return fakeAnswer{status: http.StatusNoContent, header: http.Header{}}
}

// upload serves an object in one request, or the beginning of a session.
func (f *fake) upload(r *http.Request, query url.Values, body []byte) fakeAnswer {
	var about struct{ Name, Crc32c string }
	if query.Get("uploadType") == "resumable" {
		_ = json.Unmarshal(body, &about)
		if query.Has("name") {
			about.Name = query.Get("name")
		}
		if !f.holds(about.Name, query) {
			return failure(http.StatusPreconditionFailed, "conditionNotMet")
		}
		f.serial++
		id := strconv.FormatInt(f.serial, 10)
		f.sessions[id] = &fakeSession{name: about.Name, cond: query, kms: query.Get("kmsKeyName")}
		a := answer(struct{}{})
		a.header.Set("Location", r.URL.Scheme+"://"+r.URL.Host+r.URL.Path+"?uploadType=resumable&userProject="+f.payer+"&upload_id="+id)
		return a
	}
	_, params, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	parts := multipart.NewReader(bytes.NewReader(body), params["boundary"])
	var content []byte
	for i := range 2 {
		part, err := parts.NextPart()
		if err != nil {
			return refusal400("invalid")
		}
		text, err := io.ReadAll(part)
		if err != nil {
			return refusal400("invalid")
		}
		if content = text; i == 0 {
			_ = json.Unmarshal(text, &about)
		}
	}
	if query.Has("name") {
		about.Name = query.Get("name")
	}
	if about.Crc32c != "" && about.Crc32c != checksum(content) {
		return refusal400("invalid")
	}
	return f.store(about.Name, content, query)
}

// store makes an object, under the condition of its upload.
func (f *fake) store(name string, body []byte, query url.Values) fakeAnswer {
	if !f.holds(name, query) {
		return failure(http.StatusPreconditionFailed, "conditionNotMet")
	}
	if f.early(name) {
		return failure(http.StatusTooManyRequests, "rateLimitExceeded")
	}
	f.serial++
	f.written[name] = time.Now()
	f.objects[name] = fakeObject{body: bytes.Clone(body), generation: f.serial, modified: time.Now(), kms: query.Get("kmsKeyName")}
	return answer(f.resource(name, f.objects[name]))
}

// resume serves a request of a session: a chunk, or the question where to go on.
func (f *fake) resume(r *http.Request, s *fakeSession, body []byte) fakeAnswer {
	if s == nil {
		return failure(http.StatusNotFound, "notFound")
	}
	if s.done != nil {
		return *s.done
	}
	span, total, ok := strings.Cut(strings.TrimPrefix(r.Header.Get("Content-Range"), "bytes "), "/")
	if !ok {
		return refusal400("invalid")
	}
	if span != "*" {
		var first, last int
		if _, err := fmt.Sscanf(span, "%d-%d", &first, &last); err != nil || last-first+1 != len(body) || first > len(s.body) ||
			total == "*" && len(body)%chunkUnit != 0 {
			return refusal400("invalid")
		}
		if known := len(s.body) - first; known < len(body) {
			s.body = append(s.body, body[known:]...)
		}
	}
	if total == strconv.Itoa(len(s.body)) {
		if hash, ok := strings.CutPrefix(r.Header.Get("X-Goog-Hash"), "crc32c="); ok && hash != checksum(s.body) {
			return refusal400("invalid")
		}
		a := f.store(s.name, s.body, s.cond)
		if a.status == http.StatusOK {
			s.done, s.body = &a, nil
		}
		return a
	}
	a := fakeAnswer{http.StatusPermanentRedirect, http.Header{}, nil}
	if r.Header.Get("X-Guploader-No-308") == "yes" {
		a.status = http.StatusOK
		a.header.Set("X-Http-Status-Code-Override", "308")
	}
	if len(s.body) > 0 {
		a.header.Set("Range", fmt.Sprintf("bytes=0-%d", len(s.body)-1))
	}
	return a
}

func (f *fake) list(query url.Values) fakeAnswer {
	names := slices.Sorted(maps.Keys(f.objects))
	limit := 1000
	if n, err := strconv.Atoi(query.Get("maxResults")); err == nil && n > 0 {
		limit = min(limit, n)
	}
	var items []any
	next := ""
	for _, name := range names {
		if !strings.HasPrefix(name, query.Get("prefix")) || name < query.Get("startOffset") || name <= query.Get("pageToken") {
			continue
		}
		if len(items) == limit {
			next = items[limit-1].(map[string]any)["name"].(string)
			break
		}
		items = append(items, f.resource(name, f.objects[name]))
	}
	return answer(map[string]any{"kind": "storage#objects", "items": items, "nextPageToken": next})
}

func (f *fake) resource(name string, o fakeObject) map[string]any {
	return map[string]any{
		"kind": "storage#object", "name": name, "bucket": f.bucket, "size": strconv.Itoa(len(o.body)), "kmsKeyName": o.kms,
		"generation": strconv.FormatInt(o.generation, 10), "updated": o.modified.UTC().Format(time.RFC3339Nano), "crc32c": checksum(o.body),
	}
}

func (f *fake) signBlob(body []byte) fakeAnswer {
	var in struct{ Payload []byte }
	if err := json.Unmarshal(body, &in); err != nil || f.sign == nil {
		return failure(http.StatusForbidden, "forbidden")
	}
	return answer(map[string]any{"keyId": "k", "signedBlob": f.sign(in.Payload)})
}

func answer(body any) fakeAnswer {
	text, err := json.Marshal(body)
	if err != nil {
		panic(err)
	}
	return fakeAnswer{http.StatusOK, http.Header{"Content-Type": {"application/json"}}, text}
}

// failure words a refusal as the JSON API does.
func failure(status int, reason string) fakeAnswer {
	a := answer(map[string]any{"error": map[string]any{
		"code": status, "message": "refused", "errors": []any{map[string]any{"domain": "global", "reason": reason, "message": "refused"}},
	}})
	a.status = status
	return a
}

func refusal400(reason string) fakeAnswer { return failure(http.StatusBadRequest, reason) }

// xmlFailure words a refusal as the XML API does.
func xmlFailure(status int, code string) fakeAnswer {
	return fakeAnswer{status, http.Header{"Content-Type": {"application/xml"}},
		[]byte("<?xml version='1.0' encoding='UTF-8'?><Error><Code>" + code + "</Code><Message>refused</Message></Error>")}
}
