// Bench measures Berth against the least possible server (floor) and against Debian's docker-registry, each operation on
// all of them in turn within each round, and prints rates, latencies, processor time of the server per operation, memory,
// and how Berth compares. It wants Linux, and a folder on a disk that is like the one of a real store.
//
// To profile one operation, keep it going on one target and attach to the process that is printed:
//
//	go run ./bench -only berth -run '^manifest GET by tag' -rounds 1 -seconds 30
//
// With -bucket, Berth and docker-registry are also measured over a bucket of one S3 server (versitygw, built on first use).
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := measure(ctx, os.Args[1:])
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func measure(ctx context.Context, args []string) (err error) {
	o, err := parse(args)
	if err != nil {
		return err
	}
	runtime.GOMAXPROCS(o.procs)
	targets, err := buildTargets(ctx, o.bin, o.only)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp(o.dir, "bench")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	b := &bench{options: o, targets: targets, dir: dir, shared: map[string]*server{}}
	defer b.stop()
	return b.all(ctx)
}

type options struct {
	run          *regexp.Regexp
	only         []string
	rounds       int
	length       time.Duration
	quick, start bool
	manifests    int
	cold         bool
	overBucket   bool
	markdown     bool
	dir, bin     string
	procs        int
}

func parse(args []string) (options, error) {
	var o options
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	run := flags.String("run", "", "measure only what this regular `expression` matches the name of")
	only := flags.String("only", "", "measure only these `targets`, separated by commas: berth, floor, docker-registry")
	seconds := flags.Float64("seconds", 0.6, "how long each operation is measured in a round, on each target")
	flags.IntVar(&o.rounds, "rounds", 3, "how often each operation is measured")
	flags.BoolVar(&o.quick, "quick", false, "one short round, without lists, memory and growth")
	flags.IntVar(&o.manifests, "manifests", 4000, "how many manifests, of five blobs each, the collection is measured over")
	flags.BoolVar(&o.cold, "cold", false, "have the system forget all files before each measurement of the collection (as root)")
	flags.BoolVar(&o.start, "start", false, "measure starting over a full store too, which takes minutes to fill")
	flags.BoolVar(&o.overBucket, "bucket", false, "measure over a bucket of S3 too, which takes minutes")
	flags.BoolVar(&o.markdown, "markdown", false, "print tables for docs/performance.md")
	flags.StringVar(&o.dir, "dir", "/var/tmp", "a `folder` for the stores, on the disk to measure")
	flags.StringVar(&o.bin, "bin", "../bin", "the `folder` for the binaries built")
	flags.IntVar(&o.procs, "procs", 1, "processors that the client may use at once")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if o.quick {
		o.rounds, *seconds = 1, 0.3
	}
	if o.rounds < 1 || *seconds <= 0 || flags.NArg() > 0 {
		return o, errors.New("there must be a round at least, of more than no seconds, and no arguments")
	}
	o.length = time.Duration(*seconds * float64(time.Second))
	if *only != "" {
		o.only = strings.Split(*only, ",")
	}
	var err error
	if o.run, err = regexp.Compile(*run); err != nil {
		return o, err
	}
	o.bin, err = filepath.Abs(o.bin)
	return o, err
}

// operations are the rows of the tables, with their bars.
func operations() []operation {
	return slices.Concat(folderOperations(), accessOperations(), bucketOperations())
}

// folderOperations are those over a folder, with everybody let in.
func folderOperations() []operation {
	return []operation{
		{name: "manifest GET by tag", clients: 16, bar: 0.55, against: floor, prepare: reading("GET", manifests(true))},
		{name: "manifest GET by digest", clients: 16, bar: 0.55, against: floor, prepare: reading("GET", manifests(false))},
		{name: "manifest HEAD by tag", clients: 16, bar: 0.55, against: floor, prepare: reading("HEAD", manifests(true))},
		{name: "manifest HEAD by digest", clients: 16, bar: 0.55, against: floor, prepare: reading("HEAD", manifests(false))},
		{name: "blob HEAD", clients: 16, bar: 0.55, against: floor, prepare: reading("HEAD", blobs(4*kib, kinds))},
		{name: "blob GET 4 KiB", clients: 16, bar: 0.55, against: floor, prepare: reading("GET", blobs(4*kib, kinds))},
		{name: "blob GET 1 MiB", clients: 4, bar: 0.85, against: floor, prepare: reading("GET", blobs(mib, 16))},
		{name: "blob GET 256 MiB", clients: 2, bar: 0.95, against: floor, prepare: reading("GET", blobs(256*mib, 1))},
		{name: "range 1 MiB of 256 MiB", clients: 4, bar: 0.85, against: floor, prepare: reading("GET", ranges)},
		{name: "blob push 4 KiB", clients: 16, bar: 0.7, against: floor, fresh: true, prepare: blobPush(4*kib, false)},
		{name: "blob push 4 KiB by one request", clients: 16, fresh: true, except: []string{peer}, prepare: blobPush(4*kib, true)},
		{name: "blob push 64 MiB, one client", clients: 1, bar: 1, against: floor, fresh: true, long: 3,
			prepare: blobPush(64*mib, false)},
		{name: "blob push 64 MiB, two clients", clients: 2, bar: 1, against: floor, fresh: true, long: 3,
			prepare: blobPush(64*mib, false)},
		{name: "image push", clients: 8, bar: 0.6, against: floor, fresh: true, prepare: imagePush},
		{name: "5,000 tags", clients: 4, bar: 4, against: peer, except: []string{floor}, filled: true,
			prepare: reading("GET", tagList("", manyTags))},
		{name: "page of 100 in 5,000 tags", clients: 4, bar: 8, against: peer, except: []string{floor}, filled: true,
			prepare: reading("GET", tagList("?n=100&last=t2", 100))},
		{name: "page of 100 in 2,000 repositories", clients: 4, bar: 4, against: peer, except: []string{floor}, filled: true,
			prepare: reading("GET", catalog)},
		{name: "500 referrers", clients: 4, bar: 0.15, against: floor, except: []string{peer}, filled: true,
			prepare: reading("GET", referrers())},
	}
}

func measurements() []measurement {
	return []measurement{
		{name: "observation", targets: []string{berth}, measure: observationCosts},
		{name: "growth", targets: []string{berth, peer}, measure: onFresh(tagCosts)},
		{name: "memory", targets: []string{berth, floor, peer}, measure: onFresh(memoryUse)},
		{name: "collection", targets: []string{berth}, measure: collectionCosts},
		{name: "start", targets: []string{berth}, slow: true, measure: startTimes},
	}
}

// all measures what was asked for and prints it. What fails does not keep the rest from being measured.
func (b *bench) all(ctx context.Context) error {
	var outcomes []outcome
	var errs []error
	for _, op := range operations() {
		if !b.run.MatchString(op.name) || b.quick && op.filled || op.section == bucketSection && !b.overBucket || ctx.Err() != nil {
			continue
		}
		o := b.measureOperation(ctx, op)
		for name, err := range o.failed {
			errs = append(errs, fmt.Errorf("%s: %s: %w", op.name, name, err))
		}
		outcomes = append(outcomes, o)
	}
	b.stop()
	figures := map[string][]figure{}
	for _, m := range measurements() {
		if !b.run.MatchString(m.name) || b.quick || m.slow && !b.start {
			continue
		}
		for _, t := range b.targets {
			if !slices.Contains(m.targets, t.name) || ctx.Err() != nil {
				continue
			}
			b.progress("%s: %s", m.name, t.name)
			got, err := m.measure(ctx, b, t)
			if err != nil {
				errs = append(errs, fmt.Errorf("%s: %s: %w", m.name, t.name, err))
			}
			figures[t.name] = append(figures[t.name], got...)
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return errors.Join(append(errs, b.print(outcomes, figures))...)
}

func (b *bench) print(outcomes []outcome, figures map[string][]figure) error {
	var tables []table
	if len(outcomes) > 0 {
		for _, section := range []string{"", accessSection, bucketSection} {
			if of := inSection(outcomes, section); len(of) > 0 {
				tables = append(tables, ratios(of))
			}
		}
		tables = append(tables, details(outcomes))
	}
	if len(figures) > 0 {
		tables = append(tables, figureTable(figures))
	}
	for _, t := range tables {
		if err := t.print(os.Stdout, b.markdown); err != nil {
			return err
		}
	}
	return nil
}
