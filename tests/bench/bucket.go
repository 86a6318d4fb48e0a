package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"berth/tests/harness"
)

const (
	bucketSection = "bucket"
	bucketName    = "registry"
	storeLatency  = 20 * time.Millisecond
)

// bucketOperations are those over a bucket, as fast as its server is and as slow as a service elsewhere.
func bucketOperations() []operation {
	var all []operation
	for _, over := range []struct {
		name    string
		latency time.Duration
	}{{"bucket: ", 0}, {"bucket at 20 ms: ", storeLatency}} {
		for _, op := range []operation{
			{name: "manifest GET by tag", clients: 16, bar: 3, prepare: reading("GET", manifests(true))},
			{name: "manifest GET by digest", clients: 16, bar: 3, prepare: reading("GET", manifests(false))},
			{name: "blob push 4 KiB", clients: 16, bar: 3, fresh: true, long: 2, prepare: blobPush(4*kib, false)},
			{name: "image push", clients: 8, bar: 3, fresh: true, long: 2, prepare: imagePush},
			{name: "blob push 64 MiB", clients: 2, bar: 1.2, fresh: true, long: 4, prepare: blobPush(64*mib, false)},
		} {
			op.name = over.name + op.name
			op.section, op.against, op.memory = bucketSection, peer, 1
			op.except, op.place = []string{floor}, inBucket(over.latency)
			all = append(all, op)
		}
	}
	return all
}

// Both keep their own folder in the same bucket, and send the content of blobs themselves.
const (
	berthBucketConfig = `version: 0.1
storage:
  s3:
    regionendpoint: ENDPOINT
    region: us-east-1
    bucket: ` + bucketName + `
    accesskey: bench
    secretkey: secret-of-the-bench
    rootdirectory: %[2]q
  redirect:
    disable: true
  delete:
    enabled: true
http:
  addr: %[1]q
`
	peerCache = `storage:
  cache:
    blobdescriptor: inmemory
`
)

// inBucket has the store of a target in the bucket of the run.
func inBucket(latency time.Duration) place {
	return func(ctx context.Context, b *bench, t target) ([]target, error) {
		k, err := b.openBucket(ctx)
		if err != nil {
			return nil, err
		}
		endpoint := "http://" + k.addr
		t.place, t.bucket = "over a bucket", k.folder
		if latency > 0 {
			endpoint = "http://" + k.slow
			t.place = fmt.Sprintf("over a bucket at %v", latency)
		}
		t.config = strings.Replace(berthBucketConfig, "ENDPOINT", endpoint, 1)
		if t.name == peer {
			t.config = strings.Replace(t.config, "storage:\n", peerCache, 1)
		}
		return []target{t}, nil
	}
}

// A bucket is a server of S3 with one bucket, and a way to it that takes its time.
type bucket struct {
	*server
	folder string // with the content of the bucket
	slow   string // the address at which it answers late
	proxy  *http.Server
}

// openBucket starts the server of S3, once.
func (b *bench) openBucket(ctx context.Context) (_ *bucket, err error) {
	if b.bucket != nil {
		return b.bucket, nil
	}
	t := target{
		name: "versitygw", ready: "/health", environ: []string{"ROOT_ACCESS_KEY=bench", "ROOT_SECRET_KEY=secret-of-the-bench"},
		arguments: func(address, folder string) []string {
			return []string{"--quiet", "--keep-alive", "--port", address, "--health", "/health", "--iam-dir", filepath.Join(folder, "iam"),
				"posix", filepath.Join(folder, "buckets")}
		},
	}
	if t.binary, err = harness.VersityGW.Get(b.progress); err != nil {
		return nil, err
	}
	dir := filepath.Join(b.dir, t.name)
	k := &bucket{folder: filepath.Join(dir, "store", "buckets", bucketName)}
	for _, folder := range []string{k.folder, filepath.Join(dir, "store", "iam")} {
		if err := os.MkdirAll(folder, 0o755); err != nil {
			return nil, err
		}
	}
	if k.server, err = start(ctx, t, dir); err != nil {
		return nil, err
	}
	if err := k.serveSlowly(); err != nil {
		k.server.stop()
		return nil, err
	}
	b.bucket = k
	return k, nil
}

func (k *bucket) serveSlowly() error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	k.slow = l.Addr().String()
	k.proxy = &http.Server{Handler: delaying(&url.URL{Scheme: "http", Host: k.addr}, storeLatency)}
	go k.proxy.Serve(l) // until it is closed
	return nil
}

func (k *bucket) stop() {
	k.proxy.Close()
	k.server.stop()
}

// delaying answers as a store does, each request after a delay. Signatures stay good: they are over the host that the client
// has asked for, and over headers that pass unchanged.
func delaying(store *url.URL, delay time.Duration) http.Handler {
	proxy := &httputil.ReverseProxy{
		Transport: &http.Transport{MaxIdleConnsPerHost: 1024, DisableCompression: true},
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(store)
			r.Out.Host = r.In.Host
		},
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(delay)
		proxy.ServeHTTP(w, r)
	})
}
