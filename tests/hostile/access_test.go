package hostile

import (
	"encoding/base64"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"berth/tests/content"
	"berth/tests/harness"
)

// The lessons of others about access, as in lessons_test.go. docs/security.md lists them all.

const (
	ownerPassword = "root's secret"
	ownerLine     = "root:$2a$04$p/Vfxptm3CYzoIyKC.Rml.6GHKhjAgDs1TEgJWzSEsbN874F.EhTW\n"
)

// owned runs a registry whose only user is root, with an image in private/app and one in open/app, and with more variables.
func owned(t *testing.T, env ...string) *harness.Server {
	t.Helper()
	users := filepath.Join(t.TempDir(), "users")
	if err := os.WriteFile(users, []byte(ownerLine), 0o600); err != nil {
		t.Fatal(err)
	}
	s := harness.Start(t, harness.Options{Env: append([]string{"REGISTRY_AUTH_HTPASSWD_PATH=" + users, "REGISTRY_STORAGE_DELETE_ENABLED=true"}, env...)})
	owner := *s.Client
	owner.User, owner.Password = "root", ownerPassword
	for _, repo := range []string{"private/app", "open/app"} {
		if err := owner.Push(repo, image(), "v"); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// TestRebinding has a page, whose name leads to the loopback address, change a registry without an auth section.
func TestRebinding(t *testing.T) {
	s := harness.Start(t, harness.Options{Env: []string{"REGISTRY_STORAGE_DELETE_ENABLED=true"}})
	if err := s.Push("app", image(), "v"); err != nil {
		t.Fatal(err)
	}
	for origin, status := range map[string]int{"http://evil.example": http.StatusForbidden, "null": http.StatusForbidden, "http://localhost:8080": http.StatusAccepted} {
		header := http.Header{"Origin": {origin}}
		r := call(t, s, harness.Call{Method: "POST", Path: "/v2/app/blobs/uploads/", Header: header}, status)
		if status == http.StatusAccepted {
			continue
		}
		if !slices.Equal(r.Codes(), []string{"DENIED"}) || !strings.Contains(string(r.Body), "auth: none") {
			t.Errorf("%s", r.Body)
		}
		call(t, s, harness.Call{Method: "DELETE", Path: "/v2/app/manifests/v", Header: header}, status)
		call(t, s, harness.Call{Method: "GET", Path: "/v2/app/manifests/v", Header: header}, http.StatusOK)
	}
}

// TestCVE_2026_27771 asks for what is there, by every route, as nobody: no route forgets to ask who that is.
func TestCVE_2026_27771(t *testing.T) {
	s := owned(t)
	manifest, blob := image().Top().Digest, image().Blobs[0].Digest
	for _, path := range []string{
		"/v2/", "/v2/_catalog", "/v2/private/app/tags/list", "/v2/private/app/referrers/" + manifest, "/v2/private/app/manifests/v",
		"/v2/private/app/manifests/" + manifest, "/v2/private/app/blobs/" + blob, "/v2/private/app/blobs/uploads/",
		"/v2/private/app/blobs/uploads/AAAA", "/v2/private/app", "/v2/_berth/auth/token",
	} {
		for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"} {
			for _, query := range []url.Values{nil, {"mount": {blob}, "from": {"private/app"}}, {"digest": {blob}}, {"n": {"1"}}} {
				r := call(t, s, harness.Call{Method: method, Path: path, Query: query}, 400, 401, 404, 405)
				if strings.Contains(string(r.Body), "private") && r.Status != 401 || strings.Contains(string(r.Body), manifest) && r.Status == 404 {
					t.Errorf("%s: tells %s", r.Call, r.Body)
				}
			}
		}
	}
}

// TestCVE_2026_4404 tries what others come with: there is no user but those that were made.
func TestCVE_2026_4404(t *testing.T) {
	s := owned(t)
	for _, pair := range []string{"admin:admin", "admin:Harbor12345", "admin:password", "admin:admin123", "root:root", "root:", "admin:", "berth:berth",
		"anonymous:anonymous", "registry:registry", "unused:token", "$oauthtoken:x", "<token>:x"} {
		header := http.Header{"Authorization": {"Basic " + base64.StdEncoding.EncodeToString([]byte(pair))}}
		call(t, s, harness.Call{Method: "GET", Path: "/v2/", Header: header}, 401, 429)
	}
}

// TestCVE_2020_29662 lists as nobody: nothing where nobody may pull, and what nobody may pull nowhere (also CVE-2020-13794).
func TestCVE_2020_29662(t *testing.T) {
	closed := owned(t)
	call(t, closed, harness.Call{Method: "GET", Path: "/v2/_catalog"}, 401)

	open := owned(t, "REGISTRY_AUTHORIZATION_BINDINGS=[{subjects: [anonymous], roles: [registry-viewer], repositories: ['open/**']}, "+
		"{subjects: ['user:root'], roles: [registry-admin], repositories: ['**']}]")
	for _, query := range []url.Values{nil, {"n": {"1"}}, {"last": {"open/app"}}, {"n": {"1000"}, "last": {"p"}}} {
		if r := call(t, open, harness.Call{Method: "GET", Path: "/v2/_catalog", Query: query}, 200); strings.Contains(string(r.Body)+r.Header.Get("Link"), "private") {
			t.Errorf("%s: answered %s, Link %s", r.Call, r.Body, r.Header.Get("Link"))
		}
	}
	for _, what := range []string{"tags/list", "manifests/v", "manifests/" + image().Top().Digest, "blobs/" + image().Blobs[0].Digest} {
		there := call(t, open, harness.Call{Method: "GET", Path: "/v2/private/app/" + what}, 401)
		nowhere := call(t, open, harness.Call{Method: "GET", Path: "/v2/private/xyz/" + what}, 401)
		if a, b := string(there.Body), strings.ReplaceAll(string(nowhere.Body), "private/xyz", "private/app"); a != b {
			t.Errorf("%s: a hidden repository is answered %s, and one that is not there %s", what, a, b)
		}
	}
}

// TestCVE_2025_48374 looks for secrets in all that the server writes, with everything logged.
func TestCVE_2025_48374(t *testing.T) {
	secrets := []string{ownerPassword, "a-wrong-password", "a-scrape-secret-of-the-test", "an-http-secret-of-the-test-with-32-characters", "eyJhbGciOiJub25lIn0"}
	s := owned(t, "REGISTRY_LOG_LEVEL=debug", "REGISTRY_LOG_ACCESSLOG_DISABLED=false", "REGISTRY_METRICS_ENABLED=true", "REGISTRY_METRICS_SECRET="+secrets[2],
		"REGISTRY_HTTP_SECRET="+secrets[3], "REGISTRY_AUTH_TOKENENDPOINT_MODE=always")
	basic := func(password string) string {
		return "Basic " + base64.StdEncoding.EncodeToString([]byte("root:"+password))
	}
	for _, secret := range secrets {
		for _, credentials := range []string{"Bearer " + secret, "Bearer " + secret + ".e30.", "Digest " + secret, secret} {
			for _, path := range []string{"/v2/", "/v2/private/app/manifests/v", "/v2/_berth/auth/token"} {
				call(t, s, harness.Call{Method: "GET", Path: path, Header: http.Header{"Authorization": {credentials}}}, 401)
			}
		}
	}
	for path, given := range map[string]string{"/v2/": secrets[0], "/v2/private/app/manifests/v": secrets[1], "/extensions/v2/metrics": secrets[2]} {
		r, err := s.Do(harness.Call{Method: "GET", Path: path, Header: http.Header{"Authorization": {basic(given)}}})
		if err != nil || r.Status != 200 && r.Status != 401 {
			t.Errorf("%s: %+v, %v", path, r, err)
		}
	}
	form := harness.Call{Method: "POST", Path: "/v2/_berth/auth/token", Header: http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}}
	for _, fields := range []url.Values{{"grant_type": {"password"}, "username": {"root"}, "password": {ownerPassword}}, {"grant_type": {"password"}, "password": {secrets[1]}},
		{"grant_type": {secrets[1]}}, {"grant_type": {"refresh_token"}, "refresh_token": {secrets[4]}}} {
		form.Body = []byte(fields.Encode())
		call(t, s, form, 200, 400, 401, 429)
	}
	s.Stop() // which writes what is left of the log
	for _, secret := range append(secrets, strings.TrimSpace(ownerLine)[len("root:"):]) {
		for _, form := range []string{secret, url.QueryEscape(secret), base64.StdEncoding.EncodeToString([]byte(secret)), basic(secret)} {
			if strings.Contains(s.Log(), form) {
				t.Errorf("the log has %s", form)
			}
		}
	}
}

// TestHarbor22900 deletes what a repository has and makes it again: blobs and manifests of the old one are not in the new one,
// nor can they be mounted from it, and nobody else may pull from it.
func TestHarbor22900(t *testing.T) {
	s := owned(t)
	owner := *s.Client
	owner.User, owner.Password = "root", ownerPassword
	basic := http.Header{"Authorization": {"Basic " + base64.StdEncoding.EncodeToString([]byte("root:"+ownerPassword))}}
	for _, m := range image().Manifests {
		call(t, s, harness.Call{Method: "DELETE", Path: "/v2/private/app/manifests/" + m.Digest, Header: basic}, 202)
	}
	for _, b := range image().Blobs {
		call(t, s, harness.Call{Method: "DELETE", Path: "/v2/private/app/blobs/" + b.Digest, Header: basic}, 202)
	}
	other := content.Algorithm(content.Digest).Image("another", content.AMD64(), []int{100}, nil)
	if err := owner.Push("private/app", other, "v"); err != nil {
		t.Fatal(err)
	}
	for _, b := range image().Blobs {
		if b.Digest != other.Blobs[0].Digest {
			call(t, s, harness.Call{Method: "GET", Path: "/v2/private/app/blobs/" + b.Digest, Header: basic}, 404)
			mount := url.Values{"mount": {b.Digest}, "from": {"private/app"}}
			call(t, s, harness.Call{Method: "POST", Path: "/v2/private/third/blobs/uploads/", Query: mount, Header: basic}, 202)
		}
	}
	for _, m := range image().Manifests {
		call(t, s, harness.Call{Method: "GET", Path: "/v2/private/app/manifests/" + m.Digest, Header: basic}, 404)
	}
	call(t, s, harness.Call{Method: "GET", Path: "/v2/private/app/manifests/v"}, 401)
}
