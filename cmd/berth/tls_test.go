package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestSelfSigned(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	command := func(args ...string) (code int, stdout, stderr string) {
		var out, errs bytes.Buffer
		code = run(t.Context(), append([]string{"tls", "self-signed", "--out", dir}, args...), environment{nil, strings.NewReader(""), &out, &errs})
		return code, out.String(), errs.String()
	}
	if code, stdout, stderr := command("r.example.com", "192.0.2.7"); code != 0 || !strings.Contains(stdout, "r.example.com") {
		t.Fatalf("exit %d, %q, %q", code, stdout, stderr)
	}
	file := func(name string) string { return filepath.Join(dir, name) }
	if info, err := os.Stat(file("tls.key")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key: %v, %v", info, err)
	}
	pair, err := tls.LoadX509KeyPair(file("tls.crt"), file("tls.key"))
	if err != nil {
		t.Fatal(err)
	}
	ca, err := os.ReadFile(file("ca.crt"))
	roots := x509.NewCertPool()
	if err != nil || !roots.AppendCertsFromPEM(ca) {
		t.Fatalf("the authority: %v", err)
	}
	for host, want := range map[string]bool{"r.example.com": true, "192.0.2.7": true, "localhost": false} {
		if _, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: host}); (err == nil) != want {
			t.Errorf("%s: %v", host, err)
		}
	}
	if err := os.Remove(file("tls.crt")); err != nil {
		t.Fatal(err)
	}
	if code, _, stderr := command("other"); code != 1 || !strings.Contains(stderr, "ca.crt is there already; nothing was written") {
		t.Errorf("again: exit %d, %q", code, stderr)
	}
	if after, err := os.ReadFile(file("ca.crt")); err != nil || !bytes.Equal(after, ca) {
		t.Errorf("the authority was overwritten: %v", err)
	}
}

// TestServeRefusesBadTLS asks that the start fail and name the key of the configuration and the file.
func TestServeRefusesBadTLS(t *testing.T) {
	dir := t.TempDir()
	if err := writeSelfSigned(dir, []string{"localhost"}); err != nil {
		t.Fatal(err)
	}
	config := write(t, "version: 0.1\nstorage: inmemory\nhttp: {addr: '127.0.0.1:0', tls: {certificates: [{hostnames: [a], certificate: '"+
		filepath.Join(dir, "tls.crt")+"', key: '"+filepath.Join(dir, "ca.crt")+"'}]}}\n")
	var stderr bytes.Buffer
	code := run(t.Context(), []string{"serve", config}, environment{nil, strings.NewReader(""), &bytes.Buffer{}, &stderr})
	for _, want := range []string{"config.yml:3: http.tls.certificates[0]: ", filepath.Join(dir, "ca.crt")} {
		if code != 1 || !strings.Contains(stderr.String(), want) {
			t.Errorf("exit %d, %s", code, &stderr)
		}
	}
}
