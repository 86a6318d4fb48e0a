package main

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// write writes a configuration and returns its path.
func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.yml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// busyAddress returns an address on which somebody listens.
func busyAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.Addr().String()
}

func TestCommands(t *testing.T) {
	good := write(t, "version: 0.1\nstorage: inmemory\nhttp: {addr: '127.0.0.1:0', secret: hidden-secret-of-32-characters-and-more}\n")
	bad := write(t, "version: 0.1\nstorage: inmemory\nhtpp: {}\n")
	public := write(t, "version: 0.1\nstorage: inmemory\nhttp: {addr: '0.0.0.0:0'}\n")
	spaced := write(t, "version: 0.1\nstorage: inmemory\nopenshift:\n  metrics:\n    secret: two long words\n")
	bare := write(t, "version: 0.1\nstorage: inmemory\nhttp:\n  addr: :5000\n  tls: {certificate: /nowhere/tls.crt, key: /nowhere/tls.key}\n")
	busy := busyAddress(t)
	taken := write(t, "version: 0.1\nstorage: inmemory\nhttp: {addr: '"+busy+"'}\n")
	debug := write(t, "version: 0.1\nstorage: inmemory\nhttp:\n  addr: 127.0.0.1:0\n  debug: {addr: '"+busy+"'}\n")
	for _, test := range []struct {
		args           []string
		environ        []string
		stdin          string
		code           int
		stdout, stderr string // regular expressions
	}{
		{args: nil, stdout: `(?s)^berth is an OCI registry.*Usage:`},
		{args: []string{"help"}, stdout: "Available Commands"},
		{args: []string{"serve", "--help"}, stdout: "(?s)SIGTERM.*Examples:"},
		{args: []string{"version"}, stdout: `^berth devel \w+/\w+ go`},
		{args: []string{"--version"}, stdout: `^berth devel `},
		{args: []string{"-v"}, stdout: `^berth devel `},
		{args: []string{"completion", "bash"}, stdout: "__berth"},
		{args: []string{"config", "check", good}, stdout: "config.yml: ok\n$"},
		{args: []string{"config", "check"}, environ: []string{"REGISTRY_CONFIGURATION_PATH=" + good}, stdout: "ok"},
		{args: []string{"config", "show", good}, stdout: `(?s)secret: .?\*\*\*.*`},
		{args: []string{"config"}, stdout: "check"},

		{args: []string{"config", "check", bad}, code: 1, stderr: `(?m)^berth: .*config.yml:3.*htpp.*http`},
		{args: []string{"config", "check", bare}, code: 1,
			stderr: `(?s)^berth: \S*config.yml:5: http.tls.certificate: .*/nowhere/tls.crt.*berth: \S*config.yml:4: http.addr: listen on :5000: without authentication`},
		{args: []string{"config", "check", "/nowhere/x"}, code: 1, stderr: "^berth: read the configuration"},
		{args: []string{bad}, code: 1, stderr: "^berth: .*htpp"},
		{args: []string{"serve", public}, code: 1, stderr: "(?m)^berth: listen on .*127.0.0.1.*auth: none"},
		{args: []string{"serve", taken}, code: 1, stderr: `(?m)^berth: listen on ` + busy + ` \(http.addr\): bind: address already in use$`},
		{args: []string{"serve", taken}, environ: []string{"REGISTRY_LOG_FORMATTER=json"}, code: 1,
			stderr: `^({.*}\n)*{"error":"listen on ` + busy + ` .http.addr.: bind: address already in use",.*"level":"error","msg":"berth ends",.*}\n$`},
		{args: []string{"serve", spaced}, code: 1, stderr: "^berth: .*config.yml:5: metrics.secret: must have only"},
		{args: []string{"serve", debug}, code: 1, stderr: `(?s)berth: \S*config.yml:5: http.debug.addr: .*address already in use`},
		{args: []string{"srve"}, code: 2, stderr: `^berth: "srve" is neither a command nor a file; did you mean serve\?\n`},
		{args: []string{"srve", good}, code: 2, stderr: `^berth: "srve" is no command; did you mean serve\?\n`},
		{args: []string{"nonsense"}, code: 2, stderr: `^berth: "nonsense" is neither a command nor a file\n`},
		{args: []string{"serve", "--port"}, code: 2, stderr: "^berth: unknown flag"},
		{args: []string{"serve", "a", "b"}, code: 2, stderr: "^berth: accepts at most 1"},
		{args: []string{"config", "chek", "x"}, code: 2, stderr: `^berth: berth config has no command "chek"; did you mean check\?\n`},
		{args: []string{"status", "x"}, code: 2, stderr: `^berth: berth status takes no arguments, and got "x"\n`},
		{args: []string{"user", "add"}, code: 2, stderr: `berth: usage: berth user add \[FILE\] NAME \[flags\]; .berth user add --help. tells more`},
	} {
		var stdout, stderr bytes.Buffer
		code := run(t.Context(), test.args, environment{test.environ, strings.NewReader(test.stdin), &stdout, &stderr})
		if code != test.code {
			t.Errorf("berth %q exits with %d, want %d: %s", test.args, code, test.code, &stderr)
		}
		for got, want := range map[*bytes.Buffer]string{&stdout: test.stdout, &stderr: test.stderr} {
			if want == "" && got.Len() > 0 || !regexp.MustCompile(want).MatchString(got.String()) {
				t.Errorf("berth %q prints %q, want %q", test.args, got, want)
			}
		}
		if strings.Contains(stdout.String(), "hidden-secret") {
			t.Errorf("berth %q prints a secret", test.args)
		}
	}
}

// A logged is a writer that tells when a line matches.
type logged struct {
	mu      sync.Mutex
	text    bytes.Buffer
	pattern *regexp.Regexp
	found   chan string
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text.Write(p)
	if m := l.pattern.FindStringSubmatch(l.text.String()); m != nil && l.found != nil {
		l.found <- m[1]
		l.found = nil
	}
	return len(p), nil
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// TestServe starts over one folder twice, pushes and pulls, and stops by a signal.
func TestServe(t *testing.T) {
	root := t.TempDir()
	config := write(t, "version: 0.1\nstorage: {filesystem: {rootdirectory: "+filepath.Join(root, "store")+"}}\nhttp: {addr: '127.0.0.1:0'}\n")
	const digest = "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
	for i, args := range [][]string{{"serve", config}, {config}} {
		found := make(chan string, 1)
		stderr := &logged{pattern: regexp.MustCompile(`msg=listening address="([^"]+)"`), found: found}
		var stdout bytes.Buffer
		code := make(chan int, 1)
		go func() { code <- run(context.Background(), args, environment{nil, nil, &stdout, stderr}) }()
		var url string
		select {
		case addr := <-found:
			url = "http://" + addr + "/v2/a/blobs/"
		case <-code:
			t.Fatalf("berth %q stopped: %s", args, &stderr.text)
		}
		if i == 0 {
			response, err := http.Post(url+"uploads/?digest="+digest, "application/octet-stream", strings.NewReader("hello"))
			if err != nil || response.StatusCode != http.StatusCreated {
				t.Fatalf("the push was answered %v, %v", response, err)
			}
			response.Body.Close()
		}
		response, err := http.Get(url + digest)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		response.Body.Close()
		if err != nil || string(body) != "hello" {
			t.Errorf("pulled %q, %v", body, err)
		}
		if err := syscall.Kill(os.Getpid(), syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if got := <-code; got != 0 {
			t.Errorf("berth %q exits with %d: %s", args, got, &stderr.text)
		}
		if want := `"GET /v2/a/blobs/` + digest + ` HTTP/1.1" 200 5 `; !strings.Contains(stdout.String(), want) {
			t.Errorf("the access log lacks %s: %s", want, &stdout)
		}
	}
}
