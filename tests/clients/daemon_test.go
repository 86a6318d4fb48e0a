package clients

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

const (
	daemonStart = 60 * time.Second
	daemonStop  = 30 * time.Second
)

// shortDir makes a folder with a short path, as that of a socket is to be.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "berth")
	must(t, err)
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// daemon runs a program until the test ends, and returns when the client is answered. Its log is in dir.
func daemon(t *testing.T, dir string, cmd *exec.Cmd, client tool) {
	t.Helper()
	log, err := os.Create(filepath.Join(dir, "log"))
	must(t, err)
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	must(t, cmd.Start())
	t.Cleanup(func() { stopDaemon(t, cmd, log.Name()) })
	for end := time.Now().Add(daemonStart); ; time.Sleep(50 * time.Millisecond) {
		if _, err := client.try("version"); err == nil {
			return
		} else if time.Now().After(end) {
			t.Fatalf("%s does not answer: %v", cmd.Path, err)
		}
	}
}

func stopDaemon(t *testing.T, cmd *exec.Cmd, log string) {
	if t.Failed() {
		b, _ := os.ReadFile(log) // it helps, and is not needed
		t.Logf("the end of the log of %s:\n%s", cmd.Path, b[max(0, len(b)-3000):])
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	_ = cmd.Process.Signal(syscall.SIGTERM) // one that ended is waited for all the same
	select {
	case <-done:
	case <-time.After(daemonStop):
		_ = cmd.Process.Kill() // as above
		t.Errorf("%s did not end within %v of SIGTERM", cmd.Path, daemonStop)
	}
}
