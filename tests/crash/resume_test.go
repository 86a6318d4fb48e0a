package crash

import (
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"berth/tests/content"
	"berth/tests/harness"
)

// cutRange parses a range such as "0-1023".
func cutRange(s string) (first, last int, ok bool) {
	a, b, ok := strings.Cut(s, "-")
	first, err1 := strconv.Atoi(a)
	last, err2 := strconv.Atoi(b)
	return first, last, ok && err1 == nil && err2 == nil
}

// settle asks where an upload stands until it is beyond a byte, for as long as a cut connection may take to be noticed.
func settle(t *testing.T, s *harness.Server, location string, beyond int) int {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		r, err := s.Get(location)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Want(204); err != nil {
			t.Fatal(err)
		}
		_, last, ok := cutRange(r.Header.Get("Range"))
		if !ok {
			t.Fatalf("the Range of the upload is %q", r.Header.Get("Range"))
		}
		if last > beyond {
			return last + 1
		}
		if time.Now().After(end) {
			t.Fatalf("the upload still stands at byte %d", last)
		}
	}
}

// cut sends the head of a PATCH for all the rest of b and no more than n bytes of it, then drops the connection.
func cut(t *testing.T, s *harness.Server, location string, b []byte, n int) {
	t.Helper()
	target, err := url.Parse(location)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", s.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	head := fmt.Sprintf("PATCH %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/octet-stream\r\nContent-Length: %d\r\n\r\n", target.RequestURI(), s.Addr, len(b))
	if _, err := conn.Write(append([]byte(head), b[:n]...)); err != nil {
		t.Fatal(err)
	}
}

// TestResume cuts the connection in the middle of a PATCH and goes on from another one, and after restarts of the server.
func TestResume(t *testing.T) {
	s := harness.Start(t, harness.Options{Race: true})
	blob := content.Random("resume", 12<<20)
	r, err := s.Do(harness.Call{Method: "POST", Path: "/v2/resume/app/blobs/uploads/"})
	if err != nil {
		t.Fatal(err)
	}
	location, at := r.Header.Get("Location"), 0
	for i, restart := range []func(){func() {}, s.Stop, s.Kill} {
		cut(t, s, location, blob.Bytes[at:], 2<<20)
		if at = settle(t, s, location, at); at > (i+1)*2<<20 {
			t.Fatalf("after the cut %d the upload stands at byte %d, more than was sent", i, at)
		}
		if i > 0 {
			restart()
			s.Restart()
			if got := settle(t, s, location, at-2); got != at {
				t.Fatalf("the upload stood at byte %d, after a restart at %d", at, got)
			}
		}
	}
	header := http.Header{"Content-Range": {fmt.Sprintf("%d-%d", at, len(blob.Bytes)-1)}}
	r, err = s.Do(harness.Call{Method: "PUT", Path: location, Query: url.Values{"digest": {blob.Digest}}, Body: blob.Bytes[at:], Header: header})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Want(201); err != nil {
		t.Fatal(err)
	}
	if _, err := s.PullBlob("resume/app", blob.Digest); err != nil {
		t.Fatal(err)
	}
}
