package storagetest

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"berth/storage"
)

func raceTests(o outcomes) []test {
	return []test{
		{"OneWinner", testOneWinner},
		{"Counter", o.testCounter},
		{"PutAgainstDelete", o.testPutAgainstDelete},
		{"WholeWhileReplaced", testWholeWhileReplaced},
		{"FoldersComeAndGo", testFoldersComeAndGo},
		{"PutAllRaces", testPutAllRaces},
	}
}

func testOneWinner(t *testing.T, d storage.Driver) {
	for round := range 4 {
		key := "race/" + strconv.Itoa(round) + "/won"
		var winner atomic.Pointer[string]
		together(64, func(i int) {
			body := fmt.Sprintf("writer %d", i)
			_, err := d.Put(t.Context(), key, strings.NewReader(body), -1, storage.Absent())
			switch {
			case err == nil && !winner.CompareAndSwap(nil, &body):
				t.Errorf("both %s and %s won", *winner.Load(), body)
			case err != nil && !errors.Is(err, storage.ErrConflict):
				t.Errorf("Put = %v", err)
			}
		})
		if winner.Load() == nil {
			t.Fatal("nobody won")
		}
		wantBody(t, d, key, *winner.Load())
	}
}

// testCounter lets many writers add to one number under Match: none may be lost, none applied twice.
func (o outcomes) testCounter(t *testing.T, d storage.Driver) {
	const key, writers, each = "race/counter", 64, 2
	put(t, d, key, "0", storage.Absent())
	var opens atomic.Int64
	together(writers, func(int) {
		for range each {
			n, err := o.add(t, d, key)
			opens.Add(n)
			if err != nil {
				t.Error(err)
				return
			}
		}
	})
	if opens.Load() == 0 {
		wantBody(t, d, key, strconv.Itoa(writers*each))
		return
	}
	body, _ := read(t, d, key, 0, -1)
	if n, err := strconv.ParseInt(body, 10, 64); err != nil || n < writers*each || n > writers*each+opens.Load() {
		t.Errorf("%d additions took place and %d may have; the number is %s", writers*each, opens.Load(), body)
	}
}

// add adds one, and returns how many attempts of it may have taken place besides the last.
func (o outcomes) add(t *testing.T, d storage.Driver, key string) (opens int64, err error) {
	for {
		body, info, err := storage.ReadAll(t.Context(), d, key, 100)
		if err != nil {
			return opens, err
		}
		n, err := strconv.Atoi(string(body))
		if err != nil {
			return opens, err
		}
		next := strconv.Itoa(n + 1)
		_, err = d.Put(t.Context(), key, strings.NewReader(next), int64(len(next)), storage.Match(info.Rev))
		switch {
		case o.open(err):
			opens++
		case !errors.Is(err, storage.ErrConflict):
			return opens, err
		}
	}
}

// testPutAgainstDelete races puts and deletes that rely on one content: exactly one of them may take place.
func (o outcomes) testPutAgainstDelete(t *testing.T, d storage.Driver) {
	for round := range 20 {
		key := "race/folder/" + strconv.Itoa(round) + "/x"
		old := put(t, d, key, "old", storage.Absent())
		var won, opens atomic.Int32
		var deleted atomic.Bool
		together(8, func(i int) {
			var err error
			if i%2 == 0 {
				_, err = d.Put(t.Context(), key, strings.NewReader("new"), 3, storage.Match(old.Rev))
			} else if err = d.Delete(t.Context(), key, storage.Match(old.Rev)); err == nil {
				deleted.Store(true)
			}
			switch {
			case err == nil:
				won.Add(1)
			case o.open(err):
				opens.Add(1)
			case !errors.Is(err, storage.ErrConflict):
				t.Error(err)
			}
		})
		if n := won.Load(); n > 1 || n+opens.Load() < 1 {
			t.Fatalf("%d of the racing puts and deletes took place, and %d may have", n, opens.Load())
		}
		switch {
		case deleted.Load():
			wantNone(t, d, key)
		case won.Load() == 1:
			wantBody(t, d, key, "new")
		}
	}
}

// testWholeWhileReplaced reads an object over and over while it is replaced by others of several sizes.
func testWholeWhileReplaced(t *testing.T, d storage.Driver) {
	const key = "race/replaced"
	body := func(i int) string { return strings.Repeat(string(rune('a'+i%26)), 1+i%5*80<<10) }
	put(t, d, key, body(0), storage.Cond{})
	var done atomic.Bool
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for !done.Load() {
				if err := readUniform(t, d, key); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for i := range 60 {
		put(t, d, key, body(i), storage.Cond{})
	}
	done.Store(true)
	readers.Wait()
}

// readUniform reads an object whose bytes must all be the same and as many as its Info says.
func readUniform(t *testing.T, d storage.Driver, key string) error {
	r, info, err := d.Open(t.Context(), key, 0, -1)
	if err != nil {
		return err
	}
	defer r.Close()
	body, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	if int64(len(body)) != info.Size || strings.Trim(string(body), string(body[:1])) != "" {
		return fmt.Errorf("a mix of contents: %d bytes, %d said", len(body), info.Size)
	}
	return nil
}

// testFoldersComeAndGo puts and deletes at the same time in folders that nothing else keeps alive.
func testFoldersComeAndGo(t *testing.T, d storage.Driver) {
	together(8, func(w int) {
		key := fmt.Sprintf("folders/a/b/c%d/%d", w%2, w)
		for range 25 {
			if _, err := d.Put(t.Context(), key, strings.NewReader("x"), 1, storage.Absent()); err != nil {
				t.Error(err)
				return
			}
			if _, err := d.Stat(t.Context(), key); err != nil {
				t.Error(err)
				return
			}
			if err := d.Delete(t.Context(), key, storage.Cond{}); err != nil {
				t.Error(err)
				return
			}
			if _, err := d.Stat(t.Context(), key); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("Stat(%s) after its delete = %v", key, err)
				return
			}
		}
	})
	if keys := list(t, d, "", ""); len(keys) != 0 {
		t.Errorf("%q are left", keys)
	}
}

// testPutAllRaces lets groups that share keys in different orders race: each shared key has one winner, nobody waits
// for ever, and whoever lost wrote nothing after the key that it lost.
func testPutAllRaces(t *testing.T, d storage.Driver) {
	const groups = 16
	won := make([]int, groups)
	together(groups, func(g int) {
		objects := []storage.Object{
			{Key: fmt.Sprintf("group/own%d", g), Body: []byte("own"), Cond: storage.Absent()},
			{Key: "group/x", Body: fmt.Append(nil, g), Cond: storage.Absent()},
			{Key: "group/y", Body: fmt.Append(nil, g), Cond: storage.Absent()},
		}
		if g%2 == 1 {
			objects[1], objects[2] = objects[2], objects[1]
		}
		infos, err := storage.PutAll(t.Context(), d, objects...)
		if won[g] = len(infos); err != nil && !errors.Is(err, storage.ErrConflict) || len(infos) == 0 {
			t.Errorf("PutAll = %+v, %v", infos, err)
		}
	})
	extra := 0
	for _, n := range won {
		extra += n - 1
	}
	if keys := list(t, d, "group/", ""); extra < 1 || extra > 2 || len(keys) != groups+extra {
		t.Errorf("the shared keys were won %d times and the store has %q", extra, keys)
	}
}
