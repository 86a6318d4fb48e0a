package storagetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"berth/storage"
)

var listTests = []test{
	{"ListOrder", testListOrder},
	{"ListCorners", testListCorners},
	{"ListInfo", testListInfo},
	{"ListBreak", testListBreak},
	{"ListWhileDeleting", testListWhileDeleting},
	{"KeysWhileChanging", testKeysWhileChanging},
}

// testListOrder lists thousands of keys in which a slash meets every kind of byte that sorts around it, so that an order
// of path components, of pages or of another locale shows.
func testListOrder(t *testing.T, d storage.Driver) {
	var keys []string
	for _, c := range []string{"!", "-", ".", "0", "9", "A", "Z", "_", "a", "z"} {
		keys = append(keys, "o/a"+c, "o/a/"+c+"x", "o/a"+c+"x/y", "o/a"+c+"a/b", "o/a/b"+c+"/"+c+c+c, "p"+c+"/1")
	}
	keys = append(keys, "catalog/a!", "catalog/a/b!", "catalog/a/b/c!", "catalog/a-b!", "catalog/a-b/c!", "catalog/ab!")
	for i := range 1250 {
		keys = append(keys, fmt.Sprintf("o/many/%d", i), fmt.Sprintf("o/n%d/x", i%500)+fmt.Sprint(i))
	}
	fill(t, d, keys)
	slices.Sort(keys)
	if got := list(t, d, "", ""); !slices.Equal(got, keys) {
		t.Fatalf("List yields %d keys out of %d, or not in the order of their bytes; %s", len(got), len(keys), firstDifference(got, keys))
	}
	for _, prefix := range []string{"o/", "o/a", "o/a/", "o/a/b", "o/a-", "o/a!", "o/many/1", "o/n4", "o/n49/", "catalog/a", "catalog/a/", "p", "q", "o/many/1/", "!", "zz"} {
		for _, after := range []string{"", prefix, prefix + "!", "o/a-", "o/a/b", "o/many/1199", "o/n", "~", "catalog/a!"} {
			var want []string
			for _, k := range keys {
				if strings.HasPrefix(k, prefix) && k > after {
					want = append(want, k)
				}
			}
			if got := list(t, d, prefix, after); !slices.Equal(got, want) {
				t.Errorf("List(%q, %q) yields %d keys, want %d; %s", prefix, after, len(got), len(want), firstDifference(got, want))
			}
		}
	}
}

func firstDifference(got, want []string) string {
	for i := range min(len(got), len(want)) {
		if got[i] != want[i] {
			return fmt.Sprintf("number %d is %q, want %q", i, got[i], want[i])
		}
	}
	return fmt.Sprintf("the first %d agree", min(len(got), len(want)))
}

func testListCorners(t *testing.T, d storage.Driver) {
	if keys := list(t, d, "", ""); len(keys) != 0 {
		t.Fatalf("an empty store lists %q", keys)
	}
	fill(t, d, []string{"l/b", "l/d", "l/d!", "l/da", "l/f/g", "m"})
	for _, tc := range []struct{ prefix, after, want string }{
		{"l/", "", "l/b l/d l/d! l/da l/f/g"},
		{"l/", "l/a", "l/b l/d l/d! l/da l/f/g"},
		{"l/", "l/b", "l/d l/d! l/da l/f/g"},
		{"l/", "l/c", "l/d l/d! l/da l/f/g"},
		{"l/", "l/d", "l/d! l/da l/f/g"},
		{"l/", "l/d!", "l/da l/f/g"},
		{"l/", "l/f", "l/f/g"},
		{"l/", "l/f/", "l/f/g"},
		{"l/", "l/f/g", ""},
		{"l/", "l/f/g/h", ""},
		{"l/", "l/z", ""},
		{"l/", "a", "l/b l/d l/d! l/da l/f/g"},
		{"l/", "m", ""},
		{"l/d", "", "l/d l/d! l/da"},
		{"l/d", "l/d", "l/d! l/da"},
		{"l/d/", "", ""},
		{"l/f", "", "l/f/g"},
		{"l/f/g", "", "l/f/g"},
		{"l/f/g/", "", ""},
		{"", "l/f/g", "m"},
		{"", "l", "l/b l/d l/d! l/da l/f/g m"},
		{"", "m", ""},
		{"/", "", ""},
		{"l//", "", ""},
		{"../", "", ""},
		{"l/../l", "", ""},
		{"l/./", "", ""},
	} {
		if got := strings.Join(list(t, d, tc.prefix, tc.after), " "); got != tc.want {
			t.Errorf("List(%q, %q) yields %q, want %q", tc.prefix, tc.after, got, tc.want)
		}
	}
}

func testListInfo(t *testing.T, d storage.Driver) {
	put(t, d, "info/1", "one", storage.Cond{})
	put(t, d, "info/2", pattern(2<<20), storage.Cond{})
	for info, err := range d.List(t.Context(), "info/", "") {
		if err != nil {
			t.Fatal(err)
		}
		stat, err := d.Stat(t.Context(), info.Key)
		if err != nil {
			t.Fatal(err)
		}
		if info.Rev == "" {
			info.Rev = stat.Rev // a listing may leave it empty
		}
		if !sameObject(info, stat) || time.Since(info.ModTime).Abs() > time.Minute {
			t.Errorf("List yields %+v, Stat %+v", info, stat)
		}
	}
}

// testListBreak leaves listings early, at each place, and begins them anew; an iterator may also be run twice.
func testListBreak(t *testing.T, d storage.Driver) {
	want := []string{"b/1", "b/2/x", "b/3", "b/4"}
	fill(t, d, want)
	seq := d.List(t.Context(), "b/", "")
	for n := range want {
		var got []string
		for info, err := range seq {
			if err != nil {
				t.Fatal(err)
			}
			if got = append(got, info.Key); len(got) > n {
				break
			}
		}
		if !slices.Equal(got, want[:n+1]) {
			t.Errorf("a listing left after %d keys yields %q", n+1, got)
		}
		if rest := list(t, d, "b/", got[n]); !slices.Equal(rest, want[n+1:]) {
			t.Errorf("the rest after %q is %q", got[n], rest)
		}
	}
}

// testListWhileDeleting deletes and puts under a listing: what was not touched is seen, once and in order.
func testListWhileDeleting(t *testing.T, d storage.Driver) {
	var keys, kept []string
	for i := range 600 {
		keys = append(keys, fmt.Sprintf("w/%02d/%02d", i/20, i%20))
	}
	fill(t, d, keys)
	last := ""
	seen := make(map[string]bool)
	for info, err := range d.List(t.Context(), "w/", "") {
		if err != nil {
			t.Fatal(err)
		}
		if info.Key <= last {
			t.Errorf("%s is yielded after %s", info.Key, last)
		}
		last = info.Key
		seen[info.Key] = true
		if len(seen) == 1 {
			for i, key := range keys {
				if whole := i/20%4 == 3; !whole && i%2 == 0 { // whole folders, and every other key elsewhere
					kept = append(kept, key)
				} else if err := d.Delete(t.Context(), key, storage.Cond{}); err != nil {
					t.Fatal(err)
				}
			}
			put(t, d, "w/05/new", "new", storage.Absent())
		}
	}
	for _, key := range kept {
		if !seen[key] {
			t.Errorf("%s, which was not touched, is missing from the listing", key)
		}
	}
	if _, err := d.Stat(t.Context(), kept[0]); errors.Is(err, storage.ErrInvalidKey) || err != nil {
		t.Errorf("Stat(%s) = %v", kept[0], err)
	}
}

// TestReplacing replaces objects again and again under listings, which must have all of them. It is apart from [Test], since not
// every service can do that, whatever its driver does: versitygw 1.8 leaves some out.
func TestReplacing(t *testing.T, d storage.Driver) {
	var all []string
	for i := range 400 {
		all = append(all, fmt.Sprintf("r/%03d", i))
	}
	fill(t, d, all)
	ctx, stop := context.WithCancel(t.Context())
	var writers sync.WaitGroup
	for i := range 4 {
		writers.Go(func() {
			for n := i; ctx.Err() == nil; n += 4 {
				body := fmt.Sprint(n)
				if _, err := d.Put(ctx, all[n*7%len(all)], strings.NewReader(body), int64(len(body)), storage.Cond{}); err != nil && ctx.Err() == nil {
					t.Error(err)
				}
			}
		})
	}
	defer writers.Wait()
	defer stop()
	for range 20 {
		if got := list(t, d, "r/", ""); !slices.Equal(got, all) {
			t.Fatalf("a listing beside replacements has %d of %d keys", len(got), len(all))
		}
	}
}
