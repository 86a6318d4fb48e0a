package faults

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"berth/tests/content"
	"berth/tests/harness"
	"berth/tests/storm"
)

// TestTakeover kills a server in a storm while another process waits for its store, which must then have all that was
// acknowledged. A third that will not wait for long is refused, and says who is in the way.
func TestTakeover(t *testing.T) {
	s := harness.Start(t, harness.Options{})
	ledger := storm.NewLedger(storm.Options{Seed: harness.Seed(t)})
	for round := range harness.Rounds(t, 3) {
		ctx, stop := context.WithCancel(context.Background())
		stormy := make(chan error, 1)
		go func() { stormy <- ledger.Run(ctx, 4, s.Client) }()
		next := launch(t, s, "REGISTRY_STORAGE_FILESYSTEM_LOCKWAIT=1m")
		refused(t, s)
		if next.ready(time.Now()) {
			t.Fatal("two processes serve one store")
		}
		s.Kill()
		stop()
		if err := <-stormy; err != nil {
			t.Errorf("round %d: during the storm: %v", round, err)
		}
		if !next.ready(time.Now().Add(5 * time.Second)) {
			t.Fatalf("round %d: the store was not taken over:\n%s", round, &next.log)
		}
		if err := ledger.Check(next.client); err != nil {
			t.Fatalf("round %d: after the takeover: %v", round, err)
		}
		next.kill()
		cleanStart(t, s)
		if err := ledger.Check(s.Client); err != nil {
			t.Fatalf("round %d: after the second kill: %v", round, err)
		}
	}
}

// A process is one more server of the configuration of another.
type process struct {
	cmd    *exec.Cmd
	client *harness.Client
	log    bytes.Buffer // of the process, to be read when it ended
}

// launch starts a process at an address of its own. It ends with the test.
func launch(t *testing.T, s *harness.Server, env ...string) *process {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	p := &process{cmd: s.Command(append(env, "REGISTRY_HTTP_ADDR="+addr)...), client: harness.NewClient("http://" + addr)}
	p.start(t)
	return p
}

func (p *process) start(t *testing.T) {
	t.Helper()
	p.cmd.Stdout, p.cmd.Stderr = &p.log, &p.log
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.kill)
}

// kill ends the process, which may have ended before.
func (p *process) kill() {
	if p.cmd.ProcessState == nil {
		_ = p.cmd.Process.Kill() // it may be ending by itself
		_ = p.cmd.Wait()
	}
}

// ready reports whether the process serves before a deadline. It listens before it does.
func (p *process) ready(deadline time.Time) bool {
	asked := make(chan bool, 1)
	go func() {
		for {
			r, err := p.client.Get("/readyz")
			serves := err == nil && r.Status == 200
			if serves || time.Now().After(deadline) {
				asked <- serves
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
	}()
	select {
	case ok := <-asked:
		return ok
	case <-time.After(time.Until(deadline) + 100*time.Millisecond):
		return false
	}
}

// refused starts a process that gives up.
func refused(t *testing.T, s *harness.Server) {
	t.Helper()
	p := launch(t, s, "REGISTRY_STORAGE_FILESYSTEM_LOCKWAIT=200ms")
	err := p.cmd.Wait()
	var ended *exec.ExitError
	if !errors.As(err, &ended) || ended.ExitCode() != 1 || !strings.Contains(p.log.String(), fmt.Sprintf("process %d on", s.PID())) {
		t.Errorf("a process that found the store taken: %v\n%s", err, &p.log)
	}
}

// TestKilledWhileStarting kills the server at the system calls of its start, on a store in use and on an empty folder:
// the next start must not mind. ROUNDS bounds how many calls of each kind it gets to make.
func TestKilledWhileStarting(t *testing.T) {
	harness.Need(t, "strace")
	s := harness.Start(t, harness.Options{})
	ledger := storm.NewLedger(storm.Options{Seed: harness.Seed(t)})
	if _, err := ledger.Script(s.Client); err != nil {
		t.Fatal(err)
	}
	empty := harness.Start(t, harness.Options{})
	for _, call := range []string{"openat", "write", "flock", "mkdirat", "renameat2", "renameat", "unlinkat", "fsync", "syncfs", "listen"} {
		t.Run(call, func(t *testing.T) {
			kills := 0
			for n := 1; n <= harness.Rounds(t, 3); n++ {
				expression := fmt.Sprintf("%s:signal=KILL:when=%d", call, n)
				s.Kill()
				if killedStart(t, s, expression) {
					kills++
				}
				cleanStart(t, s)
				empty.Kill()
				clear(t, empty.Root)
				if killedStart(t, empty, expression) {
					kills++
				}
				cleanStart(t, empty)
				if err := empty.Push("a", content.Algorithm(content.Digest).Image("a", content.AMD64(), []int{9}, nil), "v"); err != nil {
					t.Fatalf("%s, on an empty folder: %v", expression, err)
				}
			}
			if err := ledger.Check(s.Client); err != nil {
				t.Errorf("after %s: %v", call, err)
			}
			if kills == 0 {
				t.Errorf("no start ever called %s", call)
			}
			t.Logf("%d starts killed", kills)
		})
	}
}

func clear(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		err = errors.Join(err, os.RemoveAll(filepath.Join(dir, e.Name())))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// killedStart starts a process under an injection, and reports whether that killed it before it was ready.
func killedStart(t *testing.T, s *harness.Server, expression string) bool {
	t.Helper()
	traced := s.Command()
	call, _, _ := strings.Cut(expression, ":")
	args := []string{"-f", "-D", "-q", "-o", "/dev/null", "-e", "trace=" + call, "-e", "inject=" + expression}
	p := &process{cmd: exec.Command("strace", append(args, traced.Args...)...), client: harness.NewClient("http://" + s.Addr)}
	p.cmd.Env = traced.Env
	p.start(t)
	ended := make(chan error, 1)
	go func() { ended <- p.cmd.Wait() }()
	defer func() {
		_ = p.cmd.Process.Kill() // unless it is what was to happen
		<-ended
	}()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		select {
		case err := <-ended:
			ended <- err
			if status, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGKILL {
				t.Errorf("%s: the start ended with %v\n%s", expression, err, &p.log)
			}
			return true
		default:
		}
		if c, err := net.Dial("tcp", s.Addr); err == nil {
			c.Close()
			if p.ready(time.Now().Add(100 * time.Millisecond)) {
				return false
			}
		}
	}
	t.Errorf("%s: the start neither ended nor got anywhere", expression)
	return false
}
