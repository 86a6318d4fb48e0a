package pass

import (
	"encoding/base64"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"golang.org/x/crypto/bcrypt"

	"berth/auth"
	"berth/auth/htpasswd"
	"berth/auth/jwttest"
	"berth/auth/oidc"
)

const secret = "a secret that all replicas have"

// A world is an office with the users ann and bob and one identity provider.
type world struct {
	*Office
	t     testing.TB
	now   time.Time
	path  string
	users *htpasswd.File
	key   *jwttest.Key
	ids   *oidc.Authenticator
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t, now: time.Now(), path: filepath.Join(t.TempDir(), "users"), key: jwttest.NewKey(t, "k", jose.ES256)}
	w.write("ann", "one", "bob", "two")
	var err error
	if w.users, err = htpasswd.Open(w.path, nil); err != nil {
		t.Fatal(err)
	}
	keys := filepath.Join(t.TempDir(), "keys")
	if err = os.WriteFile(keys, jwttest.Set(t, w.key), 0o600); err != nil {
		t.Fatal(err)
	}
	if w.ids, err = oidc.New(oidc.Options{Issuers: []oidc.Issuer{{URL: "https://id", Audiences: []string{"yard"}, JWKS: keys}}}); err != nil {
		t.Fatal(err)
	}
	w.Office = w.office(secret, "yard")
	return w
}

func (w *world) office(secret, service string) *Office {
	w.t.Helper()
	f, err := New([]byte(secret), auth.Methods{w.ids, w.users}, Options{
		Service: service, Users: w.users, IDTokens: w.ids, Now: func() time.Time { return w.now },
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return f
}

// write writes the file of users, given names and passwords.
func (w *world) write(users ...string) {
	w.t.Helper()
	var lines strings.Builder
	for i := 0; i < len(users); i += 2 {
		hash, err := bcrypt.GenerateFromPassword([]byte(users[i+1]), bcrypt.MinCost)
		if err != nil {
			w.t.Fatal(err)
		}
		lines.WriteString(users[i] + ":" + string(hash) + "\n")
	}
	if err := os.WriteFile(w.path, []byte(lines.String()), 0o600); err != nil {
		w.t.Fatal(err)
	}
	if w.users != nil {
		w.users.Refresh()
	}
}

func request(authorization string) *http.Request {
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	if authorization != "" {
		r.Header.Set("Authorization", authorization)
	}
	return r
}

func basic(user, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}

func (w *world) idToken(left time.Duration) string {
	return w.key.Sign(w.t, map[string]any{"iss": "https://id", "aud": "yard", "sub": "job", "exp": w.now.Add(left).Unix()}, nil)
}

// issue returns the pass for credentials that are right.
func (w *world) issue(authorization string) string {
	w.t.Helper()
	t, err := w.Issue(request(authorization))
	if err != nil {
		w.t.Fatalf("%.20s: %v", authorization, err)
	}
	return t.Text
}

// is asks that a pass be of a user, "" for anonymous.
func (w *world) is(f *Office, name, text, user string) {
	w.t.Helper()
	s, err := f.Authenticate(request("Bearer " + text))
	if s.Name != user || err != nil || s.Grants != nil || s.Groups != nil {
		w.t.Errorf("%s: %+v, %v; want %q", name, s, err, user)
	}
}

// refuses asks that a pass be nobody's, not even anonymous.
func (w *world) refuses(f *Office, name, text string) {
	w.t.Helper()
	if s, err := f.Authenticate(request("Bearer " + text)); !errors.Is(err, auth.ErrToken) || s.Name != "" {
		w.t.Errorf("%s: %+v, %v", name, s, err)
	}
}

func TestIssue(t *testing.T) {
	w := newWorld(t)
	id := w.idToken(time.Minute)
	for _, test := range []struct {
		name, authorization, user string
		holds                     time.Duration
	}{
		{"nobody", "", "", 5 * time.Minute},
		{"nobody, as podman says it", "Basic Og==", "", 5 * time.Minute},
		{"a user", basic("ann", "one"), "ann", 5 * time.Minute},
		{"an ID token as a password", basic("anything", id), "job", 2 * time.Minute},
		{"an ID token", "Bearer " + id, "job", 2 * time.Minute},
		{"one that holds for long", "Bearer " + w.idToken(24*time.Hour), "job", 5 * time.Minute},
	} {
		got, err := w.Issue(request(test.authorization))
		if err != nil || got.Subject.Name != test.user || got.Issued != w.now || got.Holds > test.holds || got.Holds < test.holds-2*time.Second {
			t.Errorf("%s: %+v, %v", test.name, got, err)
		}
		w.is(w.Office, test.name, got.Text, test.user)
	}
}

func TestIssueRefused(t *testing.T) {
	w := newWorld(t)
	mine := w.issue(basic("ann", "one"))
	for _, test := range []struct {
		name, authorization string
		want                error
	}{
		{"a wrong password", basic("ann", "two"), auth.ErrCredentials},
		{"an unknown user", basic("eve", "one"), auth.ErrCredentials},
		{"a pass", "Bearer " + mine, auth.ErrForeign},
		{"a pass as a password", basic("ann", mine), auth.ErrCredentials},
		{"an anonymous pass", "Bearer " + w.issue(""), auth.ErrForeign},
		{"an expired ID token", basic("x", w.idToken(-2*time.Minute)), auth.ErrToken},
		{"something else", "Digest x", auth.ErrForeign},
		{"no base64", "Basic !", auth.ErrMalformed},
	} {
		if got, err := w.Issue(request(test.authorization)); !errors.Is(err, test.want) || got.Text != "" {
			t.Errorf("%s: %+v, %v; want %v", test.name, got, err, test.want)
		}
	}
}

// TestOthersAuthenticate: what is no pass is for the next authenticator.
func TestOthersAuthenticate(t *testing.T) {
	w := newWorld(t)
	for _, test := range []struct {
		authorization, user string
		want                error
	}{
		{"", "", nil},
		{basic("bob", "two"), "bob", nil},
		{basic("bob", "one"), "", auth.ErrCredentials},
		{"Bearer " + w.idToken(time.Minute), "job", nil},
		{"Bearer opaque", "", auth.ErrForeign},
		{"Bearer", "", auth.ErrMalformed},
	} {
		if s, err := w.Authenticate(request(test.authorization)); s.Name != test.user || !errors.Is(err, test.want) {
			t.Errorf("%.20s: %+v, %v", test.authorization, s, err)
		}
	}
}

// TestHostilePasses: a pass is taken as it was made, by whom it was made for, or not at all.
func TestHostilePasses(t *testing.T) {
	w := newWorld(t)
	text := w.issue(basic("ann", "one"))
	w.is(w.office(secret, "yard"), "another replica", text, "ann")
	w.refuses(w.office(secret, "other"), "another service", text)
	w.refuses(w.office("another secret of another registry", "yard"), "another secret", text)
	for i := range len(text) {
		if i > 0 {
			w.refuses(w.Office, "truncated", text[:i])
		}
		for _, c := range []byte{'A', text[i] ^ 1, '_'} {
			if changed := text[:i] + string(c) + text[i+1:]; changed != text && strings.HasPrefix(changed, prefix) {
				w.refuses(w.Office, "tampered", changed)
			}
		}
	}
	w.refuses(w.Office, "longer", text+"A")
	w.refuses(w.Office, "very long", text+strings.Repeat("A", 20<<10))
	w.refuses(w.Office, "twice", text+text)
	w.refuses(w.Office, "padded", text+"=")
	w.refuses(w.Office, "the prefix alone", prefix)

	b, err := base64.RawURLEncoding.DecodeString(text[len(prefix):])
	if err != nil {
		t.Fatal(err)
	}
	anonymous, err := base64.RawURLEncoding.DecodeString(w.issue("")[len(prefix):])
	if err != nil {
		t.Fatal(err)
	}
	forge := func(parts ...[]byte) string {
		var all []byte
		for _, p := range parts {
			all = append(all, p...)
		}
		return prefix + base64.RawURLEncoding.EncodeToString(all)
	}
	const head, mac = 8 + stampSize, 32
	w.refuses(w.Office, "another name", forge(b[:head], []byte("bob"), b[len(b)-mac:]))
	w.refuses(w.Office, "a longer name", forge(b[:len(b)-mac], []byte("a"), b[len(b)-mac:]))
	w.refuses(w.Office, "a name in an anonymous pass", forge(anonymous[:head], []byte("ann"), anonymous[len(anonymous)-mac:]))
	w.refuses(w.Office, "without its name", forge(b[:head], b[len(b)-mac:]))
	w.refuses(w.Office, "expiring later", forge([]byte{0, 0, 1}, b[3:]))
}

func TestPassesExpire(t *testing.T) {
	w := newWorld(t)
	user, nobody := w.issue(basic("ann", "one")), w.issue("")
	w.now = w.now.Add(6*time.Minute - time.Second)
	w.is(w.Office, "by a late clock", user, "ann")
	w.is(w.Office, "by a late clock", nobody, "")
	w.now = w.now.Add(2 * time.Second)
	w.refuses(w.Office, "expired", user)
	w.refuses(w.Office, "expired", nobody)
}

// TestPassesEndWithThePassword: at the next look at the file, whoever got them.
func TestPassesEndWithThePassword(t *testing.T) {
	w := newWorld(t)
	ann, bob, nobody := w.issue(basic("ann", "one")), w.issue(basic("bob", "two")), w.issue("")
	w.is(w.Office, "before", ann, "ann") // and is remembered from now on
	w.is(w.Office, "before", bob, "bob")
	w.is(w.Office, "before", nobody, "")
	w.write("ann", "new")
	w.refuses(w.Office, "after the password was changed", ann)
	w.refuses(w.Office, "after the user was removed", bob)
	w.is(w.Office, "anonymous", nobody, "")
	w.is(w.Office, "with the new password", w.issue(basic("ann", "new")), "ann")
	w.write("ann", "one", "bob", "two") // the same passwords, hashed again
	w.refuses(w.Office, "after the user came back", bob)
}

// TestSeenPassCostsLittle: a pass that comes again is neither decoded nor allocates anything, also after other users changed.
func TestSeenPassCostsLittle(t *testing.T) {
	w := newWorld(t)
	r := request("Bearer " + w.issue(basic("ann", "one")))
	line, err := os.ReadFile(w.path)
	if err != nil {
		t.Fatal(err)
	}
	for _, more := range []string{"", "# another state\n"} {
		if err := os.WriteFile(w.path, append(line, more...), 0o600); err != nil {
			t.Fatal(err)
		}
		w.users.Refresh()
		allocations := testing.AllocsPerRun(200, func() {
			if s, err := w.Authenticate(r); s.Name != "ann" || err != nil {
				t.Fatal(s, err)
			}
		})
		if allocations >= 1 {
			t.Errorf("it allocates %v times", allocations)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	if _, err := New([]byte("short"), auth.Methods{}, Options{}); err == nil {
		t.Error("a short secret is taken")
	}
}

// FuzzPass: nothing but what the office made is anybody's, and what it made stays what it is.
func FuzzPass(f *testing.F) {
	w := newWorld(f)
	ann := w.issue(basic("ann", "one"))
	for _, seed := range []string{ann, ann[:40] + "\n" + ann[40:], w.issue(""), prefix, "", "berth1.AAAA", prefix + strings.Repeat("A", 420)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c, err := w.decode(text)
		if err == nil && w.encode(c) != text {
			t.Errorf("%q is read as %+v", text, c)
		}
		if err != nil && (!errors.Is(err, auth.ErrToken) || c != claim{}) {
			t.Errorf("%q: %+v, %v", text, c, err)
		}
		if made := (claim{time.Unix(1<<40, 0), [stampSize]byte{1}, text}); len(text) <= maxName {
			if again, err := w.decode(w.encode(made)); err != nil || again != made {
				t.Errorf("the name %q does not survive: %+v, %v", text, again, err)
			}
		}
	})
}

func BenchmarkPass(b *testing.B) {
	w := newWorld(b)
	r := request("Bearer " + w.issue(basic("ann", "one")))
	b.ReportAllocs()
	for b.Loop() {
		if s, err := w.Authenticate(r); s.Name != "ann" || err != nil {
			b.Fatal(s, err)
		}
	}
}
