package storagetest

import (
	"errors"
	"io"
	"io/fs"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"berth/storage"
)

var contentTests = []test{
	{"RoundTrip", testRoundTrip},
	{"NotThere", testNotThere},
	{"Ranges", testRanges},
	{"Seek", testSeek},
	{"ReaderOutlivesContent", testReaderOutlivesContent},
	{"Revs", testRevs},
	{"InvalidKeys", testInvalidKeys},
	{"LongKeys", testLongKeys},
}

func testRoundTrip(t *testing.T, d storage.Driver) {
	for _, n := range []int{0, 1, 4096, 64<<10 + 1, 256 << 10, 1<<20 - 1, 1 << 20, 1<<20 + 1, 9 << 20} {
		body := pattern(n)
		for _, known := range []bool{true, false} {
			key := "round/" + strconv.Itoa(n) + "." + strconv.FormatBool(known)
			size := int64(-1)
			r := iotest.DataErrReader(strings.NewReader(body)) // its end comes with its last bytes
			if known {
				size, r = int64(n), iotest.HalfReader(strings.NewReader(body))
			}
			info, err := d.Put(t.Context(), key, r, size, storage.Cond{})
			if err != nil {
				t.Fatalf("Put of %d bytes, size %d = %v", n, size, err)
			}
			wantBody(t, d, key, body)
			stat, err := d.Stat(t.Context(), key)
			if err != nil || !sameObject(info, stat) || info.Rev == "" {
				t.Errorf("Put says %+v, Stat says %+v, %v", info, stat, err)
			}
			if age := time.Since(info.ModTime); age.Abs() > time.Minute {
				t.Errorf("ModTime of an object just written is %v ago", age)
			}
		}
	}
}

func testNotThere(t *testing.T, d storage.Driver) {
	wantNone(t, d, "no/such/key")
	put(t, d, "folder/key", "x", storage.Cond{})
	for _, key := range []string{"folder/ke", "folder/key2", "folder/other"} {
		wantNone(t, d, key)
		if err := d.Delete(t.Context(), key, storage.Cond{}); err != nil {
			t.Errorf("Delete(%s) of nothing = %v", key, err)
		}
	}
	wantNone(t, d, "folder")           // a folder is not an object
	wantNone(t, d, "folder/key/below") // nor is an object a folder
	if err := d.Delete(t.Context(), "folder/key/below", storage.Cond{}); err != nil {
		t.Errorf("Delete below an object = %v", err)
	}
	if err := d.Delete(t.Context(), "folder/key", storage.Cond{}); err != nil {
		t.Errorf("Delete = %v", err)
	}
	wantNone(t, d, "folder/key")
	put(t, d, "folder", "a key that was a folder", storage.Absent())
	wantBody(t, d, "folder", "a key that was a folder")
}

// testRanges reads every corner of a small, an empty and a large object.
func testRanges(t *testing.T, d storage.Driver) {
	for _, size := range []int64{0, 10, 3 << 20} {
		key, body := "ranges/"+strconv.FormatInt(size, 10), pattern(int(size))
		put(t, d, key, body, storage.Cond{})
		for _, off := range []int64{0, 1, size / 2, size - 1, size, size + 1, size + 1<<40} {
			if off < 0 {
				continue
			}
			for _, n := range []int64{0, 1, size / 2, size - off, size - off + 1, size + 1<<40, 1<<63 - 1, -1} {
				from := min(off, size)
				to := size
				if n >= 0 {
					to = from + min(n, size-from)
				}
				got, info := read(t, d, key, off, n)
				if want := body[from:max(from, to)]; got != want {
					t.Errorf("Open(%s, %d, %d) reads %s, want %s", key, off, n, brief(got), brief(want))
				}
				if info.Size != size || info.Key != key || info.Rev == "" {
					t.Errorf("Open(%s, %d, %d) describes %+v, not the whole object", key, off, n, info)
				}
			}
		}
		for _, off := range []int64{-1, -1 << 63} {
			if r, _, err := d.Open(t.Context(), key, off, -1); err == nil || errors.Is(err, fs.ErrNotExist) {
				t.Errorf("Open(%s, %d) = %v, want an error about the offset", key, off, err)
				if err == nil {
					r.Close()
				}
			}
		}
	}
}

// testSeek checks the readers that can seek: those, if any, of a whole object.
func testSeek(t *testing.T, d storage.Driver) {
	body := pattern(3 << 20)
	put(t, d, "seek/large", body, storage.Cond{})
	put(t, d, "seek/small", body[:100], storage.Cond{})
	for key, body := range map[string]string{"seek/large": body, "seek/small": body[:100]} {
		r, _, err := d.Open(t.Context(), key, 0, -1)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		if s, ok := r.(io.ReadSeeker); ok {
			end, err := s.Seek(0, io.SeekEnd)
			if err != nil || end != int64(len(body)) {
				t.Errorf("the end of %s is at %d, %v", key, end, err)
			}
			if _, err := s.Seek(7, io.SeekStart); err != nil {
				t.Errorf("Seek = %v", err)
			}
			if got, err := io.ReadAll(s); string(got) != body[7:] || err != nil {
				t.Errorf("after a Seek, %s reads as %s, %v", key, brief(string(got)), err)
			}
		}
		part, _, err := d.Open(t.Context(), key, 1, 5)
		if err != nil {
			t.Fatal(err)
		}
		defer part.Close()
		if _, ok := part.(io.Seeker); ok {
			t.Errorf("the reader of a part of %s can seek", key)
		}
	}
}

// testReaderOutlivesContent replaces and deletes objects between the opening and the reading.
func testReaderOutlivesContent(t *testing.T, d storage.Driver) {
	for _, n := range []int{100, 3 << 20} {
		body := pattern(n)
		put(t, d, "outlive/replaced", body, storage.Cond{})
		put(t, d, "outlive/deleted", body, storage.Cond{})
		for _, key := range []string{"outlive/replaced", "outlive/deleted"} {
			r, _, err := d.Open(t.Context(), key, 0, -1)
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			if key == "outlive/replaced" {
				put(t, d, key, strings.Repeat("new", n/2), storage.Cond{})
			} else if err := d.Delete(t.Context(), key, storage.Cond{}); err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(r); string(got) != body || err != nil {
				t.Errorf("%s reads as %s, %v after it was opened", key, brief(string(got)), err)
			}
		}
	}
}

// testRevs writes contents of one length one after the other, so that nothing but the content, or something that the
// driver counts, can tell them apart: the clock, the size and the inode may all be the same. Equal contents may share a
// Rev; whoever minds writes a nonce.
func testRevs(t *testing.T, d storage.Driver) {
	for _, tc := range []struct {
		key           string
		size, rewrite int
	}{{"revs/small", 16, 60}, {"revs/large", 3 << 20, 8}} {
		tail := pattern(tc.size)
		contents := make(map[storage.Rev]string)
		for i := range tc.rewrite {
			if i%3 == 2 {
				if err := d.Delete(t.Context(), tc.key, storage.Cond{}); err != nil {
					t.Fatal(err)
				}
			}
			nonce := strconv.Itoa(1000 + i%(tc.rewrite-4)) // the last few repeat the first
			info := put(t, d, tc.key, nonce+tail[4:], storage.Cond{})
			if old, ok := contents[info.Rev]; ok && old != nonce {
				t.Errorf("Rev %q of %s names the contents %s and %s", info.Rev, tc.key, old, nonce)
			}
			contents[info.Rev] = nonce
			wantBody(t, d, tc.key, nonce+tail[4:])
		}
	}
}

var invalidKeys = []string{
	"", "/", "/a", "a/", "a//b", ".", "..", "a/../b", "a/./b", "../a", "a b", "a\x00b", "a\\b", "a:b", "ü", "a\n", "a@b", "\xff",
	strings.Repeat("x", 256), strings.Repeat("x/", 450) + "x",
}

func testInvalidKeys(t *testing.T, d storage.Driver) {
	for _, key := range invalidKeys {
		refuse(t, d, key, "x", storage.Cond{}, storage.ErrInvalidKey)
		if _, err := d.Stat(t.Context(), key); !errors.Is(err, storage.ErrInvalidKey) {
			t.Errorf("Stat(%q) = %v", key, err)
		}
		if _, _, err := d.Open(t.Context(), key, 0, -1); !errors.Is(err, storage.ErrInvalidKey) {
			t.Errorf("Open(%q) = %v", key, err)
		}
		if err := d.Delete(t.Context(), key, storage.Cond{}); !errors.Is(err, storage.ErrInvalidKey) {
			t.Errorf("Delete(%q) = %v", key, err)
		}
	}
	if keys := list(t, d, "", ""); len(keys) != 0 {
		t.Errorf("invalid keys left %q", keys)
	}
}

func testLongKeys(t *testing.T, d storage.Driver) {
	keys := []string{
		strings.Repeat("d/", storage.MaxKey/2-1) + "xx",
		strings.Repeat("l", 255),
		strings.Repeat(strings.Repeat("m", 224)+"/", 3) + strings.Repeat("m", 225),
	}
	for _, key := range keys {
		put(t, d, key, key, storage.Absent())
		wantBody(t, d, key, key)
	}
	if got := list(t, d, "", ""); len(got) != len(keys) || got[0] != keys[0] || got[1] != keys[1] || got[2] != keys[2] {
		t.Errorf("List yields %d keys, want %d: %q", len(got), len(keys), got)
	}
}
