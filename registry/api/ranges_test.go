package api

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"berth/auth"
	"berth/storage"
	"berth/storage/memory"
)

// An opening counts the data objects that are open, how often one was opened, and how many bytes were asked for.
type opening struct {
	storage.Driver
	open, opened, asked atomic.Int64
}

func (d *opening) Open(ctx context.Context, key string, off, n int64) (io.ReadCloser, storage.Info, error) {
	r, info, err := d.Driver.Open(ctx, key, off, n)
	if err != nil || !strings.HasPrefix(key, "data/") {
		return r, info, err
	}
	d.open.Add(1)
	d.opened.Add(1)
	d.asked.Add(n)
	return &opened{Reader: r, inner: r, d: d}, info, nil
}

type opened struct {
	io.Reader // which hides that one can seek, as over a bucket
	inner     io.Closer
	d         *opening
}

func (o *opened) Close() error {
	o.d.open.Add(-1)
	return o.inner.Close()
}

// A deafWriter is of a client that leaves once it has the headers of the first range.
type deafWriter struct {
	*httptest.ResponseRecorder
	had bool
}

func (w *deafWriter) Write(p []byte) (int, error) {
	if w.had {
		return 0, errors.New("nobody is there")
	}
	w.had = true
	return len(p), nil
}

// TestLeftInSeveralRanges has a client leave in the middle of several ranges of a blob in two data objects, again and again: what
// still reads then opens nothing that nobody closes.
func TestLeftInSeveralRanges(t *testing.T) {
	store := &opening{Driver: memory.New()}
	w := newWorldOver(t, store, auth.Anonymous{}, auth.AllowAll{}, nil)
	w.run(
		exchange{do: "POST /v2/a/blobs/uploads/", want: 202},
		exchange{do: "PATCH {loc}", body: "hello ", want: 202},
		exchange{do: "PATCH {loc}", body: "world", want: 202},
		exchange{do: "PUT {loc}?digest={hello world}", want: 201},
	)
	for range 2000 {
		func() {
			defer func() { recover() }() // the answer is aborted
			r := httptest.NewRequest(http.MethodGet, w.expand("/v2/a/blobs/{hello world}"), nil)
			r.Header.Set("Range", "bytes=0-0,8-8,1-1,9-9")
			w.handler.ServeHTTP(&deafWriter{ResponseRecorder: httptest.NewRecorder()}, r)
		}()
	}
	if n := store.open.Load(); n != 0 || store.opened.Load() == 0 {
		t.Errorf("of %d data objects that were opened %d are open", store.opened.Load(), n)
	}
}

// TestManyRanges asks for as many ranges as podman does at most, of a blob in one data object and in three, as over a bucket: ranges
// that are close to each other are read at once, others are asked for one by one, and nothing else is.
func TestManyRanges(t *testing.T) {
	const size = 8 << 20
	content := make([]byte, size)
	for i := range content {
		content[i] = byte(i ^ i>>8 ^ i>>16)
	}
	for _, chunks := range []int{1, 3} {
		store := &opening{Driver: memory.New()}
		w := newWorldOver(t, store, auth.Anonymous{}, auth.AllowAll{}, nil)
		w.name("blob", string(content))
		w.run(exchange{do: "POST /v2/a/blobs/uploads/", want: 202})
		for i := range chunks {
			w.run(exchange{do: "PATCH {loc}", body: string(content[size*i/chunks : size*(i+1)/chunks]), want: 202})
		}
		w.run(
			exchange{do: "PUT {loc}?digest={blob}", want: 201},
			exchange{do: "GET /v2/a/blobs/{blob}", header: "Range: bytes=0-0,9-9", want: 206}, // by which it is seen that readers cannot seek
		)
		for _, test := range []struct {
			name            string
			n, first, step  int
			length          int
			opened, further int64 // how often, and how many bytes are read in between
		}{
			{"close to each other", maxRanges, 5, 4000, 100, int64(chunks), (maxRanges - 1) * 3900},
			{"far from each other", 20, 9, 400_000, 100, 20, 0},
			{"backwards", 20, size - 100, -400_000, 100, 20, 0},
			{"backwards, close to each other", 20, size - 100, -200, 100, 20, 0},
			{"one over another", 20, 0, 50, 100, 40, 0},
			{"side by side", maxRanges, 0, 100, 100, 1, 0},
		} {
			opened, asked := store.opened.Load(), store.asked.Load()
			w.wantRanges(fmt.Sprintf("%s, in %d data objects", test.name, chunks), content, test.n, test.first, test.step, test.length)
			opened, asked = store.opened.Load()-opened, store.asked.Load()-asked
			if want := int64(test.n*test.length) + test.further; opened > test.opened || asked > want {
				t.Errorf("%s, in %d data objects: %d were opened for %d bytes, want %d for %d at most", test.name, chunks, opened, asked, test.opened, want)
			}
		}
	}
}

// wantRanges asks for n ranges of the blob {blob}.
func (w *world) wantRanges(name string, content []byte, n, first, step, length int) {
	w.t.Helper()
	var ranges []string
	for i := range n {
		ranges = append(ranges, fmt.Sprintf("%d-%d", first+i*step, first+i*step+length-1))
	}
	r := httptest.NewRequest(http.MethodGet, w.expand("/v2/a/blobs/{blob}"), nil)
	r.Header.Set("Range", "bytes="+strings.Join(ranges, ","))
	answer := httptest.NewRecorder()
	w.handler.ServeHTTP(answer, r)
	kind, parameters, err := mime.ParseMediaType(answer.Header().Get("Content-Type"))
	if answer.Code != http.StatusPartialContent || kind != "multipart/byteranges" || err != nil {
		w.t.Fatalf("%s: answered %d with %v", name, answer.Code, answer.Header())
	}
	parts := multipart.NewReader(answer.Body, parameters["boundary"])
	for i := range n {
		part, err := parts.NextPart()
		if err != nil {
			w.t.Fatalf("%s: part %d: %v", name, i, err)
		}
		from := first + i*step
		body, err := io.ReadAll(part)
		if got, want := part.Header.Get("Content-Range"), fmt.Sprintf("bytes %s/%d", ranges[i], len(content)); err != nil || got != want || !bytes.Equal(body, content[from:from+length]) {
			w.t.Fatalf("%s: part %d is %s with %d bytes, %v", name, i, got, len(body), err)
		}
	}
	if _, err := parts.NextPart(); err != io.EOF {
		w.t.Errorf("%s: after the last part: %v", name, err)
	}
}
