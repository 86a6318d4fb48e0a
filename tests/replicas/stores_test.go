// Package replicas holds the registry to what it promises of a store in the network: how many calls each operation costs,
// that several processes on one store are one registry, and that nothing is lost while the network or the store fails.
package replicas

import (
	"slices"
	"testing"

	"berth/tests/harness"
)

// A store is a kind of store that several replicas share.
type store struct {
	harness.Bucket
	// large is what it takes to write an object of some bytes that goes up in pieces.
	large func(bytes int) cost
	// blob is the size of the largest blob that it is tried with, 0 for any.
	blob int64
}

// buckets are the stores in the network. Emulators that keep everything in memory are tried with blobs of a little more than a
// registry may take of it.
func buckets() []store {
	return []store{
		// looks before and after, begins and completes
		bucket("s3", func(bytes int) cost { return cost{reads: 2, writes: 1 + pieces(bytes, 10<<20) + 1} }, 0),
		// has a list at the end
		bucket("azure", func(bytes int) cost { return cost{writes: pieces(bytes, 10<<20) + 1} }, mostMemory+64<<20),
		// begins
		bucket("gcs", func(bytes int) cost { return cost{writes: 1 + pieces(bytes, 8<<20)} }, mostMemory+64<<20),
	}
}

func bucket(name string, large func(int) cost, blob int64) store {
	all := harness.Buckets()
	return store{all[slices.IndexFunc(all, func(b harness.Bucket) bool { return b.Name == name })], large, blob}
}

// pieces is how many of a size it takes.
func pieces(bytes, size int) int { return (bytes + size - 1) / size }

// stores are buckets, and a file system that several processes share.
func stores() []store {
	folder := func(t testing.TB, _ func(string) string) harness.Options {
		return harness.Options{Root: t.TempDir(), Env: []string{"REGISTRY_STORAGE_FILESYSTEM_SHARED=true"}}
	}
	return append(buckets(), store{Bucket: harness.Bucket{Name: "folder", Start: folder}})
}

// eachBucket runs a test over each store in the network.
func eachBucket(t *testing.T, test func(*testing.T, store)) {
	for _, b := range buckets() {
		t.Run(b.Name, func(t *testing.T) { test(t, b) })
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
