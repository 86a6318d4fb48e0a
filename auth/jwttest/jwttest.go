// Package jwttest issues tokens for tests: right ones, and with [Raw] any wrong one.
package jwttest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// A Key signs tokens.
type Key struct {
	ID        string
	Algorithm jose.SignatureAlgorithm
	Private   crypto.Signer
}

var rsaKey = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) })

// NewKey makes a key for an algorithm. All RSA keys of a process are one.
func NewKey(t testing.TB, id string, algorithm jose.SignatureAlgorithm) *Key {
	t.Helper()
	k := &Key{ID: id, Algorithm: algorithm}
	var err error
	switch algorithm {
	case jose.ES256:
		k.Private, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case jose.ES384:
		k.Private, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case jose.ES512:
		k.Private, err = ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	case jose.EdDSA:
		_, k.Private, err = ed25519.GenerateKey(rand.Reader)
	default:
		k.Private, err = rsaKey()
	}
	must(t, err)
	return k
}

// Sign returns a token with claims, and with members added to its header.
func (k *Key) Sign(t testing.TB, claims any, header map[string]any) string {
	t.Helper()
	o := (&jose.SignerOptions{}).WithType("JWT")
	if k.ID != "" {
		o.WithHeader("kid", k.ID)
	}
	for name, value := range header {
		o.WithHeader(jose.HeaderKey(name), value)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: k.Algorithm, Key: k.Private}, o)
	must(t, err)
	payload, err := json.Marshal(claims)
	must(t, err)
	jws, err := signer.Sign(payload)
	must(t, err)
	text, err := jws.CompactSerialize()
	must(t, err)
	return text
}

// Raw returns a token of any header and claims, signed by a function.
func Raw(t testing.TB, header, claims any, sign func(input []byte) []byte) string {
	t.Helper()
	part := func(v any) string {
		data, err := json.Marshal(v)
		must(t, err)
		return base64.RawURLEncoding.EncodeToString(data)
	}
	input := part(header) + "." + part(claims)
	return input + "." + base64.RawURLEncoding.EncodeToString(sign([]byte(input)))
}

// JWK returns the public key.
func (k *Key) JWK() jose.JSONWebKey {
	return jose.JSONWebKey{Key: k.Private.Public(), KeyID: k.ID, Algorithm: string(k.Algorithm), Use: "sig"}
}

// Set returns the key set of keys.
func Set(t testing.TB, keys ...*Key) []byte {
	t.Helper()
	set := jose.JSONWebKeySet{Keys: []jose.JSONWebKey{}}
	for _, k := range keys {
		set.Keys = append(set.Keys, k.JWK())
	}
	data, err := json.Marshal(set)
	must(t, err)
	return data
}

// A Certificate is a key with a certificate, and what has signed it.
type Certificate struct {
	*Key
	X509   *x509.Certificate
	issuer *Certificate
}

// Certify makes a certificate for a new key, signed by an issuer, by itself if that is nil, valid until a time. What it says
// otherwise can be changed.
func Certify(t testing.TB, issuer *Certificate, until time.Time, changes ...func(*x509.Certificate)) *Certificate {
	t.Helper()
	c := &Certificate{Key: NewKey(t, "", jose.ES256), issuer: issuer}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: fmt.Sprint("test ", time.Now().UnixNano())},
		NotBefore: until.Add(-48 * time.Hour), NotAfter: until, IsCA: issuer == nil, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning},
	}
	for _, change := range changes {
		change(template)
	}
	parent, signer := template, c.Private
	if issuer != nil {
		parent, signer = issuer.X509, issuer.Private
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, c.Private.Public(), signer)
	must(t, err)
	c.X509, err = x509.ParseCertificate(der)
	must(t, err)
	return c
}

// PEM returns the certificate in PEM.
func (c *Certificate) PEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.X509.Raw})
}

// TLS returns the certificate for a connection.
func (c *Certificate) TLS() tls.Certificate {
	return tls.Certificate{Certificate: [][]byte{c.X509.Raw}, PrivateKey: c.Private}
}

// X5C returns the header with the certificate.
func (c *Certificate) X5C() map[string]any {
	return map[string]any{"x5c": []string{base64.StdEncoding.EncodeToString(c.X509.Raw)}}
}

// A Server publishes keys at /keys, and where they are at /.well-known/openid-configuration.
type Server struct {
	*httptest.Server
	Fetched atomic.Int64 // requests for keys
	answer  atomic.Pointer[http.HandlerFunc]
}

// Serve starts a server with TLS (or without) that publishes keys, for the time of the test.
func Serve(t testing.TB, secure bool, keys ...*Key) *Server {
	s := &Server{}
	mux := http.NewServeMux()
	mux.HandleFunc("/keys", func(w http.ResponseWriter, r *http.Request) {
		s.Fetched.Add(1)
		(*s.answer.Load())(w, r)
	})
	mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]string{"issuer": s.URL, "jwks_uri": s.URL + "/keys"})
	})
	if secure {
		s.Server = httptest.NewTLSServer(mux)
	} else {
		s.Server = httptest.NewServer(mux)
	}
	t.Cleanup(s.Close)
	s.Publish(t, keys...)
	return s
}

// Publish replaces the keys.
func (s *Server) Publish(t testing.TB, keys ...*Key) {
	t.Helper()
	set := Set(t, keys...)
	s.Answer(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(set) })
}

// Answer replaces what requests for keys are answered with.
func (s *Server) Answer(f http.HandlerFunc) { s.answer.Store(&f) }

// CA returns the certificate of the server in PEM.
func (s *Server) CA() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
