package azure

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"

	"berth/storage"
	"berth/storage/remote/remotetest"
	"berth/storage/storagetest"
)

func TestSuite(t *testing.T) {
	for name, traits := range map[string]traits{"usual": {}, "small pages": {pageSize: 50}} {
		t.Run(name, func(t *testing.T) {
			storagetest.Test(t, func(t *testing.T) storage.Driver {
				service := newFake()
				service.traits = traits
				return openOver(t, over(service))
			})
		})
	}
}

func TestProbeLeavesNothing(t *testing.T) {
	service := newFake()
	openOver(t, over(service))
	if len(service.blobs) != 0 {
		t.Errorf("the probe left %v", service.blobs)
	}
	t.Logf("%d requests: %q", len(service.requests), service.requests)
}

// TestRefusals opens services that cannot be served.
func TestRefusals(t *testing.T) {
	refuses := func(a remotetest.Answer) http.RoundTripper {
		return roundTrip(func(r *http.Request) (*http.Response, error) {
			return a.Response(r), nil
		})
	}
	folders, careless := newFake(), newFake()
	folders.byFolders, careless.noConditions = true, true
	for want, service := range map[string]http.RoundTripper{
		"storage.azure.accountname: this account lists": folders,
		"ignores conditions":                            careless,
		"storage.azure.container: there is no":          refuses(failure(404, "ContainerNotFound")),
		"storage.azure.container: the service":          refuses(failure(400, "InvalidResourceName")),
		"storage.azure.accountkey: the service":         refuses(failure(403, "AuthenticationFailed")),
		"storage.azure.accountkey: the account":         refuses(failure(403, "KeyBasedAuthenticationNotPermitted")),
		"storage.azure.accountkey: it is not of":        refuses(failure(403, "AuthorizationFailure")),
		"storage.azure.accountname: the account is":     refuses(failure(403, "AccountIsDisabled")),
		"storage.azure.credentials: the role":           refuses(failure(403, "AuthorizationPermissionMismatch")),
		"storage.azure.accountname: what answers":       refuses(answer(200, "<html>hello</html>")),
	} {
		if _, err := Open(t.Context(), over(service)); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("Open = %v, want %q", err, want)
		}
	}
	o := over(newFake())
	o.Credentials.Key = "not base64!"
	if _, err := Open(t.Context(), o); err == nil || !strings.Contains(err.Error(), "storage.azure.accountkey") || strings.Contains(err.Error(), "not base64") {
		t.Errorf("Open with a bad key = %v", err)
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// TestWarnings opens a container that is public, for an identity that may not sign, on a service that drops dots.
func TestWarnings(t *testing.T) {
	service := newFake()
	service.traits = traits{public: true, noDelegation: true, dropsDots: true}
	var warnings []string
	o := over(service)
	o.Credentials = Credentials{Token: token{}}
	o.Warn = func(text string) { warnings = append(warnings, text) }
	d := openOver(t, o)
	for i, want := range []string{"a dot", "it is public", "may not sign"} {
		if len(warnings) != 3 || !strings.Contains(warnings[i], want) {
			t.Errorf("the warnings are %q", warnings)
		}
	}
	if _, err := d.SignedURL(t.Context(), "data/x", time.Minute); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("SignedURL = %v", err)
	}
	for _, key := range []string{"tags/v1.", "tags./x"} {
		if _, err := d.Put(t.Context(), key, strings.NewReader("x"), 1, storage.Cond{}); !errors.Is(err, storage.ErrInvalidKey) {
			t.Errorf("Put(%s) = %v", key, err)
		}
	}
}

// token is a credential that always has one.
type token struct{}

func (token) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{Token: "token", ExpiresOn: time.Now().Add(time.Hour)}, nil
}

// TestForeignNames has the container contain what is not ours.
func TestForeignNames(t *testing.T) {
	service := newFake()
	d := openOver(t, over(service))
	for _, name := range []string{"root/", "root/folder/", "root/with space", "rootless", "root"} {
		service.blobs[name] = fakeBlob{body: []byte("foreign"), etag: `"e"`}
	}
	for info, err := range d.List(t.Context(), "", "") {
		t.Errorf("List yields %+v, %v", info, err)
	}
}

// TestSameBlob has two uploads in blocks write one blob. Each commit drops the blocks of the other.
func TestSameBlob(t *testing.T) {
	d := openOver(t, over(newFake()))
	large := strings.Repeat("x", 6<<20)
	for cond, want := range map[storage.Cond]error{storage.Absent(): storage.ErrConflict, {}: storage.ErrUnavailable} {
		key := fmt.Sprintf("data/%t", cond.IsAbsent())
		other := func() {
			if _, err := d.Put(t.Context(), key, strings.NewReader(large), -1, storage.Cond{}); err != nil {
				t.Error(err)
			}
		}
		_, err := d.Put(t.Context(), key, io.MultiReader(strings.NewReader(large), &deed{do: other}), -1, cond)
		if err == nil && cond.IsAlways() { // its blocks arrived after the commit of the other one: then all must be there
			if body, _, err := storage.ReadAll(t.Context(), d, key, int64(len(large))); err != nil || string(body) != large {
				t.Errorf("Put beside another one succeeded and left %d bytes, %v", len(body), err)
			}
			continue
		}
		if !errors.Is(err, want) {
			t.Errorf("Put beside another one = %v, want %v", err, want)
		}
	}
}

// deed is an empty reader that does something once.
type deed struct{ do func() }

func (d *deed) Read([]byte) (int, error) {
	if d.do != nil {
		d.do()
		d.do = nil
	}
	return 0, io.EOF
}

// TestCalls counts the requests of each operation.
func TestCalls(t *testing.T) {
	service := newFake()
	d := openOver(t, over(service))
	count := remotetest.Counter{T: t, Take: service.take}
	count.Calls(d, 5<<20, 3)
	count.Want("a URL", 0, func() error { _, err := d.SignedURL(t.Context(), "k", time.Minute); return err })
	for i := range 30 {
		service.blobs[fmt.Sprintf("root/k/%02d", i)] = fakeBlob{etag: `"e"`}
	}
	service.pageSize = 10
	count.Want("a late page of a listing", 3, func() error {
		for _, err := range d.List(t.Context(), "k/", "k/28") {
			return err
		}
		return nil
	})
	var keys []string
	for info := range d.List(t.Context(), "k/", "") {
		keys = append(keys, info.Key)
	}
	count.Want("many deletions", 30, func() error { return storage.DeleteAll(t.Context(), d, keys...) })
}

// TestSignedURL signs by the key of the account, and by a delegation, which is asked for once a day.
func TestSignedURL(t *testing.T) {
	service := newFake()
	byToken, own := over(service), over(service)
	byToken.Credentials = Credentials{Token: token{}}
	own.Endpoint = "https://storage.test/account"
	own.Credentials = byToken.Credentials
	for name, c := range map[string]struct {
		o           Options
		start, text string
	}{
		"key":          {over(service), "https://account.blob.core.windows.net/container/root%2Fdata%2Fx?", "sr=b"},
		"token":        {byToken, "https://account.blob.core.windows.net/container/root%2Fdata%2Fx?", "skoid=oid"},
		"own endpoint": {own, "https://storage.test/account/container/root%2Fdata%2Fx?", "skoid=oid"},
	} {
		d := openOver(t, c.o)
		service.requests = nil
		for range 3 {
			text, err := storage.SignedURL(t.Context(), d, "data/x", 5*time.Minute)
			u, parseErr := url.Parse(text)
			if err != nil || parseErr != nil || !strings.HasPrefix(text, c.start) || !strings.Contains(text, c.text) || u.Query().Get("sp") != "r" || u.Query().Get("spr") != "https" {
				t.Errorf("%s: SignedURL = %s, %v", name, text, err)
			}
		}
		if len(service.requests) != 0 {
			t.Errorf("%s: %q", name, service.requests)
		}
		if _, err := d.SignedURL(t.Context(), "../x", time.Minute); !errors.Is(err, storage.ErrInvalidKey) {
			t.Errorf("SignedURL of an invalid key = %v", err)
		}
	}
}

// TestDelegation signs URLs of all lives for a week, by keys that the service gives for a week at most. Its clock may be somewhat
// behind. No URL may outlive its key, and keys are not asked for all the time.
func TestDelegation(t *testing.T) {
	for _, life := range []time.Duration{time.Minute, 24 * time.Hour, 166 * time.Hour, 168 * time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			service := newFake()
			o := over(service)
			o.Credentials = Credentials{Token: token{}}
			d := openOver(t, o)
			service.requests = nil
			const days = 7
			for range days * 24 * 6 {
				text, err := d.SignedURL(t.Context(), "data/x", life)
				if err != nil {
					t.Fatalf("%v: %v", life, err)
				}
				u, err := url.Parse(text)
				if err != nil {
					t.Fatal(err)
				}
				from, end, keyEnd := timeIn(t, u, "skt"), timeIn(t, u, "se"), timeIn(t, u, "ske")
				if end.After(keyEnd) || time.Until(end) < min(life, 165*time.Hour)-time.Second {
					t.Fatalf("%v: a URL ends in %v, its key in %v", life, time.Until(end), time.Until(keyEnd))
				}
				if time.Since(from) < 14*time.Minute {
					t.Fatalf("%v: a key began %v ago", life, time.Since(from))
				}
				time.Sleep(10 * time.Minute)
			}
			if n := len(service.requests); n > days*25 || life < time.Hour && n > days+1 {
				t.Errorf("%v: %d keys were asked for in %d days", life, n, days)
			}
		})
	}
}

func timeIn(t *testing.T, u *url.URL, key string) time.Time {
	t.Helper()
	at, err := time.Parse(time.RFC3339, u.Query().Get(key))
	if err != nil {
		t.Fatal(err)
	}
	return at
}
