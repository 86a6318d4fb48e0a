package gc_test

import (
	"context"
	"fmt"
	"io"
	"iter"
	"testing"
	"testing/synctest"
	"time"

	"berth/registry"
	"berth/registry/gc"
	"berth/storage"
	"berth/storage/memory"
)

// delayed is a store each of whose reads takes a time; where keys can be listed, it is one of this machine.
type delayed struct {
	storage.Driver
	by time.Duration
}

func (s delayed) Open(ctx context.Context, key string, off, n int64) (io.ReadCloser, storage.Info, error) {
	time.Sleep(s.by)
	return s.Driver.Open(ctx, key, off, n)
}

type delayedFolder struct{ delayed }

func (s delayedFolder) Keys(ctx context.Context, prefix, after string) iter.Seq2[string, error] {
	return storage.Keys(ctx, s.Driver, prefix, after)
}

// TestLoad has a collection beside requests: it rests for twenty times as long as it worked, or as it is taken to have worked
// for a call to another machine. Where nobody asks for anything, or no more, it does not wait.
func TestLoad(t *testing.T) {
	const manifests, call = 40, time.Millisecond
	const reads = 2 * manifests * call // of manifests and blobs
	for name, c := range map[string]struct {
		remote      bool
		fast        bool
		every       time.Duration // a request; 0: there is none
		until       time.Duration
		least, most time.Duration
	}{
		"idle":            {least: reads, most: reads + 5*call},
		"busy":            {every: 5 * time.Millisecond, until: time.Hour, least: 19 * reads, most: 22 * reads},
		"seldom":          {every: time.Second, until: time.Hour, least: reads, most: 5 * reads},
		"no more":         {every: 5 * time.Millisecond, until: 200 * time.Millisecond, least: 3 * reads, most: 6 * reads},
		"fast":            {fast: true, every: 5 * time.Millisecond, until: time.Hour, least: reads, most: reads + 5*call},
		"another machine": {remote: true, every: 5 * time.Millisecond, until: time.Hour, least: 6 * reads, most: 8 * reads},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := delayed{memory.New(), 0}
				f := &fixture{T: t, store: store}
				var err error
				if f.registry, err = registry.Open(t.Context(), store, &registry.Options{Grace: grace}); err != nil {
					t.Fatal(err)
				}
				for i := range manifests {
					p := f.repository("a")
					f.put(p, fmt.Sprint("v", i), image("", f.push(p, fmt.Sprint("layer", i))))
				}
				store.by = call
				var scan storage.Driver = delayedFolder{store}
				if c.remote {
					scan = store
				}
				begun := time.Now()
				served := func() uint64 {
					if c.every == 0 {
						return 1
					}
					return uint64(min(time.Since(begun), c.until) / c.every)
				}
				if _, err := gc.New(f.store, f.registry, gc.Options{Scan: scan, Served: served, Concurrency: 1}).Run(t.Context(), gc.RunOptions{Fast: c.fast}); err != nil {
					t.Fatal(err)
				}
				if took := time.Since(begun); took < c.least || took > c.most {
					t.Errorf("it took %v, and should %v to %v", took, c.least, c.most)
				}
			})
		})
	}
}
