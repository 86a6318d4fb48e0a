package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"berth/auth/htpasswd"
	"berth/auth/reload"
)

// file writes a file into a folder and returns its path.
func file(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// usersOf makes a file of users whose passwords are their names with "-secret" behind, with hashes that cost little.
func usersOf(t *testing.T, dir string, names ...string) string {
	t.Helper()
	var lines strings.Builder
	for _, name := range names {
		hash, err := bcrypt.GenerateFromPassword([]byte(name+"-secret"), bcrypt.MinCost)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&lines, "%s:%s\n", name, hash)
	}
	return file(t, dir, "users", lines.String())
}

// commandTest is a command line and what comes of it, in regular expressions.
type commandTest struct {
	args           []string
	stdin          string
	code           int
	stdout, stderr string
}

func (test commandTest) run(t *testing.T) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	if code := run(t.Context(), test.args, environment{nil, strings.NewReader(test.stdin), &stdout, &stderr}); code != test.code {
		t.Errorf("berth %q exits with %d, want %d: %s", test.args, code, test.code, &stderr)
	}
	for got, want := range map[*bytes.Buffer]string{&stdout: test.stdout, &stderr: test.stderr} {
		if want == "" && got.Len() > 0 || !regexp.MustCompile(want).MatchString(got.String()) {
			t.Errorf("berth %q prints %q, want %q", test.args, got, want)
		}
	}
	if secret := strings.TrimSpace(test.stdin); secret != "" && strings.Contains(stdout.String()+stderr.String(), secret) {
		t.Errorf("berth %q prints a password", test.args)
	}
}

func TestUserCommands(t *testing.T) {
	dir := t.TempDir()
	users := usersOf(t, dir, "ann", "dan")
	config := file(t, dir, "config.yml", "version: 0.1\nstorage: inmemory\nauth: {htpasswd: {path: "+users+"}}\n")
	open := file(t, dir, "open.yml", "version: 0.1\nstorage: inmemory\nauth: none\n")
	for _, test := range []commandTest{
		{args: []string{"user", "check", users, "ann"}, stdin: "ann-secret\n", stdout: "^ann: ok\n$"},
		{args: []string{"user", "check", "--config", config, "ann"}, stdin: "first-secret\n", code: 1, stderr: "^berth: ann: this is not the password\n$"},
		{args: []string{"user", "check", users, "eve"}, stdin: "first-secret\n", code: 1, stderr: "^berth: check a user: .*no such user"},
		{args: []string{"user", "remove", users, "dan"}, stdout: "^dan: removed\n$"},
		{args: []string{"user", "add", users, "ann"}, stdin: "second-secret", stdout: "^ann: has a new password\n$"},
		{args: []string{"user", "add", "--config", config, "bob"}, stdin: "third-secret\r\n", stdout: "^bob: added\n$"},
		{args: []string{"user", "check", users, "bob"}, stdin: "third-secret\n", stdout: "^bob: ok\n$"},
		{args: []string{"user", "list", users}, stdout: "^ann\tbcrypt\nbob\tbcrypt\n$"},
		{args: []string{"user", "remove", "--config", config, "bob"}, stdout: "^bob: removed\n$"},
		{args: []string{"user", "remove", users, "bob"}, code: 1, stderr: "^berth: remove a user: .*no such user"},
		{args: []string{"user", "list", "--config", config}, stdout: "^ann\tbcrypt\n$"},
		{args: []string{"user", "list", filepath.Join(dir, "none")}, code: 1, stderr: "^berth: list the users: .*no such file"},
		{args: []string{"user", "add", users, "a:b"}, stdin: "fourth-secret\n", code: 1, stderr: "^berth: .*colon.*"},
		{args: []string{"user", "add", users, "eve"}, code: 1, stderr: "^berth: read the password from standard input"},
		{args: []string{"user", "add", users, "eve"}, stdin: "\n", code: 1, stderr: "password is empty"},
		{args: []string{"user", "add", users, "eve", "hunter2"}, code: 2, stderr: "accepts 2 arg"},
		{args: []string{"user", "add", users}, code: 2, stderr: "accepts 2 arg"},
		{args: []string{"user", "list", "--config", open}, code: 1, stderr: "has no auth.htpasswd"},
		{args: []string{"user"}, stdout: "(?s)never arguments.*Examples:"},
		{args: []string{"user", "add", "--help"}, stdout: "(?s)Examples:.*users.htpasswd ann.*--config config.yml ann"},
	} {
		test.run(t)
	}
}

func TestCanI(t *testing.T) {
	dir := t.TempDir()
	groups := file(t, dir, "groups.yml", "writers: [ann]\n")
	config := file(t, dir, "config.yml", `version: 0.1
storage: inmemory
auth: {htpasswd: {path: users}, anonymous: [pull]}
authorization:
  groupsfile: `+groups+`
  roles: {release: [pull, push-new]}
  bindings:
    - {subjects: ['group:writers'], roles: [registry-editor], repositories: ['team-a/**']}
    - {subjects: ['user:bob'], roles: [release], repositories: ['*/app']}
`)
	open := file(t, dir, "open.yml", "version: 0.1\nstorage: inmemory\nauth: none\n")
	ask := func(question string) []string {
		return append([]string{"auth", "can-i", "--config", config}, strings.Fields(question)...)
	}
	for _, test := range []commandTest{
		{args: ask("user:ann push team-a/app"), stdout: `^yes: the binding number 1 \(group:writers\) gives the role registry-editor on team-a/\*\*\n$`},
		{args: ask("group:writers push team-a/app"), stdout: "^yes: the binding number 1"},
		{args: ask("user:bob push team-b/app"), stdout: "^yes: the binding number 2"},
		{args: ask("user:bob delete team-b/app"), code: 1, stderr: "^berth: no: no binding gives user:bob, authenticated the action delete on team-b/app\n$"},
		{args: ask("anonymous pull x/y"), stdout: "^yes: everybody may"},
		{args: ask("anonymous push x/y"), code: 1, stderr: "^berth: no: "},
		{args: ask("user:ann metrics"), code: 1, stderr: "^berth: no: .*the registry as a whole"},
		{args: []string{"auth", "can-i", "anonymous", "push", "x", "--config", open}, stdout: "^yes: nobody is authenticated here"},
		{args: []string{"auth", "can-i", "anonymous", "delete", "x", "--config", open}, code: 1, stderr: "^berth: no: storage.delete.enabled is false"},
		{args: ask("ann push x"), code: 2, stderr: `^berth: the subject "ann" is none of`},
		{args: ask("user:ann pushh x"), code: 2, stderr: `^berth: there is no action "pushh"`},
		{args: ask("user:ann push X"), code: 2, stderr: `^berth: .*name`},
		{args: []string{"auth", "can-i", "--help"}, stdout: "(?s)exits with 1.*Examples:"},
	} {
		test.run(t)
	}
}

func TestRulesRefused(t *testing.T) {
	dir := t.TempDir()
	users := file(t, dir, "users", "# users\nann:$2y$05$oS/.yj.JtLWtbHMPdUZ96.xTxjY0nQg5BrtJ9lbVSs4GqEHOCQS3q\n\nbob\n")
	serve := func(rest string) []string {
		return []string{"serve", file(t, t.TempDir(), "config.yml", "version: 0.1\nstorage: inmemory\nhttp: {addr: '127.0.0.1:0'}\n"+rest)}
	}
	const auth = "auth: {anonymous: [pull]}\nauthorization:\n  "
	for _, test := range []commandTest{
		{args: serve("auth: {htpasswd: {path: " + dir + "/none}}"), stderr: `config.yml:4: auth.htpasswd.path: read the users: .*none: no such file or directory; make it by .berth user add .*none NAME.`},
		{args: serve("auth: {htpasswd: {path: " + dir + "}}"), stderr: `config.yml:4: auth.htpasswd.path: .*not a regular file`},
		{args: serve("auth: {htpasswd: {path: " + users + "}}"), stderr: `config.yml:4: auth.htpasswd.path: .*users:4: the line is not of the form`},
		{args: serve("auth:\n  anonymous:\n  - pull\n  - pul\n"), stderr: `config.yml:7: auth.anonymous\[1\]: there is no action "pul"`},
		{args: serve(auth + "roles:\n    r: [push, x]\n"), stderr: `config.yml:7: authorization.roles.r: .*there is no action "x"`},
		{args: serve(auth + "bindings:\n  - {subjects: [anonymous], roles: [r], repositories: ['**']}\n"),
			stderr: `config.yml:7: authorization.bindings\[0\]: there is no role "r"`},
		{args: serve(auth + "bindings:\n  - {subjects: [anonymous], roles: [registry-viewer], repositories: ['A/**']}\n"),
			stderr: `config.yml:7: authorization.bindings\[0\]: .*the pattern "A/\*\*" for repositories`},
		{args: serve(auth + "bindings:\n  - {subjects: [everybody], roles: [registry-viewer], repositories: ['**']}\n"), stderr: `the subject "everybody"`},
		{args: serve(auth + "immutabletags:\n  - {tags: ['v*']}\n  - {repositories: 'a/***', tags: [x]}\n  - {}\n"),
			stderr: `(?s)config.yml:8: authorization.immutabletags\[1\]: the pattern.*config.yml:9: authorization.immutabletags\[2\]: tags are required`},
		{args: serve(auth + "groupsfile: " + users), stderr: `config.yml:6: authorization.groupsfile: read the groups: .*users`},
	} {
		var stdout, stderr bytes.Buffer
		if code := run(t.Context(), test.args, environment{nil, nil, &stdout, &stderr}); code != 1 || !regexp.MustCompile(test.stderr).MatchString(stderr.String()) {
			t.Errorf("exits with %d and prints %q, want %q", code, &stderr, test.stderr)
		}
		if strings.Contains(stderr.String(), "$2y") {
			t.Errorf("a hash is in %q", &stderr)
		}
	}
}

// A guarded is a server that runs with users, in this process.
type guarded struct {
	*testing.T
	url    string
	dir    string
	stdout bytes.Buffer // to be read when it has stopped
	stderr *logged
	code   chan int
}

// guardedConfig listens on all addresses, which would be refused without users.
const guardedConfig = `version: 0.1
log: {level: debug}
storage: {inmemory: {}, delete: {enabled: true}}
http: {addr: ':0'}
auth: {htpasswd: {realm: 'the "yard"', path: DIR/users}}
authorization:
  groupsfile: DIR/groups
  immutabletags: [{tags: ['v*']}]
  bindings:
    - {subjects: ['group:writers'], roles: [registry-editor, system:image-pruner], repositories: ['**']}
    - {subjects: ['user:bob'], roles: [registry-viewer], repositories: ['team/**']}
`

func startGuarded(t *testing.T) *guarded {
	t.Helper()
	return startWith(t, func(g *guarded) string {
		file(t, g.dir, "groups", "writers: [ann]\n")
		return guardedConfig
	})
}

// startWith starts a server with a file of users and the configuration that prepare returns.
func startWith(t *testing.T, prepare func(g *guarded) string) *guarded {
	t.Helper()
	g := &guarded{T: t, dir: t.TempDir(), code: make(chan int, 1)}
	usersOf(t, g.dir, "ann", "bob")
	g.configure(prepare(g))
	found := make(chan string, 1)
	g.stderr = &logged{pattern: regexp.MustCompile(`msg=listening address="([^"]+)"`), found: found}
	go func() {
		g.code <- run(context.Background(), []string{"serve", filepath.Join(g.dir, "config.yml")}, environment{nil, nil, &g.stdout, g.stderr})
	}()
	select {
	case addr := <-found:
		g.url = "http://" + addr
	case <-g.code:
		t.Fatalf("berth stopped: %s", g.stderr.String())
	}
	return g
}

func (g *guarded) configure(text string) {
	file(g.T, g.dir, "config.yml", strings.ReplaceAll(text, "DIR", g.dir))
}

// signal sends a signal to the process, and waits for a line of the log that was not there before.
func (g *guarded) signal(line string) {
	g.Helper()
	before := strings.Count(g.stderr.String(), line)
	if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
		g.Fatal(err)
	}
	for end := time.Now().Add(10 * time.Second); strings.Count(g.stderr.String(), line) == before; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			g.Fatalf("the log has no new line %q: %s", line, g.stderr.String())
		}
	}
}

// do sends a request as a user, "" for anonymous, and returns the answer with its body.
func (g *guarded) do(user, password, method, path, body string) (*http.Response, string) {
	g.Helper()
	return g.send(func(r *http.Request) {
		if user != "" {
			r.SetBasicAuth(user, password)
		}
	}, method, path, body)
}

// send sends a request with the credentials that login adds, and returns the answer with its body.
func (g *guarded) send(login func(*http.Request), method, path, body string) (*http.Response, string) {
	g.Helper()
	r, err := http.NewRequest(method, g.url+path, strings.NewReader(body))
	if err != nil {
		g.Fatal(err)
	}
	login(r)
	if strings.Contains(path, "/manifests/") {
		r.Header.Set("Content-Type", "application/vnd.oci.image.index.v1+json")
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		g.Fatal(err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		g.Fatal(err)
	}
	return response, string(answer)
}

func (g *guarded) want(status int, user, method, path, body string) string {
	g.Helper()
	response, answer := g.do(user, user+"-secret", method, path, body)
	if response.StatusCode != status {
		g.Errorf("%s %s as %q is answered %d, want %d: %s", method, path, user, response.StatusCode, status, answer)
	}
	return answer
}

// soon waits until a request is answered by a status, for as long as a change of a file may take.
func (g *guarded) soon(status int, user, method, path string) {
	g.Helper()
	end := time.Now().Add(reload.Interval + 2*time.Second)
	for {
		response, answer := g.do(user, user+"-secret", method, path, "")
		if response.StatusCode == status {
			return
		}
		if time.Now().After(end) {
			g.Fatalf("%s %s as %q is still answered %d, want %d: %s", method, path, user, response.StatusCode, status, answer)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// stop ends the server and asks that none of its output have a secret.
func (g *guarded) stop() {
	g.Helper()
	if err := syscall.Kill(os.Getpid(), syscall.SIGTERM); err != nil {
		g.Fatal(err)
	}
	if code := <-g.code; code != 0 {
		g.Errorf("it exits with %d: %s", code, g.stderr.String())
	}
	for name, output := range map[string]string{"the log": g.stderr.String(), "the access log": g.stdout.String()} {
		for _, secret := range []string{"-secret", "$2", "Basic ", "eyJ", "berth1.", base64.StdEncoding.EncodeToString([]byte("ann:ann-secret"))} {
			if strings.Contains(output, secret) {
				g.Errorf("%s has %q: %s", name, secret, output)
			}
		}
	}
	if !strings.Contains(g.stdout.String(), " ann ") {
		g.Errorf("the access log does not name who asked: %s", g.stdout.String())
	}
}

const (
	emptyIndex = `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}`
	otherIndex = `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[],"annotations":{"a":"b"}}`
)

// TestGuardedServer logs in, is denied, and changes users, groups and rules while the server runs.
func TestGuardedServer(t *testing.T) {
	g := startGuarded(t)
	const manifest = "/v2/team/app/manifests/"
	response, _ := g.do("", "", "GET", "/v2/", "")
	if got := response.Header.Get("WWW-Authenticate"); response.StatusCode != 401 || got != `Basic realm="the \"yard\""` {
		t.Errorf("/v2/ is answered %d with the challenge %q", response.StatusCode, got)
	}
	g.want(200, "ann", "GET", "/v2/", "")
	g.want(201, "ann", "PUT", manifest+"v1", emptyIndex)
	g.want(403, "ann", "PUT", manifest+"v1", otherIndex)
	g.want(403, "ann", "DELETE", manifest+"v1", "")
	g.want(200, "bob", "GET", manifest+"v1", "")
	if answer := g.want(403, "bob", "PUT", manifest+"v2", emptyIndex); !strings.Contains(answer, `\"bob\" may not push on the repository \"team/app\"`) {
		t.Errorf("the refusal does not name what is missing: %s", answer)
	}
	if response, answer := g.do("ann", "wrong-secret", "GET", "/v2/", ""); response.StatusCode != 401 || strings.Contains(answer, "-secret") {
		t.Errorf("a wrong password is answered %d: %s", response.StatusCode, answer)
	}
	if response, answer := g.do("sys:ann", "ann-secret", "GET", "/v2/", ""); response.StatusCode != 401 || !strings.Contains(answer, "cannot have a colon") {
		t.Errorf("a user name with a colon is answered %d: %s", response.StatusCode, answer)
	}

	usersOf(t, g.dir, "bob", "ann", "eve")
	g.soon(200, "eve", "GET", "/v2/")
	if err := htpasswd.Remove(filepath.Join(g.dir, "users"), "eve"); err != nil {
		t.Fatal(err)
	}
	g.soon(401, "eve", "GET", "/v2/")
	file(t, g.dir, "groups", "writers: [bob]\n")
	g.soon(404, "bob", "DELETE", manifest+"none")
	g.want(403, "ann", "GET", manifest+"v1", "")

	g.configure(strings.Replace(guardedConfig, "user:bob", "user:ann", 1))
	g.signal("reloaded the configuration")
	g.want(200, "ann", "GET", manifest+"v1", "")
	g.configure(strings.Replace(guardedConfig, "registry-viewer", "registry-admin', x: '", 1))
	g.signal("was not reloaded")
	g.configure(strings.Replace(guardedConfig, "registry-viewer", "no-role", 1))
	g.signal("was not reloaded")
	g.configure(strings.Replace(guardedConfig, "the \"yard\"", "other", 1))
	g.signal("was not reloaded")
	g.want(200, "ann", "GET", manifest+"v1", "")
	g.want(201, "bob", "PUT", manifest+"v2", emptyIndex)
	g.configure(strings.Replace(guardedConfig, "delete:", "maintenance: {readonly: {enabled: true}}, delete:", 1))
	g.signal("reloaded the configuration")
	g.want(405, "bob", "PUT", manifest+"v3", emptyIndex)
	g.want(200, "bob", "GET", manifest+"v1", "")
	g.stop()
}

// TestAnonymousServer: everybody may do what is configured, and log in to do more.
func TestAnonymousServer(t *testing.T) {
	g := startGuarded(t)
	g.want(401, "", "GET", "/v2/", "")
	g.configure(strings.Replace(guardedConfig, "auth: {", "auth: {anonymous: [pull], ", 1))
	g.signal("reloaded the configuration")
	response, _ := g.do("", "", "GET", "/v2/", "")
	if response.StatusCode != 401 || !strings.HasPrefix(response.Header.Get("WWW-Authenticate"), "Bearer ") {
		t.Errorf("/v2/ is answered %d with %v", response.StatusCode, response.Header)
	}
	g.want(404, "", "GET", "/v2/team/app/manifests/v1", "")
	g.want(401, "", "PUT", "/v2/team/app/manifests/v1", emptyIndex)
	g.want(201, "ann", "PUT", "/v2/team/app/manifests/v1", emptyIndex)
	g.want(200, "", "GET", "/v2/team/app/manifests/v1", "")
	response, _ = g.do("ann", "wrong-secret", "GET", "/v2/team/app/manifests/v1", "")
	if response.StatusCode != 401 {
		t.Errorf("wrong credentials are answered %d where none are needed", response.StatusCode)
	}
	g.stop()
}
