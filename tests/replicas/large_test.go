package replicas

import (
	"crypto/sha256"
	"encoding/hex"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"testing"

	"berth/tests/harness"
)

var large = flag.Int64("large", 1<<30, "size of the large blob, in bytes")

// mostMemory is what a registry may take while it moves one large blob, of whatever size: five parts of 10 MiB each, twice since
// what is done with is collected only then, and the process itself, with room for a busy machine.
const mostMemory = 256 << 20

// TestLargeBlob pushes a blob in one PATCH and pulls it, once from the registry and once from where that leads, without
// keeping it anywhere but in the store.
func TestLargeBlob(t *testing.T) {
	eachBucket(t, func(t *testing.T, b store) {
		size := *large
		if b.blob > 0 {
			size = min(size, b.blob)
		}
		o := b.Start(t, harness.Direct)
		s := harness.Start(t, o)
		r := wants(t, s.Client, 202, harness.Call{Method: "POST", Path: "/v2/large/blob/blobs/uploads/"})
		hash := sha256.New()
		r = wants(t, s.Client, 202, harness.Call{Method: "PATCH", Path: where(t, r), Stream: io.TeeReader(noise(size), hash)})
		digest := "sha256:" + hex.EncodeToString(hash.Sum(nil))
		wants(t, s.Client, 201, harness.Call{Method: "PUT", Path: where(t, r), Query: url.Values{"digest": {digest}}})
		memory(t, s, size, "a push")
		path := "/v2/large/blob/blobs/" + digest
		r = wants(t, s.Client, 307, harness.Call{Method: "GET", Path: path})
		pulled(t, r.Header.Get("Location"), size, digest)
		s.Stop()
		o.Env = append(o.Env, "REGISTRY_STORAGE_REDIRECT_DISABLE=true")
		streaming := harness.Start(t, o)
		pulled(t, streaming.Base+path, size, digest)
		memory(t, streaming, size, "a pull without redirect")
	})
}

// noise is the large blob.
func noise(size int64) io.Reader { return io.LimitReader(rand.NewChaCha8([32]byte{1}), size) }

// pulled reads a URL to its end, and compares the digest of what came.
func pulled(t *testing.T, url string, size int64, digest string) {
	t.Helper()
	r, err := http.Get(url)
	must(t, err)
	defer r.Body.Close()
	hash := sha256.New()
	n, err := io.Copy(hash, r.Body)
	if err != nil {
		t.Fatalf("after %d bytes of %d: %v", n, size, err)
	}
	if got := "sha256:" + hex.EncodeToString(hash.Sum(nil)); r.StatusCode != 200 || n != size || got != digest {
		t.Errorf("pulled %d: %d bytes of %d with the digest %s, not %s", r.StatusCode, n, size, got, digest)
	}
}

// memory asks that the process never had more memory resident than it may.
func memory(t *testing.T, s *harness.Server, size int64, after string) {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.PID()))
	must(t, err)
	_, rest, _ := strings.Cut(string(status), "VmHWM:")
	kib, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
	must(t, err)
	t.Logf("after %s of %d MiB the peak of memory is %d MiB", after, size>>20, kib>>10)
	if kib<<10 > mostMemory {
		t.Errorf("after %s of %d bytes the peak of memory is %d KiB", after, size, kib)
	}
}
