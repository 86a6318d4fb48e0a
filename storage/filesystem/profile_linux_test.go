package filesystem

import (
	"errors"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"berth/storage"
)

// TestProfile puts objects where a seccomp profile refuses sync_file_range: they are synced then. A filter stays for good, so a
// process of its own gets it.
func TestProfile(t *testing.T) {
	const child = "PROFILE_CHILD"
	if os.Getenv(child) == "" {
		program, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		c := exec.Command(program, "-test.run=^TestProfile$")
		c.Env = append(os.Environ(), child+"=yes")
		if out, err := c.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	refuse(t, unix.SYS_SYNC_FILE_RANGE, unix.EPERM)
	if err := unix.SyncFileRange(0, 0, 0, 0); !errors.Is(err, unix.EPERM) {
		t.Fatalf("the filter lets sync_file_range return %v", err)
	}
	sys := &faulty{}
	d := start(t, Options{}, kindFilesystem, sys)
	d.traits = traits{orders: true, syncsWhole: true}
	d.syncer.traits = d.traits
	for key, size := range map[string]int{"small": 1, "large": 2*writeback + 1} {
		before := sys.syncs.Load()
		put(t, d, key, strings.Repeat("x", size), storage.Absent())
		if n := sys.syncs.Load() - before; n < 2 {
			t.Errorf("a %s object was put with %d syncs", key, n)
		}
	}
}

// refuse has the system answer a call with an error from now on.
func refuse(t *testing.T, call uint32, with syscall.Errno) {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0}, // the number of the call
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 1, K: call},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(with)},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&program)))
	if errno != 0 {
		t.Fatal(errno)
	}
}
