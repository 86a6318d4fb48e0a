// Package faults takes away what the registry stands on, its disk, its room, its calls to the system, its life, and holds
// it to what it acknowledged: tests/storm says what that means.
//
// The tests run in a mount and a process namespace of their own, so that no mount and no process outlives them however
// they end.
package faults

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"berth/tests/harness"
)

// inside marks the process that runs in the namespaces.
const inside = "FAULTS_INSIDE"

func TestMain(m *testing.M) {
	switch {
	case os.Geteuid() != 0:
		os.Exit(m.Run()) // tests that need root say so
	case os.Getenv(inside) == "":
		os.Exit(enter())
	}
	if err := syscall.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		fmt.Fprintln(os.Stderr, "mount /proc for the processes of the tests:", err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// enter runs this program again in namespaces of its own and returns how it ended.
func enter() int {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID, Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	err := cmd.Run()
	var ended *exec.ExitError
	if err != nil && !errors.As(err, &ended) {
		fmt.Fprintln(os.Stderr, "enter namespaces of their own:", err)
		return 1
	}
	return cmd.ProcessState.ExitCode()
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		harness.Lacking(t, "root")
	}
}

// run runs a program that must succeed.
func run(t *testing.T, program string, args ...string) {
	t.Helper()
	if out, err := exec.Command(program, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", program, strings.Join(args, " "), err, out)
	}
}

// A disk is a file system of its own. It is unmounted when the test ends.
type disk struct {
	t       *testing.T
	dir     string   // where it is mounted
	source  []string // the arguments of mount, besides dir
	mounted bool
}

// newDisk makes ext4, xfs or btrfs in a file and mounts it.
func newDisk(t *testing.T, kind string, size int64, options string) *disk {
	t.Helper()
	needRoot(t)
	harness.Need(t, "mount", "umount", "mkfs."+kind)
	image := filepath.Join(t.TempDir(), kind+".img")
	err := os.WriteFile(image, nil, 0o600)
	if err = errors.Join(err, os.Truncate(image, size)); err != nil {
		t.Fatal(err)
	}
	if kind == "ext4" {
		run(t, "mkfs.ext4", "-q", "-m", "0", image)
	} else {
		run(t, "mkfs."+kind, "-q", image)
	}
	return mounted(t, "-t", kind, "-o", "loop,"+options, image)
}

// newTmpfs mounts a tmpfs.
func newTmpfs(t *testing.T, options string) *disk {
	t.Helper()
	needRoot(t)
	harness.Need(t, "mount", "umount")
	return mounted(t, "-t", "tmpfs", "-o", options, "none")
}

func mounted(t *testing.T, source ...string) *disk {
	d := &disk{t: t, dir: t.TempDir(), source: source}
	t.Cleanup(func() {
		if d.mounted {
			d.unmount()
		}
	})
	d.mount()
	return d
}

func (d *disk) mount() {
	d.t.Helper()
	run(d.t, "mount", append(d.source, d.dir)...)
	d.mounted = true
}

func (d *disk) unmount() {
	d.t.Helper()
	run(d.t, "umount", d.dir)
	d.mounted = false
}

// root is the folder of the store on the disk.
func (d *disk) root() string { return filepath.Join(d.dir, "registry") }

// temporaries returns the temporary files that stay in a store, besides those that the server keeps while it runs. One may
// come and go while the server tries whether it can write again.
func temporaries(t *testing.T, root string) (left []string) {
	t.Helper()
	for deadline := time.Now().Add(3 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		files, err := filepath.Glob(filepath.Join(root, "tmp", "*", "*"))
		if err != nil {
			t.Fatal(err)
		}
		left = slices.DeleteFunc(files, func(f string) bool { return filepath.Base(f) == "lock" })
		if len(left) == 0 || time.Now().After(deadline) {
			return left
		}
	}
}

// objects counts the objects in the folders of a folder of a store.
func objects(t *testing.T, root, folder string) int {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, "objects", folder, "*", "*"))
	if err != nil {
		t.Fatal(err)
	}
	return len(files)
}

// cleanStart starts a server again and fails the test unless it comes up without a complaint.
func cleanStart(t *testing.T, s *harness.Server) {
	t.Helper()
	before := len(s.Log())
	s.Restart()
	for line := range bytes.Lines([]byte(s.Log()[before:])) {
		if text := string(line); strings.Contains(text, "level=error") || strings.Contains(text, "level=warning") {
			t.Errorf("the start was not clean: %s", text)
		}
	}
	if left := temporaries(t, s.Root); len(left) > 0 {
		t.Errorf("a start left temporary files of the process before: %q", left)
	}
}
