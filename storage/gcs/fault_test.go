package gcs

import (
	"net/http"
	"strings"
	"testing"

	"berth/storage"
	"berth/storage/gcs/gcstest"
	"berth/storage/remote/remotetest"
)

// TestFaults runs the driver over a network that fails.
func TestFaults(t *testing.T) {
	remotetest.Test(t, remotetest.Service{
		Fake: func() http.RoundTripper { return gcstest.New() },
		Part: gcstest.ChunkUnit, Parallel: 4,
		Open: func(t testing.TB, transport http.RoundTripper) storage.Driver { return openOver(t, over(transport)) },
		Refusal: func(f remotetest.Fault) remotetest.Answer {
			return map[remotetest.Fault]remotetest.Answer{
				remotetest.Slow: gcstest.Failure(429, "rateLimitExceeded"), remotetest.Broken: gcstest.Failure(503, "backendError"),
				remotetest.Expired: gcstest.Failure(401, "authError"), remotetest.Vanished: gcstest.XMLFailure(404, "NoSuchBucket"),
			}[f]
		},
		IsPart:     func(r *http.Request) bool { return strings.HasSuffix(r.Header.Get("Content-Range"), "/*") },
		PartStatus: http.StatusOK, PartHeader: http.Header{"X-Http-Status-Code-Override": {"308"}},
	})
}
