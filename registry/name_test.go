package registry_test

import (
	"encoding/base64"
	"regexp"
	"strings"
	"testing"

	"berth/registry"
)

const (
	hex256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	hex512 = "cf83e1357eefb8bdf1542850d66d8007d620e4050b5715dc83f4a921d36ce9ce47d0d13c5d85f2b0ff8318d2877eec2f63b931bd47417a81a538327af927da3e"
)

// parser is one of the Parse functions, returning what its result prints as.
type parser func(string) (string, error)

func parseName(s string) (string, error) {
	n, err := registry.ParseName(s)
	return n.String(), err
}

func parseDigest(s string) (string, error) {
	d, err := registry.ParseDigest(s)
	return d.String(), err
}

func parseTag(s string) (string, error) {
	t, err := registry.ParseTag(s)
	return t.String(), err
}

func parseReference(s string) (string, error) {
	r, err := registry.ParseReference(s)
	return r.String(), err
}

var (
	goodNames = []string{"a", "0", "a/b", "team/app", "a.b", "a_b", "a__b", "a-b", "a--b", "a-----b", "a/b/c/d/e/f", "a.b_c__d-e/0",
		strings.Repeat("a", 254), strings.Repeat("a/", 127) + "a", "library/xn--bcher-kva"}
	badNames = []string{"", "/", "a/", "/a", "a//b", "A", "team/App", "a..b", "a___b", "a._b", "a_.b", "a-.b", ".a", "a.", "_a", "a_",
		"-a", "a-", "a/_b", "a/.", "a/..", "..", ".", "a b", "a:b", "a@b", "a!", "ä", "a\x00", "a\n", "a\\b", "a%2fb", "_blobs",
		"a/_manifests/b", strings.Repeat("a", 255), strings.Repeat("a/", 128) + "a"}
	goodDigests = []string{"sha256:" + hex256, "sha512:" + hex512}
	badDigests  = []string{"", ":", "sha256", "sha256:", hex256, "sha256:" + hex256[1:], "sha256:" + hex256 + "0", "sha512:" + hex256,
		"sha256:" + hex512, "sha256:" + strings.ToUpper(hex256), "SHA256:" + hex256, "sha256:" + hex256[1:] + "g", "sha256:" + hex256[1:] + "/",
		"md5:d41d8cd98f00b204e9800998ecf8427e", "sha384:" + hex256, "sha256 :" + hex256, "sha256::" + hex256, " sha256:" + hex256,
		"sha256:" + hex256[2:] + "é", "sha256:" + hex256[2:] + "..", "sha256+b64u:" + hex256, "\x00:" + hex256}
	goodTags = []string{"a", "A", "0", "_", "latest", "v1.0.0-rc.1_x", "__", "a..b", "a--", "a.", "sha256-" + hex256, strings.Repeat("x", 128)}
	badTags  = []string{"", ".", "..", "-", ".a", "-a", "a/b", "a b", "a+b", "a@b", "a!", "é", "a\x00", "a\n", "a%", strings.Repeat("x", 129)}
)

func TestParse(t *testing.T) {
	for _, c := range []struct {
		what      string
		parse     parser
		good, bad []string
		code      registry.Code
	}{
		{"name", parseName, goodNames, badNames, registry.NameInvalid},
		{"digest", parseDigest, goodDigests, badDigests, registry.DigestInvalid},
		{"tag", parseTag, goodTags, badTags, registry.TagInvalid},
		{"reference to a tag", parseReference, goodTags, badTags, registry.TagInvalid},
		{"reference to a digest", parseReference, goodDigests, []string{":", "a:b", "sha256:" + hex256[1:], "v1:" + hex256}, registry.DigestInvalid},
	} {
		for _, s := range c.good {
			if got, err := c.parse(s); err != nil || got != s {
				t.Errorf("%s %q: got %q, %v", c.what, s, got, err)
			}
		}
		for _, s := range c.bad {
			got, err := c.parse(s)
			wantCode(t, c.what+" "+s, err, c.code)
			if got != "" {
				t.Errorf("%s %q is refused and yet returned", c.what, s)
			}
		}
	}
}

func TestReferenceKinds(t *testing.T) {
	if tag := ref(t, "v1"); !tag.IsTag() || tag.Tag.String() != "v1" || !tag.Digest.IsZero() {
		t.Errorf("a tag parses as %+v", tag)
	}
	if d := ref(t, "sha512:"+hex512); d.IsTag() || d.Digest.Algorithm() != registry.SHA512 || d.Digest.Hex() != hex512 {
		t.Errorf("a digest parses as %+v", d)
	}
}

func TestErrorsRepeatLittle(t *testing.T) {
	for _, parse := range []parser{parseName, parseDigest, parseTag} {
		if _, err := parse(strings.Repeat("X", 1<<20)); len(err.Error()) > 1000 {
			t.Errorf("an error has %d bytes", len(err.Error()))
		}
	}
}

func FuzzName(f *testing.F) {
	for _, s := range append(goodNames, badNames...) {
		f.Add(s)
	}
	grammar := regexp.MustCompile(`\A[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*\z`)
	f.Fuzz(func(t *testing.T, s string) {
		n, err := registry.ParseName(s)
		want := grammar.MatchString(s) && len(s) <= 255
		for component := range strings.SplitSeq(s, "/") {
			want = want && len(component) <= 254
		}
		if want != (err == nil) || want && n.String() != s {
			t.Errorf("%q: got %q, %v", s, n, err)
		}
	})
}

func FuzzDigest(f *testing.F) {
	for _, s := range append(goodDigests, badDigests...) {
		f.Add(s)
	}
	grammar := regexp.MustCompile(`\A(sha256:[a-f0-9]{64}|sha512:[a-f0-9]{128})\z`)
	f.Fuzz(func(t *testing.T, s string) {
		d, err := registry.ParseDigest(s)
		if want := grammar.MatchString(s); want != (err == nil) || want && string(d.Algorithm())+":"+d.Hex() != s {
			t.Errorf("%q: got %q, %v", s, d, err)
		}
	})
}

func FuzzReference(f *testing.F) {
	for _, s := range append(append(goodDigests, badDigests...), append(goodTags, badTags...)...) {
		f.Add(s)
	}
	tag := regexp.MustCompile(`\A[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}\z`)
	f.Fuzz(func(t *testing.T, s string) {
		r, err := registry.ParseReference(s)
		_, digestErr := registry.ParseDigest(s)
		if want := tag.MatchString(s) || digestErr == nil; want != (err == nil) || want && (r.String() != s || r.IsTag() != tag.MatchString(s)) {
			t.Errorf("%q: got %q, %v", s, r, err)
		}
	})
}

// FuzzUploadID wants what is taken as an id to be the one way to write it (base64 ignores ends of lines).
func FuzzUploadID(f *testing.F) {
	r, err := registry.Open(f.Context(), newStore(), &registry.Options{Secret: []byte("0123456789abcdef")})
	if err != nil {
		f.Fatal(err)
	}
	name, err := registry.ParseName("team/app")
	if err != nil {
		f.Fatal(err)
	}
	p := r.Repository(name)
	good := p.NewUpload("alice", registry.SHA512).ID()
	for _, id := range []string{good, good[1:], good + "A", good[:43] + "_", strings.ToUpper(good), "", "a", "..", "%", "\x00", hex256} {
		f.Add(id)
	}
	f.Fuzz(func(t *testing.T, id string) {
		u, err := p.Upload(t.Context(), "alice", id)
		if err != nil {
			wantCode(t, id, err, registry.UploadUnknown)
			return
		}
		if clean := strings.NewReplacer("\r", "", "\n", "").Replace(id); u.ID() != clean {
			t.Errorf("%q was taken as %s", id, u.ID())
		}
	})
}

// tampered returns ids that differ from a good one in one place.
func tampered(t testing.TB, id string) map[string]string {
	t.Helper()
	raw, err := base64.RawURLEncoding.DecodeString(id)
	if err != nil {
		t.Fatal(err)
	}
	ids := map[string]string{"shorter": id[:len(id)-1], "longer": id + "AAAA", "padded": id + "=", "empty": "", "no base64": "*" + id[1:]}
	for name, at := range map[string]int{"time": 0, "random": 15, "algorithm": 16, "proof": 17, "end of the proof": len(raw) - 1} {
		other := append([]byte{}, raw...)
		other[at] ^= 1
		ids[name] = base64.RawURLEncoding.EncodeToString(other)
	}
	return ids
}
