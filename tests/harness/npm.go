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
	dir, err := cached(s.Package+"-"+s.Version, func(dir string) error {
		for _, tool := range []string{"node", "npm"} {
			if _, err := exec.LookPath(tool); err != nil {
				return fmt.Errorf("%s is missing", tool)
			}
		}
		t.Logf("installing %s@%s, which may take minutes", s.Package, s.Version)
		return s.install(dir)
	})
	if err != nil {
		Lacking(t, err.Error())
	}
	return filepath.Join(dir, "node_modules", s.Package, s.File)
}

// install has npm fill a folder, which arrives by rename: one that was cut short is not there.
func (s Script) install(dir string) error {
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
	return os.Rename(part, dir)
}
