package faults

import (
	"context"
	"errors"
	iofs "io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"berth/storage"
	"berth/storage/filesystem"
)

// TestAbsentNames shares a folder with a machine that believes for an hour that a name it did not find is not there, unless it
// opens the folder: as a client of NFS does for a minute. What another replica made must be there.
func TestAbsentNames(t *testing.T) {
	here := t.TempDir()
	there := mountForgetful(t, here)
	one, other := share(t, here), share(t, there)
	for _, key := range []string{"a", "b/c/d", "b/c/e", "b/f/g/h"} {
		if _, err := other.Stat(t.Context(), key); !errors.Is(err, iofs.ErrNotExist) {
			t.Fatalf("Stat of %s = %v", key, err)
		}
		info, err := one.Put(t.Context(), key, strings.NewReader("1"), 1, storage.Absent())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(filepath.Join(there, "objects", key)); !errors.Is(err, iofs.ErrNotExist) {
			t.Fatalf("the machine remembers nothing: %v", err)
		}
		if got, err := other.Stat(t.Context(), key); err != nil || got.Rev != info.Rev {
			t.Errorf("Stat of %s, which another one has put = %+v, %v", key, got, err)
		}
	}
	for _, key := range []string{"i", "j/k"} {
		_, _ = other.Stat(t.Context(), key)
		info, err := one.Put(t.Context(), key, strings.NewReader("1"), 1, storage.Absent())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := other.Put(t.Context(), key, strings.NewReader("2"), 1, storage.Match(info.Rev)); err != nil {
			t.Errorf("Put under Match of %s, which another one has put = %v", key, err)
		}
	}
	if got := keys(t, other, "l/m/"); len(got) != 0 {
		t.Fatalf("there is %q", got)
	}
	if _, err := one.Put(t.Context(), "l/m/n", strings.NewReader("1"), 1, storage.Absent()); err != nil {
		t.Fatal(err)
	}
	if got := keys(t, other, "l/m/"); len(got) != 1 {
		t.Errorf("a folder that another one has made has %q", got)
	}
}

func keys(t *testing.T, d storage.Driver, prefix string) (keys []string) {
	for info, err := range d.List(t.Context(), prefix, "") {
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, info.Key)
	}
	return keys
}

// share opens a driver that shares a root.
func share(t *testing.T, root string) storage.Driver {
	t.Helper()
	d, err := filesystem.Open(t.Context(), filesystem.Options{Root: root, Shared: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// mountForgetful mounts a folder until the test ends, so that names that were not found stay so until their folder is opened.
func mountForgetful(t *testing.T, below string) string {
	t.Helper()
	var st syscall.Stat_t
	if err := syscall.Stat(below, &st); err != nil {
		t.Fatal(err)
	}
	data := &fs.LoopbackRoot{Path: below, Dev: st.Dev}
	data.NewNode = func(data *fs.LoopbackRoot, _ *fs.Inode, _ string, _ *syscall.Stat_t) fs.InodeEmbedder {
		return &forgetful{LoopbackNode: fs.LoopbackNode{RootData: data}}
	}
	root := &forgetful{LoopbackNode: fs.LoopbackNode{RootData: data}}
	data.RootNode = root
	hour := time.Hour
	return mount(t, root, &fs.Options{
		NegativeTimeout: &hour, MountOptions: fuse.MountOptions{DirectMountStrict: true, FsName: "forgetful", Name: "forgetful", EnableLocks: true},
	})
}

// A forgetful node knows the names in it that were not found.
type forgetful struct {
	fs.LoopbackNode
	mu     sync.Mutex
	absent []string
}

func (n *forgetful) Lookup(ctx context.Context, name string, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	inode, errno := n.LoopbackNode.Lookup(ctx, name, out)
	if errno == syscall.ENOENT {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.absent = append(n.absent, name)
	}
	return inode, errno
}

func (n *forgetful) OpendirHandle(ctx context.Context, flags uint32) (fs.FileHandle, uint32, syscall.Errno) {
	n.mu.Lock()
	absent := n.absent
	n.absent = nil
	n.mu.Unlock()
	for _, name := range absent {
		_ = n.NotifyEntry(name) // of one that nobody remembers there is nothing to forget
	}
	return n.LoopbackNode.OpendirHandle(ctx, flags)
}
