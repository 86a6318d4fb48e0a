package clients

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"berth/tests/content"
)

// ctr starts a containerd of the test's own, and returns its client.
func ctr(t *testing.T) tool {
	t.Helper()
	client, server := find(t, "ctr"), find(t, "containerd")
	needRoot(t)
	dir := shortDir(t)
	socket, config := filepath.Join(dir, "containerd.sock"), filepath.Join(dir, "config.toml")
	must(t, os.WriteFile(config, fmt.Appendf(nil, `version = 2
root = %q
state = %q
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt"]
[grpc]
  address = %q
`, filepath.Join(dir, "root"), filepath.Join(dir, "state"), socket), 0o600))
	client.flags = []string{"--address", socket}
	client.env = []string{"CONTAINERD_SNAPSHOTTER=native"}
	daemon(t, dir, exec.Command(server.path, "--config", config, "--log-level", "warn"), client)
	return client
}

// TestCtr pulls, pushes and copies with containerd.
func TestCtr(t *testing.T) {
	ctr, s := ctr(t), serve(t)
	index := content.Algorithm(content.Digest).Index("ctr", nil)
	image := content.Algorithm(content.Digest).Image("ctr", content.AMD64(), []int{1000, 5 << 20}, nil)
	push(t, s, "multi/arch", index, "v1")
	push(t, s, "team/app", image, "v1")
	pulled := func(t *testing.T, set content.Set) {
		t.Helper()
		have := ctr.with(t).run("content", "ls", "--quiet")
		for _, m := range set.Manifests {
			if !strings.Contains(have, m.Digest) {
				t.Errorf("%s was not pulled", m.Digest)
			}
		}
		for _, b := range set.Blobs {
			if !strings.Contains(have, b.Digest) {
				t.Errorf("%s was not pulled", b.Digest)
			}
		}
	}

	t.Run("pull", func(t *testing.T) {
		ctr := ctr.with(t)
		ctr.run("images", "pull", "--plain-http", s.Addr+"/team/app:v1")
		pulled(t, image)
		ctr.run("images", "pull", "--plain-http", "--all-platforms", s.Addr+"/multi/arch:v1")
		pulled(t, index)
		ctr.run("images", "pull", "--plain-http", s.Addr+"/team/app@"+image.Top().Digest)
		ctr.run("images", "check", "--quiet")
	})
	t.Run("push to other repositories", func(t *testing.T) {
		ctr := ctr.with(t)
		ctr.run("images", "push", "--plain-http", s.Addr+"/other/copy:v2", s.Addr+"/team/app:v1")
		must(t, s.Verify("other/copy", image))
		ctr.run("images", "push", "--plain-http", s.Addr+"/other/arch:v2", s.Addr+"/multi/arch:v1")
		must(t, s.Verify("other/arch", index))
		got, _ := walk(t, s.Client, "other/arch", "v2")
		equal(t, "the digest of the copy", got, index.Top().Digest)
	})
	t.Run("gone", func(t *testing.T) {
		deleted(t, s, "other/copy", image.Top().Digest)
		fails(t, ctr, []string{"not found"}, "images", "pull", "--plain-http", s.Addr+"/other/copy:v2")
	})
}
