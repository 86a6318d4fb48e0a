package harness

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// toolLimit bounds the building of one tool.
const toolLimit = 30 * time.Minute

// A Tool is a program that the Go toolchain builds: the exact version of a module, and the folder of its program.
type Tool struct{ Name, Module, Version, Program string }

// Path returns the program. It is built once for a machine: what a run has built, the next ones find in the cache folder of
// the user. Where it cannot be built the test is [Lacking] it.
func (o Tool) Path(t testing.TB) string {
	t.Helper()
	path, err := o.Get(t.Logf)
	if err != nil {
		Lacking(t, err.Error())
	}
	return path
}

// Get is [Tool.Path] outside of tests. It announces through logf that it builds.
func (o Tool) Get(logf func(format string, args ...any)) (string, error) {
	return cached(o.Name+"-"+o.Version, func(path string) error {
		logf("building %s@%s, which may take minutes", o.Module, o.Version)
		dir, err := os.MkdirTemp("", "build")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		return o.build(dir, path)
	})
}

// cached returns the path of a name in the cache folder of the user. What is not there yet one process prepares, while others
// wait for it.
func cached(name string, prepare func(path string) error) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	path := filepath.Join(cache, "berth-tests", name)
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return "", err
	}
	lock, err := os.Create(path + ".lock")
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return "", fmt.Errorf("lock %s: %w", lock.Name(), err)
	}
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	return path, prepare(path)
}

// build makes the program of a module that requires it: `go install` refuses modules whose list of versions it cannot get.
// The program arrives by rename: one that was cut short is not there.
func (o Tool) build(dir, path string) error {
	ctx, cancel := context.WithTimeout(context.Background(), toolLimit)
	defer cancel()
	part := path + ".part"
	for _, args := range [][]string{
		{"mod", "init", "wrapper"},
		{"mod", "edit", "-require=" + o.Module + "@" + o.Version},
		{"build", "-trimpath", "-ldflags", "-s -w", "-o", part, strings.TrimSuffix(o.Module+"/"+o.Program, "/")},
	} {
		cmd := exec.CommandContext(ctx, "go", args...)
		cmd.Dir, cmd.Env = dir, append(os.Environ(), "GOFLAGS=-mod=mod", "GOWORK=off", "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w\n%s", o.Module, err, out)
		}
	}
	return os.Rename(part, path)
}
