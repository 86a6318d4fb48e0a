package azure

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"

	"berth/storage"
	"berth/storage/azure"
	"berth/tests/harness"
)

// TestSignedURL fetches what URLs lead to, by the key of the account and by a user delegation key: also a range, but nothing by
// a URL that was changed or has ended.
func TestSignedURL(t *testing.T) {
	plain, secure := harness.StartAzure(t, false), harness.StartAzure(t, true)
	byToken := options(secure)
	byToken.Credentials = azure.Credentials{Token: token{}}
	for name, o := range map[string]azure.Options{"key": options(plain), "key over https": options(secure), "token": byToken} {
		t.Run(name, func(t *testing.T) {
			d := open(t, o)
			if _, err := d.Put(t.Context(), "data/x", strings.NewReader("0123456789"), 10, storage.Absent()); err != nil {
				t.Fatal(err)
			}
			good, err := d.SignedURL(t.Context(), "data/x", time.Minute)
			if err != nil {
				t.Fatal(err)
			}
			ended, err := d.SignedURL(t.Context(), "data/x", -time.Minute)
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range []struct {
				what, url, ranged string
				status            int
				body              string
			}{
				{"all", good, "", 200, "0123456789"},
				{"a range", good, "bytes=3-5", 206, "345"},
				{"another blob", strings.Replace(good, "data%2Fx", "data%2Fy", 1), "", 403, ""},
				{"another right", strings.Replace(good, "sp=r", "sp=rw", 1), "", 403, ""},
				{"a later end", strings.Replace(ended, "se=20", "se=21", 1), "", 403, ""},
				{"an end that has come", ended, "", 403, ""},
			} {
				if status, body := fetch(t, c.url, c.ranged); status != c.status || c.body != "" && body != c.body {
					t.Errorf("%s: %d %q", c.what, status, body)
				}
			}
		})
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
