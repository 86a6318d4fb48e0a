package registry_test

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"berth/registry"
)

// resume finds an upload that must be there, standing at offset.
func (f *fixture) resume(p registry.Repository, id string, offset int) *registry.Upload {
	f.Helper()
	u, err := p.Upload(f.Context(), "alice", id)
	if err != nil {
		f.Fatal(err)
	}
	if u.Offset() != int64(offset) || u.ID() != id {
		f.Fatalf("the upload stands at %d, want %d", u.Offset(), offset)
	}
	return u
}

func at(content string, start, end int) registry.Chunk {
	c := chunk(content)
	c.Start, c.End = int64(start), int64(end)
	return c
}

func TestChunksThatDoNotFit(t *testing.T) {
	f := newFixture(t, nil, nil)
	p := f.repository("team/app")
	id := p.NewUpload("alice", registry.SHA256).ID()
	if err := f.resume(p, id, 0).Append(t.Context(), chunk("0123456789")); err != nil {
		t.Fatal(err)
	}
	unknown := func(c registry.Chunk) registry.Chunk { c.Size = -1; return c }
	bad := []struct {
		why  string
		c    func() registry.Chunk
		want registry.Code
	}{
		{"too early", func() registry.Chunk { return at("abc", 0, 2) }, registry.RangeInvalid},
		{"just too early", func() registry.Chunk { return at("abc", 9, 11) }, registry.RangeInvalid},
		{"too late", func() registry.Chunk { return at("abc", 11, 13) }, registry.RangeInvalid},
		{"a range longer than the body", func() registry.Chunk { return at("abc", 10, 13) }, registry.SizeInvalid},
		{"a range shorter than the body", func() registry.Chunk { return at("abc", 10, 11) }, registry.SizeInvalid},
		{"a range longer than what comes", func() registry.Chunk { return unknown(at("abc", 10, 13)) }, registry.SizeInvalid},
		{"a range shorter than what comes", func() registry.Chunk { return unknown(at("abc", 10, 11)) }, registry.SizeInvalid},
		{"a range that ends before it begins", func() registry.Chunk { return unknown(at("abc", 10, 5)) }, registry.SizeInvalid},
		{"a range that overflows", func() registry.Chunk { return unknown(at("abc", 0, int(^uint(0)>>1))) }, registry.SizeInvalid},
		{"no body for a range", func() registry.Chunk { return registry.Chunk{Size: -1, Start: 10, End: 12} }, registry.SizeInvalid},
		{"a short body", func() registry.Chunk { c := chunk("abc"); c.Size = 4; return c }, registry.SizeInvalid},
		{"a long body", func() registry.Chunk { c := chunk("abc"); c.Size = 2; return c }, registry.SizeInvalid},
	}
	d := registry.SHA256.FromBytes([]byte("0123456789abc"))
	for _, b := range bad {
		wantCode(t, b.why, f.resume(p, id, 10).Append(t.Context(), b.c()), b.want)
		_, err := f.resume(p, id, 10).Commit(t.Context(), d, b.c())
		wantCode(t, b.why+", closing", err, b.want)
	}
	_, err := f.resume(p, id, 10).Commit(t.Context(), d, chunk("xyz"))
	wantCode(t, "another content", err, registry.DigestInvalid)
	if n := len(f.keys("data/")); n != 1 {
		t.Errorf("what did not fit left %d data objects", n-1)
	}
	if err := f.resume(p, id, 10).Append(t.Context(), nothing); err != nil {
		t.Errorf("nothing: %v", err)
	}
	if err := f.resume(p, id, 10).Append(t.Context(), at("abc", 10, 12)); err != nil {
		t.Error(err)
	}
	if _, err := f.resume(p, id, 13).Commit(t.Context(), d, nothing); err != nil {
		t.Error(err)
	}
	if got, err := readBlob(t.Context(), p, d); err != nil || got != "0123456789abc" {
		t.Errorf("got %q, %v", got, err)
	}
}

// TestBrokenChunk breaks chunks off at many places: what came is kept, and the upload goes on from there.
func TestBrokenChunk(t *testing.T) {
	f := newFixture(t, nil, nil)
	p := f.repository("team/app")
	content := pattern("", 1<<20)
	broken := errors.New("the connection broke")
	id := p.NewUpload("alice", registry.SHA256).ID()
	offset := 0
	for _, n := range []int{0, 1, 64 << 10, 64<<10 + 1, 300_000, 0} {
		body := io.MultiReader(strings.NewReader(content[offset:offset+n]), iotest.ErrReader(broken))
		u := f.resume(p, id, offset)
		err := u.Append(t.Context(), registry.Chunk{Body: body, Size: 500_000, Start: int64(offset), End: int64(offset) + 499_999})
		if offset += n; !errors.Is(err, broken) || u.Offset() != int64(offset) {
			t.Errorf("broken after %d: %v, at %d", n, err, u.Offset())
		}
	}
	rest := func() registry.Chunk { return at(content[offset:], offset, len(content)-1) }
	d := registry.SHA256.FromBytes([]byte(content))
	before := len(f.keys("data/"))
	cut := rest()
	cut.Body = io.MultiReader(strings.NewReader(content[offset:offset+100]), iotest.ErrReader(io.ErrUnexpectedEOF))
	_, err := f.resume(p, id, offset).Commit(t.Context(), d, cut)
	wantCode(t, "a closing chunk that breaks off", err, registry.SizeInvalid)
	if n := len(f.keys("data/")); n != before {
		t.Errorf("it left %d data objects", n-before)
	}
	if _, err := f.resume(p, id, offset).Commit(t.Context(), d, rest()); err != nil {
		t.Fatal(err)
	}
	if got, err := readBlob(t.Context(), p, d); err != nil || got != content {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

func TestClosedTwice(t *testing.T) {
	f := newFixture(t, nil, nil)
	p := f.repository("team/app")
	id := p.NewUpload("alice", registry.SHA256).ID()
	d := registry.SHA256.FromBytes([]byte("content"))
	if err := f.resume(p, id, 0).Append(t.Context(), chunk("con")); err != nil {
		t.Fatal(err)
	}
	late := f.resume(p, id, 3)
	for range 2 {
		if b, err := f.resume(p, id, min(7, 3+len(f.keys("blobs/"))*4)).Commit(t.Context(), d, chunk("tent")); err != nil || b.Size != 7 {
			t.Fatalf("%+v, %v", b, err)
		}
	}
	if b, err := late.Commit(t.Context(), d, chunk("tent")); err != nil || b.Size != 7 {
		t.Errorf("a request that began before it was closed: %+v, %v", b, err)
	}
	_, err := f.resume(p, id, 7).Commit(t.Context(), registry.SHA256.FromBytes([]byte("con")), nothing)
	wantCode(t, "closed as another digest", err, registry.UploadInvalid)
	_, err = f.resume(p, id, 7).Commit(t.Context(), registry.SHA512.FromBytes([]byte("content")), nothing)
	wantCode(t, "closed by another algorithm", err, registry.UploadInvalid)
	wantCode(t, "append", f.resume(p, id, 7).Append(t.Context(), chunk("x")), registry.UploadUnknown)
	wantCode(t, "cancel", f.resume(p, id, 7).Cancel(t.Context()), registry.UploadUnknown)
	if n := len(f.keys("data/")); n != 2 {
		t.Errorf("there are %d data objects", n)
	}
}

func TestCancel(t *testing.T) {
	f := newFixture(t, nil, nil)
	p := f.repository("team/app")
	for _, content := range []string{"", "content"} {
		id := p.NewUpload("alice", registry.SHA256).ID()
		if content != "" {
			if err := f.resume(p, id, 0).Append(t.Context(), chunk(content)); err != nil {
				t.Fatal(err)
			}
		}
		late := f.resume(p, id, len(content))
		if err := f.resume(p, id, len(content)).Cancel(t.Context()); err != nil {
			t.Fatal(err)
		}
		_, err := p.Upload(t.Context(), "alice", id)
		wantCode(t, "a cancelled upload", err, registry.UploadUnknown)
		wantCode(t, "a request that began before", late.Append(t.Context(), chunk("more")), registry.RangeInvalid)
	}
	if _, err := f.registry.PurgeUploads(t.Context(), -1, false); err != nil {
		t.Error(err)
	}
	if keys := f.keys(""); !slices.Equal(keys, []string{"config/clock", "config/secret"}) {
		t.Errorf("these are left: %q", keys)
	}
}

func TestUploadsOfOthers(t *testing.T) {
	c := newClock()
	f := newFixture(t, nil, &registry.Options{Now: c.now, UploadAge: time.Hour})
	p := f.repository("team/app")
	fresh, begun := p.NewUpload("alice", registry.SHA256), p.NewUpload("alice", registry.SHA256)
	if err := begun.Append(t.Context(), chunk("content")); err != nil {
		t.Fatal(err)
	}
	for _, u := range []*registry.Upload{fresh, begun} {
		f.resume(p, u.ID(), int(u.Offset()))
		for why, id := range tampered(t, u.ID()) {
			_, err := p.Upload(t.Context(), "alice", id)
			wantCode(t, why, err, registry.UploadUnknown)
		}
		_, err := p.Upload(t.Context(), "bob", u.ID())
		wantCode(t, "of another principal", err, registry.UploadUnknown)
		_, err = f.repository("team/other").Upload(t.Context(), "alice", u.ID())
		wantCode(t, "of another repository", err, registry.UploadUnknown)
		other := newFixture(t, f.store, &registry.Options{Secret: []byte("another secret of 32 bytes or so")})
		_, err = other.repository("team/app").Upload(t.Context(), "alice", u.ID())
		wantCode(t, "of another secret", err, registry.UploadUnknown)
	}
	c.advance(time.Hour + time.Minute)
	_, err := p.Upload(t.Context(), "alice", fresh.ID())
	wantCode(t, "expired", err, registry.UploadUnknown)
	f.resume(p, begun.ID(), 7)
}

// TestAlgorithms closes uploads by either algorithm, whichever was announced.
func TestAlgorithms(t *testing.T) {
	f := newFixture(t, nil, nil)
	p := f.repository("team/app")
	for i, parts := range [][]string{{"", ""}, {"", "content"}, {"con", "tent"}, {"content", ""}, {pattern("a", 100_000), pattern("b", 100_000)}} {
		for _, announced := range []registry.Algorithm{registry.SHA256, registry.SHA512} {
			for _, algorithm := range []registry.Algorithm{registry.SHA256, registry.SHA512} {
				id := p.NewUpload("alice", announced).ID()
				if err := f.resume(p, id, 0).Append(t.Context(), stream(strings.NewReader(parts[0]))); err != nil {
					t.Fatal(err)
				}
				d := algorithm.FromBytes([]byte(parts[0] + parts[1]))
				_, err := f.resume(p, id, len(parts[0])).Commit(t.Context(), algorithm.FromBytes([]byte("x")), chunk(parts[1]))
				wantCode(t, "another digest", err, registry.DigestInvalid)
				if _, err := f.resume(p, id, len(parts[0])).Commit(t.Context(), d, chunk(parts[1])); err != nil {
					t.Fatalf("%d: announced %s, closed by %s: %v", i, announced, algorithm, err)
				}
				if got, err := readBlob(t.Context(), p, d); err != nil || got != parts[0]+parts[1] {
					t.Errorf("%d: %d bytes, %v", i, len(got), err)
				}
			}
		}
	}
}

// TestTwoChunksAtOnce lets requests append to one upload at the same place at once: one wins, what the others brought
// goes, and they learn where the upload stands.
func TestTwoChunksAtOnce(t *testing.T) {
	f := newFixture(t, nil, nil)
	p := f.repository("team/app")
	id := p.NewUpload("alice", registry.SHA256).ID()
	for round, offset := 0, 0; round < 20; round++ {
		var group sync.WaitGroup
		uploads, errs := make([]*registry.Upload, 8), make([]error, 8)
		for i := range uploads {
			uploads[i] = f.resume(p, id, offset)
		}
		for i := range uploads {
			group.Go(func() { errs[i] = uploads[i].Append(t.Context(), chunk(fmt.Sprint(i))) })
		}
		group.Wait()
		offset++
		won := 0
		for i, err := range errs {
			if err == nil {
				won++
			} else {
				wantCode(t, "lost", err, registry.RangeInvalid)
			}
			if uploads[i].Offset() != int64(offset) {
				t.Errorf("a request thinks the upload stands at %d, want %d", uploads[i].Offset(), offset)
			}
		}
		if won != 1 || len(f.keys("data/")) != offset {
			t.Fatalf("%d won, and there are %d data objects", won, len(f.keys("data/")))
		}
	}
}

// TestUploadOnAnotherReplica goes on with every chunk on another registry over the same store.
func TestUploadOnAnotherReplica(t *testing.T) {
	store := newStore()
	replicas := []*fixture{newFixture(t, store, nil), newFixture(t, store, nil), newFixture(t, store, nil)}
	content := pattern("", 500_000)
	id := replicas[2].repository("team/app").NewUpload("alice", registry.SHA256).ID()
	for i := range 9 {
		f := replicas[i%3]
		u := f.resume(f.repository("team/app"), id, i*50_000)
		if err := u.Append(t.Context(), chunk(content[i*50_000:(i+1)*50_000])); err != nil {
			t.Fatal(err)
		}
	}
	d := registry.SHA256.FromBytes([]byte(content))
	for _, f := range replicas {
		p := f.repository("team/app")
		u, err := p.Upload(t.Context(), "alice", id)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := u.Commit(t.Context(), d, chunk(content[450_000:])); err != nil {
			t.Fatal(err)
		}
		if got, err := readBlob(t.Context(), p, d); err != nil || got != content {
			t.Errorf("%d bytes, %v", len(got), err)
		}
	}
}

// TestManyChunks fills an upload with as many chunks as it may have, which can still be closed.
func TestManyChunks(t *testing.T) {
	f := newFixture(t, nil, nil)
	p := f.repository("team/app")
	u := p.NewUpload("alice", registry.SHA256)
	if err := u.Append(t.Context(), chunk("x")); err != nil {
		t.Fatal(err)
	}
	key := "uploads/" + u.UUID()
	segment := strings.SplitN(strings.SplitN(string(f.read(key)), "[", 2)[1], "]", 2)[0]
	f.overwrite(key, []byte(strings.Replace(string(f.read(key)), segment, strings.Repeat(segment+",", 9999)+segment, 1)))
	u = f.resume(p, u.ID(), 1)
	wantCode(t, "one chunk more", u.Append(t.Context(), chunk("y")), registry.UploadInvalid)
	_, err := u.Commit(t.Context(), registry.SHA256.FromBytes([]byte("xy")), chunk("y"))
	wantCode(t, "one chunk more, closing", err, registry.UploadInvalid)
	if _, err := u.Commit(t.Context(), registry.SHA256.FromBytes([]byte("x")), chunk("")); err != nil {
		t.Errorf("closing: %v", err)
	}
}

// TestSharedSecret wants replicas that open an empty store at once to agree.
func TestSharedSecret(t *testing.T) {
	store := newStore()
	ids := make(chan string, 16)
	var group sync.WaitGroup
	for range cap(ids) {
		group.Go(func() {
			ids <- newFixture(t, store, nil).repository("team/app").NewUpload("alice", registry.SHA256).ID()
		})
	}
	group.Wait()
	f := newFixture(t, store, nil)
	for range cap(ids) {
		f.resume(f.repository("team/app"), <-ids, 0)
	}
	f.overwrite("config/secret", []byte("{}\n"))
	if _, err := registry.Open(t.Context(), store, nil); err == nil {
		t.Error("an empty secret is taken")
	}
	empty := newStore()
	if _, err := registry.Open(t.Context(), empty, &registry.Options{ReadOnly: func() bool { return true }}); err != nil {
		t.Error(err)
	}
	if _, err := empty.Stat(t.Context(), "config/secret"); !errors.Is(err, fs.ErrNotExist) {
		t.Error("a read-only registry wrote a secret")
	}
}
