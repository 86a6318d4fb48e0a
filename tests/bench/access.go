package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"berth/tests/bench/wire"
	"berth/tests/harness"
)

const accessSection = "access"

// accessOperations are those of who has logged in, against those of anybody, and those over TLS.
func accessOperations() []operation {
	others := []string{floor, peer}
	return []operation{
		{name: "manifest GET with a password", section: accessSection, clients: 16, bar: 0.9, against: anonymous, except: others,
			place: withPasswords, prepare: reading("GET", credited(asItIs))},
		{name: "manifest GET with a pass of the token endpoint", section: accessSection, clients: 16, bar: 0.85, against: anonymous,
			except: others, place: withPasswords, prepare: reading("GET", credited(asPass))},
		{name: "manifest GET with a token of a token server", section: accessSection, clients: 16, bar: 0.85, against: anonymous,
			except: others, place: withTokens, prepare: reading("GET", credited(asItIs))},
		{name: "blob GET 256 MiB over TLS 1.3", section: accessSection, clients: 2, bar: 0.9, against: floor,
			place: overTLS, prepare: reading("GET", blobs(256*mib, 1))},
	}
}

// The user of the benchmark, and a line for it as `berth user add` writes it. Nobody but the benchmark is let in by it.
const (
	benchService             = "bench"
	benchUser, benchPassword = "bench", "password-of-the-bench"
	benchLine                = "bench:$2a$12$LG5Atv4vcVgKZbH8mMhp7.4rhhjyEdiwujOPHkwDFQAlizMsLzV72\n"
)

// Everybody may do here what the benchmark does with credentials, so that the same requests can be made without.
const (
	passwordConfig = berthConfig + `auth:
  anonymous: [pull, push]
  htpasswd: {path: FOLDER/users}
  tokenendpoint: {mode: always, lifetime: 1h, service: bench}
`
	tokenConfig = berthConfig + `auth:
  anonymous: [pull, push]
  token: {realm: 'https://auth.example/token', service: bench, issuer: auth.example, jwks: FOLDER/keys}
`
)

// twice returns a target to be asked with credentials, and the same one to be asked without.
func twice(t target, authorization string) []target {
	other := t
	other.name, t.authorization = anonymous, authorization
	return []target{t, other}
}

// withPasswords has a file of users and the token endpoint.
func withPasswords(_ context.Context, b *bench, t target) ([]target, error) {
	t.place, t.config = "with passwords", strings.ReplaceAll(passwordConfig, "FOLDER", b.dir)
	basic := "Basic " + base64.StdEncoding.EncodeToString([]byte(benchUser+":"+benchPassword))
	return twice(t, basic), os.WriteFile(filepath.Join(b.dir, "users"), []byte(benchLine), 0o600)
}

// withTokens trusts a token server, which is the benchmark.
func withTokens(_ context.Context, b *bench, t target) ([]target, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	keys, err := keySet(&key.PublicKey)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	token := jwt.NewWithClaims(jwt.SigningMethodES256, jwt.MapClaims{
		"iss": "auth.example", "sub": benchUser, "aud": benchService, "iat": now.Unix(), "exp": now.Add(time.Hour).Unix(),
		"access": []map[string]any{{"type": "repository", "name": readRepository, "actions": []string{"pull", "push"}}},
	})
	token.Header["kid"] = benchUser
	text, err := token.SignedString(key)
	if err != nil {
		return nil, err
	}
	t.place, t.config = "with tokens", strings.ReplaceAll(tokenConfig, "FOLDER", b.dir)
	return twice(t, "Bearer "+text), os.WriteFile(filepath.Join(b.dir, "keys"), keys, 0o600)
}

// keySet renders a JSON Web Key Set: RFC 7517 and, for the coordinates, RFC 7518, section 6.2.
func keySet(key *ecdsa.PublicKey) ([]byte, error) {
	point, err := key.Bytes() // 4, and the coordinates
	if err != nil {
		return nil, err
	}
	half := len(point) / 2
	return json.Marshal(map[string]any{"keys": []map[string]string{{
		"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": benchUser,
		"x": base64.RawURLEncoding.EncodeToString(point[1 : 1+half]), "y": base64.RawURLEncoding.EncodeToString(point[1+half:]),
	}}})
}

// asItIs sends the credentials of a target.
func asItIs(s *server) (string, error) { return s.authorization, nil }

// asPass sends what the token endpoint gives for them.
func asPass(s *server) (authorization string, err error) {
	if s.authorization == "" {
		return "", nil
	}
	ask := wire.Request{Method: "GET", Path: "/v2/_berth/auth/token?service=" + benchService, Header: "Authorization: " + s.authorization + "\r\n"}
	var body bytes.Buffer
	if err := alone(s, func(c *wire.Client) error { return c.Fetch(http.StatusOK, ask.Head(), &body) }); err != nil {
		return "", err
	}
	var answer struct{ Token string }
	if err := json.Unmarshal(body.Bytes(), &answer); err != nil || answer.Token == "" {
		return "", errors.Join(errors.New("the token endpoint gives no token"), err)
	}
	return "Bearer " + answer.Token, nil
}

// credited are samples of manifests with credentials. A server that takes others, too, has not looked at them, and fails.
func credited(credentials func(*server) (string, error)) func(*server) ([]sample, error) {
	return func(s *server) ([]sample, error) {
		all, err := manifests(true)(s)
		if err != nil {
			return nil, err
		}
		authorization, err := credentials(s)
		if err != nil || authorization == "" {
			return all, err
		}
		all = slices.Clone(all)
		plain := all[0].header
		for i := range all {
			all[i].header = plain + "Authorization: " + authorization + "\r\n"
		}
		wrong := wire.Request{Method: "GET", Path: all[0].path, Header: plain + "Authorization: " + garbled(authorization) + "\r\n"}
		return all, alone(s, func(c *wire.Client) error { return c.Do(http.StatusUnauthorized, wrong.Head(), nil, nil) })
	}
}

// garbled changes a character in the middle of the last part of credentials.
func garbled(authorization string) string {
	b := []byte(authorization)
	if i := len(b) - 6; b[i] == 'A' {
		b[i] = 'B'
	} else {
		b[i] = 'A'
	}
	return string(b)
}

// overTLS has a certificate of its own for each target, and TLS 1.3.
func overTLS(_ context.Context, b *bench, t target) ([]target, error) {
	certificate, key := filepath.Join(b.dir, t.name+".crt"), filepath.Join(b.dir, t.name+".key")
	if err := harness.SelfSigned(certificate, key); err != nil {
		return nil, err
	}
	text, err := os.ReadFile(certificate)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(text)
	t.place, t.tls = "over TLS", &tls.Config{RootCAs: roots, ServerName: "127.0.0.1", MinVersion: tls.VersionTLS13}
	if t.arguments != nil {
		t.arguments = inOrder(certificate, key)
	} else {
		t.config += fmt.Sprintf("  tls:\n    certificate: %s\n    key: %s\n", certificate, key)
	}
	return []target{t}, nil
}
