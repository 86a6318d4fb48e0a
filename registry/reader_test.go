package registry_test

import (
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/iotest"

	"berth/registry"
	"berth/storage/storagetest"
)

func (f *fixture) open(p registry.Repository, d registry.Digest) io.ReadSeekCloser {
	f.Helper()
	b, err := p.Blob(f.Context(), d)
	if err != nil {
		f.Fatal(err)
	}
	r, err := b.Open(f.Context(), 0, b.Size)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { r.Close() })
	return r
}

// blobsInParts returns the digests of one content kept as one and as several segments, over a driver that can seek and
// over one that cannot.
func blobsInParts(t *testing.T, content string, run func(t *testing.T, f *fixture, p registry.Repository, d registry.Digest)) {
	third := len(content) / 3
	for name, parts := range map[string][]string{
		"one segment":   {content},
		"many segments": {content[:1], content[1:third], content[third : 2*third], content[2*third:]},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, nil, nil)
			p := f.repository("team/app")
			run(t, f, p, f.pushInChunks(p, parts...))
		})
		t.Run(name+", no seeking", func(t *testing.T) {
			f := newFixture(t, storagetest.NewFlaky(newStore()), nil)
			p := f.repository("team/app")
			run(t, f, p, f.pushInChunks(p, parts...))
		})
	}
}

func TestReadAnywhere(t *testing.T) {
	content := pattern("", 200_000)
	blobsInParts(t, content, func(t *testing.T, f *fixture, p registry.Repository, d registry.Digest) {
		for range 2 { // verified by the first, and then not again
			if err := iotest.TestReader(f.open(p, d), []byte(content)); err != nil {
				t.Error(err)
			}
		}
		r := f.open(p, d)
		for range 300 {
			from := rand.IntN(len(content) + 1)
			part := make([]byte, rand.IntN(len(content)-from+1))
			if _, err := r.Seek(int64(from), io.SeekStart); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(r, part); err != nil || string(part) != content[from:from+len(part)] {
				t.Fatalf("%d bytes from %d: %v", len(part), from, err)
			}
		}
		if _, err := r.Seek(-1, io.SeekStart); err == nil {
			t.Error("a seek before the beginning succeeds")
		}
		if at, err := r.Seek(10, io.SeekEnd); err != nil || at != int64(len(content))+10 {
			t.Errorf("a seek past the end: %d, %v", at, err)
		}
		if n, err := r.Read(make([]byte, 1)); n != 0 || err != io.EOF {
			t.Errorf("a read past the end: %d, %v", n, err)
		}
	})
}

// TestFlippedBit changes a bit of each data object in turn: no read of the whole blob may succeed, whatever was read of
// it before, and none may get its last bytes.
func TestFlippedBit(t *testing.T) {
	content := pattern("", 100_000)
	blobsInParts(t, content, func(t *testing.T, f *fixture, _ registry.Repository, d registry.Digest) {
		var err error
		if f.registry, err = registry.Open(t.Context(), f.store, nil); err != nil { // one that has not verified it
			t.Fatal(err)
		}
		p := f.repository("team/app")
		for _, key := range f.keys("data/") {
			whole := f.read(key)
			flipped := append([]byte{}, whole...)
			flipped[len(flipped)/2] ^= 4
			f.overwrite(key, flipped)
			r := f.open(p, d)
			for range 3 {
				if got, err := io.ReadAll(r); err == nil || len(got) >= len(content) || registry.CodeOf(err) != registry.Unknown {
					t.Errorf("%s is damaged, and %d bytes are served: %v", key, len(got), err)
				}
				for _, to := range []int64{7, 0} { // what is read in parts proves nothing
					if _, err := r.Seek(to, io.SeekStart); err != nil {
						t.Fatal(err)
					}
				}
			}
			f.overwrite(key, whole)
		}
		if got, err := readBlob(t.Context(), p, d); err != nil || got != content {
			t.Errorf("repaired: %d bytes, %v", len(got), err)
		}
	})
}

func (f *fixture) read(key string) []byte {
	f.Helper()
	r, _, err := f.store.Open(f.Context(), key, 0, -1)
	if err != nil {
		f.Fatal(err)
	}
	defer r.Close()
	body, err := io.ReadAll(r)
	if err != nil {
		f.Fatal(err)
	}
	return body
}

// TestCutShort wants a blob whose data lacks a byte to end with an error, also once it was verified.
func TestCutShort(t *testing.T) {
	content := pattern("", 100_000)
	blobsInParts(t, content, func(t *testing.T, f *fixture, p registry.Repository, d registry.Digest) {
		if got, err := readBlob(t.Context(), p, d); err != nil || got != content {
			t.Fatalf("%d bytes, %v", len(got), err)
		}
		for _, key := range f.keys("data/") {
			whole := f.read(key)
			f.overwrite(key, whole[:len(whole)-1])
			if got, err := readBlob(t.Context(), p, d); err == nil {
				t.Errorf("%s is cut short, and %d bytes are served as the whole", key, len(got))
			}
			f.remove(key)
			if got, err := readBlob(t.Context(), p, d); err == nil {
				t.Errorf("%s is gone, and %d bytes are served as the whole", key, len(got))
			}
			f.overwrite(key, whole)
		}
	})
}

// TestReadGoesOn breaks reads of data objects in their middle: the reader goes on where they broke, and gives up when
// nothing more comes.
func TestReadGoesOn(t *testing.T) {
	content := pattern("", 300_000)
	for _, parts := range [][]string{{content}, {content[:100_000], content[100_000:]}} {
		flaky := storagetest.NewFlaky(newStore())
		f := newFixture(t, flaky, nil)
		p := f.repository("team/app")
		d := f.pushInChunks(p, parts...)
		opened := 0
		broken := func(limit int) func(storagetest.Call) storagetest.Fault {
			return func(c storagetest.Call) (fault storagetest.Fault) {
				if c.Op == storagetest.OpOpen && strings.HasPrefix(c.Key, "data/") && opened < limit {
					fault.Mode = storagetest.FailMidway
					opened++
				}
				return fault
			}
		}
		flaky.Plan(broken(10))
		if err := iotest.TestReader(f.open(p, d), []byte(content)); err != nil || opened == 0 {
			t.Errorf("after %d breaks: %v", opened, err)
		}
		opened = 0
		flaky.Plan(broken(1 << 30))
		if got, err := readBlob(t.Context(), p, d); err == nil {
			t.Errorf("every read breaks, and %d bytes are served", len(got))
		}
		flaky.FailNth(3, storagetest.FailBefore)
		if _, err := readBlob(t.Context(), p, d); err != nil && !errors.As(err, new(*registry.Error)) {
			t.Errorf("not an error of the domain: %v", err)
		}
	}
}
