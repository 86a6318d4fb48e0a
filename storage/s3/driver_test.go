package s3

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"berth/storage"
	"berth/storage/remote/remotetest"
	"berth/storage/storagetest"
)

// The ways of the driver, by what a service can do.
var ways = []struct {
	name     string
	service  traits
	change   func(*Options)
	emulated bool
	direct   bool
}{
	{name: "tombstones", service: traits{noDeleteConditions: true}},
	{name: "AWS", service: traits{}, change: func(o *Options) { o.Endpoint, o.Region = "", "eu-central-1" }, direct: true},
	{name: "a DELETE of nothing that passes", service: traits{absentDeletes: true},
		change: func(o *Options) { o.Endpoint, o.Region = "", "eu-central-1" }},
	{name: "ETags without quotes", service: traits{noDeleteConditions: true, bareETags: true}},
	{name: "no conditional PUT", service: traits{noPutConditions: true}, change: func(o *Options) { o.Replicas = 1 }, emulated: true},
}

func TestSuite(t *testing.T) {
	for _, way := range ways {
		t.Run(way.name, func(t *testing.T) {
			storagetest.Test(t, func(t *testing.T) storage.Driver {
				service := newFake()
				service.traits = way.service
				o := over(service)
				if way.change != nil {
					way.change(&o)
				}
				d := openOver(t, o)
				if d.emulated != way.emulated || d.direct != way.direct {
					t.Fatalf("emulated is %t, direct %t", d.emulated, d.direct)
				}
				return d
			})
		})
	}
}

func TestProbeLeavesNothing(t *testing.T) {
	service := newFake()
	openOver(t, over(service))
	if len(service.objects) != 0 || len(service.uploads) != 0 {
		t.Errorf("the probe left %v", service.objects)
	}
	t.Logf("%d requests: %q", len(service.requests), service.requests)
}

func TestRefusesWithoutConditions(t *testing.T) {
	service := newFake()
	service.noPutConditions = true
	_, err := Open(t.Context(), over(service))
	if err == nil || !strings.Contains(err.Error(), "storage.replicas") {
		t.Errorf("Open = %v, want an error about storage.replicas", err)
	}
}

// TestTombstones looks at what a deletion under a condition leaves.
func TestTombstones(t *testing.T) {
	service := newFake()
	d := openOver(t, over(service))
	info, err := d.Put(t.Context(), "a/b", strings.NewReader("x"), 1, storage.Absent())
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Delete(t.Context(), "a/b", storage.Match(info.Rev)); err != nil {
		t.Fatal(err)
	}
	if o, ok := service.objects["root/a/b"]; !ok || len(o.body) != 0 {
		t.Errorf("the bucket has %q, %t where a tombstone is expected", o.body, ok)
	}
	if _, err := d.Stat(t.Context(), "a/b"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Stat of a tombstone = %v", err)
	}
	if _, err := d.Put(t.Context(), "a/b", strings.NewReader(""), 0, storage.Absent()); err != nil {
		t.Errorf("Put over a tombstone = %v", err)
	}
	if info, err := d.Stat(t.Context(), "a/b"); err != nil || info.Size != 0 {
		t.Errorf("Stat of an empty object = %+v, %v", info, err)
	}
}

// TestForeignKeys has the bucket contain what is not ours.
func TestForeignKeys(t *testing.T) {
	service := newFake()
	d := openOver(t, over(service))
	for _, key := range []string{"root/folder/", "root/with space", "rootless", "root"} {
		service.objects[key] = fakeObject{body: []byte("foreign"), etag: `"e"`}
	}
	for info, err := range d.List(t.Context(), "", "") {
		t.Errorf("List yields %+v, %v", info, err)
	}
}

// TestEmptyPages wants a page without objects not to be taken for the end: a collection would take what follows for gone.
func TestEmptyPages(t *testing.T) {
	service := newFake()
	d := openOver(t, over(service))
	for i := range 2500 {
		service.objects[fmt.Sprintf("root/blobs/%04d", i)] = fakeObject{body: []byte("x"), etag: `"e"`}
	}
	service.emptyPages = true
	n := 0
	for _, err := range d.List(t.Context(), "blobs/", "") {
		if n++; err != nil {
			t.Fatal(err)
		}
	}
	if n != 2500 {
		t.Errorf("List yields %d of 2500 objects", n)
	}
	service.stuckPages = true
	for info, err := range d.List(t.Context(), "blobs/", "") {
		if !errors.Is(err, storage.ErrUnavailable) {
			t.Errorf("a listing that does not go on yields %+v, %v", info, err)
		}
		n = 0
	}
	if n != 0 {
		t.Error("a listing that does not go on ends as if it were complete")
	}
}

// TestPartsChecksums joins parts with and without checksums, over services that are strict about them and one that knows none.
func TestPartsChecksums(t *testing.T) {
	for _, checksums := range []string{"", "when_supported", "when_required"} {
		for _, endpoint := range []string{"http://s3.test", "https://s3.test"} { // the checksum is in a header, and in a trailer
			for _, none := range []bool{false, true} {
				service := newFake()
				service.noChecksums = none
				o := over(service)
				o.Checksums, o.Endpoint = checksums, endpoint
				d := openOver(t, o)
				info, err := d.Put(t.Context(), "data/x", strings.NewReader(strings.Repeat("x", 10<<20+1)), -1, storage.Cond{})
				if err != nil || info.Size != 10<<20+1 {
					t.Errorf("checksums %q over %s, none known: %t: Put = %+v, %v", checksums, endpoint, none, info, err)
				}
			}
		}
	}
}

// TestPartsRefused wants the parts removed that a service refuses to join, and left alone where it may have joined them.
func TestPartsRefused(t *testing.T) {
	for _, test := range []struct {
		status int
		code   string
		left   int
	}{{400, "InvalidPart", 0}, {403, "AccessDenied", 0}, {503, "SlowDown", 0}, {500, "InternalError", 1}} {
		t.Run(test.code, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				service := newFake()
				d := openOver(t, over(refusing{service, failure(test.status, test.code)}))
				_, err := d.Put(t.Context(), "data/x", strings.NewReader(strings.Repeat("x", 5<<20+1)), -1, storage.Cond{})
				if err == nil || !strings.Contains(err.Error(), test.code) {
					t.Errorf("Put = %v", err)
				}
				if len(service.uploads) != test.left {
					t.Errorf("%d uploads are left", len(service.uploads))
				}
			})
		})
	}
}

// refusing is a service that joins no parts.
type refusing struct {
	*fake
	answer remotetest.Answer
}

func (r refusing) RoundTrip(request *http.Request) (*http.Response, error) {
	if request.Method == http.MethodPost && request.URL.Query().Has("uploadId") {
		return r.answer.Response(request), nil
	}
	return r.fake.RoundTrip(request)
}

// TestTidy removes the parts of abandoned uploads of ours, and no others.
func TestTidy(t *testing.T) {
	service := newFake()
	d := openOver(t, over(service))
	old := time.Now().Add(-10 * 24 * time.Hour)
	service.uploads["old"] = &fakeUpload{key: "root/data/1/x", began: old}
	service.uploads["new"] = &fakeUpload{key: "root/data/1/y", began: time.Now()}
	service.uploads["foreign"] = &fakeUpload{key: "backup/z", began: old}
	service.uploads["under way"] = &fakeUpload{key: "root/data/1/z", began: old}
	n, _, err := d.Tidy(t.Context(), time.Now().Add(-time.Hour), func(key string) bool { return key == "data/1/z" })
	if _, left := service.uploads["old"]; err != nil || n != 1 || left || len(service.uploads) != 3 {
		t.Errorf("Tidy = %d, %v and left %v", n, err, service.uploads)
	}
	if n, _, err = d.Tidy(t.Context(), time.Now().Add(-time.Hour), nil); err != nil || n != 1 || len(service.uploads) != 2 {
		t.Errorf("Tidy that keeps nothing = %d, %v and left %v", n, err, service.uploads)
	}
}

func TestCompact(t *testing.T) {
	service := newFake()
	d := openOver(t, over(service))
	for i := range 1500 {
		key := fmt.Sprintf("tags/%04d", i)
		info, err := d.Put(t.Context(), key, strings.NewReader("x"), 1, storage.Absent())
		if err != nil {
			t.Fatal(err)
		}
		if i%3 > 0 {
			if err := d.Delete(t.Context(), key, storage.Match(info.Rev)); err != nil {
				t.Fatal(err)
			}
		}
	}
	service.objects["root/tags/folder/"] = fakeObject{etag: `"e"`}
	service.objects["root/other/0"] = fakeObject{etag: `"e"`}
	if n, err := d.Compact(t.Context(), "tags/"); err != nil || n != 1000 || len(service.objects) != 502 {
		t.Errorf("Compact = %d, %v; %d objects are left", n, err, len(service.objects))
	}
	if n, err := d.Compact(t.Context(), "tags/"); err != nil || n != 0 {
		t.Errorf("again: %d, %v", n, err)
	}
}

func TestDeleteAll(t *testing.T) {
	service := newFake()
	d := openOver(t, over(service))
	var keys []string
	for i := range 2500 {
		keys = append(keys, "data/"+random()[:8]+string(rune('a'+i%26)))
		service.objects["root/"+keys[i]] = fakeObject{body: []byte("x"), etag: `"e"`}
	}
	service.requests = nil
	if err := storage.DeleteAll(t.Context(), d, keys...); err != nil || len(service.objects) != 0 || len(service.requests) != 3 {
		t.Errorf("DeleteAll = %v; %d objects are left after %d requests", err, len(service.objects), len(service.requests))
	}
}

// TestPartlyDeleted: a service that may not delete some objects is not dead, which would keep everybody else from asking it.
func TestPartlyDeleted(t *testing.T) {
	if v := judge(fmt.Errorf("%w: data/x: AccessDenied", errPartly)); v.Dead || !v.Retry || !errors.Is(v.Class, storage.ErrUnavailable) {
		t.Errorf("%+v", v)
	}
}

// TestCalls counts the requests of each operation.
func TestCalls(t *testing.T) {
	service := newFake()
	d := openOver(t, over(service))
	count := remotetest.Counter{T: t, Take: service.take}
	count.Calls(d, 5<<20, 5)
	count.Want("a URL", 0, func() error { _, err := d.SignedURL(t.Context(), "k", time.Minute); return err })
}
