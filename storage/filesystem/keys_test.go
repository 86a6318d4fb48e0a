package filesystem

import (
	"errors"
	"io/fs"
	"os"
	"strings"
	"testing"

	"berth/storage"
)

// TestFolders puts keys where folders of other keys are, and below objects.
func TestFolders(t *testing.T) {
	d := start(t, Options{}, kindFilesystem, realSystem{})
	put(t, d, "a/b/c", "x", storage.Cond{})
	for _, key := range []string{"a/b", "a", "a/b/c/d", "a/b/c/d/e"} {
		for _, cond := range []storage.Cond{{}, storage.Absent()} {
			if _, err := d.Put(t.Context(), key, strings.NewReader("x"), 1, cond); !errors.Is(err, storage.ErrInvalidKey) {
				t.Errorf("Put(%s) = %v, want %v", key, err, storage.ErrInvalidKey)
			}
		}
		if err := d.Delete(t.Context(), key, storage.Cond{}); err != nil {
			t.Errorf("Delete(%s) = %v", key, err)
		}
	}
	if _, err := d.Stat(t.Context(), "a/b/c"); err != nil {
		t.Errorf("Stat = %v", err)
	}
}

// TestStrangers puts into the tree what is no object; no listing may show it or follow it.
func TestStrangers(t *testing.T) {
	d := start(t, Options{}, kindFilesystem, realSystem{})
	put(t, d, "a/b", "x", storage.Cond{})
	outside := t.TempDir()
	write(t, outside+"/secret", "secret")
	write(t, d.objects+"/a/.nfs00000000deadbeef00000001", "removed while it was open")
	write(t, d.objects+"/a/not a key", "")
	write(t, d.objects+"/a/not a key either~/x", "")
	if err := errors.Join(os.Symlink(outside, d.objects+"/a/out"), os.Symlink(outside+"/secret", d.objects+"/a/secret")); err != nil {
		t.Fatal(err)
	}
	for _, prefix := range []string{"", "a/", "a/out/", "a/s"} {
		for info, err := range d.List(t.Context(), prefix, "") {
			if info.Key != "a/b" || err != nil {
				t.Errorf("List(%q) yields %q, %v", prefix, info.Key, err)
			}
		}
	}
	if _, err := d.Stat(t.Context(), "a/secret"); err == nil {
		t.Error("an object that is a symbolic link was followed")
	}
	if _, err := d.Stat(t.Context(), "a/.nfs00000000deadbeef00000001"); !errors.Is(err, storage.ErrInvalidKey) {
		t.Errorf("Stat of a name that NFS uses = %v", err)
	}
}

// FuzzKeys holds that a key and its file name one another: a valid key is listed as it was put, in one file under the
// objects, and an invalid one leaves nothing anywhere.
func FuzzKeys(f *testing.F) {
	for _, key := range []string{
		"a", "a/b", "a!", "a/../b", "../../x", "/etc/x", "a//b", "A/a", ".", "a/.", "...", "-", "a\x00b", "ä", "a/.b", "tmp/x", "lock",
		"berth.json", "catalog/a/b!", strings.Repeat("x", 255), strings.Repeat("x/", 300) + "x", ".nfs0123456789abcdef01234567",
	} {
		f.Add(key)
	}
	d := start(f, Options{NoSync: true}, kindEmptyDir, realSystem{})
	f.Fuzz(func(t *testing.T, key string) {
		_, err := d.Put(t.Context(), key, strings.NewReader(key), int64(len(key)), storage.Absent())
		if _, pathErr := d.path(key); (err == nil) != (pathErr == nil) || err != nil && !errors.Is(err, storage.ErrInvalidKey) {
			t.Fatalf("Put(%q) = %v, its path %v", key, err, pathErr)
		}
		want := []string{key}
		if err != nil {
			want = nil
		}
		if got := files(t, d.objects); strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("Put(%q) leaves the files %q", key, got)
		}
		for info, err := range d.List(t.Context(), "", "") {
			if err != nil || want == nil || info.Key != key {
				t.Errorf("after Put(%q), List yields %q, %v", key, info.Key, err)
			}
		}
		if want == nil {
			return
		}
		if err := d.Delete(t.Context(), key, storage.Cond{}); err != nil {
			t.Errorf("Delete(%q) = %v", key, err)
		}
		if _, err := d.Stat(t.Context(), key); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Stat(%q) = %v", key, err)
		}
		if entries, err := os.ReadDir(d.objects); err != nil || len(entries) > 0 {
			t.Errorf("after Delete(%q) there is %v, %v", key, entries, err)
		}
	})
}
