package storagetest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"berth/storage"
)

// keys is what [storage.Keys] yields.
func keys(ctx context.Context, d storage.Driver, prefix, after string) ([]string, error) {
	got := []string{}
	for key, err := range storage.Keys(ctx, d, prefix, after) {
		if err != nil {
			return nil, err
		}
		got = append(got, key)
	}
	return got, nil
}

// testKeysWhileChanging puts and deletes in one goroutine, while others list: after each change, a listing of keys shows
// it, whatever a driver remembers of listings.
func testKeysWhileChanging(t *testing.T, d storage.Driver) {
	ctx, stop := context.WithCancel(t.Context())
	var readers sync.WaitGroup
	for _, prefix := range []string{"k/", "k/a/", "k"} {
		readers.Go(func() {
			for ctx.Err() == nil {
				if got, err := keys(ctx, d, prefix, ""); err == nil && !slices.IsSorted(got) {
					t.Errorf("Keys(%q) are out of order", prefix)
				}
			}
		})
	}
	defer readers.Wait()
	defer stop()
	random := rand.New(rand.NewPCG(1, 2))
	present := map[string]bool{}
	for range 300 {
		key := fmt.Sprintf("k/%c/%d", 'a'+rune(random.IntN(2)), random.IntN(8))
		switch kind := random.IntN(4); {
		case present[key] && kind < 2:
			if err := d.Delete(t.Context(), key, storage.Cond{}); err != nil {
				t.Fatal(err)
			}
			delete(present, key)
		case kind == 2:
			if _, err := storage.PutAll(t.Context(), d, storage.Object{Key: key, Body: []byte("x")}); err != nil {
				t.Fatal(err)
			}
			present[key] = true
		case !present[key]:
			put(t, d, key, "x", storage.Absent())
			present[key] = true
		}
		for _, prefix := range []string{"k/", "k/a/", "k/b", "k/a/1"} {
			want := []string{}
			for key := range present {
				if len(key) >= len(prefix) && key[:len(prefix)] == prefix {
					want = append(want, key)
				}
			}
			slices.Sort(want)
			if got, err := keys(t.Context(), d, prefix, ""); err != nil || !slices.Equal(got, want) {
				t.Fatalf("Keys(%q) = %q, %v, want %q", prefix, got, err, want)
			}
		}
	}
}
