package s3

import (
	"fmt"
	"net/http"
	"testing"

	"berth/storage"
	"berth/storage/remote/remotetest"
)

// TestFaults runs the driver over a network that fails.
func TestFaults(t *testing.T) {
	remotetest.Test(t, remotetest.Service{
		Fake: func() http.RoundTripper { return newFake() },
		Part: 5 << 20, Parallel: 6,
		Open: func(t testing.TB, transport http.RoundTripper) storage.Driver {
			o := over(transport)
			o.Parallel = 6
			return openOver(t, o)
		},
		Refusal: func(f remotetest.Fault) remotetest.Answer {
			return map[remotetest.Fault]remotetest.Answer{
				remotetest.Slow: failure(503, "SlowDown"), remotetest.Broken: failure(500, "InternalError"),
				remotetest.Expired: failure(403, "ExpiredToken"), remotetest.Vanished: failure(404, "NoSuchBucket"),
			}[f]
		},
		Left: func(service http.RoundTripper) string {
			if uploads := service.(*fake).uploads; len(uploads) != 0 {
				return fmt.Sprintf("uploads: %v", uploads)
			}
			return ""
		},
		IsPart: func(r *http.Request) bool { return r.Method == http.MethodPut && r.URL.Query().Has("partNumber") }, PartStatus: http.StatusOK,
	})
}
