// Package tests holds the product to its architecture (docs/design.md): which package may import which.
package tests

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"

	"berth/tests/harness"
)

// layers are the packages of the product from the top down. A package imports only from layers below its own. One that is
// in no layer is an error: say where it stands.
var layers = [][]string{
	{"cmd/*"},
	{"registry/process"},
	{"registry/server"},
	{"registry/server/connection"},
	{"registry/api", "registry/admin"},
	{"registry/gc"},
	{"registry/lease", "registry/observe", "registry/gate", "registry/health"},
	{"registry"},
	{"storage/open", "auth/guard"},
	{"storage/gcs/gcstest"},
	{"storage/cached", "storage/measured", "storage/traced", "storage/storagetest", "storage/remote/remotetest", "storage/probe"},
	{"storage/filesystem", "storage/memory", "storage/s3", "storage/gcs", "storage/azure"},
	{"storage/remote"},
	{"storage"},
	{"storage/filesystem/lock"},
	{"auth/*"},
	{"auth/jwt", "auth/throttle"},
	{"auth", "auth/reload", "auth/recent"},
	{"metrics", "trace"},
	{"configuration"},
	{"configuration/strict", "configuration/schedule"},
}

// reserved says which packages alone may import a library, by the beginning of its path.
var reserved = []struct {
	library string
	within  []string
}{
	{"github.com/aws/", []string{"storage/s3"}},
	{"cloud.google.com/go", []string{"storage/gcs"}},
	{"google.golang.org/api", []string{"storage/gcs"}},
	{"github.com/Azure/", []string{"storage/azure"}},
	{"github.com/gorilla/mux", []string{"registry/server", "registry/api", "registry/admin"}},
	{"github.com/prometheus/", []string{"metrics"}},
	{"go.opentelemetry.io/", []string{"trace"}},
	{"github.com/spf13/", []string{"cmd/*"}},
	{"github.com/sirupsen/logrus", []string{"cmd/*", "registry/*"}},
}

// withoutHTTP are the packages into which net/http does not get, not even by way of another.
var withoutHTTP = []string{"registry", "storage", "storage/filesystem", "storage/memory", "storage/cached",
	"storage/measured", "storage/storagetest", "configuration", "configuration/strict", "registry/gate"}

// testOnly are modules that only tests have a use for, by the beginning of their path.
var testOnly = []string{"berth/tests", "github.com/google/go-containerregistry", "github.com/regclient/", "oras.land/", "github.com/containers/",
	"github.com/docker/docker", "github.com/testcontainers/", "github.com/stretchr/", "github.com/johannesboyne/", "github.com/oauth2-proxy/", "github.com/fsouza/"}

// A pkg is what `go list` tells of a package.
type pkg struct {
	ImportPath    string
	Imports, Deps []string
}

// name is the path below the module.
func (p pkg) name() string { return strings.TrimPrefix(p.ImportPath, "berth/") }

// product lists the packages of the product.
func product(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-deps", "-json=ImportPath,Imports,Deps", "./...")
	cmd.Dir = harness.Root()
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var ours []pkg
	decoder := json.NewDecoder(strings.NewReader(string(out)))
	for {
		var p pkg
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(p.ImportPath, "berth/") {
			ours = append(ours, p)
		}
	}
	if len(ours) < 10 {
		t.Fatalf("only %d packages of the product were found", len(ours))
	}
	return ours
}

// matches reports whether a pattern of path.Match fits the name of a package.
func matches(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		ok, _ := path.Match(pattern, name)
		return ok
	})
}

// layer is the number of the layer of a package, -1 for none; what is named is found before what a pattern fits.
func layer(name string) int {
	if i := slices.IndexFunc(layers, func(l []string) bool { return slices.Contains(l, name) }); i >= 0 {
		return i
	}
	return slices.IndexFunc(layers, func(l []string) bool { return matches(l, name) })
}

func TestLayers(t *testing.T) {
	for _, p := range product(t) {
		from := layer(p.name())
		if from < 0 {
			t.Errorf("%s is in no layer", p.name())
		}
		for _, imported := range p.Imports {
			name, ours := strings.CutPrefix(imported, "berth/")
			if ours && layer(name) <= from {
				t.Errorf("%s imports %s, which is not below it", p.name(), name)
			}
		}
	}
}

// TestNoEmptyLayer finds what layers name and nobody has.
func TestNoEmptyLayer(t *testing.T) {
	ours := product(t)
	for _, pattern := range slices.Concat(layers...) {
		if !slices.ContainsFunc(ours, func(p pkg) bool { return matches([]string{pattern}, p.name()) }) {
			t.Errorf("%s is in a layer, and there is no such package", pattern)
		}
	}
}

func TestLibraries(t *testing.T) {
	for _, p := range product(t) {
		for _, imported := range p.Imports {
			for _, r := range reserved {
				if strings.HasPrefix(imported, r.library) && !matches(r.within, p.name()) {
					t.Errorf("%s imports %s, which is for %s alone", p.name(), imported, strings.Join(r.within, ", "))
				}
			}
		}
		if slices.Contains(withoutHTTP, p.name()) && slices.Contains(p.Deps, "net/http") {
			t.Errorf("%s depends on net/http", p.name())
		}
	}
}

func TestModules(t *testing.T) {
	cmd := exec.Command("go", "mod", "edit", "-json")
	cmd.Dir = harness.Root()
	required, err := cmd.Output()
	if err != nil {
		t.Fatalf("go mod edit: %v", err)
	}
	var mod struct{ Require []struct{ Path string } }
	if err := json.Unmarshal(required, &mod); err != nil {
		t.Fatal(err)
	}
	for _, r := range mod.Require {
		for _, prefix := range testOnly {
			if strings.HasPrefix(r.Path+"/", prefix) {
				t.Errorf("the product requires %s, which is for tests", r.Path)
			}
		}
	}
	if len(mod.Require) == 0 {
		t.Error("the requirements of the product were not found")
	}
}
