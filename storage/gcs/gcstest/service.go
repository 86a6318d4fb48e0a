// Package gcstest is Google Cloud Storage in memory, for tests: of the driver, whose network it takes the place of, and of
// registries, as a server. It is strict where emulators are not.
package gcstest

import (
	"crypto/rsa"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"berth/storage/remote/remotetest"
)

// A Service is what the driver and the client library use of the service. It keeps to the conditions on generations, to the
// protocol of resumable sessions, and to who may read by a signed URL. What is exported is set before it is asked, and looked
// at when nobody asks it.
type Service struct {
	Bucket  string
	Objects map[string]Object

	Paced    bool                        // takes one write a second to one object
	Lax      bool                        // ignores conditions of DELETE, as fake-gcs-server does
	Laxer    bool                        // ignores all conditions
	Payer    string                      // the project that requests must name
	SignBlob func(payload []byte) []byte // answers IAM's signBlob; nil refuses
	Signed   *rsa.PublicKey              // whose signature a request without a token must have; nil: everybody may do everything

	mu        sync.Mutex
	sessions  map[string]*session
	written   map[string]time.Time // the last write to each name, also of what is deleted
	serial    int64
	requests  []string
	throttled int
}

// An Object is what there is of one, now.
type Object struct {
	Body       []byte
	Generation int64
	Modified   time.Time
	KMS        string // the key that it is encrypted with
}

// A session is an upload that goes on.
type session struct {
	name string
	cond url.Values
	body []byte
	done *remotetest.Answer
}

// ChunkUnit is the least size of a chunk, of which others are multiples, in bytes.
const ChunkUnit = 256 << 10

// New returns a service with one bucket, which is empty.
func New() *Service {
	return &Service{Bucket: "registry", Objects: map[string]Object{}, sessions: map[string]*session{}, written: map[string]time.Time{},
		serial: 1_700_000_000_000_000}
}

// Take returns the requests since it was last called, as method and path, and how many of them were refused because they wrote
// an object too often.
func (s *Service) Take() (requests []string, throttled int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	requests, throttled = s.requests, s.throttled
	s.requests, s.throttled = nil, 0
	return requests, throttled
}

// ServeHTTP makes a server of s.
func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	r.URL.Scheme, r.URL.Host = "http", r.Host
	response, err := s.RoundTrip(r)
	if err != nil {
		panic(http.ErrAbortHandler) // the client broke off
	}
	maps.Copy(w.Header(), response.Header)
	if response.StatusCode != http.StatusNoContent {
		w.Header().Set("Content-Length", strconv.FormatInt(response.ContentLength, 10))
	}
	w.WriteHeader(response.StatusCode)
	_, _ = io.Copy(w, response.Body) // to a client that may be gone
}

// RoundTrip serves a request.
func (s *Service) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := remotetest.Body(r)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = append(s.requests, r.Method+" "+r.URL.Path)
	return s.serve(r, body).Response(r), nil
}

func (s *Service) serve(r *http.Request, body []byte) remotetest.Answer {
	const api = "/storage/v1/b/"
	query := r.URL.Query()
	path, uploading := strings.CutPrefix(r.URL.EscapedPath(), "/upload")
	rest, isJSON := strings.CutPrefix(path, api)
	switch {
	case s.Signed != nil && !s.allowed(r):
		return XMLFailure(http.StatusForbidden, "SignatureDoesNotMatch")
	case strings.HasSuffix(r.URL.Path, ":signBlob"):
		return s.signBlob(body)
	case s.Payer != "" && query.Get("userProject") != s.Payer && r.Header.Get("X-Goog-User-Project") != s.Payer:
		return refusal400("required")
	case uploading && query.Has("upload_id"):
		return s.resume(r, s.sessions[query.Get("upload_id")], body)
	case !isJSON:
		return s.media(r)
	}
	bucket, object, _ := strings.Cut(rest, "/o")
	name, err := url.PathUnescape(strings.TrimPrefix(object, "/"))
	if err != nil || bucket != s.Bucket {
		return Failure(http.StatusNotFound, "notFound")
	}
	switch {
	case uploading:
		return s.upload(r, query, body)
	case name == "" && strings.HasSuffix(rest, "/o"):
		return s.list(query)
	case name == "":
		return answer(map[string]any{"kind": "storage#bucket", "name": s.Bucket})
	case r.Method == http.MethodDelete:
		return s.remove(name, query)
	}
	o, ok := s.Objects[name]
	if !ok {
		return Failure(http.StatusNotFound, "notFound")
	}
	return answer(s.resource(name, o))
}

// media serves an object by the XML API.
func (s *Service) media(r *http.Request) remotetest.Answer {
	bucket, name, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	o, ok := s.Objects[name]
	only := r.URL.Query().Get("generation")
	switch {
	case bucket != s.Bucket:
		return XMLFailure(http.StatusNotFound, "NoSuchBucket")
	case !ok || only != "" && only != strconv.FormatInt(o.Generation, 10):
		return XMLFailure(http.StatusNotFound, "NoSuchKey")
	}
	a := remotetest.Answer{Status: http.StatusOK, Header: http.Header{}, Body: o.Body}
	if spec, ok := strings.CutPrefix(r.Header.Get("Range"), "bytes="); ok {
		first, last, _ := strings.Cut(spec, "-")
		from, _ := strconv.Atoi(first)
		to := len(o.Body) - 1
		if n, err := strconv.Atoi(last); err == nil {
			to = min(to, n)
		}
		if from > to {
			return XMLFailure(http.StatusRequestedRangeNotSatisfiable, "InvalidRange")
		}
		a.Status, a.Body = http.StatusPartialContent, o.Body[from:to+1]
		a.Header.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, to, len(o.Body)))
	}
	a.Header.Set("Last-Modified", o.Modified.UTC().Format(http.TimeFormat))
	a.Header.Set("X-Goog-Generation", strconv.FormatInt(o.Generation, 10))
	a.Header.Set("X-Goog-Hash", "crc32c="+checksum(o.Body))
	return a
}

func checksum(body []byte) string {
	return base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint32(nil, crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli))))
}

// holds reports whether the condition of a change holds.
func (s *Service) holds(name string, cond url.Values) bool {
	if !cond.Has("ifGenerationMatch") || s.Laxer {
		return true
	}
	return cond.Get("ifGenerationMatch") == strconv.FormatInt(s.Objects[name].Generation, 10)
}

// early reports whether a name was written a moment ago.
func (s *Service) early(name string) bool {
	if s.Paced && time.Since(s.written[name]) < time.Second {
		s.throttled++
		return true
	}
	return false
}

func (s *Service) remove(name string, query url.Values) remotetest.Answer {
	o, ok := s.Objects[name]
	only := query.Get("generation")
	switch {
	case !ok || only != "" && only != strconv.FormatInt(o.Generation, 10):
		return Failure(http.StatusNotFound, "notFound")
	case !s.Lax && !s.holds(name, query):
		return Failure(http.StatusPreconditionFailed, "conditionNotMet")
	case s.early(name):
		return Failure(http.StatusTooManyRequests, "rateLimitExceeded")
	}
	delete(s.Objects, name)
	s.written[name] = time.Now()
	return remotetest.Answer{Status: http.StatusNoContent, Header: http.Header{}}
}

func (s *Service) list(query url.Values) remotetest.Answer {
	names := slices.Sorted(maps.Keys(s.Objects))
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
		items = append(items, s.resource(name, s.Objects[name]))
	}
	return answer(map[string]any{"kind": "storage#objects", "items": items, "nextPageToken": next})
}

func (s *Service) resource(name string, o Object) map[string]any {
	return map[string]any{
		"kind": "storage#object", "name": name, "bucket": s.Bucket, "size": strconv.Itoa(len(o.Body)), "kmsKeyName": o.KMS,
		"generation": strconv.FormatInt(o.Generation, 10), "updated": o.Modified.UTC().Format(time.RFC3339Nano), "crc32c": checksum(o.Body),
	}
}

func (s *Service) signBlob(body []byte) remotetest.Answer {
	var in struct{ Payload []byte }
	if err := json.Unmarshal(body, &in); err != nil || s.SignBlob == nil {
		return Failure(http.StatusForbidden, "forbidden")
	}
	return answer(map[string]any{"keyId": "k", "signedBlob": s.SignBlob(in.Payload)})
}

// answer words what can always be worded.
func answer(body any) remotetest.Answer {
	text, err := json.Marshal(body)
	if err != nil {
		panic(err)
	}
	return remotetest.Answer{Status: http.StatusOK, Header: http.Header{"Content-Type": {"application/json"}}, Body: text}
}

// Failure words a refusal as the JSON API does.
func Failure(status int, reason string) remotetest.Answer {
	a := answer(map[string]any{"error": map[string]any{
		"code": status, "message": "refused", "errors": []any{map[string]any{"domain": "global", "reason": reason, "message": "refused"}},
	}})
	a.Status = status
	return a
}

func refusal400(reason string) remotetest.Answer { return Failure(http.StatusBadRequest, reason) }

// XMLFailure words a refusal as the XML API does.
func XMLFailure(status int, code string) remotetest.Answer {
	return remotetest.Answer{Status: status, Header: http.Header{"Content-Type": {"application/xml"}},
		Body: []byte("<?xml version='1.0' encoding='UTF-8'?><Error><Code>" + code + "</Code><Message>refused</Message></Error>")}
}
