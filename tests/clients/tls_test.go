package clients

import (
	"path/filepath"
	"strings"
	"testing"

	"berth/tests/content"
	"berth/tests/harness"
)

var untrusted = []string{"x509", "certificate", "unknown authority"}

// selfSigned makes a private authority and a certificate of it, and returns their folder.
func selfSigned(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	berth(t).run("tls", "self-signed", "--out", dir, "localhost", "127.0.0.1", farHost)
	return dir
}

// trusting returns a folder as clients want it, with the authority that is in dir as the one to trust.
func trusting(t *testing.T, dir string) string {
	t.Helper()
	folder := t.TempDir()
	trust(t, folder, dir)
	return folder
}

// TestTLSSkopeo copies with skopeo over TLS of a private authority: a layer of 66 MiB, in both directions, with a login.
func TestTLSSkopeo(t *testing.T) {
	skopeo, dir := find(t, "skopeo"), selfSigned(t)
	s := guardedBy(t, harness.Options{TLS: dir})
	skopeo.env = append(skopeo.env, "REGISTRY_AUTH_FILE="+filepath.Join(t.TempDir(), "auth.json"))
	good, wrong := trusting(t, dir), trusting(t, selfSigned(t))
	image := content.Algorithm(content.Digest).Image("tls", content.AMD64(), []int{1000, 66 << 20, 5}, nil)
	from, at := "oci:"+layout(t, "v1", image)+":v1", "docker://"+s.Addr+"/team/app:v1"

	fails(t, skopeo, untrusted, "login", "--cert-dir", wrong, "--username", "ann", "--password", annPassword, s.Addr)
	skopeo.run("login", "--cert-dir", good, "--username", "ann", "--password", annPassword, s.Addr)
	fails(t, skopeo, untrusted, "copy", "--dest-cert-dir", wrong, from, at)
	skopeo.run("copy", "--preserve-digests", "--dest-cert-dir", good, from, at)
	back := t.TempDir()
	skopeo.run("copy", "--preserve-digests", "--src-cert-dir", good, at, "oci:"+back+":x")
	sameLayout(t, back, image)
	fails(t, skopeo, denied, "copy", "--dest-cert-dir", good, from, "docker://"+s.Addr+"/else/app:v1")
}

// TestTLSPodman pushes and pulls with podman over TLS of a private authority.
func TestTLSPodman(t *testing.T) {
	podman, dir := contained(t, "podman"), selfSigned(t)
	s := harness.Start(t, harness.Options{TLS: dir})
	good, wrong := trusting(t, dir), trusting(t, selfSigned(t))
	image := s.Addr + "/team/app:1"
	podman.run("build", "--tag", image, buildContext(t, 8<<20))
	id := podman.run("image", "inspect", "--format", "{{.Id}}", image)

	fails(t, podman, untrusted, "push", "--cert-dir", wrong, image)
	podman.run("push", "--cert-dir", good, image)
	_, below := walk(t, s.Client, "team/app", "1")
	equal(t, "the config", strings.Join(below[content.ImageConfig], " "), "sha256:"+id)
	podman.run("rmi", image)
	fails(t, podman, untrusted, "pull", "--cert-dir", wrong, image)
	podman.run("pull", "--cert-dir", good, image)
	equal(t, "the image pulled", podman.run("image", "inspect", "--format", "{{.Id}}", image), id)
}
