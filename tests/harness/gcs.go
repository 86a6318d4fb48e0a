package harness

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// A GCS is a server of Google Cloud Storage with one bucket: fake-gcs-server in memory, which asks nobody who they are.
type GCS struct{ Endpoint, Bucket string }

var fakeGCS = Tool{"fake-gcs-server", "github.com/fsouza/fake-gcs-server", "v1.56.1", ""}

// StartGCS runs a server of Google Cloud Storage until the test ends.
func StartGCS(t testing.TB) *GCS {
	t.Helper()
	dir, addr := t.TempDir(), freeAddr(t)
	g := &GCS{Endpoint: "http://" + addr, Bucket: "registry"}
	if err := os.MkdirAll(filepath.Join(dir, g.Bucket), 0o755); err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(fakeGCS.Path(t), "-scheme", "http", "-host", "127.0.0.1", "-port", port, "-backend", "memory",
		"-external-url", g.Endpoint, "-public-host", addr, "-data", dir)
	var log logBuffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // nothing of it is kept
		_ = cmd.Wait()
		if t.Failed() {
			end := log.String()
			t.Logf("the end of the log of the server of Google Cloud Storage:\n%s", end[max(0, len(end)-2000):])
		}
	})
	for deadline := time.Now().Add(startLimit); ; time.Sleep(20 * time.Millisecond) {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			c.Close()
			return g
		}
		if time.Now().After(deadline) {
			t.Fatalf("the server of Google Cloud Storage does not listen: %v\n%s", err, log.String())
		}
	}
}

// Env is the configuration of a registry in the bucket, below a folder of it.
func (g *GCS) Env(root string) []string {
	return []string{
		"REGISTRY_STORAGE_GCS_ENDPOINT=" + g.Endpoint, "REGISTRY_STORAGE_GCS_BUCKET=" + g.Bucket, "REGISTRY_STORAGE_GCS_ANONYMOUS=true",
		"REGISTRY_STORAGE_GCS_ROOTDIRECTORY=" + root,
	}
}
