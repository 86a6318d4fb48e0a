package filesystem

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"berth/storage"
	"berth/storage/storagetest"
)

// start opens a driver on a root and closes it when the test ends.
func start(t testing.TB, o Options, kind string, sys system) *Driver {
	t.Helper()
	if o.Root == "" {
		o.Root = t.TempDir()
	}
	d, err := open(context.Background(), o, kind, sys)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// put stores a body that must be accepted.
func put(t testing.TB, d storage.Driver, key, body string, cond storage.Cond) storage.Info {
	t.Helper()
	info, err := d.Put(t.Context(), key, strings.NewReader(body), int64(len(body)), cond)
	if err != nil {
		t.Fatal(err)
	}
	return info
}

// files returns the paths of all regular files under a folder, relative to it.
func files(t testing.TB, dir string) []string {
	t.Helper()
	var paths []string
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			rel, _ := filepath.Rel(dir, path)
			paths = append(paths, rel)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

// checked is a driver whose temporary files must all be gone when its test ends, and none of whose folders may be empty.
func checked(t *testing.T, d *Driver) storage.Driver {
	t.Cleanup(func() {
		if left := files(t, d.temp); len(left) != 1 || left[0] != lockName {
			t.Errorf("temporary files are left: %q", left)
		}
		filepath.WalkDir(d.objects, func(path string, e fs.DirEntry, err error) error {
			if entries, err := os.ReadDir(path); err == nil && len(entries) == 0 && path != d.objects {
				t.Errorf("%s is left empty", path)
			}
			return err
		})
		d.flights.mu.Lock()
		defer d.flights.mu.Unlock()
		if len(d.flights.byKey) > 0 {
			t.Errorf("%d keys are still in flight", len(d.flights.byKey))
		}
	})
	return d
}

func TestSuite(t *testing.T) {
	for name, open := range map[string]func(t *testing.T) storage.Driver{
		"exclusive": func(t *testing.T) storage.Driver {
			return checked(t, start(t, Options{}, kindFilesystem, realSystem{}))
		},
		"shared": func(t *testing.T) storage.Driver {
			return checked(t, start(t, Options{Shared: true}, kindFilesystem, realSystem{}))
		},
		"emptydir": func(t *testing.T) storage.Driver {
			o := Options{NoSync: true, Limit: 1 << 30}
			return checked(t, start(t, o, kindEmptyDir, realSystem{}))
		},
		"unknown file system": func(t *testing.T) storage.Driver {
			d := start(t, Options{Shared: true}, kindFilesystem, realSystem{})
			d.traits = traits{}
			d.syncer.traits = traits{}
			d.folders.strangers = true
			return checked(t, d)
		},
		"two shared": func(t *testing.T) storage.Driver {
			root := t.TempDir()
			return &alternating{drivers: [2]*Driver{
				start(t, Options{Root: root, Shared: true}, kindFilesystem, realSystem{}),
				start(t, Options{Root: root, Shared: true}, kindFilesystem, realSystem{}),
			}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			storagetest.Test(t, open)
			storagetest.TestReplacing(t, open(t))
		})
	}
}

// alternating sends each call to the other of two drivers of one root.
type alternating struct {
	drivers [2]*Driver
	calls   atomic.Uint64
}

func (a *alternating) next() *Driver { return a.drivers[a.calls.Add(1)%2] }

func (a *alternating) Open(ctx context.Context, key string, off, n int64) (io.ReadCloser, storage.Info, error) {
	return a.next().Open(ctx, key, off, n)
}

func (a *alternating) Stat(ctx context.Context, key string) (storage.Info, error) {
	return a.next().Stat(ctx, key)
}

func (a *alternating) Put(ctx context.Context, key string, r io.Reader, size int64, cond storage.Cond) (storage.Info, error) {
	return a.next().Put(ctx, key, r, size, cond)
}

func (a *alternating) PutAll(ctx context.Context, objects []storage.Object) ([]storage.Info, error) {
	return a.next().PutAll(ctx, objects)
}

func (a *alternating) Delete(ctx context.Context, key string, cond storage.Cond) error {
	return a.next().Delete(ctx, key, cond)
}

func (a *alternating) List(ctx context.Context, prefix, after string) iter.Seq2[storage.Info, error] {
	return a.next().List(ctx, prefix, after)
}

// BenchmarkGroups measures groups of three records put by many writers, as pushes do.
func BenchmarkGroups(b *testing.B) {
	for _, writers := range []int{1, 4, 16} {
		for _, whole := range []bool{true, false} {
			b.Run(fmt.Sprintf("writers=%d/syncfs=%v", writers, whole), func(b *testing.B) {
				d := start(b, Options{Root: b.TempDir()}, kindFilesystem, realSystem{})
				if d.syncer.traits.syncsWhole != true {
					b.Skip("not a file system that can sync as a whole")
				}
				d.syncer.traits.syncsWhole = whole
				var n atomic.Int64
				b.SetParallelism(max(1, writers/2))
				body := []byte(strings.Repeat("x", 500))
				b.ResetTimer()
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						i := n.Add(1)
						_, err := d.PutAll(context.Background(), []storage.Object{
							{Key: fmt.Sprintf("blobs/%02x/%d", i%256, i), Body: fmt.Append(body, i), Cond: storage.Absent()},
							{Key: fmt.Sprintf("repositories/r%d/_blobs/%d", i%16, i), Body: fmt.Append(body, i), Cond: storage.Absent()},
							{Key: fmt.Sprintf("repositories/r%d/_tags/t%d", i%16, i%64), Body: fmt.Append(body, i)},
						})
						if err != nil {
							b.Error(err)
						}
					}
				})
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "groups/s")
			})
		}
	}
}

// BenchmarkList lists a folder of 5,000 objects.
func BenchmarkList(b *testing.B) {
	d := start(b, Options{NoSync: true}, kindEmptyDir, realSystem{})
	for i := range 5000 {
		put(b, d, fmt.Sprintf("tags/%d", i), "x", storage.Cond{})
	}
	for b.Loop() {
		n := 0
		for _, err := range d.List(b.Context(), "tags/", "") {
			if n++; err != nil {
				b.Fatal(err)
			}
		}
		if n != 5000 {
			b.Fatalf("%d objects are listed", n)
		}
	}
}

// BenchmarkStat describes one record, as HEAD does.
func BenchmarkStat(b *testing.B) {
	d := start(b, Options{NoSync: true}, kindEmptyDir, realSystem{})
	put(b, d, "repositories/team/app/_blobs/sha256/x", strings.Repeat("x", 500), storage.Cond{})
	for b.Loop() {
		if _, err := d.Stat(b.Context(), "repositories/team/app/_blobs/sha256/x"); err != nil {
			b.Fatal(err)
		}
	}
}
