// Package clients tries the built registry with the clients that people have. What they push and pull is compared digest
// by digest. A client that is not there is skipped, loudly; with REQUIRE=1 in the environment it is a failure.
package clients

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"berth/tests/content"
	"berth/tests/harness"
)

// commandLimit bounds one run of a client, unless it says otherwise.
const commandLimit = 3 * time.Minute

// A tool is a client program with the flags that keep it to its own folders.
type tool struct {
	*testing.T
	path  string
	flags []string // before the subcommand
	env   []string
	dir   string // to run in, "" for that of the tests
	stdin string
	limit time.Duration // of one run, 0 for commandLimit
}

// find returns the first of the programs that is there. Without one the test is skipped, or fails with REQUIRE=1.
func find(t *testing.T, names ...string) tool {
	t.Helper()
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return tool{T: t, path: path}
		}
	}
	harness.Lacking(t, strings.Join(names, " or "))
	return tool{}
}

// needRoot ends a test of an engine that only root can run.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		harness.Lacking(t, "root, which engines are run as")
	}
}

// with returns the tool for a subtest.
func (c tool) with(t *testing.T) tool {
	c.T = t
	return c
}

// try runs the tool and returns what it wrote to its standard output.
func (c tool) try(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), cmp.Or(c.limit, commandLimit))
	defer cancel()
	cmd := exec.CommandContext(ctx, c.path, append(append([]string(nil), c.flags...), args...)...)
	cmd.Env, cmd.Dir = append(os.Environ(), c.env...), c.dir
	cmd.Stdin = strings.NewReader(c.stdin)
	cmd.WaitDelay = time.Second // a child may keep the pipes open
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return out.String(), errors.New(filepath.Base(c.path) + " " + strings.Join(args, " ") + ": " + err.Error() + "\n" + out.String() + errs.String())
	}
	return out.String(), nil
}

// run runs the tool, which must succeed, and returns its standard output without the space around it.
func (c tool) run(args ...string) string {
	c.Helper()
	out, err := c.try(args...)
	if err != nil {
		c.Fatal(err)
	}
	return strings.TrimSpace(out)
}

// serve runs a registry for a test.
func serve(t *testing.T) *harness.Server { return harness.Start(t, harness.Options{}) }

// must ends the test on an error.
func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// push puts a set into the registry by bare HTTP.
func push(t *testing.T, s *harness.Server, repo string, set content.Set, tags ...string) {
	t.Helper()
	must(t, s.Push(repo, set, tags...))
}

// layout writes a set as an OCI layout and returns its folder.
func layout(t *testing.T, ref string, set content.Set) string {
	t.Helper()
	dir := t.TempDir()
	must(t, content.WriteLayout(dir, ref, set))
	return dir
}

// sameLayout asks that the layout in dir have every blob and manifest of the set, byte for byte.
func sameLayout(t *testing.T, dir string, set content.Set) {
	t.Helper()
	all := map[string][]byte{}
	for _, b := range set.Blobs {
		all[b.Digest] = b.Bytes
	}
	for _, m := range set.Manifests {
		all[m.Digest] = m.Bytes
	}
	for digest, want := range all {
		if got, err := content.ReadLayoutBlob(dir, digest); err != nil {
			t.Errorf("%s was not pulled: %v", digest, err)
		} else if !bytes.Equal(got, want) {
			t.Errorf("%s was pulled as %d bytes that are not the %d pushed", digest, len(got), len(want))
		}
	}
}

// walk pulls a manifest and all below it, compares every digest, and returns the digests by media type.
func walk(t *testing.T, c *harness.Client, repo, reference string) (digest string, below map[string][]string) {
	t.Helper()
	digest, err := c.Resolve(repo, reference)
	must(t, err)
	below = map[string][]string{}
	var visit func(digest string)
	visit = func(digest string) {
		body, err := c.PullManifest(repo, digest)
		must(t, err)
		var doc struct {
			Config            *content.Descriptor
			Layers, Manifests []content.Descriptor
		}
		must(t, json.Unmarshal(body, &doc))
		blobs := doc.Layers
		if doc.Config != nil {
			blobs = append(blobs, *doc.Config)
		}
		for _, d := range blobs {
			b, err := c.PullBlob(repo, d.Digest)
			if must(t, err); len(b) != d.Size {
				t.Errorf("%s has %d bytes, its descriptor says %d", d.Digest, len(b), d.Size)
			}
			below[d.MediaType] = append(below[d.MediaType], d.Digest)
		}
		for _, d := range doc.Manifests {
			below[d.MediaType] = append(below[d.MediaType], d.Digest)
			visit(d.Digest)
		}
	}
	visit(digest)
	return digest, below
}

// equal compares two texts.
func equal(t *testing.T, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s is %q, not %q", what, got, want)
	}
}

// buildContext makes a folder from which any engine builds an image of two layers out of nothing.
func buildContext(t *testing.T, size int) string {
	t.Helper()
	dir := t.TempDir()
	for name, b := range map[string][]byte{
		"Dockerfile": []byte("FROM scratch\nCOPY large /large\nCOPY small /small\nCMD [\"/small\"]\n"),
		"large":      content.Random(t.Name(), size).Bytes,
		"small":      []byte("small\n"),
	} {
		must(t, os.WriteFile(filepath.Join(dir, name), b, 0o644))
	}
	return dir
}

// deleted deletes a manifest of the registry and asks that it be gone.
func deleted(t *testing.T, s *harness.Server, repo, digest string) {
	t.Helper()
	r, err := s.Do(harness.Call{Method: "DELETE", Path: "/v2/" + repo + "/manifests/" + digest})
	must(t, err)
	must(t, r.Want(202))
	r, err = s.Get("/v2/" + repo + "/manifests/" + digest)
	must(t, err)
	must(t, r.Want(404))
}

// tags lists the tags of a repository, with spaces between them.
func tags(t *testing.T, c *harness.Client, repo string) string {
	t.Helper()
	var list struct{ Tags []string }
	get(t, c, "/v2/"+repo+"/tags/list", &list)
	return strings.Join(list.Tags, " ")
}

// referrers lists the digests of what refers to a manifest, of one artifact type unless that is empty.
func referrers(t *testing.T, c *harness.Client, repo, digest, artifactType string) []string {
	t.Helper()
	var index struct{ Manifests []content.Descriptor }
	get(t, c, "/v2/"+repo+"/referrers/"+digest+"?artifactType="+url.QueryEscape(artifactType), &index)
	var digests []string
	for _, d := range index.Manifests {
		digests = append(digests, d.Digest)
	}
	return digests
}

// get reads a document of the API.
func get(t *testing.T, c *harness.Client, path string, document any) {
	t.Helper()
	r, err := c.Get(path)
	must(t, err)
	must(t, r.Want(200))
	must(t, json.Unmarshal(r.Body, document))
}
