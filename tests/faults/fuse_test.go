package faults

import (
	"context"
	"os"
	"path"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"berth/tests/harness"
	"berth/tests/storm"
)

// TestFUSE serves from a file system of this process, which passes everything on but for the calls that are to go wrong, on
// the files that are meant: first a push alone, then a storm, must be refused cleanly where it is hit. After each, all that
// was acknowledged is served, by the same process and by one that starts after a kill.
func TestFUSE(t *testing.T) {
	for _, c := range []struct {
		failure
		call, files string
		how         outcome
		after       int // calls that go well
	}{
		{failure{name: "sync of a body", push: small, status: 503, stops: true}, "fsync", "tmp/", outcome{errno: syscall.EIO}, 0},
		{failure{name: "sync of a later body", push: image, status: 503, stops: true}, "fsync", "tmp/", outcome{errno: syscall.EIO}, 5},
		{failure{name: "sync of a large body", push: large, status: 503, stops: true}, "fsync", "tmp/", outcome{errno: syscall.EIO}, 0},
		{failure{name: "sync of a folder of data", push: large, status: 503, stops: true}, "fsyncdir", "objects/data/", outcome{errno: syscall.EIO}, 0},
		{failure{name: "sync of a folder of tags", push: image, status: 503, stops: true}, "fsyncdir", "objects/repositories/fail/image/_tags", outcome{errno: syscall.EIO}, 0},
		{failure{name: "sync without room", push: small, status: 507}, "fsync", "tmp/", outcome{errno: syscall.ENOSPC}, 0},
		{failure{name: "write without room", push: small, status: 507}, "write", "tmp/", outcome{errno: syscall.ENOSPC}, 0},
		{failure{name: "write without room, late", push: large, status: 507}, "write", "tmp/", outcome{errno: syscall.ENOSPC}, 30},
		{failure{name: "write", push: small, status: 503}, "write", "tmp/", outcome{errno: syscall.EIO}, 0},
		{failure{name: "short writes", push: large}, "write", "tmp/", outcome{short: true}, 0},
		{failure{name: "a short write, and no room", push: large, status: 507}, "write", "tmp/", outcome{short: true, errno: syscall.ENOSPC}, 0},
		{failure{name: "rename of data", push: large, status: 503}, "rename", "objects/data/", outcome{errno: syscall.EIO}, 0},
		{failure{name: "rename of a blob", push: small, status: 503}, "rename", "objects/blobs/", outcome{errno: syscall.EIO}, 0},
		{failure{name: "rename of a tag", push: image, status: 503}, "rename", "objects/repositories/fail/image/_tags/", outcome{errno: syscall.EIO}, 0},
		{failure{name: "rename of a link without room", push: small, status: 507}, "rename", "objects/repositories/fail/small/_blobs/", outcome{errno: syscall.ENOSPC}, 0},
		{failure{name: "a rename that happened", push: small}, "rename", "objects/repositories/fail/small/", outcome{errno: syscall.EIO, done: true}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := mountFUSE(t)
			x := &failing{t, harness.Start(t, harness.Options{Root: f.dir + "/registry"})}
			x.under(c.failure, func() fault { return f.begin(c.call, c.files, c.how, c.after) })
			if !c.stops {
				stormUnder(t, f, x.s, func() fault { return f.begin(c.call, c.files, c.how, 20) })
			}
			x.s.Stop() // before the disk goes
		})
	}
}

// stormUnder lets a fault hit a storm, and checks what was acknowledged.
func stormUnder(t *testing.T, f *faultyDisk, s *harness.Server, begin func() fault) {
	t.Helper()
	ledger := storm.NewLedger(storm.Options{Seed: harness.Seed(t)})
	i := begin()
	ctx, stop := context.WithTimeout(context.Background(), time.Second)
	defer stop()
	if err := ledger.Run(ctx, 4, s.Client); err != nil {
		t.Errorf("during the storm: %v", err)
	}
	i.end()
	for range 2 {
		if err := ledger.Check(s.Client); err != nil {
			t.Fatal(err)
		}
		s.Kill()
		cleanStart(t, s)
	}
}

// An outcome is what becomes of a call.
type outcome struct {
	errno syscall.Errno // unless short, or after that
	short bool          // half of the bytes are written, of more than one
	done  bool          // it is done, and fails all the same
}

// A faultyDisk is a mounted file system over a folder.
type faultyDisk struct {
	t   *testing.T
	dir string // where it is mounted

	mu   sync.Mutex
	rule *rule // nil: nothing fails
}

// A rule makes calls fail that concern some files.
type rule struct {
	disk  *faultyDisk
	call  string
	files string // how their path below the store begins
	how   outcome
	after int
	hits  int
}

func (f *faultyDisk) begin(call, files string, how outcome, after int) fault {
	r := &rule{disk: f, call: call, files: files, how: how, after: after}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rule = r
	return r
}

func (r *rule) end() {
	r.disk.mu.Lock()
	defer r.disk.mu.Unlock()
	r.disk.rule = nil
}

func (r *rule) fired() bool {
	r.disk.mu.Lock()
	defer r.disk.mu.Unlock()
	return r.hits > 0
}

// judge returns what is to become of a call, nil for what it should.
func (f *faultyDisk) judge(call, at string) *outcome {
	f.mu.Lock()
	defer f.mu.Unlock()
	r := f.rule
	if r == nil || r.call != call || !strings.HasPrefix(at, "registry/"+r.files) {
		return nil
	}
	if r.after > 0 {
		r.after--
		return nil
	}
	r.hits++
	return &r.how
}

// mountFUSE mounts a file system until the test ends.
func mountFUSE(t *testing.T) *faultyDisk {
	t.Helper()
	f := &faultyDisk{t: t}
	below := t.TempDir()
	var st syscall.Stat_t
	if err := syscall.Stat(below, &st); err != nil {
		t.Fatal(err)
	}
	data := &fs.LoopbackRoot{Path: below, Dev: st.Dev}
	data.NewNode = func(data *fs.LoopbackRoot, _ *fs.Inode, _ string, _ *syscall.Stat_t) fs.InodeEmbedder {
		return &node{fs.LoopbackNode{RootData: data}, f}
	}
	root := &node{fs.LoopbackNode{RootData: data}, f}
	data.RootNode = root
	options := &fs.Options{MountOptions: fuse.MountOptions{DirectMountStrict: true, FsName: "faulty", Name: "faulty", EnableLocks: true}}
	f.dir = mount(t, root, options)
	return f
}

// mount mounts a file system in a folder, which it returns, until the test ends.
func mount(t *testing.T, root fs.InodeEmbedder, options *fs.Options) string {
	t.Helper()
	needRoot(t)
	if _, err := os.Stat("/dev/fuse"); err != nil {
		harness.Lacking(t, "FUSE: "+err.Error())
	}
	dir := t.TempDir()
	server, err := fs.Mount(dir, root, options)
	if err != nil {
		t.Fatalf("mount: %v", err)
	}
	t.Cleanup(func() {
		if err := server.Unmount(); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	return dir
}

// A node is a file or a folder.
type node struct {
	fs.LoopbackNode
	disk *faultyDisk
}

func (n *node) at() string { return n.Path(nil) }

func (n *node) Create(ctx context.Context, name string, flags, mode uint32, out *fuse.EntryOut) (*fs.Inode, fs.FileHandle, uint32, syscall.Errno) {
	inode, handle, fuseFlags, errno := n.LoopbackNode.Create(ctx, name, flags, mode, out)
	return inode, n.file(handle, path.Join(n.at(), name)), fuseFlags, errno
}

func (n *node) Open(ctx context.Context, flags uint32) (fs.FileHandle, uint32, syscall.Errno) {
	handle, fuseFlags, errno := n.LoopbackNode.Open(ctx, flags)
	return n.file(handle, n.at()), fuseFlags, errno
}

func (n *node) file(handle fs.FileHandle, at string) fs.FileHandle {
	if f, ok := handle.(*fs.LoopbackFile); ok {
		return &file{f, n.disk, at}
	}
	return handle
}

// OpendirHandle opens a folder, which is also how it is synced.
func (n *node) OpendirHandle(ctx context.Context, flags uint32) (fs.FileHandle, uint32, syscall.Errno) {
	handle, fuseFlags, errno := n.LoopbackNode.OpendirHandle(ctx, flags)
	if d, ok := handle.(dirHandle); ok {
		handle = &folder{d, n.disk, n.at() + "/"}
	}
	return handle, fuseFlags, errno
}

func (n *node) Rename(ctx context.Context, name string, to fs.InodeEmbedder, newName string, flags uint32) syscall.Errno {
	how := n.disk.judge("rename", path.Join(to.EmbeddedInode().Path(nil), newName))
	if how == nil {
		return n.LoopbackNode.Rename(ctx, name, to, newName, flags)
	}
	if how.done {
		if errno := n.LoopbackNode.Rename(ctx, name, to, newName, flags); errno != 0 {
			return errno
		}
	}
	return how.errno
}

// A file is open.
type file struct {
	*fs.LoopbackFile
	disk *faultyDisk
	at   string // when it was opened
}

// PassthroughFd keeps the kernel from going past us.
func (f *file) PassthroughFd() (int, bool) { return 0, false }

func (f *file) Write(ctx context.Context, b []byte, off int64) (uint32, syscall.Errno) {
	how := f.disk.judge("write", f.at)
	switch {
	case how == nil:
		return f.LoopbackFile.Write(ctx, b, off)
	case how.short && (how.errno == 0 || off == 0) && len(b) > 1:
		return f.LoopbackFile.Write(ctx, b[:len(b)/2], off)
	case how.errno == 0:
		return f.LoopbackFile.Write(ctx, b, off)
	}
	return 0, how.errno
}

func (f *file) Fsync(ctx context.Context, flags uint32) syscall.Errno {
	if how := f.disk.judge("fsync", f.at); how != nil {
		return how.errno
	}
	return f.LoopbackFile.Fsync(ctx, flags)
}

// A dirHandle is what the library makes of an open folder.
type dirHandle interface {
	fs.FileReaddirenter
	fs.FileReleasedirer
	fs.FileSeekdirer
	fs.FileFsyncdirer
}

type folder struct {
	dirHandle
	disk *faultyDisk
	at   string // with a slash at its end
}

func (d *folder) Fsyncdir(ctx context.Context, flags uint32) syscall.Errno {
	if how := d.disk.judge("fsyncdir", d.at); how != nil {
		return how.errno
	}
	return d.dirHandle.Fsyncdir(ctx, flags)
}
