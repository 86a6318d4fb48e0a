package open

import (
	"strings"
	"testing"

	"berth/storage"
	"berth/storage/memory"
	"berth/storage/storagetest"
)

func TestHasDistribution(t *testing.T) {
	d := storagetest.NewFlaky(memory.New())
	put := func(key string) {
		t.Helper()
		if _, err := d.Put(t.Context(), key, strings.NewReader("x"), 1, storage.Absent()); err != nil {
			t.Fatal(err)
		}
	}
	put("repositories/docker/registry/v2/_blobs/x")
	put("docker/registry/v3/x")
	if HasDistribution(t.Context(), d) {
		t.Error("it finds what is not there")
	}
	put("docker/registry/v2/blobs/sha256/aa/aa/data")
	if !HasDistribution(t.Context(), d) {
		t.Error("it does not find what is there")
	}
	d.FailNth(1, storagetest.FailBefore)
	if HasDistribution(t.Context(), d) {
		t.Error("it finds something in what cannot be listed")
	}
}
