package gc

import (
	"context"
	"flag"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"berth/tests/content"
	"berth/tests/harness"
)

var kills = flag.Int("kills", 4, "how often the server is killed")

// files returns the files below a folder of the objects of a store.
func (s *replica) files(t *testing.T, folder string) (paths []string) {
	t.Helper()
	root := filepath.Join(s.Root, "objects", folder)
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			paths = append(paths, path)
		}
		return err
	})
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return paths
}

// remove deletes a repository by one request.
func (s *replica) remove(repo string) (*harness.Reply, error) {
	return s.Do(harness.Call{Method: "DELETE", Path: "/v2/" + repo + "/_berth/repository"})
}

// settle collects until nothing goes any more: once what is there is older than the grace, the second run finds nothing.
func (s *replica) settle(t *testing.T) {
	t.Helper()
	for end := time.Now().Add(10 * grace); ; time.Sleep(grace / 4) {
		begun := time.Now()
		r, err := s.collect(t.Context())
		if err != nil {
			t.Fatalf("collect: %v", err)
		}
		if r.failed() > 0 {
			t.Fatalf("the collection could not read all: %+v", r)
		}
		if r.removed() == 0 && begun.After(end.Add(-8*grace)) {
			return
		}
		if begun.After(end) {
			t.Fatalf("after %v there is still something to remove: %+v", 10*grace, r)
		}
	}
}

// TestKill kills the server while it collects and while it deletes a repository. The next one goes on: what stays is whole, and
// in the end nothing else is left.
func TestKill(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(harness.Seed(t), 0))
	s := start(t, grace, harness.Options{})
	kept := image("kept")
	if err := s.Push("keep/app", kept, "latest"); err != nil {
		t.Fatal(err)
	}
	for round := range *kills {
		for i := range 10 {
			if err := s.Push("gone/app", image(fmt.Sprintf("gone %d %d", round, i)), fmt.Sprint("v", i)); err != nil {
				t.Fatal(err)
			}
			if err := s.PushBlob("gone/app", content.Random(fmt.Sprintf("waste %d %d", round, i), 20_000)); err != nil {
				t.Fatal(err)
			}
		}
		if round%2 == 1 {
			time.Sleep(grace + grace/2) // so that the collection has something to remove
		}
		var under sync.WaitGroup
		ctx, cancel := context.WithCancel(t.Context())
		under.Go(func() { _, _ = s.remove("gone/app") }) // to be killed
		under.Go(func() { _, _ = s.collect(ctx) })       // as well
		time.Sleep(time.Duration(random.IntN(60_000)) * time.Microsecond)
		s.Kill()
		cancel()
		under.Wait()
		s.Restart()
		if err := s.Verify("keep/app", kept); err != nil {
			t.Fatalf("round %d: after the kill: %v", round, err)
		}
		if r, err := s.remove("gone/app"); err != nil || r.Want(202, 404) != nil {
			t.Fatalf("round %d: the repository is deleted again: %v, %v", round, r, err)
		}
		if r, err := s.Get("/v2/gone/app/tags/list"); err != nil || r.Status != 404 {
			t.Fatalf("round %d: what was deleted answers %v, %v", round, r, err)
		}
		if _, err := s.collect(t.Context()); err != nil {
			t.Fatalf("round %d: the next collection: %v", round, err)
		}
	}
	s.settle(t)
	if err := s.Verify("keep/app", kept); err != nil {
		t.Error(err)
	}
	if data, want := s.files(t, "data"), 2; len(data) != want { // of layers beyond 8 KiB
		t.Errorf("%d data objects are left, and %d are of the image that stays: %q", len(data), want, data)
	}
	if left := s.files(t, "repositories/gone"); len(left) > 0 {
		t.Errorf("of the deleted repository are left %q", left)
	}
}
