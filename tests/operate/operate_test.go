// Package operate has the commands for a server that runs tried with the binary: over kills, restarts and other users.
package operate

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
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

	"berth/tests/content"
	"berth/tests/harness"
)

// ask runs a command for a server and returns what it prints, and whether it exits with 0.
func ask(t *testing.T, s *harness.Server, args ...string) (string, bool) {
	t.Helper()
	cmd := s.Command()
	serve := cmd.Args // the binary, serve, and the configuration
	cmd.Args = append(append([]string{serve[0]}, args...), "--config", serve[2])
	return run(t, cmd)
}

func run(t *testing.T, cmd *exec.Cmd) (string, bool) {
	t.Helper()
	out, err := cmd.CombinedOutput()
	if exit := (*exec.ExitError)(nil); err != nil && !(errors.As(err, &exit) && exit.ExitCode() == 1) {
		t.Fatalf("%q: %v: %s", cmd.Args, err, out)
	}
	return string(out), err == nil
}

// want asks that a command exit with 0, or with 1, and print what a pattern says.
func want(t *testing.T, s *harness.Server, ok bool, pattern string, args ...string) {
	t.Helper()
	if out, did := ask(t, s, args...); did != ok || !regexp.MustCompile(pattern).MatchString(out) {
		t.Errorf("berth %q: %t, %s; want %t, %q", args, did, out, ok, pattern)
	}
}

// TestKills: a killed server leaves a socket that nobody answers, and that the next one replaces.
func TestKills(t *testing.T) {
	s := harness.Start(t, harness.Options{})
	socket := filepath.Join(s.Root, "admin", "socket")
	for range 5 {
		want(t, s, true, fmt.Sprintf(`process +%d,`, s.PID()), "status")
		s.Kill()
		if info, err := os.Lstat(socket); err != nil || info.Mode() != fs.ModeSocket|0o600 {
			t.Fatalf("the socket of a killed server: %v, %v", info, err)
		}
		want(t, s, false, "^berth: status: no server answers: the one that made the socket .* is gone\nberth: start the server", "status")
		s.Restart()
	}
	s.Stop()
	if _, err := os.Lstat(socket); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket of a stopped server: %v", err)
	}
	want(t, s, false, "there is no socket", "status")
	s.Restart()
}

// TestSecondServer: a server with a socket that another one serves does not start, and takes nothing from it.
func TestSecondServer(t *testing.T) {
	s := harness.Start(t, harness.Options{})
	other := s.Command("REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY="+t.TempDir(), "REGISTRY_HTTP_ADDR=127.0.0.1:0",
		"REGISTRY_HTTP_ADMIN_SOCKET="+filepath.Join(s.Root, "admin", "socket"))
	if out, ok := run(t, other); ok || !strings.Contains(out, "REGISTRY_HTTP_ADMIN_SOCKET: http.admin.socket: ") || !strings.Contains(out, "another server listens there") {
		t.Errorf("the second server: %t, %s", ok, out)
	}
	want(t, s, true, fmt.Sprintf(`process +%d,`, s.PID()), "status")
}

// pushers push an image again and again, each time with another tag.
type pushers struct {
	*testing.T
	server  *harness.Server
	set     content.Set
	refuses atomic.Bool // a command has switched the mode on, and none is about to switch it off

	mu           sync.Mutex
	acknowledged []string
	refused      int // pushes that began and ended while refuses
}

func (p *pushers) push(tag string) {
	began := p.refuses.Load()
	err := p.server.Push("team/app", p.set, tag)
	ended := p.refuses.Load()
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case err == nil && began && ended:
		p.Errorf("the push of %s is acknowledged in read-only mode", tag)
	case err == nil:
		p.acknowledged = append(p.acknowledged, tag)
	case began && ended:
		p.refused++
	case !strings.Contains(err.Error(), "405"):
		p.Error(err)
	}
}

// counts returns how many pushes were acknowledged and refused.
func (p *pushers) counts() (acknowledged, refused int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.acknowledged), p.refused
}

// await waits until a count has grown.
func (p *pushers) await(what string, count func() int) {
	p.Helper()
	for before, end := count(), time.Now().Add(30*time.Second); count() < before+10; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			p.Fatalf("no more pushes are %s", what)
		}
	}
}

// TestReadOnlyUnderPushes: no push that begins after the switch is acknowledged, all that were are there, and they go on when
// the mode is off again. A restart ends it.
func TestReadOnlyUnderPushes(t *testing.T) {
	s := harness.Start(t, harness.Options{})
	p := &pushers{T: t, server: s, set: content.Algorithm(content.Digest).Image("operate", content.AMD64(), []int{64 << 10, 1 << 20}, nil)}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	for worker := range 4 {
		running.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				p.push(fmt.Sprintf("w%d-%d", worker, n))
			}
		})
	}
	for range 3 {
		p.await("acknowledged", func() int { n, _ := p.counts(); return n })
		want(t, s, true, "^read-only: on", "readonly", "on")
		p.refuses.Store(true)
		p.await("refused", func() int { _, n := p.counts(); return n })
		want(t, s, true, "^reloaded: no key has changed\nread-only: on, switched", "reload")
		p.await("refused", func() int { _, n := p.counts(); return n })
		p.refuses.Store(false)
		want(t, s, true, "^read-only: off\n", "readonly", "off")
	}
	cancel()
	running.Wait()
	for _, tag := range p.acknowledged {
		if _, err := s.Resolve("team/app", tag); err != nil {
			t.Errorf("the tag %s was acknowledged: %v", tag, err)
		}
	}
	if err := s.Verify("team/app", p.set); err != nil {
		t.Error(err)
	}
	want(t, s, true, "^read-only: on", "readonly", "on")
	s.Kill()
	s.Restart()
	want(t, s, true, "^read-only: off\n", "readonly", "status")
}

// TestOtherUsers: root reaches a server of another user, and a third user does not.
func TestOtherUsers(t *testing.T) {
	if os.Geteuid() != 0 {
		harness.Lacking(t, "root")
	}
	const user, third = 65534, 65533
	dir, err := os.MkdirTemp("/var/tmp", "berth")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	built, err := harness.Binary()
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(built)
	if err != nil {
		t.Fatal(err)
	}
	binary, config, home := filepath.Join(dir, "berth"), filepath.Join(dir, "config.yml"), filepath.Join(dir, "home")
	err = errors.Join(os.Chmod(dir, 0o755), os.WriteFile(binary, program, 0o755), os.Mkdir(home, 0o755), os.Chown(home, user, user),
		os.WriteFile(config, []byte("version: 0.1\nstorage: {filesystem: {rootdirectory: "+home+"/store}}\nhttp: {addr: '127.0.0.1:0', admin: {socket: "+home+"/socket}}\n"), 0o644))
	if err != nil {
		t.Fatal(err)
	}
	as := func(uid uint32, args ...string) *exec.Cmd {
		cmd := exec.Command(binary, args...)
		cmd.Dir, cmd.Env = dir, []string{}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
		return cmd
	}
	server := as(user, "serve", config)
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := errors.Join(server.Process.Signal(syscall.SIGTERM), server.Wait()); err != nil {
			t.Errorf("the server: %v", err)
		}
	}()
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if out, ok := run(t, as(0, "status", "--config", config)); ok {
			break
		} else if time.Now().After(end) {
			t.Fatalf("root does not reach the server: %s", out)
		}
	}
	if out, ok := run(t, as(user, "readonly", "on", "--config", config)); !ok || !strings.Contains(out, "read-only: on") {
		t.Errorf("its user: %t, %s", ok, out)
	}
	out, ok := run(t, as(third, "readonly", "off", "--config", config))
	if ok || !strings.Contains(out, "can be opened by the user that the server runs as and by root: run this command as one of them") {
		t.Errorf("a third user: %t, %s", ok, out)
	}
	if err := os.Chmod(home+"/socket", 0o666); err != nil {
		t.Fatal(err)
	}
	if out, ok = run(t, as(third, "readonly", "off", "--config", config)); ok || !strings.Contains(out, "access denied: only root and the user number 65534 may, not 65533") {
		t.Errorf("a third user, who can open the socket: %t, %s", ok, out)
	}
}
