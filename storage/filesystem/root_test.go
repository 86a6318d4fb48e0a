package filesystem

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"berth/storage"
)

// write makes a file with its folders.
func write(t *testing.T, path, text string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
		t.Fatal(err)
	}
}

func TestRefusals(t *testing.T) {
	for name, tc := range map[string]struct {
		kind  string
		make  func(t *testing.T, root string)
		wants string
	}{
		"another registry": {kindFilesystem, func(t *testing.T, root string) {
			write(t, root+"/docker/registry/v2/repositories/a/_layers/x", "")
		}, "docker/registry/v2"},
		"another registry, as emptydir": {kindEmptyDir, func(t *testing.T, root string) {
			write(t, root+"/docker/registry/v2/x", "")
		}, "docker/registry/v2"},
		"a file": {kindFilesystem, func(t *testing.T, root string) {
			if err := os.Remove(root); err != nil {
				t.Fatal(err)
			}
			write(t, root, "")
		}, "not a directory"},
		"below a file": {kindFilesystem, func(t *testing.T, root string) {
			if err := os.Remove(root); err != nil {
				t.Fatal(err)
			}
			write(t, filepath.Dir(root)+"/file", "")
			if err := os.Symlink(filepath.Dir(root)+"/file/x", root); err != nil {
				t.Fatal(err)
			}
		}, "exist"},
		"newer format": {kindFilesystem, func(t *testing.T, root string) {
			write(t, root+"/berth.json", `{"kind":"filesystem","format":2}`)
		}, "format 2"},
		"no format": {kindFilesystem, func(t *testing.T, root string) {
			write(t, root+"/berth.json", `{"kind":"filesystem"}`)
		}, "format"},
		"broken marker": {kindFilesystem, func(t *testing.T, root string) {
			write(t, root+"/berth.json", `{"kind":`)
		}, "berth.json cannot be read"},
		"another kind": {kindFilesystem, func(t *testing.T, root string) {
			write(t, root+"/berth.json", `{"kind":"emptydir","format":1}`)
		}, `kind "emptydir"`},
		"a store, as emptydir": {kindEmptyDir, func(t *testing.T, root string) {
			write(t, root+"/berth.json", `{"kind":"filesystem","format":1}`)
		}, `kind "filesystem"`},
		"lost marker": {kindFilesystem, func(t *testing.T, root string) {
			write(t, root+"/objects/a", "")
		}, "no berth.json"},
		"not empty, as emptydir": {kindEmptyDir, func(t *testing.T, root string) {
			write(t, root+"/precious", "")
		}, "precious"},
	} {
		t.Run(name, func(t *testing.T) {
			root := filepath.Join(t.TempDir(), "root")
			if err := os.Mkdir(root, 0o755); err != nil {
				t.Fatal(err)
			}
			tc.make(t, root)
			before := strings.Join(files(t, filepath.Dir(root)), " ")
			d, err := open(t.Context(), Options{Root: root, LockWait: time.Millisecond}, tc.kind, realSystem{})
			if err == nil {
				d.Close()
				t.Fatal("it was opened")
			}
			if !strings.Contains(err.Error(), tc.wants) || !strings.Contains(err.Error(), root) {
				t.Errorf("the error is %q, want %q in it", err, tc.wants)
			}
			if after := strings.Join(files(t, filepath.Dir(root)), " "); after != before {
				t.Errorf("a root that was refused has %q now", after)
			}
		})
	}
}

// TestProbes opens roots on file systems that lack what the driver needs.
func TestProbes(t *testing.T) {
	for name, tc := range map[string]struct {
		sys   system
		wants string
	}{
		"no such rename":      {&faulty{fail: failing("renameNew", syscall.EINVAL)}, "cannot rename without replacing"},
		"a rename that loses": {replacing{}, "replac"},
	} {
		root := t.TempDir()
		d, err := open(t.Context(), Options{Root: root, Shared: true}, kindFilesystem, tc.sys)
		if err == nil {
			d.Close()
			t.Fatalf("%s: it was opened", name)
		}
		if !strings.Contains(err.Error(), tc.wants) {
			t.Errorf("%s: the error is %q", name, err)
		}
		start(t, Options{Root: root}, kindFilesystem, realSystem{}) // the locks were given back
	}
}

// replacing renames over what is there, whatever it is told.
type replacing struct{ realSystem }

func (r replacing) renameNew(from, to string) error { return r.rename(from, to) }

func TestRootLock(t *testing.T) {
	for name, tc := range map[string]struct{ first, second, refused bool }{
		"both exclusive":   {false, false, true},
		"shared, then not": {true, false, true},
		"shared after":     {false, true, true},
		"both shared":      {true, true, false},
	} {
		root := t.TempDir()
		d := start(t, Options{Root: root, Shared: tc.first}, kindFilesystem, realSystem{})
		var warned string
		again := Options{Root: root, Shared: tc.second, LockWait: 30 * time.Millisecond, Warn: func(text string) { warned = text }}
		other, err := Open(t.Context(), again)
		if tc.refused != (err != nil) {
			t.Errorf("%s: the second Open = %v", name, err)
		}
		if err == nil {
			other.Close()
			continue
		}
		if want := fmt.Sprintf("process %d on ", os.Getpid()); !strings.Contains(err.Error(), want) {
			t.Errorf("%s: the error is %q, want %q in it", name, err, want)
		}
		if want := fmt.Sprintf("waiting up to 30ms for process %d on ", os.Getpid()); !strings.HasPrefix(warned, want) {
			t.Errorf("%s: the warning is %q, want %q in it", name, warned, want)
		}
		again.LockWait = time.Minute
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		if _, err := Open(ctx, again); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: Open whose context ends = %v", name, err)
		}
		cancel()
		time.AfterFunc(20*time.Millisecond, func() { d.Close() })
		if other, err = Open(t.Context(), again); err != nil {
			t.Fatalf("%s: Open that waits for the first = %v", name, err)
		}
		other.Close()
	}
}

func TestClose(t *testing.T) {
	root := t.TempDir()
	d := start(t, Options{Root: root}, kindFilesystem, realSystem{})
	large := strings.Repeat("x", 2<<20)
	put(t, d, "a/b", large, storage.Cond{})
	r, _, err := d.Open(t.Context(), "a/b", 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, ok := r.(*os.File); !ok {
		t.Errorf("a large object is read by a %T, which no socket can be fed from by the system", r)
	}
	if err := errors.Join(d.Close(), d.Close()); err != nil {
		t.Errorf("Close = %v", err)
	}
	if _, err := d.Put(t.Context(), "a/c", strings.NewReader("x"), 1, storage.Cond{}); !errors.Is(err, storage.ErrUnavailable) {
		t.Errorf("Put after Close = %v", err)
	}
	if err := d.Delete(t.Context(), "a/b", storage.Cond{}); !errors.Is(err, storage.ErrUnavailable) {
		t.Errorf("Delete after Close = %v", err)
	}
	if n, err := r.Read(make([]byte, 10)); n != 10 || err != nil {
		t.Errorf("reading on after Close = %d, %v", n, err)
	}
	if got := strings.Join(files(t, root), " "); got != "berth.json lock objects/a/b tmp/lock" {
		t.Errorf("after Close the root has %q", got)
	}
}

// TestCopiedWhileRunning opens a copy of a tree that was made while it was served and written to, with its locks and
// temporary files: what is left when the process is killed.
func TestCopiedWhileRunning(t *testing.T) {
	root, copied := t.TempDir(), t.TempDir()
	d := start(t, Options{Root: root}, kindFilesystem, realSystem{})
	small := put(t, d, "a/small", "small", storage.Cond{})
	put(t, d, "a/gone", "x", storage.Cond{})
	body := &copying{t: t, from: root, to: copied}
	if _, err := d.Put(t.Context(), "a/during", body, -1, storage.Cond{}); err != nil {
		t.Fatal(err)
	}
	temps := func() int { return len(files(t, copied+"/tmp")) }
	if temps() != 3 { // the guard, the lock of the process, the body
		t.Fatalf("the copy has %q", files(t, copied))
	}
	if err := os.MkdirAll(copied+"/objects/a/left/empty", 0o750); err != nil { // as a kill before the tidying leaves it
		t.Fatal(err)
	}
	c := start(t, Options{Root: copied}, kindFilesystem, realSystem{})
	if temps() != 2 {
		t.Errorf("after a start, tmp has %q", files(t, copied+"/tmp"))
	}
	if info, err := c.Stat(t.Context(), "a/small"); err != nil || info.Rev != small.Rev {
		t.Errorf("Stat = %+v, %v, want the Rev %q", info, err, small.Rev)
	}
	if _, err := c.Stat(t.Context(), "a/during"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Stat of an object that was being written = %v", err)
	}
	put(t, c, "a/left", "an object where folders were left", storage.Absent())
}

// copying is a body that copies a tree while it is read.
type copying struct {
	t        *testing.T
	from, to string
	done     bool
}

func (c *copying) Read(p []byte) (int, error) {
	if c.done {
		return 0, fmt.Errorf("read on after the end")
	}
	c.done = true
	if err := os.CopyFS(c.to, os.DirFS(c.from)); err != nil {
		c.t.Error(err)
	}
	return copy(p, "during"), io.EOF
}

func TestSweep(t *testing.T) {
	root := t.TempDir()
	first := start(t, Options{Root: root, Shared: true}, kindFilesystem, realSystem{})
	write(t, first.temp+"/body", "of the living")
	write(t, root+"/tmp/dead/lock", "")
	write(t, root+"/tmp/dead/body", "of the dead")
	write(t, root+"/tmp/unborn/body", "of one that died before it had a lock")
	write(t, root+"/tmp/odd/lock/body", "of one whose lock nobody can open")
	var warned []string
	start(t, Options{Root: root, Shared: true, Warn: func(text string) { warned = append(warned, text) }}, kindFilesystem, realSystem{})
	if len(warned) != 1 || !strings.Contains(warned[0], "tmp/odd") {
		t.Errorf("of a folder that cannot be swept is said %q", warned)
	}
	got := strings.Join(files(t, root+"/tmp"), " ")
	if strings.Contains(got, "dead") || strings.Contains(got, "unborn") || !strings.Contains(got, filepath.Base(first.temp)+"/body") {
		t.Errorf("after a sweep, tmp has %q", got)
	}
	if err := os.Remove(first.temp + "/body"); err != nil {
		t.Error(err)
	}
}

func TestModes(t *testing.T) {
	old := unix.Umask(0)
	defer unix.Umask(old)
	for _, tc := range []struct{ o, want Options }{
		{Options{}, Options{DirMode: 0o750, FileMode: 0o640}},
		{Options{DirMode: 0o700, FileMode: 0o600}, Options{DirMode: 0o700, FileMode: 0o600}},
	} {
		tc.o.Root = filepath.Join(t.TempDir(), "new", "root")
		d := start(t, tc.o, kindFilesystem, realSystem{})
		put(t, d, "a/b", "x", storage.Cond{})
		err := filepath.WalkDir(tc.o.Root, func(path string, e fs.DirEntry, err error) error {
			st, statErr := e.Info()
			if err = errors.Join(err, statErr); err != nil {
				return err
			}
			want := tc.want.FileMode
			if e.IsDir() {
				want = tc.want.DirMode
			}
			if st.Mode().Perm() != want {
				t.Errorf("%s has the mode %v, want %v", path, st.Mode().Perm(), want)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
}

func TestEmptyDir(t *testing.T) {
	root := filepath.Join(t.TempDir(), "new")
	for range 2 {
		d, err := OpenEmptyDir(t.Context(), Options{Root: root, Limit: 1000})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := d.Stat(t.Context(), "a/b"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Stat of what an earlier process put = %v", err)
		}
		put(t, d, "a/b", "x", storage.Cond{})
		if free, total, err := d.FreeSpace(); free != 999 || total != 1000 || err != nil {
			t.Errorf("FreeSpace = %d of %d, %v", free, total, err)
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
	write(t, root+"/precious", "not ours")
	d, err := OpenEmptyDir(t.Context(), Options{Root: root})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if _, err := os.Stat(root + "/precious"); err != nil {
		t.Errorf("a file beside the objects: %v", err)
	}
}

// TestLimit follows the count of bytes through all that can happen to an object.
func TestLimit(t *testing.T) {
	d := start(t, Options{NoSync: true, Limit: 1000}, kindEmptyDir, realSystem{})
	body := func(n int) string { return strings.Repeat("x", n) }
	full := func(n int) {
		t.Helper()
		if _, err := d.Put(t.Context(), "full", strings.NewReader(body(n)), -1, storage.Cond{}); !errors.Is(err, storage.ErrNoSpace) {
			t.Errorf("Put of %d bytes into %d = %v", n, d.space.left(), err)
		}
	}
	full(1001)
	info := put(t, d, "a", body(600), storage.Absent())
	full(401)
	put(t, d, "b", body(400), storage.Absent())
	full(1)
	if err := d.Delete(t.Context(), "b", storage.Cond{}); err != nil {
		t.Error(err)
	}
	put(t, d, "a", body(100), storage.Match(info.Rev)) // 700 for a moment
	if _, err := d.Put(t.Context(), "a", strings.NewReader(body(10)), 11, storage.Cond{}); err == nil {
		t.Error("a short body was accepted")
	}
	if _, err := d.Put(t.Context(), "a", strings.NewReader(body(10)), 10, storage.Absent()); !errors.Is(err, storage.ErrConflict) {
		t.Errorf("Put = %v", err)
	}
	if used := d.space.used.Load(); used != 100 {
		t.Errorf("%d bytes are counted, want 100", used)
	}
	put(t, d, "c", body(900), storage.Cond{})
	full(1)
}

// TestNow compares the time that a root tells without a put with those of puts.
func TestNow(t *testing.T) {
	d := start(t, Options{}, kindFilesystem, realSystem{})
	var last time.Time
	for i := range 3 {
		info, err := d.Put(t.Context(), fmt.Sprint("k", i), strings.NewReader("x"), 1, storage.Cond{})
		now, nowErr := d.Now()
		if err := errors.Join(err, nowErr); err != nil {
			t.Fatal(err)
		}
		if info.ModTime.Before(last) || now.Before(info.ModTime) || now.Sub(info.ModTime) > time.Minute {
			t.Errorf("a put at %v after %v, and it is %v", info.ModTime, last, now)
		}
		last = now
	}
}

func TestFreeSpace(t *testing.T) {
	d := start(t, Options{}, kindFilesystem, realSystem{})
	if free, total, err := d.FreeSpace(); err != nil || free == 0 || free > total {
		t.Errorf("FreeSpace = %d of %d, %v", free, total, err)
	}
}
