package api

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"berth/auth"
	"berth/storage"
	"berth/storage/memory"
)

// An opening counts the data objects that are open, and how often one was opened.
type opening struct {
	storage.Driver
	open, opened atomic.Int64
}

func (d *opening) Open(ctx context.Context, key string, off, n int64) (io.ReadCloser, storage.Info, error) {
	r, info, err := d.Driver.Open(ctx, key, off, n)
	if err != nil || !strings.HasPrefix(key, "data/") {
		return r, info, err
	}
	d.open.Add(1)
	d.opened.Add(1)
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

// A deafWriter is of a client that left.
type deafWriter struct{ *httptest.ResponseRecorder }

func (deafWriter) Write([]byte) (int, error) { return 0, errors.New("nobody is there") }

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
			w.handler.ServeHTTP(deafWriter{httptest.NewRecorder()}, r)
		}()
	}
	if n := store.open.Load(); n != 0 || store.opened.Load() == 0 {
		t.Errorf("of %d data objects that were opened %d are open", store.opened.Load(), n)
	}
}
