package traced

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"berth/storage"
	"berth/storage/memory"
	"berth/storage/storagetest"
)

func TestDriver(t *testing.T) {
	var begun, ended atomic.Int64
	storagetest.Test(t, func(*testing.T) storage.Driver {
		return New(memory.New(), func(ctx context.Context, _, _ string) (context.Context, func(error)) {
			begun.Add(1)
			return ctx, func(error) { ended.Add(1) }
		})
	})
	if b, e := begun.Load(), ended.Load(); b == 0 || b != e {
		t.Errorf("%d calls began, and %d ended", b, e)
	}
}

func TestCalls(t *testing.T) {
	var told []string
	d := New(memory.New(), func(ctx context.Context, operation, key string) (context.Context, func(error)) {
		return ctx, func(err error) { told = append(told, fmt.Sprint(operation, " ", key, " ", err == nil)) }
	})
	ctx := t.Context()
	_, _ = d.Put(ctx, "a", strings.NewReader("x"), 1, storage.Absent()) // what comes of them is told
	_, _ = d.Put(ctx, "a", strings.NewReader("x"), 1, storage.Absent())
	_, _ = d.Stat(ctx, "b")
	for range d.List(ctx, "a", "") {
	}
	_ = d.Delete(ctx, "a", storage.Cond{})
	want := "put a true,put a false,stat b false,list a true,delete a true"
	if got := strings.Join(told, ","); got != want {
		t.Errorf("told %s, want %s", got, want)
	}
}
