package gcs

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"berth/tests/harness"
)

// TestBadConfiguration starts registries with a storage that cannot work. Each says which key to fix, in time, and never
// lets a client in.
func TestBadConfiguration(t *testing.T) {
	server := harness.StartGCS(t)
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>hello</html>")) }))
	defer page.Close()
	const secret = "the-secret-of-the-tester"
	broken := filepath.Join(t.TempDir(), "broken")
	if err := os.WriteFile(broken, []byte(secret), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, key string
		change    []string
	}{
		{"no such bucket", "storage.gcs.bucket", []string{"BUCKET=nothing"}},
		{"no such file", "storage.gcs.keyfile", []string{"ANONYMOUS=false", "KEYFILE=/nowhere/key.json"}},
		{"not a key", "storage.gcs.keyfile", []string{"ANONYMOUS=false", "KEYFILE=" + broken}},
		{"half a key", "storage.gcs.keyfile", []string{"ANONYMOUS=false", `KEYFILE={"type": "service_account", "private_key": "` + secret + `"}`}},
		{"nobody listens", "storage.gcs.endpoint", []string{"ENDPOINT=http://127.0.0.1:1"}},
		{"not Google", "storage.gcs.endpoint", []string{"ENDPOINT=" + page.URL}},
		{"silence", "storage.gcs.endpoint", []string{"ENDPOINT=http://" + harness.Silent(t)}},
		{"no TLS", "storage.gcs.endpoint", []string{"ENDPOINT=https://" + strings.TrimPrefix(server.Endpoint, "http://")}},
	} {
		t.Run(c.name, func(t *testing.T) {
			env := server.Env("/start")
			for _, change := range c.change {
				env = append(env, "REGISTRY_STORAGE_GCS_"+change)
			}
			log := harness.Refuses(t, "gcs", env)
			if !strings.Contains(log, c.key) {
				t.Errorf("the log does not name %s:\n%s", c.key, log)
			}
			if strings.Contains(log, secret) {
				t.Errorf("the log has a secret:\n%s", log)
			}
		})
	}
}
