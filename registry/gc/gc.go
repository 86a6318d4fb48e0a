// Package gc removes what nothing refers to any more, while everything else goes on. It takes no lock: docs/design.md,
// "Collection", has the rules by which it and the pushes keep out of each other's way.
package gc

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"berth/registry"
	"berth/registry/lease"
	"berth/storage"
)

// Options: zero values mean defaults.
type Options struct {
	// Scan is a driver over the same store for listings and for reads that are of no use to others, such as the one below a
	// cache. Nil: the store itself.
	Scan storage.Driver
	// UploadAge is how long an open upload may lie idle; less than the grace counts as the grace. 0: open uploads stay.
	UploadAge time.Duration
	// Concurrency is how many records are read or removed at a time. 0: 4.
	Concurrency int
	// Rate bounds the calls to the store, per second. 0: there is no bound.
	Rate int
	// Served returns how many requests were let in so far: while there are any, collections hold back. Nil: there are none.
	Served func() uint64
	// Keep is how many reports are kept. 0: 50.
	Keep int
	// Memory bounds what is remembered from run to run, in bytes, about. 0: 64 MiB.
	Memory int
	// Ended is told of every run when it has ended, also of one that failed to begin; see [Collector.Run]. Nil: nobody is.
	Ended func(*Report, error)
	// Swept is called after records were removed that others may keep in memory. Nil: nobody does.
	Swept func(context.Context) error
	// Paused reports whether nothing may be removed now: a run then stops, and none begins. Nil: never.
	Paused func() bool
	// Holder names this process in reports and leases. "": made of the name of the host and a random number.
	Holder string
	// Now is the clock of this process. Nil: time.Now.
	Now func() time.Time
	// Elapsed is a clock that never jumps, since any moment. Nil: the monotonic clock.
	Elapsed func() time.Duration
}

// A Collector collects one store. Its methods may be called at any time, by several processes at once; of several runs at
// once one works, unless leases fail, and then they are merely wasteful.
type Collector struct {
	store    storage.Driver
	registry *registry.Registry
	o        Options
	memo     *memo
	known    atomic.Bool // blob records were read before
	clock    clock

	mu      sync.Mutex
	running *Report   // nil: none
	last    time.Time // when a run was last tried
}

// ErrBusy says that another run is under way.
var ErrBusy = errors.New("another collection is running")

// ErrPaused says that nothing may be removed now.
var ErrPaused = errors.New("the registry is read-only")

// leaseName is the lease of the one that works.
const leaseName = "gc"

// New makes a collector for a store and the registry over it.
func New(store storage.Driver, reg *registry.Registry, o Options) *Collector {
	if o.Scan == nil {
		o.Scan = store
	}
	o.Concurrency = cmp.Or(max(o.Concurrency, 0), 4)
	o.Keep = cmp.Or(max(o.Keep, 0), 50)
	o.Memory = cmp.Or(max(o.Memory, 0), 64<<20)
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Elapsed == nil {
		start := time.Now()
		o.Elapsed = func() time.Duration { return time.Since(start) }
	}
	if o.Ended == nil {
		o.Ended = func(*Report, error) {}
	}
	if o.Swept == nil {
		o.Swept = func(context.Context) error { return nil }
	}
	if o.Paused == nil {
		o.Paused = func() bool { return false }
	}
	if o.Holder == "" {
		host, _ := os.Hostname() // a name for people
		o.Holder = host + "-" + randomHex(4)
	}
	return &Collector{store: store, registry: reg, o: o, memo: newMemo(o.Memory),
		clock: clock{now: o.Now, elapsed: o.Elapsed, grace: reg.Grace(), at: o.Now().Round(0), since: o.Elapsed()}}
}

func randomHex(n int) string {
	b := make([]byte, n)
	rand.Read(b)
	return hex.EncodeToString(b)
}

// RunOptions: the zero value removes what can go.
type RunOptions struct {
	// DryRun removes nothing.
	DryRun bool
	// Alone says that nobody else uses the store, nor will until the run has ended: there is no grace then, nor a need for clocks.
	Alone bool
	// Fast does not hold back while requests are served.
	Fast bool
	// Untagged also deletes the manifests that no tag leads to.
	Untagged bool
	// Found is told of each object that goes, or would, by several goroutines at once. Nil: nobody is.
	Found func(Finding)
}

// A run is one collection under way.
type run struct {
	c        *Collector
	registry *registry.Registry // over store
	store    storage.Driver     // for writes, and for reads that a write relies on
	scan     storage.Driver
	pace     *pace
	dry      bool
	alone    bool
	found    func(Finding)
	report   *Report
	gone     atomic.Int64        // records that were removed
	doomed   map[uint64]struct{} // in a dry run: links and blob records that would be gone, for the layers below
	doomedMu sync.Mutex
}

// Run collects once. What cannot be read or removed is in the report; the error is one that kept the run from reaching its
// end: [ErrBusy], a [ClockError], that of ctx, or that of a store that does not answer. The report is nil if it did not begin.
func (c *Collector) Run(ctx context.Context, o RunOptions) (*Report, error) {
	if c.o.Paused() && !o.DryRun {
		return nil, ErrPaused
	}
	report := &Report{Holder: c.o.Holder, DryRun: o.DryRun, Grace: c.registry.Grace().String(), Layers: []*Layer{}}
	c.mu.Lock()
	if c.running != nil {
		c.mu.Unlock()
		return nil, ErrBusy
	}
	c.running = report
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		c.running = nil
		c.mu.Unlock()
	}()
	held, release, err := c.takeLease(ctx)
	if errors.Is(err, ErrBusy) {
		return nil, err
	}
	if err != nil {
		c.o.Ended(report, err)
		return nil, err
	}
	err = c.run(held, report, o)
	if cause := context.Cause(held); err != nil && cause != nil && ctx.Err() == nil {
		err = cause
	}
	err = errors.Join(err, ignoreUnavailable(release(context.WithoutCancel(ctx))))
	c.o.Ended(report, err)
	return report, err
}

// takeLease takes the lease of the one that works. Where there is no room for it, the run that may make some goes without.
func (c *Collector) takeLease(ctx context.Context) (held context.Context, release func(context.Context) error, err error) {
	now := c.o.Now
	if at, _, err := c.registry.StoreTime(ctx); err == nil { // which dates leases; if it does not tell, the lease will say why
		now = func() time.Time { return at }
	}
	held, l, err := lease.Take(ctx, c.store, leaseName, c.o.Holder, &lease.Options{Now: now})
	switch {
	case errors.Is(err, lease.ErrHeld):
		return nil, nil, fmt.Errorf("%w: %w", ErrBusy, err)
	case errors.Is(err, storage.ErrNoSpace):
		return ctx, func(context.Context) error { return nil }, nil
	case err != nil:
		return nil, nil, err
	}
	return held, l.Release, nil
}

// Running returns what the run that is under way has done so far; nil when there is none.
func (c *Collector) Running() *Report {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.running == nil {
		return nil
	}
	now := *c.running
	now.Layers = make([]*Layer, len(c.running.Layers))
	for i, l := range c.running.Layers {
		now.Layers[i] = l.snapshot()
	}
	return &now
}

// ignoreUnavailable passes over what only costs time: a lease that was not released ends by itself.
func ignoreUnavailable(err error) error {
	if errors.Is(err, storage.ErrUnavailable) {
		return nil
	}
	return err
}

func (c *Collector) run(ctx context.Context, report *Report, o RunOptions) error {
	served := c.o.Served
	if o.Fast {
		served = nil
	}
	p := &pace{load: newLoad(served, c.local())}
	if !o.DryRun {
		p.paused = c.o.Paused
	}
	if !o.Alone {
		p.look = c.clock.look
	}
	if c.o.Rate > 0 {
		p.every = time.Second / time.Duration(c.o.Rate)
	}
	r := &run{c: c, store: paced{c.store, p}, scan: paced{c.o.Scan, p}, pace: p, dry: o.DryRun, alone: o.Alone, found: o.Found, report: report}
	r.registry = c.registry.Over(r.store)
	if r.found == nil {
		r.found = func(Finding) {}
	}
	begun := c.o.Elapsed()
	started, err := r.time(ctx)
	if err == nil && !o.Alone {
		err = c.checkHistory(ctx, started)
	}
	if err != nil {
		return err
	}
	c.mu.Lock()
	report.ID, report.Started = reportID(started, randomHex(3)), started
	c.mu.Unlock()
	c.memo.begin()
	err = r.layers(ctx, o.Untagged)
	c.mu.Lock()
	report.Calls, report.Seconds = p.calls.Load(), (c.o.Elapsed() - begun).Seconds()
	if err != nil {
		report.Stopped = err.Error()
	}
	c.mu.Unlock()
	if o.DryRun {
		return err
	}
	return errors.Join(err, c.save(context.WithoutCancel(ctx), report))
}

// layers sweeps one layer after another, each from a start of its own that is taken after the one above was swept. What
// stops a layer stops the run only if nothing below could work either.
func (r *run) layers(ctx context.Context, untagged bool) error {
	for _, layer := range []struct {
		name  string
		sweep func(context.Context, *Layer) error
	}{
		{"untagged", r.untagged},
		{"links", r.links},
		{"blobs", r.blobs},
		{"uploads", r.uploads},
		{"data", r.data},
		{"leases", r.leases},
		{"leftovers", r.leftovers},
		{"tombstones", r.tombstones},
	} {
		if layer.name == "untagged" && !untagged {
			continue
		}
		if err := r.layer(ctx, layer.name, layer.sweep); err != nil {
			return fmt.Errorf("collect %s: %w", layer.name, err)
		}
	}
	return nil
}

func (r *run) layer(ctx context.Context, name string, sweep func(context.Context, *Layer) error) error {
	begun := r.c.o.Elapsed()
	start, err := r.time(ctx)
	if err != nil {
		return err
	}
	l := r.newLayer(name, start)
	defer func() { l.ended(r.c.o.Elapsed() - begun) }()
	before := r.gone.Load()
	err = sweep(ctx, l)
	if r.gone.Load() > before {
		err = errors.Join(err, r.c.o.Swept(context.WithoutCancel(ctx))) // also of what a run that is cut off removed
	}
	if err != nil {
		if ends(ctx, err) {
			return err
		}
		l.problem(err)
		l.skip("nothing more was removed: %v", err)
	}
	return ctx.Err()
}

func (r *run) newLayer(name string, start time.Time) *Layer {
	l := &Layer{Name: name, Start: start}
	r.c.mu.Lock()
	defer r.c.mu.Unlock()
	r.report.Layers = append(r.report.Layers, l)
	return l
}

// limit is what an unreached object must have been touched before in order to go.
func (r *run) limit(l *Layer) time.Time {
	if r.alone {
		return l.Start.Add(24 * time.Hour) // whatever clocks say
	}
	return l.Start.Add(-r.registry.Grace())
}

// local reports whether listing is reading folders of this machine, and not a call to another.
func (c *Collector) local() bool {
	_, ok := innermost(c.o.Scan).(storage.Namer)
	return ok
}

// A team is who works at a part of a run: whoever gives out the work, and others.
type team struct {
	*errgroup.Group
	load *load
}

func (r *run) team(ctx context.Context) (team, context.Context) {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(r.c.o.Concurrency - 1)
	return team{group, r.pace.load}, ctx
}

// do has somebody do f: another, if one is free and may, or the caller, who then gets the error.
func (t team) do(f func() error) error {
	if !t.load.alone() && t.TryGo(f) {
		return nil
	}
	return f()
}

// doom notes in a dry run what would be gone.
func (r *run) doom(key string) {
	if !r.dry {
		return
	}
	r.doomedMu.Lock()
	defer r.doomedMu.Unlock()
	if r.doomed == nil {
		r.doomed = map[uint64]struct{}{}
	}
	r.doomed[r.c.memo.hash(key)] = struct{}{}
}

func (r *run) isDoomed(key string) bool {
	if !r.dry {
		return false
	}
	r.doomedMu.Lock()
	defer r.doomedMu.Unlock()
	_, ok := r.doomed[r.c.memo.hash(key)]
	return ok
}
