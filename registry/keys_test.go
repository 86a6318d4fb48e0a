package registry

import "testing"

func TestKindOf(t *testing.T) {
	name, err := ParseName("a__b/tags") // "_" within a part
	if err != nil {
		t.Fatal(err)
	}
	d, err := ParseDigest("sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
	if err != nil {
		t.Fatal(err)
	}
	tag, err := ParseTag("_v1")
	if err != nil {
		t.Fatal(err)
	}
	p := Repository{name: name}
	for key, want := range map[string]Kind{
		blobKey(d): BlobKind, p.linkKey(d): LinkKind, p.manifestKey(d): ManifestKind, p.tagKey(tag): TagKind, p.hintKey(d, tag): HintKind,
		p.referrersPrefix(d) + "0": ReferrersKind, p.tagPrefix(): FolderKind, catalogKey(name.s): CatalogKind, uploadKey("x"): UploadKind,
		"data/20260101/x": DataKind, secretKey: OtherKind, "": OtherKind, "repositories": OtherKind, "repositories/a": OtherKind,
	} {
		if got := KindOf(key); got != want {
			t.Errorf("%s is %d, want %d", key, got, want)
		}
	}
	if n := testing.AllocsPerRun(100, func() { KindOf(p.manifestKey(d)) }); n > 2 { // of the key itself
		t.Errorf("it allocates %v times", n)
	}
}
