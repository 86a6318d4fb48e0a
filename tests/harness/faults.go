package harness

import (
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// Lacking ends a test that this machine has not the means for: loudly skipped, or failed where REQUIRE=1 asks for all.
func Lacking(t testing.TB, what string) {
	t.Helper()
	if os.Getenv("REQUIRE") == "1" {
		t.Fatalf("REQUIRE=1, and there is no %s here", what)
	}
	t.Skipf("SKIPPED, NOTHING WAS SHOWN: there is no %s here", what)
}

// Need is [Lacking] unless all the programs are there.
func Need(t testing.TB, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			Lacking(t, p)
		}
	}
}

// Rounds is how often a test of chances is repeated: as ROUNDS says, else the few of a short run.
func Rounds(t testing.TB, short int) int {
	t.Helper()
	text := os.Getenv("ROUNDS")
	if text == "" {
		return short
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("ROUNDS=%q is not a number of rounds", text)
	}
	return n
}

// Seed is of what a test does by chance: what SEED says, else another one each time.
func Seed(t testing.TB) uint64 {
	t.Helper()
	seed := rand.Uint64()
	if text := os.Getenv("SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("SEED=%q is not a number", text)
		}
	}
	t.Logf("SEED=%d", seed)
	return seed
}

// PID is the process that serves.
func (s *Server) PID() int { return s.cmd.Process.Pid }

// Command is another process with the configuration of s and more REGISTRY_… variables. It is not started.
func (s *Server) Command(env ...string) *exec.Cmd {
	cmd := exec.Command(s.binary, "serve", s.config)
	cmd.Env = append(append(environWithout("REGISTRY_"), s.env...), env...)
	return cmd
}

// Doom announces that the process will be killed from outside.
func (s *Server) Doom() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ending = true
}

// Fell reports whether a doomed process was killed by SIGKILL, waiting for it until the limit. One that ended in another
// way fails the test; one that lives is no longer doomed.
func (s *Server) Fell(limit time.Duration) bool {
	s.t.Helper()
	select {
	case err := <-s.exited:
		state := s.cmd.ProcessState
		if status, ok := state.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGKILL {
			s.t.Errorf("the server was to be killed, and ended so: %v", err)
		}
		s.cmd = nil
		return true
	case <-time.After(limit):
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ending = false
	return false
}
