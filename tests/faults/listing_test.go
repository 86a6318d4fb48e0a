package faults

import (
	"path/filepath"
	"testing"

	"berth/storage"
	"berth/storage/filesystem"
	"berth/storage/storagetest"
)

// TestBtrfs holds the driver against its specification on a file system that shows a file which is replaced while its folder is
// read neither as it was nor as it is (since Linux 6.5): listings must have it all the same.
func TestBtrfs(t *testing.T) {
	disk := newDisk(t, "btrfs", 1<<30, "defaults")
	open := func(t *testing.T) storage.Driver {
		d, err := filesystem.Open(t.Context(), filesystem.Options{Root: filepath.Join(disk.dir, filepath.Base(t.Name()))})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = d.Close() })
		return d
	}
	storagetest.Test(t, open)
	storagetest.TestReplacing(t, open(t))
}
