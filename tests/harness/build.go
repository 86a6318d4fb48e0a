// Package harness runs the built berth as its users do, a process on 127.0.0.1, and talks to it over HTTP. A server that
// ends by itself, panics or races fails the test that started it.
package harness

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
)

// Root is the folder of the product: the one above the module of the tests.
func Root() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Dir(filepath.Dir(filepath.Dir(file)))
}

var (
	plainBinary = sync.OnceValues(func() (string, error) { return build("berth", "CGO_ENABLED=0") })
	raceBinary  = sync.OnceValues(func() (string, error) { return build("berth-race", "CGO_ENABLED=1", "-race") })
)

// Binary returns the path of the product, built once for each process of tests, or the one that BERTH_BINARY names.
func Binary() (string, error) {
	if path := os.Getenv("BERTH_BINARY"); path != "" {
		return path, nil
	}
	return plainBinary()
}

// RaceBinary is [Binary] under the race detector, or the one that BERTH_RACE_BINARY names. It is [ErrNoCompiler] where
// there is no C compiler.
func RaceBinary() (string, error) {
	if path := os.Getenv("BERTH_RACE_BINARY"); path != "" {
		return path, nil
	}
	if _, err := exec.LookPath("gcc"); err != nil {
		return "", ErrNoCompiler
	}
	return raceBinary()
}

// ErrNoCompiler says that the race detector cannot be linked here.
var ErrNoCompiler = errors.New("the race detector needs gcc")

// build puts the product under tests/bin. It arrives by rename, since other processes of tests may be running it.
func build(name, environ string, flags ...string) (string, error) {
	path := filepath.Join(Root(), "tests", "bin", name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return "", fmt.Errorf("build %s: %w", name, err)
	}
	part := fmt.Sprintf("%s.%d", path, os.Getpid())
	cmd := exec.Command("go", append(append([]string{"build", "-trimpath", "-tags", "disable_grpc_modules", "-o", part}, flags...), "./cmd/berth")...)
	cmd.Dir = Root()
	cmd.Env = append(os.Environ(), environ)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s: %w\n%s", name, err, out)
	}
	if err := os.Rename(part, path); err != nil {
		return "", fmt.Errorf("build %s: %w", name, err)
	}
	return path, nil
}
