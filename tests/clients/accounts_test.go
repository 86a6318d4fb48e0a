package clients

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// ask runs a client for what it says when it fails.
func (c tool) ask(args ...string) error {
	_, err := c.try(args...)
	return err
}

// asking returns ask with flags behind its arguments.
func (c tool) asking(flags []string) func(args ...string) error {
	return func(args ...string) error { return c.ask(slices.Concat(args, flags)...) }
}

// perHost makes an entry for a host as docker and the tools of podman want it, whose authority is that of the way.
func perHost(t *testing.T, w way, folder, host string) {
	t.Helper()
	must(t, os.MkdirAll(folder, 0o755))
	link := filepath.Join(folder, host)
	_ = os.Remove(link) // one that a killed test left, for the same port
	must(t, os.Symlink(w.authority, link))
	t.Cleanup(func() {
		if err := os.Remove(link); err != nil {
			t.Error(err)
		}
		_ = os.Remove(folder) // unless others are in it
	})
}

func dockerAccount(t *testing.T, w way) account {
	var env []string
	host := w.Addr
	if w.authority != "" {
		needRoot(t)
		var variable string
		variable, host = far(t, w.Addr)
		env = []string{variable}
		perHost(t, w, "/etc/docker/certs.d", host)
	}
	docker := docker(t, env...)
	docker.run("build", "--tag", "local", buildContext(t, 1<<20))
	return account{
		terse: true,
		login: func(user, password string) error {
			return docker.ask("login", "--username", user, "--password", password, host)
		},
		logout: func() error { return docker.ask("logout", host) },
		push: func(repo string) error {
			docker.run("tag", "local", host+"/"+repo+":pushed")
			return docker.ask("push", host+"/"+repo+":pushed")
		},
		pull: func(repo string) error { return docker.ask("pull", host+"/"+repo+":pushed") },
	}
}

// containersTool is podman or skopeo with a home of its own, in which are its logins and the authorities it trusts.
func containersTool(t *testing.T, c tool, w way) (tool, []string) {
	t.Helper()
	home := t.TempDir()
	logins := filepath.Join(home, "auth.json")
	must(t, os.WriteFile(logins, []byte("{}"), 0o600))
	if w.authority != "" {
		perHost(t, w, filepath.Join(home, ".config", "containers", "certs.d"), w.Addr)
	}
	c.env = append(c.env, "HOME="+home, "REGISTRY_AUTH_FILE="+logins)
	return c, w.either([]string{"--tls-verify=false"}, nil)
}

func podmanAccount(t *testing.T, w way) account {
	podman, a := builderAccount(t, w, "podman", "pull")
	a.catalog = func() (string, error) {
		flags := w.either([]string{"--tls-verify=false"}, nil)
		return podman.try(slices.Concat([]string{"search", "--format", "{{.Name}}", w.Addr + "/"}, flags)...)
	}
	return a
}

func buildahAccount(t *testing.T, w way) account {
	_, a := builderAccount(t, w, "buildah", "pull", "--policy", "always")
	return a
}

// builderAccount is podman or buildah, which have these commands in common but for how they pull.
func builderAccount(t *testing.T, w way, name string, pull ...string) (tool, account) {
	t.Helper()
	c, flags := containersTool(t, contained(t, name), w)
	c.run("build", "--tag", "local", buildContext(t, 1<<20))
	do := func(command []string, args ...string) error { return c.ask(slices.Concat(command, flags, args)...) }
	at := func(repo string) string { return "docker://" + w.Addr + "/" + repo + ":pushed" }
	return c, account{
		terse: true,
		login: func(user, password string) error {
			return do([]string{"login", "--username", user, "--password", password}, w.Addr)
		},
		logout: func() error { return c.ask("logout", w.Addr) },
		push:   func(repo string) error { return do([]string{"push"}, "localhost/local", at(repo)) },
		pull:   func(repo string) error { return do(pull, at(repo)) },
	}
}

func skopeoAccount(t *testing.T, w way) account {
	skopeo, flags := containersTool(t, find(t, "skopeo"), w)
	image := "oci:" + layout(t, "x", givenImage()) + ":x"
	at := func(repo string) string { return "docker://" + w.Addr + "/" + repo + ":pushed" }
	to, from := w.either([]string{"--dest-tls-verify=false"}, nil), w.either([]string{"--src-tls-verify=false"}, nil)
	return account{
		terse: true,
		login: func(user, password string) error {
			return skopeo.asking(flags)("login", "--username", user, "--password", password, w.Addr)
		},
		logout: func() error { return skopeo.ask("logout", w.Addr) },
		push:   func(repo string) error { return skopeo.asking(to)("copy", image, at(repo)) },
		pull:   func(repo string) error { return skopeo.asking(from)("copy", at(repo), "dir:"+t.TempDir()) },
		remove: func(repo string) error { return skopeo.asking(flags)("delete", at(repo)) },
		copy: func(source, target string) error {
			return skopeo.asking(slices.Concat(from, to))("copy", "docker://"+w.Addr+"/"+source+":given", at(target))
		},
	}
}

// ctrAccount is containerd, whose client is told user and password at every command.
func ctrAccount(t *testing.T, w way) account {
	ctr := ctr(t)
	flags := w.either([]string{"--plain-http"}, []string{"--hosts-dir", hostsDir(t, w)})
	ctr.run("images", "import", "--base-name", "local", archive(t))
	var user []string
	do := func(command string, args ...string) error {
		return ctr.ask(slices.Concat([]string{"images", command}, flags, user, args)...)
	}
	pull := func(repo, tag string) error { return do("pull", w.Addr+"/"+repo+":"+tag) }
	return account{
		terse: true, lazy: true,
		login: func(name, password string) error {
			user = []string{"--user", name + ":" + password}
			return pull("team/given", "given")
		},
		logout: func() error { user = nil; return nil },
		push:   func(repo string) error { return do("push", w.Addr+"/"+repo+":pushed", "local:x") },
		pull:   func(repo string) error { return pull(repo, "pushed") },
	}
}

// hostsDir makes the folder by which containerd is told of an authority. Without it containerd takes an address of loopback to
// speak no TLS.
func hostsDir(t *testing.T, w way) string {
	t.Helper()
	dir, server := t.TempDir(), "https://"+w.Addr
	must(t, os.Mkdir(filepath.Join(dir, w.Addr), 0o755))
	text := fmt.Sprintf("server = %[1]q\n[host.%[1]q]\nca = %[2]q\n", server, w.ca())
	must(t, os.WriteFile(filepath.Join(dir, w.Addr, "hosts.toml"), []byte(text), 0o644))
	return dir
}

// archive writes the given image as containerd imports it.
func archive(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "image.tar")
	(tool{T: t, path: "tar"}).run("-C", layout(t, "x", givenImage()), "-cf", file, ".")
	return file
}

// isolated is a client of ours with a home of its own for its logins.
func isolated(t *testing.T, name string) tool {
	t.Helper()
	c, home := installed(t, name), t.TempDir()
	c.env = []string{"HOME=" + home, "DOCKER_CONFIG=" + home}
	return c
}

// trusts gives a client written in Go the authority of the way in place of those of the system.
func trusts(c tool, w way) tool {
	if w.authority != "" {
		c.env = append(c.env, "SSL_CERT_FILE="+w.ca())
	}
	return c
}

func craneAccount(t *testing.T, w way) account {
	crane := trusts(isolated(t, "crane"), w)
	image, flags := layout(t, "x", givenImage()), w.either([]string{"--insecure"}, nil)
	do := crane.asking(flags)
	at := func(repo string) string { return w.Addr + "/" + repo + ":pushed" }
	return account{
		login: func(user, password string) error {
			crane.run("auth", "login", "--username", user, "--password", password, w.Addr)
			return do("digest", w.Addr+"/team/given:given")
		},
		logout: func() error { return crane.ask("auth", "logout", w.Addr) },
		push:   func(repo string) error { return do("push", image, at(repo)) },
		pull:   func(repo string) error { return do("pull", at(repo), filepath.Join(t.TempDir(), "x.tar")) },
		remove: func(repo string) error {
			digest, err := crane.try(slices.Concat([]string{"digest", at(repo)}, flags)...)
			if err != nil {
				return err
			}
			return do("delete", w.Addr+"/"+repo+"@"+strings.TrimSpace(digest))
		},
		copy:    func(from, to string) error { return do("copy", w.Addr+"/"+from+":given", at(to)) },
		catalog: func() (string, error) { return crane.try(slices.Concat([]string{"catalog", w.Addr}, flags)...) },
	}
}

func regctlAccount(t *testing.T, w way) account {
	regctl := trusts(isolated(t, "regctl"), w)
	if w.authority == "" {
		regctl.run("registry", "set", "--skip-check", "--tls", "disabled", w.Addr)
	}
	image := "ocidir://" + layout(t, "x", givenImage()) + ":x"
	at := func(repo string) string { return w.Addr + "/" + repo + ":pushed" }
	return account{
		terse: true,
		login: func(user, password string) error {
			return regctl.ask("registry", "login", "--user", user, "--pass", password, w.Addr)
		},
		logout:  func() error { return regctl.ask("registry", "logout", w.Addr) },
		push:    func(repo string) error { return regctl.ask("image", "copy", image, at(repo)) },
		pull:    func(repo string) error { return regctl.ask("image", "copy", at(repo), "ocidir://"+t.TempDir()+":x") },
		remove:  func(repo string) error { return regctl.ask("tag", "rm", at(repo)) },
		catalog: func() (string, error) { return regctl.try("repo", "ls", w.Addr) },
	}
}

func orasAccount(t *testing.T, w way) account {
	oras := isolated(t, "oras")
	flags := w.either([]string{"--plain-http"}, []string{"--ca-file", w.ca()})
	oras.dir = t.TempDir()
	must(t, os.WriteFile(filepath.Join(oras.dir, "file"), []byte("of a test"), 0o644))
	do := oras.asking(flags)
	at := func(repo string) string { return w.Addr + "/" + repo + ":pushed" }
	return account{
		login: func(user, password string) error {
			return do("login", "--username", user, "--password", password, w.Addr)
		},
		logout: func() error { return oras.ask("logout", w.Addr) },
		push:   func(repo string) error { return do("push", at(repo), "file") },
		pull:   func(repo string) error { return do("pull", "--output", t.TempDir(), at(repo)) },
		remove: func(repo string) error { return do("manifest", "delete", "--force", at(repo)) },
		copy: func(from, to string) error {
			both := w.either([]string{"--from-plain-http", "--to-plain-http"}, []string{"--from-ca-file", w.ca(), "--to-ca-file", w.ca()})
			return oras.asking(both)("copy", w.Addr+"/"+from+":given", at(to))
		},
		catalog: func() (string, error) { return oras.try(slices.Concat([]string{"repo", "ls", w.Addr}, flags)...) },
	}
}

// helmAccount is Helm, which has no command that deletes.
func helmAccount(t *testing.T, w way) account {
	helm := helm(t)
	flags := w.either([]string{"--plain-http"}, []string{"--ca-file", w.ca()})
	charts := map[string]string{}
	for _, name := range []string{"app", "bob"} {
		charts[name] = chart(t, helm, name, "1.0.0", "")
	}
	do := helm.asking(flags)
	return account{
		login: func(user, password string) error {
			return do("registry", "login", "--username", user, "--password", password, w.Addr)
		},
		logout: func() error { return helm.ask("registry", "logout", w.Addr) },
		push: func(repo string) error {
			return do("push", charts[path.Base(repo)], "oci://"+w.Addr+"/"+path.Dir(repo))
		},
		pull: func(repo string) error {
			return do("pull", "--version", "1.0.0", "--destination", t.TempDir(), "oci://"+w.Addr+"/"+repo)
		},
	}
}

// cosignAccount is cosign: to push is to sign, to pull is to verify, and to delete is to remove the signatures.
func cosignAccount(t *testing.T, w way) account {
	cosign := trusts(cosign(t), w)
	flags := w.either([]string{"--allow-http-registry"}, nil)
	do := func(args []string, more ...string) error { return cosign.ask(slices.Concat(args, flags, more)...) }
	at := func(repo string) string { return w.Addr + "/" + repo + "@" + givenImage().Top().Digest }
	return account{
		login: func(user, password string) error {
			cosign.run("login", "--username", user, "--password", password, w.Addr)
			return do([]string{"tree"}, at("team/given"))
		},
		logout: func() error { return os.Remove(filepath.Join(cosign.dir, "config.json")) },
		push:   func(repo string) error { return do(cosignSign("sign"), at(repo)) },
		pull:   func(repo string) error { return do(cosignVerify("verify"), at(repo)) },
		remove: func(repo string) error {
			if err := do([]string{"clean", "--force", "--type", "all"}, at(repo)); err != nil {
				return err
			}
			if do(cosignVerify("verify"), at(repo)) == nil {
				return errors.New("denied, as cosign tells on its standard error alone: the signatures are still there")
			}
			return nil
		},
	}
}

// notationAccount is notation, which keeps a password only with the help of another program. It deletes nothing.
func notationAccount(t *testing.T, w way) account {
	notation := trusts(notation(t), w)
	flags := w.either([]string{"--insecure-registry"}, nil)
	do := notation.asking(flags)
	at := func(repo string) string { return w.Addr + "/" + repo + "@" + givenImage().Top().Digest }
	return account{
		login: func(user, password string) error {
			return do("login", "--username", user, "--password", password, w.Addr)
		},
		logout: func() error { return notation.ask("logout", w.Addr) },
		push:   func(repo string) error { return do("sign", "--force-referrers-tag=false", at(repo)) },
		pull:   func(repo string) error { return do("verify", at(repo)) },
	}
}
