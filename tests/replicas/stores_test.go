// Package replicas holds the registry to what it promises of a store in the network: how many calls each operation costs,
// that several processes on one store are one registry, and that nothing is lost while the network or the store fails.
package replicas

import (
	"strings"
	"testing"

	"berth/tests/harness"
)

// A store is a kind of store that several replicas share.
type store struct {
	name string
	// start runs one until the test ends. Clients reach it at what through makes of its address. It returns the options of
	// the registries on it.
	start func(t *testing.T, through func(endpoint string) string) harness.Options
	// large is what it takes to write an object of some bytes that goes up in pieces.
	large func(bytes int) cost
	// blob is the size of the largest blob that it is tried with.
	blob int64
}

// buckets are the stores in the network. Emulators that keep everything in memory are tried with twice what a registry
// may take of it.
var buckets = []store{
	{"s3", startS3, func(bytes int) cost { return cost{reads: 2, writes: 1 + pieces(bytes, 10<<20) + 1} }, 0}, // a look before and after, begin, complete
	{"azure", startAzure, func(bytes int) cost { return cost{writes: pieces(bytes, 10<<20) + 1} }, 2 * mostMemory},
	{"gcs", startGCS, func(bytes int) cost { return cost{writes: 1 + pieces(bytes, 8<<20)} }, 2 * mostMemory},
}

// pieces is how many of a size it takes.
func pieces(bytes, size int) int { return (bytes + size - 1) / size }

func startS3(t *testing.T, through func(string) string) harness.Options {
	server := *harness.StartS3(t, false)
	server.Endpoint = through(server.Endpoint)
	return harness.Options{Storage: "s3", Env: server.Env("/replicas")}
}

func startAzure(t *testing.T, through func(string) string) harness.Options {
	server := *harness.StartAzure(t, false)
	origin, _ := strings.CutSuffix(server.Endpoint, "/"+server.Account)
	server.Endpoint = through(origin) + "/" + server.Account
	return harness.Options{Storage: "azure", Env: server.Env("/replicas")}
}

func startGCS(t *testing.T, through func(string) string) harness.Options {
	server := *harness.StartGCS(t)
	server.Endpoint = through(server.Endpoint)
	return harness.Options{Storage: "gcs", Env: server.Env("/replicas")}
}

// folder is a file system that several processes share.
var folder = store{name: "folder", start: func(t *testing.T, _ func(string) string) harness.Options {
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
