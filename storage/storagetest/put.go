package storagetest

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"berth/storage"
)

var putTests = []test{
	{"Conditions", testConditions},
	{"DeleteConditions", testDeleteConditions},
	{"BadBodies", testBadBodies},
	{"Cancelled", testCancelled},
	{"CancelledBody", testCancelledBody},
	{"PutAll", testPutAll},
}

func testConditions(t *testing.T, d storage.Driver) {
	const key = "conditions/key"
	refuse(t, d, key, "x", storage.Match("no such rev"), storage.ErrConflict)
	refuse(t, d, key, "x", storage.Match(""), storage.ErrConflict)
	wantNone(t, d, key)

	one := put(t, d, key, "one", storage.Absent())
	refuse(t, d, key, "lost", storage.Absent(), storage.ErrConflict)
	refuse(t, d, key, "lost", storage.Match(""), storage.ErrConflict)
	refuse(t, d, key, "lost", storage.Match("no such rev"), storage.ErrConflict)
	wantBody(t, d, key, "one")

	two := put(t, d, key, "two", storage.Match(one.Rev))
	refuse(t, d, key, "lost", storage.Match(one.Rev), storage.ErrConflict)
	refuse(t, d, key, "lost", storage.Absent(), storage.ErrConflict)
	wantBody(t, d, key, "two")

	three := put(t, d, key, "six", storage.Cond{})
	refuse(t, d, key, "lost", storage.Match(two.Rev), storage.ErrConflict)
	wantBody(t, d, key, "six")
	put(t, d, key, "", storage.Match(three.Rev))
	wantBody(t, d, key, "")

	if err := d.Delete(t.Context(), key, storage.Cond{}); err != nil {
		t.Errorf("Delete = %v", err)
	}
	refuse(t, d, key, "lost", storage.Match(three.Rev), storage.ErrConflict)
	put(t, d, key, "again", storage.Absent())
	wantBody(t, d, key, "again")

	large := put(t, d, key, pattern(3<<20), storage.Cond{})
	refuse(t, d, key, pattern(3<<20), storage.Absent(), storage.ErrConflict)
	put(t, d, key, "small", storage.Match(large.Rev))
	wantBody(t, d, key, "small")
}

func testDeleteConditions(t *testing.T, d storage.Driver) {
	const key = "conditions/delete"
	remove := func(cond storage.Cond, want error) {
		t.Helper()
		if err := d.Delete(t.Context(), key, cond); !errors.Is(err, want) {
			t.Errorf("Delete = %v, want %v", err, want)
		}
	}
	remove(storage.Cond{}, nil)
	remove(storage.Absent(), nil)
	remove(storage.Match("rev"), storage.ErrConflict)
	remove(storage.Match(""), storage.ErrConflict)

	one := put(t, d, key, "one", storage.Cond{})
	two := put(t, d, key, "two", storage.Cond{})
	remove(storage.Match(one.Rev), storage.ErrConflict)
	remove(storage.Match(""), storage.ErrConflict)
	remove(storage.Absent(), storage.ErrConflict)
	wantBody(t, d, key, "two")
	remove(storage.Match(two.Rev), nil)
	wantNone(t, d, key)
	remove(storage.Match(two.Rev), storage.ErrConflict)
	put(t, d, key, "three", storage.Absent())
	remove(storage.Cond{}, nil)
	wantNone(t, d, key)
}

// badBodies are bodies that must not be stored under the size that is said with them.
func badBodies() []struct {
	name string
	body io.Reader
	size int64
} {
	broken := func(n int) io.Reader {
		return io.MultiReader(strings.NewReader(pattern(n)), iotest.ErrReader(errBroken))
	}
	cut := func(n int) io.Reader { // as the body of a request whose connection breaks
		return io.MultiReader(strings.NewReader(pattern(n)), iotest.ErrReader(io.ErrUnexpectedEOF))
	}
	return []struct {
		name string
		body io.Reader
		size int64
	}{
		{"short", strings.NewReader("1234"), 5},
		{"empty", strings.NewReader(""), 5},
		{"long", strings.NewReader("123456"), 5},
		{"not empty", strings.NewReader("1"), 0},
		{"short, large", strings.NewReader(pattern(3 << 20)), 3<<20 + 1},
		{"long, large", strings.NewReader(pattern(3<<20 + 1)), 3 << 20},
		{"very short", strings.NewReader("1"), 1 << 40},
		{"broken at once", broken(0), 10},
		{"broken at once, size unknown", broken(0), -1},
		{"broken", broken(5), 10},
		{"broken at the end", broken(10), 10},
		{"broken, size unknown", broken(5), -1},
		{"cut", cut(5), 10},
		{"cut, size unknown", cut(5), -1},
		{"cut, large, size unknown", cut(3 << 20), -1},
		{"broken, large", broken(3 << 20), 4 << 20},
		{"broken, large, size unknown", broken(3 << 20), -1},
	}
}

var errBroken = errors.New("the body is broken")

func testBadBodies(t *testing.T, d storage.Driver) {
	put(t, d, "bad/old", "old", storage.Cond{})
	for _, key := range []string{"bad/new", "bad/old"} {
		for _, tc := range badBodies() {
			_, err := d.Put(t.Context(), key, tc.body, tc.size, storage.Cond{})
			if err == nil || errors.Is(err, storage.ErrConflict) {
				t.Errorf("%s: Put = %v, want an error about the body", tc.name, err)
			}
			if strings.HasPrefix(tc.name, "broken") && !errors.Is(err, errBroken) {
				t.Errorf("%s: Put = %v, want the error of the body", tc.name, err)
			}
		}
	}
	wantNone(t, d, "bad/new")
	wantBody(t, d, "bad/old", "old")
	if keys := list(t, d, "", ""); len(keys) != 1 {
		t.Errorf("bad bodies left %q", keys)
	}
}

func testCancelled(t *testing.T, d storage.Driver) {
	const key = "cancelled/key"
	info := put(t, d, key, "old", storage.Cond{})
	ctx := cancelled(t)
	_, errPut := d.Put(ctx, key, strings.NewReader("new"), 3, storage.Cond{})
	_, errNew := d.Put(ctx, key+"2", strings.NewReader("new"), 3, storage.Absent())
	_, _, errOpen := d.Open(ctx, key, 0, -1)
	_, errStat := d.Stat(ctx, key)
	_, errAll := storage.PutAll(ctx, d, storage.Object{Key: key + "3"})
	var errList error
	for _, errList = range d.List(ctx, "", "") {
	}
	for op, err := range map[string]error{
		"Put": errPut, "Put of a new key": errNew, "Delete": d.Delete(ctx, key, storage.Match(info.Rev)),
		"Open": errOpen, "Stat": errStat, "PutAll": errAll, "List": errList,
	} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s under a cancelled context = %v", op, err)
		}
	}
	wantBody(t, d, key, "old")
	wantNone(t, d, key+"2")
	wantNone(t, d, key+"3")
}

// testCancelledBody cancels a put while its body flows. The rest of the body is good, so that only the context can stop
// the put.
func testCancelledBody(t *testing.T, d storage.Driver) {
	const key = "cancelled/body"
	for _, n := range []int{10, 3 << 20} {
		for _, size := range []int64{int64(n), -1} {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			body := io.MultiReader(strings.NewReader(pattern(n)[:n/2]), cancelReader(cancel), strings.NewReader(pattern(n)[n/2:]))
			if _, err := d.Put(ctx, key, body, size, storage.Cond{}); !errors.Is(err, context.Canceled) {
				t.Errorf("Put whose context is cancelled while its body of %d bytes flows = %v", n, err)
			}
			wantNone(t, d, key)
		}
	}
}

// cancelReader is an empty body whose end cancels a context.
type cancelReader context.CancelFunc

func (c cancelReader) Read([]byte) (int, error) {
	c()
	return 0, io.EOF
}

func testPutAll(t *testing.T, d storage.Driver) {
	old := put(t, d, "all/2", "old", storage.Cond{})
	objects := []storage.Object{
		{Key: "all/1", Body: []byte("one"), Cond: storage.Absent()},
		{Key: "all/2", Body: []byte("two"), Cond: storage.Match(old.Rev)},
		{Key: "all/deep/er/3", Body: []byte(pattern(2 << 20))},
		{Key: "all/4", Body: nil},
	}
	infos, err := storage.PutAll(t.Context(), d, objects...)
	if err != nil || len(infos) != len(objects) {
		t.Fatalf("PutAll = %+v, %v", infos, err)
	}
	for i, o := range objects {
		wantBody(t, d, o.Key, string(o.Body))
		if stat, err := d.Stat(t.Context(), o.Key); err != nil || !sameObject(infos[i], stat) {
			t.Errorf("PutAll says %+v, Stat says %+v, %v", infos[i], stat, err)
		}
	}

	// The third is refused: the first two stay, the fourth is not tried.
	infos, err = storage.PutAll(t.Context(), d,
		storage.Object{Key: "all/4", Body: []byte("four")},
		storage.Object{Key: "all/5", Body: []byte("five")},
		storage.Object{Key: "all/1", Body: []byte("lost"), Cond: storage.Absent()},
		storage.Object{Key: "all/6", Body: []byte("six")})
	if !errors.Is(err, storage.ErrConflict) || len(infos) != 2 || infos[0].Key != "all/4" || infos[1].Key != "all/5" {
		t.Errorf("PutAll whose third object conflicts = %+v, %v", infos, err)
	}
	wantBody(t, d, "all/4", "four")
	wantBody(t, d, "all/5", "five")
	wantBody(t, d, "all/1", "one")
	wantNone(t, d, "all/6")

	// One key twice: each put sees the one before it.
	_, err = storage.PutAll(t.Context(), d,
		storage.Object{Key: "all/7", Body: []byte("seven"), Cond: storage.Absent()},
		storage.Object{Key: "all/7", Body: []byte("7")},
		storage.Object{Key: "all/7", Body: []byte("lost"), Cond: storage.Absent()})
	if !errors.Is(err, storage.ErrConflict) {
		t.Errorf("PutAll of one key three times = %v", err)
	}
	wantBody(t, d, "all/7", "7")

	if _, err = storage.PutAll(t.Context(), d, storage.Object{Key: "all/8"}, storage.Object{Key: "../all"}); !errors.Is(err, storage.ErrInvalidKey) {
		t.Errorf("PutAll of an invalid key = %v", err)
	}
	wantBody(t, d, "all/8", "")
	if infos, err = storage.PutAll(t.Context(), d); err != nil || len(infos) != 0 {
		t.Errorf("PutAll of nothing = %+v, %v", infos, err)
	}
}
