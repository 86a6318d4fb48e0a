// Package storagetest is the specification of [storage.Driver] as a suite of tests, which every driver and every
// decorator passes, and a decorator that makes a driver fail on purpose.
package storagetest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"berth/storage"
)

// Test holds the driver that open returns against the specification. Each call of open makes an empty store that lives
// until the end of its t. No key of the suite is a folder of another one, since a file system cannot hold both.
func Test(t *testing.T, open func(t *testing.T) storage.Driver) { run(t, open, settled) }

// TestOpen is [Test] for a service that sometimes answers so that nobody knows whether a call under a condition took place,
// although no reply was lost: where many change one object, a driver may then answer [storage.ErrUnavailable].
func TestOpen(t *testing.T, open func(t *testing.T) storage.Driver) { run(t, open, unsettled) }

// outcomes say how a call under a condition may end that did not take place, besides by ErrConflict.
type outcomes bool

const (
	settled   outcomes = false
	unsettled outcomes = true
)

// open reports whether an error may leave open whether its call took place.
func (o outcomes) open(err error) bool { return bool(o) && errors.Is(err, storage.ErrUnavailable) }

func run(t *testing.T, open func(t *testing.T) storage.Driver, o outcomes) {
	for _, c := range slices.Concat(contentTests, putTests, listTests, raceTests(o)) {
		t.Run(c.name, func(t *testing.T) { c.run(t, open(t)) })
	}
}

type test struct {
	name string
	run  func(t *testing.T, d storage.Driver)
}

// put stores a body that must be accepted.
func put(t testing.TB, d storage.Driver, key, body string, cond storage.Cond) storage.Info {
	t.Helper()
	info, err := d.Put(t.Context(), key, strings.NewReader(body), int64(len(body)), cond)
	if err != nil {
		t.Fatalf("Put(%s) = %v", key, err)
	}
	return info
}

// refuse tries to store a body and wants an error that matches want.
func refuse(t testing.TB, d storage.Driver, key, body string, cond storage.Cond, want error) {
	t.Helper()
	if _, err := d.Put(t.Context(), key, strings.NewReader(body), int64(len(body)), cond); !errors.Is(err, want) {
		t.Errorf("Put(%s) = %v, want %v", key, err, want)
	}
}

// read returns n bytes of an object from off, which must be there.
func read(t testing.TB, d storage.Driver, key string, off, n int64) (string, storage.Info) {
	t.Helper()
	r, info, err := d.Open(t.Context(), key, off, n)
	if err != nil {
		t.Fatalf("Open(%s, %d, %d) = %v", key, off, n, err)
	}
	body, err := io.ReadAll(r)
	if err = errors.Join(err, r.Close()); err != nil {
		t.Fatalf("reading %s = %v", key, err)
	}
	return string(body), info
}

// wantBody checks that a key has exactly this content, by all that tells about it.
func wantBody(t testing.TB, d storage.Driver, key, body string) {
	t.Helper()
	got, info := read(t, d, key, 0, -1)
	if got != body {
		t.Errorf("%s has %s, want %s", key, brief(got), brief(body))
	}
	stat, err := d.Stat(t.Context(), key)
	if err != nil {
		t.Errorf("Stat(%s) = %v", key, err)
	}
	if info.Size != int64(len(body)) || info.Key != key || !sameObject(info, stat) {
		t.Errorf("Open(%s) says %+v, Stat says %+v, the body has %d bytes", key, info, stat, len(body))
	}
}

// wantNone checks that a key has no object, by all that tells about it.
func wantNone(t testing.TB, d storage.Driver, key string) {
	t.Helper()
	if _, err := d.Stat(t.Context(), key); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Stat(%s) = %v, want %v", key, err, fs.ErrNotExist)
	}
	if r, _, err := d.Open(t.Context(), key, 0, -1); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Open(%s) = %v, want %v", key, err, fs.ErrNotExist)
		if err == nil {
			r.Close()
		}
	}
	if keys := list(t, d, key, ""); slices.Contains(keys, key) {
		t.Errorf("List yields %s, which is absent", key)
	}
}

func list(t testing.TB, d storage.Driver, prefix, after string) []string {
	t.Helper()
	listed := []string{}
	for info, err := range d.List(t.Context(), prefix, after) {
		if err != nil {
			t.Fatalf("List(%q, %q) = %v", prefix, after, err)
		}
		listed = append(listed, info.Key)
	}
	if named, err := keys(t.Context(), d, prefix, after); err != nil || !slices.Equal(named, listed) {
		t.Fatalf("Keys(%q, %q) = %q, %v; List has %q", prefix, after, named, err, listed)
	}
	return listed
}

// sameObject compares what two calls say about one content; a clock of whole seconds is forgiven.
func sameObject(a, b storage.Info) bool {
	return a.Key == b.Key && a.Size == b.Size && a.Rev == b.Rev && a.ModTime.Sub(b.ModTime).Abs() <= time.Second
}

// brief describes a content in a few characters.
func brief(s string) string {
	if len(s) <= 40 {
		return fmt.Sprintf("%q", s)
	}
	return fmt.Sprintf("%q… (%d bytes)", s[:30], len(s))
}

// pattern returns n bytes in which no two places look alike.
func pattern(n int) string {
	b := make([]byte, 0, n+20)
	for i := int64(0); len(b) < n; i++ {
		b = append(strconv.AppendInt(b, i*2654435761, 16), ',')
	}
	return string(b[:n])
}

// together runs f for 0 … n-1 at once and waits for all.
func together(n int, f func(i int)) {
	var wg sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		wg.Go(func() {
			<-start
			f(i)
		})
	}
	close(start)
	wg.Wait()
}

// fill puts one small object under each key, several at a time.
func fill(t testing.TB, d storage.Driver, keys []string) {
	t.Helper()
	groups := slices.Collect(slices.Chunk(keys, max(1, len(keys)/16)))
	together(len(groups), func(i int) {
		var objects []storage.Object
		for _, key := range groups[i] {
			objects = append(objects, storage.Object{Key: key, Body: []byte(key)})
		}
		if _, err := storage.PutAll(t.Context(), d, objects...); err != nil {
			t.Error(err)
		}
	})
	if t.Failed() {
		t.FailNow()
	}
}

func cancelled(t testing.TB) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}
