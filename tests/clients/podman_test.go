package clients

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"berth/tests/content"
)

// contained returns podman or buildah with a storage of its own.
func contained(t *testing.T, name string) tool {
	t.Helper()
	c := find(t, name)
	needRoot(t)
	dir := shortDir(t) // podman wants a runroot of 50 characters at most
	c.flags = []string{"--root", filepath.Join(dir, "root"), "--runroot", filepath.Join(dir, "run"), "--storage-driver", "vfs"}
	c.env = []string{"TMPDIR=" + dir, "BUILDAH_ISOLATION=chroot"}
	if name == "podman" {
		c.flags = append(c.flags, "--cgroup-manager", "cgroupfs", "--events-backend", "file", "--tmpdir", filepath.Join(dir, "tmp"))
	}
	return c
}

// TestPodman builds, pushes and pulls with podman.
func TestPodman(t *testing.T) {
	podman, s := contained(t, "podman"), serve(t)
	image := s.Addr + "/team/app:1"
	podman.run("build", "--tag", image, buildContext(t, 8<<20))
	id := podman.run("image", "inspect", "--format", "{{.Id}}", image)

	t.Run("push and pull", func(t *testing.T) {
		podman := podman.with(t)
		file := filepath.Join(t.TempDir(), "digest")
		podman.run("push", "--tls-verify=false", "--digestfile", file, image)
		told, err := os.ReadFile(file)
		must(t, err)
		digest, below := walk(t, s.Client, "team/app", "1")
		equal(t, "the digest podman tells", string(told), digest)
		if configs := below[content.ImageConfig]; !slices.Equal(configs, []string{"sha256:" + id}) {
			t.Errorf("the config is %q, the image %s", configs, id)
		}
		podman.run("rmi", image)
		podman.run("pull", "--tls-verify=false", image)
		equal(t, "the image pulled", podman.run("image", "inspect", "--format", "{{.Id}}", image), id)
	})
	t.Run("list", func(t *testing.T) {
		podman := podman.with(t)
		tags := strings.Fields(podman.run("search", "--tls-verify=false", "--list-tags", s.Addr+"/team/app"))
		equal(t, "the list of tags", strings.Join(tags[2:], " "), s.Addr+"/team/app 1")
		equal(t, "the search", podman.run("search", "--tls-verify=false", "--format", "{{.Name}}", s.Addr+"/team"), s.Addr+"/team/app")
	})
	t.Run("docker format", func(t *testing.T) {
		podman := podman.with(t)
		podman.run("push", "--tls-verify=false", "--format", "v2s2", image, s.Addr+"/team/docker:1")
		_, below := walk(t, s.Client, "team/docker", "1")
		if len(below["application/vnd.docker.container.image.v1+json"]) != 1 {
			t.Errorf("what was pushed is %v", below)
		}
	})
}

// TestBuildah makes an image and a multi-architecture index from nothing with buildah.
func TestBuildah(t *testing.T) {
	buildah, s := contained(t, "buildah"), serve(t)
	dir := buildContext(t, 4<<20)
	ids := map[string]string{}
	for _, arch := range []string{"amd64", "arm64"} {
		ids[arch] = buildah.run("bud", "--quiet", "--arch", arch, "--label", "arch="+arch, "--tag", s.Addr+"/single/"+arch+":1", dir)
	}
	t.Run("push and pull", func(t *testing.T) {
		buildah := buildah.with(t)
		for arch, id := range ids {
			image := s.Addr + "/single/" + arch + ":1"
			buildah.run("push", "--tls-verify=false", image)
			_, below := walk(t, s.Client, "single/"+arch, "1")
			equal(t, "the config", strings.Join(below[content.ImageConfig], " "), "sha256:"+id)
			buildah.run("rmi", image)
			equal(t, "the image pulled", buildah.run("pull", "--quiet", "--arch", arch, "--tls-verify=false", image), id)
		}
	})
	t.Run("multi-architecture index", func(t *testing.T) {
		buildah := buildah.with(t)
		list := s.Addr + "/multi/arch:1"
		buildah.run("manifest", "create", list)
		for arch := range ids {
			buildah.run("manifest", "add", "--tls-verify=false", "--arch", arch, list, "docker://"+s.Addr+"/single/"+arch+":1")
		}
		buildah.run("manifest", "push", "--all", "--tls-verify=false", list, "docker://"+list)
		_, below := walk(t, s.Client, "multi/arch", "1")
		if n := len(below[content.ImageManifest]); n != len(ids) {
			t.Errorf("the index has %d images", n)
		}
		for arch, id := range ids {
			if !slices.Contains(below[content.ImageConfig], "sha256:"+id) {
				t.Errorf("the image for %s, %s, is not in %v", arch, id, below)
			}
		}
	})
}
