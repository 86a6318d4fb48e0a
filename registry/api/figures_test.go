package api

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/sirupsen/logrus"

	"berth/auth"
	"berth/metrics"
	"berth/registry"
	"berth/registry/observe"
	"berth/storage/memory"
)

// TestFigures sends a request for each route, and what no route has; none of them finds anything.
func TestFigures(t *testing.T) {
	reg, err := registry.Open(t.Context(), memory.New(), nil)
	if err != nil {
		t.Fatal(err)
	}
	a, err := New(reg, auth.Anonymous{}, auth.AllowAll{}, &Options{DeleteEnabled: true})
	if err != nil {
		t.Fatal(err)
	}
	const digest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	counted := map[string]bool{}
	for _, test := range []struct{ call, route, operation string }{
		{"GET /v2/", "root", ""},
		{"GET /v2/_catalog", "catalog", ""},
		{"GET /v2/a/tags/list", "tags", "TagService.All"},
		{"GET /v2/a/referrers/" + digest, "referrers", ""},
		{"GET /v2/a/manifests/v1", "manifest_get", "TagService.Get"},
		{"GET /v2/a/manifests/" + digest, "manifest_get", "ManifestService.Get"},
		{"HEAD /v2/a/manifests/v1", "manifest_head", "ManifestService.Exists"},
		{"PUT /v2/a/manifests/v1", "manifest_put", "TagService.Tag"},
		{"DELETE /v2/a/manifests/v1", "manifest_delete", "TagService.Untag"},
		{"DELETE /v2/a/manifests/" + digest, "manifest_delete", "ManifestService.Delete"},
		{"GET /v2/a/blobs/" + digest, "blob_get", "BlobStore.ServeBlob"},
		{"HEAD /v2/a/blobs/" + digest, "blob_head", "BlobStore.Stat"},
		{"DELETE /v2/a/blobs/" + digest, "blob_delete", "BlobStore.Delete"},
		{"POST /v2/a/blobs/uploads/", "upload_start", "BlobStore.Create"},
		{"POST /v2/a/blobs/uploads/?mount=" + digest + "&from=b", "upload_start", "BlobStore.Create"},
		{"POST /v2/a/blobs/uploads/?digest=" + digest, "blob_post", "BlobStore.Put"},
		{"GET /v2/a/blobs/uploads/x", "upload_status", "BlobStore.Resume"},
		{"PATCH /v2/a/blobs/uploads/x", "upload_chunk", "BlobStore.Resume"},
		{"PUT /v2/a/blobs/uploads/x?digest=" + digest, "upload_close", "BlobWriter.Commit"},
		{"DELETE /v2/a/blobs/uploads/x", "upload_cancel", "BlobWriter.Cancel"},
		{"OPTIONS /v2/a/tags/list", "other", ""},
		{"BREW /v2/a/tags/list", "other", ""},
		{"GET /v2/A/tags/list", "other", ""},
		{"GET /elsewhere", "other", ""},
	} {
		log := logrus.New()
		log.SetOutput(io.Discard)
		m := metrics.New(metrics.Options{})
		method, path, _ := strings.Cut(test.call, " ")
		r := httptest.NewRequest(method, path, nil)
		observe.Handler(a, observe.Options{Metrics: m}, log).ServeHTTP(httptest.NewRecorder(), r)
		page := httptest.NewRecorder()
		m.Handler().ServeHTTP(page, httptest.NewRequest(http.MethodGet, "/", nil))
		for _, want := range []string{
			`berth_http_request_duration_seconds_count{route="` + test.route + `"} 1` + "\n",
			`imageregistry_request_duration_seconds_count{operation="` + test.operation + `"} 1` + "\n",
		} {
			if test.operation == "" && strings.HasPrefix(want, "imageregistry") {
				want = "imageregistry_http_response_size_bytes_count 1\n"
			}
			if !strings.Contains(page.Body.String(), want) {
				t.Errorf("%s is not counted as %s", test.call, want)
			}
		}
		counted[test.route] = true
	}
	for route := range metrics.Scrape {
		if !counted[route.String()] {
			t.Errorf("no request is counted as %s", route)
		}
	}
}
