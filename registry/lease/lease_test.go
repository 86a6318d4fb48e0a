package lease_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"berth/registry/lease"
	"berth/storage"
	"berth/storage/memory"
	"berth/storage/storagetest"
)

// TestOneHolder has many ask at once for one lease, which is renewed for longer than it lasts.
func TestOneHolder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memory.New()
		var holders atomic.Int32
		var group sync.WaitGroup
		for i := range 16 {
			group.Go(func() {
				ctx, l, err := lease.Take(t.Context(), store, "work", string(rune('a'+i)), nil)
				if err != nil {
					if !errors.Is(err, lease.ErrHeld) {
						t.Error(err)
					}
					return
				}
				holders.Add(1)
				time.Sleep(10 * time.Minute)
				if ctx.Err() != nil {
					t.Errorf("the lease was lost: %v", context.Cause(ctx))
				}
				if _, _, err := lease.Take(t.Context(), store, "work", "late", nil); !errors.Is(err, lease.ErrHeld) {
					t.Errorf("beside a holder: %v", err)
				}
				if err := l.Release(t.Context()); err != nil || ctx.Err() == nil {
					t.Errorf("released: %v, %v", err, ctx.Err())
				}
			})
		}
		group.Wait()
		if n := holders.Load(); n != 1 {
			t.Errorf("%d hold one lease", n)
		}
		if _, l, err := lease.Take(t.Context(), store, "work", "next", nil); err != nil {
			t.Error(err)
		} else if err := l.Release(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// TestLost takes a lease from a holder whose store did not answer for longer than it lasts.
func TestLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memory.New()
		flaky := storagetest.NewFlaky(store)
		ctx, l, err := lease.Take(t.Context(), flaky, "work", "first", nil)
		if err != nil {
			t.Fatal(err)
		}
		flaky.Plan(func(storagetest.Call) storagetest.Fault { return storagetest.Fault{Mode: storagetest.FailBefore} })
		time.Sleep(2 * time.Minute)
		if ctx.Err() != nil {
			t.Error("a lease that nobody else took is lost")
		}
		other, second, err := lease.Take(t.Context(), store, "work", "second", nil)
		if err != nil {
			t.Fatal(err)
		}
		flaky.Plan(nil)
		time.Sleep(time.Minute)
		if !errors.Is(context.Cause(ctx), lease.ErrLost) {
			t.Errorf("the first holder is told %v", context.Cause(ctx))
		}
		if err := l.Release(t.Context()); err != nil {
			t.Error(err)
		}
		if other.Err() != nil {
			t.Error("the first holder released what the second has")
		}
		if err := second.Release(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// TestLostReplies renews a lease whose writes take place and answer otherwise.
func TestLostReplies(t *testing.T) {
	for _, mode := range []storagetest.Mode{storagetest.FailAfter, storagetest.ConflictAfter} {
		synctest.Test(t, func(t *testing.T) {
			flaky := storagetest.NewFlaky(memory.New())
			flaky.Plan(func(c storagetest.Call) (fault storagetest.Fault) {
				if c.Op == storagetest.OpPut {
					fault.Mode = mode
				}
				return fault
			})
			ctx, l, err := lease.Take(t.Context(), flaky, "work", "a", nil)
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(5 * time.Minute)
			if ctx.Err() != nil {
				t.Errorf("lost: %v", context.Cause(ctx))
			}
			if err := l.Release(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestSweep(t *testing.T) {
	now := time.Now()
	store := memory.NewWith(memory.Options{Now: func() time.Time { return now }})
	_, held, err := lease.Take(t.Context(), store, "old", "a", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.Put(t.Context(), "leases/odd", strings.NewReader("{"), 1, storage.Cond{}); err != nil {
		t.Fatal(err)
	}
	if n, err := lease.Sweep(t.Context(), store, now.Add(30*time.Second), false); err != nil || n != 1 {
		t.Errorf("while it lasts: %d, %v", n, err)
	}
	if n, err := lease.Sweep(t.Context(), store, now.Add(time.Hour), true); err != nil || n != 1 {
		t.Errorf("a dry run: %d, %v", n, err)
	}
	if n, err := lease.Sweep(t.Context(), store, now.Add(time.Hour), false); err != nil || n != 1 {
		t.Errorf("after its end: %d, %v", n, err)
	}
	if err := held.Release(t.Context()); err != nil {
		t.Error(err)
	}
}
