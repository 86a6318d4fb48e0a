package faults

import (
	"context"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"berth/tests/content"
	"berth/tests/harness"
	"berth/tests/storm"
)

// TestRemount turns the disk of a running server read-only and back, as for a snapshot or a repair, while nothing is
// written and in a storm: pulls go on, changes are refused and told why, and when the disk can be written again, the same
// process goes on, and so does another.
func TestRemount(t *testing.T) {
	for _, c := range []struct{ name, kind, shared string }{
		{"ext4", "ext4", "false"}, {"xfs", "xfs", "false"}, {"shared", "ext4", "true"},
	} {
		t.Run(c.name, func(t *testing.T) {
			disk := newDisk(t, c.kind, 3<<30, "defaults")
			s := harness.Start(t, harness.Options{Root: disk.root(), Env: []string{"REGISTRY_STORAGE_FILESYSTEM_SHARED=" + c.shared}})
			base := content.Algorithm(content.Digest).Image("base", content.AMD64(), []int{3000, 400_000}, nil)
			ledger := storm.NewLedger(storm.Options{Seed: harness.Seed(t)})
			if err := s.Push("readonly/base", base, "v"); err != nil {
				t.Fatal(err)
			}
			if finished, err := ledger.Script(s.Client); err != nil || !finished {
				t.Fatalf("finished %v, %v", finished, err)
			}
			if err := disk.remount(syscall.MS_RDONLY); err != nil {
				t.Fatalf("remount the disk of an idle server read-only: %v", err)
			}
			onlyRead(t, s, base)
			disk.writable()
			for range harness.Rounds(t, 3) {
				remountInStorm(t, disk, s, ledger)
			}
			onlyRead(t, s, base)
			disk.writable()
			for range 2 {
				if err := ledger.Check(s.Client); err != nil {
					t.Fatal(err)
				}
				if finished, err := ledger.Script(s.Client); err != nil || !finished {
					t.Fatalf("when the disk could be written again: finished %v, %v", finished, err)
				}
				s.CloseIdle()
				s.Stop()
				cleanStart(t, s)
			}
			s.Stop() // before the disk goes
		})
	}
}

// remount changes the flags of a mounted disk.
func (d *disk) remount(flags uintptr) error {
	return syscall.Mount("", d.dir, "", syscall.MS_REMOUNT|flags, "")
}

func (d *disk) writable() {
	d.t.Helper()
	if err := d.remount(0); err != nil {
		d.t.Fatalf("remount the disk writable: %v", err)
	}
}

// remountInStorm turns the disk read-only between two writes, and leaves it so.
func remountInStorm(t *testing.T, d *disk, s *harness.Server, ledger *storm.Ledger) {
	t.Helper()
	d.writable()
	stormy := make(chan error, 1)
	go func() { stormy <- ledger.Run(context.Background(), 4, s.Client) }()
	var err error
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if err = d.remount(syscall.MS_RDONLY); err == nil {
			break
		}
	}
	if err != nil {
		t.Fatalf("remount the disk read-only, in a storm: %v", err)
	}
	if err := <-stormy; err != nil { // it ends when each client was refused
		t.Errorf("during the storm: %v", err)
	}
}

// onlyRead checks that a server on a disk that cannot be written says so and serves what it has.
func onlyRead(t *testing.T, s *harness.Server, base content.Set) {
	t.Helper()
	for range 3 {
		replies := steps(t, s.Client, "readonly/new", content.Random("new", 9000))
		last := replies[len(replies)-1]
		if cleanly(t, last, http.StatusServiceUnavailable); !strings.Contains(string(last.Body), "read-only") {
			t.Errorf("the refusal does not say why: %s", last.Body)
		}
	}
	r, err := s.Do(harness.Call{Method: "DELETE", Path: "/v2/readonly/base/manifests/v"})
	if err != nil {
		t.Fatal(err)
	}
	cleanly(t, r, http.StatusServiceUnavailable)
	if err := s.Verify("readonly/base", base); err != nil {
		t.Errorf("a pull from a read-only disk: %v", err)
	}
	if d, err := s.Resolve("readonly/base", "v"); err != nil || d != base.Top().Digest {
		t.Errorf("a tag on a read-only disk: %q, %v", d, err)
	}
	if r, err := s.Get("/readyz"); err != nil || r.Want(200) != nil {
		t.Errorf("a server that can be pulled from is not ready: %v, %+v", err, r)
	}
	if left := temporaries(t, s.Root); len(left) > 0 {
		t.Errorf("temporary files were left: %q", left)
	}
}
