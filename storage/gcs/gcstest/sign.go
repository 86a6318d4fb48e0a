package gcstest

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"
)

// An Account is a service account: its private key, and the file that Google would give for it.
type Account struct {
	Key  *rsa.PrivateKey
	JSON string
}

// NewAccount makes a service account, whose tokens come from a server that lives as long as a test.
func NewAccount(t testing.TB) Account {
	t.Helper()
	tokens := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"access_token": "a", "token_type": "Bearer", "expires_in": 3600}`))
	}))
	t.Cleanup(tokens.Close)
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(map[string]string{"type": "service_account", "client_email": "berth@p.test", "private_key_id": "k",
		"private_key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})), "token_uri": tokens.URL + "/token"})
	if err != nil {
		t.Fatal(err)
	}
	return Account{key, string(text)}
}

// allowed reports whether a request has a token, or reads by a URL that is good.
func (s *Service) allowed(r *http.Request) bool {
	if r.Header.Get("Authorization") == "Bearer a" {
		return true
	}
	return r.Method == http.MethodGet && Verify(s.Signed, r.URL, r.Host) == nil
}

// Verify holds the URL of a GET of a host against the description of V4 signatures, and against the clock. The client library
// signs a host without its port, which that of Google never has.
func Verify(key *rsa.PublicKey, u *url.URL, host string) error {
	host, _, _ = strings.Cut(host, ":")
	query := u.Query()
	signature, err := hex.DecodeString(query.Get("X-Goog-Signature"))
	if err != nil {
		return fmt.Errorf("verify a signature: %w", err)
	}
	query.Del("X-Goog-Signature")
	_, scope, _ := strings.Cut(query.Get("X-Goog-Credential"), "/")
	canonical := sha256.Sum256([]byte(strings.Join([]string{
		"GET", u.EscapedPath(), strings.ReplaceAll(query.Encode(), "+", "%20"), "host:" + host, "", "host", "UNSIGNED-PAYLOAD"}, "\n")))
	text := strings.Join([]string{"GOOG4-RSA-SHA256", query.Get("X-Goog-Date"), scope, hex.EncodeToString(canonical[:])}, "\n")
	sum := sha256.Sum256([]byte(text))
	if err := rsa.VerifyPKCS1v15(key, crypto.SHA256, sum[:], signature); err != nil {
		return fmt.Errorf("verify a signature: %w", err)
	}
	return current(query)
}

var errEnded = errors.New("the signed URL has ended")

// current returns an error for a URL that has ended.
func current(query url.Values) error {
	from, err := time.Parse("20060102T150405Z", query.Get("X-Goog-Date"))
	if err != nil {
		return err
	}
	seconds, err := strconv.Atoi(query.Get("X-Goog-Expires"))
	if err != nil {
		return err
	}
	if time.Since(from) > time.Duration(seconds)*time.Second {
		return errEnded
	}
	return nil
}
