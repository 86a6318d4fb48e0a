package token

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"berth/auth"
	"berth/auth/jwt"
	"berth/auth/jwttest"
)

type claims = map[string]any

// fixture is an Authenticator by a clock that the test turns, and the key of its token server.
type fixture struct {
	*Authenticator
	t    testing.TB
	now  time.Time
	key  *jwttest.Key
	path string // of the key set
	errs []error
}

func write(t testing.TB, path string, data []byte) string {
	t.Helper()
	if path == "" {
		path = filepath.Join(t.TempDir(), "f")
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func newFixture(t testing.TB, o Options) *fixture {
	t.Helper()
	f := &fixture{t: t, now: time.Now(), key: jwttest.NewKey(t, "k", jose.ES256)}
	o.Service, o.Issuer = "registry", "server"
	if o.Realm == "" {
		o.Realm = "https://server.example/token"
	}
	if o.JWKS == "" && o.RootCertBundle == "" {
		f.path = write(t, "", jwttest.Set(t, f.key))
		o.JWKS = f.path
	}
	o.now = func() time.Time { return f.now }
	o.OnError = func(err error) { f.errs = append(f.errs, err) }
	var err error
	if f.Authenticator, err = New(context.Background(), o); err != nil {
		t.Fatal(err)
	}
	return f
}

// claims returns those of a right token, with some replaced; nil takes one away.
func (f *fixture) claims(changes claims) claims {
	c := claims{
		"iss": "server", "sub": "alice", "aud": "registry", "exp": f.now.Add(5 * time.Minute).Unix(), "iat": f.now.Unix(),
		"access": []claims{{"type": "repository", "name": "a/b", "actions": []string{"pull", "push"}}},
	}
	for name, value := range changes {
		if c[name] = value; value == nil {
			delete(c, name)
		}
	}
	return c
}

func (f *fixture) bearer(text string) (auth.Subject, error) {
	r := httptest.NewRequest(http.MethodGet, "/v2/", nil)
	r.Header.Set("Authorization", "Bearer "+text)
	return f.Authenticate(r)
}

func (f *fixture) refused(name, text string, want error) {
	f.t.Helper()
	if s, err := f.bearer(text); !errors.Is(err, want) || s.Name != "" || s.Grants != nil {
		f.t.Errorf("%s: got %v, %v, want %v", name, s, err, want)
	}
}

func (f *fixture) accepted(name, text string) {
	f.t.Helper()
	if s, err := f.bearer(text); err != nil || s.Name != "alice" || len(s.Grants) != 2 {
		f.t.Errorf("%s: got %v, %v", name, s, err)
	}
}

func TestAuthenticate(t *testing.T) {
	f := newFixture(t, Options{})
	for range 2 { // the second time it is remembered
		f.accepted("right", f.key.Sign(t, f.claims(nil), nil))
	}
	for name, changes := range map[string]claims{
		"replay on another service": {"aud": "another"},
		"no service":                {"aud": nil},
		"expired":                   {"exp": f.now.Add(-61 * time.Second).Unix()},
		"no expiry":                 {"exp": nil},
		"not yet":                   {"nbf": f.now.Add(62 * time.Second).Unix()},
		"issued in the future":      {"iat": f.now.Add(62 * time.Second).Unix()},
		"malformed access":          {"access": "repository:a:pull"},
		"subject not a string":      {"sub": 1},
		"subject of two lines":      {"sub": "a\nb"},
	} {
		f.refused(name, f.key.Sign(t, f.claims(changes), nil), auth.ErrToken)
	}
	for name, changes := range map[string]claims{
		"a clock ahead":     {"iat": f.now.Add(59 * time.Second).Unix(), "nbf": f.now.Add(59 * time.Second).Unix()},
		"a clock behind":    {"exp": f.now.Add(-58 * time.Second).Unix()},
		"several audiences": {"aud": []string{"another", "registry"}},
	} {
		f.accepted(name, f.key.Sign(t, f.claims(changes), nil))
	}
	f.refused("another issuer", f.key.Sign(t, f.claims(claims{"iss": "another"}), nil), auth.ErrForeign)
	stranger := jwttest.NewKey(t, "k", jose.ES256)
	f.refused("another key", stranger.Sign(t, f.claims(nil), nil), auth.ErrToken)
	f.refused("not a token", "hello", auth.ErrToken)
	f.refused("not a header", "a b", auth.ErrMalformed)
	basic := httptest.NewRequest(http.MethodGet, "/v2/", nil)
	basic.SetBasicAuth("alice", f.key.Sign(t, f.claims(nil), nil))
	if s, err := f.Authenticate(basic); err != nil || s.Name != "" {
		t.Errorf("Basic: got %v, %v", s, err)
	}
}

// TestAlgorithmOfAnotherIssuer: which algorithms are accepted is about tokens of the token server; one of somebody else is left to
// whoever knows that issuer.
func TestAlgorithmOfAnotherIssuer(t *testing.T) {
	f := newFixture(t, Options{Algorithms: []string{"ES256"}})
	f.accepted("the algorithm", f.key.Sign(t, f.claims(nil), nil))
	other := jwttest.NewKey(t, "k", jose.RS256)
	f.refused("another one, of another issuer", other.Sign(t, f.claims(claims{"iss": "another"}), nil), auth.ErrForeign)
	if _, err := f.bearer(other.Sign(t, f.claims(nil), nil)); !errors.Is(err, auth.ErrToken) || errors.Is(err, auth.ErrForeign) {
		t.Errorf("another one: %v", err)
	}
}

func TestAnonymousTokenHasGrants(t *testing.T) {
	f := newFixture(t, Options{})
	for _, sub := range []any{nil, ""} {
		s, err := f.bearer(f.key.Sign(t, f.claims(claims{"sub": sub, "access": nil}), nil))
		if err != nil || s.Name != "" || s.Grants == nil || len(s.Grants) != 0 {
			t.Errorf("got %#v, %v", s, err)
		}
	}
}

func TestGrants(t *testing.T) {
	f := newFixture(t, Options{})
	access := []claims{
		{"type": "repository", "name": "a/b", "actions": []string{"pull", "push", "delete", "*", "admin", "push-new", "", "PULL"}},
		{"type": "repository", "class": "plugin", "name": "c", "actions": []string{"pull"}},
		{"type": "repository", "name": "", "actions": []string{"*", "pull"}},
		{"type": "repository", "actions": []string{"*"}},
		{"type": "repository", "name": "d"},
		{"type": "registry", "name": "catalog", "actions": []string{"*"}},
		{"type": "registry", "name": "catalog", "actions": []string{"pull"}},
		{"type": "registry", "name": "admin", "actions": []string{"*"}},
		{"type": "registry", "name": "", "actions": []string{"*"}},
		{"type": "REPOSITORY", "name": "a", "actions": []string{"*"}},
	}
	s, err := f.bearer(f.key.Sign(t, f.claims(claims{"access": access}), nil))
	want := []auth.Access{
		{Action: auth.Pull, Repository: "a/b"}, {Action: auth.Push, Repository: "a/b"}, {Action: auth.Delete, Repository: "a/b"},
		{Action: auth.Every, Repository: "a/b"}, {Action: auth.Pull, Repository: "c"}, {Action: auth.List},
	}
	if err != nil || !slices.Equal(s.Grants, want) {
		t.Errorf("got %v, %v", s.Grants, err)
	}
	many := claims{"type": "repository", "name": "a", "actions": slices.Repeat([]string{"*"}, maxGrants+1)}
	f.refused("too many", f.key.Sign(t, f.claims(claims{"access": []claims{many}}), nil), auth.ErrToken)
}

func TestCertificates(t *testing.T) {
	now := time.Now()
	root := jwttest.Certify(t, nil, now.Add(time.Hour))
	leaf, expired := jwttest.Certify(t, root, now.Add(time.Hour)), jwttest.Certify(t, root, now.Add(-time.Second))
	foreign := jwttest.Certify(t, nil, now.Add(time.Hour))
	path := write(t, "", root.PEM())
	f := newFixture(t, Options{RootCertBundle: path})
	f.accepted("leaf", leaf.Sign(t, f.claims(nil), leaf.X5C()))
	f.refused("expired leaf", expired.Sign(t, f.claims(nil), expired.X5C()), auth.ErrToken)
	f.refused("foreign", foreign.Sign(t, f.claims(nil), foreign.X5C()), auth.ErrToken)
	f.refused("key of the set without one", f.key.Sign(t, f.claims(nil), nil), auth.ErrToken)

	// Beside a key set, a chain that leads nowhere is refused even when the kid is right.
	key := jwttest.NewKey(t, "k", jose.ES256)
	f = newFixture(t, Options{RootCertBundle: path, JWKS: write(t, "", jwttest.Set(t, key))})
	f.key = key
	f.accepted("kid", f.key.Sign(t, f.claims(nil), nil))
	f.accepted("leaf", leaf.Sign(t, f.claims(nil), leaf.X5C()))
	f.refused("kid and a foreign chain", f.key.Sign(t, f.claims(nil), foreign.X5C()), auth.ErrToken)

	// The bundle changes: the old root is refused, remembered tokens too, within a second.
	remembered := leaf.Sign(t, f.claims(nil), leaf.X5C())
	f.accepted("before", remembered)
	write(t, path, foreign.PEM())
	time.Sleep(1100 * time.Millisecond)
	f.refused("after", remembered, auth.ErrToken)
	f.accepted("the new one", foreign.Sign(t, f.claims(nil), foreign.X5C()))
}

// TestRevokedKey: a key that is taken away at an address is trusted for twice Refresh, for remembered tokens too.
func TestRevokedKey(t *testing.T) {
	one, two := jwttest.NewKey(t, "one", jose.ES256), jwttest.NewKey(t, "two", jose.ES256)
	server := jwttest.Serve(t, true, one)
	f := newFixture(t, Options{
		JWKS: server.URL + "/keys", Refresh: 15 * time.Second, Client: jwt.Client{CA: write(t, "", server.CA())},
	})
	f.accepted("before", one.Sign(t, f.claims(nil), nil))
	server.Publish(t, one, two)
	f.refused("a new key, a moment ago", two.Sign(t, f.claims(nil), nil), jwt.ErrUnknownKey)
	f.now = f.now.Add(10 * time.Second)
	f.accepted("a new key", two.Sign(t, f.claims(nil), nil))
	remembered := one.Sign(t, f.claims(nil), nil)
	f.accepted("the old key still", remembered)
	server.Publish(t, two)
	f.now = f.now.Add(30 * time.Second)
	f.refused("the old key", remembered, jwt.ErrUnknownKey)
	server.Answer(http.NotFound)
	f.now = f.now.Add(2 * time.Minute)
	f.accepted("in an outage", two.Sign(t, f.claims(nil), nil))
}

// TestRememberedTokenExpires: what is remembered never outlives the token or its minute.
func TestRememberedTokenExpires(t *testing.T) {
	f := newFixture(t, Options{})
	text := f.key.Sign(t, f.claims(claims{"exp": f.now.Add(-30 * time.Second).Unix()}), nil)
	f.accepted("within the leeway", text)
	f.now = f.now.Add(31 * time.Second)
	f.refused("expired", text, auth.ErrToken)
}

func TestRememberedForAMinute(t *testing.T) {
	f := newFixture(t, Options{})
	request := func(header ...string) *http.Request {
		return &http.Request{Header: http.Header{"Authorization": header}}
	}
	right := "Bearer " + f.key.Sign(t, f.claims(nil), nil)
	if _, err := f.Authenticate(request(right)); err != nil {
		t.Fatal(err)
	}
	if _, ok := f.memory.Get(request(right), f.now.Add(59*time.Second)); !ok {
		t.Error("it is not remembered")
	}
	if _, ok := f.memory.Get(request(right), f.now.Add(time.Minute)); ok {
		t.Error("it is remembered for longer than a minute")
	}
	for _, r := range []*http.Request{request(), request(right[:len(right)-1]), request(right, right), request("", right)} {
		if _, ok := f.memory.Get(r, f.now); ok {
			t.Errorf("%q is remembered", r.Header)
		}
	}
	for i := range 5000 { // more than is remembered
		f.memory.Put(request(strconv.Itoa(i)), auth.Subject{}, f.now, f.now, nil)
	}
	if _, ok := f.memory.Get(request(right), f.now); ok {
		t.Error("the memory has no bound")
	}
}

func TestNewRefuses(t *testing.T) {
	keys := write(t, "", jwttest.Set(t, jwttest.NewKey(t, "k", jose.ES256)))
	down := jwttest.Serve(t, false)
	down.Close()
	right := Options{Realm: "https://s/token", Service: "s", Issuer: "i", JWKS: keys}
	if _, err := New(t.Context(), right); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*Options){
		"a service is required":    func(o *Options) { o.Service = "" },
		"an issuer is required":    func(o *Options) { o.Issuer = "" },
		"a key set is required":    func(o *Options) { o.JWKS = "" },
		"the realm must be":        func(o *Options) { o.Realm = "/token" },
		"begin with a slash":       func(o *Options) { o.AutoRedirect, o.AutoRedirectPath = true, "token" },
		`"HS256" is none of`:       func(o *Options) { o.Algorithms = []string{"HS256"} },
		`"none" is none of`:        func(o *Options) { o.Algorithms = []string{"none"} },
		"/nowhere":                 func(o *Options) { o.JWKS = "/nowhere" },
		"/nobundle":                func(o *Options) { o.RootCertBundle = "/nobundle" },
		"not a JSON Web Key Set":   func(o *Options) { o.JWKS = write(t, "", []byte("x")) },
		"no certificate in PEM":    func(o *Options) { o.RootCertBundle = keys },
		down.URL + "/keys":         func(o *Options) { o.JWKS = down.URL + "/keys" },
		"must be fetched by https": func(o *Options) { o.JWKS = "http://server.example/keys" },
	} {
		o := right
		change(&o)
		if _, err := New(t.Context(), o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

func TestChallenge(t *testing.T) {
	want := auth.Access{Action: auth.Pull, Repository: "a"}
	r := httptest.NewRequest(http.MethodGet, "http://registry.example:5000/v2/", nil)
	f := newFixture(t, Options{})
	for refused, code := range map[error]string{
		nil: "", auth.ErrDenied: "", auth.ErrUnavailable: "", auth.ErrToken: `,error="invalid_token"`,
		&auth.DeniedError{}: "", &auth.DeniedError{Scoped: true}: `,error="insufficient_scope"`,
	} {
		got := f.Challenge(r, refused, want)
		if got != `Bearer realm="https://server.example/token",service="registry",scope="repository:a:pull"`+code {
			t.Errorf("%v: got %s", refused, got)
		}
	}
	f = newFixture(t, Options{AutoRedirect: true})
	if got := f.Challenge(r, nil); got != `Bearer realm="https://registry.example:5000/auth/token",service="registry"` {
		t.Errorf("got %s", got)
	}
	r.Header.Set("X-Forwarded-Proto", "http")
	f = newFixture(t, Options{AutoRedirect: true, AutoRedirectPath: "/t"})
	if got := f.Challenge(r, nil); got != `Bearer realm="http://registry.example:5000/t",service="registry"` {
		t.Errorf("got %s", got)
	}
}

func FuzzSubject(f *testing.F) {
	f.Add([]byte(`{"sub":"a","access":[{"type":"repository","name":"a","actions":["pull","*"]}]}`))
	f.Add([]byte(`{"access":[{"type":"repository","name":"","actions":["*"]},{"type":"registry","name":"catalog","actions":["*"]}]}`))
	f.Add([]byte(`{"sub":null,"access":null}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var c jwt.Claims
		if json.Unmarshal(data, &c) != nil {
			return
		}
		s, err := subject(c)
		if err != nil {
			if !errors.Is(err, auth.ErrToken) {
				t.Error(err)
			}
			return
		}
		if s.Grants == nil || len(s.Grants) > maxGrants || strings.ContainsAny(s.Name, "\r\n\x00") {
			t.Errorf("got %#v", s)
		}
		for _, g := range s.Grants {
			if g.Repository == "" && g.Action != auth.List {
				t.Errorf("%s grants %v", data, g)
			}
		}
	})
}

// BenchmarkRemembered has a token of an ordinary size. It must stay under 3 µs.
func BenchmarkRemembered(b *testing.B) {
	f := newFixture(b, Options{})
	r := httptest.NewRequest(http.MethodGet, "/v2/", nil)
	r.Header.Set("Authorization", "Bearer "+f.key.Sign(b, f.claims(nil), nil))
	f.o.now = time.Now
	b.ReportAllocs()
	for b.Loop() {
		if _, err := f.Authenticate(r); err != nil {
			b.Fatal(err)
		}
	}
}
