package server

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"berth/auth/certificate"
)

// An authority signs certificates for tests.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t, file: filepath.Join(t.TempDir(), "ca.crt")}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true}
	var chain []byte
	chain, a.key = a.sign(template, template, nil)
	block, _ := pem.Decode(chain)
	var err error
	if a.cert, err = x509.ParseCertificate(block.Bytes); err != nil {
		t.Fatal(err)
	}
	writeFile(t, a.file, chain)
	return a
}

// sign returns a certificate in PEM; without a parent key it is signed by its own.
func (a *authority) sign(template, parent *x509.Certificate, parentKey *ecdsa.PrivateKey) ([]byte, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	if parentKey == nil {
		parentKey = key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), parentKey)
	if err != nil {
		a.t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), key
}

// issue writes a pair for the names, which ends then.
func (a *authority) issue(files CertificateFile, end time.Time) {
	a.t.Helper()
	names := append([]string{"localhost"}, files.Hostnames...)
	chain, key := a.sign(&x509.Certificate{SerialNumber: big.NewInt(end.Unix()), Subject: pkix.Name{CommonName: files.Setting}, DNSNames: names,
		NotAfter: end, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}, a.cert, a.key)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	writeFile(a.t, files.Key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	writeFile(a.t, files.Certificate, chain)
}

func (a *authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

func writeFile(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// pairFiles names the files of a pair.
func pairFiles(dir, name string, hosts ...string) CertificateFile {
	return CertificateFile{Setting: name, Hostnames: hosts, Certificate: filepath.Join(dir, name+".crt"), Key: filepath.Join(dir, name+".key")}
}

// openIssued opens TLS with certificates of the authority, which end in an hour.
func openIssued(t *testing.T, a *authority, o TLSOptions, files ...CertificateFile) *TLS {
	t.Helper()
	for _, f := range files {
		a.issue(f, time.Now().Add(time.Hour))
	}
	o.Certificates = files
	if o.Log == nil {
		o.Log = quietLog()
	}
	result, err := OpenTLS(o)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

// startTLS runs a server and returns it with a client that trusts it.
func startTLS(t *testing.T, a *authority, o Options, h http.Handler) (*started, *http.Transport) {
	t.Helper()
	s := start(t, h, o, nil)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: a.pool()}, ForceAttemptHTTP2: true}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		s.signals <- os.Interrupt
		s.wantStopped()
	})
	return s, transport
}

func get(transport *http.Transport, url string) (string, error) {
	r, err := (&http.Client{Transport: transport}).Get(url)
	if err != nil {
		return "", err
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	return r.Proto + " " + string(body), err
}

func TestCertificateByServerName(t *testing.T) {
	a, dir := newAuthority(t), t.TempDir()
	served := openIssued(t, a, TLSOptions{}, pairFiles(dir, "exact", "a.example.com"), pairFiles(dir, "wild", "*.example.com"), pairFiles(dir, "default"))
	s, _ := startTLS(t, a, Options{TLS: served}, http.NotFoundHandler())
	for name, want := range map[string]string{
		"a.example.com": "exact", "A.Example.com": "exact", "b.example.com": "wild", "x.b.example.com": "default", "example.com": "default", "other": "default", "": "default",
	} {
		c, err := tls.Dial("tcp", s.addr, &tls.Config{ServerName: name, InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		if got := c.ConnectionState().PeerCertificates[0].Subject.CommonName; got != want {
			t.Errorf("for %q there is the certificate %s, want %s", name, got, want)
		}
		c.Close()
	}
	first := openIssued(t, a, TLSOptions{}, pairFiles(dir, "first", "a"), pairFiles(dir, "second", "b"))
	if got, err := first.choose(&tls.ClientHelloInfo{}); err != nil || got.Leaf.Subject.CommonName != "first" {
		t.Errorf("without a default one there is the certificate %v, %v", got.Leaf.Subject, err)
	}
}

func TestCertificateReload(t *testing.T) {
	a, files := newAuthority(t), pairFiles(t.TempDir(), "default")
	var logged bytes.Buffer
	log := logrus.New()
	log.SetOutput(&logged)
	served := openIssued(t, a, TLSOptions{Log: log}, files)
	release := make(chan struct{})
	entered := make(chan struct{}, 1)
	s, transport := startTLS(t, a, Options{TLS: served}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		entered <- struct{}{}
		<-release
		io.WriteString(w, "served")
	}))
	answered := make(chan error, 1)
	go func() {
		body, err := get(transport, "https://"+s.addr+"/v2/")
		if err == nil && body != "HTTP/2.0 served" {
			err = errors.New(body)
		}
		answered <- err
	}()
	<-entered
	later := time.Now().Add(48 * time.Hour).Truncate(time.Second)
	a.issue(files, later)
	served.fallback.Refresh()
	if !served.Expires().Equal(later) {
		t.Errorf("after the reload the certificate ends at %s, want %s", served.Expires(), later)
	}
	close(release)
	if err := <-answered; err != nil {
		t.Errorf("the request that ran was not answered: %v", err)
	}
	good, err := os.ReadFile(files.Key)
	if err != nil {
		t.Fatal(err)
	}
	a.issue(files, time.Now().Add(72*time.Hour))
	writeFile(t, files.Key, good)
	for range 3 {
		served.fallback.Refresh()
	}
	a.issue(files, time.Now().Add(-time.Hour))
	served.fallback.Refresh()
	if !served.Expires().Equal(later) {
		t.Errorf("a bad pair is in force, until %s", served.Expires())
	}
	if n := strings.Count(logged.String(), "level=error"); n != 2 || !strings.Contains(logged.String(), files.Key) || !strings.Contains(logged.String(), "expired") {
		t.Errorf("of a key that does not match and a certificate that ended, the log has %d errors:\n%s", n, &logged)
	}
}

func TestOpenTLSRefuses(t *testing.T) {
	a, dir := newAuthority(t), t.TempDir()
	good, other, ended := pairFiles(dir, "good"), pairFiles(dir, "other"), pairFiles(dir, "ended")
	a.issue(good, time.Now().Add(time.Hour))
	a.issue(other, time.Now().Add(time.Hour))
	a.issue(ended, time.Now().Add(-time.Hour))
	bad := filepath.Join(dir, "bad.pem")
	writeFile(t, bad, []byte("no PEM"))
	missing := filepath.Join(dir, "missing")
	with := func(certificate, key string) TLSOptions {
		return TLSOptions{Certificates: []CertificateFile{{Setting: "the.setting", Certificate: certificate, Key: key}}}
	}
	clients := with(good.Certificate, good.Key)
	for name, test := range map[string]struct {
		o    TLSOptions
		want []string
	}{
		"no certificate":           {TLSOptions{}, []string{"no certificate"}},
		"missing certificate":      {with(missing, good.Key), []string{"the.setting", missing}},
		"missing key":              {with(good.Certificate, missing), []string{"the.setting", missing}},
		"mismatched key":           {with(good.Certificate, other.Key), []string{"the.setting", good.Certificate, other.Key, "match"}},
		"bad certificate":          {with(bad, good.Key), []string{"the.setting", bad}},
		"bad key":                  {with(good.Certificate, bad), []string{"the.setting", bad}},
		"expired":                  {with(ended.Certificate, ended.Key), []string{"the.setting", ended.Certificate, "expired on"}},
		"unknown rule for clients": {TLSOptions{Certificates: clients.Certificates, ClientAuth: "x"}, []string{"http.tls.clientauth"}},
	} {
		test.o.Log = quietLog()
		_, err := OpenTLS(test.o)
		for _, want := range test.want {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v, want %q", name, err, want)
			}
		}
	}
}

func TestVersionsAndSuites(t *testing.T) {
	a, dir := newAuthority(t), t.TempDir()
	const suite = tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
	for _, test := range []struct {
		o    TLSOptions
		max  uint16
		fail bool
	}{
		{TLSOptions{}, tls.VersionTLS11, true},
		{TLSOptions{}, tls.VersionTLS12, false},
		{TLSOptions{}, tls.VersionTLS13, false},
		{TLSOptions{MinVersion: tls.VersionTLS13}, tls.VersionTLS12, true},
		{TLSOptions{CipherSuites: []string{tls.CipherSuiteName(suite)}}, tls.VersionTLS12, false},
	} {
		s, _ := startTLS(t, a, Options{TLS: openIssued(t, a, test.o, pairFiles(dir, "default"))}, http.NotFoundHandler())
		c, err := tls.Dial("tcp", s.addr, &tls.Config{RootCAs: a.pool(), MinVersion: tls.VersionTLS10, MaxVersion: test.max})
		if (err != nil) != test.fail {
			t.Errorf("%+v, at most version %x: %v", test.o, test.max, err)
		}
		if err != nil {
			continue
		}
		if got := c.ConnectionState().CipherSuite; test.o.CipherSuites != nil && got != suite {
			t.Errorf("the suite is %s", tls.CipherSuiteName(got))
		}
		c.Close()
	}
}

func openAuthorities(t *testing.T, files ...string) *certificate.Authorities {
	t.Helper()
	a, err := certificate.OpenAuthorities(files, nil)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestClientCertificates(t *testing.T) {
	a, foreign, dir := newAuthority(t), newAuthority(t), t.TempDir()
	own, other := pairFiles(dir, "own"), pairFiles(dir, "other")
	a.issue(own, time.Now().Add(time.Hour))
	foreign.issue(other, time.Now().Add(time.Hour))
	for _, test := range []struct {
		rule               string
		none, known, wrong bool
	}{
		{"", false, true, false},
		{"require-and-verify-client-cert", false, true, false},
		{"verify-client-cert-if-given", true, true, false},
		{"require-any-client-cert", false, true, true},
		{"request-client-cert", true, true, true},
	} {
		served := openIssued(t, a, TLSOptions{ClientCAs: openAuthorities(t, a.file), ClientAuth: test.rule}, pairFiles(dir, "default"))
		s, transport := startTLS(t, a, Options{TLS: served}, http.NotFoundHandler())
		for _, client := range []struct {
			files CertificateFile
			want  bool
		}{{CertificateFile{}, test.none}, {own, test.known}, {other, test.wrong}} {
			transport := transport.Clone()
			if client.files.Key != "" {
				pair, err := tls.LoadX509KeyPair(client.files.Certificate, client.files.Key)
				if err != nil {
					t.Fatal(err)
				}
				transport.TLSClientConfig.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
			}
			if _, err := get(transport, "https://"+s.addr+"/v2/"); (err == nil) != client.want {
				t.Errorf("%q, a client with %q: %v", test.rule, client.files.Setting, err)
			}
			transport.CloseIdleConnections()
		}
	}
}

func TestProtocols(t *testing.T) {
	a, dir := newAuthority(t), t.TempDir()
	content := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got, err := io.ReadAll(r.Body)
		if err != nil || r.TLS == nil {
			t.Errorf("read %d bytes, %v; TLS %v", len(got), err, r.TLS)
		}
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(got))
	})
	for _, test := range []struct {
		client, only bool
		want         string
	}{{true, false, "HTTP/2.0"}, {false, false, "HTTP/1.1"}, {true, true, "HTTP/1.1"}} {
		s, transport := startTLS(t, a, Options{TLS: openIssued(t, a, TLSOptions{}, pairFiles(dir, "default")), HTTP1Only: test.only}, h)
		transport.ForceAttemptHTTP2 = test.client
		r, err := (&http.Client{Transport: transport}).Post("https://"+s.addr+"/v2/", "", bytes.NewReader(content))
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(r.Body)
		if r.Body.Close(); r.Proto != test.want || err != nil || !bytes.Equal(got, content) {
			t.Errorf("%+v: %s, %d bytes, %v", test, r.Proto, len(got), err)
		}
	}
}

// TestStalledHandshake has clients that say nothing, and a part of a handshake.
func TestStalledHandshake(t *testing.T) {
	a := newAuthority(t)
	s, _ := startTLS(t, a, Options{TLS: openIssued(t, a, TLSOptions{}, pairFiles(t.TempDir(), "default")), ReadHeaderTimeout: 50 * time.Millisecond},
		http.NotFoundHandler())
	for _, said := range []string{"", "\x16\x03\x01\x02\x00\x01"} {
		c, err := net.Dial("tcp", s.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		io.WriteString(c, said)
		if err := c.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, c); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("a client that said %q was not cut", said)
		}
	}
}

// TestStalledTLSDownload has clients of HTTP/1.1 and of HTTP/2 that take no more than the beginning of an answer.
func TestStalledTLSDownload(t *testing.T) {
	a, dir := newAuthority(t), t.TempDir()
	for _, http2 := range []bool{false, true} {
		t.Run(fmt.Sprint("http2 ", http2), func(t *testing.T) {
			ended := make(chan error, 1)
			s, transport := startTLS(t, a, Options{TLS: openIssued(t, a, TLSOptions{}, pairFiles(dir, "default")), ProgressTimeout: 100 * time.Millisecond},
				http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
					var err error
					for block := make([]byte, 1<<20); err == nil; {
						_, err = w.Write(block)
					}
					ended <- err
				}))
			transport.ForceAttemptHTTP2 = http2
			r, err := (&http.Client{Transport: transport}).Get("https://" + s.addr + "/v2/")
			if err != nil {
				t.Fatal(err)
			}
			defer r.Body.Close()
			select {
			case <-ended:
			case <-time.After(10 * time.Second):
				t.Error("the handler is held up")
			}
		})
	}
}

// TestPlainToTLS has a client that does not speak TLS: it is told so.
func TestPlainToTLS(t *testing.T) {
	a := newAuthority(t)
	s, _ := startTLS(t, a, Options{TLS: openIssued(t, a, TLSOptions{}, pairFiles(t.TempDir(), "default"))}, http.NotFoundHandler())
	c, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	io.WriteString(c, "GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n")
	if line, err := bufio.NewReader(c).ReadString('\n'); err != nil || !strings.Contains(line, "400") {
		t.Errorf("answered %q, %v", line, err)
	}
}

func TestExpiryIsWarnedOf(t *testing.T) {
	a := newAuthority(t)
	var logged bytes.Buffer
	log := logrus.New()
	log.SetOutput(&logged)
	served := openIssued(t, a, TLSOptions{Log: log}, pairFiles(t.TempDir(), "default", "r.example.com"))
	served.warn(time.Now().Add(-expiryWarn))
	if logged.Len() > 0 {
		t.Errorf("it is warned of too early: %s", &logged)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	served.watch(ended)
	if !strings.Contains(logged.String(), "localhost, r.example.com, 127.0.0.1 expires soon") {
		t.Errorf("the log has %q", &logged)
	}
}
