package memory_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"berth/storage"
	"berth/storage/memory"
	"berth/storage/storagetest"
)

func TestDriver(t *testing.T) {
	storagetest.Test(t, func(*testing.T) storage.Driver { return memory.New() })
}

func TestClock(t *testing.T) {
	now := time.Date(2020, 2, 29, 12, 0, 0, 0, time.UTC)
	d := memory.NewWith(memory.Options{Now: func() time.Time { return now }})
	for range 3 {
		now = now.Add(time.Hour)
		info, err := d.Put(context.Background(), "key", strings.NewReader("x"), 1, storage.Cond{})
		if err != nil || !info.ModTime.Equal(now) {
			t.Errorf("Put = %v, %v, want the time %v", info.ModTime, err, now)
		}
	}
}

// TestRevsNeverRepeat holds this driver to more than the suite does: equal bytes put again have a Rev of their own.
func TestRevsNeverRepeat(t *testing.T) {
	d := memory.New()
	seen := make(map[storage.Rev]bool)
	for range 10 {
		info, err := d.Put(context.Background(), "key", strings.NewReader("same"), 4, storage.Cond{})
		if err != nil || seen[info.Rev] {
			t.Fatalf("Put = %+v, %v: its Rev was there before", info, err)
		}
		seen[info.Rev] = true
		if err := d.Delete(context.Background(), "key", storage.Match(info.Rev)); err != nil {
			t.Fatal(err)
		}
	}
}
