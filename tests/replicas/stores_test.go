// Package replicas holds the registry to what it promises of a store in the network: how many calls each operation costs,
// that several processes on one store are one registry, and that nothing is lost while the network or the store fails.
package replicas

import (
	"testing"

	"berth/tests/harness"
)

// A store is a kind of store that several replicas share.
type store struct {
	name string
	// start runs one until the test ends. Clients reach it at what through makes of its address. It returns the options of
	// the registries on it.
	start func(t *testing.T, through func(endpoint string) string) harness.Options
}

// buckets are the stores in the network.
var buckets = []store{{"s3", startS3}}

func startS3(t *testing.T, through func(string) string) harness.Options {
	server := *harness.StartS3(t, false)
	server.Endpoint = through(server.Endpoint)
	return harness.Options{Storage: "s3", Env: server.Env("/replicas")}
}

// folder is a file system that several processes share.
var folder = store{"folder", func(t *testing.T, _ func(string) string) harness.Options {
	return harness.Options{Root: t.TempDir(), Env: []string{"REGISTRY_STORAGE_FILESYSTEM_SHARED=true"}}
}}

// direct is for stores that are reached as they are.
func direct(endpoint string) string { return endpoint }

// eachBucket runs a test over each store in the network.
func eachBucket(t *testing.T, test func(*testing.T, store)) {
	for _, b := range buckets {
		t.Run(b.name, func(t *testing.T) { test(t, b) })
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
