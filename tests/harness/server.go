package harness

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const (
	startLimit = 30 * time.Second
	stopLimit  = 30 * time.Second
)

// Options describe a server. The zero value is a fresh one on the filesystem, with deletes enabled.
type Options struct {
	Storage string   // the driver: filesystem (the default), inmemory, emptydir, or s3 or azure with its keys in Env
	Root    string   // the folder of the store; a temporary one when empty
	Env     []string // REGISTRY_… variables over the generated configuration
	Race    bool     // under the race detector, where it can be had
	TLS     string   // the folder of what `berth tls self-signed` wrote, to serve HTTPS with
	Config  string   // more sections of the configuration, in YAML
}

// A Server is one address and one store, served by one process after another.
type Server struct {
	Addr string // host and port
	Root string // of the store, "" in memory
	*Client

	t      testing.TB
	binary string
	config string
	base   string // of the configuration, without Options.Config
	env    []string
	log    logBuffer
	cmd    *exec.Cmd
	exited chan error
	mu     sync.Mutex
	ending bool // the process was told to end
}

// Start runs a server until the test ends. Whatever goes wrong with it fails the test.
func Start(t testing.TB, o Options) *Server {
	t.Helper()
	s := &Server{t: t, Root: o.Root, env: o.Env, binary: findBinary(t, o.Race)}
	if o.Storage == "" {
		o.Storage = "filesystem"
	}
	if s.Root == "" && hasFolder(o.Storage) {
		s.Root = t.TempDir()
	}
	s.Addr = FreeAddr(t)
	s.Client = NewClient("http://" + s.Addr)
	if o.TLS != "" {
		s.secure(o.TLS)
	}
	s.config = filepath.Join(t.TempDir(), "config.yml")
	s.base = configuration(o.Storage, s.Root, s.Addr)
	s.configure(o.Config)
	s.launch()
	t.Cleanup(s.end)
	return s
}

// configure writes the configuration, with more sections.
func (s *Server) configure(more string) {
	s.t.Helper()
	if err := os.WriteFile(s.config, []byte(s.base+more), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// Reconfigure has the server read its configuration again, with other sections in place of those of [Options], and waits
// until it says something of that in its log.
func (s *Server) Reconfigure(more, says string) {
	s.t.Helper()
	s.configure(more)
	said := func() int { return strings.Count(s.Log(), says) }
	before := said()
	if err := s.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		s.t.Fatal(err)
	}
	for deadline := time.Now().Add(startLimit); said() == before; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			s.t.Fatalf("the server does not say %q\n%s", says, s.Log())
		}
	}
}

func findBinary(t testing.TB, race bool) string {
	t.Helper()
	if race {
		binary, err := RaceBinary()
		if err == nil {
			return binary
		}
		if !errors.Is(err, ErrNoCompiler) {
			t.Fatal(err)
		}
		t.Logf("WITHOUT THE RACE DETECTOR: %v", err)
	}
	binary, err := Binary()
	if err != nil {
		t.Fatal(err)
	}
	return binary
}

// hasFolder reports whether a driver keeps its store in a folder of this machine.
func hasFolder(driver string) bool { return driver == "filesystem" || driver == "emptydir" }

func configuration(driver, root, addr string) string {
	place := " {}"
	if hasFolder(driver) {
		place = fmt.Sprintf("\n    rootdirectory: %q", root)
	}
	return fmt.Sprintf(`version: 0.1
log:
  accesslog:
    disabled: true
storage:
  %s:%s
  delete:
    enabled: true
http:
  addr: %s
  draintimeout: 10s
`, driver, place, addr)
}

// launch starts a process and waits until it is ready.
func (s *Server) launch() {
	s.t.Helper()
	s.cmd = exec.Command(s.binary, "serve", s.config)
	s.cmd.Env = append(environWithout("REGISTRY_"), s.env...)
	s.cmd.Stdout, s.cmd.Stderr = &s.log, &s.log
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.mu.Lock()
	s.ending = false
	s.mu.Unlock()
	s.exited = make(chan error, 1)
	go s.watch(s.cmd, s.exited)
	deadline := time.Now().Add(startLimit)
	for !s.ready() {
		select {
		case err := <-s.exited:
			s.exited <- err
			s.t.Fatalf("the server ended while starting: %v\n%s", err, s.Log())
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("the server was not ready after %v\n%s", startLimit, s.Log())
		}
	}
}

func environWithout(prefix string) []string {
	var kept []string
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, prefix) {
			kept = append(kept, v)
		}
	}
	return kept
}

func (s *Server) ready() bool {
	r, err := s.Get("/readyz")
	return err == nil && r.Status == http.StatusOK
}

// secure has the server speak TLS, and the client trust the authority that is in the folder too.
func (s *Server) secure(dir string) {
	s.t.Helper()
	s.env = append(s.env, "REGISTRY_HTTP_TLS_CERTIFICATE="+filepath.Join(dir, "tls.crt"), "REGISTRY_HTTP_TLS_KEY="+filepath.Join(dir, "tls.key"))
	ca, err := os.ReadFile(filepath.Join(dir, "ca.crt"))
	roots := x509.NewCertPool()
	if err != nil || !roots.AppendCertsFromPEM(ca) {
		s.t.Fatalf("read the authority in %s: %v", dir, err)
	}
	s.Client = NewClient("https://" + s.Addr)
	s.http.Transport.(*http.Transport).TLSClientConfig = &tls.Config{RootCAs: roots}
}

// watch fails the test when the process ends without having been told to.
func (s *Server) watch(cmd *exec.Cmd, exited chan<- error) {
	err := cmd.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ending {
		s.t.Errorf("the server ended by itself: %v", err)
	}
	exited <- err
}

// signal sends sig and returns how the process ended.
func (s *Server) signal(sig syscall.Signal) error {
	s.t.Helper()
	s.mu.Lock()
	s.ending = true
	s.mu.Unlock()
	if err := s.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		s.t.Errorf("signal the server: %v", err)
	}
	select {
	case err := <-s.exited:
		s.cmd = nil
		return err
	case <-time.After(stopLimit):
		_ = s.cmd.Process.Kill() // it is about to be reported
		s.t.Errorf("the server did not end within %v of %v", stopLimit, sig)
		s.cmd = nil
		return nil
	}
}

// Stop ends the process with SIGTERM, which must end well.
func (s *Server) Stop() {
	s.t.Helper()
	if err := s.signal(syscall.SIGTERM); err != nil {
		s.t.Errorf("the server ended badly after SIGTERM: %v", err)
	}
}

// Kill ends the process with SIGKILL.
func (s *Server) Kill() {
	s.t.Helper()
	_ = s.signal(syscall.SIGKILL) // killed is what it is to be
}

// Restart serves the same store at the same address with a new process, after [Server.Stop] or [Server.Kill].
func (s *Server) Restart() {
	s.t.Helper()
	s.CloseIdle()
	s.launch()
}

// Log returns all that the processes wrote.
func (s *Server) Log() string { return s.log.String() }

// end stops the process and looks for what no log may have.
func (s *Server) end() {
	if s.cmd != nil {
		s.Stop()
	}
	log := s.Log()
	for _, bad := range []string{"DATA RACE", "panic:", "panic serving", "fatal error:"} {
		if at := strings.Index(log, bad); at >= 0 {
			s.t.Errorf("the log has %q:\n%s", bad, log[at:min(len(log), at+4000)])
		}
	}
	if s.t.Failed() {
		s.t.Logf("the end of the server's log:\n%s", log[max(0, len(log)-4000):])
	}
}

// A logBuffer collects what a process writes.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
