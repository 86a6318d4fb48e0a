package s3

import (
	"bytes"
	"crypto/md5"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"hash/crc32"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"berth/storage/remote/remotetest"
)

// A fake is a service of S3 in memory, as far as the driver uses one. It takes the place of the network.
type fake struct {
	mu      sync.Mutex
	objects map[string]fakeObject
	uploads map[string]*fakeUpload
	serial  int

	traits
	requests []string
}

// traits are what services differ in.
type traits struct {
	noPutConditions    bool
	noDeleteConditions bool
	bareETags          bool // If-Match of PUT has no quotes, as Ceph 16 understands it
	absentDeletes      bool // DELETE of what is not there passes under any condition
	emptyPages         bool // there is a page without objects before each other one
	stuckPages         bool // such a page leads nowhere
	noChecksums        bool // the service knows none
}

type fakeObject struct {
	body     []byte
	etag     string
	modified time.Time
	mark     string
}

type fakeUpload struct {
	key       string
	began     time.Time
	algorithm string // of the checksums of parts, as agreed when it began
	parts     map[int]fakePart
}

type fakePart struct {
	body []byte
	crc  string // as it was sent; "" for none
}

func newFake() *fake {
	return &fake{objects: map[string]fakeObject{}, uploads: map[string]*fakeUpload{}}
}

// take returns the requests since it was last called.
func (f *fake) take() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	requests := f.requests
	f.requests = nil
	return requests
}

// RoundTrip serves a request.
func (f *fake) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := remotetest.Body(r)
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.requests = append(f.requests, r.Method+" "+r.URL.Path)
	_, path, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	answer := f.serve(r, path, unchunk(r, body))
	answer.Header.Set("Date", time.Now().UTC().Format(http.TimeFormat))
	return answer.Response(r), nil
}

// unchunk takes the body out of the frames that checksums travel in.
func unchunk(r *http.Request, body []byte) []byte {
	if !strings.Contains(r.Header.Get("Content-Encoding"), "aws-chunked") {
		return body
	}
	var plain []byte
	for {
		line, rest, ok := bytes.Cut(body, []byte("\r\n"))
		size, err := strconv.ParseInt(string(bytes.SplitN(line, []byte(";"), 2)[0]), 16, 64)
		if !ok || err != nil || size == 0 {
			return plain
		}
		plain, body = append(plain, rest[:size]...), rest[size+2:]
	}
}

func answer(status int, body string) remotetest.Answer {
	return remotetest.Answer{Status: status, Header: http.Header{"Content-Type": {"application/xml"}}, Body: []byte(body)}
}

func failure(status int, code string) remotetest.Answer {
	return answer(status, "<Error><Code>"+code+"</Code><Message>m</Message></Error>")
}

func (f *fake) serve(r *http.Request, key string, body []byte) remotetest.Answer {
	query := r.URL.Query()
	upload := f.uploads[query.Get("uploadId")]
	switch {
	case key == "" && r.Method == http.MethodGet && query.Get("list-type") == "2":
		if f.emptyPages && query.Get("continuation-token") == "" || f.stuckPages {
			return answer(200, "<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>on</NextContinuationToken></ListBucketResult>")
		}
		return f.list(query.Get("prefix"), query.Get("start-after"), query.Get("max-keys"))
	case key == "" && query.Has("uploads"):
		return f.listUploads(query.Get("prefix"))
	case key == "" && query.Has("delete"):
		return f.deleteMany(body)
	case key == "":
		return failure(http.StatusNotImplemented, "NotImplemented")
	case query.Has("uploads"):
		f.serial++
		id := strconv.Itoa(f.serial)
		f.uploads[id] = &fakeUpload{key, time.Now(), r.Header.Get("X-Amz-Checksum-Algorithm"), map[int]fakePart{}}
		return answer(200, "<InitiateMultipartUploadResult><UploadId>"+id+"</UploadId></InitiateMultipartUploadResult>")
	case query.Has("uploadId") && upload == nil:
		return failure(http.StatusNotFound, "NoSuchUpload")
	case upload != nil && r.Method == http.MethodPut:
		return f.putPart(r, upload, body)
	case upload != nil && r.Method == http.MethodPost:
		if refusal := f.judge(upload, body); refusal.Status != 0 {
			return refusal
		}
		return f.join(r, query.Get("uploadId"), upload)
	case upload != nil:
		delete(f.uploads, query.Get("uploadId"))
		return answer(http.StatusNoContent, "")
	case r.Method == http.MethodPut:
		return f.put(r, key, body, etagOf(body))
	case r.Method == http.MethodDelete:
		return f.delete(r, key)
	}
	return f.get(r, key)
}

func etagOf(body []byte) string {
	sum := md5.Sum(body)
	return `"` + hex.EncodeToString(sum[:]) + `"`
}

func (f *fake) put(r *http.Request, key string, body []byte, etag string) remotetest.Answer {
	old, there := f.objects[key]
	if !f.noPutConditions {
		match := r.Header.Get("If-Match")
		if f.bareETags {
			old.etag = strings.Trim(old.etag, `"`)
		}
		switch {
		case match != "" && !there:
			return failure(http.StatusNotFound, "NoSuchKey")
		case match != "" && match != old.etag, r.Header.Get("If-None-Match") == "*" && there:
			return failure(http.StatusPreconditionFailed, "PreconditionFailed")
		}
	}
	f.objects[key] = fakeObject{body, etag, time.Now(), r.Header.Get("X-Amz-Meta-" + emptyMark)}
	a := answer(200, "")
	a.Header.Set("ETag", etag)
	return a
}

func (f *fake) delete(r *http.Request, key string) remotetest.Answer {
	old, there := f.objects[key]
	if match := r.Header.Get("If-Match"); match != "" && !f.noDeleteConditions {
		switch {
		case !there && !f.absentDeletes:
			return failure(http.StatusNotFound, "NoSuchKey")
		case there && match != old.etag:
			return failure(http.StatusPreconditionFailed, "PreconditionFailed")
		}
	}
	delete(f.objects, key)
	return answer(http.StatusNoContent, "")
}

func (f *fake) deleteMany(body []byte) remotetest.Answer {
	var in struct {
		Object []struct{ Key string }
	}
	if xml.Unmarshal(body, &in) != nil || len(in.Object) > bulk {
		return failure(http.StatusBadRequest, "MalformedXML")
	}
	for _, o := range in.Object {
		delete(f.objects, o.Key)
	}
	return answer(200, "<DeleteResult></DeleteResult>")
}

func (f *fake) putPart(r *http.Request, u *fakeUpload, body []byte) remotetest.Answer {
	a := answer(200, "")
	a.Header.Set("ETag", etagOf(body))
	part := fakePart{body: body}
	if !f.noChecksums && (r.Header.Get("X-Amz-Checksum-Crc32") != "" || r.Header.Get("X-Amz-Trailer") == "x-amz-checksum-crc32") {
		part.crc = base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint32(nil, crc32.ChecksumIEEE(body)))
		a.Header.Set("X-Amz-Checksum-Crc32", part.crc)
	}
	n, _ := strconv.Atoi(r.URL.Query().Get("partNumber"))
	u.parts[n] = part
	return a
}

// judge refuses a list of parts as AWS does, and as versitygw does: both are strict about checksums, in different ways.
func (f *fake) judge(u *fakeUpload, body []byte) (refusal remotetest.Answer) {
	var in struct {
		Part []struct {
			PartNumber          int
			ETag, ChecksumCRC32 string
		}
	}
	if xml.Unmarshal(body, &in) != nil || len(in.Part) != len(u.parts) {
		return failure(http.StatusBadRequest, "MalformedXML")
	}
	for _, p := range in.Part {
		part := u.parts[p.PartNumber]
		switch {
		case f.noChecksums && p.ChecksumCRC32 != "":
			return failure(http.StatusBadRequest, "MalformedXML")
		case p.ETag != etagOf(part.body), p.ChecksumCRC32 != part.crc, u.algorithm == "" && part.crc != "":
			return failure(http.StatusBadRequest, "InvalidPart")
		case u.algorithm != "" && !f.noChecksums && part.crc == "":
			return failure(http.StatusBadRequest, "InvalidRequest")
		}
	}
	return remotetest.Answer{}
}

func (f *fake) join(r *http.Request, id string, u *fakeUpload) remotetest.Answer {
	var body, sums []byte
	numbers := slices.Sorted(maps.Keys(u.parts))
	for i, n := range numbers {
		if i < len(numbers)-1 && len(u.parts[n].body) < 5<<20 {
			return failure(http.StatusBadRequest, "EntityTooSmall")
		}
		sum := md5.Sum(u.parts[n].body)
		body, sums = append(body, u.parts[n].body...), append(sums, sum[:]...)
	}
	etag := strings.TrimSuffix(etagOf(sums), `"`) + fmt.Sprintf(`-%d"`, len(numbers))
	if a := f.put(r, u.key, body, etag); a.Status != 200 {
		return a
	}
	delete(f.uploads, id)
	return answer(200, "<CompleteMultipartUploadResult></CompleteMultipartUploadResult>")
}

func (f *fake) get(r *http.Request, key string) remotetest.Answer {
	o, there := f.objects[key]
	if !there {
		return failure(http.StatusNotFound, "NoSuchKey")
	}
	if match := r.Header.Get("If-Match"); match != "" && match != o.etag {
		return failure(http.StatusPreconditionFailed, "PreconditionFailed")
	}
	a := remotetest.Answer{Status: 200, Header: http.Header{}, Body: o.body}
	a.Header.Set("ETag", o.etag)
	a.Header.Set("Last-Modified", o.modified.UTC().Format(http.TimeFormat))
	if o.mark != "" {
		a.Header.Set("X-Amz-Meta-"+emptyMark, o.mark)
	}
	a.Header.Set("Content-Length", strconv.Itoa(len(o.body)))
	text, ranged := strings.CutPrefix(r.Header.Get("Range"), "bytes=")
	if !ranged {
		return a
	}
	first, last, _ := strings.Cut(text, "-")
	from, _ := strconv.ParseInt(first, 10, 64)
	to := int64(len(o.body)) - 1
	if n, err := strconv.ParseInt(last, 10, 64); err == nil {
		to = min(to, n)
	}
	if from >= int64(len(o.body)) {
		return failure(http.StatusRequestedRangeNotSatisfiable, "InvalidRange")
	}
	a.Status, a.Body = http.StatusPartialContent, o.body[from:to+1]
	a.Header.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, to, len(o.body)))
	return a
}

func (f *fake) list(prefix, after, most string) remotetest.Answer {
	limit, err := strconv.Atoi(most)
	if err != nil {
		limit = 1000
	}
	var out strings.Builder
	n, truncated := 0, false
	for _, key := range slices.Sorted(maps.Keys(f.objects)) {
		if !strings.HasPrefix(key, prefix) || key <= after {
			continue
		}
		if truncated = n == limit; truncated {
			break
		}
		n++
		o := f.objects[key]
		fmt.Fprintf(&out, "<Contents><Key>%s</Key><Size>%d</Size><ETag>%s</ETag><LastModified>%s</LastModified></Contents>",
			key, len(o.body), strings.ReplaceAll(o.etag, `"`, "&quot;"), o.modified.UTC().Format(time.RFC3339))
	}
	return answer(200, fmt.Sprintf("<ListBucketResult><IsTruncated>%t</IsTruncated>%s</ListBucketResult>", truncated, out.String()))
}

func (f *fake) listUploads(prefix string) remotetest.Answer {
	var out strings.Builder
	for id, u := range f.uploads {
		if strings.HasPrefix(u.key, prefix) {
			fmt.Fprintf(&out, "<Upload><Key>%s</Key><UploadId>%s</UploadId><Initiated>%s</Initiated></Upload>", u.key, id, u.began.UTC().Format(time.RFC3339))
		}
	}
	return answer(200, "<ListMultipartUploadsResult><IsTruncated>false</IsTruncated>"+out.String()+"</ListMultipartUploadsResult>")
}

// over returns options of a driver over a transport.
func over(transport http.RoundTripper) Options {
	return Options{
		Bucket: "bucket", Endpoint: "http://s3.test", Root: "root", PathStyle: true, PartSize: 5 << 20,
		Credentials: Credentials{AccessKey: "key", SecretKey: "secret"},
		Transport:   func(http.RoundTripper) http.RoundTripper { return transport },
	}
}

// openOver returns a driver that lives as long as a test.
func openOver(t testing.TB, o Options) *Driver {
	t.Helper()
	d, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d
}
