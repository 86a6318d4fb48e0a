package gcs

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
	"strings"
	"testing"
	"time"

	"berth/storage"
)

// verify holds a URL against the description of V4 signatures, as the service would.
func verify(key *rsa.PublicKey, signed string) error {
	u, err := url.Parse(signed)
	if err != nil {
		return err
	}
	query := u.Query()
	signature, err := hex.DecodeString(query.Get("X-Goog-Signature"))
	if err != nil {
		return err
	}
	query.Del("X-Goog-Signature")
	_, scope, _ := strings.Cut(query.Get("X-Goog-Credential"), "/")
	canonical := sha256.Sum256([]byte(strings.Join([]string{
		"GET", u.EscapedPath(), strings.ReplaceAll(query.Encode(), "+", "%20"), "host:" + u.Host, "", "host", "UNSIGNED-PAYLOAD"}, "\n")))
	text := strings.Join([]string{"GOOG4-RSA-SHA256", query.Get("X-Goog-Date"), scope, hex.EncodeToString(canonical[:])}, "\n")
	sum := sha256.Sum256([]byte(text))
	return rsa.VerifyPKCS1v15(key, crypto.SHA256, sum[:], signature)
}

// TestSignedURL signs by a key in the configuration, and through IAM where there is none.
func TestSignedURL(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	file := func(fields map[string]string) string {
		text, err := json.Marshal(fields)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	account := file(map[string]string{"type": "service_account", "client_email": "berth@p.test", "private_key_id": "k",
		"private_key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))})
	person := file(map[string]string{"type": "authorized_user", "client_id": "i", "client_secret": "s", "refresh_token": "r"})
	for name, c := range map[string]struct {
		credentials Credentials
		asks        int
	}{
		"a key": {Credentials{JSON: account}, 0}, "IAM": {Credentials{JSON: person, Account: "berth@p.test"}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			service := newFake()
			service.sign = func(payload []byte) []byte {
				sum := sha256.Sum256(payload)
				signature, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, sum[:])
				if err != nil {
					t.Error(err)
				}
				return signature
			}
			o := over(&tokenGiver{fake: service})
			o.Credentials = c.credentials
			d := openOver(t, o)
			service.requests = nil
			signed, err := storage.SignedURL(t.Context(), d, "data/a!b", time.Hour)
			if err != nil {
				t.Fatal(err)
			}
			if err := verify(&key.PublicKey, signed); err != nil {
				t.Errorf("%s: %v", signed, err)
			}
			for _, change := range []string{"data/a%21b>data/a%21c", "data/a!b>data/a!c", "X-Goog-Expires=3599>X-Goog-Expires=9999"} {
				from, to, _ := strings.Cut(change, ">")
				if forged := strings.Replace(signed, from, to, 1); forged != signed && verify(&key.PublicKey, forged) == nil {
					t.Errorf("the signature also fits %s", forged)
				}
			}
			if len(service.requests) != c.asks {
				t.Errorf("it took %q", service.requests)
			}
		})
	}
	d := openOver(t, over(newFake()))
	if _, err := storage.SignedURL(t.Context(), d, "k", time.Hour); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("SignedURL by nobody = %v", err)
	}
}

// TestNoToken has credentials that nobody takes.
func TestNoToken(t *testing.T) {
	o := over(&tokenGiver{fake: newFake(), refuses: true})
	o.Credentials = Credentials{JSON: `{"type": "authorized_user", "client_id": "i", "client_secret": "very secret", "refresh_token": "very secret"}`}
	_, err := Open(t.Context(), o)
	if err == nil || !strings.Contains(err.Error(), "storage.gcs.keyfile") || strings.Contains(err.Error(), "very secret") {
		t.Errorf("Open = %v, want an error about storage.gcs.keyfile", err)
	}
}

// tokenGiver answers what asks for a token, and hands all else to a fake.
type tokenGiver struct {
	*fake
	refuses bool
}

// RoundTrip implements [http.RoundTripper].
func (g *tokenGiver) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Host == "oauth2.googleapis.com" {
		recorder := httptest.NewRecorder()
		recorder.Header().Set("Content-Type", "application/json")
		if g.refuses {
			recorder.WriteHeader(http.StatusBadRequest)
			_, _ = recorder.WriteString(`{"error": "invalid_grant"}`)
		} else {
			_, _ = recorder.WriteString(`{"access_token": "a", "token_type": "Bearer", "expires_in": 3600}`)
		}
		return recorder.Result(), nil
	}
	if got := r.Header.Get("Authorization"); !strings.HasPrefix(got, "Bearer ") {
		return nil, fmt.Errorf("%s is asked without a token", r.URL.Host)
	}
	return g.fake.RoundTrip(r)
}
