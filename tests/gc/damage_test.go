package gc

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"berth/tests/content"
	"berth/tests/harness"
)

// fileOf returns the data object that has the bytes of a blob.
func (s *replica) fileOf(t *testing.T, b content.Blob) string {
	t.Helper()
	for _, path := range s.files(t, "data") {
		if body, err := os.ReadFile(path); err == nil && bytes.Equal(body, b.Bytes) {
			return path
		}
	}
	t.Fatalf("no data object has the bytes of %s", b.Digest)
	return ""
}

func (s *replica) recordOf(b content.Blob) string {
	hex := strings.TrimPrefix(b.Digest, "sha256:")
	return filepath.Join(s.Root, "objects", "blobs", "sha256", hex[:2], hex)
}

func overwrite(t *testing.T, path string, change func([]byte) []byte) {
	t.Helper()
	body, err := os.ReadFile(path)
	if err == nil {
		err = os.WriteFile(path, change(body), 0o640)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestDamage damages the store below a server that is stopped. The collection must make nothing worse, no reader may be given
// wrong bytes as whole, and a push of the blob heals it.
func TestDamage(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		path   func(*testing.T, *replica, content.Blob) string
		damage func(t *testing.T, path string)
		reads  bool // the collection reads it, and says so
	}{
		"a record that is no record": {path: func(_ *testing.T, s *replica, b content.Blob) string { return s.recordOf(b) }, reads: true,
			damage: func(t *testing.T, path string) { overwrite(t, path, func([]byte) []byte { return []byte("damaged") }) }},
		"an empty record": {path: func(_ *testing.T, s *replica, b content.Blob) string { return s.recordOf(b) }, reads: true,
			damage: func(t *testing.T, path string) { overwrite(t, path, func([]byte) []byte { return nil }) }},
		"data that is missing": {path: func(t *testing.T, s *replica, b content.Blob) string { return s.fileOf(t, b) },
			damage: func(t *testing.T, path string) {
				if err := os.Remove(path); err != nil {
					t.Fatal(err)
				}
			}},
		"data that is cut": {path: func(t *testing.T, s *replica, b content.Blob) string { return s.fileOf(t, b) },
			damage: func(t *testing.T, path string) {
				overwrite(t, path, func(b []byte) []byte { return b[:len(b)/2] })
			}},
		"data with a bit flipped": {path: func(t *testing.T, s *replica, b content.Blob) string { return s.fileOf(t, b) },
			damage: func(t *testing.T, path string) {
				overwrite(t, path, func(b []byte) []byte { b[len(b)/3] ^= 4; return b })
			}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t, grace, harness.Options{})
			broken, whole, waste := image("broken"), image("whole"), content.Random("waste", 50_000)
			for repo, set := range map[string]content.Set{"broken/app": broken, "whole/app": whole} {
				if err := s.Push(repo, set, "latest"); err != nil {
					t.Fatal(err)
				}
			}
			if err := s.PushBlob("whole/app", waste); err != nil {
				t.Fatal(err)
			}
			hit := slices.MaxFunc(broken.Blobs, func(a, b content.Blob) int { return len(a.Bytes) - len(b.Bytes) })
			path := test.path(t, s, hit)
			s.Stop()
			test.damage(t, path)
			s.Restart()
			time.Sleep(grace + grace/4) // until the waste may go
			r, err := s.collect(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if (r.failed() > 0) != test.reads {
				t.Errorf("the collection says %+v", r)
			}
			s.wantOnly(t, broken, hit)
			if err := s.Verify("whole/app", whole); err != nil {
				t.Errorf("what was not damaged: %v", err)
			}
			if err := s.PushBlob("broken/app", hit); err != nil {
				t.Fatalf("the push that heals: %v", err)
			}
			s.settle(t)
			for repo, set := range map[string]content.Set{"broken/app": broken, "whole/app": whole} {
				if err := s.Verify(repo, set); err != nil {
					t.Errorf("once it is healed: %v", err)
				}
			}
			if data := s.files(t, "data"); len(data) != 4 {
				t.Errorf("%d data objects are left, want two of each image", len(data))
			}
		})
	}
}

// wantOnly wants all of an image but one blob, which may not be given as whole.
func (s *replica) wantOnly(t *testing.T, set content.Set, hit content.Blob) {
	t.Helper()
	rest := content.Set{Manifests: set.Manifests}
	for _, b := range set.Blobs {
		if b.Digest != hit.Digest {
			rest.Blobs = append(rest.Blobs, b)
		}
	}
	if err := s.Verify("broken/app", rest); err != nil {
		t.Errorf("what else the image has: %v", err)
	}
	if r, err := s.Get("/v2/broken/app/blobs/" + hit.Digest); err == nil && r.Status == 200 {
		t.Errorf("the damaged blob is served with %d bytes as if it were whole", len(r.Body))
	}
}
