package measured_test

import (
	"context"
	"errors"
	"io/fs"
	"strings"
	"sync"
	"testing"

	"berth/storage"
	"berth/storage/measured"
	"berth/storage/memory"
	"berth/storage/storagetest"
)

func TestSuite(t *testing.T) {
	storagetest.Test(t, func(*testing.T) storage.Driver {
		return measured.New(memory.New(), func(measured.Call) {})
	})
}

func TestReport(t *testing.T) {
	type call struct {
		operation measured.Operation
		key       string
		absent    bool
	}
	var (
		mu  sync.Mutex
		got []call
	)
	d := measured.New(memory.New(), func(c measured.Call) {
		mu.Lock()
		defer mu.Unlock()
		if c.Took < 0 {
			t.Errorf("%v took %s", c.Operation, c.Took)
		}
		got = append(got, call{c.Operation, c.Key, errors.Is(c.Err, fs.ErrNotExist)})
	})
	ctx := context.Background()
	d.Stat(ctx, "a")
	d.Put(ctx, "a", strings.NewReader("x"), 1, storage.Cond{})
	storage.PutAll(ctx, d, storage.Object{Key: "b"}, storage.Object{Key: "c"})
	if r, _, err := d.Open(ctx, "a", 0, -1); err != nil {
		t.Fatal(err)
	} else {
		r.Close()
	}
	for range d.List(ctx, "p", "") {
	}
	d.Delete(ctx, "a", storage.Cond{})
	want := []call{{measured.Stat, "a", true}, {measured.Put, "a", false}, {measured.Put, "b", false}, {measured.Open, "a", false},
		{measured.List, "p", false}, {measured.Delete, "a", false}}
	if len(got) != len(want) {
		t.Fatalf("got %v, want %v", got, want)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("call %d: got %v, want %v", i, got[i], want[i])
		}
	}
}
