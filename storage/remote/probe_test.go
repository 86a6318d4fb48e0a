package remote

import (
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestDeadProxy asks a service through proxies that do not work: the key to fix is that of the proxy.
func TestDeadProxy(t *testing.T) {
	refusing := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }))
	defer refusing.Close()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead := "http://" + l.Addr().String()
	l.Close()
	for proxy, want := range map[string]string{dead: "storage.s3.proxy: the proxy", refusing.URL: "storage.s3.proxy: the proxy to the service does not work: Get \"https://s3.test.invalid/\": it refuses to connect: 403"} {
		client, err := Network{Section: "storage.s3", Proxy: proxy}.Client()
		if err != nil {
			t.Fatal(err)
		}
		_, err = client.Get("https://s3.test.invalid/")
		if err == nil {
			t.Fatal("a service was reached")
		}
		err = Address{Key: "storage.s3.regionendpoint", Proxy: "storage.s3.proxy"}.Unreachable(err)
		if !strings.Contains(err.Error(), want) {
			t.Errorf("through %s: %v, want %q", proxy, err, want)
		}
	}
}
