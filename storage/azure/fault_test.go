package azure

import (
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
				remotetest.Slow: failure(503, "ServerBusy"), remotetest.Broken: failure(500, "InternalError"),
				remotetest.Expired: failure(401, "InvalidAuthenticationInfo"), remotetest.Vanished: failure(404, "ContainerNotFound"),
			}[f]
		},
		IsPart: func(r *http.Request) bool { return r.URL.Query().Get("comp") == "block" }, PartStatus: http.StatusCreated,
	})
}
