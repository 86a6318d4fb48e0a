package registry_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"berth/registry"
	"berth/storage"
	"berth/storage/storagetest"
)

// sizes lie around those at which blobs are treated differently.
var sizes = []int{0, 1, 8 << 10, 8<<10 + 1, 64<<10 - 1, 64 << 10, 64<<10 + 1, 256<<10 - 1, 256 << 10, 256<<10 + 1, 1 << 20, 1<<20 + 7}

// pattern returns n bytes of which no two parts are alike, made from a seed.
func pattern(seed string, n int) string {
	var b strings.Builder
	for i := 0; b.Len() < n; i++ {
		fmt.Fprintf(&b, "%s %d ", seed, i)
	}
	return b.String()[:n]
}

func TestPushBlob(t *testing.T) {
	f := newFixture(t, nil, nil)
	p := f.repository("team/app")
	for _, size := range sizes {
		for _, announced := range []bool{true, false} {
			for _, algorithm := range []registry.Algorithm{registry.SHA256, registry.SHA512} {
				content := pattern(fmt.Sprint(announced, algorithm), size)
				d := algorithm.FromBytes([]byte(content))
				length := int64(-1)
				if announced {
					length = int64(size)
				}
				b, err := p.PushBlob(t.Context(), d, iotest.DataErrReader(strings.NewReader(content)), length)
				if err != nil || b.Size != int64(size) || b.Digest != d {
					t.Fatalf("%d bytes, announced %v: %+v, %v", size, announced, b, err)
				}
				if got, err := readBlob(t.Context(), p, d); err != nil || got != content {
					t.Errorf("%d bytes come back as %d, %v", size, len(got), err)
				}
			}
		}
	}
}

func TestPushBlobRefused(t *testing.T) {
	f := newFixture(t, nil, nil)
	p := f.repository("team/app")
	broken := errors.New("the connection broke")
	for _, size := range sizes {
		content := pattern("", size)
		d := registry.SHA256.FromBytes([]byte(content))
		for _, c := range []struct {
			why  string
			body io.Reader
			size int64
			want registry.Code
		}{
			{"longer than announced", strings.NewReader(content + "x"), int64(size), registry.SizeInvalid},
			{"much longer than announced", strings.NewReader(content + pattern("more", 100_000)), int64(size), registry.SizeInvalid},
			{"shorter than announced", strings.NewReader(content), int64(size) + 1, registry.SizeInvalid},
			{"another content", strings.NewReader(content + "x"), int64(size) + 1, registry.DigestInvalid},
			{"another content, unannounced", strings.NewReader(content + "x"), -1, registry.DigestInvalid},
			{"a broken body", io.MultiReader(strings.NewReader(content), iotest.ErrReader(broken)), -1, registry.SizeInvalid},
			{"a broken body, announced", io.MultiReader(strings.NewReader(content), iotest.ErrReader(io.ErrUnexpectedEOF)), int64(size) + 5, registry.SizeInvalid},
		} {
			_, err := p.PushBlob(t.Context(), d, c.body, c.size)
			wantCode(t, fmt.Sprintf("%d bytes, %s", size, c.why), err, c.want)
		}
		_, err := p.Blob(t.Context(), d)
		wantCode(t, "what was refused", err, registry.BlobUnknown)
	}
	if keys := f.keys(""); !slices.Equal(keys, []string{"config/clock", "config/secret"}) {
		t.Errorf("what was refused left %q", keys)
	}
}

func TestBlobsAreShared(t *testing.T) {
	f := newFixture(t, nil, nil)
	for _, size := range sizes[1:] {
		content, before := pattern("shared", size), len(f.keys("data/"))
		want := 1
		if size <= 8<<10 {
			want = 0 // it is in its record
		}
		for _, name := range []string{"one", "two", "one", "three"} {
			f.pushBlob(f.repository(name), content)
		}
		d := f.pushBlob(f.repository("two"), content)
		if n := len(f.keys("data/")) - before; n != want {
			t.Errorf("%d bytes pushed to three repositories are in %d data objects, not %d", size, n, want)
		}
		_, err := f.repository("four").Blob(t.Context(), d)
		wantCode(t, "a repository that nobody pushed to", err, registry.BlobUnknown)
	}
}

// TestPushHeals pushes blobs whose data objects were lost or cut short.
func TestPushHeals(t *testing.T) {
	for _, size := range []int{9_000, 400_000} {
		f := newFixture(t, nil, nil)
		p := f.repository("team/app")
		content := pattern("", size)
		for range 2 { // as one, and then as two segments
			for _, damage := range []func(key string){f.remove, func(key string) { f.overwrite(key, []byte(content[:size-1])) }} {
				d := f.pushBlob(p, content)
				damage(f.keys("data/")[0])
				if got, err := readBlob(t.Context(), p, d); err == nil {
					t.Errorf("a damaged blob is served with %d bytes", len(got))
				}
				f.pushBlob(p, content)
				if got, err := readBlob(t.Context(), p, d); err != nil || got != content {
					t.Errorf("%d bytes pushed again: %d, %v", size, len(got), err)
				}
				for _, key := range f.keys("") {
					if strings.HasPrefix(key, "data/") || strings.HasPrefix(key, "blobs/") {
						f.remove(key)
					}
				}
			}
			f.pushInChunks(p, content[:2], content[2:])
		}
	}
}

// TestPushHealsRecords damages records of blobs, some of which have the bytes: what cannot be read, or was read and found
// damaged, is there again once it was pushed again.
func TestPushHealsRecords(t *testing.T) {
	for _, size := range []int{5, 9_000} {
		for name, damage := range map[string]func(record []byte) []byte{
			"no header":    func([]byte) []byte { return nil },
			"no JSON":      func(r []byte) []byte { return append([]byte("x"), r...) },
			"cut short":    func(r []byte) []byte { return r[:len(r)-1] },
			"another size": func(r []byte) []byte { return bytes.Replace(r, []byte(`"size":`), []byte(`"size":1`), 1) },
			"a bit":        func(r []byte) []byte { r[len(r)-2] ^= 1; return r },
		} {
			f := newFixture(t, nil, nil)
			p := f.repository("team/app")
			content := pattern("", size)
			d := f.pushBlob(p, content)
			key := f.keys("blobs/")[0]
			f.overwrite(key, damage(f.read(key)))
			if got, err := readBlob(t.Context(), p, d); err == nil {
				t.Errorf("%d bytes, %s: served with %d bytes", size, name, len(got))
			}
			f.pushBlob(p, content)
			if got, err := readBlob(t.Context(), p, d); err != nil || got != content {
				t.Errorf("%d bytes, %s, pushed again: %d bytes, %v", size, name, len(got), err)
			}
		}
	}
}

// TestPushHealsBits flips a bit of a data object: once a reader found out, HEAD has clients push it again, and that helps.
func TestPushHealsBits(t *testing.T) {
	f := newFixture(t, nil, nil)
	p := f.repository("team/app")
	content := pattern("", 100_000)
	d := f.pushBlob(p, content)
	key := f.keys("data/")[0]
	whole := f.read(key)
	flipped := append([]byte{}, whole...)
	flipped[500] ^= 1
	f.overwrite(key, flipped)
	for range 2 { // a bad read that was not the fault of the store heals by reading again
		if got, err := readBlob(t.Context(), p, d); err == nil {
			t.Fatalf("served with %d bytes", len(got))
		}
		_, err := p.CheckBlob(t.Context(), d)
		wantCode(t, "HEAD of what is known to be damaged", err, registry.BlobUnknown)
		f.overwrite(key, whole)
		if _, err := readBlob(t.Context(), p, d); err != nil {
			t.Fatal(err)
		}
		if _, err := p.CheckBlob(t.Context(), d); err != nil {
			t.Fatal(err)
		}
		if f.registry, err = registry.Open(t.Context(), f.store, nil); err != nil { // one that has not verified it
			t.Fatal(err)
		}
		p = f.repository("team/app")
		f.overwrite(key, flipped)
	}
	if _, err := readBlob(t.Context(), p, d); err == nil {
		t.Fatal("served")
	}
	f.pushBlob(p, content)
	if got, err := readBlob(t.Context(), p, d); err != nil || got != content {
		t.Errorf("pushed again: %d bytes, %v", len(got), err)
	}
	if _, err := p.CheckBlob(t.Context(), d); err != nil {
		t.Error(err)
	}
}

// TestPushHealsElsewhere has one replica heal what another one reads through records it keeps.
func TestPushHealsElsewhere(t *testing.T) {
	store := newStore()
	reader, pusher := sharing(t, store), sharing(t, store)
	content := pattern("", 100_000)
	d := reader.pushBlob(reader.repository("team/app"), content)
	for range 5 {
		if got, err := readBlob(t.Context(), reader.repository("team/app"), d); err != nil || got != content {
			t.Fatalf("%d bytes, %v", len(got), err)
		}
	}
	reader.remove(reader.keys("data/")[0])
	pusher.pushBlob(pusher.repository("team/app"), content)
	if got, err := readBlob(t.Context(), reader.repository("team/app"), d); err != nil || got != content {
		t.Errorf("pushed again to another replica: %d bytes, %v", len(got), err)
	}
}

// pushInChunks pushes the parts of a blob one by one.
func (f *fixture) pushInChunks(p registry.Repository, parts ...string) registry.Digest {
	f.Helper()
	d := registry.SHA256.FromBytes([]byte(strings.Join(parts, "")))
	u := p.NewUpload("", registry.SHA256)
	for _, part := range parts {
		if err := u.Append(f.Context(), stream(strings.NewReader(part))); err != nil {
			f.Fatal(err)
		}
	}
	if _, err := u.Commit(f.Context(), d, nothing); err != nil {
		f.Fatal(err)
	}
	return d
}

func TestMount(t *testing.T) {
	f := newFixture(t, nil, nil)
	source, target := f.repository("source"), f.repository("target")
	d := f.pushBlob(source, "content")
	_, err := target.MountBlob(t.Context(), d, f.repository("other").Name())
	wantCode(t, "from a repository that lacks it", err, registry.BlobUnknown)
	_, err = target.MountBlob(t.Context(), registry.SHA256.FromBytes([]byte("unknown")), source.Name())
	wantCode(t, "an unknown blob", err, registry.BlobUnknown)
	_, err = readBlob(t.Context(), target, d)
	wantCode(t, "before mounting", err, registry.BlobUnknown)
	if from, err := target.BlobOrigin(t.Context(), d); err != nil || from.String() != "source" {
		t.Errorf("the blob is from %s, %v", from, err)
	}
	_, err = target.BlobOrigin(t.Context(), registry.SHA256.FromBytes([]byte("unknown")))
	wantCode(t, "the origin of an unknown blob", err, registry.BlobUnknown)
	if b, err := target.MountBlob(t.Context(), d, source.Name()); err != nil || b.Size != 7 {
		t.Errorf("mount: %+v, %v", b, err)
	}
	if err := source.DeleteBlob(t.Context(), d); err != nil {
		t.Error(err)
	}
	wantCode(t, "delete again", source.DeleteBlob(t.Context(), d), registry.BlobUnknown)
	_, err = source.CheckBlob(t.Context(), d)
	wantCode(t, "what was deleted", err, registry.BlobUnknown)
	if got, err := readBlob(t.Context(), target, d); err != nil || got != "content" {
		t.Errorf("what was mounted and deleted at its source: %q, %v", got, err)
	}
	_, err = f.repository("third").MountBlob(t.Context(), d, source.Name())
	wantCode(t, "from where it was deleted", err, registry.BlobUnknown)
}

// TestFailedRenewal wants HEAD to answer where a record cannot be renewed, whatever the reason, and a push to fail.
func TestFailedRenewal(t *testing.T) {
	for _, reason := range []error{storage.ErrUnavailable, storage.ErrNoSpace, errors.New("the volume is mounted read-only")} {
		c := newClock()
		store := &hooked{Driver: c.store()}
		f := newFixture(t, store, &registry.Options{Now: c.now})
		p := f.repository("team/app")
		d := f.pushBlob(p, "content")
		f.put(p, "v1", image("", d))
		c.advance(f.grace())
		store.put = refuseLinks(reason)
		if b, err := p.CheckBlob(t.Context(), d); err != nil || b.Size != 7 {
			t.Errorf("HEAD: %+v, %v", b, err)
		}
		if _, err := push(t.Context(), p, "v2", image("", d)); err == nil {
			t.Error("a push relied on what could not be renewed")
		}
		if _, err := f.repository("other").MountBlob(t.Context(), d, p.Name()); err == nil {
			t.Error("a mount relied on what could not be renewed")
		}
	}
}

func TestDeleteBlobWithFaults(t *testing.T) {
	flaky := storagetest.NewFlaky(newStore())
	f := newFixture(t, flaky, nil)
	p := f.repository("team/app")
	d := f.pushBlob(p, "content")
	for n := 1; n <= 2; n++ {
		flaky.FailNth(n, storagetest.FailBefore)
		wantCode(t, "delete", p.DeleteBlob(t.Context(), d), registry.Unavailable)
	}
	if _, err := p.Blob(t.Context(), d); err != nil {
		t.Error(err)
	}
}
