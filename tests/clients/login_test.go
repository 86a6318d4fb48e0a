package clients

import (
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"berth/tests/content"
	"berth/tests/harness"
)

// The users of these tests: ann may push to team/**, bob may only pull from it, pat delete from it. root may do everything.
const (
	annPassword  = "ann's secret"
	bobPassword  = "bob's secret"
	patPassword  = "pat's secret"
	rootPassword = "root's secret"
)

// berth is the product as a command.
func berth(t *testing.T) tool {
	t.Helper()
	binary, err := harness.Binary()
	must(t, err)
	return tool{T: t, path: binary}
}

// usersFile makes a file of the users. Their hashes are the cheapest that there are: these tests are not about hashes.
func usersFile(t *testing.T) string {
	t.Helper()
	users := filepath.Join(t.TempDir(), "users")
	must(t, os.WriteFile(users, []byte(`
ann:$2a$04$rAYCz9V0xJ7kcEWTYZFjUu5yOjEaoc87cLj/M5Bes0QnO1PAiNnT6
bob:$2a$04$hvHuq7bgxULmGdtoZaEzzek/wcjcMPoJ8Y5ev5PEqM7Z/.u4eLcSi
pat:$2a$04$iLG4nuEZcPhmJ/.AU3LZC.YFs/MxBXqE/zb0aDmeKkezQQNoMqp1y
root:$2a$04$p/Vfxptm3CYzoIyKC.Rml.6GHKhjAgDs1TEgJWzSEsbN874F.EhTW
`), 0o600))
	return users
}

// guarded runs a registry with users, and with more variables.
func guarded(t *testing.T, env ...string) *harness.Server {
	t.Helper()
	return guardedBy(t, harness.Options{Env: env})
}

// guardedBy is guarded with other options.
func guardedBy(t *testing.T, o harness.Options) *harness.Server {
	t.Helper()
	return guardedFor(t, usersFile(t), o)
}

// guardedFor is guardedBy with a file of users.
func guardedFor(t *testing.T, users string, o harness.Options) *harness.Server {
	t.Helper()
	o.Env = append(o.Env,
		"REGISTRY_AUTH_HTPASSWD_PATH="+users,
		"REGISTRY_AUTHORIZATION_BINDINGS=["+
			"{subjects: ['user:ann'], roles: [registry-editor], repositories: ['team/**']}, "+
			"{subjects: ['user:bob'], roles: [registry-viewer], repositories: ['team/**']}, "+
			"{subjects: ['user:pat'], roles: ['system:image-pruner'], repositories: ['team/**']}, "+
			"{subjects: ['user:root'], roles: [registry-admin], repositories: ['**']}]")
	return harness.Start(t, o)
}

// fails asks that a command fail and say one of the words.
func fails(t *testing.T, c tool, words []string, args ...string) {
	t.Helper()
	_, err := c.with(t).try(args...)
	if err == nil {
		t.Errorf("%v succeeds", args)
		return
	}
	for _, word := range words {
		if strings.Contains(strings.ToLower(err.Error()), word) {
			return
		}
	}
	t.Errorf("%v says none of %q: %v", args, words, err)
}

var (
	unknown = []string{"unauthorized", "authentication required", "no basic auth", "credential not found", "invalid username/password", "wrong"}
	denied  = []string{"denied", "forbidden"}
)

// TestPodmanOpen logs in with podman where everybody may pull.
func TestPodmanOpen(t *testing.T) {
	podman, s := contained(t, "podman"), guarded(t, "REGISTRY_AUTH_ANONYMOUS=[pull]")
	logins := filepath.Join(t.TempDir(), "auth.json")
	must(t, os.WriteFile(logins, []byte("{}"), 0o600))
	podman.env = append(podman.env, "REGISTRY_AUTH_FILE="+logins)
	image := s.Addr + "/team/app:1"
	podman.run("build", "--tag", image, buildContext(t, 1<<20))

	fails(t, podman, unknown, "push", "--tls-verify=false", image)
	fails(t, podman, unknown, "login", "--tls-verify=false", "--username", "ann", "--password", "wrong", s.Addr)
	podman.run("login", "--tls-verify=false", "--username", "ann", "--password", annPassword, s.Addr)
	podman.run("push", "--tls-verify=false", image)
	fails(t, podman, denied, "push", "--tls-verify=false", image, s.Addr+"/else/app:1")
	podman.run("logout", s.Addr)
	podman.run("pull", "--tls-verify=false", image)
	podman.run("login", "--tls-verify=false", "--username", "bob", "--password", bobPassword, s.Addr)
	podman.run("pull", "--tls-verify=false", image)
	fails(t, podman, denied, "push", "--tls-verify=false", image, s.Addr+"/team/bob:1")
}

// TestColon shows where clients that at a login tell no more than the status do say that a user name has no colon.
func TestColon(t *testing.T) {
	s, why := guarded(t), []string{"cannot have a colon"}
	given(t, s)
	image := s.Addr + "/team/app:given"
	t.Run("docker", func(t *testing.T) {
		docker := docker(t)
		login := fmt.Sprintf(`{"auths": {%q: {"auth": %q}}}`, s.Addr, base64.StdEncoding.EncodeToString([]byte("sys:ann:secret")))
		config := t.TempDir()
		must(t, os.WriteFile(filepath.Join(config, "config.json"), []byte(login), 0o600))
		docker.env = append(docker.env, "DOCKER_CONFIG="+config)
		fails(t, docker, why, "pull", image)
	})
	t.Run("podman", func(t *testing.T) {
		fails(t, contained(t, "podman"), why, "pull", "--tls-verify=false", "--creds", "sys:ann:secret", image)
	})
	t.Run("skopeo", func(t *testing.T) {
		fails(t, find(t, "skopeo"), why, "inspect", "--tls-verify=false", "--creds", "sys:ann:secret", "docker://"+image)
	})
}

// TestLoginSkopeo logs in with skopeo, copies, lists and mounts.
func TestLoginSkopeo(t *testing.T) {
	skopeo, s := find(t, "skopeo"), guarded(t, "REGISTRY_AUTH_ANONYMOUS=[pull]")
	skopeo.env = append(skopeo.env, "REGISTRY_AUTH_FILE="+filepath.Join(t.TempDir(), "auth.json"))
	image := content.Algorithm(content.Digest).Image("login", content.AMD64(), []int{1000, 5}, nil)
	from, at := "oci:"+layout(t, "v1", image)+":v1", "docker://"+s.Addr+"/team/app:v1"

	fails(t, skopeo, unknown, "copy", "--dest-tls-verify=false", from, at)
	fails(t, skopeo, unknown, "login", "--tls-verify=false", "--username", "ann", "--password", "wrong", s.Addr)
	skopeo.run("login", "--tls-verify=false", "--username", "ann", "--password", annPassword, s.Addr)
	skopeo.run("copy", "--preserve-digests", "--dest-tls-verify=false", from, at)
	skopeo.run("copy", "--src-tls-verify=false", "--dest-tls-verify=false", at, "docker://"+s.Addr+"/team/copy:v1")
	fails(t, skopeo, denied, "copy", "--dest-tls-verify=false", from, "docker://"+s.Addr+"/else/app:v1")
	fails(t, skopeo, denied, "delete", "--tls-verify=false", at)
	skopeo.run("logout", s.Addr)
	skopeo.run("inspect", "--tls-verify=false", at)
	fails(t, skopeo, unknown, "copy", "--dest-tls-verify=false", from, at)
	fails(t, skopeo, unknown, "inspect", "--tls-verify=false", "--creds", "ann:wrong", at)
}

// TestLoginCrane logs in with crane where everybody may pull.
func TestLoginCrane(t *testing.T) {
	crane, s := installed(t, "crane"), guarded(t, "REGISTRY_AUTH_ANONYMOUS=[pull]")
	crane.env = []string{"DOCKER_CONFIG=" + t.TempDir()}
	app := s.Addr + "/team/app:v1"
	image := layout(t, "v1", content.Algorithm(content.Digest).Image("crane", content.AMD64(), []int{1000}, nil))

	fails(t, crane, unknown, "push", "--insecure", image, app)
	crane.run("auth", "login", "--username", "ann", "--password", annPassword, s.Addr)
	crane.run("push", "--insecure", image, app)
	crane.run("copy", "--insecure", app, s.Addr+"/team/copy:v1")
	fails(t, crane, denied, "push", "--insecure", image, s.Addr+"/else/app:v1")
	fails(t, crane, denied, "delete", "--insecure", app)
	crane.run("auth", "logout", s.Addr)
	crane.run("digest", "--insecure", app)
	fails(t, crane, unknown, "tag", "--insecure", app, "v2")
}
