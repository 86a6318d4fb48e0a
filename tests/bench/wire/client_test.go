package wire

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"
)

func TestClientReadsEveryFraming(t *testing.T) {
	large := bytes.Repeat([]byte("0123456789\n"), 300_000)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Location", "http://other/where?x=1")
		switch r.URL.Path {
		case "/chunked":
			for part := range slices.Chunk(large, 100_000) {
				w.Write(part)
				w.(http.Flusher).Flush()
			}
		case "/empty":
			w.WriteHeader(http.StatusNoContent)
		default:
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(large))
		}
	}))
	defer s.Close()
	c, err := Dial(s.Listener.Addr().String(), nil, time.Now().Add(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, a := range []struct { // on one connection: what one request leaves unread, the next one finds
		method, path string
		status       int
		body         []byte
	}{
		{"GET", "/chunked", 200, large}, {"GET", "/empty", 204, nil}, {"GET", "/plain", 200, large}, {"GET", "/empty", 204, nil},
		{"GET", "/chunked", 200, large}, {"HEAD", "/plain", 200, nil}, {"GET", "/plain", 200, large},
	} {
		head := Request{Method: a.method, Path: a.path}.Head()
		if err := c.Do(a.status, head, nil, nil); err != nil {
			t.Fatal(err)
		}
		if a.method == "GET" && c.Length != int64(len(a.body)) || string(c.Location) != "http://other/where?x=1" {
			t.Errorf("%s: length %d, location %q", a.path, c.Length, c.Location)
		}
		var body bytes.Buffer
		if err := c.Fetch(a.status, head, &body); err != nil || !bytes.Equal(body.Bytes(), a.body) {
			t.Errorf("%s %s: %d bytes of another content, %v", a.method, a.path, body.Len(), err)
		}
	}
}
