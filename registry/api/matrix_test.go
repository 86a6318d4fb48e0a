package api

import (
	"context"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"berth/auth"
	"berth/auth/htpasswd"
	"berth/auth/pass"
	"berth/auth/policy"
	"berth/registry"
	"berth/storage/memory"
)

var update = flag.Bool("update", false, "rewrite testdata/matrix.txt")

// The users of the matrix are those with one built-in role each on team/**, named like it, and these:
const (
	anonymous = "anonymous"
	wrong     = "wrong-password" // of registry-admin
	unknown   = "unknown-user"
	nobody    = "no-rights"       // may log in
	elsewhere = "admin-elsewhere" // registry-admin on else/**
	revoked   = "revoked"         // was registry-admin, and has used it
	releaser  = "push-new"        // an own role: pull and push-new
	remover   = "pull+delete"     // an own role
	inGroup   = "editor-by-group" // registry-editor of a group
	changed   = "changed"         // was registry-admin, and has another password since
	password  = "correct horse"   // of everybody
	repo      = "team/app"
	free      = "team/free"   // has no immutable tag
	source    = "else/source" // has the blob "other", which team/app lacks
)

var matrixRoles = []string{"registry-viewer", "system:image-puller", "registry-editor", "system:image-pusher",
	"system:image-builder", "system:image-pruner", "registry-admin", "prometheus-scraper"}

// passes are what the subjects send instead of a password whose names begin with "pass".
type passes map[string]string

// The passes: of nobody, of users, and such as are refused.
const (
	passNobody    = "pass of nobody"
	passAdmin     = "pass of registry-admin"
	passRevoked   = "pass of revoked"
	passChanged   = "pass of changed, from before"
	passExpired   = "pass, expired"
	passTampered  = "pass, tampered with"
	passTruncated = "pass, truncated"
	passElsewhere = "pass for another service"
)

var matrixSubjects = slices.Concat([]string{anonymous, wrong, unknown, nobody, elsewhere, revoked, releaser, remover, inGroup}, matrixRoles,
	[]string{passNobody, passAdmin, passRevoked, passChanged, passExpired, passTampered, passTruncated, passElsewhere})

// userName returns the name of a subject's user: Basic authentication has no colons in them.
func userName(subject string) string { return strings.ReplaceAll(subject, ":", "-") }

// matrixPolicy binds every subject but those that have no rights, and revoked while it is not yet.
func matrixPolicy(t *testing.T, before bool) *policy.Policy {
	t.Helper()
	all := []policy.Binding{
		{Subjects: []string{"user:" + elsewhere}, Roles: []string{"registry-admin"}, Repositories: []string{"else/**"}},
		{Subjects: []string{"user:" + releaser}, Roles: []string{"releaser"}, Repositories: []string{"team/**"}},
		{Subjects: []string{"user:" + remover}, Roles: []string{"remover"}, Repositories: []string{"team/**"}},
		{Subjects: []string{"group:editors"}, Roles: []string{"registry-editor"}, Repositories: []string{"team/**"}},
	}
	for _, role := range matrixRoles {
		b := policy.Binding{Subjects: []string{"user:" + userName(role)}, Roles: []string{role}, Repositories: []string{"team/**"}}
		if role == "prometheus-scraper" {
			b.Repositories = nil
		}
		all = append(all, b)
	}
	if before {
		all = append(all, policy.Binding{Subjects: []string{"user:" + revoked}, Roles: []string{"registry-admin"}, Repositories: []string{"**"}})
	}
	p, err := policy.New(policy.Config{Bindings: all, Roles: map[string][]auth.Action{
		"releaser": {auth.Pull, auth.PushNew}, "remover": {auth.Pull, auth.Delete},
	}})
	if err != nil {
		t.Fatal(err)
	}
	groups, err := policy.ParseGroups("groups", []byte("editors: ["+inGroup+"]\n"))
	if err != nil {
		t.Fatal(err)
	}
	return p.With(groups)
}

// A matrixOffice knows the users, and has given out passes.
type matrixOffice struct {
	*pass.Office
	passes passes
}

// newMatrixOffice gives out passes, then gives the user changed another password.
func newMatrixOffice(t *testing.T) matrixOffice {
	t.Helper()
	path := filepath.Join(t.TempDir(), "users")
	writeMatrixUsers(t, path)
	users, err := htpasswd.Open(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	made := passes{}
	give := func(subject, user, service string, at time.Time) *pass.Office {
		o, err := pass.New([]byte("a secret of all replicas"), auth.Methods{users}, pass.Options{
			Service: service, Users: users, Now: func() time.Time { return at },
		})
		if err != nil {
			t.Fatal(err)
		}
		r := httptest.NewRequest("GET", "/", nil)
		if user != "" {
			r.SetBasicAuth(user, password)
		}
		p, err := o.Issue(r)
		if err != nil {
			t.Fatal(err)
		}
		made[subject] = p.Text
		return o
	}
	now := time.Now()
	give(passExpired, "registry-admin", "yard", now.Add(-7*time.Minute))
	give(passElsewhere, "registry-admin", "elsewhere", now)
	give(passRevoked, revoked, "yard", now)
	give(passChanged, changed, "yard", now)
	give(passAdmin, "registry-admin", "yard", now)
	office := give(passNobody, "", "yard", now)
	admin := made[passAdmin]
	made[passTruncated] = admin[:len(admin)-2]
	made[passTampered] = admin[:20] + strings.Map(func(c rune) rune { return c ^ 1 }, admin[20:21]) + admin[21:]
	writeMatrixUsers(t, path)
	users.Refresh()
	return matrixOffice{office, made}
}

// writeMatrixUsers writes the file of users. The user changed has another hash each time.
func writeMatrixUsers(t *testing.T, path string) {
	t.Helper()
	hash, err := os.ReadFile(path + ".hash")
	if err != nil {
		if hash, err = bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost); err == nil {
			err = os.WriteFile(path+".hash", hash, 0o600)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	fresh, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	var lines strings.Builder
	fmt.Fprintf(&lines, "%s:%s\n", changed, fresh)
	for _, subject := range matrixSubjects {
		if subject != anonymous && subject != unknown && subject != wrong && !strings.HasPrefix(subject, "pass") {
			fmt.Fprintf(&lines, "%s:%s\n", userName(subject), hash)
		}
	}
	if err := os.WriteFile(path, []byte(lines.String()), 0o600); err != nil {
		t.Fatal(err)
	}
}

// A case is one row of the matrix: a request that would succeed if it were allowed.
type matrixCase struct {
	name   string
	method string
	path   func(upload string) string
	header string
	body   string
}

// matrixCases are the routes, each with HEAD where it answers that, and what the table of routes does not tell apart.
func matrixCases(t *testing.T, w *world) []matrixCase {
	t.Helper()
	fixed := func(path string) func(string) string { return func(string) string { return w.expand(path) } }
	var cases []matrixCase
	for _, r := range routes {
		c := matrixCase{method: r.method}
		switch r.kind {
		case kindRoot:
			c.path = fixed("/v2/")
		case kindToken:
			c.path = fixed(tokenPath) // with the credentials in its header, or in its form
		case kindCatalog:
			c.path = fixed("/v2/_catalog")
		case kindTags:
			c.path = fixed("/v2/" + repo + "/tags/list")
		case kindReferrers:
			c.path = fixed("/v2/" + repo + "/referrers/{image}")
		case kindRepository:
			c.path = fixed("/v2/" + free + "/_berth/repository")
		case kindManifest:
			c.path, c.header, c.body = fixed("/v2/"+repo+"/manifests/v1"), "Content-Type: "+ociManifest, w.bodies["image"]
		case kindBlob:
			c.path = fixed("/v2/" + repo + "/blobs/{hello}")
		case kindUploads:
			c.path = fixed("/v2/" + repo + "/blobs/uploads/")
		case kindUpload:
			c.body = "hello"
			c.path = func(upload string) string {
				return w.expand("/v2/" + repo + "/blobs/uploads/" + upload + "?digest={hello}")
			}
		default:
			t.Fatalf("the matrix has no request for the route %s of kind %d", r.method, r.kind)
		}
		if r.method == http.MethodGet || r.method == http.MethodHead || r.method == http.MethodDelete {
			c.body = ""
		}
		c.name = r.method + " " + strings.NewReplacer("?digest="+w.names["hello"], "", w.names["hello"], "{blob}", w.names["image"], "{manifest}").Replace(c.path("{upload}"))
		cases = append(cases, c)
	}
	return append(cases,
		matrixCase{name: "PUT " + repo + " a new tag", method: "PUT", path: fixed("/v2/" + repo + "/manifests/new"), header: "Content-Type: " + ociManifest, body: w.bodies["image"]},
		matrixCase{name: "PUT " + repo + " moving a tag", method: "PUT", path: fixed("/v2/" + repo + "/manifests/v1"), header: "Content-Type: " + ociManifest, body: w.bodies["signature"]},
		matrixCase{name: "PUT " + repo + " moving one by ?tag=", method: "PUT", path: fixed("/v2/" + repo + "/manifests/{signature}?tag=v1"), header: "Content-Type: " + ociManifest, body: w.bodies["signature"]},
		matrixCase{name: "PUT " + repo + " moving an immutable tag", method: "PUT", path: fixed("/v2/" + repo + "/manifests/fixed"), header: "Content-Type: " + ociManifest, body: w.bodies["signature"]},
		matrixCase{name: "DELETE " + repo + " an immutable tag", method: "DELETE", path: fixed("/v2/" + repo + "/manifests/fixed")},
		matrixCase{name: "DELETE " + repo + " with an immutable tag", method: "DELETE", path: fixed("/v2/" + repo + "/_berth/repository")},
		matrixCase{name: "DELETE " + repo + " a manifest of one", method: "DELETE", path: fixed("/v2/" + repo + "/manifests/{image}")},
		matrixCase{name: "POST mount from " + source, method: "POST", path: fixed("/v2/" + repo + "/blobs/uploads/?mount={other}&from=" + source)},
		matrixCase{name: "GET an upload of somebody else", method: "GET", path: func(string) string { return "/v2/" + repo + "/blobs/uploads/" + w.names["foreign"] }},
		matrixCase{name: "GET " + source, method: "GET", path: fixed("/v2/" + source + "/blobs/{other}")},
		matrixCase{name: "POST a name that is not allowed", method: "POST", path: fixed("/v2/team/a/b/c/blobs/uploads/")},
	)
}

// newMatrixWorld makes a registry with content of its own, for one request.
func newMatrixWorld(t *testing.T, office matrixOffice, holder *policy.Holder) (*world, *registry.Registry) {
	t.Helper()
	reg, err := registry.Open(context.Background(), memory.New(), &registry.Options{
		Immutable: func(_ registry.Name, tag registry.Tag) bool { return tag.String() == "fixed" },
		Secret:    []byte("a secret that is the same in all worlds"),
	})
	if err != nil {
		t.Fatal(err)
	}
	a, err := New(reg, office, auth.ReadOnly{On: func() bool { return false }, Next: holder}, &Options{
		DeleteEnabled: true, CheckName: policy.Naming{MaxDepth: 3}.Check,
		Passes: office.Office, SendForPasses: func() bool { return true },
		Challenge:   func(*http.Request, []auth.Access, error) string { return auth.BasicChallenge("matrix") },
		MayMoveTags: func(s *auth.Subject, repository string) bool { return holder.Policy().MayMoveTags(s, repository) },
	})
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, nil)
	w.handler = a
	put := func(name, content string) registry.Repository {
		n, err := registry.ParseName(name)
		if err != nil {
			t.Fatal(err)
		}
		p := reg.Repository(n)
		if _, err := p.PushBlob(t.Context(), registry.SHA256.FromBytes([]byte(content)), strings.NewReader(content), int64(len(content))); err != nil {
			t.Fatal(err)
		}
		return p
	}
	put(source, "other")
	for _, at := range []struct{ repo, tag string }{{repo, "v1"}, {repo, "fixed"}, {free, "v1"}} {
		ref, err := registry.ParseReference(at.tag)
		if err != nil {
			t.Fatal(err)
		}
		put(at.repo, "hello")
		p := put(at.repo, "{}")
		if _, err := p.PutManifest(t.Context(), registry.ManifestPush{Reference: ref, MediaType: ociManifest, Body: []byte(w.bodies["image"])}); err != nil {
			t.Fatal(err)
		}
	}
	w.names["foreign"] = put(repo, "{}").NewUpload("somebody", registry.SHA256).ID()
	return w, reg
}

// TestMatrix sends every request as every subject and compares the statuses with testdata/matrix.txt, which is to be read
// when it changes.
func TestMatrix(t *testing.T) {
	office := newMatrixOffice(t)
	holder := policy.NewHolder(matrixPolicy(t, true), nil)
	w, reg := newMatrixWorld(t, office, holder)
	if got := w.as(office.passes, 1, revoked, matrixCase{method: "GET", path: func(string) string { return "/v2/" + repo + "/tags/list" }}, reg); got.Code != 200 {
		t.Fatalf("before it is revoked, it is answered %d", got.Code)
	}
	holder.Replace(matrixPolicy(t, false), nil)

	var table strings.Builder
	table.WriteString("The answer to every request (rows) of every subject (columns), as registry/api/matrix_test.go sends them.\n\n")
	for i, subject := range matrixSubjects {
		fmt.Fprintf(&table, "%s%c %s\n", strings.Repeat(" ", 44), 'A'+i, subject)
	}
	fmt.Fprintf(&table, "\n%-44s", "")
	for i := range matrixSubjects {
		fmt.Fprintf(&table, " %c  ", 'A'+i)
	}
	table.WriteString("\n")
	for n, c := range matrixCases(t, w) {
		fmt.Fprintf(&table, "%-44s", c.name)
		for m, subject := range matrixSubjects {
			w, reg := newMatrixWorld(t, office, holder)
			answer := w.as(office.passes, n*100+m, subject, c, reg)
			fmt.Fprintf(&table, "%d ", answer.Code)
			w.checkRefusal(subject, c, answer)
		}
		table.WriteString("\n")
	}
	lines := strings.Split(table.String(), "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	compareMatrix(t, strings.Join(lines, "\n"))
}

func compareMatrix(t *testing.T, got string) {
	t.Helper()
	const file = "testdata/matrix.txt"
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s is not what is answered now; see the difference and run: go test ./registry/api -run Matrix -update\n%s", file, got)
	}
}

// as sends the request of a case as a subject. Each comes from an address of its own, so that nobody is throttled.
func (w *world) as(had passes, n int, subject string, c matrixCase, reg *registry.Registry) *httptest.ResponseRecorder {
	w.t.Helper()
	name, err := registry.ParseName(repo)
	if err != nil {
		w.t.Fatal(err)
	}
	by, given := userName(subject), had[subject]
	switch {
	case subject == anonymous || subject == passNobody:
		by = ""
	case given != "":
		by = strings.TrimPrefix(subject, "pass of ")
	}
	upload := reg.Repository(name).NewUpload(by, registry.SHA256).ID()
	r := httptest.NewRequest(c.method, "http://reg.test"+c.path(upload), strings.NewReader(c.body))
	r.RemoteAddr = fmt.Sprintf("192.0.%d.%d:1", 2+n/200, 1+n%200)
	for name, value := range lines(c.header) {
		r.Header.Set(name, value)
	}
	switch {
	case given != "":
		r.Header.Set("Authorization", "Bearer "+given)
	case subject == wrong:
		r.SetBasicAuth("registry-admin", "not "+password)
	case subject != anonymous:
		r.SetBasicAuth(by, password)
	}
	if c.method == "POST" && r.URL.Path == tokenPath {
		r = asForm(r, given)
	}
	answer := httptest.NewRecorder()
	w.handler.ServeHTTP(answer, r)
	answer.Header().Del("X-Request-Id")
	return answer
}

// asForm returns a request for a token with the credentials in a form.
func asForm(r *http.Request, given string) *http.Request {
	form := url.Values{"grant_type": {"password"}}
	if user, password, ok := r.BasicAuth(); ok {
		form.Set("username", user)
		form.Set("password", password)
	} else if given != "" {
		form = url.Values{"grant_type": {"refresh_token"}, "refresh_token": {given}}
	}
	by := r.RemoteAddr
	r = httptest.NewRequest("POST", r.URL.String(), strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.RemoteAddr = by
	return r
}

// checkRefusal asks that a refusal say how to log in, or what was missing, and tell no secret.
func (w *world) checkRefusal(subject string, c matrixCase, answer *httptest.ResponseRecorder) {
	w.t.Helper()
	at := subject + ": " + c.name
	challenge, body := answer.Header().Get("WWW-Authenticate"), answer.Body.String()
	want := `Bearer realm="http://reg.test/v2/_berth/auth/token",service="yard"`
	if c.path("") == tokenPath {
		want = `Basic realm="matrix"`
	}
	if (answer.Code == 401) != (challenge != "") || !strings.HasPrefix(challenge, want) && challenge != "" {
		w.t.Errorf("%s: answered %d with the challenge %q", at, answer.Code, challenge)
	}
	bad := slices.Contains([]string{passChanged, passExpired, passTampered, passTruncated, passElsewhere}, subject) && c.path("") != tokenPath
	if bad != strings.Contains(challenge, `error="invalid_token"`) {
		w.t.Errorf("%s: the challenge is %q", at, challenge)
	}
	if answer.Code == 403 && !strings.Contains(body, " may not ") && !strings.Contains(body, "immutable") && !strings.Contains(body, "new tags") {
		w.t.Errorf("%s: answered %s", at, body)
	}
	if strings.Contains(body, password) || strings.Contains(body, "$2") {
		w.t.Errorf("%s: a secret is in %s", at, body)
	}
}

// TestRefusalsLookTheSame asks that who may not see a repository cannot tell whether it is there.
func TestRefusalsLookTheSame(t *testing.T) {
	office := newMatrixOffice(t)
	holder := policy.NewHolder(matrixPolicy(t, false), nil)
	w, reg := newMatrixWorld(t, office, holder)
	const absent = "team/abs" // as long as the name that is there
	for n, c := range matrixCases(t, w) {
		for m, subject := range []string{anonymous, wrong, nobody, elsewhere, revoked} {
			there := w.as(office.passes, n*100+m, subject, c, reg)
			path := c.path
			c.path = func(upload string) string { return strings.ReplaceAll(path(upload), repo, absent) }
			gone := w.as(office.passes, n*100+m+50, subject, c, reg)
			c.path = path
			if there.Code < 400 || strings.Contains(c.name, source) {
				continue // allowed
			}
			a, b := there.Body.String(), strings.ReplaceAll(gone.Body.String(), absent, repo)
			sameHeader := fmt.Sprint(there.Header()) == strings.ReplaceAll(fmt.Sprint(gone.Header()), absent, repo)
			if there.Code != gone.Code || a != b || !sameHeader {
				t.Errorf("%s as %s: %d %s %v, and where there is none %d %s %v", c.name, subject, there.Code, a, there.Header(), gone.Code, b, gone.Header())
			}
		}
	}
}
