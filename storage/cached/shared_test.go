package cached_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"berth/storage"
	"berth/storage/cached"
	"berth/storage/memory"
	"berth/storage/storagetest"
)

func keepK(key string) bool { return strings.HasPrefix(key, "k/") }

func newShared(d storage.Driver) *cached.Shared { return cached.NewShared(d, "epoch", keepK, nil) }

func TestSharedSuite(t *testing.T) {
	storagetest.Test(t, func(*testing.T) storage.Driver { return newShared(memory.New()) })
}

func put(t *testing.T, d storage.Driver, key, content string) {
	t.Helper()
	if _, err := d.Put(t.Context(), key, strings.NewReader(content), int64(len(content)), storage.Cond{}); err != nil {
		t.Fatal(err)
	}
}

// read returns the content of a key, "-" when it is absent.
func read(t *testing.T, d storage.Driver, key string) string {
	t.Helper()
	body, _, err := storage.ReadAll(t.Context(), d, key, 1<<20)
	if errors.Is(err, fs.ErrNotExist) {
		return "-"
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// settle reads once, and lets what that begins in the background end.
func settle(t *testing.T, d storage.Driver, key string) {
	t.Helper()
	read(t, d, key)
	synctest.Wait()
}

// wantGone has processes that read something else all the time read k/a no more, after some seconds.
func wantGone(t *testing.T, seconds int, processes ...*cached.Shared) {
	t.Helper()
	for range seconds {
		time.Sleep(time.Second)
		for _, p := range processes {
			settle(t, p.Reads(), "k/b")
		}
	}
	for _, p := range processes {
		if got := read(t, p.Reads(), "k/a"); got != "-" {
			t.Errorf("a process reads %q after %d seconds", got, seconds)
		}
	}
}

// TestSharedEpochDuringStat: what was in memory while nobody looked at the epoch is not answered because another reader has
// it looked at meanwhile.
func TestSharedEpochDuringStat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memory.New()
		var meanwhile func()
		clock := func() time.Time {
			if do := meanwhile; do != nil {
				meanwhile = nil
				do()
			}
			return time.Now()
		}
		s := cached.NewShared(store, "epoch", keepK, &cached.SharedOptions{Now: clock})
		put(t, s, "k/a", "a")
		settle(t, s.Reads(), "k/a")
		read(t, s.Reads(), "k/a")
		if err := newShared(store).Delete(t.Context(), "k/a", storage.Cond{}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		meanwhile = func() { settle(t, s.Reads(), "k/b") }
		if info, err := s.Reads().Stat(t.Context(), "k/a"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("what was deleted an hour ago is %+v, %v", info, err)
		}
	})
}

// TestSharedReads counts the calls of the store: what was read is answered from memory, with a look at the epoch from
// time to time, and what may change its meaning never is.
func TestSharedReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		flaky := storagetest.NewFlaky(memory.New())
		s := newShared(flaky)
		put(t, s, "k/a", "a")
		put(t, s, "tag", "one")
		settle(t, s.Reads(), "k/a")
		read(t, s.Reads(), "k/a")
		flaky.Plan(nil)
		for range 100 {
			if got := read(t, s.Reads(), "k/a"); got != "a" {
				t.Fatalf("read %q", got)
			}
			if _, err := s.Reads().Stat(t.Context(), "k/a"); err != nil {
				t.Fatal(err)
			}
		}
		if n := flaky.Calls(); n != 0 {
			t.Errorf("%d calls for what is in memory", n)
		}
		for i := range 60 {
			time.Sleep(time.Second)
			settle(t, s.Reads(), "k/a")
			put(t, s, "tag", fmt.Sprint(i))
			if got := read(t, s.Reads(), "tag"); got != fmt.Sprint(i) {
				t.Fatalf("a tag reads %q", got)
			}
		}
		if n := flaky.Count(storagetest.OpOpen); n > 60+31 {
			t.Errorf("%d reads in a minute, besides those of the tag", n-60)
		}
		if got := read(t, s.Reads(), "k/absent"); got != "-" {
			t.Errorf("an absent object reads %q", got)
		}
		put(t, flaky, "k/absent", "x") // by another process
		if got := read(t, s.Reads(), "k/absent"); got != "x" {
			t.Errorf("what another process wrote reads %q", got)
		}
	})
}

// TestSharedDeletion has one process delete what others keep: it is gone at once there, and within the bound elsewhere,
// whether or not a reply was lost.
func TestSharedDeletion(t *testing.T) {
	for _, mode := range []storagetest.Mode{storagetest.Pass, storagetest.FailAfter} {
		synctest.Test(t, func(t *testing.T) {
			store := memory.New()
			flaky := storagetest.NewFlaky(store)
			one, other := newShared(flaky), newShared(store)
			for n := range 20 {
				put(t, one, "k/a", "a")
				settle(t, other.Reads(), "k/a")
				settle(t, other.Reads(), "k/a")
				time.Sleep(time.Duration(n) * 300 * time.Millisecond)
				flaky.FailNth(1, mode)
				if err := one.Delete(t.Context(), "k/a", storage.Cond{}); (err != nil) != (mode != storagetest.Pass) {
					t.Fatal(err)
				}
				if got := read(t, one.Reads(), "k/a"); got != "-" {
					t.Errorf("the process that deleted it reads %q", got)
				}
				deleted := time.Now()
				for read(t, other.Reads(), "k/a") != "-" {
					time.Sleep(100 * time.Millisecond)
				}
				if age := time.Since(deleted); age > 5*time.Second {
					t.Errorf("another process still had it %s after it was deleted", age)
				}
			}
		})
	}
}

// TestSharedEpochOwed has a process that could not tell others of a deletion do so later: who asks for the deletion again is
// answered that there is nothing.
func TestSharedEpochOwed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memory.New()
		flaky := storagetest.NewFlaky(store)
		one, other := newShared(flaky), newShared(store)
		put(t, one, "k/a", "a")
		settle(t, other.Reads(), "k/a")
		settle(t, other.Reads(), "k/a")
		flaky.Plan(func(c storagetest.Call) (f storagetest.Fault) {
			if c.Op == storagetest.OpPut {
				f.Mode = storagetest.FailBefore
			}
			return f
		})
		if err := one.Delete(t.Context(), "k/a", storage.Cond{}); !errors.Is(err, storage.ErrUnavailable) {
			t.Errorf("a deletion of which others cannot be told: %v", err)
		}
		flaky.Plan(nil)
		wantGone(t, 8, one, other)
	})
}

// TestSharedClockSetBack: what is in memory is not trusted again when a clock that was set back is where it was.
func TestSharedClockSetBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memory.New()
		var back time.Duration
		s := cached.NewShared(store, "epoch", keepK, &cached.SharedOptions{Now: func() time.Time { return time.Now().Round(0).Add(-back) }})
		put(t, s, "k/a", "a")
		settle(t, s.Reads(), "k/a")
		settle(t, s.Reads(), "k/a")
		back = time.Hour
		if err := newShared(store).Delete(t.Context(), "k/a", storage.Cond{}); err != nil {
			t.Fatal(err)
		}
		settle(t, s.Reads(), "k/b")
		time.Sleep(time.Hour + time.Second)
		if got := read(t, s.Reads(), "k/a"); got != "-" {
			t.Errorf("an hour after it was deleted it reads %q", got)
		}
	})
}

// interrupted is a store of which nobody waits for the end of a deletion.
type interrupted struct{ storage.Driver }

func (i interrupted) Delete(ctx context.Context, key string, cond storage.Cond) error {
	return errors.Join(i.Driver.Delete(ctx, key, cond), context.Canceled)
}

// TestSharedDeletionCutOff: others are told of a deletion that may have taken effect when its caller left.
func TestSharedDeletionCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memory.New()
		a, b := newShared(interrupted{store}), newShared(store)
		put(t, a, "k/a", "a")
		settle(t, b.Reads(), "k/a")
		settle(t, b.Reads(), "k/a")
		if err := a.Delete(t.Context(), "k/a", storage.Cond{}); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		wantGone(t, 6, b)
	})
}

// leaving is a store whose caller leaves once an object is deleted.
type leaving struct {
	storage.Driver
	leave func()
}

func (l leaving) Delete(ctx context.Context, key string, cond storage.Cond) error {
	defer l.leave()
	return l.Driver.Delete(ctx, key, cond)
}

// TestSharedDeletionByWhoLeaves: others are told of what was deleted also when nobody waits for the answer any more.
func TestSharedDeletionByWhoLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memory.New()
		ctx, leave := context.WithCancel(t.Context())
		a, b := newShared(leaving{store, leave}), newShared(store)
		put(t, a, "k/a", "a")
		settle(t, b.Reads(), "k/a")
		read(t, b.Reads(), "k/a")
		if err := a.Delete(ctx, "k/a", storage.Cond{}); err != nil {
			t.Error(err)
		}
		wantGone(t, 6, b)
	})
}

// TestSharedDistrust makes the epoch unreadable: memory is not trusted for long, and again when it is readable.
func TestSharedDistrust(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memory.New()
		flaky := storagetest.NewFlaky(store)
		s := newShared(flaky)
		put(t, s, "k/a", "a")
		settle(t, s.Reads(), "k/a")
		settle(t, s.Reads(), "k/a")
		flaky.Plan(func(c storagetest.Call) (f storagetest.Fault) {
			if c.Key == "epoch" {
				f.Mode = storagetest.FailBefore
			}
			return f
		})
		time.Sleep(6 * time.Second)
		if err := store.Delete(t.Context(), "k/a", storage.Cond{}); err != nil {
			t.Fatal(err)
		}
		settle(t, s.Reads(), "k/b")
		if got := read(t, s.Reads(), "k/a"); got != "-" {
			t.Errorf("without a look at the epoch, %q was answered from memory", got)
		}
		if err := s.Delete(t.Context(), "k/b", storage.Cond{}); !errors.Is(err, storage.ErrUnavailable) {
			t.Errorf("a deletion of which others cannot be told: %v", err)
		}
		put(t, store, "k/a", "again")
		flaky.Plan(nil)
		settle(t, s.Reads(), "k/a")
		settle(t, s.Reads(), "k/a")
		flaky.Plan(nil)
		if got := read(t, s.Reads(), "k/a"); got != "again" || flaky.Calls() != 0 {
			t.Errorf("%q after %d calls", got, flaky.Calls())
		}
	})
}

// TestSharedEpochs wants deletions at the same time to share their epochs, and each to have one that is younger.
func TestSharedEpochs(t *testing.T) {
	flaky := storagetest.NewFlaky(memory.New())
	var deleted atomic.Int32
	all := make(chan struct{})
	flaky.Plan(func(c storagetest.Call) (f storagetest.Fault) {
		if c.Op == storagetest.OpDelete && deleted.Add(1) == 100 {
			close(all)
		}
		return f
	})
	held := &holding{Driver: flaky, until: all}
	s := newShared(held)
	var group sync.WaitGroup
	for i := range 100 {
		group.Go(func() {
			if err := s.Delete(t.Context(), fmt.Sprintf("k/%d", i), storage.Cond{}); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if n := flaky.Count(storagetest.OpPut); n < 1 || n > 50 {
		t.Errorf("%d epochs for 100 deletions at the same time", n)
	}
}

// holding puts nothing before a moment.
type holding struct {
	storage.Driver
	until <-chan struct{}
}

func (h *holding) Put(ctx context.Context, key string, r io.Reader, size int64, cond storage.Cond) (storage.Info, error) {
	<-h.until
	return h.Driver.Put(ctx, key, r, size, cond)
}
