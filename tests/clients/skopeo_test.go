package clients

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"berth/tests/content"
)

// TestSkopeo copies, inspects, lists, synchronizes and deletes with skopeo.
func TestSkopeo(t *testing.T) {
	skopeo, s := find(t, "skopeo"), serve(t)
	image := content.Algorithm(content.Digest).Image("skopeo", content.AMD64(), []int{1000, 66 << 20, 5}, nil)
	index := content.Algorithm(content.Digest).Index("skopeo", nil)
	at := func(name string) string { return "docker://" + s.Addr + "/" + name }
	pull := func(t *testing.T, name string, set content.Set) {
		t.Helper()
		skopeo := skopeo.with(t)
		dir := t.TempDir()
		skopeo.run("copy", "--all", "--preserve-digests", "--src-tls-verify=false", at(name), "oci:"+dir+":x")
		sameLayout(t, dir, set)
	}

	t.Run("push and pull with a layer of 66 MiB", func(t *testing.T) {
		skopeo := skopeo.with(t)
		skopeo.run("copy", "--preserve-digests", "--dest-tls-verify=false", "oci:"+layout(t, "v1", image)+":v1", at("team/app:v1"))
		must(t, s.Verify("team/app", image))
		pull(t, "team/app:v1", image)
		pull(t, "team/app@"+image.Top().Digest, image)
	})
	t.Run("multi-architecture index", func(t *testing.T) {
		skopeo := skopeo.with(t)
		skopeo.run("copy", "--all", "--preserve-digests", "--dest-tls-verify=false", "oci:"+layout(t, "v1", index)+":v1", at("multi/arch:v1"))
		must(t, s.Verify("multi/arch", index))
		pull(t, "multi/arch:v1", index)
	})
	t.Run("copy between repositories", func(t *testing.T) {
		skopeo := skopeo.with(t)
		skopeo.run("copy", "--all", "--preserve-digests", "--src-tls-verify=false", "--dest-tls-verify=false", at("multi/arch:v1"), at("other/copy:v2"))
		must(t, s.Verify("other/copy", index))
		got, _ := walk(t, s.Client, "other/copy", "v2")
		equal(t, "the digest of the copy", got, index.Top().Digest)
	})
	t.Run("inspect and list", func(t *testing.T) {
		skopeo := skopeo.with(t)
		equal(t, "the digest", skopeo.run("inspect", "--tls-verify=false", "--format", "{{.Digest}}", at("team/app:v1")), image.Top().Digest)
		var list struct{ Tags []string }
		must(t, json.Unmarshal([]byte(skopeo.run("list-tags", "--tls-verify=false", at("team/app"))), &list))
		if len(list.Tags) != 1 || list.Tags[0] != "v1" {
			t.Errorf("the tags are %q", list.Tags)
		}
		raw := skopeo.run("inspect", "--tls-verify=false", "--raw", at("multi/arch:v1"))
		equal(t, "the raw manifest", raw, string(index.Top().Bytes))
	})
	t.Run("sync", func(t *testing.T) {
		skopeo := skopeo.with(t)
		skopeo.run("sync", "--all", "--src", "docker", "--dest", "docker", "--src-tls-verify=false", "--dest-tls-verify=false",
			s.Addr+"/multi/arch", s.Addr+"/mirror")
		must(t, s.Verify("mirror/arch", index))
		dir := t.TempDir()
		skopeo.run("sync", "--all", "--src", "docker", "--dest", "dir", "--src-tls-verify=false", s.Addr+"/multi/arch", dir)
		got, err := os.ReadFile(filepath.Join(dir, "arch:v1", "manifest.json"))
		must(t, err)
		equal(t, "the manifest on disk", string(got), string(index.Top().Bytes))
	})
	t.Run("delete", func(t *testing.T) {
		skopeo := skopeo.with(t)
		skopeo.run("delete", "--tls-verify=false", at("other/copy:v2"))
		if _, err := skopeo.try("inspect", "--tls-verify=false", at("other/copy:v2")); err == nil {
			t.Error("skopeo still finds what it deleted")
		}
		must(t, s.Verify("multi/arch", index))
	})
}
