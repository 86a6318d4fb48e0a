package gcs

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"berth/storage"
	"berth/storage/gcs/gcstest"
)

// verify holds a URL against the description of signatures, as the service would.
func verify(key *rsa.PublicKey, signed string) error {
	u, err := url.Parse(signed)
	if err != nil {
		return err
	}
	return gcstest.Verify(key, u, u.Host)
}

// TestSignedURL signs by a key in the configuration, and through IAM where there is none.
func TestSignedURL(t *testing.T) {
	account := gcstest.NewAccount(t)
	person := `{"type": "authorized_user", "client_id": "i", "client_secret": "s", "refresh_token": "r"}`
	for name, c := range map[string]struct {
		credentials Credentials
		asks        int
	}{
		"a key": {Credentials{JSON: account.JSON}, 0}, "IAM": {Credentials{JSON: person, Account: "berth@p.test"}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			service := gcstest.New()
			service.SignBlob = func(payload []byte) []byte {
				sum := sha256.Sum256(payload)
				signature, err := rsa.SignPKCS1v15(rand.Reader, account.Key, crypto.SHA256, sum[:])
				if err != nil {
					t.Error(err)
				}
				return signature
			}
			o := over(&tokenGiver{Service: service})
			o.Credentials = c.credentials
			d := openOver(t, o)
			service.Take()
			signed, err := storage.SignedURL(t.Context(), d, "data/a!b", time.Hour)
			if err != nil {
				t.Fatal(err)
			}
			if err := verify(&account.Key.PublicKey, signed); err != nil {
				t.Errorf("%s: %v", signed, err)
			}
			for _, change := range []string{"data/a%21b>data/a%21c", "data/a!b>data/a!c", "X-Goog-Expires=3599>X-Goog-Expires=9999"} {
				from, to, _ := strings.Cut(change, ">")
				if forged := strings.Replace(signed, from, to, 1); forged != signed && verify(&account.Key.PublicKey, forged) == nil {
					t.Errorf("the signature also fits %s", forged)
				}
			}
			if asked, _ := service.Take(); len(asked) != c.asks {
				t.Errorf("it took %q", asked)
			}
		})
	}
	d := openOver(t, over(gcstest.New()))
	if _, err := storage.SignedURL(t.Context(), d, "k", time.Hour); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("SignedURL by nobody = %v", err)
	}
}

// TestSigningDenied has IAM refuse to sign, in the ways that it does where nobody set that up. This is said at the start and not
// asked again for each pull, and noticed when it is over.
func TestSigningDenied(t *testing.T) {
	for status, reason := range map[int]string{400: "badRequest", 403: "forbidden", 404: "notFound"} {
		synctest.Test(t, func(t *testing.T) {
			service := gcstest.New()
			iam := &denier{RoundTripper: &tokenGiver{Service: service}, status: status, reason: reason}
			o := over(iam)
			o.Credentials = Credentials{JSON: `{"type": "authorized_user", "client_id": "i", "client_secret": "s", "refresh_token": "r"}`, Account: "berth@p.test"}
			var warned []string
			o.Warn = func(text string) { warned = append(warned, text) }
			d := openOver(t, o)
			if len(warned) != 1 || !strings.Contains(warned[0], "iam.serviceAccounts.signBlob") {
				t.Errorf("%d: the warnings are %q", status, warned)
			}
			for range 3 {
				if _, err := d.SignedURL(t.Context(), "k", time.Hour); !errors.Is(err, errors.ErrUnsupported) {
					t.Errorf("%d: SignedURL = %v", status, err)
				}
			}
			if iam.asked != 1 {
				t.Errorf("%d: IAM was asked %d times", status, iam.asked)
			}
			time.Sleep(denialHolds + time.Second)
			iam.status, iam.reason = http.StatusServiceUnavailable, "backendError"
			if _, err := d.SignedURL(t.Context(), "k", time.Hour); !errors.Is(err, storage.ErrUnavailable) {
				t.Errorf("%d: SignedURL while IAM is down = %v", status, err)
			}
			iam.status = 0
			service.SignBlob = func([]byte) []byte { return []byte("signature") }
			if _, err := d.SignedURL(t.Context(), "k", time.Hour); err != nil {
				t.Errorf("%d: SignedURL by IAM that signs = %v", status, err)
			}
		})
	}
}

// A denier is a network in which IAM refuses everything.
type denier struct {
	http.RoundTripper
	status int // 0: no more
	reason string
	asked  int
}

// RoundTrip implements [http.RoundTripper].
func (d *denier) RoundTrip(r *http.Request) (*http.Response, error) {
	if !strings.HasSuffix(r.URL.Path, ":signBlob") {
		return d.RoundTripper.RoundTrip(r)
	}
	d.asked++
	if d.status == 0 {
		return d.RoundTripper.RoundTrip(r)
	}
	a := gcstest.Failure(d.status, d.reason)
	return a.Response(r), nil
}

// TestNoToken has credentials that nobody takes.
func TestNoToken(t *testing.T) {
	o := over(&tokenGiver{Service: gcstest.New(), refuses: true})
	o.Credentials = Credentials{JSON: `{"type": "authorized_user", "client_id": "i", "client_secret": "very secret", "refresh_token": "very secret"}`}
	_, err := Open(t.Context(), o)
	if err == nil || !strings.Contains(err.Error(), "storage.gcs.keyfile") || strings.Contains(err.Error(), "very secret") {
		t.Errorf("Open = %v, want an error about storage.gcs.keyfile", err)
	}
}

// tokenGiver answers what asks for a token, and hands all else to a fake.
type tokenGiver struct {
	*gcstest.Service
	refuses bool
}

// RoundTrip implements [http.RoundTripper].
func (g *tokenGiver) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Path == "/token" {
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
	return g.Service.RoundTrip(r)
}
