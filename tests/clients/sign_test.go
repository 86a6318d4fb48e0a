package clients

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"berth/tests/content"
)

const (
	bundleType   = "application/vnd.dev.sigstore.bundle.v0.3+json"
	notationType = "application/vnd.cncf.notary.signature"
)

// cosign is Sigstore's tool in a folder with a pair of keys. It is told to ask no log and no authority elsewhere.
func cosign(t *testing.T) tool {
	t.Helper()
	c := installed(t, "cosign")
	c.dir = t.TempDir()
	c.env = []string{"HOME=" + c.dir, "DOCKER_CONFIG=" + c.dir, "COSIGN_PASSWORD=of a test"}
	c.run("generate-key-pair")
	return c
}

// cosignSign and cosignVerify are the flags of commands that make and check signatures with the pair of keys.
func cosignSign(command string) []string {
	return []string{command, "--key", "cosign.key", "--yes", "--tlog-upload=false", "--use-signing-config=false"}
}

func cosignVerify(command string) []string {
	return []string{command, "--key", "cosign.pub", "--insecure-ignore-tlog"}
}

// TestCosign signs and attests images, verifies them and their copies, and removes signatures, with cosign.
func TestCosign(t *testing.T) {
	cosign, s := cosign(t), serve(t)
	image := content.Algorithm(content.Digest).Image("cosign", content.AMD64(), []int{1 << 20}, nil)
	push(t, s, "team/app", image, "v1")
	must(t, os.WriteFile(filepath.Join(cosign.dir, "predicate.json"), []byte(`{"builder":"a test"}`), 0o644))
	app := s.Addr + "/team/app@" + image.Top().Digest
	plain := func(args []string, more ...string) []string {
		return append(append(args, "--allow-http-registry"), more...)
	}
	verify := func(t *testing.T, ref string) {
		t.Helper()
		cosign := cosign.with(t)
		cosign.run(plain(cosignVerify("verify"), ref)...)
		cosign.run(plain(cosignVerify("verify-attestation"), "--type", "custom", ref)...)
	}

	fails(t, cosign, []string{"no signatures"}, plain(cosignVerify("verify"), app)...)
	cosign.run(plain(cosignSign("sign"), app)...)
	cosign.run(plain(cosignSign("attest"), "--type", "custom", "--predicate", "predicate.json", app)...)
	verify(t, app)
	if n := len(referrers(t, s.Client, "team/app", image.Top().Digest, bundleType)); n != 2 {
		t.Errorf("the referrers are %d bundles", n)
	}
	if tree := cosign.run("tree", "--allow-http-registry", app); strings.Count(tree, "OCI referrer") != 2 {
		t.Errorf("the tree of what is attached is %q", tree)
	}

	t.Run("another key", func(t *testing.T) {
		other := cosign.with(t)
		other.dir = t.TempDir()
		other.run("generate-key-pair")
		fails(t, other, []string{"no matching", "failed to verify", "could not verify", "invalid signature"}, plain(cosignVerify("verify"), app)...)
	})
	t.Run("copy with what is attached", func(t *testing.T) {
		oras := installed(t, "oras")
		oras.run("copy", "--recursive", "--from-plain-http", "--to-plain-http", s.Addr+"/team/app:v1", s.Addr+"/other/copy:v1")
		verify(t, s.Addr+"/other/copy:v1")
	})
	t.Run("signature under a tag", func(t *testing.T) {
		cosign := cosign.with(t)
		old := "--new-bundle-format=false"
		cosign.run(plain(cosignSign("sign"), old, app)...)
		cosign.run(plain(cosignVerify("verify"), old, app)...)
		cosign.run("copy", "--allow-http-registry", s.Addr+"/team/app:v1", s.Addr+"/other/tagged:v1")
		cosign.run(plain(cosignVerify("verify"), old, s.Addr+"/other/tagged:v1")...)
	})
	t.Run("remove", func(t *testing.T) {
		cosign := cosign.with(t)
		cosign.run("clean", "--force", "--type", "all", "--allow-http-registry", s.Addr+"/team/app:v1")
		fails(t, cosign, []string{"no signatures"}, plain(cosignVerify("verify"), app)...)
		if left := referrers(t, s.Client, "team/app", image.Top().Digest, ""); len(left) != 0 {
			t.Errorf("%v is still attached", left)
		}
		verify(t, s.Addr+"/other/copy:v1")
	})
}

// notation is the Notary Project's tool in a folder with a key of its own, whose certificate it trusts.
func notation(t *testing.T) tool {
	t.Helper()
	c := installed(t, "notation")
	dir := t.TempDir()
	c.env = []string{"XDG_CONFIG_HOME=" + dir, "XDG_CACHE_HOME=" + dir, "DOCKER_CONFIG=" + dir, "PATH=" + dir + ":" + os.Getenv("PATH")}
	keeper(t, dir)
	c.run("cert", "generate-test", "--default", "berth.test")
	policy := filepath.Join(dir, "policy.json")
	must(t, os.WriteFile(policy, []byte(`{"version": "1.0", "trustPolicies": [{"name": "all", "registryScopes": ["*"],
		"signatureVerification": {"level": "strict"}, "trustStores": ["ca:berth.test"], "trustedIdentities": ["*"]}]}`), 0o600))
	c.run("policy", "import", policy)
	return c
}

// keeper makes a program that keeps one login in a file. Without such a one notation keeps none.
func keeper(t *testing.T, dir string) {
	t.Helper()
	kept := filepath.Join(dir, "login")
	must(t, os.WriteFile(filepath.Join(dir, "docker-credential-berth"), []byte(`#!/bin/sh
case $1 in
store) cat >'`+kept+`' ;;
get) cat >/dev/null; cat '`+kept+`' 2>/dev/null || { echo credentials not found in native keychain; exit 1; } ;;
erase) cat >/dev/null; rm -f '`+kept+`' ;;
esac
`), 0o755))
	must(t, os.MkdirAll(filepath.Join(dir, "notation"), 0o755))
	must(t, os.WriteFile(filepath.Join(dir, "notation", "config.json"), []byte(`{"credsStore": "berth"}`), 0o600))
}

// TestNotation signs images, lists, inspects and verifies the signatures with notation, by the API of referrers and by the
// tags that older registries need.
func TestNotation(t *testing.T) {
	notation, s := notation(t), serve(t)
	image := content.Algorithm(content.Digest).Image("notation", content.AMD64(), []int{1 << 20}, nil)
	push(t, s, "team/app", image, "v1")
	app := s.Addr + "/team/app@" + image.Top().Digest

	fails(t, notation, []string{"no signature"}, "verify", "--insecure-registry", app)
	notation.run("sign", "--insecure-registry", "--force-referrers-tag=false", app)
	notation.run("verify", "--insecure-registry", app)
	equal(t, "the tags", tags(t, s.Client, "team/app"), "v1")
	notation.run("sign", "--insecure-registry", "--signature-format", "cose", app) // its default is a tag
	notation.run("sign", "--insecure-registry", app)
	signatures := referrers(t, s.Client, "team/app", image.Top().Digest, notationType)
	if len(signatures) != 3 {
		t.Errorf("the signatures are %q", signatures)
	}
	list := notation.run("list", "--insecure-registry", app)
	for _, digest := range signatures {
		if !strings.Contains(list, digest) {
			t.Errorf("%s is not in the list %q", digest, list)
		}
	}
	if text := notation.run("inspect", "--insecure-registry", app); !strings.Contains(text, "CN=berth.test") {
		t.Errorf("the signatures are inspected as %q", text)
	}
	oras := installed(t, "oras")
	oras.run("copy", "--recursive", "--from-plain-http", "--to-plain-http", s.Addr+"/team/app:v1", s.Addr+"/other/copy:v1")
	notation.run("verify", "--insecure-registry", s.Addr+"/other/copy@"+image.Top().Digest)
}
