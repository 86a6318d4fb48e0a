package main

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"net/http"
	"net/http/httptrace"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"berth/auth/jwttest"
	"berth/auth/reload"
)

const certificateConfig = `version: 0.1
storage: inmemory
http:
  addr: '127.0.0.1:0'
  admin: {socket: DIR/socket}
  tls: {certificate: DIR/tls.crt, key: DIR/tls.key, clientcas: [DIR/clients], clientauth: verify-client-cert-if-given}
auth:
  htpasswd: {path: DIR/users}
  clientcertificate: {userprefix: 'cert:', groupprefix: 'cert:'}
authorization:
  bindings:
    - {subjects: ['group:cert:team-a'], roles: [registry-editor], repositories: ['**']}
    - {subjects: ['user:ann'], roles: [registry-viewer], repositories: ['**']}
`

// certify makes a certificate by which a client can connect.
func certify(t *testing.T, issuer *jwttest.Certificate, name, team string) *jwttest.Certificate {
	t.Helper()
	return jwttest.Certify(t, issuer, time.Now().Add(time.Hour), func(c *x509.Certificate) {
		c.Subject = pkix.Name{CommonName: name, Organization: []string{team}}
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	})
}

// A certified is a client of a guarded server that shows a certificate, nil for none.
type certified struct {
	*guarded
	http   http.Client
	reused bool // the last request went over a connection that was open
}

func (g *guarded) certified(c *jwttest.Certificate) *certified {
	g.Helper()
	o := &tls.Config{InsecureSkipVerify: true, ClientSessionCache: tls.NewLRUClientSessionCache(4)}
	if c != nil {
		pair := c.TLS()
		o.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
	}
	transport := &http.Transport{TLSClientConfig: o, ForceAttemptHTTP2: true}
	g.Cleanup(transport.CloseIdleConnections)
	return &certified{guarded: g, http: http.Client{Transport: transport}}
}

// status sends a request as a user, "" for none, and returns the status; 0 when there was no connection.
func (c *certified) status(user, method, path, body string) int {
	c.Helper()
	r, err := http.NewRequest(method, strings.Replace(c.url, "http:", "https:", 1)+path, strings.NewReader(body))
	if err != nil {
		c.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/vnd.oci.image.index.v1+json")
	if user != "" {
		r.SetBasicAuth(user, user+"-secret")
	}
	r = r.WithContext(httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) { c.reused = i.Reused }}))
	response, err := c.http.Do(r)
	if err != nil {
		return 0
	}
	defer response.Body.Close()
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		c.Fatal(err)
	}
	return response.StatusCode
}

// TestClientCertificates: a certificate says who asks, credentials go before it, and with its authority goes its owner, on
// connections that are open too.
func TestClientCertificates(t *testing.T) {
	old, next := certify(t, nil, "old authority", ""), certify(t, nil, "next authority", "")
	g := startWith(t, func(g *guarded) string {
		if err := writeSelfSigned(g.dir, []string{"localhost"}); err != nil {
			t.Fatal(err)
		}
		file(t, g.dir, "clients", string(old.PEM()))
		return certificateConfig
	})
	const path = "/v2/team/app/manifests/v1"
	job, other := g.certified(certify(t, old, "job", "team-a")), g.certified(certify(t, old, "ann", "team-b"))
	nobody, foreign, early := g.certified(nil), g.certified(certify(t, certify(t, nil, "x", ""), "job", "team-a")), g.certified(certify(t, next, "job", "team-a"))
	for _, test := range []struct {
		client       *certified
		user, method string
		want         int
	}{
		{job, "", "PUT", 201}, {job, "", "GET", 200}, {job, "ann", "GET", 200}, {job, "ann", "PUT", 403}, {job, "eve", "GET", 401},
		{other, "", "GET", 403}, {nobody, "", "GET", 401}, {nobody, "ann", "GET", 200}, {foreign, "", "GET", 0}, {early, "", "GET", 0},
	} {
		if got := test.client.status(test.user, test.method, path, emptyIndex); got != test.want {
			t.Errorf("%s as %q with %v is answered %d, want %d", test.method, test.user, test.client.http.Transport.(*http.Transport).TLSClientConfig.GetClientCertificate != nil, got, test.want)
		}
	}

	file(t, g.dir, "clients", "no PEM")
	g.command(1, "", "^berth: reload: .*clients: there is no certificate in PEM", "reload")
	if got := job.status("", "GET", path, ""); got != 200 || !job.reused {
		t.Errorf("with a bad file it is answered %d, over an open connection: %t", got, job.reused)
	}
	file(t, g.dir, "clients", string(next.PEM()))
	g.command(0, "reloaded", "", "reload")
	if got := job.status("", "GET", path, ""); got != 401 || !job.reused {
		t.Errorf("without its authority it is answered %d, over an open connection: %t", got, job.reused)
	}
	job.http.CloseIdleConnections()
	if got := job.status("", "GET", path, ""); got != 0 {
		t.Errorf("a new connection, for which it has a session, is answered %d", got)
	}
	if got := early.status("", "GET", path, ""); got != 200 {
		t.Errorf("of the new authority it is answered %d", got)
	}
	file(t, g.dir, "clients", string(old.PEM())+string(next.PEM())) // by itself, without a reload
	for end := time.Now().Add(reload.Interval + 2*time.Second); job.status("", "GET", path, "") != 200; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the old authority is not back")
		}
	}
	other.status("ann", "GET", path, "") // stop looks for the name
	g.stop()
	if access := g.stdout.String(); !strings.Contains(access, " cert:job [") || !strings.Contains(access, "HTTP/2.0") {
		t.Errorf("the access log does not name the owner, or there was no HTTP/2: %s", access)
	}
}

func TestClientCertificateConfigurations(t *testing.T) {
	dir := t.TempDir()
	if err := writeSelfSigned(dir, []string{"localhost"}); err != nil {
		t.Fatal(err)
	}
	bad := file(t, dir, "bad", "no PEM")
	good := file(t, dir, "clients", string(certify(t, nil, "authority", "").PEM()))
	config := func(clients, identity string) string {
		return file(t, t.TempDir(), "config.yml", "version: 0.1\nstorage: inmemory\nhttp: {tls: {certificate: "+filepath.Join(dir, "tls.crt")+", key: "+
			filepath.Join(dir, "tls.key")+clients+"}}\nauth: {clientcertificate: "+identity+"}\n")
	}
	for _, test := range []struct{ clients, identity, want string }{
		{", clientcas: [" + good + "]", "{}", ""},
		{"", "{}", `config.yml:4: auth.clientcertificate: needs http.tls.clientcas`},
		{", clientcas: [" + good + "], clientauth: request-client-cert", "{}", "config.yml:4: auth.clientcertificate: needs certificates that are verified"},
		{", clientcas: [" + good + "]", "{user: dn}", "config.yml:4: auth.clientcertificate.user: must be one of"},
		{", clientcas: [" + bad + "]", "{}", "config.yml:3: http.tls.clientcas: .*bad: there is no certificate in PEM"},
		{", clientcas: [" + good + ", " + good + "x]", "{}", "config.yml:3: http.tls.clientcas: .*clientsx: no such file"},
	} {
		expected := commandTest{args: []string{"config", "check", config(test.clients, test.identity)}, code: 1, stderr: test.want}
		if test.want == "" {
			expected.code, expected.stdout = 0, "ok\n$"
		}
		expected.run(t)
	}
}
