package registry_test

import (
	"io"
	"strings"
	"testing"

	"berth/registry"
)

// TestMaxBlob pushes blobs of 10 bytes and more, in every way, where 10 is the most.
func TestMaxBlob(t *testing.T) {
	most := int64(10)
	f := newFixture(t, nil, &registry.Options{MaxBlob: func() int64 { return most }})
	p := f.repository("team/app")
	unknown := func(content string) registry.Chunk {
		c := chunk(content)
		c.Body, c.Size = struct{ io.Reader }{strings.NewReader(content)}, -1
		return c
	}
	for _, make := range []func(string) registry.Chunk{chunk, unknown} {
		for _, split := range []int{0, 1, 5} {
			for content, want := range map[string]registry.Code{"0123456789": 0, "0123456789a": registry.BlobTooLarge} {
				u := p.NewUpload("alice", registry.SHA256)
				if split > 0 {
					if err := u.Append(t.Context(), make(content[:split])); err != nil {
						t.Fatal(err)
					}
				}
				_, err := u.Commit(t.Context(), registry.SHA256.FromBytes([]byte(content)), make(content[split:]))
				if registry.CodeOf(err) != want || (want == 0) != (err == nil) {
					t.Errorf("%d bytes after %d: %v", len(content)-split, split, err)
				}
			}
		}
		u := p.NewUpload("alice", registry.SHA256)
		if err := u.Append(t.Context(), make("0123456789a")); registry.CodeOf(err) != registry.BlobTooLarge || u.Offset() != 0 {
			t.Errorf("a chunk that is too large: %v, at %d", err, u.Offset())
		}
		if err := u.Append(t.Context(), make("0123")); err != nil {
			t.Error(err)
		}
		if err := u.Append(t.Context(), make("4567890")); registry.CodeOf(err) != registry.BlobTooLarge || u.Offset() != 4 {
			t.Errorf("a chunk that makes it too large: %v, at %d", err, u.Offset())
		}
	}
	most = 0
	large := strings.Repeat("x", 1<<20)
	if _, err := p.PushBlob(t.Context(), registry.SHA256.FromBytes([]byte(large)), strings.NewReader(large), -1); err != nil {
		t.Error(err)
	}
}
