package measured_test

import (
	"context"
	"errors"
	"io/fs"
	"strings"
	"sync"
	"testing"
	"time"

	"berth/storage"
	"berth/storage/measured"
	"berth/storage/memory"
	"berth/storage/storagetest"
)

func TestSuite(t *testing.T) {
	storagetest.Test(t, func(*testing.T) storage.Driver {
		return measured.New(memory.New(), func(string, time.Duration, error) {})
	})
}

func TestReport(t *testing.T) {
	type call struct {
		operation string
		absent    bool
	}
	var (
		mu  sync.Mutex
		got []call
	)
	d := measured.New(memory.New(), func(operation string, took time.Duration, err error) {
		mu.Lock()
		defer mu.Unlock()
		if took < 0 {
			t.Errorf("%s took %s", operation, took)
		}
		got = append(got, call{operation, errors.Is(err, fs.ErrNotExist)})
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
	for range d.List(ctx, "", "") {
	}
	d.Delete(ctx, "a", storage.Cond{})
	want := []call{{"stat", true}, {"put", false}, {"putall", false}, {"open", false}, {"list", false}, {"delete", false}}
	if len(got) != len(want) {
		t.Fatalf("got %v, want %v", got, want)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("call %d: got %v, want %v", i, got[i], want[i])
		}
	}
}
