package process

import (
	"context"
	"errors"
	"time"

	"berth/configuration"
	"berth/configuration/schedule"
	"berth/metrics"
	"berth/registry"
	"berth/registry/gc"
	"berth/storage"
	"berth/storage/cached"
	"berth/storage/open"
)

// collectorOptions are those of every collector of a store, and the driver that it works with. Where one process has a store to
// itself, all are one holder: the lease of one that was killed does not keep the next from collecting.
func collectorOptions(c *configuration.Config, store *open.Store) (gc.Options, storage.Driver) {
	o := gc.Options{Concurrency: c.GC.Concurrency, Rate: c.GC.RateLimit}
	if purging := c.Storage.Maintenance.UploadPurging; purging.Enabled && !purging.DryRun {
		o.UploadAge = purging.Age
	}
	if store.Exclusive {
		o.Holder = "berth"
	}
	driver := store.Driver
	switch cache := driver.(type) {
	case *cached.Driver:
		o.Scan = cache.Unwrap() // what a collection reads, it reads once
	case *cached.Shared:
		driver, o.Swept = cache.Unwrap(), cache.Deleted
	}
	return o, driver
}

// collector makes the collector of a store that is served.
func (p process) collector(store *open.Store, reg *registry.Registry) *gc.Collector {
	o, driver := collectorOptions(p.config, store)
	o.Paused = p.guard.ReadOnly
	o.Served = p.limits.gate.Admitted
	if p.metrics != nil {
		o.Ended = func(r *gc.Report, err error) {
			if !r.DryRun {
				p.metrics.CollectionEnded(counted(r, err))
			}
		}
	}
	c := gc.New(driver, reg, o)
	if p.metrics != nil {
		p.metrics.WatchCollector(func() bool { return c.Running() != nil })
	}
	return c
}

func counted(r *gc.Report, err error) metrics.Collection {
	run := metrics.Collection{Seconds: r.Seconds}
	switch {
	case err != nil:
		run.Result = metrics.Stopped
	case r.Failed() > 0:
		run.Result = metrics.Incomplete
	}
	for _, l := range r.Layers {
		run.Layers = append(run.Layers, metrics.CollectedLayer{
			Name: l.Name, Removed: l.Removed, Bytes: l.Bytes, Failed: l.Failed, Seconds: l.Seconds,
		})
	}
	return run
}

// follow returns the task that collects as configured.
func (p process) follow(collector *gc.Collector) (func(context.Context), error) {
	plan := gc.Plan{Interval: p.config.GC.Interval, Log: p.log}
	if p.config.GC.Schedule != "" {
		schedule, err := schedule.Parse(p.config.GC.Schedule)
		if err != nil {
			return nil, err
		}
		plan.Next = func(after time.Time) time.Time { return schedule.Next(after.Local()) }
	}
	return func(ctx context.Context) { collector.Follow(ctx, plan) }, nil
}

// due is about when the next run begins; zero where none is planned, or when that is not known.
func due(c *configuration.Config, last *gc.Report, now time.Time) time.Time {
	if !c.GC.Enabled {
		return time.Time{}
	}
	if schedule, err := schedule.Parse(c.GC.Schedule); c.GC.Schedule != "" && err == nil {
		return schedule.Next(now.Local())
	}
	if last == nil {
		return time.Time{}
	}
	return last.Started.Add(c.GC.Interval)
}

// refusedRun reports whether an error says why no collection goes on, as whoever asked for one is to be told.
func refusedRun(err error) bool {
	return errors.Is(err, gc.ErrBusy) || errors.Is(err, gc.ErrPaused) || errors.As(err, new(*gc.ClockError))
}
