package filesystem

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/iotest"
	"time"

	"berth/storage"
)

// A faulty system fails the calls that its function gives an error for, without performing them.
type faulty struct {
	realSystem
	fail  func(call, path string) error // set it while no call is under way
	syncs atomic.Int64                  // how many there were
}

func (f *faulty) check(call, path string) error {
	if strings.HasPrefix(call, "sync") {
		f.syncs.Add(1)
	}
	if f.fail == nil {
		return nil
	}
	return f.fail(call, path)
}

func (f *faulty) rename(from, to string) error {
	if err := f.check("rename", to); err != nil {
		return err
	}
	return f.realSystem.rename(from, to)
}

func (f *faulty) renameNew(from, to string) error {
	if err := f.check("renameNew", to); err != nil {
		return err
	}
	return f.realSystem.renameNew(from, to)
}

func (f *faulty) mkdir(path string, mode fs.FileMode) error {
	if err := f.check("mkdir", path); err != nil {
		return err
	}
	return f.realSystem.mkdir(path, mode)
}

func (f *faulty) unlink(path string) error {
	if err := f.check("unlink", path); err != nil {
		return err
	}
	return f.realSystem.unlink(path)
}

func (f *faulty) rmdir(path string) error {
	if err := f.check("rmdir", path); err != nil {
		return err
	}
	return f.realSystem.rmdir(path)
}

func (f *faulty) writeOut(files []*os.File) error {
	if err := f.check("writeOut", files[0].Name()); err != nil {
		return err
	}
	return f.realSystem.writeOut(files)
}

func (f *faulty) syncFile(file *os.File) error {
	if err := f.check("syncFile", file.Name()); err != nil {
		return err
	}
	return f.realSystem.syncFile(file)
}

func (f *faulty) syncDir(path string) error {
	if err := f.check("syncDir", path); err != nil {
		return err
	}
	return f.realSystem.syncDir(path)
}

func (f *faulty) syncAll(root *os.File) error {
	if err := f.check("syncAll", root.Name()); err != nil {
		return err
	}
	return f.realSystem.syncAll(root)
}

func (f *faulty) alive(root *os.File) error {
	if err := f.check("alive", root.Name()); err != nil {
		return err
	}
	return f.realSystem.alive(root)
}

// failing returns an error for one kind of call.
func failing(kind string, err error) func(call, path string) error {
	return func(call, _ string) error {
		if call == kind {
			return err
		}
		return nil
	}
}

// TestFailedSync lets the first, the second … sync fail. Nothing may be written or synced from then on, nothing that may
// not be durable may be shown, and everything else can still be read.
func TestFailedSync(t *testing.T) {
	for _, tr := range []traits{{}, {orders: true, syncsWhole: true}} {
		for n := int64(1); ; n++ {
			sys := &faulty{}
			d := start(t, Options{}, kindFilesystem, sys)
			d.traits, d.syncer.traits = tr, tr
			put(t, d, "old/key", "old", storage.Cond{})
			before := sys.syncs.Load()
			sys.fail = func(call, _ string) error {
				if strings.HasPrefix(call, "sync") && sys.syncs.Load() == before+n {
					return syscall.EIO
				}
				return nil
			}
			_, err := d.Put(t.Context(), "new/folder/key", strings.NewReader("new"), 3, storage.Absent())
			if err == nil {
				if n < 3 {
					t.Errorf("only %d syncs were made", n-1)
				}
				break
			}
			checkStopped(t, d, sys, err)
		}
	}
}

// TestNoDescriptors takes all descriptors of the process at the moment when a folder is to be synced: nothing failed yet, and
// writing goes on.
func TestNoDescriptors(t *testing.T) {
	for _, tr := range []traits{{}, {orders: true, syncsWhole: true}} {
		for _, change := range []string{"rename", "unlink"} {
			sys := &faulty{}
			d := start(t, Options{}, kindFilesystem, sys)
			d.traits, d.syncer.traits = tr, tr
			put(t, d, "a/b", "old", storage.Cond{})
			give := func() {}
			sys.fail = func(call, _ string) error {
				if call == change {
					give = exhaust(t)
					time.AfterFunc(50*time.Millisecond, give)
				}
				return nil
			}
			var err error
			if change == "unlink" {
				err = d.Delete(t.Context(), "a/b", storage.Cond{})
			} else {
				_, err = d.Put(t.Context(), "a/b", strings.NewReader("new"), 3, storage.Cond{})
			}
			give()
			if err != nil || d.Healthy() != nil {
				t.Errorf("%+v: a change by %s = %v, and then Healthy = %v", tr, change, err, d.Healthy())
			}
		}
	}
}

// exhaust opens files until the system refuses. The function it returns closes them, once.
func exhaust(t *testing.T) (give func()) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	low := limit
	low.Cur = uint64(descriptors(t) + 16)
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &low); err != nil {
		t.Fatal(err)
	}
	var open []*os.File
	for {
		f, err := os.Open(os.DevNull)
		if errors.Is(err, syscall.EMFILE) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, f)
	}
	return sync.OnceFunc(func() {
		for _, f := range open {
			f.Close()
		}
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
			t.Error(err)
		}
	})
}

func checkStopped(t *testing.T, d *Driver, sys *faulty, err error) {
	t.Helper()
	if !errors.Is(err, storage.ErrUnavailable) || !errors.Is(d.Healthy(), storage.ErrUnavailable) {
		t.Errorf("after a failed sync, Put = %v, Healthy = %v", err, d.Healthy())
	}
	sys.fail = nil
	before := sys.syncs.Load()
	_, errPut := d.Put(t.Context(), "other", strings.NewReader("x"), 1, storage.Cond{})
	_, errAll := d.PutAll(t.Context(), []storage.Object{{Key: "other"}})
	for op, err := range map[string]error{"Put": errPut, "PutAll": errAll, "Delete": d.Delete(t.Context(), "old/key", storage.Cond{})} {
		if !errors.Is(err, storage.ErrUnavailable) || !strings.Contains(err.Error(), "writing has stopped") {
			t.Errorf("%s after a failed sync = %v", op, err)
		}
	}
	if after := sys.syncs.Load(); after != before {
		t.Errorf("%d syncs were made after one failed", after-before)
	}
	if body, _, err := storage.ReadAll(t.Context(), d, "old/key", 10); string(body) != "old" || err != nil {
		t.Errorf("an old object reads as %q, %v", body, err)
	}
	if _, err := d.Stat(t.Context(), "new/folder/key"); err == nil {
		t.Error("an object that may not be durable is shown")
	}
	if left := files(t, d.temp); len(left) != 1 {
		t.Errorf("temporary files are left: %q", left)
	}
}

// TestErrorClasses fails each kind of change with each kind of error; nothing may be left behind, and the driver goes on.
func TestErrorClasses(t *testing.T) {
	for cause, class := range map[error]error{
		syscall.ENOSPC: storage.ErrNoSpace,
		syscall.EDQUOT: storage.ErrNoSpace,
		syscall.EROFS:  storage.ErrReadOnly,
		syscall.EIO:    storage.ErrUnavailable,
		syscall.EACCES: storage.ErrUnavailable,
	} {
		for _, call := range []string{"rename", "renameNew", "mkdir", "syncFile", "writeOut"} {
			if call == "syncFile" && class != storage.ErrNoSpace {
				continue // stops the driver
			}
			sys := &faulty{}
			d := start(t, Options{}, kindFilesystem, sys)
			d.traits, d.syncer.traits = traits{}, traits{} // a server may tell at the sync that the disk is full
			if call == "writeOut" {
				d.traits = traits{orders: true, syncsWhole: true}
			}
			sys.fail = failing(call, cause)
			cond := storage.Cond{}
			if call == "renameNew" {
				cond = storage.Absent()
			}
			_, err := d.Put(t.Context(), "a/b", strings.NewReader("x"), 1, cond)
			if !errors.Is(err, class) || errors.Is(err, fs.ErrNotExist) {
				t.Errorf("Put whose %s fails with %q = %v", call, cause, err)
			}
			if sys.fail = nil; len(files(t, d.temp)) != 1 || len(files(t, d.objects)) != 0 {
				t.Errorf("files are left after %s failed: %q, %q", call, files(t, d.temp), files(t, d.objects))
			}
			put(t, d, "a/b", "y", storage.Absent())
		}
	}
}

// A liar makes changes of one object and says that it could not, as a server whose answers are lost.
type liar struct {
	realSystem
	path    string
	durable atomic.Bool // its folder was synced since
}

func (l *liar) lie(path string, err error) error {
	if path == l.path && err == nil {
		l.durable.Store(false)
		err = syscall.EIO
	}
	return err
}

func (l *liar) rename(from, to string) error    { return l.lie(to, l.realSystem.rename(from, to)) }
func (l *liar) renameNew(from, to string) error { return l.lie(to, l.realSystem.renameNew(from, to)) }
func (l *liar) unlink(path string) error        { return l.lie(path, l.realSystem.unlink(path)) }

func (l *liar) syncDir(path string) error {
	if path == filepath.Dir(l.path) {
		l.durable.Store(true)
	}
	return l.realSystem.syncDir(path)
}

// TestFailedAndDone makes changes that can be seen, by calls that fail: who looks then may rely on what is there, so it
// must be durable.
func TestFailedAndDone(t *testing.T) {
	d := start(t, Options{}, kindFilesystem, realSystem{})
	l := &liar{path: filepath.Join(d.objects, "a", "b")}
	d.sys, d.syncer.sys, d.syncer.traits, d.traits = l, l, traits{}, traits{}
	put := func(cond storage.Cond) func() error {
		return func() error {
			_, err := d.PutAll(t.Context(), []storage.Object{{Key: "a/b", Body: []byte("x"), Cond: cond}, {Key: "c"}})
			return err
		}
	}
	for _, change := range []struct {
		name string
		make func() error
		left int
	}{
		{"create", put(storage.Absent()), 1},
		{"replace", put(storage.Cond{}), 1},
		{"delete", func() error { return d.Delete(t.Context(), "a/b", storage.Cond{}) }, 0},
	} {
		err := change.make()
		if got := files(t, d.objects); !errors.Is(err, storage.ErrUnavailable) || len(got) != change.left {
			t.Errorf("%s = %v, and there is %q", change.name, err, got)
		}
		if !l.durable.Load() {
			t.Errorf("%s: what can be seen may not be durable", change.name)
		}
	}
}

func TestFailedUnlink(t *testing.T) {
	sys := &faulty{}
	d := start(t, Options{}, kindFilesystem, sys)
	put(t, d, "a/b", "x", storage.Cond{})
	sys.fail = failing("unlink", syscall.EROFS)
	if err := d.Delete(t.Context(), "a/b", storage.Cond{}); !errors.Is(err, storage.ErrUnavailable) {
		t.Errorf("Delete on a read-only disk = %v", err)
	}
	sys.fail = nil
	if body, _, err := storage.ReadAll(t.Context(), d, "a/b", 10); string(body) != "x" || err != nil {
		t.Errorf("after a delete that failed, the object reads as %q, %v", body, err)
	}
}

// TestReadersWait holds the sync of a folder up: until it is done, the key that changed there is shown to nobody, and
// other keys to everyone.
func TestReadersWait(t *testing.T) {
	sys := &faulty{}
	d := start(t, Options{}, kindFilesystem, sys)
	put(t, d, "a/old", "old", storage.Cond{})
	put(t, d, "a/other", "other", storage.Cond{})
	held, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	sys.fail = func(call, path string) error {
		if call == "syncDir" {
			once.Do(func() { close(held) })
			<-release
		}
		return nil
	}
	for name, change := range map[string]func() error{
		"replace": func() error {
			_, err := d.Put(context.Background(), "a/old", strings.NewReader("new"), 3, storage.Cond{})
			return err
		},
		"delete": func() error { return d.Delete(context.Background(), "a/old", storage.Cond{}) },
	} {
		once, held, release = sync.Once{}, make(chan struct{}), make(chan struct{})
		done := make(chan error, 1)
		go func() { done <- change() }()
		<-held
		short, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		_, errStat := d.Stat(short, "a/old")
		_, _, errOpen := d.Open(short, "a/old", 0, -1)
		_, errPut := d.Put(short, "a/old", strings.NewReader(""), 0, storage.Absent())
		for op, err := range map[string]error{"Stat": errStat, "Open": errOpen, "Put": errPut} {
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s while a %s is not durable = %v", op, name, err)
			}
		}
		cancel()
		if _, err := d.Stat(t.Context(), "a/other"); err != nil {
			t.Errorf("Stat of another key = %v", err)
		}
		waited := make(chan error, 1)
		go func() {
			_, err := d.Stat(context.Background(), "a/old")
			waited <- err
		}()
		close(release)
		if err := <-done; err != nil {
			t.Errorf("%s = %v", name, err)
		}
		if err := <-waited; err != nil && name == "replace" {
			t.Errorf("Stat that waited for a %s = %v", name, err)
		}
		put(t, d, "a/old", "old", storage.Cond{})
	}
}

// TestSyncsAreShared lets many writers come while a sync runs: one more sync serves them all.
func TestSyncsAreShared(t *testing.T) {
	sys := &faulty{}
	d := start(t, Options{}, kindFilesystem, sys)
	d.traits = traits{orders: true, syncsWhole: true}
	d.syncer.traits = d.traits
	held, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	sys.fail = func(call, _ string) error {
		if strings.HasPrefix(call, "sync") {
			once.Do(func() { close(held); <-release })
		}
		return nil
	}
	before := sys.syncs.Load()
	const writers = 20
	errs := make(chan error, writers+1)
	write := func(key string) {
		_, err := d.Put(context.Background(), key, strings.NewReader("x"), 1, storage.Absent())
		errs <- err
	}
	go write("first")
	<-held
	for i := range writers {
		go write("second/" + string(rune('a'+i)))
	}
	for {
		d.syncer.mu.Lock()
		waiting := d.syncer.next != nil && d.syncer.next.callers == writers
		d.syncer.mu.Unlock()
		if waiting {
			break
		}
		time.Sleep(time.Millisecond)
	}
	close(release)
	for range writers + 1 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if n := sys.syncs.Load() - before; n > 4 {
		t.Errorf("%d writers made %d syncs", writers+1, n)
	}
}

// TestNoSyncAfterAFailure lets one sync fail while another put waits for the next one, which would succeed: the system tells of a
// failure once, and then believes that there is nothing left to do. No put may count as durable after it.
func TestNoSyncAfterAFailure(t *testing.T) {
	for _, tr := range []traits{{orders: true, syncsWhole: true}, {orders: true}, {}} {
		sys := &faulty{}
		d := start(t, Options{}, kindFilesystem, sys)
		d.traits = tr
		d.syncer.traits = tr
		var folders, failed atomic.Int64
		held, renamed := make(chan struct{}), make(chan struct{})
		sys.fail = func(call, path string) error {
			switch {
			case call == "renameNew" && strings.HasSuffix(path, "second"):
				close(renamed)
			case (call == "syncDir" || call == "syncAll") && folders.Add(1) == 1:
				close(held)
				<-renamed
				time.Sleep(20 * time.Millisecond) // the second waits for its own sync
				failed.Add(1)
				return syscall.EIO
			case (call == "syncDir" || call == "syncAll") && failed.Load() == 0:
				for failed.Load() == 0 { // a sync of its own, which the system finishes after the one that failed
					time.Sleep(time.Millisecond)
				}
				time.Sleep(100 * time.Millisecond) // by then it is known
			}
			return nil
		}
		errs := make(chan error, 2)
		write := func(key string) {
			_, err := d.Put(context.Background(), key, strings.NewReader("x"), 1, storage.Absent())
			errs <- err
		}
		go write("first")
		<-held
		go write("second")
		for range 2 {
			if err := <-errs; !errors.Is(err, storage.ErrUnavailable) {
				t.Errorf("%+v: a put is answered %v", tr, err)
			}
		}
	}
}

// TestShutDown has a file system shut down, which syncs of its folders do not notice.
func TestShutDown(t *testing.T) {
	for unaware, want := range map[bool]error{true: storage.ErrUnavailable, false: nil} {
		sys := &faulty{fail: failing("alive", syscall.EIO)}
		d := start(t, Options{}, kindFilesystem, sys)
		d.traits = traits{orders: true, syncsWhole: true, unaware: unaware}
		d.syncer.traits = d.traits
		if _, err := d.Put(t.Context(), "a", strings.NewReader("x"), 1, storage.Absent()); !errors.Is(err, want) {
			t.Errorf("unaware %t: a put is answered %v", unaware, err)
		}
	}
}

// TestBrokenBodies checks that nothing is left of bodies that fail, and that all descriptors are closed.
func TestBrokenBodies(t *testing.T) {
	d := start(t, Options{}, kindFilesystem, realSystem{})
	put(t, d, "large", strings.Repeat("x", 20<<20), storage.Cond{})
	put(t, d, "small", "x", storage.Cond{})
	before := descriptors(t)
	for range 20 {
		body := io.MultiReader(strings.NewReader(strings.Repeat("x", 300<<10)), iotest.ErrReader(io.ErrUnexpectedEOF))
		if _, err := d.Put(t.Context(), "broken", body, -1, storage.Cond{}); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("Put = %v", err)
		}
		d.PutAll(t.Context(), []storage.Object{{Key: "small", Cond: storage.Absent()}, {Key: "../x"}})
		for _, key := range []string{"large", "small", "none", "small/x"} {
			d.Stat(t.Context(), key)
			d.Put(t.Context(), key, strings.NewReader(""), 0, storage.Match("?"))
			d.Delete(t.Context(), key, storage.Match("?"))
			for range d.List(t.Context(), key, "") {
				break
			}
			for _, n := range []int64{0, 1, -1} {
				if r, _, err := d.Open(t.Context(), key, 0, n); err == nil {
					r.Close()
				}
			}
		}
	}
	if after := descriptors(t); after > before {
		t.Errorf("%d descriptors were open, %d are", before, after)
	}
	if left := files(t, d.temp); len(left) != 1 {
		t.Errorf("temporary files are left: %q", left)
	}
}

func descriptors(t *testing.T) int {
	entries, err := os.ReadDir("/dev/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}
