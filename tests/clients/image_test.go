package clients

import (
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"berth/tests/harness"
)

const containerStart = 30 * time.Second

// TestImage builds the container image of the registry with docker and podman, runs it, and lets it push to and pull
// from itself.
func TestImage(t *testing.T) {
	out, err := exec.Command("make", "-C", harness.Root(), "rootfs").CombinedOutput()
	if err != nil {
		t.Fatalf("make rootfs: %v\n%s", err, out)
	}
	t.Run("docker", func(t *testing.T) { selfHosted(t, docker(t), nil, nil) })
	t.Run("podman", func(t *testing.T) {
		podman := contained(t, "podman")
		// The limits are those of any process: raising them to podman's own may not be allowed where tests run. runc, since
		// crun refuses to run beside cgroups of the first version.
		podman.flags = append(podman.flags, "--runtime", find(t, "runc").path)
		selfHosted(t, podman, []string{"--ulimit", "nofile=4096:4096", "--ulimit", "nproc=4096:4096"}, []string{"--tls-verify=false"})
	})
}

// selfHosted builds and runs the image, and pushes it to the registry that it is. The flags are more ones for run, and for
// push and pull.
func selfHosted(t *testing.T, engine tool, runFlags, transferFlags []string) {
	addr := loopback(t)
	image := addr + "/self/berth:1"
	engine.run("build", "--tag", image, "--file", filepath.Join(harness.Root(), "docs", "packaging", "Dockerfile"), filepath.Join(harness.Root(), "bin", "rootfs"))
	id := engine.run("image", "inspect", "--format", "{{.Id}}", image)
	args := append([]string{"run", "--detach", "--network", "host", "--env", "REGISTRY_HTTP_ADDR=" + addr, "--env", "REGISTRY_AUTH=none"}, runFlags...)
	container := engine.run(append(args, image)...)
	defer func() {
		if t.Failed() {
			t.Log(engine.try("logs", container))
		}
		engine.run("rm", "--force", "--volumes", container)
	}()
	await(t, "http://"+addr+"/readyz")

	transfer := func(command, name string) {
		t.Helper()
		engine.run(append(append([]string{command}, transferFlags...), name)...)
	}
	transfer("push", image)
	copied := addr + "/self/copy:2"
	engine.run("tag", image, copied)
	transfer("push", copied)
	engine.run("rmi", copied)
	transfer("pull", copied)
	equal(t, "the image pulled", engine.run("image", "inspect", "--format", "{{.Id}}", copied), id)
	walk(t, harness.NewClient("http://"+addr), "self/copy", "2")
	engine.run("stop", "--time", "10", container)
	equal(t, "the exit code of the registry", engine.run("inspect", "--format", "{{.State.ExitCode}}", container), "0")
}

func loopback(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	return l.Addr().String()
}

// await waits until a URL answers 200.
func await(t *testing.T, url string) {
	t.Helper()
	for end := time.Now().Add(containerStart); ; time.Sleep(100 * time.Millisecond) {
		r, err := http.Get(url)
		if err == nil {
			r.Body.Close()
			if r.StatusCode == http.StatusOK {
				return
			}
		}
		if time.Now().After(end) {
			t.Fatalf("%s is not ready: %v", url, err)
		}
	}
}
