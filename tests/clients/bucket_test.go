package clients

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"berth/tests/content"
	"berth/tests/harness"
)

// TestDockerAndBucket pushes and pulls with the docker engine through a registry over each store in the network: by way of the
// registry alone, and with the layers from the store itself.
func TestDockerAndBucket(t *testing.T) {
	docker := docker(t)
	for _, b := range harness.Buckets() {
		t.Run(b.Name, func(t *testing.T) { dockerAndBucket(t, docker.with(t), b) })
	}
}

// fetches counts what clients of the registry get from a store, and fails the test if one shows it credentials.
func fetches(t *testing.T, w *harness.Wire) *atomic.Int64 {
	var layers atomic.Int64
	w.Plan(func(r *http.Request) harness.Fault {
		q := r.URL.Query()
		if !q.Has("X-Amz-Signature") && !q.Has("sig") && !q.Has("X-Goog-Signature") {
			return harness.Pass // of the registry
		}
		layers.Add(1)
		if r.Header.Get("Authorization") != "" {
			t.Error("credentials of the registry went to the store")
		}
		return harness.Pass
	})
	return &layers
}

func dockerAndBucket(t *testing.T, docker tool, b harness.Bucket) {
	var layers *atomic.Int64
	o := b.Start(t, func(origin string) string {
		wire := harness.StartWire(t, origin)
		layers = fetches(t, wire)
		return wire.URL
	})
	redirecting := harness.Start(t, o)
	o.Env = append(o.Env, "REGISTRY_STORAGE_REDIRECT_DISABLE=true")
	direct := harness.Start(t, o)
	image := direct.Addr + "/team/app:1"
	docker.run("build", "--tag", image, buildContext(t, 16<<20))
	id := docker.run("image", "inspect", "--format", "{{.Id}}", image)
	docker.run("push", image)

	for _, c := range []struct {
		name   string
		server *harness.Server
		least  int64 // layers from the store
	}{{"without redirects", direct, 0}, {"with redirects", redirecting, 1}} {
		t.Run(c.name, func(t *testing.T) {
			docker := docker.with(t)
			layers.Store(0)
			pulled := c.server.Addr + "/team/app:1"
			docker.run("rmi", "--force", id)
			docker.run("pull", pulled)
			equal(t, "the image pulled", docker.run("image", "inspect", "--format", "{{.Id}}", pulled), id)
			if got := layers.Load(); got < c.least || c.least == 0 && got > 0 {
				t.Errorf("%d layers came from the store", got)
			}
			again := c.server.Addr + "/team/" + strings.ReplaceAll(c.name, " ", "-") + ":2"
			docker.run("tag", pulled, again)
			docker.run("push", again)
			want, _ := walk(t, c.server.Client, "team/app", "1")
			got, err := c.server.Resolve("team/"+strings.ReplaceAll(c.name, " ", "-"), "2")
			must(t, err)
			equal(t, "the digest pushed", got, want)
		})
	}
	t.Run("an image for another architecture", func(t *testing.T) {
		docker := docker.with(t)
		set := content.Algorithm(content.Digest).Index("bucket", nil)
		push(t, redirecting, "multi/arch", set, "latest")
		docker.run("pull", "--platform", "linux/arm64", redirecting.Addr+"/multi/arch:latest")
	})
}
