package jwt_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"berth/auth"
	"berth/auth/jwt"
	"berth/auth/jwttest"
)

// A clock is turned by the test.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Now()} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) turn(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// reports is what OnError was told.
type reports struct {
	mu   sync.Mutex
	errs []error
}

func (r *reports) add(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.errs = append(r.errs, err)
}

func (r *reports) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.errs)
}

func write(t testing.TB, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func source(t *testing.T, place string, o *jwt.Options) jwt.Source {
	t.Helper()
	s, err := jwt.NewSource(place, o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func keysOf(t *testing.T, s jwt.Source) *jwt.Keys {
	t.Helper()
	keys, err := s.Keys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// eventually waits for something that happens in the background.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: it does not happen", what)
		}
	}
}

func TestRemoteRotates(t *testing.T) {
	one, two := jwttest.NewKey(t, "one", jose.ES256), jwttest.NewKey(t, "two", jose.ES256)
	server, now := jwttest.Serve(t, true, one), newClock()
	s := source(t, server.URL+"/keys", &jwt.Options{
		Refresh: time.Minute, Client: jwt.Client{CA: write(t, server.CA())}, Now: now.Now,
		OnError: func(err error) { t.Error(err) },
	})
	first := keysOf(t, s)
	if err := verify(one.Sign(t, good(), nil), first); err != nil {
		t.Fatal(err)
	}
	now.turn(2 * time.Minute)
	if keysOf(t, s) != first {
		t.Error("the same keys are others when they are fetched again")
	}
	server.Publish(t, two)
	now.turn(time.Minute)
	_ = keysOf(t, s) // begins to fetch
	eventually(t, "a refresh in the background", func() bool { return keysOf(t, s) != first })
	if verify(one.Sign(t, good(), nil), keysOf(t, s)) == nil {
		t.Error("a key that was taken away is trusted")
	}
	second := keysOf(t, s)
	server.Publish(t, one)
	now.turn(2 * time.Minute)
	if keysOf(t, s) == second {
		t.Error("keys twice as old as they should be are trusted before a fetch")
	}
}

func TestRenewedIsRateLimited(t *testing.T) {
	one, two := jwttest.NewKey(t, "one", jose.ES256), jwttest.NewKey(t, "two", jose.ES256)
	server, now := jwttest.Serve(t, false, one), newClock()
	s := source(t, server.URL+"/keys", &jwt.Options{Now: now.Now})
	first := keysOf(t, s)
	server.Publish(t, one, two)
	token, err := jwt.Parse(two.Sign(t, good(), nil))
	if err != nil {
		t.Fatal(err)
	}
	for range 100 {
		if _, err := token.VerifyBy(t.Context(), s, time.Now()); !errors.Is(err, jwt.ErrUnknownKey) {
			t.Fatal(err)
		}
	}
	if n := server.Fetched.Load(); n != 1 || keysOf(t, s) != first {
		t.Errorf("%d fetches", n)
	}
	now.turn(10 * time.Second)
	if _, err := token.VerifyBy(t.Context(), s, time.Now()); err != nil {
		t.Errorf("a new key is not fetched when a token names it: %v", err)
	}
	if n := server.Fetched.Load(); n != 2 {
		t.Errorf("%d fetches", n)
	}
}

// TestOutage: the last good keys stay in force, one error is reported, attempts become rare, and it mends itself.
func TestOutage(t *testing.T) {
	key := jwttest.NewKey(t, "k", jose.ES256)
	server, now := jwttest.Serve(t, false, key), newClock()
	var told reports
	var recovered atomic.Int32
	s := source(t, server.URL+"/keys", &jwt.Options{Refresh: time.Minute, Now: now.Now, OnError: told.add, OnReload: func() { recovered.Add(1) }})
	first := keysOf(t, s)
	server.Answer(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusBadGateway) })
	for range 200 {
		now.turn(3 * time.Minute / 200)
		if keysOf(t, s) != first {
			t.Fatal("the keys are lost")
		}
	}
	for range 100 {
		now.turn(time.Minute)
		if keysOf(t, s) != first {
			t.Fatal("the keys are lost")
		}
	}
	if n := server.Fetched.Load(); n > 120 {
		t.Errorf("%d attempts", n)
	}
	eventually(t, "a report", func() bool { return told.count() == 1 })
	other := jwttest.NewKey(t, "other", jose.ES256)
	server.Publish(t, other)
	eventually(t, "the end of the outage", func() bool {
		now.turn(time.Minute)
		return keysOf(t, s) != first
	})
	eventually(t, "word of it", func() bool { return recovered.Load() == 1 })
}

// TestHangingIssuer has an issuer that answers no more. Its first attempt is waited for; nobody waits for the next ones.
func TestHangingIssuer(t *testing.T) {
	key := jwttest.NewKey(t, "k", jose.ES256)
	server, now := jwttest.Serve(t, false, key), newClock()
	s := source(t, server.URL+"/keys", &jwt.Options{Refresh: time.Minute, Now: now.Now})
	first := keysOf(t, s)
	server.Answer(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) })
	now.turn(3 * time.Minute)
	_ = keysOf(t, s)
	release := make(chan struct{})
	defer close(release)
	server.Answer(func(http.ResponseWriter, *http.Request) { <-release })
	for range 3 {
		now.turn(2 * time.Minute)
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second) // less than an attempt takes
		if keys, err := s.Keys(ctx); err != nil || keys != first {
			t.Errorf("the keys are %p, %v", keys, err)
		}
		cancel()
	}
}

func TestUnavailableFromTheStart(t *testing.T) {
	key := jwttest.NewKey(t, "k", jose.ES256)
	server, now := jwttest.Serve(t, false, key), newClock()
	server.Answer(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
	var told reports
	s := source(t, server.URL+"/keys", &jwt.Options{Now: now.Now, OnError: told.add})
	for range 20 {
		if _, err := s.Keys(t.Context()); !errors.Is(err, auth.ErrUnavailable) {
			t.Fatal(err)
		}
	}
	if n := server.Fetched.Load(); n != 1 {
		t.Errorf("%d attempts without a pause", n)
	}
	eventually(t, "a report", func() bool { return told.count() == 1 })
	server.Publish(t, key)
	now.turn(time.Second)
	_ = keysOf(t, s)
}

func TestSlowFetchEndsWithTheRequest(t *testing.T) {
	release := make(chan struct{})
	server := jwttest.Serve(t, false)
	server.Answer(func(http.ResponseWriter, *http.Request) { <-release })
	defer close(release)
	s := source(t, server.URL+"/keys", nil)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := s.Keys(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

func TestFetchIsBounded(t *testing.T) {
	other := jwttest.Serve(t, false, jwttest.NewKey(t, "k", jose.ES256))
	for want, answer := range map[string]http.HandlerFunc{
		"larger than": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.Copy(w, zeros{}) // it ends when the client has had enough
		},
		"only on the same host": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, other.URL+"/keys", http.StatusFound)
		},
		"not often":              func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/keys", http.StatusFound) },
		"not a JSON Web Key Set": func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>") },
		"no key that can":        func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"keys":[]}`) },
		"404":                    http.NotFound,
		"EOF": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, `{"keys":[]}`)
		},
	} {
		server := jwttest.Serve(t, false)
		server.Answer(answer)
		_, err := source(t, server.URL+"/keys", nil).Keys(t.Context())
		if !errors.Is(err, auth.ErrUnavailable) || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	if other.Fetched.Load() != 0 {
		t.Error("another host was asked")
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestClient(t *testing.T) {
	key := jwttest.NewKey(t, "k", jose.ES256)
	server := jwttest.Serve(t, true, key)
	if _, err := source(t, server.URL+"/keys", nil).Keys(t.Context()); !errors.Is(err, auth.ErrUnavailable) || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("a server of an authority that is not trusted: %v", err)
	}
	server.Answer(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer secret" {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		_, _ = w.Write(jwttest.Set(t, key))
	})
	o := &jwt.Options{Client: jwt.Client{CA: write(t, server.CA()), TokenFile: write(t, []byte("secret\n"))}}
	_ = keysOf(t, source(t, server.URL+"/keys", o))
	for want, o := range map[string]struct {
		address string
		client  jwt.Client
	}{
		"by https":              {"http://issuer.example/keys", jwt.Client{}},
		"not have a user":       {"https://u:hunter2@issuer.example/keys", jwt.Client{}},
		"not the URL":           {"https:///keys", jwt.Client{}},
		"malformed URL":         {"https://a b/%zz", jwt.Client{}},
		"no such file":          {"https://issuer.example/keys", jwt.Client{CA: "/nowhere"}},
		"no certificate in PEM": {"https://issuer.example/keys", jwt.Client{CA: write(t, []byte("x"))}},
		"not a token":           {"https://issuer.example/keys", jwt.Client{TokenFile: write(t, []byte("a\nb"))}},
	} {
		if _, err := jwt.NewSource(o.address, &jwt.Options{Client: o.client}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		} else if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%v has the password", err)
		}
	}
	if _, err := jwt.NewSource("http://issuer.example/keys", &jwt.Options{Client: jwt.Client{AllowHTTP: true}}); err != nil {
		t.Error(err)
	}
}

func TestFile(t *testing.T) {
	one, two := jwttest.NewKey(t, "one", jose.ES256), jwttest.NewKey(t, "two", jose.ES256)
	path := write(t, jwttest.Set(t, one))
	var told reports
	s := source(t, path, &jwt.Options{OnError: told.add})
	first := keysOf(t, s)
	if err := os.WriteFile(path, []byte(`{"keys":[{"kty":"EC"`), 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a report of the bad file", func() bool { return keysOf(t, s) == first && told.count() == 1 })
	if err := os.WriteFile(path, jwttest.Set(t, two), 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the good file", func() bool { return verify(two.Sign(t, good(), nil), keysOf(t, s)) == nil })
	if _, err := jwt.NewSource("/nowhere", nil); err == nil || !strings.Contains(err.Error(), "/nowhere") {
		t.Errorf("a file that is missing: %v", err)
	}
}

func TestParseKeys(t *testing.T) {
	const ec = `"kty":"EC","crv":"P-256","x":"m7zUpx3b-zmVE5cymSs64POG9QcyEpJaYCD82-549_Q","y":"dU3biz8sZ_8GPB-odm8Wxz3lNDr1xcAQQPQaOcr1fmc"`
	for text, want := range map[string]string{
		`{"keys":[{` + ec + `}]}`: "",
		`{"keys":[{"kty":"oct","k":"AAAA"},{"kty":"EC","crv":"secp256k1"},{"kty":"AKP"},{"kty":"OKP","crv":"X25519"},{"use":"enc",` + ec + `},{` + ec + `}]}`: "",
		`{"keys":[{"kty":"oct","k":"c2VjcmV0","kid":"k"}]}`: "no key that can verify",
		`{"keys":[{"use":"enc",` + ec + `}]}`:               "no key that can verify",
		`{"keys":[{"key_ops":["sign"],` + ec + `}]}`:        "no key that can verify",
		`{}`: "no key that can verify",
		`[]`: "not a JSON Web Key Set",
		`{"keys":[{` + ec + `},{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}]}`:              "the key number 2: not a valid key",
		`{"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB"}]}`:                                    "the key number 1: not a key for tokens: an RSA key of 17 bits",
		`{"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB"},{` + ec + `}]}`:                       "",
		`{"keys":[` + strings.Repeat(`{},`, 300) + `{}]}`:                                   "more than 256 keys",
		`{"keys":[` + strings.Repeat(`{"kid":"k",`+ec+`},`, 8) + `{"kid":"k",` + ec + `}]}`: `more than 8 keys have the name "k"`,
	} {
		_, err := jwt.ParseKeys("/keys", []byte(text))
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "/keys: ")) {
			t.Errorf("%.80s: got %v, want %q", text, err, want)
		}
	}
}

func FuzzParseKeys(f *testing.F) {
	f.Add(jwttest.Set(f, jwttest.NewKey(f, "k", jose.ES256), jwttest.NewKey(f, "", jose.EdDSA)))
	f.Add([]byte(`{"keys":[{"kty":"oct","k":"AAAA"},{"kty":"EC","crv":"P-256","d":"AA"}]}`))
	stranger := jwttest.NewKey(f, "k", jose.ES256).Sign(f, good(), nil)
	f.Fuzz(func(t *testing.T, data []byte) {
		keys, err := jwt.ParseKeys("/keys", data)
		if err != nil {
			if !strings.HasPrefix(err.Error(), "/keys: ") {
				t.Error(err)
			}
			return
		}
		if verify(stranger, keys) == nil {
			t.Error("a token of a key that is not in the set is verified")
		}
	})
}

func TestDiscover(t *testing.T) {
	key := jwttest.NewKey(t, "k", jose.ES256)
	server := jwttest.Serve(t, false, key)
	s, err := jwt.Discover(server.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := verify(key.Sign(t, good(), nil), keysOf(t, s)); err != nil {
		t.Error(err)
	}
	if s, err = jwt.Discover(server.URL+"/", nil); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Keys(t.Context()); err == nil || !strings.Contains(err.Error(), "are of the issuer") {
		t.Errorf("an issuer with a slash more: %v", err)
	}
}

func FuzzMetadata(f *testing.F) {
	f.Add([]byte(`{"issuer":"https://i","jwks_uri":"https://i/keys"}`))
	f.Add([]byte(`{"issuer":"https://j","jwks_uri":"https://i/keys"}`))
	f.Add([]byte(`{"issuer":"https://i"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		place, err := jwt.ParseMetadata(data, "https://i")
		if (place == "") != (err != nil) || err == nil && !strings.Contains(string(data), "https:") && !strings.Contains(string(data), `\`) {
			t.Errorf("%s: got %q, %v", data, place, err)
		}
	})
}
