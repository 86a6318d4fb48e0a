package gc_test

import (
	"fmt"
	"io/fs"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"berth/registry"
	"berth/registry/gc"
	"berth/storage"
	"berth/storage/filesystem"
	"berth/storage/memory"
)

// fill makes a store of so many manifests of five blobs each, a layer of which is shared by ten.
func fill(b *testing.B, store storage.Driver, manifests int) *registry.Registry {
	b.Helper()
	reg, err := registry.Open(b.Context(), store, nil)
	if err != nil {
		b.Fatal(err)
	}
	for i := range manifests {
		name, err := registry.ParseName(fmt.Sprintf("team%d/app%d", i%20, i%200))
		if err != nil {
			b.Fatal(err)
		}
		p := reg.Repository(name)
		var blobs []registry.Digest
		for j, content := range []string{fmt.Sprint("config", i), fmt.Sprint("a", i), fmt.Sprint("b", i), fmt.Sprint("c", i), fmt.Sprint("shared", i/10)} {
			if j > 0 {
				content = content + strings.Repeat(".", 8200) // beyond what records hold
			}
			d := registry.SHA256.FromBytes([]byte(content))
			if _, err := p.PushBlob(b.Context(), d, strings.NewReader(content), int64(len(content))); err != nil {
				b.Fatal(err)
			}
			blobs = append(blobs, d)
		}
		ref, err := registry.ParseReference(fmt.Sprint("v", i))
		if err != nil {
			b.Fatal(err)
		}
		if _, err := p.PutManifest(b.Context(), registry.ManifestPush{Reference: ref, Body: image("", blobs...)}); err != nil {
			b.Fatal(err)
		}
	}
	return reg
}

// live returns the bytes in use.
func live() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// BenchmarkFilesystem collects 4,000 manifests of 16,400 blobs on a disk: first, and again when nothing changed, beside a
// walk that asks about each file, as find with stat does.
func BenchmarkFilesystem(b *testing.B) {
	root := b.TempDir()
	files, err := filesystem.Open(b.Context(), filesystem.Options{Root: root, NoSync: true})
	if err != nil {
		b.Fatal(err)
	}
	defer files.Close()
	reg := fill(b, files, 4000)
	walk := func() time.Duration {
		start := time.Now()
		if err := filepath.WalkDir(root, func(_ string, e fs.DirEntry, err error) error {
			if err == nil {
				_, err = e.Info()
			}
			return err
		}); err != nil {
			b.Fatal(err)
		}
		return time.Since(start)
	}
	walk()
	for b.Loop() {
		find := walk()
		c := gc.New(files, reg, gc.Options{})
		for _, run := range []string{"first", "second"} {
			start := time.Now()
			report, err := c.Run(b.Context(), gc.RunOptions{})
			if err != nil || report.Failed() > 0 {
				b.Fatal(report, err)
			}
			b.ReportMetric(float64(time.Since(start))/float64(find), run+"/walk")
		}
	}
}

// BenchmarkMemory says how many bytes a collector takes for each blob record that it remembers.
func BenchmarkMemory(b *testing.B) {
	store := memory.New()
	reg := fill(b, store, 4000)
	for b.Loop() {
		before := live()
		c := gc.New(store, reg, gc.Options{Now: func() time.Time { return time.Now() }})
		time.Sleep(3 * time.Second) // records of the last moment are not remembered
		report, err := c.Run(b.Context(), gc.RunOptions{})
		if err != nil {
			b.Fatal(err)
		}
		records := 0.0
		for _, l := range report.Layers {
			if l.Name == "blobs" {
				records = float64(l.Examined)
			}
		}
		b.ReportMetric(float64(live()-before)/records, "B/record")
		runtime.KeepAlive(c)
	}
}
