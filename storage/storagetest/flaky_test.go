package storagetest_test

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"berth/storage"
	"berth/storage/memory"
	"berth/storage/storagetest"
)

// TestFlakyPasses holds a Flaky without a plan to the specification.
func TestFlakyPasses(t *testing.T) {
	storagetest.Test(t, func(*testing.T) storage.Driver { return storagetest.NewFlaky(memory.New()) })
}

// calls makes each kind of call once, on a store that holds "old", and returns what each answered.
func calls(t *testing.T, d storage.Driver) map[storagetest.Op]error {
	ctx := t.Context()
	got := make(map[storagetest.Op]error)
	r, _, err := d.Open(ctx, "old", 0, -1)
	if err == nil {
		_, err = io.ReadAll(r)
		r.Close()
	}
	got[storagetest.OpOpen] = err
	_, got[storagetest.OpStat] = d.Stat(ctx, "old")
	_, got[storagetest.OpPut] = d.Put(ctx, "new", strings.NewReader("new"), 3, storage.Absent())
	got[storagetest.OpDelete] = d.Delete(ctx, "old", storage.Cond{})
	for _, err := range d.List(ctx, "", "") {
		got[storagetest.OpList] = err
	}
	return got
}

func TestFlakyFails(t *testing.T) {
	const un = "unavailable"
	names := map[string]error{un: storage.ErrUnavailable, "conflict": storage.ErrConflict, "cancelled": context.Canceled}
	for mode, tc := range map[storagetest.Mode]struct {
		put, others   string
		wrote, erased bool
	}{
		storagetest.FailBefore:    {un, un, false, false},
		storagetest.FailAfter:     {un, un, true, true},
		storagetest.ConflictAfter: {"conflict", un, true, true},
		storagetest.FailMidway:    {un, un, false, false},
		storagetest.Cancel:        {"cancelled", "cancelled", false, false},
	} {
		d := memory.New()
		if _, err := d.Put(t.Context(), "old", strings.NewReader("old"), 3, storage.Cond{}); err != nil {
			t.Fatal(err)
		}
		f := storagetest.NewFlaky(d)
		f.Plan(func(storagetest.Call) storagetest.Fault { return storagetest.Fault{Mode: mode} })
		for op, err := range calls(t, f) {
			want := tc.others
			if op == storagetest.OpPut {
				want = tc.put
			}
			if !errors.Is(err, names[want]) {
				t.Errorf("mode %d: %s = %v, want %s", mode, op, err, want)
			}
			if f.Count(op) != 1 {
				t.Errorf("mode %d: %d calls of %s were counted", mode, f.Count(op), op)
			}
		}
		if f.Calls() != 5 || f.Faults() != 5 {
			t.Errorf("mode %d: %d calls and %d faults were counted", mode, f.Calls(), f.Faults())
		}
		_, err := d.Stat(t.Context(), "new")
		if tc.wrote != (err == nil) {
			t.Errorf("mode %d: Stat of what Put wrote = %v", mode, err)
		}
		if _, err = d.Stat(t.Context(), "old"); tc.erased != errors.Is(err, fs.ErrNotExist) {
			t.Errorf("mode %d: Stat of what Delete removed = %v", mode, err)
		}
	}
}

// TestFlakyMidway checks that a reader that fails midway delivers its first half, and a listing its first object.
func TestFlakyMidway(t *testing.T) {
	f := storagetest.NewFlaky(memory.New())
	for _, key := range []string{"a", "b"} {
		if _, err := f.Put(t.Context(), key, strings.NewReader("0123456789"), 10, storage.Cond{}); err != nil {
			t.Fatal(err)
		}
	}
	f.Plan(func(storagetest.Call) storagetest.Fault { return storagetest.Fault{Mode: storagetest.FailMidway} })
	r, _, err := f.Open(t.Context(), "a", 2, 6)
	if err != nil {
		t.Fatal(err)
	}
	if body, err := io.ReadAll(r); string(body) != "234" || !errors.Is(err, storage.ErrUnavailable) {
		t.Errorf("reading = %q, %v", body, err)
	}
	n := 0
	for _, err := range f.List(t.Context(), "", "") {
		if n++; errors.Is(err, storage.ErrUnavailable) != (n == 2) {
			t.Errorf("number %d of the listing = %v", n, err)
		}
	}
}

// TestFlakyCountsBatches fails each put of a PutAll in turn; what comes after the failure must not be tried.
func TestFlakyCountsBatches(t *testing.T) {
	objects := []storage.Object{{Key: "1"}, {Key: "2"}, {Key: "3"}}
	for n := 1; ; n++ {
		f := storagetest.NewFlaky(memory.New())
		f.FailNth(n, storagetest.FailBefore)
		infos, err := storage.PutAll(t.Context(), f, objects...)
		if f.Faults() == 0 {
			if n != len(objects)+1 || err != nil {
				t.Errorf("PutAll makes %d calls, %v", n-1, err)
			}
			return
		}
		if len(infos) != n-1 || f.Calls() != n || !errors.Is(err, storage.ErrUnavailable) {
			t.Errorf("PutAll whose put %d fails = %d infos after %d calls, %v", n, len(infos), f.Calls(), err)
		}
	}
}

func TestFlakyDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := storagetest.NewFlaky(memory.New())
		f.Plan(func(storagetest.Call) storagetest.Fault { return storagetest.Fault{Delay: time.Hour} })
		start := time.Now()
		if _, err := f.Stat(t.Context(), "key"); !errors.Is(err, fs.ErrNotExist) || time.Since(start) != time.Hour {
			t.Errorf("Stat = %v after %v", err, time.Since(start))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := f.Stat(ctx, "key"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Stat whose deadline passes = %v", err)
		}
	})
}
