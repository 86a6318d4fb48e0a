package harness

import (
	"io"
	"log"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"berth/storage/gcs/gcstest"
)

// A GCS is a server of Google Cloud Storage with one bucket: fake-gcs-server in memory, which asks nobody who they are, or
// one of our own, which does.
type GCS struct {
	Endpoint, Bucket string
	Account          gcstest.Account
}

var fakeGCS = Tool{"fake-gcs-server", "github.com/fsouza/fake-gcs-server", "v1.56.1", ""}

// StartGCS runs a server of Google Cloud Storage until the test ends.
func StartGCS(t testing.TB) *GCS {
	t.Helper()
	dir, addr := t.TempDir(), FreeAddr(t)
	g := &GCS{"http://" + addr, "registry", gcstest.NewAccount(t)}
	if err := os.MkdirAll(filepath.Join(dir, g.Bucket), 0o755); err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	Run(t, nil, fakeGCS.Path(t), "-scheme", "http", "-host", "127.0.0.1", "-port", port, "-backend", "memory",
		"-public-host", "127.0.0.1", "-data", dir)
	WaitForListener(t, addr)
	return g
}

// StartStrictGCS serves Google Cloud Storage out of this process until the test ends, as strictly as [gcstest.Service] does.
// Change may be nil; it is called before anything is served.
func StartStrictGCS(t testing.TB, change func(*gcstest.Service)) (*GCS, *gcstest.Service) {
	t.Helper()
	service := gcstest.New()
	g := &GCS{Bucket: service.Bucket, Account: gcstest.NewAccount(t)}
	service.Signed = &g.Account.Key.PublicKey
	if change != nil {
		change(service)
	}
	server := httptest.NewServer(service)
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	g.Endpoint = server.URL
	return g, service
}

// Env is the configuration of a registry in the bucket, below a folder of it.
func (g *GCS) Env(root string) []string {
	return []string{
		"REGISTRY_STORAGE_GCS_ENDPOINT=" + g.Endpoint, "REGISTRY_STORAGE_GCS_BUCKET=" + g.Bucket, "REGISTRY_STORAGE_GCS_KEYFILE=" + g.Account.JSON,
		"REGISTRY_STORAGE_GCS_ROOTDIRECTORY=" + root,
	}
}
