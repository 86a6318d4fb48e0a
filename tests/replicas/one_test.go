package replicas

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"testing"
	"time"

	"berth/tests/content"
	"berth/tests/harness"
)

// eachShared runs a test over each store that several replicas share.
func eachShared(t *testing.T, test func(*testing.T, []*harness.Server)) {
	for _, s := range stores() {
		t.Run(s.Name, func(t *testing.T) {
			servers, _ := three(t, s)
			test(t, servers)
		})
	}
}

// wants sends a request that must be answered with a status.
func wants(t *testing.T, c *harness.Client, status int, call harness.Call) *harness.Reply {
	t.Helper()
	r, err := c.Do(call)
	must(t, err)
	must(t, r.Want(status))
	return r
}

// where is the path of a Location, which any replica takes.
func where(t *testing.T, r *harness.Reply) string {
	t.Helper()
	u, err := url.Parse(r.Header.Get("Location"))
	must(t, err)
	return u.Path
}

// TestUploadHops sends each chunk of an upload to the next replica, one of them cut off in its middle, and closes it on every
// replica, one after another.
func TestUploadHops(t *testing.T) {
	eachShared(t, func(t *testing.T, servers []*harness.Server) {
		const chunk, chunks = 300_000, 7
		b := content.Random("hops", chunk*chunks)
		r := wants(t, servers[0].Client, 202, harness.Call{Method: "POST", Path: "/v2/hop/app/blobs/uploads/"})
		at := 0
		for i := 0; at < len(b.Bytes)-chunk; i++ {
			s, location, piece := servers[i%len(servers)], where(t, r), b.Bytes[at:at+chunk]
			if i == 2 { // the client breaks off
				_, err := s.Do(harness.Call{Method: "PATCH", Path: location, Stream: io.MultiReader(bytes.NewReader(piece[:chunk/2]), broken{})})
				if err == nil {
					t.Fatal("a body that breaks off was answered")
				}
				at = standing(t, servers[(i+1)%len(servers)].Client, location, at)
				continue
			}
			header := http.Header{"Content-Range": {fmt.Sprintf("%d-%d", at, at+chunk-1)}}
			r = wants(t, s.Client, 202, harness.Call{Method: "PATCH", Path: location, Body: piece, Header: header})
			at += chunk
		}
		location := where(t, r)
		closing := harness.Call{Method: "PUT", Path: location, Query: url.Values{"digest": {b.Digest}}, Body: b.Bytes[at:]}
		for _, s := range servers {
			wants(t, s.Client, 201, closing)
		}
		closing.Query = url.Values{"digest": {content.Digest(nil)}}
		for _, s := range servers {
			r, err := s.Do(closing)
			if err != nil || r.Status < 400 || r.Status >= 500 {
				t.Errorf("closed again as another blob: %v, %v", r, err)
			}
			if _, err := s.PullBlob("hop/app", b.Digest); err != nil {
				t.Error(err)
			}
		}
	})
}

// broken is a body that breaks off.
type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrClosedPipe }

// standing asks where an upload stands, until it has moved on.
func standing(t *testing.T, c *harness.Client, location string, before int) int {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		r := wants(t, c, 204, harness.Call{Method: "GET", Path: location})
		last := 0
		if _, err := fmt.Sscanf(r.Header.Get("Range"), "0-%d", &last); err != nil {
			t.Fatalf("the Range is %q", r.Header.Get("Range"))
		}
		if last >= before {
			return last + 1
		}
		if time.Now().After(end) {
			t.Fatalf("the upload stays at byte %d", last)
		}
	}
}

// TestDeletesAreSeen has every replica know an image, and deletes by way of one of them.
func TestDeletesAreSeen(t *testing.T) {
	eachShared(t, func(t *testing.T, servers []*harness.Server) {
		set := content.Algorithm(content.Digest).Image("deleted", content.AMD64(), []int{50_000}, nil)
		must(t, servers[0].Push("gone/app", set, "v1", "v2"))
		manifest, blob := "/v2/gone/app/manifests/"+set.Top().Digest, "/v2/gone/app/blobs/"+set.Blobs[0].Digest
		everywhere := func(path string, status int) {
			t.Helper()
			for _, s := range servers {
				wants(t, s.Client, status, harness.Call{Method: "HEAD", Path: path})
			}
		}
		for _, path := range []string{manifest, blob, manifest, blob} { // twice, so that it is in memory
			everywhere(path, 200)
		}
		wants(t, servers[1].Client, 202, harness.Call{Method: "DELETE", Path: "/v2/gone/app/manifests/v1"})
		everywhere("/v2/gone/app/manifests/v1", 404) // a tag is never in memory
		everywhere("/v2/gone/app/manifests/v2", 200)
		wants(t, servers[2].Client, 202, harness.Call{Method: "DELETE", Path: blob})
		deletedBlob := time.Now()
		wants(t, servers[2].Client, 202, harness.Call{Method: "DELETE", Path: manifest})
		deletedManifest := time.Now()
		everywhere("/v2/gone/app/manifests/v2", 404)
		for _, s := range servers {
			vanishes(t, s, blob, deletedBlob)
			vanishes(t, s, manifest, deletedManifest)
		}
	})
}

// vanishes waits until a replica has seen a deletion.
func vanishes(t *testing.T, s *harness.Server, path string, since time.Time) {
	t.Helper()
	for {
		asked := time.Now()
		r, err := s.Do(harness.Call{Method: "HEAD", Path: path})
		must(t, err)
		if r.Status == 404 {
			t.Logf("%s: gone %v after the deletion", s.Addr, asked.Sub(since).Round(time.Millisecond))
			return
		}
		if asked.Sub(since) > seen {
			t.Fatalf("%s still has %s %v after it was deleted", s.Addr, path, asked.Sub(since))
		}
		time.Sleep(50 * time.Millisecond)
	}
}
