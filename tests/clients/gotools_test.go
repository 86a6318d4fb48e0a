package clients

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"berth/tests/content"
	"berth/tests/harness"
)

const exampleType = "application/vnd.example.sbom.v1"

// TestCrane copies, lists, tags and deletes with crane.
func TestCrane(t *testing.T) {
	crane, s := installed(t, "crane"), serve(t)
	index := content.Algorithm(content.Digest).Index("crane", nil)
	push(t, s, "team/app", index, "v1")
	app := s.Addr + "/team/app"

	crane.run("copy", "--insecure", app+":v1", s.Addr+"/other/copy:v1")
	must(t, s.Verify("other/copy", index))
	equal(t, "the digest", crane.run("digest", "--insecure", app+":v1"), index.Top().Digest)
	crane.run("tag", "--insecure", app+":v1", "v2")
	equal(t, "the tags", crane.run("ls", "--insecure", app), "v1\nv2")
	equal(t, "the manifest", crane.run("manifest", "--insecure", app+":v2"), string(index.Top().Bytes))
	equal(t, "the catalog", crane.run("catalog", "--insecure", s.Addr), "other/copy\nteam/app")
	crane.run("validate", "--insecure", "--remote", app+":v2")
	crane.run("delete", "--insecure", app+"@"+index.Top().Digest)
	equal(t, "the tags after the delete", crane.run("ls", "--insecure", app), "")
	layers := layout(t, "v3", content.Algorithm(content.Digest).Image("crane", content.AMD64(), []int{3 << 20}, nil))
	crane.run("push", "--insecure", layers, app+":v3")
	walk(t, s.Client, "team/app", "v3")
}

// TestMadeInRegistry has crane and regctl make images and indexes of what the registry has, without pulling all of it.
func TestMadeInRegistry(t *testing.T) {
	crane, s := isolated(t, "crane"), serve(t)
	regctl := regctl(t, s)
	app := s.Addr + "/team/app"
	for _, tag := range []string{"one", "two"} {
		push(t, s, "team/app", content.Algorithm(content.Digest).Image(tag, content.AMD64(), []int{1000}, nil), tag)
	}
	layer := filepath.Join(t.TempDir(), "layer.tar")
	(tool{T: t, path: "tar"}).run("-C", buildContext(t, 1000), "-cf", layer, "small")

	for made, args := range map[string][]string{
		"appended": {"append", "--base", app + ":one", "--new_layer", layer},
		"labelled": {"mutate", "--label", "org.example.n=1", app + ":one"},
		"flat":     {"flatten", app + ":one"},
		"index":    {"index", "append", "--manifest", app + ":one", "--manifest", app + ":two"},
	} {
		crane.run(append(args, "--insecure", "-t", app+":"+made)...)
		walk(t, s.Client, "team/app", made)
	}
	regctl.run("index", "create", "--ref", app+":one", "--ref", app+":two", app+":regctl")
	for _, index := range []string{"index", "regctl"} {
		if _, below := walk(t, s.Client, "team/app", index); len(below[content.ImageManifest]) != 2 {
			t.Errorf("%s has %v", index, below)
		}
	}
}

// regctl is regclient's tool with a configuration of its own, which knows the registry to be without TLS.
func regctl(t *testing.T, s *harness.Server) tool {
	t.Helper()
	c := installed(t, "regctl")
	c.env = []string{"HOME=" + t.TempDir()}
	c.run("registry", "set", "--tls", "disabled", s.Addr)
	return c
}

// TestRegctl copies with referrers, lists, tags and deletes with regctl.
func TestRegctl(t *testing.T) {
	s := serve(t)
	regctl := regctl(t, s)
	app := s.Addr + "/team/app"
	image := content.Algorithm(content.Digest).Image("regctl", content.AMD64(), []int{2 << 20}, nil)
	push(t, s, "team/app", image, "v1")

	regctl.run("artifact", "put", "--artifact-type", exampleType, "--subject", app+":v1", "--annotation", "org.example.n=1")
	list := regctl.run("artifact", "list", "--format", "{{range .Descriptors}}{{.ArtifactType}} {{index .Annotations \"org.example.n\"}}{{end}}", app+":v1")
	equal(t, "the referrers", list, exampleType+" 1")
	if tags := regctl.run("tag", "ls", app); tags != "v1" {
		t.Errorf("the tags are %q: regctl fell back to a tag of referrers", tags)
	}
	regctl.run("image", "copy", "--referrers", app+":v1", s.Addr+"/other/copy:v1")
	must(t, s.Verify("other/copy", image))
	equal(t, "the referrers of the copy", regctl.run("artifact", "list", "--format", "{{len .Descriptors}}", s.Addr+"/other/copy:v1"), "1")
	regctl.run("image", "check-base", "--base", app+":v1", app+":v1")
	regctl.run("tag", "rm", s.Addr+"/other/copy:v1")
	equal(t, "the tags after the delete", regctl.run("tag", "ls", s.Addr+"/other/copy"), "")
	regctl.run("manifest", "delete", app+"@"+image.Top().Digest)
	if _, err := regctl.try("manifest", "get", app+":v1"); err == nil {
		t.Error("regctl still finds what it deleted")
	}
}

// TestSHA512 copies an image of sha512 digests with the clients that know them.
func TestSHA512(t *testing.T) {
	s := serve(t)
	image := content.Algorithm(content.Digest512).Image("sha512", content.AMD64(), []int{1 << 20}, nil)
	push(t, s, "strong/app", image)
	from, to := s.Addr+"/strong/app@"+image.Top().Digest, s.Addr+"/strong/copy"
	t.Run("regctl", func(t *testing.T) {
		regctl := regctl(t, s)
		regctl.run("image", "copy", from, to+"@"+image.Top().Digest)
		must(t, s.Verify("strong/copy", image))
	})
	t.Run("oras", func(t *testing.T) {
		installed(t, "oras").run("copy", "--from-plain-http", "--to-plain-http", from, s.Addr+"/strong/again")
		must(t, s.Verify("strong/again", image))
	})
}

// TestReferrers attaches artifacts by bare HTTP, as clients without a fallback do, and lists them.
func TestReferrers(t *testing.T) {
	s := serve(t)
	image := content.Algorithm(content.Digest).Image("subject", content.AMD64(), []int{1000}, nil)
	push(t, s, "team/app", image, "v1")
	for i := range 3 {
		fields := content.Fields{"subject": image.Top().Describe(), "annotations": map[string]string{"n": fmt.Sprint(i)}}
		push(t, s, "team/app", content.Algorithm(content.Digest).Artifact(fmt.Sprint("artifact-", i), exampleType, fields))
	}
	r, err := s.Get("/v2/team/app/referrers/" + image.Top().Digest + "?artifactType=" + exampleType)
	must(t, err)
	must(t, r.Want(200))
	if n := strings.Count(string(r.Body), `"artifactType":"`+exampleType+`"`); n != 3 {
		t.Errorf("%d referrers are listed: %s", n, r.Body)
	}
}
