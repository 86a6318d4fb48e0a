package s3

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"berth/tests/harness"
)

// TestBadConfiguration starts registries with a storage that cannot work. Each says which key to fix, in time, and never
// lets a client in.
func TestBadConfiguration(t *testing.T) {
	server, secure := harness.StartS3(t, false), harness.StartS3(t, true)
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>hello</html>")) }))
	defer page.Close()
	silent := harness.Silent(t)
	for _, c := range []struct {
		name, key string
		server    *harness.S3
		change    []string
	}{
		{"no such bucket", "storage.s3.bucket", server, []string{"BUCKET=nothing"}},
		{"wrong access key", "storage.s3.accesskey", server, []string{"ACCESSKEY=AKIDUNKNOWN"}},
		{"wrong secret key", "storage.s3.secretkey", server, []string{"SECRETKEY=the-wrong-secret"}},
		{"wrong region", "storage.s3.region", server, []string{"REGION=eu-central-1"}},
		{"nobody listens", "storage.s3.regionendpoint", server, []string{"REGIONENDPOINT=http://127.0.0.1:1"}},
		{"not S3", "storage.s3.regionendpoint", server, []string{"REGIONENDPOINT=" + page.URL}},
		{"silence", "storage.s3.regionendpoint", server, []string{"REGIONENDPOINT=http://" + silent}},
		{"no TLS", "storage.s3.secure", server, []string{"REGIONENDPOINT=https://" + strings.TrimPrefix(server.Endpoint, "http://")}},
		{"unknown authority", "storage.s3.rootca", secure, []string{"ROOTCA="}},
		{"no credentials", "storage.s3.accesskey", server, []string{"ACCESSKEY=", "SECRETKEY="}},
	} {
		t.Run(c.name, func(t *testing.T) {
			env := append(c.server.Env("/start"), "AWS_EC2_METADATA_DISABLED=true", "AWS_SHARED_CREDENTIALS_FILE=/dev/null", "AWS_CONFIG_FILE=/dev/null")
			for _, change := range c.change {
				env = append(env, "REGISTRY_STORAGE_S3_"+change)
			}
			log := harness.Refuses(t, "s3", env)
			if !strings.Contains(log, c.key) {
				t.Errorf("the log does not name %s:\n%s", c.key, log)
			}
			for _, secret := range []string{c.server.SecretKey, "the-wrong-secret"} {
				if strings.Contains(log, secret) {
					t.Errorf("the log has the secret %s", secret)
				}
			}
		})
	}
}
