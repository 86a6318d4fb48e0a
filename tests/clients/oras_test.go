package clients

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"berth/tests/content"
)

// TestOras pushes, pulls, attaches, discovers, copies and deletes with oras.
func TestOras(t *testing.T) {
	oras, s := installed(t, "oras"), serve(t)
	oras.dir = t.TempDir()
	data := content.Random("oras", 6<<20)
	must(t, os.WriteFile(filepath.Join(oras.dir, "model.bin"), data.Bytes, 0o644))
	must(t, os.WriteFile(filepath.Join(oras.dir, "sbom.json"), []byte(`{"parts":[]}`), 0o644))
	app, copied := s.Addr+"/team/model:v1", s.Addr+"/other/copy:v1"
	discover := func(t *testing.T, ref string) string {
		t.Helper()
		return oras.with(t).run("discover", "--plain-http", "--distribution-spec", "v1.1-referrers-api", "--format", "go-template",
			"--template", "{{range .manifests}}{{.artifactType}} {{end}}", ref)
	}

	t.Run("push and pull", func(t *testing.T) {
		oras := oras.with(t)
		oras.run("push", "--plain-http", "--artifact-type", "application/vnd.example.model", app, "model.bin:application/octet-stream")
		digest, below := walk(t, s.Client, "team/model", "v1")
		equal(t, "the file pushed", strings.Join(below["application/octet-stream"], " "), data.Digest)
		equal(t, "the digest", oras.run("resolve", "--plain-http", app), digest)
		dir := t.TempDir()
		oras.run("pull", "--plain-http", "--output", dir, app)
		pulled, err := os.ReadFile(filepath.Join(dir, "model.bin"))
		must(t, err)
		if !bytes.Equal(pulled, data.Bytes) {
			t.Error("the file pulled is not the one pushed")
		}
	})
	t.Run("attach and discover", func(t *testing.T) {
		oras := oras.with(t)
		oras.run("attach", "--plain-http", "--artifact-type", exampleType, app, "sbom.json:application/json")
		equal(t, "the referrers", discover(t, app), exampleType)
		sbom := oras.run("discover", "--plain-http", "--format", "go-template", "--template", "{{(index .manifests 0).digest}}", app)
		oras.run("attach", "--plain-http", "--artifact-type", "application/vnd.example.note", s.Addr+"/team/model@"+sbom, "--annotation", "org.example.n=1")
		equal(t, "the referrers of the referrer", discover(t, s.Addr+"/team/model@"+sbom), "application/vnd.example.note")
		equal(t, "the tags", oras.run("repo", "tags", "--plain-http", s.Addr+"/team/model"), "v1")
	})
	t.Run("copy, tag and list", func(t *testing.T) {
		oras := oras.with(t)
		oras.run("copy", "--recursive", "--from-plain-http", "--to-plain-http", app, copied)
		equal(t, "the referrers of the copy", discover(t, copied), exampleType)
		want, _ := walk(t, s.Client, "team/model", "v1")
		got, _ := walk(t, s.Client, "other/copy", "v1")
		equal(t, "the digest of the copy", got, want)
		oras.run("tag", "--plain-http", copied, "v2", "v3")
		equal(t, "the tags", oras.run("repo", "tags", "--plain-http", s.Addr+"/other/copy"), "v1\nv2\nv3")
		equal(t, "the repositories", oras.run("repo", "ls", "--plain-http", s.Addr), "other/copy\nteam/model")
	})
	t.Run("blobs", func(t *testing.T) {
		oras := oras.with(t)
		blob := content.Random("oras blob", 1<<20)
		at, file := s.Addr+"/team/blobs@"+blob.Digest, filepath.Join(t.TempDir(), "blob")
		must(t, os.WriteFile(file, blob.Bytes, 0o644))
		oras.run("blob", "push", "--plain-http", at, file)
		oras.run("blob", "fetch", "--plain-http", "--output", file+".back", at)
		pulled, err := os.ReadFile(file + ".back")
		must(t, err)
		equal(t, "the blob pulled", content.Digest(pulled), blob.Digest)
		oras.run("blob", "delete", "--plain-http", "--force", at)
		fails(t, oras, []string{"not found"}, "blob", "fetch", "--plain-http", "--output", file+".gone", at)
	})
	t.Run("delete", func(t *testing.T) {
		oras := oras.with(t)
		oras.run("manifest", "delete", "--plain-http", "--force", copied)
		fails(t, oras, []string{"not found"}, "manifest", "fetch", "--plain-http", s.Addr+"/other/copy:v2")
		walk(t, s.Client, "team/model", "v1")
	})
}
