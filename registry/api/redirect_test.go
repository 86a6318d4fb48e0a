package api

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"berth/auth"
	"berth/registry"
	"berth/registry/observe"
	"berth/storage"
	"berth/storage/memory"
	"berth/storage/storagetest"
)

// A signing driver has URLs of its objects, counts what is asked of it otherwise, and has readers that cannot seek.
type signing struct{ *storagetest.Flaky }

func (s signing) Open(ctx context.Context, key string, off, n int64) (io.ReadCloser, storage.Info, error) {
	r, info, err := s.Flaky.Open(ctx, key, off, n)
	return struct{ io.ReadCloser }{r}, info, err
}

func (signing) SignedURL(_ context.Context, key string, expiry time.Duration) (string, error) {
	return fmt.Sprintf("https://store.example.org/%s?for=%s", key, expiry), nil
}

// serveSigned serves a store that signs, with blobs of the given contents, and returns their URLs.
func serveSigned(t *testing.T, store storage.Driver, contents ...string) (urls []string) {
	t.Helper()
	reg, err := registry.Open(t.Context(), store, nil)
	if err != nil {
		t.Fatal(err)
	}
	name, err := registry.ParseName("a")
	if err != nil {
		t.Fatal(err)
	}
	log := logrus.New()
	log.SetOutput(io.Discard)
	a, err := New(reg, auth.Anonymous{}, auth.AllowAll{}, &Options{
		Redirect:       func(r *http.Request) bool { return r.UserAgent() != "direct" },
		RedirectExpiry: time.Minute,
	})
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(observe.Handler(a, observe.Options{}, log))
	t.Cleanup(s.Close)
	for _, content := range contents {
		d := registry.SHA256.FromBytes([]byte(content))
		if _, err := reg.Repository(name).PushBlob(t.Context(), d, strings.NewReader(content), -1); err != nil {
			t.Fatal(err)
		}
		urls = append(urls, s.URL+"/v2/a/blobs/"+d.String())
	}
	return urls
}

func TestRedirect(t *testing.T) {
	store := signing{storagetest.NewFlaky(memory.New())}
	urls := serveSigned(t, store, strings.Repeat("0123456789", 50_000), "small")
	large, small := urls[0], urls[1]
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	for _, test := range []struct {
		method, url string
		header      http.Header
		status      int
		body        string
		dataReads   int
	}{
		{"GET", large, http.Header{"User-Agent": {"direct"}}, 200, "", 1},
		{"GET", large, nil, 307, "", 0},
		{"GET", large, http.Header{"Range": {"bytes=10-19"}}, 307, "", 0},
		{"GET", large, http.Header{"Range": {"bytes=5000000-"}}, 416, "", 0},
		{"GET", large, http.Header{"If-None-Match": {"*"}}, 304, "", 0},
		{"GET", large, http.Header{"Range": {"bytes=10-11,20-21"}}, 206, "", 1},
		{"GET", large, http.Header{"Range": {"bytes=10-11,300000-300001"}}, 206, "", 2},
		{"GET", large, http.Header{"User-Agent": {"direct"}, "Range": {"bytes=12-15"}}, 206, "2345", 1},
		{"GET", large, http.Header{"User-Agent": {"direct"}, "Range": {"bytes=-3"}}, 206, "789", 1},
		{"HEAD", large, nil, 200, "", 0},
		{"GET", small, nil, 200, "small", 0},
	} {
		request, err := http.NewRequestWithContext(t.Context(), test.method, test.url, nil)
		if err != nil {
			t.Fatal(err)
		}
		for key, values := range test.header {
			request.Header[key] = values
		}
		reads := 0
		store.Plan(func(c storagetest.Call) storagetest.Fault {
			if c.Op == storagetest.OpOpen && registry.IsData(c.Key) {
				reads++
			}
			return storagetest.Fault{}
		})
		response, err := client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		response.Body.Close()
		why := fmt.Sprintf("%s %v", test.method, test.header)
		if err != nil || response.StatusCode != test.status || test.body != "" && string(body) != test.body || reads != test.dataReads {
			t.Errorf("%s: %s with %.40q after %d reads of data, %v", why, response.Status, body, reads, err)
		}
		location := response.Header.Get("Location")
		if redirected := test.status == 307; redirected != strings.HasPrefix(location, "https://store.example.org/data/") ||
			redirected && (!strings.HasSuffix(location, "?for=1m0s") || response.Header.Get("Cache-Control") != "no-store" ||
				response.Header.Get("Docker-Content-Digest") == "" || response.Header.Get("Etag") != "" || len(body) > 0) {
			t.Errorf("%s: sent to %q with %v", why, location, response.Header)
		}
	}
}
