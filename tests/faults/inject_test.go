package faults

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"berth/tests/harness"
)

// An injection makes system calls of a running server fail, or end it, until it is taken away.
type injection struct {
	t    *testing.T
	cmd  *exec.Cmd
	log  string
	gone chan struct{}
}

// inject begins one. The expression is that of strace's option inject, which counts the calls of each thread by itself.
// With paths, only calls that concern those are meant.
func inject(t *testing.T, s *harness.Server, expression string, paths ...string) *injection {
	t.Helper()
	harness.Need(t, "strace")
	call, _, _ := strings.Cut(expression, ":")
	i := &injection{t: t, log: filepath.Join(t.TempDir(), "calls"), gone: make(chan struct{})}
	args := []string{"-f", "-q", "-o", i.log, "-p", strconv.Itoa(s.PID()), "-e", "trace=" + call, "-e", "inject=" + expression}
	for _, p := range paths {
		args = append(args, "-P", p)
	}
	i.cmd = exec.Command("strace", args...)
	i.cmd.Stderr = os.Stderr
	if err := i.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = i.cmd.Wait() // it was interrupted, or what it watched is gone
		close(i.gone)
	}()
	t.Cleanup(i.end)
	for deadline := time.Now().Add(10 * time.Second); !attached(s.PID()); {
		select {
		case <-i.gone:
			harness.Lacking(t, "right to trace a process")
		case <-time.After(2 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			t.Fatal("strace did not attach")
		}
	}
	return i
}

// attached reports whether every thread of a process is traced.
func attached(pid int) bool {
	files, err := filepath.Glob("/proc/" + strconv.Itoa(pid) + "/task/*/status")
	if err != nil || len(files) == 0 {
		return false
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err == nil && strings.Contains(string(text), "TracerPid:\t0\n") {
			return false
		}
	}
	return true
}

// end takes the injection away.
func (i *injection) end() {
	_ = i.cmd.Process.Signal(syscall.SIGINT) // it may have ended with what it watched
	<-i.gone
}

// fired reports whether a call was made to fail.
func (i *injection) fired() bool {
	text, err := os.ReadFile(i.log)
	if err != nil {
		i.t.Fatal(err)
	}
	return strings.Contains(string(text), "INJECTED")
}
