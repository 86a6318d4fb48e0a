package buckets

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"

	"berth/storage"
)

// TestSignedURL fetches what URLs lead to, also a range, but nothing by a URL that was changed or has ended.
func TestSignedURL(t *testing.T) {
	all := services()
	if *store == "" {
		all = append(all, byToken())
	}
	each(t, all, func(t *testing.T, s service, open opener) {
		d := open(t, nil)
		_, err := d.Put(t.Context(), "data/x", strings.NewReader("0123456789"), 10, storage.Absent())
		must(t, err)
		good, err := storage.SignedURL(t.Context(), d, "data/x", time.Minute)
		if errors.Is(err, errors.ErrUnsupported) && *store != "" {
			t.Skipf("SKIPPED, NOTHING WAS SHOWN: %v", err)
		}
		must(t, err)
		fetches(t, "all", good, "", 200, "0123456789")
		fetches(t, "a range", good, "bytes=3-5", 206, "345")
		if !s.verifies {
			return
		}
		short, err := storage.SignedURL(t.Context(), d, "data/x", time.Second)
		must(t, err)
		for what, changed := range map[string]string{
			"another object": strings.Replace(strings.Replace(good, "data/x?", "data/y?", 1), "data%2Fx?", "data%2Fy?", 1),
			"a later end":    later(good), "another signature": forged(good),
		} {
			if changed == good {
				t.Errorf("%s is not in %s", what, good)
			}
			fetches(t, what, changed, "", 403, "")
		}
		ends(t, short)
		fetches(t, "a later end of one that has come", later(short), "", 403, "")
	})
}

// later changes when a URL ends.
func later(signed string) string {
	for _, p := range []string{"X-Amz-Expires", "X-Goog-Expires"} {
		signed = regexp.MustCompile(p+"=[0-9]+").ReplaceAllString(signed, p+"=9999")
	}
	return strings.Replace(signed, "se=20", "se=21", 1)
}

// forged changes the signature of a URL.
func forged(signed string) string {
	return regexp.MustCompile("([?&](X-Amz-Signature|X-Goog-Signature|sig)=)..").ReplaceAllString(signed, "${1}00")
}

// ends waits for the end of a URL by the clock of the service, which counts in seconds.
func ends(t *testing.T, signed string) {
	t.Helper()
	for began := time.Now(); ; time.Sleep(100 * time.Millisecond) {
		if status, _ := fetch(t, signed, ""); status == 403 {
			return
		}
		if time.Since(began) > 30*time.Second {
			t.Fatal("a URL does not end")
		}
	}
}

// fetches asks what a URL leads to.
func fetches(t *testing.T, what, url, ranged string, status int, body string) {
	t.Helper()
	if got, text := fetch(t, url, ranged); got != status || body != "" && text != body {
		t.Errorf("%s: %d %q", what, got, text)
	}
}

// fetch is a GET as by a client of the registry, which has the URL and nothing else.
func fetch(t *testing.T, url, ranged string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if ranged != "" {
		r.Header.Set("Range", ranged)
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	response, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(body)
}

// token is an identity whose tokens are good as far as the emulator looks: it checks all but the signature.
type token struct{}

func (token) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	end := time.Now().Add(time.Hour)
	part := func(claims map[string]any) string {
		text, _ := json.Marshal(claims) // of a map that has a form in JSON
		return base64.RawURLEncoding.EncodeToString(text)
	}
	const tenant = "11111111-2222-3333-4444-555555555555"
	claims := map[string]any{"aud": "https://storage.azure.com", "iss": "https://sts.windows.net/" + tenant + "/", "oid": tenant, "tid": tenant,
		"iat": time.Now().Add(-time.Minute).Unix(), "nbf": time.Now().Add(-time.Minute).Unix(), "exp": end.Unix()}
	return azcore.AccessToken{Token: part(map[string]any{"alg": "RS256", "typ": "JWT"}) + "." + part(claims) + ".c2lnbmF0dXJl", ExpiresOn: end}, nil
}
