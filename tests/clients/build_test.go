package clients

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"berth/tests/harness"
)

// buildLimit bounds the building of one client: the largest takes seven minutes of two processors.
const buildLimit = 30 * time.Minute

// A source is where a client written in Go is from: the exact version of a module, and the folder of its program.
type source struct{ module, version, program string }

// sources are the clients that the Go toolchain builds.
var sources = map[string]source{
	"crane":    {"github.com/google/go-containerregistry", "v0.22.1", "cmd/crane"},
	"regctl":   {"github.com/regclient/regclient", "v0.11.7", "cmd/regctl"},
	"oras":     {"oras.land/oras", "v1.2.3", "cmd/oras"},
	"helm":     {"helm.sh/helm/v3", "v3.22.0", "cmd/helm"},
	"cosign":   {"github.com/sigstore/cosign/v3", "v3.1.3", "cmd/cosign"},
	"notation": {"github.com/notaryproject/notation", "v1.3.2", "cmd/notation"},
}

// installed returns a client written in Go. It is built once for a machine: what a run has built, the next ones find in the
// cache folder of the user.
func installed(t *testing.T, name string) tool {
	t.Helper()
	cache, err := os.UserCacheDir()
	must(t, err)
	dir := filepath.Join(cache, "berth-tests")
	must(t, os.MkdirAll(dir, 0o755))
	path := filepath.Join(dir, name+"-"+sources[name].version)
	if _, err := os.Stat(path); err != nil {
		sources[name].build(t, path)
	}
	return tool{T: t, path: path}
}

// build makes a program of a module that requires it: `go install` refuses modules whose list of versions it cannot get. The
// program arrives by rename, since other processes may be building it, too.
func (s source) build(t *testing.T, path string) {
	t.Helper()
	t.Logf("building %s@%s, which may take minutes", s.module, s.version)
	part := fmt.Sprintf("%s.%d", path, os.Getpid())
	compiler := tool{T: t, path: "go", dir: t.TempDir(), limit: buildLimit, env: []string{"GOFLAGS=-mod=mod", "GOWORK=off", "CGO_ENABLED=0"}}
	for _, args := range [][]string{
		{"mod", "init", "wrapper"},
		{"mod", "edit", "-require=" + s.module + "@" + s.version},
		{"build", "-trimpath", "-ldflags", "-s -w", "-o", part, s.module + "/" + s.program},
	} {
		if _, err := compiler.try(args...); err != nil {
			harness.Lacking(t, s.module+": "+err.Error())
		}
	}
	must(t, os.Rename(part, path))
}
