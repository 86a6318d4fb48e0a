package hostile

import (
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"berth/tests/content"
	"berth/tests/harness"
)

// TestTraversal asks for paths that lead out of a folder or a name, in every spelling (CVE-2024-4956 and its like): they
// are refused, redirect nowhere, and touch nothing.
func TestTraversal(t *testing.T) {
	s := start(t)
	secret := filepath.Join(filepath.Dir(s.Root), "secret")
	if err := os.WriteFile(secret, []byte("treasure"), 0o600); err != nil {
		t.Fatal(err)
	}
	digest := content.Digest([]byte("x"))
	for _, path := range []string{
		"/v2/../secret", "/v2/../../../../../../etc/passwd", "/v2/a/../../secret", "/../v2/", "/./v2/", "/v2/./",
		"/v2//", "//v2/", "/v2//a/manifests/v", "/v2/a//b/manifests/v", "/v2/a/manifests//v", "/v2/a/manifests/", "/v2/a/manifests/.",
		"/v2/a/manifests/..", "/v2/a/../bystander/manifests/v", "/v2/./bystander/manifests/v", "/v2/bystander/./manifests/v",
		"/v2/%2e%2e/secret", "/v2/%2E%2E%2Fsecret", "/v2/a/%2e%2e/%2e%2e/secret", "/v2/..%2f..%2fsecret", "/v2/a%2fb/manifests/v",
		"/v2/%62ystander/manifests/v", "/v2/bystander%2fmanifests%2fv", "/v2/bystander/manifests/%76", "/v2/bystander/manifests/v%00",
		"/v2/bystander/manifests/v%0a", "/v2/bystander%00/manifests/v", "/v2/bystander/manifests/v%20", "/v2/bystander/manifests/v%ff",
		"/v2/..%5c..%5csecret", `/v2/..\..\secret`, `/v2/a\b/manifests/v`, "/v2/%252e%252e/secret", "/v2/%c0%ae%c0%ae/secret",
		"/v2/bystander/blobs/../../../secret", "/v2/bystander/blobs/" + digest + "/..", "/v2/bystander/blobs/sha256:../../secret",
		"/v2/bystander/blobs/sha256%3a..%2f..", "/v2/bystander/blobs/uploads/..", "/v2/bystander/blobs/uploads/../" + digest,
		"/v2/bystander/blobs/uploads/..%2f..%2fsecret", "/v2/bystander/blobs/uploads/AAAA%2f..",
		"/v2/_catalog/../bystander/manifests/v", "/v2/_blobs/manifests/v", "/v2/bystander/_tags/v", "/v2/bystander/_manifests/v",
		"/v2/a!/manifests/v", "/v2/a;b/manifests/v", "/v2/bystander/manifests/v;x", "/v2/bystander/manifests/v/", "/v2/BYSTANDER/manifests/v",
		"/v2/bystander/manifests/*", "/v2/*/manifests/v", "/v2/-a/manifests/v", "/v2/a./manifests/v", "/v2/con/manifests/.lock",
		"/objects/", "/berth.json", "/data", "/.git/config", "/v2/bystander", "/v1/_ping", "/v2", "/v3/",
	} {
		if path == "/v2" { // the one that is a path of the registry
			continue
		}
		for _, method := range []string{"GET", "HEAD", "PUT", "DELETE", "POST", "PATCH", "OPTIONS", "TRACE", "CONNECT"} {
			l := dial(t, s)
			l.send("%s %s HTTP/1.1\nHost: x\nConnection: close\nContent-Length: 0\n\n", method, path)
			r := l.reply(method, slack)
			refused(t, method+" "+path, method, r)
			l.Close()
		}
	}
	if got, err := os.ReadFile(secret); err != nil || string(got) != "treasure" {
		t.Errorf("a file beside the store: %q, %v", got, err)
	}
}

// refused asks that a request found nothing and was sent nowhere.
func refused(t *testing.T, what, method string, r *reply) {
	t.Helper()
	switch {
	case r == nil:
		t.Errorf("%s: no answer", what)
	case method == "OPTIONS" && r.StatusCode == 200: // says only what could be asked
	case r.StatusCode < 400 || r.StatusCode >= 500 || r.Header.Get("Location") != "":
		t.Errorf("%s: answered %d, Location %q", what, r.StatusCode, r.Header.Get("Location"))
	case strings.Contains(string(r.body), "treasure"):
		t.Errorf("%s: answered with a file", what)
	}
}

// located is what a URL in an answer looks like when nobody smuggled anything into it.
var located = regexp.MustCompile(`^(https?://[a-zA-Z0-9.:\[\]-]+)?/[a-zA-Z0-9/._~-]*$`)

// TestForwardedInjection puts into the headers of proxies, and into Host, what would break out of a URL or a header. A URL
// in an answer stays one; what is no host is not believed.
func TestForwardedInjection(t *testing.T) {
	s := start(t)
	for _, value := range []string{
		"evil.example/path", "evil.example?x=", "evil.example#", "user@evil.example", "evil.example\\@x", `"><script>alert(1)</script>`,
		"a b", "evil.example,other", "evil.example:99999999", "[::1", "%0d%0aX-Evil: 1", "evil.example\tx", "\x7f", "ev\xffil", "",
		strings.Repeat("a", 5000), "'", "{}", "//evil.example", "javascript:alert(1)", "../../x", "/..", "/%2e%2e",
	} {
		for _, header := range []string{
			"X-Forwarded-Host: " + value, "X-Forwarded-Proto: " + value, "X-Forwarded-Prefix: " + value, "X-Forwarded-Prefix: /" + value,
			"X-Forwarded-Port: " + value, "Forwarded: host=" + value, `Forwarded: host="` + value + `"`, "Forwarded: proto=" + value + ";host=x",
			"X-Original-URL: " + value, "X-Rewrite-URL: /v2/_catalog", "X-HTTP-Method-Override: DELETE", "X-Request-Id: " + value,
		} {
			l := dial(t, s)
			l.send("POST /v2/proxy/blobs/uploads/ HTTP/1.1\nHost: x\nConnection: close\nContent-Length: 0\n%s\n\n", header)
			r := l.reply("POST", slack)
			if r == nil || r.StatusCode == 400 {
				continue // net/http refuses some of these bytes itself
			}
			want(t, header, r, 202)
			if got := r.Header.Get("Location"); !located.MatchString(got) || strings.Contains(got, "/../") {
				t.Errorf("%.80q: the Location is %q", header, got)
			}
			if r.Header.Get("X-Evil") != "" || len(r.Header.Get("X-Request-Id")) > 64 {
				t.Errorf("%.80q: the answer has the headers %v", header, r.Header)
			}
			l.Close()
		}
	}
	for _, host := range []string{"evil.example/x", "a@b", "a\\b", `"`, "<x>", "a,b", "evil.example?"} {
		l := dial(t, s)
		l.send("POST /v2/proxy/blobs/uploads/ HTTP/1.1\nHost: %s\nConnection: close\nContent-Length: 0\n\n", host)
		if r := l.reply("POST", slack); r != nil && r.StatusCode != 400 && !located.MatchString(r.Header.Get("Location")) {
			t.Errorf("Host %q: the Location is %q", host, r.Header.Get("Location"))
		}
	}
}

// TestLogInjection sends what would forge a line of a log.
func TestLogInjection(t *testing.T) {
	s := harness.Start(t, harness.Options{Env: []string{"REGISTRY_LOG_ACCESSLOG_DISABLED=false"}})
	const forged = `1.2.3.4 - root [forged] "DELETE /v2/forged HTTP/1.1" 200`
	for _, text := range []string{
		"GET /v2/a%0a" + url.PathEscape(forged) + "/manifests/v HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET /v2/?x=%0d%0a" + url.QueryEscape(forged) + " HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET /v2/ HTTP/1.1\r\nHost: x\r\nUser-Agent: a\" \t" + forged + "\r\n\r\n",
		"GET /v2/ HTTP/1.1\r\nHost: x\r\nReferer: a\" \t" + forged + "\r\nX-Forwarded-For: " + forged + "\r\nX-Request-Id: " + forged + "\r\n\r\n",
		"GET /v2/ HTTP/1.1\r\nHost: x\r\nUser-Agent: \x1b[2J\x1b]0;a\x07\r\n\r\n",
		"GET /v2/ HTTP/1.1\r\nHost: x\r\nUser-Agent: \u2028a\u0085" + forged + "\r\n\r\n",
		"GET /v2/ HTTP/1.1\r\nHost: x\r\nAuthorization: Basic " + strings.Repeat("c2VjcmV0", 100) + "\r\n\r\n",
	} {
		l := dial(t, s)
		l.raw(text)
		l.reply("GET", slack)
		l.Close()
	}
	s.Stop() // which writes what is left of the log
	log := s.Log()
	if n := strings.Count(log, "HTTP/1.1"); n < 5 {
		t.Errorf("the log has only %d requests:\n%s", n, log)
	}
	for line := range strings.Lines(log) {
		if strings.HasPrefix(line, "1.2.3.4") || strings.Contains(line, `a" `) && !strings.Contains(line, `\"`) {
			t.Errorf("a forged line, or a quote that ends a field: %q", line)
		}
	}
	for _, bad := range []string{"\x1b", "\u2028", "\u0085", "c2VjcmV0"} {
		if strings.Contains(log, bad) {
			t.Errorf("the log has %q", bad)
		}
	}
}

// TestPageSizes asks for pages of any size: numbers are numbers, and nothing is made room for that is not there
// (CVE-2023-2253).
func TestPageSizes(t *testing.T) {
	s := start(t)
	before, _ := memory(t, s)
	for n, status := range map[string]int{
		"2147483647": 200, "99999999999": 400, "2147483648": 400, "9223372036854775807": 400, "-1": 400, "1e9": 400, "0x10": 400, "1,5": 400,
		" 5": 400, "٣": 400, "0": 200, "1": 200, "": 200, "00000000000000000000000000000001": 200, "NaN": 400,
	} {
		for _, path := range []string{"/v2/_catalog", "/v2/bystander/tags/list"} {
			r := call(t, s, harness.Call{Method: "GET", Path: path, Query: url.Values{"n": {n}}}, 200, 400)
			if r.Status != status && n != "00000000000000000000000000000001" {
				t.Errorf("%s: answered %d: %s", r.Call, r.Status, r.Body)
			}
		}
	}
	for _, last := range []string{"../../etc/passwd", strings.Repeat("a", 5000), "\x00", "%", "a/../b", "bystander\n"} {
		for _, path := range []string{"/v2/_catalog", "/v2/bystander/tags/list", "/v2/bystander/referrers/" + content.Digest(nil)} {
			call(t, s, harness.Call{Method: "GET", Path: path, Query: url.Values{"n": {"10"}, "last": {last}}}, 400)
		}
	}
	if _, peak := memory(t, s); peak-before > 50<<20 {
		t.Errorf("the memory grew by %d MiB", (peak-before)>>20)
	}
}
