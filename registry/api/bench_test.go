package api

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/crypto/bcrypt"

	"berth/auth"
	"berth/auth/htpasswd"
	"berth/auth/policy"
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

// BenchmarkAuthenticated compares who logs in by a password with who does not have to.
func BenchmarkAuthenticated(b *testing.B) {
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
	rules, err := policy.New(policy.Config{Anonymous: []auth.Action{auth.Pull, auth.Push}, Bindings: []policy.Binding{
		{Subjects: []string{"user:ann"}, Roles: []string{"registry-editor"}, Repositories: []string{"team/**"}}}})
	if err != nil {
		b.Fatal(err)
	}
	open, t := newWorld(&testing.T{}, nil), &testing.T{}
	open.push("team/app")
	guarded := newWorldFor(t, auth.Methods{users}, policy.NewHolder(rules, nil), nil)
	guarded.push("team/app")
	for _, test := range []struct {
		name, user string
		world      *world
	}{{"no authentication", "", open}, {"anonymous", "", guarded}, {"basic", "ann", guarded}} {
		b.Run(test.name, func(b *testing.B) {
			r := httptest.NewRequest(http.MethodGet, "/v2/team/app/manifests/v1", nil)
			if test.user != "" {
				r.SetBasicAuth(test.user, password)
			}
			b.ReportAllocs()
			for b.Loop() {
				test.world.handler.ServeHTTP(&sink{header: make(http.Header, 8)}, r)
			}
		})
	}
}
