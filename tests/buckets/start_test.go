package buckets

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"berth/tests/harness"
)

// A mistake is a storage that cannot work: changes of the variables of a section, and the key that must be named.
type mistake struct {
	name, key string
	server    interface{ Env(root string) []string }
	change    []string
}

// refused starts registries with mistakes. Each says which key to fix, in time, and never lets a client in; no log has a secret.
func refused(t *testing.T, driver string, mistakes []mistake, secrets ...string) {
	for _, m := range mistakes {
		t.Run(m.name, func(t *testing.T) {
			env := append(m.server.Env("/start"), "AWS_EC2_METADATA_DISABLED=true", "AWS_SHARED_CREDENTIALS_FILE=/dev/null", "AWS_CONFIG_FILE=/dev/null")
			for _, change := range m.change {
				env = append(env, "REGISTRY_STORAGE_"+strings.ToUpper(driver)+"_"+change)
			}
			log := harness.Refuses(t, driver, env)
			if !strings.Contains(log, m.key) {
				t.Errorf("the log does not name %s:\n%s", m.key, log)
			}
			for _, secret := range secrets {
				if strings.Contains(log, secret) {
					t.Errorf("the log has the secret %s", secret)
				}
			}
		})
	}
}

// stranger is what a service of storage is not.
func stranger(t *testing.T) *httptest.Server {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>hello</html>")) }))
	t.Cleanup(s.Close)
	return s
}

func TestBadS3(t *testing.T) {
	server, secure := harness.StartS3(t, false), harness.StartS3(t, true)
	page, silent := stranger(t), harness.Silent(t)
	refused(t, "s3", []mistake{
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
	}, server.SecretKey, "the-wrong-secret")
}

func TestBadAzure(t *testing.T) {
	server, secure := harness.StartAzure(t, false), harness.StartAzure(t, true)
	page, silent := stranger(t), harness.Silent(t)
	const wrongKey = "d3Jvbmcga2V5IG9mIHRoZSBhY2NvdW50"
	refused(t, "azure", []mistake{
		{"no such container", "storage.azure.container", server, []string{"CONTAINER=nothing"}},
		{"wrong account", "storage.azure.account", server, []string{"ACCOUNTNAME=nobody"}},
		{"no such account", "storage.azure.accountname", server, []string{"SERVICEURL=", "REALM=blob.invalid"}},
		{"wrong key", "storage.azure.accountkey", server, []string{"ACCOUNTKEY=" + wrongKey}},
		{"not a key", "storage.azure.accountkey", server, []string{"ACCOUNTKEY=" + wrongKey + "!"}},
		{"nobody listens", "storage.azure.serviceurl", server, []string{"SERVICEURL=http://127.0.0.1:1/devstoreaccount1"}},
		{"not Azure", "storage.azure.serviceurl", server, []string{"SERVICEURL=" + page.URL}},
		{"silence", "storage.azure.serviceurl", server, []string{"SERVICEURL=http://" + silent}},
		{"no TLS", "storage.azure.serviceurl", server, []string{"SERVICEURL=https://" + strings.TrimPrefix(server.Endpoint, "http://")}},
		{"unknown authority", "storage.azure.rootca", secure, []string{"ROOTCA="}},
		{"a token without TLS", "storage.azure.serviceurl", server, []string{"ACCOUNTKEY="}},
		{"no identity", "storage.azure.accountkey", secure, []string{"ACCOUNTKEY="}},
	}, server.Key, wrongKey)
}

func TestBadGCS(t *testing.T) {
	server := harness.StartGCS(t)
	page, silent := stranger(t), harness.Silent(t)
	const secret = "the-secret-of-the-tester"
	broken := filepath.Join(t.TempDir(), "broken")
	must(t, os.WriteFile(broken, []byte(secret), 0o600))
	refused(t, "gcs", []mistake{
		{"no such bucket", "storage.gcs.bucket", server, []string{"BUCKET=nothing"}},
		{"no such file", "storage.gcs.keyfile", server, []string{"KEYFILE=/nowhere/key.json"}},
		{"not a key", "storage.gcs.keyfile", server, []string{"KEYFILE=" + broken}},
		{"half a key", "storage.gcs.keyfile", server, []string{`KEYFILE={"type": "service_account", "private_key": "` + secret + `"}`}},
		{"nobody listens", "storage.gcs.endpoint", server, []string{"ENDPOINT=http://127.0.0.1:1"}},
		{"not Google", "storage.gcs.endpoint", server, []string{"ENDPOINT=" + page.URL}},
		{"silence", "storage.gcs.endpoint", server, []string{"ENDPOINT=http://" + silent}},
		{"no TLS", "storage.gcs.endpoint", server, []string{"ENDPOINT=https://" + strings.TrimPrefix(server.Endpoint, "http://")}},
	}, secret, "PRIVATE KEY")
}
