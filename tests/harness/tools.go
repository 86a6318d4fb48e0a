package harness

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
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
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	path := filepath.Join(cache, "berth-tests", o.Name+"-"+o.Version)
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	logf("building %s@%s, which may take minutes", o.Module, o.Version)
	dir, err := os.MkdirTemp("", "build")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	return path, o.build(dir, path)
}

// build makes the program of a module that requires it: `go install` refuses modules whose list of versions it cannot get.
// The program arrives by rename, since other processes may be building it, too.
func (o Tool) build(dir, path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), toolLimit)
	defer cancel()
	part := fmt.Sprintf("%s.%d", path, os.Getpid())
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
