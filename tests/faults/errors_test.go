package faults

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"berth/tests/content"
	"berth/tests/harness"
)

// A failure is a system call that goes wrong while something is pushed.
type failure struct {
	name   string
	inject string
	paths  func(t *testing.T, root string) []string // nil: whatever the call concerns
	push   func(x *failing) []*harness.Reply
	status int  // of what is refused; 0: nothing is
	stops  bool // nothing is written any more: nobody knows what is on the disk
}

// TestCallsFail lets each kind of system call fail under a push: the push is refused cleanly, what was there is served,
// and the registry goes on; but for a failed sync, after which it takes no push until it is started again. The disk is ext4
// with a journal; TestFUSE has the syncs of contents, which there are none of here.
func TestCallsFail(t *testing.T) {
	for _, f := range []failure{
		{"write", "write:error=EIO", temporaryNames, small, 503, false},
		{"write, late in a large body", "write:error=EIO:when=20+", temporaryNames, large, 503, false},
		{"write without room", "write:error=ENOSPC", temporaryNames, small, 507, false},
		{"write over the quota", "write:error=EDQUOT", temporaryNames, large, 507, false},
		{"create", "openat:error=EIO", temporaryNames, small, 503, false},
		{"create without descriptors", "openat:error=EMFILE", temporaryNames, small, 503, false},
		{"create without inodes", "openat:error=ENOSPC", temporaryNames, small, 507, false},
		{"write out", "sync_file_range:error=EIO", temporaryNames, small, 503, false},
		{"write out a large content", "sync_file_range:error=EIO:when=2", temporaryNames, large, 503, false},
		{"write out without room", "sync_file_range:error=ENOSPC", temporaryNames, small, 507, false},
		{"mkdir", "mkdirat:error=ENOSPC", nil, small, 507, false},
		{"name new", "renameat2:error=EIO", nil, small, 503, false},
		{"name a second", "renameat2:error=EIO:when=2", nil, image, 503, false},
		{"name without room", "renameat2:error=ENOSPC", nil, small, 507, false},
		{"name over another", "renameat:error=EIO", nil, image, 503, false},
		{"remove", "unlinkat:error=EIO", nil, remove, 503, false},
		{"sync any", "fsync:error=EIO:when=1", nil, small, 503, true},
		{"sync a folder", "fsync:error=EIO", dataFolder, large, 503, true},
		{"sync late in an image", "fsync:error=EIO:when=4", nil, image, 503, true},
		{"sync all together", "syncfs:error=EIO:when=1", nil, crowd, 503, true},
	} {
		t.Run(f.name, func(t *testing.T) { fail(t, f) })
	}
}

// A failing is a server under a failure.
type failing struct {
	*testing.T
	s *harness.Server
}

// A fault lasts until it is ended. It reports whether it ever made anything fail.
type fault interface {
	end()
	fired() bool
}

func fail(t *testing.T, f failure) {
	x := &failing{t, harness.Start(t, harness.Options{Root: newDisk(t, "ext4", 1<<30, "defaults").root()})}
	defer x.s.Stop() // before the disk goes
	x.under(f, func() fault {
		if f.paths == nil {
			return inject(t, x.s, f.inject)
		}
		return inject(t, x.s, f.inject, f.paths(t, x.s.Root)...)
	})
}

// under pushes while a fault lasts, and after it.
func (x *failing) under(f failure, begin func() fault) {
	t := x.T
	base := content.Algorithm(content.Digest).Image("base", content.AMD64(), []int{3000, 400_000}, nil)
	if err := x.s.Push("fail/base", base, "v"); err != nil {
		t.Fatal(err)
	}
	i := begin()
	replies := f.push(x)
	i.end()
	if !i.fired() {
		t.Fatalf("%s never happened", f.name)
	}
	refused := 0
	for _, r := range replies {
		if r.Status >= 400 {
			refused++
			cleanly(t, r, f.status)
		}
	}
	if (refused == 0) != (f.status == 0) {
		t.Errorf("%d requests were refused", refused)
	}
	if err := x.s.Verify("fail/base", base); err != nil {
		t.Errorf("a pull after the failure: %v", err)
	}
	if f.stops {
		x.stopped(base)
	}
	if left := temporaries(t, x.s.Root); len(left) > 0 {
		t.Errorf("temporary files were left: %q", left)
	}
	for _, r := range f.push(x) {
		if err := r.Want(201, 202); err != nil {
			t.Errorf("the push again: %v", err)
		}
	}
	if err := x.s.Verify("fail/base", base); err != nil {
		t.Error(err)
	}
}

// stopped checks that a server takes nothing any more, says so, and serves what it has; and starts it again.
func (x *failing) stopped(base content.Set) {
	for range 3 {
		replies := steps(x.T, x.s.Client, "fail/new", content.Random("stopped", 1000))
		cleanly(x.T, replies[len(replies)-1], http.StatusServiceUnavailable)
	}
	r, err := x.s.Do(harness.Call{Method: "DELETE", Path: "/v2/fail/base/manifests/v"})
	if err != nil {
		x.Fatal(err)
	}
	cleanly(x.T, r, http.StatusServiceUnavailable)
	x.unready()
	if err := x.s.Verify("fail/base", base); err != nil {
		x.Errorf("a pull while nothing is written: %v", err)
	}
	if d, err := x.s.Resolve("fail/base", "v"); err != nil || d != base.Top().Digest {
		x.Errorf("a tag while nothing is written: %q, %v", d, err)
	}
	x.s.CloseIdle() // a connection that was never used holds a stop up
	x.s.Stop()
	cleanStart(x.T, x.s)
}

// unready waits for /readyz to tell; it looks at the storage every other second.
func (x *failing) unready() {
	deadline := time.Now().Add(5 * time.Second)
	for {
		r, err := x.s.Get("/readyz")
		if err != nil {
			x.Fatal(err)
		}
		if r.Status == 503 && strings.Contains(string(r.Body), "storage") {
			return
		}
		if time.Now().After(deadline) {
			x.Fatalf("/readyz says %d %s", r.Status, r.Body)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// temporaryNames returns the next temporary files of the server: they are numbered in base 36.
func temporaryNames(t *testing.T, root string) []string {
	t.Helper()
	folders, err := filepath.Glob(filepath.Join(root, "tmp", "*", "lock"))
	if err != nil || len(folders) != 1 {
		t.Fatalf("the folders for temporary files are %q, %v", folders, err)
	}
	var names []string
	for n := range uint64(60) {
		names = append(names, filepath.Join(filepath.Dir(folders[0]), strconv.FormatUint(n, 36)))
	}
	return names
}

// dataFolder returns the folder of today's data objects, where one is already.
func dataFolder(t *testing.T, root string) []string {
	t.Helper()
	folders, err := os.ReadDir(filepath.Join(root, "objects", "data"))
	if err != nil || len(folders) == 0 {
		t.Fatalf("there are no data objects: %v", err)
	}
	return []string{filepath.Join(root, "objects", "data", folders[len(folders)-1].Name())}
}

func small(x *failing) []*harness.Reply {
	return steps(x.T, x.s.Client, "fail/small", content.Random(x.Name(), 5000))
}

func large(x *failing) []*harness.Reply {
	return steps(x.T, x.s.Client, "fail/large", content.Random(x.Name(), 40<<20))
}

// image pushes several times, by the same tag, and goes on after a refusal.
func image(x *failing) []*harness.Reply {
	var replies []*harness.Reply
	for n := range 4 {
		set := content.Algorithm(content.Digest).Image(fmt.Sprint(x.Name(), n), content.AMD64(), []int{500, 6000}, nil)
		for _, b := range set.Blobs {
			replies = append(replies, steps(x.T, x.s.Client, "fail/image", b)...)
		}
		r, err := x.s.Do(harness.Call{Method: "PUT", Path: "/v2/fail/image/manifests/v", Body: set.Top().Bytes,
			Header: http.Header{"Content-Type": {set.Top().MediaType}}})
		if err != nil {
			x.Fatal(err)
		}
		if r.Status != 404 { // it lacks a blob that was refused
			replies = append(replies, r)
		}
	}
	return replies
}

// remove pushes a manifest by tag and deletes the tag. A delete that was refused has deleted nothing.
func remove(x *failing) []*harness.Reply {
	blob := content.Random(x.Name(), 5000)
	pushed := steps(x.T, x.s.Client, "fail/remove", blob)
	tag := "/v2/fail/remove/manifests/" + blob.Digest[7:20]
	r, err := x.s.Do(harness.Call{Method: "DELETE", Path: tag})
	if err != nil {
		x.Fatal(err)
	}
	if after, err := x.s.Get(tag); err != nil || (after.Status == 200) != (r.Status >= 400) {
		x.Errorf("a delete was answered %d; then the tag %+v, %v", r.Status, after, err)
	}
	return append(pushed, r)
}

// crowd pushes from many clients at once, so that they share their syncs.
func crowd(x *failing) []*harness.Reply {
	var mu sync.Mutex
	var all []*harness.Reply
	var wg sync.WaitGroup
	for n := range 24 {
		wg.Go(func() {
			for m := range 4 {
				replies := steps(x.T, x.s.Client, "fail/crowd", content.Random(fmt.Sprint(x.Name(), n, m), 3000))
				mu.Lock()
				all = append(all, replies...)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return all
}
