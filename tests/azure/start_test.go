package azure

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
	server, secure := harness.StartAzure(t, false), harness.StartAzure(t, true)
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>hello</html>")) }))
	defer page.Close()
	silent := harness.Silent(t)
	const wrongKey = "d3Jvbmcga2V5IG9mIHRoZSBhY2NvdW50"
	for _, c := range []struct {
		name, key string
		server    *harness.Azure
		change    []string
	}{
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
	} {
		t.Run(c.name, func(t *testing.T) {
			env := c.server.Env("/start")
			for _, change := range c.change {
				env = append(env, "REGISTRY_STORAGE_AZURE_"+change)
			}
			log := harness.Refuses(t, "azure", env)
			if !strings.Contains(log, c.key) {
				t.Errorf("the log does not name %s:\n%s", c.key, log)
			}
			for _, secret := range []string{c.server.Key, wrongKey} {
				if strings.Contains(log, secret) {
					t.Errorf("the log has the secret %s", secret)
				}
			}
		})
	}
}
