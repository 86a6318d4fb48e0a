package registry_test

import (
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
var sizes = []int{0, 1, 64<<10 - 1, 64 << 10, 64<<10 + 1, 256<<10 - 1, 256 << 10, 256<<10 + 1, 1 << 20, 1<<20 + 7}

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
	if keys := f.keys(""); !slices.Equal(keys, []string{"config/secret"}) {
		t.Errorf("what was refused left %q", keys)
	}
}

func TestBlobsAreShared(t *testing.T) {
	f := newFixture(t, nil, nil)
	for _, size := range sizes[1:] {
		content, before := pattern("shared", size), len(f.keys("data/"))
		for _, name := range []string{"one", "two", "one", "three"} {
			f.pushBlob(f.repository(name), content)
		}
		d := f.pushBlob(f.repository("two"), content)
		if n := len(f.keys("data/")) - before; n != 1 {
			t.Errorf("%d bytes pushed to three repositories are there %d times", size, n)
		}
		_, err := f.repository("four").Blob(t.Context(), d)
		wantCode(t, "a repository that nobody pushed to", err, registry.BlobUnknown)
	}
}

// TestPushHeals pushes blobs whose data objects were lost or cut short.
func TestPushHeals(t *testing.T) {
	for _, size := range []int{5, 400_000} {
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
