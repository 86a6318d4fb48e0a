package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"berth/auth/htpasswd"
	"berth/registry/admin"
	"berth/registry/health"
)

const operateConfig = `version: 0.1
storage: {filesystem: {rootdirectory: DIR/store}, delete: {enabled: true}}
http: {addr: '127.0.0.1:0'}
auth: {htpasswd: {path: DIR/users}}
authorization: {groupsfile: DIR/groups, bindings: [{subjects: ['user:ann'], roles: [registry-admin], repositories: ['**']}]}
`

func startOperated(t *testing.T) *guarded {
	t.Helper()
	return startWith(t, func(g *guarded) string {
		file(t, g.dir, "groups", "writers: [ann]\n")
		return operateConfig
	})
}

// command runs a command for the server, and asks for an exit code and for what it prints, regular expressions.
func (g *guarded) command(code int, stdout, stderr string, args ...string) {
	g.Helper()
	commandTest{args: append(args, "--config", filepath.Join(g.dir, "config.yml")), code: code, stdout: stdout, stderr: stderr}.run(g.T)
}

func (g *guarded) socket() string { return filepath.Join(g.dir, "store", "admin", "socket") }

const tagPath = "/v2/team/app/manifests/v"

func TestReload(t *testing.T) {
	g := startOperated(t)
	g.command(0, "^reloaded: no key has changed\n$", "", "reload")
	g.want(403, "bob", "GET", tagPath+"1", "")
	g.configure(strings.Replace(operateConfig, "user:ann", "user:bob", 1) + "log: {level: debug}\ncatalog: {maxentries: 7}\nredis: {addr: x}\n")
	g.command(0, "^reloaded: log.level, authorization.bindings\nafter a restart: catalog.maxentries\n$", "warning: .*redis.*ignored", "reload")
	g.want(404, "bob", "GET", tagPath+"1", "")
	g.command(0, "^reloaded: no key has changed\nafter a restart: catalog.maxentries\n$", "redis", "reload")

	// With an error nothing changes, and commands reach the server all the same.
	byServer := []string{"reload", "--socket", g.socket()}
	for config, want := range map[string]string{
		strings.Replace(operateConfig, "roles: [registry-admin]", "roles: [no-role]", 1): `authorization.bindings\[0\]: there is no role "no-role"`,
		strings.Replace(operateConfig, "DIR/users", "DIR/others", 1):                     "config.yml:4: auth: of auth, only auth.anonymous changes without a restart",
		strings.Replace(operateConfig, "DIR/groups", "DIR/none", 1):                      "config.yml:5: authorization.groupsfile: .*none: no such file",
		operateConfig + "lgo: {}\n":                                                      "config.yml:6: .*lgo.*nearest",
		"version: [":                                                                     "config.yml:",
	} {
		g.configure(config)
		commandTest{args: byServer, code: 1, stderr: "^berth: reload: .*" + want}.run(t)
		g.command(1, "", "^berth: reload: .*"+want, "reload")
		if !strings.HasPrefix(config, "version: [") {
			g.command(0, "read-only", "", "status")
		}
		g.want(404, "bob", "GET", tagPath+"1", "")
		g.want(403, "ann", "GET", tagPath+"1", "")
	}
	g.configure("version: [")
	g.command(1, "", "(?m)^berth: the server was not asked: name its socket", "reload")
	commandTest{args: []string{"status", "--socket", g.socket()}, stdout: "read-only"}.run(t)

	g.configure(operateConfig)
	file(t, g.dir, "users", "ann\n")
	g.command(1, "", "^berth: reload: .*config.yml:4: auth.htpasswd.path: .*users:1: ", "reload")
	g.want(403, "ann", "GET", tagPath+"1", "")
	usersOf(t, g.dir, "ann", "bob")
	g.command(0, "^reloaded: log.level, authorization.bindings\n$", "", "reload")
	g.want(404, "ann", "GET", tagPath+"1", "")
	if err := os.Remove(filepath.Join(g.dir, "config.yml")); err != nil {
		t.Fatal(err)
	}
	commandTest{args: byServer, code: 1, stderr: "^berth: reload: read the configuration: .*no such file"}.run(t)
	g.stop()
	if log := g.stderr.String(); !strings.Contains(log, "what was in force stays in force") || !strings.Contains(log, `changed="log.level authorization.bindings"`) {
		t.Errorf("the log does not tell of the reloads: %s", log)
	}
	if access := g.stdout.String(); !strings.Contains(access, `uid:`) || !strings.Contains(access, `"POST /v1/reload HTTP/1.1" 409`) {
		t.Errorf("the access log does not tell of the commands: %s", access)
	}
}

// TestDiff previews reloads, which change nothing, and fail where a reload would.
func TestDiff(t *testing.T) {
	g := startOperated(t)
	diff := func(code int, config, stdout, stderr string) {
		t.Helper()
		g.command(code, stdout, stderr, "config", "diff", file(t, g.dir, "new.yml", strings.ReplaceAll(config, "DIR", g.dir)))
	}
	diff(0, operateConfig, "^with a reload: no key changes\n$", "")
	diff(0, operateConfig+"# "+strings.Repeat("large", 100<<10)+"\n", "^with a reload: no key changes\n$", "")
	other := strings.Replace(operateConfig, "user:ann", "user:bob", 1) + "catalog: {maxentries: 7}\nhealth: {minfreespace: 1MiB}\nredis: {addr: x}\n"
	diff(0, other, "^with a reload: authorization.bindings, health.minfreespace\nafter a restart: catalog.maxentries\n$", "redis.*ignored")
	g.want(403, "bob", "GET", tagPath+"1", "") // nothing changed
	for config, want := range map[string]string{
		strings.Replace(operateConfig, "registry-admin", "no-role", 1): `authorization.bindings\[0\]: there is no role "no-role"`,
		strings.Replace(operateConfig, "DIR/users", "DIR/others", 1):   "new.yml:4: auth: of auth, only auth.anonymous changes without a restart",
		strings.Replace(operateConfig, "DIR/groups", "DIR/none", 1):    "new.yml:5: authorization.groupsfile: .*none: no such file",
		operateConfig + "log: {formatter: xml}\n":                      "new.yml:6: log.formatter: must be one of text, json, logstash",
	} {
		diff(1, config, "", "^berth: config diff: .*"+want)
	}
	g.configure(other)
	g.command(0, "^reloaded: authorization.bindings, health.minfreespace\nafter a restart: catalog.maxentries\n$", "redis", "reload")
	diff(0, other, "^with a reload: no key changes\nafter a restart: catalog.maxentries\n$", "redis")
	diff(0, operateConfig, "^with a reload: authorization.bindings, health.minfreespace\n$", "")

	before, after := file(t, g.dir, "before.yml", "version: 0.1\nstorage: inmemory\n"), file(t, g.dir, "after.yml", "version: 0.1\nstorage: inmemory\nlog: {level: debug, formatter: json}\n")
	commandTest{args: []string{"config", "diff", after, "--against", before}, stdout: "^with a reload: log.level\nafter a restart: log.formatter\n$"}.run(t)
	commandTest{args: []string{"config", "diff", after, "--socket", "/nowhere/at-all"}, code: 1, stderr: "^berth: config diff: no server answers"}.run(t)
	commandTest{args: []string{"config", "diff"}, code: 2, stderr: "accepts 1 arg"}.run(t)
}

// TestLogLevel switches the level: a reload for another reason leaves it, one that changes it does not.
func TestLogLevel(t *testing.T) {
	g := startOperated(t)
	g.want(200, "ann", "GET", "/v2/", "")
	g.command(0, "^info\n$", "", "loglevel")
	g.command(0, "^debug, switched by a command; the configuration says info\n$", "", "loglevel", "debug")
	g.command(0, "reloaded", "", "reload")
	g.command(0, "^debug, switched", "", "loglevel")
	g.configure(operateConfig + "log: {level: warn}\n")
	g.command(0, "^reloaded: log.level\n$", "", "reload")
	g.command(0, "^warn\n$", "", "loglevel")
	g.command(2, "", `invalid argument "loud"`, "loglevel", "loud")
	client := admin.NewClient(g.socket())
	if err := client.Do(t.Context(), "PUT", "/v1/loglevel", admin.Level{Level: "loud"}, nil); err == nil || !strings.Contains(err.Error(), "is not one of error, warn, info, debug") {
		t.Errorf("a level that does not exist: %v", err)
	}
	g.stop()
	if log := g.stderr.String(); !strings.Contains(log, "from=info") || !strings.Contains(log, "instance.id=") || !strings.Contains(log, "go.version=go1") {
		t.Errorf("the log: %s", log)
	}
}

// TestReadOnly switches the mode against real pushes, and reloads and restarts in between.
func TestReadOnly(t *testing.T) {
	g := startOperated(t)
	blob := "/v2/team/app/blobs/uploads/"
	response, _ := g.do("ann", "ann-secret", "POST", blob, "")
	upload := response.Header.Get("Location")
	g.want(202, "ann", "PATCH", strings.TrimPrefix(upload, g.url), "part")
	g.want(201, "ann", "PUT", tagPath+"1", emptyIndex)

	switched := "on, switched by a command; the configuration says off"
	g.command(0, "^read-only: off\n$", "", "readonly", "status")
	g.command(0, "^read-only: "+switched, "", "readonly", "on")
	g.command(0, "^read-only: "+switched, "", "readonly", "on")
	refused := func() {
		t.Helper()
		for _, push := range [][2]string{{"POST", blob}, {"PATCH", strings.TrimPrefix(upload, g.url)}, {"PUT", tagPath + "2"}, {"DELETE", tagPath + "1"}} {
			g.want(405, "ann", push[0], push[1], emptyIndex)
		}
		g.want(200, "ann", "GET", tagPath+"1", "")
	}
	refused()
	g.command(0, "^reloaded: no key has changed\nread-only: "+switched, "", "reload")
	g.configure(operateConfig + "log: {level: debug}\n")
	g.signal("reloaded the configuration")
	refused()
	g.command(0, "read-only +"+switched, "", "status")

	// The configuration says the same, and governs from then on.
	enabled := strings.Replace(operateConfig, "delete:", "maintenance: {readonly: {enabled: true}}, delete:", 1)
	g.configure(enabled)
	g.command(0, "^reloaded: log.level, storage.maintenance.readonly.enabled\n$", "", "reload")
	refused()
	g.command(0, "^read-only: off, switched by a command; the configuration says on", "", "readonly", "off")
	g.want(201, "ann", "PUT", tagPath+"2", emptyIndex)
	g.command(0, "read-only: off, switched", "", "reload")
	g.command(0, "^read-only: on\n$", "", "readonly", "on")
	g.configure(operateConfig)
	g.command(0, "^reloaded: storage.maintenance.readonly.enabled\n$", "", "reload")
	g.want(202, "ann", "PATCH", strings.TrimPrefix(upload, g.url), "more")
	g.want(202, "ann", "DELETE", tagPath+"1", "")
	g.stop()
}

// TestSwitchedUnderLoad: whoever pushes after a switch was acknowledged is answered by it, while reloads and questions go on.
func TestSwitchedUnderLoad(t *testing.T) {
	g := startOperated(t)
	client := admin.NewClient(g.socket())
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	for i := range 4 {
		running.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				response, answer := g.do("ann", "ann-secret", "PUT", fmt.Sprintf("%s%d-%d", tagPath, i, n%8), otherIndex)
				if response.StatusCode != 201 && response.StatusCode != 405 {
					t.Errorf("a push is answered %d: %s", response.StatusCode, answer)
				}
			}
		})
	}
	for _, ask := range [][2]string{{"POST", "/v1/reload"}, {"GET", "/v1/status"}} {
		running.Go(func() {
			for ctx.Err() == nil {
				if err := client.Do(context.Background(), ask[0], ask[1], nil, nil); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range 25 {
		for _, on := range []bool{true, false} {
			var state admin.ReadOnly
			if err := client.Do(ctx, "PUT", "/v1/readonly", admin.Switch{On: on}, &state); err != nil || state.On != on {
				t.Fatalf("switched to %t: %+v, %v", on, state, err)
			}
			g.want(map[bool]int{true: 405, false: 201}[on], "ann", "PUT", tagPath+"own", emptyIndex)
		}
	}
	cancel()
	running.Wait()
	g.stop()
}

func TestDescribeHealth(t *testing.T) {
	full := []string{"the storage is full"}
	for want, found := range map[string]health.Report{
		"ready":                          {Ready: true, Writable: true},
		"not ready: the storage is full": {Reasons: full},
		"ready, but changes are refused: the storage is full": {Ready: true, Reasons: full},
	} {
		if got := describeHealth(found); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestStatus(t *testing.T) {
	dir := t.TempDir()
	if err := writeSelfSigned(dir, []string{"r.example.com"}); err != nil {
		t.Fatal(err)
	}
	g := startWith(t, func(g *guarded) string {
		return strings.NewReplacer("DIR/groups", file(t, g.dir, "groups", ""), "'127.0.0.1:0'",
			"'127.0.0.1:0', tls: {certificate: "+dir+"/tls.crt, key: "+dir+"/tls.key}, admin: {socket: DIR/own}").Replace(operateConfig)
	})
	var s admin.Status
	for client := admin.NewClient(g.dir + "/own"); !s.Health.Ready; time.Sleep(5 * time.Millisecond) { // each check ran once
		if err := client.Do(t.Context(), "GET", "/v1/status", nil, &s); err != nil {
			t.Fatal(err)
		}
	}
	g.command(0, `(?s)^version +devel\nprocess +\d+, since .*\nconfiguration +.*config.yml\nlistening +127.0.0.1:\d+ \(https\)\n`+
		`storage +filesystem .*store: ready\nhealth +ready\nauth +htpasswd\nread-only +off\nuploads +0 begun, 0 being received\nrequests +read: 0 of \d+ running, .*limit +http.maxconnections 10000\n`+
		`.*certificate +http.tls.certificate, until \d+-\d\d-\d\d \(36[45] days\): r.example.com\n$`, "", "status")
	var out bytes.Buffer
	if code := run(t.Context(), []string{"status", "--json", "--socket", g.dir + "/own"}, environment{nil, nil, &out, &out}); code != 0 {
		t.Fatalf("exits with %d: %s", code, &out)
	}
	if err := json.Unmarshal(out.Bytes(), &s); err != nil || s.PID != os.Getpid() || !s.Storage.Ready || s.Storage.Driver != "filesystem" || len(s.Certificates) != 1 || s.Uploads == nil {
		t.Errorf("%+v, %v", s, err)
	}
	// The certificate is replaced by one that does not fit its key.
	if err := writeSelfSigned(dir+"/other", []string{"x"}); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(dir+"/other/tls.crt", dir+"/tls.crt"); err != nil {
		t.Fatal(err)
	}
	g.command(1, "", "^berth: reload: http.tls.certificate: .*private key does not match", "reload")
	if err := os.RemoveAll(filepath.Join(g.dir, "store", "objects")); err != nil {
		t.Fatal(err)
	}
	g.command(0, "r.example.com", "", "status")
	if err := syscall.Kill(os.Getpid(), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := <-g.code; code != 0 {
		t.Errorf("exits with %d: %s", code, g.stderr.String())
	}
	if _, err := os.Lstat(g.dir + "/own"); err == nil {
		t.Error("the socket stays behind")
	}
}

// TestNobodyServes: commands say clearly why there is no server to ask, and what to do.
func TestNobodyServes(t *testing.T) {
	dir := t.TempDir()
	config := func(name, rest string) string {
		return file(t, dir, name, "version: 0.1\nstorage: "+rest)
	}
	folder := config("folder.yml", "{filesystem: {rootdirectory: "+dir+"/store}}\n")
	for _, test := range []commandTest{
		{args: []string{"status", "--config", folder}, code: 1,
			stderr: "(?s)^berth: status: no server answers: there is no socket .*/store/admin/socket\nberth: start the server with `berth serve`, or say which"},
		{args: []string{"readonly", "on", "--config", folder}, code: 1, stderr: "^berth: readonly: no server answers"},
		{args: []string{"reload", "--socket", "/nowhere/at-all"}, code: 1, stderr: "^berth: reload: no server answers: there is no socket /nowhere/at-all"},
		{args: []string{"status", "--config", config("memory.yml", "inmemory\n")}, code: 1, stderr: "has no socket for commands: set http.admin.socket"},
		{args: []string{"status", "--config", config("off.yml", "inmemory\nhttp: {admin: {disabled: true}}\n")}, code: 1, stderr: "turns the socket for commands off"},
		{args: []string{"gc", "history", "--config", config("own.yml", "{filesystem: {rootdirectory: "+dir+"/store}}\nhttp: {admin: {disabled: true}}\n")}, code: 1, stderr: "(?s)turns the socket.*nor can this command look itself: there is no storage at"},
		{args: []string{"gc", "history", "--config", config("memory.yml", "inmemory\n")}, code: 1, stderr: "has no socket for commands"},
		{args: []string{"status", "--config", dir + "/none"}, code: 1, stderr: "^berth: status: read the configuration: .*none"},
		{args: []string{"readonly"}, stdout: "(?s)holds until.*Examples:.*Available Commands:"},
		{args: []string{"readonly", "maybe"}, code: 2, stderr: `readonly has no command "maybe"`},
		{args: []string{"reload", "now"}, code: 2, stderr: `takes no arguments, and got "now"`},
		{args: []string{"reload", "--help"}, stdout: "(?s)SIGHUP.*Examples:.*--socket"},
		{args: []string{"status", "--help"}, stdout: "(?s)Examples:.*--json"},
		{args: []string{"readonly", "on", "--help"}, stdout: "(?s)Refuse changes.*Examples:"},
	} {
		test.run(t)
	}
}

// TestSocketPlaces: one that was configured must be had; one that was not may be missing, with a warning.
func TestSocketPlaces(t *testing.T) {
	dir := t.TempDir()
	taken := file(t, dir, "taken", "")
	commandTest{args: []string{"serve", write(t, "version: 0.1\nstorage: inmemory\nhttp: {addr: '127.0.0.1:0', admin: {socket: "+taken+"}}\n")}, code: 1,
		stderr: "config.yml:3: http.admin.socket: listen for commands on .*taken: there is something else than a socket"}.run(t)
	long := filepath.Join(dir, strings.Repeat("x", 90))
	g := startWith(t, func(g *guarded) string {
		file(t, g.dir, "groups", "")
		return strings.Replace(operateConfig, "DIR/store", long, 1)
	})
	g.want(200, "ann", "GET", "/v2/", "")
	g.stop()
	if log := g.stderr.String(); !strings.Contains(log, "commands such as `berth status` do not reach this server") || !strings.Contains(log, "set http.admin.socket") {
		t.Errorf("the log does not say that commands do not reach it: %s", log)
	}
}

// TestStoppedWhileFetchingKeys: SIGTERM while the token server does not answer is no failure.
func TestStoppedWhileFetchingKeys(t *testing.T) {
	asked, release := make(chan struct{}, 1), make(chan struct{})
	issuer := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		select {
		case asked <- struct{}{}:
		default:
		}
		<-release
	}))
	defer issuer.Close()
	defer close(release)
	config := write(t, "version: 0.1\nstorage: inmemory\nhttp: {addr: '127.0.0.1:0'}\nauth: {token: {realm: 'https://a.example', service: s, issuer: i, jwks: '"+issuer.URL+"'}}\n")
	stderr := &logged{pattern: regexp.MustCompile("(never)")}
	code := make(chan int, 1)
	go func() {
		code <- run(context.Background(), []string{"serve", config}, environment{nil, nil, &bytes.Buffer{}, stderr})
	}()
	<-asked
	if err := syscall.Kill(os.Getpid(), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if got := <-code; got != 0 || strings.Contains(stderr.String(), "auth.token") {
		t.Errorf("exits with %d: %s", got, stderr.String())
	}
}

// TestUsersRefresh: a file of users that is bad makes a reload fail, and its users stay.
func TestUsersRefresh(t *testing.T) {
	dir := t.TempDir()
	users, err := htpasswd.Open(usersOf(t, dir, "ann"), nil)
	if err != nil {
		t.Fatal(err)
	}
	file(t, dir, "users", "no users")
	for range 2 {
		if err := users.Refresh(); err == nil {
			t.Error("a bad file is no error")
		}
	}
	usersOf(t, dir, "ann", "bob")
	if err := users.Refresh(); err != nil {
		t.Error(err)
	}
}
