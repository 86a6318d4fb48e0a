package gcs

import (
	"net/http"
	"strings"
	"testing"

	"berth/storage"
	"berth/storage/remote/remotetest"
)

// TestFaults runs the driver over a network that fails.
func TestFaults(t *testing.T) {
	remotetest.Test(t, remotetest.Service{
		Fake: func() http.RoundTripper { return newFake() },
		Part: chunkUnit, Parallel: 4,
		Open: func(t testing.TB, transport http.RoundTripper) storage.Driver { return openOver(t, over(transport)) },
		Refusal: func(f remotetest.Fault) (int, http.Header, string) {
			a := map[remotetest.Fault]fakeAnswer{
				remotetest.Slow: failure(429, "rateLimitExceeded"), remotetest.Broken: failure(503, "backendError"),
				remotetest.Expired: failure(401, "authError"), remotetest.Vanished: xmlFailure(404, "NoSuchBucket"),
			}[f]
			return a.status, a.header, string(a.body)
		},
		IsPart:     func(r *http.Request) bool { return strings.HasSuffix(r.Header.Get("Content-Range"), "/*") },
		PartStatus: http.StatusOK, PartHeader: http.Header{"X-Http-Status-Code-Override": {"308"}},
	})
}
