package harness

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// A Script is a program that npm installs: the exact version of a package, and the file in it that node runs.
type Script struct{ Package, Version, File string }

// Path returns the file. The package is installed once for a machine, in the cache folder of the user. Where it cannot be had
// the test is [Lacking] it.
func (s Script) Path(t testing.TB) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(cache, "berth-tests", s.Package+"-"+s.Version)
	path := filepath.Join(dir, "node_modules", s.Package, s.File)
	if _, err := os.Stat(path); err == nil {
		return path
	}
	for _, tool := range []string{"node", "npm"} {
		if _, err := exec.LookPath(tool); err != nil {
			Lacking(t, tool+" is missing")
		}
	}
	t.Logf("installing %s@%s, which may take minutes", s.Package, s.Version)
	if err := s.install(dir); err != nil {
		Lacking(t, err.Error())
	}
	return path
}

// install has npm fill a folder, which arrives by rename, since other processes may be doing so, too.
func (s Script) install(dir string) error {
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	part, err := os.MkdirTemp(filepath.Dir(dir), "part-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(part)
	ctx, cancel := context.WithTimeout(context.Background(), toolLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, "npm", "install", "--prefix", part, "--no-audit", "--no-fund", "--ignore-scripts", s.Package+"@"+s.Version)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", s.Package, err, out)
	}
	if err := os.Rename(part, dir); err != nil {
		if _, there := os.Stat(filepath.Join(dir, "node_modules")); there != nil {
			return err
		}
	}
	return nil
}
