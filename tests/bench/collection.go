package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"berth/registry/admin"
)

const (
	blobsPerManifest = 5
	perRepository    = 1000 // manifests
)

// collectionConfig has no collection but those that are asked for.
const collectionConfig = berthConfig + "gc:\n  enabled: false\n"

// collectionCosts compares collections that find nothing to remove with `find` that looks at every file, and has manifests
// read with and without them, in turn.
func collectionCosts(ctx context.Context, b *bench, t target) (figures []figure, err error) {
	t.config = collectionConfig
	op := operation{name: "manifest GET by tag", clients: 4, prepare: reading("GET", manifests(true))}
	err = b.withFresh(ctx, t, func(s *server) error {
		l, err := op.prepare(s)
		if err != nil {
			return err
		}
		objects := filepath.Join(s.dir, "store", "objects")
		if err := fill(ctx, objects, b.manifests); err != nil {
			return err
		}
		if err := settled(ctx); err != nil {
			return err
		}
		if figures, err = b.collectionTimes(ctx, s, objects); err != nil {
			return err
		}
		ratio, err := b.readsMeanwhile(ctx, s, op, l)
		figures = append(figures, figure{name: "p99 of a manifest GET while it collects, in that while it does not", value: ratio, bar: 1.25})
		return err
	})
	return figures, err
}

// settled waits until what was written is older than what a collection trusts the times of, three seconds.
func settled(ctx context.Context) error {
	syscall.Sync()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(4 * time.Second):
		return nil
	}
}

// collectionTimes times a walk over the files and two collections, each over what is in memory, or each from the disk.
func (b *bench) collectionTimes(ctx context.Context, s *server, objects string) ([]figure, error) {
	find := func() error {
		return exec.CommandContext(ctx, "find", objects, "-type", "f", "-size", "-0").Run() // looks at each file, prints none
	}
	if !b.cold {
		read := exec.CommandContext(ctx, "grep", "-rq", "in none of them", objects) // so that all finds what is in memory
		if err := read.Run(); err != nil && read.ProcessState.ExitCode() != 1 {
			return nil, err
		}
		if err := find(); err != nil {
			return nil, err
		}
	}
	walk, err := b.timedCold(find)
	if err != nil {
		return nil, err
	}
	if err := s.forgetPeak(); err != nil {
		return nil, err
	}
	first, err := b.timedCold(func() error { return s.collect(ctx) })
	if err != nil {
		return nil, err
	}
	_, peak, err := s.memory()
	if err != nil {
		return nil, err
	}
	second, err := b.timedCold(func() error { return s.collect(ctx) })
	if err != nil {
		return nil, err
	}
	what := fmt.Sprintf("of %d manifests and %d blobs", b.manifests, b.manifests*blobsPerManifest)
	if b.cold {
		what += ", from the disk"
	}
	return []figure{
		{name: "find and stat " + what, value: walk, unit: "ms"},
		{name: "first collection in units of that", value: first / walk, bar: 6},
		{name: "unchanged second collection in units of that", value: second / walk, bar: 2},
		{name: "most memory in the first", value: float64(peak) / 1e6, unit: "MB", bar: 200},
	}, nil
}

// timedCold times f, after the system has forgotten all files where that is asked for.
func (b *bench) timedCold(f func() error) (float64, error) {
	if b.cold {
		syscall.Sync()
		if err := os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0o200); err != nil {
			return 0, fmt.Errorf("-cold: %w", err)
		}
	}
	return timed(f)
}

// collect has s collect once, as `berth gc run` does, without starting a process: a scheduled collection starts none, and one
// after the other would take a processor from what is measured.
func (s *server) collect(ctx context.Context) error {
	socket := admin.NewClient(filepath.Join(s.dir, "store", "admin", "socket"))
	err := socket.Lines(ctx, http.MethodPost, "/v1/gc/run", struct{}{}, func([]byte) error { return nil })
	return cmp.Or(ctx.Err(), err)
}

// readsMeanwhile returns the median, over rounds, of the p99 of an operation under collections in units of that without.
func (b *bench) readsMeanwhile(ctx context.Context, s *server, op operation, l *load) (float64, error) {
	var ratios []float64
	for range 3 * b.rounds {
		without, err := b.load(ctx, op, s, l)
		if err != nil {
			return 0, err
		}
		collecting, stop := context.WithCancel(ctx)
		ended := make(chan error, 1)
		go func() {
			var err error
			for err == nil {
				err = s.collect(collecting)
			}
			ended <- err
		}()
		with, err := b.load(ctx, op, s, l)
		stop()
		if why := <-ended; err == nil && !errors.Is(why, context.Canceled) {
			err = why
		}
		if err != nil {
			return 0, err
		}
		ratios = append(ratios, float64(with.p99)/float64(without.p99))
	}
	slices.Sort(ratios)
	return ratios[len(ratios)/2], nil
}

// fill puts manifests with blobs of their own into a store, as docs/design.md has the records: to push them would take hours.
func fill(ctx context.Context, objects string, manifests int) error {
	for n := range manifests {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err := fillOne(objects, fmt.Sprintf("filled/r%d", n/perRepository), n); err != nil {
			return fmt.Errorf("fill the store: %w", err)
		}
	}
	return nil
}

func fillOne(objects, repository string, n int) error {
	var layers []string
	for i := range blobsPerManifest {
		content := fmt.Sprintf("blob %d of manifest %d", i, n)
		hex := fmt.Sprintf("%x", sha256.Sum256([]byte(content)))
		layers = append(layers, fmt.Sprintf(`{"mediaType":"application/octet-stream","size":%d,"digest":"sha256:%s"}`, len(content), hex))
		record := fmt.Sprintf(`{"nonce":"%016x","size":%d,"origin":%q}`+"\n%s", n, len(content), repository, content)
		link := fmt.Sprintf(`{"nonce":"%016x","size":%d}`+"\n", n, len(content))
		if err := errors.Join(put(filepath.Join(objects, "blobs/sha256", hex[:2], hex), record),
			put(filepath.Join(objects, "repositories", repository, "_blobs/sha256", hex), link)); err != nil {
			return err
		}
	}
	const kind = "application/vnd.oci.image.manifest.v1+json"
	body := fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"config":%s,"layers":[%s]}`, kind, layers[0], strings.Join(layers[1:], ","))
	hex := fmt.Sprintf("%x", sha256.Sum256([]byte(body)))
	return errors.Join(put(filepath.Join(objects, "catalog", repository+"!"), fmt.Sprintf(`{"nonce":"%016x"}`+"\n", n)),
		put(filepath.Join(objects, "repositories", repository, "_manifests/sha256", hex), fmt.Sprintf(`{"nonce":"%016x","mediaType":%q}`+"\n%s", n, kind, body)))
}

// put writes a file, and its folders if they are missing.
func put(path, content string) error {
	err := os.WriteFile(path, []byte(content), 0o640)
	if errors.Is(err, os.ErrNotExist) {
		if err = os.MkdirAll(filepath.Dir(path), 0o750); err == nil {
			err = os.WriteFile(path, []byte(content), 0o640)
		}
	}
	return err
}
