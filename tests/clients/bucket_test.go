package clients

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"berth/tests/content"
	"berth/tests/harness"
)

// TestDockerAndBucket pushes and pulls with the docker engine through a registry in a bucket: by way of the registry alone, and
// with the layers from the bucket itself.
func TestDockerAndBucket(t *testing.T) {
	docker, bucket := docker(t), harness.StartS3(t, false)
	var layers atomic.Int64 // that clients got from the bucket
	target, err := url.Parse(bucket.Endpoint)
	must(t, err)
	front := httptest.NewServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		layers.Add(1)
		if r.In.Header.Get("Authorization") != "" {
			t.Error("credentials of the registry went to the bucket")
		}
		r.SetURL(target)
		r.Out.Host = r.In.Host // it is signed
	}, Transport: &http.Transport{DisableCompression: true}})
	defer front.Close()
	direct := harness.Start(t, harness.Options{Storage: "s3", Env: append(bucket.Env("/docker"), "REGISTRY_STORAGE_REDIRECT_DISABLE=true")})
	redirecting := harness.Start(t, harness.Options{Storage: "s3", Env: append(bucket.Env("/docker"), "REGISTRY_STORAGE_S3_REDIRECTENDPOINT="+front.URL)})
	image := direct.Addr + "/team/app:1"
	docker.run("build", "--tag", image, buildContext(t, 16<<20))
	id := docker.run("image", "inspect", "--format", "{{.Id}}", image)
	docker.run("push", image)

	for _, c := range []struct {
		name   string
		server *harness.Server
		least  int64 // layers from the bucket
	}{{"without redirects", direct, 0}, {"with redirects", redirecting, 1}} {
		t.Run(c.name, func(t *testing.T) {
			docker := docker.with(t)
			layers.Store(0)
			pulled := c.server.Addr + "/team/app:1"
			docker.run("rmi", "--force", id)
			docker.run("pull", pulled)
			equal(t, "the image pulled", docker.run("image", "inspect", "--format", "{{.Id}}", pulled), id)
			if got := layers.Load(); got < c.least || c.least == 0 && got > 0 {
				t.Errorf("%d layers came from the bucket", got)
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
