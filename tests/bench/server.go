package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"berth/tests/bench/wire"
)

// A target is a registry to measure.
type target struct {
	name          string
	place         string // what it is set up for, "" as it comes
	binary        string
	config        string                                // with %[1]q for the address and %[2]q for the folder
	arguments     func(address, folder string) []string // in place of a configuration
	environ       []string
	ready         string      // the path that answers 200 once it serves
	tls           *tls.Config // by which it is reached; nil: it speaks plain HTTP
	authorization string      // the credentials with which it is asked; "" for none
	bucket        string      // the folder of the bucket in which its store is, below that of its own folder; "" for none
}

// key tells a target in a place from all others.
func (t target) key() string { return t.name + "/" + t.place }

const (
	berth     = "berth"
	anonymous = "anonymous" // berth, asked without credentials
	floor     = "floor"
	peer      = "docker-registry"
)

const berthConfig = `version: 0.1
storage:
  filesystem:
    rootdirectory: %[2]q
  delete:
    enabled: true
http:
  addr: %[1]q
`

// The peer has the cache that its package configures.
const peerConfig = `version: 0.1
storage:
  cache:
    blobdescriptor: inmemory
  filesystem:
    rootdirectory: %[2]q
  delete:
    enabled: true
http:
  addr: %[1]q
`

// buildTargets builds what is built from here into bin and returns the targets, those in only, all of them if it is empty.
// BERTH_BINARY names a berth to take instead of building it.
func buildTargets(ctx context.Context, bin string, only []string) ([]target, error) {
	all := []target{
		{name: berth, binary: filepath.Join(bin, "berth"), config: berthConfig, ready: "/readyz"},
		{name: floor, binary: filepath.Join(bin, "floor"), arguments: inOrder(), ready: "/v2/"},
		{name: peer, binary: "docker-registry", config: peerConfig, ready: "/v2/"},
	}
	sources := map[string][2]string{berth: {"..", "./cmd/berth"}, floor: {".", "./bench/floor"}}
	if binary := os.Getenv("BERTH_BINARY"); binary != "" {
		all[0].binary = binary
		delete(sources, berth)
	}
	var wanted []target
	for _, t := range all {
		if len(only) > 0 && !slices.Contains(only, t.name) {
			continue
		}
		if source, ok := sources[t.name]; ok {
			build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-tags", "disable_grpc_modules", "-ldflags", "-s -w", "-o", t.binary, source[1])
			build.Dir, build.Env = source[0], append(os.Environ(), "CGO_ENABLED=0")
			if out, err := build.CombinedOutput(); err != nil {
				return nil, fmt.Errorf("build %s: %w\n%s", t.name, err, out)
			}
		} else if _, err := exec.LookPath(t.binary); err != nil {
			return nil, fmt.Errorf("%w (leave it out by -only)", err)
		}
		wanted = append(wanted, t)
	}
	if len(wanted) == 0 {
		return nil, fmt.Errorf("no target is called %v", only)
	}
	return wanted, nil
}

// inOrder are the arguments of the floor: the address, the folder and others.
func inOrder(others ...string) func(address, folder string) []string {
	return func(address, folder string) []string { return append([]string{address, folder}, others...) }
}

// A server is a running target.
type server struct {
	target
	addr string
	dir  string        // its configuration, its log, and its store, which is empty at first
	took time.Duration // from its start until it was ready

	process *os.Process
	exited  chan struct{}
	seeded  map[string]any // what the store has been filled with, by name
}

const startTimeout = 60 * time.Second

// start runs a target over dir and waits until it is ready. It ends with ctx and with this process.
func start(ctx context.Context, t target, dir string) (*server, error) {
	addr, err := freeAddress()
	if err != nil {
		return nil, err
	}
	root := filepath.Join(dir, "store")
	if err := os.MkdirAll(root, 0o755); err != nil {
		return nil, err
	}
	args, err := t.prepare(dir, addr, root)
	if err != nil {
		return nil, err
	}
	log, err := os.OpenFile(filepath.Join(dir, "log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := exec.CommandContext(ctx, t.binary, args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir}, t.environ...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", t.name, err)
	}
	s := &server{target: t, addr: addr, dir: dir, process: cmd.Process, exited: make(chan struct{}), seeded: map[string]any{}}
	go func() {
		cmd.Wait() // how it ended does not matter: it is asked for answers, and it is killed
		close(s.exited)
	}()
	if err := s.awaitReady(began); err != nil {
		s.stop()
		return nil, fmt.Errorf("start %s: %w\n%s", t.name, err, s.lastLog())
	}
	return s, nil
}

// prepare returns the arguments of a target, with its configuration written.
func (t target) prepare(dir, addr, root string) ([]string, error) {
	if t.arguments != nil {
		return t.arguments(addr, root), nil
	}
	file := filepath.Join(dir, "config.yml")
	return []string{"serve", file}, os.WriteFile(file, fmt.Appendf(nil, t.config, addr, root), 0o644)
}

func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

func (s *server) awaitReady(began time.Time) error {
	for {
		err := s.ask(s.ready)
		switch {
		case err == nil:
			s.took = time.Since(began)
			return nil
		case time.Since(began) > startTimeout:
			return err
		}
		select {
		case <-s.exited:
			return errors.New("it ended by itself")
		case <-time.After(200 * time.Microsecond):
		}
	}
}

// dial connects to the server and fails whatever is not done by the deadline.
func (s *server) dial(deadline time.Time) (*wire.Client, error) {
	return wire.Dial(s.addr, s.tls, deadline)
}

// ask sends one GET, which must be answered by 200.
func (s *server) ask(path string) error {
	c, err := s.dial(time.Now().Add(10 * time.Second))
	if err != nil {
		return err
	}
	defer c.Close()
	return c.Do(200, wire.Request{Method: "GET", Path: path}.Head(), nil, nil)
}

// stop ends the server, gently for five seconds, and waits for that.
func (s *server) stop() {
	s.process.Signal(syscall.SIGTERM)
	select {
	case <-s.exited:
		return
	case <-time.After(5 * time.Second):
	}
	s.process.Kill()
	<-s.exited
}

// discard stops the server, and removes its store if that is large. A small one stays until the end: for some minutes
// after many files were removed, ext4 takes several times as long to make a new one, which would be measured next.
func (s *server) discard() error {
	s.stop()
	if s.bucket != "" {
		return removeLarge(filepath.Join(s.bucket, s.dir))
	}
	return removeLarge(s.dir)
}

func removeLarge(dir string) error {
	const large = 512 << 20
	var size int64
	err := filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		if err == nil {
			size += info.Size()
		}
		return err
	})
	if err != nil || size < large {
		return err
	}
	return os.RemoveAll(dir)
}

// lastLog returns the end of the log, and whether the server has ended by itself.
func (s *server) lastLog() []byte {
	ended := ""
	select {
	case <-s.exited:
		ended = "(it has ended)\n"
	default:
	}
	b, err := os.ReadFile(filepath.Join(s.dir, "log"))
	if err != nil {
		return nil
	}
	return append(b[max(0, len(b)-3000):], ended...)
}

// cpu returns the processor time that the server has used, in user and kernel mode: proc_pid_stat(5), in ticks of 10 ms.
func (s *server) cpu() (time.Duration, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.process.Pid))
	if err != nil {
		return 0, err
	}
	// The second field is the name, in parentheses; what follows begins with the third.
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(fields) < 13 {
		return 0, fmt.Errorf("strange stat of process %d", s.process.Pid)
	}
	user, err := strconv.ParseInt(fields[11], 10, 64)
	if err != nil {
		return 0, err
	}
	system, err := strconv.ParseInt(fields[12], 10, 64)
	return time.Duration(user+system) * 10 * time.Millisecond, err
}

// memory returns the resident memory of the server now and at its peak, in bytes.
func (s *server) memory() (now, peak int64, err error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.process.Pid))
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(b)) {
		name, value, _ := strings.Cut(line, ":")
		var n int64
		if name == "VmRSS" || name == "VmHWM" {
			if _, err := fmt.Sscanf(value, "%d kB", &n); err != nil {
				return 0, 0, err
			}
		}
		switch name {
		case "VmRSS":
			now = n * kib
		case "VmHWM":
			peak = n * kib
		}
	}
	return now, peak, nil
}
