package s3

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"testing"
	"time"

	"berth/tests/harness"
)

// startLimit is how long a server may take to say what is wrong with its storage.
const startLimit = 10*time.Second + 2*time.Second // the start of a process on a busy machine

// TestBadConfiguration starts registries with a storage that cannot work. Each says which key to fix, in time, and never
// lets a client in.
func TestBadConfiguration(t *testing.T) {
	server, secure := harness.StartS3(t, false), harness.StartS3(t, true)
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>hello</html>")) }))
	defer page.Close()
	silent := listen(t)
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
			log := refuses(t, env)
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

// listen accepts connections and says nothing.
func listen(t *testing.T) (addr string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.Addr().String()
}

// refuses runs a registry that must end by itself, and returns what it wrote.
func refuses(t *testing.T, env []string) string {
	t.Helper()
	binary, err := harness.Binary()
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	ctx, cancel := context.WithTimeout(t.Context(), startLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, "serve", "/dev/stdin")
	cmd.Stdin = strings.NewReader("version: 0.1\nstorage: {s3: {}}\nhttp: {addr: '" + addr + "'}\n")
	cmd.Env = append([]string{"PATH=/usr/bin:/bin", "HOME=" + t.TempDir()}, env...)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			if c, err := net.Dial("tcp", addr); err == nil {
				c.Close()
				t.Error("the registry listens")
				return
			}
			time.Sleep(5 * time.Millisecond)
		}
	}()
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if ctx.Err() != nil || !errors.As(err, &exit) {
		t.Errorf("the registry ended with %v, %v", err, ctx.Err())
	}
	cancel()
	<-done
	return string(out)
}
