package faults

import (
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"berth/tests/content"
	"berth/tests/harness"
)

// A ballast takes the room of a disk, but for some units that it leaves.
type ballast interface {
	leave(units int) error
	drop() error
}

// TestFull lets the disk become full, of bytes or of inodes, at every step of a push: each refusal is clean, leaves
// nothing behind, and harms neither what is there nor what comes after.
func TestFull(t *testing.T) {
	for _, c := range []struct {
		name string
		disk func(*testing.T) *disk
		fill func(dir string) ballast
		most int // units that one push needs at most
	}{
		{"ext4", func(t *testing.T) *disk { return newDisk(t, "ext4", 64<<20, "defaults") }, fillBytes, 400},
		{"tmpfs", func(t *testing.T) *disk { return newTmpfs(t, "size=16m") }, fillBytes, 100},
		{"inodes", func(t *testing.T) *disk { return newTmpfs(t, "size=64m,nr_inodes=400") }, fillInodes, 100},
	} {
		t.Run(c.name, func(t *testing.T) {
			disk := c.disk(t)
			s := harness.Start(t, harness.Options{Root: disk.root()})
			x := &filling{t, s, c.fill(disk.dir), content.Algorithm(content.Digest).Image("base", content.AMD64(), []int{3000, 9000}, nil)}
			if err := s.Push("full/base", x.base, "v"); err != nil {
				t.Fatal(err)
			}
			x.sweep(c.most)
			x.remains()
			x.afterwards()
			x.collects()
			s.Stop() // before the disk goes
		})
	}
}

// A filling is a server whose disk fills up.
type filling struct {
	*testing.T
	s       *harness.Server
	ballast ballast
	base    content.Set // was pushed while there was room
}

// sweep pushes with a little more room each time, from none to enough.
func (x *filling) sweep(most int) {
	refused, partly := 0, 0
	for units, enough := 0, 0; enough < 3; units++ {
		if units > most {
			x.Fatalf("a push is still refused with room for %d", units)
		}
		if err := x.ballast.leave(units); err != nil {
			x.Fatal(err)
		}
		blob := content.Random(fmt.Sprint(x.Name(), units), 12_500) // more than its record would hold
		replies := steps(x.T, x.s.Client, "full/new", blob)
		last := replies[len(replies)-1]
		if last.Status == 201 {
			enough++
			continue
		}
		enough, refused = 0, refused+1
		if len(replies) > 2 {
			partly++
		}
		full(x.T, last)
		if r, err := x.s.Get("/v2/full/new/blobs/" + blob.Digest); err != nil || r.Want(200, 404) != nil {
			x.Errorf("a blob whose push was refused: %v, %+v", err, r)
		}
		if data, named := objects(x.T, x.s.Root, "data"), objects(x.T, x.s.Root, "blobs/sha256"); data > named {
			x.Fatalf("a push that was refused with room for %d left data that nothing names: %d objects, %d blobs", units, data, named)
		}
	}
	if refused == 0 || partly == 0 {
		x.Errorf("%d pushes were refused, %d of them half way: the disk was not full", refused, partly)
	}
	x.Logf("%d pushes refused, %d of them half way", refused, partly)
}

// remains checks, on a disk without any room, that pulls go on and deletes work.
func (x *filling) remains() {
	if err := x.ballast.leave(0); err != nil {
		x.Fatal(err)
	}
	if err := x.s.Verify("full/base", x.base); err != nil {
		x.Errorf("a pull from a full disk: %v", err)
	}
	for _, size := range []int{2 << 20, 30 << 20} { // more than the room there is
		large := content.Random("large", size)
		push := harness.Call{Method: "POST", Path: "/v2/full/new/blobs/uploads/", Query: url.Values{"digest": {large.Digest}}, Body: large.Bytes}
		r, err := x.s.Do(push)
		for try := 0; err != nil && try < 5; try++ { // a client that still sends when the connection is closed may miss the answer
			r, err = x.s.Do(push)
		}
		if err != nil {
			x.Errorf("a push of %d bytes: %v", size, err)
			continue
		}
		full(x.T, r)
	}
	r, err := x.s.Do(harness.Call{Method: "DELETE", Path: "/v2/full/base/manifests/v"})
	if err == nil {
		err = r.Want(202)
	}
	if err != nil {
		x.Errorf("a delete on a full disk: %v", err)
	}
	if left := temporaries(x.T, x.s.Root); len(left) > 0 {
		x.Errorf("temporary files pile up: %q", left)
	}
}

// afterwards makes room, after which the same server takes pushes again, and an upload goes on that was interrupted.
func (x *filling) afterwards() {
	if err := x.ballast.drop(); err != nil {
		x.Fatal(err)
	}
	begun, err := x.s.Do(harness.Call{Method: "POST", Path: "/v2/full/new/blobs/uploads/"})
	if err == nil {
		err = begun.Want(202)
	}
	if err != nil {
		x.Fatalf("the first request when there was room: %v", err)
	}
	if err := x.ballast.leave(0); err != nil {
		x.Fatal(err)
	}
	blob := content.Random("later", 200_000)
	patch := harness.Call{Method: "PATCH", Path: begun.Header.Get("Location"), Body: blob.Bytes}
	for range 2 { // the second is refused before its body is read
		r, err := x.s.Do(patch)
		if err != nil {
			x.Fatal(err)
		}
		full(x.T, r)
	}
	x.says("writable\":false", "full")
	if err := x.ballast.drop(); err != nil {
		x.Fatal(err)
	}
	r, err := x.s.Do(patch)
	if err == nil {
		err = r.Want(202)
	}
	if err != nil {
		x.Fatalf("a chunk, sent again when there was room: %v", err)
	}
	x.says("writable\":true")
	closing := harness.Call{Method: "PUT", Path: r.Header.Get("Location"), Query: url.Values{"digest": {blob.Digest}}}
	if r, err = x.s.Do(closing); err == nil {
		err = r.Want(201)
	}
	if err != nil {
		x.Fatal(err)
	}
	if err := x.s.Push("full/base", x.base, "v"); err != nil {
		x.Errorf("a push when there was room again: %v", err)
	}
	if err := x.s.Verify("full/base", x.base); err != nil {
		x.Error(err)
	}
}

// collects fills the disk again, and makes room on it: with the server stopped, since what refused pushes left is younger than
// the grace.
func (x *filling) collects() {
	if err := x.ballast.leave(0); err != nil {
		x.Fatal(err)
	}
	before := objects(x.T, x.s.Root, "data")
	x.s.Stop()
	command := x.s.Command()
	command.Args = []string{command.Args[0], "garbage-collect", command.Args[2]}
	if told, err := command.CombinedOutput(); err != nil {
		x.Errorf("a collection on a full disk: %v\n%s", err, told)
	}
	if after := objects(x.T, x.s.Root, "data"); after >= before {
		x.Errorf("a collection left %d of %d data objects", after, before)
	}
	x.s.Restart()
	if err := x.s.Verify("full/base", x.base); err != nil {
		x.Errorf("after a collection on a full disk: %v", err)
	}
}

// steps pushes a blob and a manifest by tag, and stops at the first refusal. It returns all replies.
func steps(t *testing.T, c *harness.Client, repo string, blob content.Blob) []*harness.Reply {
	t.Helper()
	layer := blob.Describe(content.LayerTar)
	manifest := content.Algorithm(content.Digest).Document(content.ImageManifest, content.Fields{"config": layer, "layers": []content.Descriptor{}})
	var replies []*harness.Reply
	location := "/v2/" + repo + "/blobs/uploads/"
	for _, call := range []harness.Call{
		{Method: "POST"},
		{Method: "PUT", Query: url.Values{"digest": {blob.Digest}}, Body: blob.Bytes},
		{Method: "PUT", Path: "/v2/" + repo + "/manifests/" + blob.Digest[7:20], Body: manifest.Bytes,
			Header: http.Header{"Content-Type": {manifest.MediaType}}},
	} {
		if call.Path == "" {
			call.Path = location
		}
		r, err := c.Do(call)
		if err != nil {
			t.Fatalf("a request must be answered whatever fails: %v", err)
		}
		if replies = append(replies, r); r.Status >= 300 {
			break
		}
		location = r.Header.Get("Location")
	}
	return replies
}

// says waits for the server to be ready, and to say something else, too.
func (x *filling) says(texts ...string) {
	x.Helper()
	for deadline := time.Now().Add(15 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		r, err := x.s.Get("/readyz")
		if err == nil && r.Status == 200 && !slices.ContainsFunc(texts, func(s string) bool { return !strings.Contains(string(r.Body), s) }) {
			return
		}
		if time.Now().After(deadline) {
			x.Fatalf("/readyz says %+v, %v; want %q", r, err, texts)
		}
	}
}

// full asks that a reply be a refusal of a full disk: of the request that found it full, or of one after it.
func full(t *testing.T, r *harness.Reply) {
	t.Helper()
	if r.Status != http.StatusServiceUnavailable {
		cleanly(t, r, http.StatusInsufficientStorage)
		return
	}
	cleanly(t, r, http.StatusServiceUnavailable)
	if !strings.Contains(string(r.Body), "the storage is full") || r.Header.Get("Retry-After") == "" {
		t.Errorf("the refusal does not say why, or when to come again: %v %s", r.Header, r.Body)
	}
}

// cleanly asks that a reply be a refusal with a status, in the form of the specification.
func cleanly(t *testing.T, r *harness.Reply, status int) {
	t.Helper()
	if err := r.Want(status); err != nil {
		t.Error(err)
	} else if len(r.Codes()) != 1 || r.Header.Get("Content-Type") != "application/json" {
		t.Errorf("%s: not a clean error: %s", r.Call, r.Body)
	}
}

// byteBallast is a file. A unit is 4 KiB.
type byteBallast string

func fillBytes(dir string) ballast { return byteBallast(filepath.Join(dir, "ballast")) }

func (b byteBallast) drop() error { return os.Remove(string(b)) }

func (b byteBallast) leave(units int) error {
	f, err := os.OpenFile(string(b), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	size := int64(0)
	for range 2 { // what was removed lately is free only once ext4 has committed that
		for step := int64(4 << 20); step >= 4096; {
			if err := syscall.Fallocate(int(f.Fd()), 0, size, step); err == nil {
				size += step
			} else if err == syscall.ENOSPC {
				step /= 2
			} else {
				return err
			}
		}
		if err := f.Sync(); err != nil {
			return err
		}
	}
	return f.Truncate(max(0, size-int64(units)*4096))
}

// inodeBallast is a folder of empty files.
type inodeBallast string

func fillInodes(dir string) ballast { return inodeBallast(filepath.Join(dir, "ballast")) }

func (b inodeBallast) drop() error { return os.RemoveAll(string(b)) }

func (b inodeBallast) leave(units int) error {
	if err := os.Mkdir(string(b), 0o700); err != nil && !os.IsExist(err) {
		return err
	}
	made := 0
	for ; ; made++ {
		f, err := os.OpenFile(filepath.Join(string(b), strconv.Itoa(made)), os.O_CREATE|os.O_RDONLY, 0o600)
		if err != nil {
			break // full, which is what it is for
		}
		f.Close()
	}
	for i := made - 1; i >= max(0, made-units); i-- {
		if err := os.Remove(filepath.Join(string(b), strconv.Itoa(i))); err != nil {
			return err
		}
	}
	return nil
}
