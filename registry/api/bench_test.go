package api

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"golang.org/x/crypto/bcrypt"

	"berth/auth"
	"berth/auth/htpasswd"
	"berth/auth/jwttest"
	"berth/auth/pass"
	"berth/auth/policy"
	"berth/auth/token"
)

// A sink is the cheapest ResponseWriter: a benchmark should measure the API.
type sink struct{ header http.Header }

func (s *sink) Header() http.Header         { return s.header }
func (s *sink) WriteHeader(int)             {}
func (s *sink) Write(p []byte) (int, error) { return len(p), nil }

func BenchmarkGetManifest(b *testing.B) {
	t := &testing.T{}
	w := newWorld(t, nil)
	w.push("team/app")
	for name, target := range map[string]string{"by tag": "/v2/team/app/manifests/v1", "by digest": "/v2/team/app/manifests/{image}", "root": "/v2/"} {
		b.Run(name, func(b *testing.B) {
			r := httptest.NewRequest(http.MethodGet, w.expand(target), nil)
			b.ReportAllocs()
			for b.Loop() {
				s := &sink{header: make(http.Header, 8)}
				w.handler.ServeHTTP(s, r)
			}
		})
	}
}

// BenchmarkAuthenticated compares who logs in, in each way, with who does not have to.
func BenchmarkAuthenticated(b *testing.B) {
	users := benchUsers(b)
	key := jwttest.NewKey(b, "k", jose.ES256)
	keys := filepath.Join(b.TempDir(), "keys")
	if err := os.WriteFile(keys, jwttest.Set(b, key), 0o600); err != nil {
		b.Fatal(err)
	}
	tokens, err := token.New(b.Context(), token.Options{Realm: "https://auth.example/token", Service: "yard", Issuer: "auth.example", JWKS: keys})
	if err != nil {
		b.Fatal(err)
	}
	office, err := pass.New([]byte("a secret that all replicas have"), auth.Methods{tokens, users}, pass.Options{Service: "yard", Users: users})
	if err != nil {
		b.Fatal(err)
	}
	rules, err := policy.New(policy.Config{Anonymous: []auth.Action{auth.Pull, auth.Push}, Bindings: []policy.Binding{
		{Subjects: []string{"user:ann"}, Roles: []string{"registry-editor"}, Repositories: []string{"team/**"}}}})
	if err != nil {
		b.Fatal(err)
	}
	open, t := newWorld(&testing.T{}, nil), &testing.T{}
	open.push("team/app")
	guarded := newWorldFor(t, office, policy.NewHolder(rules, nil), nil)
	guarded.push("team/app")
	login := httptest.NewRequest(http.MethodGet, "/v2/", nil)
	login.SetBasicAuth("ann", password)
	given, err := office.Issue(login)
	if err != nil {
		b.Fatal(err)
	}
	signed := key.Sign(b, map[string]any{
		"iss": "auth.example", "sub": "ann", "aud": "yard", "exp": time.Now().Add(time.Hour).Unix(),
		"access": []map[string]any{{"type": "repository", "name": "team/app", "actions": []string{"pull"}}},
	}, nil)
	for _, test := range []struct {
		name, authorization string
		world               *world
	}{
		{"no authentication", "", open}, {"anonymous", "", guarded}, {"basic", login.Header.Get("Authorization"), guarded},
		{"pass", "Bearer " + given.Text, guarded}, {"token", "Bearer " + signed, guarded},
	} {
		b.Run(test.name, func(b *testing.B) {
			r := httptest.NewRequest(http.MethodGet, "/v2/team/app/manifests/v1", nil)
			if test.authorization != "" {
				r.Header.Set("Authorization", test.authorization)
			}
			first := httptest.NewRecorder()
			if test.world.handler.ServeHTTP(first, r); first.Code != http.StatusOK {
				b.Fatal(first.Code, first.Body)
			}
			b.ReportAllocs()
			for b.Loop() {
				test.world.handler.ServeHTTP(&sink{header: make(http.Header, 8)}, r)
			}
		})
	}
}

// benchUsers has ann.
func benchUsers(b *testing.B) *htpasswd.File {
	b.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		b.Fatal(err)
	}
	path := filepath.Join(b.TempDir(), "users")
	if err := os.WriteFile(path, []byte("ann:"+string(hash)+"\n"), 0o600); err != nil {
		b.Fatal(err)
	}
	users, err := htpasswd.Open(path, nil)
	if err != nil {
		b.Fatal(err)
	}
	return users
}
