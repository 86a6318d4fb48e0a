package lock

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// lockers are two views of the same locks: of one process, and of two.
func lockers(t *testing.T) map[string][2]Locker {
	t.Helper()
	keys, dir := NewKeys(), t.TempDir()
	all := map[string][2]Locker{"keys": {keys, keys}, "shards": {NewShards(dir, 0o600), NewShards(dir, 0o600)}}
	t.Cleanup(func() {
		for _, l := range all["shards"] {
			if err := l.Close(); err != nil {
				t.Error(err)
			}
		}
	})
	return all
}

// TestOneAtATime has many take several keys at once, in any order: nobody else has any of them then, and all come to an end.
func TestOneAtATime(t *testing.T) {
	for name, both := range lockers(t) {
		t.Run(name, func(t *testing.T) {
			const names, workers, rounds = 5, 8, 50
			var holders [names]atomic.Int32
			var all sync.WaitGroup
			for w := range workers {
				all.Go(func() {
					for range rounds {
						a := rand.N(names - 1)
						b := a + 1 + rand.N(names-1-a)
						unlock, err := both[w%2].Lock(t.Context(), fmt.Sprint(b), fmt.Sprint(a), fmt.Sprint(b))
						if err != nil {
							t.Error(err)
							return
						}
						if holders[a].Add(1)+holders[b].Add(1) != 2 {
							t.Error("somebody else has the keys, too")
						}
						holders[a].Add(-1)
						holders[b].Add(-1)
						unlock()
					}
				})
			}
			all.Wait()
		})
	}
}

// TestGivesUp has one wait for what another holds, until its context ends; what it took meanwhile is free again.
func TestGivesUp(t *testing.T) {
	for name, both := range lockers(t) {
		t.Run(name, func(t *testing.T) {
			unlock, err := both[0].Lock(t.Context(), "b")
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
			defer cancel()
			if _, err := both[1].Lock(ctx, "a", "b"); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("waiting ends with %v", err)
			}
			free, err := both[0].Lock(t.Context(), "a")
			if err != nil {
				t.Fatal(err)
			}
			free()
			unlock()
			if unlock, err = both[1].Lock(t.Context(), "a", "b"); err != nil {
				t.Fatal(err)
			}
			unlock()
		})
	}
}
