package clients

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"berth/tests/content"
)

// docker starts an engine of the test's own, without a network and with more variables, and returns a client of it.
func docker(t *testing.T, env ...string) tool {
	t.Helper()
	client, engine := find(t, "docker"), find(t, "dockerd")
	needRoot(t)
	dir := shortDir(t)
	t.Cleanup(func() { freeNamespace(t, filepath.Join(dir, "exec", "netns", "default")) })
	socket := "unix://" + filepath.Join(dir, "docker.sock")
	client.flags = []string{"--host", socket}
	client.env = []string{"DOCKER_BUILDKIT=0", "DOCKER_CONFIG=" + dir}
	cmd := exec.Command(engine.path, "--host", socket, "--data-root", filepath.Join(dir, "data"), "--exec-root", filepath.Join(dir, "exec"),
		"--pidfile", filepath.Join(dir, "docker.pid"), "--log-level", "warn", "--storage-driver", "vfs", "--bridge", "none", "--iptables=false", "--ip6tables=false")
	cmd.Env = append(os.Environ(), env...)
	daemon(t, dir, cmd, client)
	return client
}

// freeNamespace unmounts what dockerd leaves.
func freeNamespace(t *testing.T, namespace string) {
	if _, err := os.Stat(namespace); err != nil {
		return // there was none
	}
	if out, err := exec.Command("umount", namespace).CombinedOutput(); err != nil {
		t.Errorf("umount what dockerd leaves: %v: %s", err, out)
	}
}

// TestDocker pushes and pulls with the docker engine.
func TestDocker(t *testing.T) {
	docker, s := docker(t), serve(t)
	image := s.Addr + "/team/app:1"
	docker.run("build", "--tag", image, buildContext(t, 16<<20))
	id := docker.run("image", "inspect", "--format", "{{.Id}}", image)

	t.Run("push and pull", func(t *testing.T) {
		docker := docker.with(t)
		docker.run("push", image)
		digest, below := walk(t, s.Client, "team/app", "1")
		if layers := below["application/vnd.docker.image.rootfs.diff.tar.gzip"]; len(layers) != 2 {
			t.Errorf("the layers pushed are %q", layers)
		}
		equal(t, "the config", fmt.Sprint(below["application/vnd.docker.container.image.v1+json"]), fmt.Sprint([]string{id}))
		docker.run("rmi", image)
		docker.run("pull", image)
		equal(t, "the image pulled", docker.run("image", "inspect", "--format", "{{.Id}}", image), id)
		docker.run("rmi", image)
		docker.run("pull", s.Addr+"/team/app@"+digest)
		equal(t, "the image pulled by digest", docker.run("image", "inspect", "--format", "{{.Id}}", s.Addr+"/team/app@"+digest), id)
		docker.run("tag", s.Addr+"/team/app@"+digest, image)
	})
	t.Run("copy to another repository", func(t *testing.T) {
		docker := docker.with(t)
		other := s.Addr + "/other/copy:2"
		docker.run("tag", image, other)
		docker.run("push", other)
		want, _ := walk(t, s.Client, "team/app", "1")
		got, _ := walk(t, s.Client, "other/copy", "2")
		equal(t, "the digest of the copy", got, want)
		deleted(t, s, "other/copy", got)
		docker.run("rmi", other)
		if _, err := docker.try("pull", other); err == nil {
			t.Error("docker pulls what was deleted")
		}
	})
	t.Run("multi-architecture index", func(t *testing.T) {
		docker := docker.with(t)
		set := content.Algorithm(content.Digest).Index("docker", nil)
		push(t, s, "multi/arch", set, "latest")
		docker.run("pull", s.Addr+"/multi/arch:latest")
		config := set.Blobs[2].Digest // of the first image, which is for amd64
		docker.run("pull", "--platform", "linux/amd64", s.Addr+"/multi/arch:latest")
		equal(t, "the image for amd64", docker.run("image", "inspect", "--format", "{{.Id}}", s.Addr+"/multi/arch:latest"), config)
	})
	t.Run("index made by the client", func(t *testing.T) {
		docker := docker.with(t)
		list := s.Addr + "/team/app:list"
		docker.env = append(docker.env, "DOCKER_CLI_EXPERIMENTAL=enabled")
		docker.run("push", image)
		docker.run("manifest", "create", "--insecure", list, image)
		docker.run("manifest", "push", "--insecure", list)
		want, _ := walk(t, s.Client, "team/app", "1")
		_, below := walk(t, s.Client, "team/app", "list")
		equal(t, "the list", fmt.Sprint(below["application/vnd.docker.distribution.manifest.v2+json"]), fmt.Sprint([]string{want}))
	})
}
