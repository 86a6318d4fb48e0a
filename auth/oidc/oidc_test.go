package oidc

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"berth/auth"
	"berth/auth/jwt"
	"berth/auth/jwttest"
)

type claims = map[string]any

func write(t testing.TB, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// A world is two issuers, each with its key; the first is found by discovery, the second has its keys in a file.
type world struct {
	*Authenticator
	t        testing.TB
	now      time.Time
	server   *jwttest.Server
	one, two *jwttest.Key
	mu       sync.Mutex
	errs     []error
}

const cluster = "https://kubernetes.default.svc.cluster.local"

func newWorld(t testing.TB, change func(one, two *Issuer)) *world {
	t.Helper()
	w := &world{t: t, now: time.Now(), one: jwttest.NewKey(t, "k", jose.RS256), two: jwttest.NewKey(t, "k", jose.ES256)}
	w.server = jwttest.Serve(t, true, w.one)
	one := Issuer{URL: w.server.URL, Audiences: []string{"berth"}, Client: jwt.Client{CA: write(t, w.server.CA())}}
	one.OnError = func(err error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.errs = append(w.errs, err)
	}
	two := Issuer{URL: cluster, Audiences: []string{"other", "registry"}, JWKS: write(t, jwttest.Set(t, w.two)), OnError: one.OnError}
	if change != nil {
		change(&one, &two)
	}
	var err error
	w.Authenticator, err = New(Options{Issuers: []Issuer{one, two}, now: func() time.Time { return w.now }})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// token returns a right token of the first issuer with some claims replaced.
func (w *world) token(changes claims) string {
	return w.one.Sign(w.t, w.with(claims{"iss": w.server.URL, "aud": "berth", "sub": "alice"}, changes), nil)
}

// serviceAccount returns the projected token of a service account.
func (w *world) serviceAccount(changes claims) string {
	return w.two.Sign(w.t, w.with(claims{
		"iss": cluster, "aud": []string{"registry"}, "sub": "system:serviceaccount:ci:builder",
		"kubernetes.io": claims{"namespace": "ci", "serviceaccount": claims{"name": "builder"}},
	}, changes), nil)
}

func (w *world) with(c, changes claims) claims {
	c["exp"], c["iat"], c["nbf"] = w.now.Add(time.Hour).Unix(), w.now.Unix(), w.now.Unix()
	for name, value := range changes {
		c[name] = value
	}
	return c
}

func (w *world) basic(user, password string) (auth.Subject, error) {
	r := httptest.NewRequest(http.MethodGet, "/v2/", nil)
	r.SetBasicAuth(user, password)
	return w.Authenticate(r)
}

func (w *world) wants(name, text, user string, groups ...string) {
	w.t.Helper()
	s, err := w.basic("unused", text)
	if err != nil || s.Name != user || !slices.Equal(s.Groups, groups) || s.Grants != nil {
		w.t.Errorf("%s: got %+v, %v; want %s, %q", name, s, err, user, groups)
	}
}

func (w *world) refuses(name, text string, want error) {
	w.t.Helper()
	if s, err := w.basic("unused", text); !errors.Is(err, want) || s.Name != "" {
		w.t.Errorf("%s: got %+v, %v; want %v", name, s, err, want)
	}
}

func TestAuthenticate(t *testing.T) {
	w := newWorld(t, nil)
	for range 2 { // the second time it is remembered
		w.wants("by discovery", w.token(nil), "alice")
		w.wants("by a file", w.serviceAccount(nil), "system:serviceaccount:ci:builder")
	}
	for _, user := range []string{"", "x", "<token>", "system:x"} { // what follows the colon is the password then
		text := w.token(nil)
		s, err := w.basic(user, text)
		if strings.Contains(user, ":") != (err != nil) || err == nil && s.Name != "alice" {
			t.Errorf("%q: got %v, %v", user, s, err)
		}
	}
	r := httptest.NewRequest(http.MethodGet, "/v2/", nil)
	if s, err := w.Authenticate(r); s.Name != "" || err != nil {
		t.Errorf("without credentials: got %v, %v", s, err)
	}
	r.Header.Set("Authorization", "Bearer "+w.token(nil))
	if s, err := w.Authenticate(r); s.Name != "alice" || err != nil {
		t.Errorf("Bearer: got %v, %v", s, err)
	}
	r.Header.Set("Authorization", "Basic x")
	if _, err := w.Authenticate(r); !errors.Is(err, auth.ErrMalformed) {
		t.Errorf("not a header: got %v", err)
	}
}

func TestRefused(t *testing.T) {
	w := newWorld(t, nil)
	evil := jwttest.NewKey(t, "k", jose.ES256)
	attacker := jwttest.Serve(t, false, evil)
	base := func() claims { return w.with(claims{"iss": cluster, "aud": "registry", "sub": "root"}, nil) }
	w.refuses("a password", "correct horse", auth.ErrForeign)
	w.refuses("a password with dots", "eyJ.a.b", auth.ErrToken)
	w.refuses("an unknown issuer", w.token(claims{"iss": attacker.URL}), auth.ErrForeign)
	w.refuses("an issuer with a slash more", w.token(claims{"iss": w.server.URL + "/"}), auth.ErrForeign)
	w.refuses("no issuer", w.token(claims{"iss": nil}), auth.ErrForeign)
	w.refuses("the other issuer's name", w.one.Sign(t, base(), nil), auth.ErrToken)
	w.refuses("the other issuer's audience", w.token(claims{"aud": "registry"}), auth.ErrToken)
	w.refuses("expired", w.token(claims{"exp": w.now.Add(-61 * time.Second).Unix()}), auth.ErrToken)
	w.refuses("no expiry", w.token(claims{"exp": nil}), auth.ErrToken)
	w.refuses("not yet", w.token(claims{"nbf": w.now.Add(62 * time.Second).Unix()}), auth.ErrToken)
	w.refuses("no subject", w.token(claims{"sub": nil}), auth.ErrToken)
	w.refuses("subject of two lines", w.token(claims{"sub": "a\nb"}), auth.ErrToken)
	w.refuses("alg none", jwttest.Raw(t, claims{"alg": "none"}, base(), func([]byte) []byte { return nil }), auth.ErrToken)
	w.refuses("own key in jwk", evil.Sign(t, base(), claims{"jwk": evil.JWK()}), auth.ErrToken)
	w.refuses("own key in jku", evil.Sign(t, base(), claims{"jku": attacker.URL + "/keys"}), auth.ErrToken)
	own := jwttest.Certify(t, nil, w.now.Add(time.Hour))
	w.refuses("own key in x5c", own.Sign(t, base(), own.X5C()), auth.ErrToken)
	w.refuses("truncated", strings.TrimRight(w.token(nil), "=")[:100], auth.ErrToken)
	w.refuses("oversized", w.token(claims{"x": strings.Repeat("x", 16<<10)}), auth.ErrToken)
	if attacker.Fetched.Load() != 0 {
		t.Error("an address that a token names was fetched")
	}
}

func TestMapping(t *testing.T) {
	w := newWorld(t, func(one, two *Issuer) {
		one.User, one.UserPrefix = "email", "corp:"
		one.Groups = []Groups{{Claim: "groups", Prefix: "corp:"}, {Claim: "realm_access.roles", Prefix: "role:"}}
		two.User, two.UserPrefix = "kubernetes.io.serviceaccount.name", "sa:"
		two.Groups = []Groups{{Claim: "kubernetes.io.namespace", Prefix: "namespace:"}}
	})
	w.wants("a service account", w.serviceAccount(nil), "sa:builder", "namespace:ci")
	w.wants("no groups", w.token(claims{"email": "a@b.c"}), "corp:a@b.c")
	w.wants("groups", w.token(claims{"email": "a@b.c", "email_verified": true, "groups": []string{"x", "y"}, "realm_access": claims{"roles": []string{"z"}}}),
		"corp:a@b.c", "corp:x", "corp:y", "role:z")
	w.wants("one group", w.token(claims{"email": "a@b.c", "groups": "x"}), "corp:a@b.c", "corp:x")
	w.refuses("an email that is not verified", w.token(claims{"email": "a@b.c", "email_verified": false}), auth.ErrToken)
	w.refuses("an email of which that is not said in so many words", w.token(claims{"email": "a@b.c", "email_verified": 1}), auth.ErrToken)
	w.wants("an email of which that is said in words", w.token(claims{"email": "a@b.c", "email_verified": "true"}), "corp:a@b.c")
	w.refuses("an email of which the contrary is", w.token(claims{"email": "a@b.c", "email_verified": "false"}), auth.ErrToken)
	w.refuses("no email", w.token(nil), auth.ErrToken)
	w.refuses("an empty name", w.token(claims{"email": ""}), auth.ErrToken)
	w.refuses("a name that is a list", w.token(claims{"email": []string{"a@b.c"}}), auth.ErrToken)
	w.refuses("groups that are numbers", w.token(claims{"email": "a@b.c", "groups": []int{1}}), auth.ErrToken)
	w.refuses("groups that are an object", w.token(claims{"email": "a@b.c", "groups": claims{"x": 1}}), auth.ErrToken)
	w.refuses("a group of two lines", w.token(claims{"email": "a@b.c", "groups": "x\ny"}), auth.ErrToken)
}

// TestUnverifiedEmail has an address let somebody in, or name a group, that nobody has verified.
func TestUnverifiedEmail(t *testing.T) {
	for name, by := range map[string]func(*Issuer){
		"condition": func(one *Issuer) { one.Conditions = map[string][]string{"email": {"*@b.c"}} },
		"group":     func(one *Issuer) { one.Groups = []Groups{{Claim: "email"}} },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, func(one, _ *Issuer) { by(one) })
			w.refuses("not verified", w.token(claims{"email": "a@b.c", "email_verified": false}), auth.ErrToken)
			if _, err := w.basic("x", w.token(claims{"email": "a@b.c", "email_verified": true})); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestConditions(t *testing.T) {
	w := newWorld(t, func(one, _ *Issuer) {
		one.Conditions = map[string][]string{
			"repository": {"acme/*", "tools/build"}, "ref": {"refs/heads/main", "refs/tags/**"}, "protected": {"true"}, "run": {"7"},
		}
	})
	for _, test := range []struct {
		change claims
		ok     bool
	}{
		{nil, true},
		{claims{"repository": "tools/build"}, true},
		{claims{"ref": "refs/tags/v1/x"}, true},
		{claims{"ref": []string{"refs/heads/x", "refs/heads/main"}}, true},
		{claims{"protected": "true"}, true},
		{claims{"repository": "acme"}, false},
		{claims{"repository": "acme/app/fork"}, false},
		{claims{"repository": "evil/acme/app"}, false},
		{claims{"repository": "tools/build2"}, false},
		{claims{"repository": "tools.build"}, false},
		{claims{"repository": "tools/build\n"}, false},
		{claims{"repository": ""}, false},
		{claims{"repository": nil}, false},
		{claims{"repository": []string{}}, false},
		{claims{"repository": claims{"name": "acme/app"}}, false},
		{claims{"ref": "refs/heads/main2"}, false},
		{claims{"protected": false}, false},
		{claims{"run": 8}, false},
	} {
		right := claims{"repository": "acme/app", "ref": "refs/heads/main", "protected": true, "run": 7}
		for name, value := range test.change {
			right[name] = value
		}
		if s, err := w.basic("ci", w.token(right)); test.ok != (err == nil && s.Name == "alice") || err != nil && !errors.Is(err, auth.ErrToken) {
			t.Errorf("%v: got %v, %v", test.change, s, err)
		}
	}
}

// TestPattern has the corners of patterns, and that nothing in them but "*" is special.
func TestPattern(t *testing.T) {
	for _, test := range []struct {
		pattern, value string
		want           bool
	}{
		{"**", "", true}, {"**", "a/b\nc", true}, {"*", "a", true}, {"*", "a/b", false}, {"*", "", true}, {"", "", true}, {"", "a", false},
		{"a.c", "abc", false}, {"a|b", "a", false}, {"(a)", "a", false}, {`\*`, `\x`, true}, {`\*`, "*", false}, {"a**z", "a/b/z", true},
		{"***", "a/b", true}, {"$^", "", false}, {"ä*", "äb", true}, {"[a]", "a", false}, {"a", "A", false},
	} {
		if got := pattern(test.pattern).MatchString(test.value); got != test.want {
			t.Errorf("%q, %q: got %t", test.pattern, test.value, got)
		}
	}
}

// TestIssuerIsDown: the start succeeds, requests get ErrUnavailable, one error is reported, and it mends itself. The other
// issuer is not concerned.
func TestIssuerIsDown(t *testing.T) {
	w := newWorld(t, nil)
	w.server.Answer(http.NotFound)
	w.Warm(t.Context())
	for range 10 {
		w.refuses("down", w.token(nil), auth.ErrUnavailable)
	}
	w.wants("the other issuer", w.serviceAccount(nil), "system:serviceaccount:ci:builder")
	if n := w.server.Fetched.Load(); n != 1 {
		t.Errorf("%d attempts", n)
	}
	reported := func() int { w.mu.Lock(); defer w.mu.Unlock(); return len(w.errs) }
	for deadline := time.Now().Add(5 * time.Second); reported() != 1; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d errors are reported", reported())
		}
	}
	w.server.Publish(t, w.one)
	w.now = w.now.Add(2 * time.Second)
	w.wants("up again", w.token(nil), "alice")
}

// TestRotation: a new key is taken at once, an old one ends within twice the refresh interval.
func TestRotation(t *testing.T) {
	w := newWorld(t, func(one, _ *Issuer) { one.Refresh = 20 * time.Second })
	old := w.token(nil)
	w.wants("before", old, "alice")
	w.one = jwttest.NewKey(t, "new", jose.ES256)
	w.server.Publish(t, w.one)
	w.now = w.now.Add(10 * time.Second)
	w.wants("a new key", w.token(nil), "alice")
	w.refuses("the old one, which a fetch has shown to be gone", old, jwt.ErrUnknownKey)
	remembered := w.token(nil)
	w.wants("remembered", remembered, "alice")
	w.server.Publish(t, jwttest.NewKey(t, "newer", jose.ES256))
	w.now = w.now.Add(40 * time.Second)
	w.refuses("remembered, by a key that is gone", remembered, jwt.ErrUnknownKey)
}

func TestDiscoveryOfAnotherIssuer(t *testing.T) {
	other := jwttest.Serve(t, false, jwttest.NewKey(t, "k", jose.ES256))
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]string{"issuer": other.URL, "jwks_uri": other.URL + "/keys"})
	}))
	defer front.Close()
	a, err := New(Options{Issuers: []Issuer{{URL: front.URL, Audiences: []string{"a"}}}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.issuers[front.URL].source.Keys(t.Context()); err == nil || !strings.Contains(err.Error(), "the metadata are of the issuer") {
		t.Errorf("got %v", err)
	}
	if other.Fetched.Load() != 0 {
		t.Error("its keys were fetched")
	}
}

func TestNewRefuses(t *testing.T) {
	right := Issuer{URL: "https://issuer.example", Audiences: []string{"a"}}
	if _, err := New(Options{Issuers: []Issuer{right}}); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*Issuer){
		"the issuer number 1 has no URL":                      func(i *Issuer) { i.URL = "" },
		"is not the URL of a server":                          func(i *Issuer) { i.URL = "issuer.example" },
		"must be fetched by https":                            func(i *Issuer) { i.URL = "http://issuer.example" },
		"https://issuer.example: an audience is required":     func(i *Issuer) { i.Audiences = nil },
		"an audience is required":                             func(i *Issuer) { i.Audiences = []string{"a", ""} },
		"groups without a claim":                              func(i *Issuer) { i.Groups = []Groups{{Prefix: "x"}} },
		`the condition on the claim "ref" has no pattern`:     func(i *Issuer) { i.Conditions = map[string][]string{"ref": nil} },
		"/nowhere: no such file":                              func(i *Issuer) { i.JWKS = "/nowhere" },
		"read the certificate authority: open /noca":          func(i *Issuer) { i.Client.CA = "/noca" },
		"read the token for fetching keys: open /notokenfile": func(i *Issuer) { i.Client.TokenFile = "/notokenfile" },
	} {
		i := right
		change(&i)
		if _, err := New(Options{Issuers: []Issuer{i}}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	if _, err := New(Options{}); err == nil {
		t.Error("no issuer is accepted")
	}
	if _, err := New(Options{Issuers: []Issuer{right, right}}); err == nil || !strings.Contains(err.Error(), "occurs twice") {
		t.Errorf("got %v", err)
	}
}

func FuzzSubject(f *testing.F) {
	f.Add([]byte(`{"sub":"alice","groups":["a","b"],"a":{"b":"x/y"}}`))
	f.Add([]byte(`{"sub":"a\u0000","groups":{},"a.b":["x/y",null,[]]}`))
	f.Add([]byte(`{"sub":1,"groups":[[]],"a":null}`))
	i := &issuer{Issuer: Issuer{User: "sub", UserPrefix: "u:", Groups: []Groups{{Claim: "groups", Prefix: "g:"}}},
		conditions: []condition{{claim: "a.b", patterns: nil}}}
	i.conditions[0].patterns = append(i.conditions[0].patterns, pattern("x/*"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var c jwt.Claims
		if json.Unmarshal(data, &c) != nil {
			return
		}
		s, err := i.subject(c)
		if err != nil {
			if !errors.Is(err, auth.ErrToken) {
				t.Error(err)
			}
			return
		}
		if !strings.Contains(string(data), "/") && !strings.Contains(string(data), `\u`) {
			t.Errorf("%s meets the condition", data)
		}
		for _, name := range append(s.Groups, s.Name) {
			if prefix, rest, _ := strings.Cut(name, ":"); prefix != "u" && prefix != "g" || !auth.Printable(rest) {
				t.Errorf("got %q", name)
			}
		}
	})
}

// BenchmarkRemembered has a token as the password, signed with RSA.
func BenchmarkRemembered(b *testing.B) {
	w := newWorld(b, nil)
	r := httptest.NewRequest(http.MethodGet, "/v2/", nil)
	r.SetBasicAuth("unused", w.token(nil))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := w.Authenticate(r); err != nil {
			b.Fatal(err)
		}
	}
}
