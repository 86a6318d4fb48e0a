package certificate

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"berth/auth"
	"berth/auth/jwttest"
	"berth/auth/reload"
)

var past, future = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)

func writeAuthorities(t *testing.T, path string, certificates ...*jwttest.Certificate) {
	t.Helper()
	var text []byte
	for _, c := range certificates {
		text = append(text, c.PEM()...)
	}
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

func open(t *testing.T, o *reload.Options, certificates ...*jwttest.Certificate) (*Authorities, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "clients.crt")
	writeAuthorities(t, path, certificates...)
	a, err := OpenAuthorities([]string{path}, o)
	if err != nil {
		t.Fatal(err)
	}
	return a, path
}

// passwords lets in whoever sends credentials.
type passwords struct{}

func (passwords) Authenticate(r *http.Request) (auth.Subject, error) {
	switch user, _, ok := r.BasicAuth(); {
	case !ok:
		return auth.Subject{}, nil
	case user == "wrong":
		return auth.Subject{}, auth.ErrCredentials
	default:
		return auth.Subject{Name: "password:" + user}, nil
	}
}

// request is one over a connection on which the chain was verified.
func request(user string, chain ...*jwttest.Certificate) *http.Request {
	r := &http.Request{Header: http.Header{}, TLS: &tls.ConnectionState{}}
	if user == ":" {
		r.SetBasicAuth("", "")
	} else if user != "" {
		r.SetBasicAuth(user, "x")
	}
	var verified []*x509.Certificate
	for _, c := range chain {
		verified = append(verified, c.X509)
	}
	if r.TLS.PeerCertificates = verified; len(verified) > 1 {
		r.TLS.VerifiedChains = [][]*x509.Certificate{verified}
	}
	return r
}

func named(name pkix.Name, emails []string, uris ...string) func(*x509.Certificate) {
	return func(c *x509.Certificate) {
		c.Subject, c.EmailAddresses = name, emails
		for _, text := range uris {
			u, err := url.Parse(text)
			if err != nil {
				panic(err)
			}
			c.URIs = append(c.URIs, u)
		}
	}
}

func TestOwner(t *testing.T) {
	ca := jwttest.Certify(t, nil, future)
	authorities, _ := open(t, nil, ca)
	full := pkix.Name{CommonName: "ann", Organization: []string{"team-a", "team-b", "a\nb"}, OrganizationalUnit: []string{"unit"}}
	two := pkix.Name{CommonName: "ann"}
	two.ExtraNames = []pkix.AttributeTypeAndValue{{Type: []int{2, 5, 4, 3}, Value: "root"}, {Type: []int{2, 5, 4, 3}, Value: "ann"}}
	for name, test := range map[string]struct {
		o      Options
		change func(*x509.Certificate)
		user   string
		groups []string
	}{
		"common name":      {Options{User: "cn", Groups: "o"}, named(full, nil), "ann", []string{"team-a", "team-b"}},
		"prefixes":         {Options{User: "cn", Groups: "ou", UserPrefix: "u:", GroupPrefix: "g:"}, named(full, nil), "u:ann", []string{"g:unit"}},
		"no groups":        {Options{User: "cn", Groups: "none"}, named(full, nil), "ann", nil},
		"email":            {Options{User: "email", Groups: "none"}, named(full, []string{"ann@example.com"}), "ann@example.com", nil},
		"uri":              {Options{User: "uri", Groups: "none"}, named(full, nil, "spiffe://example.com/job"), "spiffe://example.com/job", nil},
		"no email":         {Options{User: "email", Groups: "o"}, named(full, nil), "", nil},
		"two emails":       {Options{User: "email", Groups: "o"}, named(full, []string{"a@b", "c@d"}), "", nil},
		"two URIs":         {Options{User: "uri", Groups: "o"}, named(full, nil, "a://b", "a://c"), "", nil},
		"two common names": {Options{User: "cn", Groups: "o"}, named(two, nil), "", nil},
		"no common name":   {Options{User: "cn", Groups: "o"}, named(pkix.Name{Organization: []string{"team-a"}}, nil), "", nil},
		"unprintable":      {Options{User: "cn", Groups: "o"}, named(pkix.Name{CommonName: "a\x00b"}, nil), "", nil},
		"long":             {Options{User: "cn", Groups: "o"}, named(pkix.Name{CommonName: strings.Repeat("x", 513)}, nil), "", nil},
	} {
		test.o.Authorities = authorities
		a, err := New(test.o)
		if err != nil {
			t.Fatal(err)
		}
		s, err := a.Authenticate(request("", jwttest.Certify(t, ca, future, test.change), ca))
		if err != nil || s.Name != test.user || !slices.Equal(s.Groups, test.groups) {
			t.Errorf("%s: %q %q, %v", name, s.Name, s.Groups, err)
		}
	}
	for _, o := range []Options{{User: "dn", Groups: "o"}, {User: "cn", Groups: "x"}} {
		if _, err := New(o); err == nil {
			t.Errorf("%+v is taken", o)
		}
	}
}

// TestWhichCredentials: credentials of the request go before the certificate, and what is not proven or has ended is nothing.
func TestWhichCredentials(t *testing.T) {
	ca, foreign := jwttest.Certify(t, nil, future), jwttest.Certify(t, nil, future)
	authorities, _ := open(t, nil, ca)
	is := named(pkix.Name{CommonName: "ann"}, nil)
	client, ended := jwttest.Certify(t, ca, future, is), jwttest.Certify(t, ca, past, is)
	alone, err := New(Options{User: "cn", Groups: "o", Authorities: authorities})
	if err != nil {
		t.Fatal(err)
	}
	a := alone.Before(passwords{})
	plain := request("bob")
	plain.TLS = nil
	for name, test := range map[string]struct {
		r           *http.Request
		name, alone string
		err         error
	}{
		"certificate":                   {request("", client, ca), "ann", "ann", nil},
		"password":                      {request("bob", client, ca), "password:bob", "ann", nil},
		"wrong password":                {request("wrong", client, ca), "", "ann", auth.ErrCredentials},
		"empty credentials":             {request(":", client, ca), "ann", "ann", nil},
		"not verified":                  {request("", client), "", "", nil},
		"not verified, and a password":  {request("bob", client), "password:bob", "", nil},
		"ended":                         {request("", ended, ca), "", "", nil},
		"an authority that is not ours": {request("", client, foreign), "", "", nil},
		"no certificate":                {request(""), "", "", nil},
		"without TLS":                   {plain, "password:bob", "", nil},
	} {
		s, err := a.Authenticate(test.r)
		if s.Name != test.name || !errors.Is(err, test.err) {
			t.Errorf("%s: %q, %v", name, s.Name, err)
		}
		if s, err := alone.Authenticate(test.r); s.Name != test.alone || err != nil {
			t.Errorf("%s, without other ways: %q, %v", name, s.Name, err)
		}
	}
}

// TestRotation: with authorities that are replaced go the clients that they vouched for, at once; bad files change nothing.
func TestRotation(t *testing.T) {
	first, second := jwttest.Certify(t, nil, future), jwttest.Certify(t, nil, future)
	var errs []error
	reloads := 0
	authorities, path := open(t, &reload.Options{OnError: func(err error) { errs = append(errs, err) }, OnReload: func() { reloads++ }}, first)
	trusted := func() string {
		return fmt.Sprint(authorities.Trusts([]*x509.Certificate{first.X509}), authorities.Trusts([]*x509.Certificate{second.X509}), authorities.Trusts(nil))
	}
	pool := authorities.Pool()
	if authorities.Pool() != pool || trusted() != "true false false" {
		t.Errorf("at the start: %s", trusted())
	}
	writeAuthorities(t, path, first, second)
	if err := authorities.Refresh(); err != nil || trusted() != "true true false" || authorities.Pool() == pool {
		t.Errorf("both: %s, %v", trusted(), err)
	}
	for _, bad := range []string{"", "no PEM", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", string(first.PEM()) + "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"} {
		if err := os.WriteFile(path, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := authorities.Refresh(); err == nil || !strings.Contains(err.Error(), path) || trusted() != "true true false" {
			t.Errorf("%q: %s, %v", bad, trusted(), err)
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := authorities.Refresh(); err == nil || trusted() != "true true false" {
		t.Errorf("the file is gone: %s, %v", trusted(), err)
	}
	writeAuthorities(t, path, second)
	if err := authorities.Refresh(); err != nil || trusted() != "false true false" {
		t.Errorf("the second alone: %s, %v", trusted(), err)
	}
	if reloads != 2 || len(errs) < 3 {
		t.Errorf("%d reloads, errors %v", reloads, errs)
	}
	for _, path := range []string{path + "x", t.TempDir()} {
		if _, err := OpenAuthorities([]string{path}, nil); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"))
	f.Add(jwttest.Certify(f, nil, future).PEM())
	f.Fuzz(func(t *testing.T, data []byte) {
		if certificates, err := parse("file", data); (err == nil) == (len(certificates) == 0) {
			t.Errorf("%d certificates, %v", len(certificates), err)
		}
	})
}
