package replicas

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"

	"berth/tests/content"
	"berth/tests/harness"
)

// startLimit is how long a second registry may take to see that it cannot serve: it waits half a minute for the first to end.
const startLimit = time.Minute

// refused runs another registry with the configuration of a server and one more variable, at an address of its own, which must
// end by itself and say why.
func refused(t *testing.T, s *harness.Server, variable string, says ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), startLimit)
	defer cancel()
	second := s.Command("REGISTRY_HTTP_ADDR=127.0.0.1:0", variable)
	cmd := exec.CommandContext(ctx, second.Path, second.Args[1:]...)
	cmd.Env = second.Env
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if ctx.Err() != nil || !errors.As(err, &exit) {
		t.Fatalf("the second registry ended with %v, %v\n%s", err, ctx.Err(), out)
	}
	for _, text := range says {
		if !strings.Contains(string(out), text) {
			t.Errorf("the second registry does not say %q:\n%s", text, out)
		}
	}
}

// TestSecondReplica starts a second registry on a folder that only one can serve. The first goes on.
func TestSecondReplica(t *testing.T) {
	for driver, change := range map[string][2]string{
		"filesystem": {"REGISTRY_STORAGE_FILESYSTEM_LOCKWAIT=1s", "storage.filesystem.shared"},
		"emptydir":   {"", "only one process can serve an emptydir"},
	} {
		t.Run(driver, func(t *testing.T) {
			s := harness.Start(t, harness.Options{Storage: driver})
			b := content.Random(driver, 10_000)
			must(t, s.PushBlob("a/b", b))
			refused(t, s, change[0], change[1], s.Root)
			if _, err := s.PullBlob("a/b", b.Digest); err != nil {
				t.Error(err)
			}
		})
	}
}

// unconditional is a service that puts whatever the condition is: it never says that one did not hold.
type unconditional struct{ next http.RoundTripper }

func (u unconditional) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := u.next.RoundTrip(r)
	if err == nil && r.Method == http.MethodPut && response.StatusCode == http.StatusPreconditionFailed {
		response.Body.Close()
		response.StatusCode, response.Status, response.ContentLength = http.StatusOK, "200 OK", 0
		response.Header = http.Header{"Etag": {`"00000000000000000000000000000000"`}, "Content-Length": {"0"}}
		response.Body = io.NopCloser(bytes.NewReader(nil))
	}
	return response, err
}

// TestBucketWithoutConditions starts registries on a bucket whose service ignores the conditions of PUT: only with
// storage.replicas: 1 one of them serves.
func TestBucketWithoutConditions(t *testing.T) {
	var wire *harness.Wire
	o := harness.InS3(t, func(endpoint string) string {
		wire = harness.StartWire(t, endpoint)
		wire.Wrap(func(next http.RoundTripper) http.RoundTripper { return unconditional{next} })
		return wire.URL
	})
	o.Env = append(o.Env, "REGISTRY_STORAGE_REPLICAS=1")
	s := harness.Start(t, o)
	set := content.Algorithm(content.Digest).Image("alone", content.AMD64(), []int{50_000}, nil)
	must(t, s.Push("a/b", set, "latest"))
	must(t, s.Verify("a/b", set))
	for _, replicas := range []string{"0", "2"} {
		refused(t, s, "REGISTRY_STORAGE_REPLICAS="+replicas, "storage.replicas", "If-None-Match")
	}
}
