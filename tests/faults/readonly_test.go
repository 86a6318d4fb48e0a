package faults

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"berth/tests/content"
	"berth/tests/harness"
	"berth/tests/storm"
)

// TestReadOnlyDisk makes the system turn a disk read-only, as ext4 does by itself when it finds an error: pulls go on,
// pushes are refused, a stop ends well, and when the disk was mended a start is all that it takes.
func TestReadOnlyDisk(t *testing.T) {
	harness.Need(t, "e2fsck")
	disk := newDisk(t, "ext4", 256<<20, "errors=remount-ro")
	s := harness.Start(t, harness.Options{Root: disk.root()})
	base := content.Algorithm(content.Digest).Image("base", content.AMD64(), []int{3000, 400_000}, nil)
	ledger := storm.NewLedger(storm.Options{})
	if err := s.Push("readonly/base", base, "v"); err != nil {
		t.Fatal(err)
	}
	if finished, err := ledger.Script(s.Client); err != nil || !finished {
		t.Fatalf("finished %v, %v", finished, err)
	}
	disk.fail()
	onlyRead(t, s, base)
	s.Stop()
	disk.unmount()
	disk.check()
	disk.mount()
	cleanStart(t, s)
	if err := ledger.Check(s.Client); err != nil {
		t.Error(err)
	}
	if err := s.Push("readonly/base", base, "w"); err != nil {
		t.Error(err)
	}
	s.Stop() // before the disk goes
}

// fail makes ext4 believe that it found an error.
func (d *disk) fail() {
	d.t.Helper()
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		d.t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if f := strings.Fields(line); f[1] == d.dir {
			if err := os.WriteFile(filepath.Join("/sys/fs/ext4", filepath.Base(f[0]), "trigger_fs_error"), []byte("1"), 0); err != nil {
				harness.Lacking(d.t, "way to make ext4 fail: "+err.Error())
			}
			return
		}
	}
	d.t.Fatalf("%s is not mounted", d.dir)
}

// check repairs the file system, which ext4 asks for after an error.
func (d *disk) check() {
	d.t.Helper()
	image := d.source[len(d.source)-1]
	out, err := exec.Command("e2fsck", "-fy", image).CombinedOutput()
	if err != nil && exec.Command("e2fsck", "-fn", image).Run() != nil {
		d.t.Fatalf("e2fsck: %v\n%s", err, out)
	}
}
