package operate

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"berth/tests/harness"
)

// TestUnit has systemd's own tools judge the unit files.
func TestUnit(t *testing.T) {
	harness.Need(t, "systemd-analyze")
	binary, err := harness.Binary()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, name := range []string{"berth.service", "berth.socket"} {
		text, err := os.ReadFile(filepath.Join(harness.Root(), "docs", "packaging", name))
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), "Environment=REGISTRY_") {
			t.Errorf("%s configures the server, so that commands from a shell would not find it", name)
		}
		installed := strings.ReplaceAll(string(text), "/usr/local/bin/berth", binary) // it must be there to be accepted
		if err := os.WriteFile(filepath.Join(dir, name), []byte(installed), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"berth.service", "berth.socket"} {
		out, err := exec.Command("systemd-analyze", "verify", "--man=no", "--recursive-errors=no", filepath.Join(dir, name)).CombinedOutput()
		if err != nil || strings.Contains(string(out), name) {
			t.Errorf("systemd-analyze verify %s: %v\n%s", name, err, out)
		}
	}
	out, err := exec.Command("systemd-analyze", "security", "--offline=yes", "--threshold=20", "--no-pager", filepath.Join(dir, "berth.service")).CombinedOutput()
	if err != nil { // its scale goes to 100, for a unit without any protection
		t.Errorf("systemd-analyze security: %v\n%s", err, out)
	}
	t.Logf("%s", regexp.MustCompile(`Overall exposure.*`).Find(out))
}

// A manager plays systemd's part: it holds the socket, is told how the service is, and starts one process after another.
type manager struct {
	*testing.T
	notify *net.UnixConn
	path   string // of notify
	socket *os.File
	url    string
	config string
	binary string
}

func newManager(t *testing.T) *manager {
	t.Helper()
	binary, err := harness.Binary()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	m := &manager{T: t, binary: binary, path: filepath.Join(dir, "notify"), config: filepath.Join(dir, "config.yml")}
	text := fmt.Sprintf("version: 0.1\nstorage: {filesystem: {rootdirectory: %q}}\nhttp: {addr: '127.0.0.1:1'}\nlog: {accesslog: {disabled: true}}\n", filepath.Join(dir, "store"))
	if err := os.WriteFile(m.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if m.notify, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: m.path, Net: "unixgram"}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.notify.Close() })
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() // the file stays open
	if m.socket, err = l.(*net.TCPListener).File(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.socket.Close() })
	m.url = "http://" + l.Addr().String()
	return m
}

// start starts a process. The shell knows the process id that LISTEN_PID must be.
func (m *manager) start(env ...string) *exec.Cmd {
	m.Helper()
	cmd := exec.Command("sh", "-c", `LISTEN_PID=$$ exec "$0" "$@"`, m.binary, "serve", m.config)
	cmd.Env = append(append(os.Environ(), "LISTEN_FDS=1", "NOTIFY_SOCKET="+m.path), env...)
	cmd.ExtraFiles = []*os.File{m.socket}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		m.Fatal(err)
	}
	m.Cleanup(func() { _ = cmd.Process.Kill() }) // one that ended is no harm
	return cmd
}

// told waits for a message that a pattern fits, passing over those of the watchdog.
func (m *manager) told(pattern string) {
	m.Helper()
	buffer := make([]byte, 4096)
	if err := m.notify.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
		m.Fatal(err)
	}
	for {
		n, err := m.notify.Read(buffer)
		if err != nil {
			m.Fatalf("not told %s: %v", pattern, err)
		}
		text := string(buffer[:n])
		if regexp.MustCompile("^(?:" + pattern + ")$").MatchString(text) {
			return
		}
		if text != "WATCHDOG=1" {
			m.Fatalf("told %q, not %s", text, pattern)
		}
	}
}

// end waits for a process that was told to end.
func (m *manager) end(cmd *exec.Cmd) {
	m.Helper()
	if err := cmd.Wait(); err != nil {
		m.Errorf("the process ended so: %v", err)
	}
}

// TestSupervised plays systemd's part: readiness, watchdog, reload, stop, and a restart under load behind a socket that stays.
func TestSupervised(t *testing.T) {
	m := newManager(t)
	cmd := m.start("WATCHDOG_USEC=200000")
	m.told("READY=1")
	for range 3 {
		m.told("WATCHDOG=1")
	}
	const reloading = `RELOADING=1\nMONOTONIC_USEC=[1-9][0-9]+`
	if err := cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	m.told(reloading)
	m.told("READY=1")
	if out, err := exec.Command(m.binary, "reload", "--config", m.config).CombinedOutput(); err != nil {
		t.Fatalf("reload: %v %s", err, out)
	}
	m.told(reloading)
	m.told("READY=1")

	ctx, stop := context.WithCancel(t.Context())
	var served, running = atomic.Int64{}, sync.WaitGroup{}
	for range 8 {
		running.Go(func() { m.ask(ctx, &served) })
	}
	for range 5 {
		before := served.Load()
		for deadline := time.Now().Add(20 * time.Second); served.Load() < before+50 && time.Now().Before(deadline); {
			time.Sleep(5 * time.Millisecond)
		}
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		m.told("STOPPING=1")
		m.end(cmd)
		cmd = m.start()
		m.told("READY=1")
	}
	stop()
	running.Wait()
	if n := served.Load(); n < 250 {
		t.Errorf("only %d requests were served", n)
	}
	t.Logf("%d requests over 5 restarts, none refused", served.Load())
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	m.told("STOPPING=1")
	m.end(cmd)
}

// ask asks over and over, each time by a new connection, none of which may be refused or cut.
func (m *manager) ask(ctx context.Context, served *atomic.Int64) {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Minute}
	for ctx.Err() == nil {
		r, err := client.Get(m.url + "/v2/")
		if err != nil {
			m.Errorf("a request failed: %v", err)
			return
		}
		_, _ = io.Copy(io.Discard, r.Body) // its length is in the status that follows
		r.Body.Close()
		if r.StatusCode != http.StatusOK {
			m.Errorf("a request was answered %s", r.Status)
			return
		}
		served.Add(1)
	}
}
