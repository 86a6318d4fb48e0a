package azure

import (
	"encoding/base64"
	"encoding/xml"
	"fmt"
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

// A fake is a service of Blob Storage in memory, as far as the driver uses one. It takes the place of the network.
type fake struct {
	mu     sync.Mutex
	blobs  map[string]fakeBlob
	blocks map[string]map[string][]byte // that are in no blob yet, by blob and id
	serial int

	traits
	requests []string
}

// traits are what services differ in.
type traits struct {
	noConditions bool
	byFolders    bool // lists as one with a hierarchical namespace
	dropsDots    bool // at the ends of names
	noDelegation bool // gives no user delegation keys
	pageSize     int  // of a listing; 0 means 5000
	public       bool
}

type fakeBlob struct {
	body     []byte
	etag     string
	modified time.Time
	blocks   map[string][]byte
}

func newFake() *fake {
	return &fake{blobs: map[string]fakeBlob{}, blocks: map[string]map[string][]byte{}}
}

func answer(status int, body string) remotetest.Answer {
	return remotetest.Answer{Status: status, Header: http.Header{"Content-Type": {"application/xml"}}, Body: []byte(body)}
}

func failure(status int, code string) remotetest.Answer {
	a := answer(status, "<Error><Code>"+code+"</Code><Message>m</Message></Error>")
	a.Header.Set("x-ms-error-code", code)
	return a
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
	for name, values := range maps.Clone(r.Header) { // which the library writes as it likes
		r.Header[http.CanonicalHeaderKey(name)] = values
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.requests = append(f.requests, r.Method+" "+r.URL.Path+" "+r.URL.Query().Get("comp"))
	_, name, _ := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(r.URL.Path, "/account"), "/"), "/")
	if f.dropsDots {
		name = strings.TrimSuffix(name, ".")
	}
	a := f.serve(r, name, body)
	a.Header.Set("Date", time.Now().UTC().Format(http.TimeFormat))
	return a.Response(r), nil
}

func (f *fake) serve(r *http.Request, name string, body []byte) remotetest.Answer {
	query := r.URL.Query()
	switch {
	case query.Get("comp") == "userdelegationkey":
		return f.delegate(body)
	case query.Get("comp") == "list":
		return f.list(query.Get("prefix"), query.Get("marker"), query.Get("maxresults"))
	case query.Get("restype") == "container":
		a := answer(200, "")
		if f.public {
			a.Header.Set("x-ms-blob-public-access", "blob")
		}
		return a
	case query.Get("comp") == "block":
		if f.blocks[name] == nil {
			f.blocks[name] = map[string][]byte{}
		}
		f.blocks[name][query.Get("blockid")] = body
		return answer(201, "")
	case query.Get("comp") == "blocklist":
		return f.commit(r, name, body)
	case r.Method == http.MethodPut:
		return f.put(r, name, fakeBlob{body: body})
	case r.Method == http.MethodDelete:
		return f.delete(r, name)
	}
	return f.get(r, name)
}

// refusal is what a condition makes of a request, if it does not hold.
func (f *fake) refusal(r *http.Request, old fakeBlob, there bool) *remotetest.Answer {
	match := r.Header.Get("If-Match")
	var a remotetest.Answer
	switch {
	case f.noConditions:
		return nil
	case r.Header.Get("If-None-Match") == "*" && there:
		a = failure(http.StatusConflict, "BlobAlreadyExists")
	case match != "" && (!there || match != old.etag):
		a = failure(http.StatusPreconditionFailed, "ConditionNotMet")
	default:
		return nil
	}
	return &a
}

func (f *fake) put(r *http.Request, name string, b fakeBlob) remotetest.Answer {
	old, there := f.blobs[name]
	if a := f.refusal(r, old, there); a != nil {
		return *a
	}
	f.serial++
	b.etag, b.modified = fmt.Sprintf(`"0x8D%012X"`, f.serial), time.Now()
	f.blobs[name] = b
	delete(f.blocks, name)
	a := answer(201, "")
	a.Header.Set("ETag", b.etag)
	a.Header.Set("Last-Modified", b.modified.UTC().Format(http.TimeFormat))
	return a
}

// commit makes a blob of blocks: of new ones, and of those that the blob has.
func (f *fake) commit(r *http.Request, name string, body []byte) remotetest.Answer {
	var in struct{ Latest []string }
	if xml.Unmarshal(body, &in) != nil {
		return failure(http.StatusBadRequest, "InvalidXmlDocument")
	}
	b := fakeBlob{blocks: map[string][]byte{}}
	for _, id := range in.Latest {
		block, ok := f.blocks[name][id]
		if !ok {
			block, ok = f.blobs[name].blocks[id]
		}
		if raw, err := base64.StdEncoding.DecodeString(id); !ok || err != nil || len(raw) > 64 {
			return failure(http.StatusBadRequest, "InvalidBlockList")
		}
		b.body, b.blocks[id] = append(b.body, block...), block
	}
	return f.put(r, name, b)
}

func (f *fake) delete(r *http.Request, name string) remotetest.Answer {
	old, there := f.blobs[name]
	if !there {
		return failure(http.StatusNotFound, "BlobNotFound")
	}
	if a := f.refusal(r, old, there); a != nil {
		return *a
	}
	delete(f.blobs, name)
	return answer(http.StatusAccepted, "")
}

func (f *fake) get(r *http.Request, name string) remotetest.Answer {
	b, there := f.blobs[name]
	if !there {
		return failure(http.StatusNotFound, "BlobNotFound")
	}
	if a := f.refusal(r, b, there); a != nil {
		return *a
	}
	a := remotetest.Answer{Status: 200, Header: http.Header{}, Body: b.body}
	a.Header.Set("ETag", b.etag)
	a.Header.Set("Last-Modified", b.modified.UTC().Format(http.TimeFormat))
	a.Header.Set("Content-Length", strconv.Itoa(len(b.body)))
	text, ranged := strings.CutPrefix(r.Header.Get("x-ms-range"), "bytes=")
	if !ranged {
		return a
	}
	first, last, _ := strings.Cut(text, "-")
	from, _ := strconv.ParseInt(first, 10, 64)
	to := int64(len(b.body)) - 1
	if n, err := strconv.ParseInt(last, 10, 64); err == nil {
		to = min(to, n)
	}
	if from >= int64(len(b.body)) {
		return failure(http.StatusRequestedRangeNotSatisfiable, "InvalidRange")
	}
	a.Status, a.Body = http.StatusPartialContent, b.body[from:to+1]
	a.Header.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, to, len(b.body)))
	a.Header.Set("Content-Length", strconv.Itoa(len(a.Body)))
	return a
}

// list has pages whose marker is the name that comes next.
func (f *fake) list(prefix, marker, most string) remotetest.Answer {
	limit, err := strconv.Atoi(most)
	if err != nil {
		limit = 5000
	}
	if f.pageSize > 0 {
		limit = min(limit, f.pageSize)
	}
	order := strings.Compare
	if f.byFolders {
		order = func(a, b string) int { return slices.Compare(strings.Split(a, "/"), strings.Split(b, "/")) }
	}
	names := slices.SortedFunc(maps.Keys(f.blobs), order)
	names = slices.DeleteFunc(names, func(name string) bool { return !strings.HasPrefix(name, prefix) })
	from, _ := slices.BinarySearchFunc(names, marker, order) // which may be gone
	names = names[from:]
	next := ""
	if len(names) > limit {
		names, next = names[:limit], names[limit]
	}
	var out strings.Builder
	for _, name := range names {
		b := f.blobs[name]
		fmt.Fprintf(&out, "<Blob><Name>%s</Name><Properties><Content-Length>%d</Content-Length><Etag>%s</Etag><Last-Modified>%s</Last-Modified></Properties></Blob>",
			name, len(b.body), strings.Trim(b.etag, `"`), b.modified.UTC().Format(http.TimeFormat))
	}
	return answer(200, fmt.Sprintf("<EnumerationResults><Blobs>%s</Blobs><NextMarker>%s</NextMarker></EnumerationResults>", out.String(), next))
}

// delegate gives a key, whose times must be within seven days of now and of each other.
func (f *fake) delegate(body []byte) remotetest.Answer {
	if f.noDelegation {
		return failure(http.StatusForbidden, "AuthorizationPermissionMismatch")
	}
	var in struct{ Start, Expiry time.Time }
	if err := xml.Unmarshal(body, &in); err != nil {
		return failure(http.StatusBadRequest, "InvalidXmlDocument")
	}
	const most = 7 * 24 * time.Hour
	if time.Since(in.Start).Abs() > most || time.Until(in.Expiry).Abs() > most || in.Expiry.Sub(in.Start) > most {
		return failure(http.StatusBadRequest, "InvalidXmlNodeValue")
	}
	return answer(200, fmt.Sprintf("<UserDelegationKey><SignedOid>oid</SignedOid><SignedTid>tid</SignedTid><SignedStart>%s</SignedStart>"+
		"<SignedExpiry>%s</SignedExpiry><SignedService>b</SignedService><SignedVersion>2020-02-10</SignedVersion><Value>a2V5</Value></UserDelegationKey>",
		in.Start.Format(time.RFC3339), in.Expiry.Format(time.RFC3339)))
}

// over returns options of a driver over a transport.
func over(transport http.RoundTripper) Options {
	return Options{
		Account: "account", Container: "container", Root: "root", PartSize: 5 << 20,
		Credentials: Credentials{Key: "c2VjcmV0"},
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
