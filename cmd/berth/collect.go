package main

import (
	"context"
	"time"

	"berth/configuration"
	"berth/registry"
	"berth/registry/gc"
	"berth/storage"
	"berth/storage/cached"
)

// collector makes the collector of a store.
func (p process) collector(store storage.Driver, reg *registry.Registry) *gc.Collector {
	c := p.config
	o := gc.Options{Concurrency: c.GC.Concurrency, Rate: c.GC.RateLimit, Paused: p.access.readOnly}
	if purging := c.Storage.Maintenance.UploadPurging; purging.Enabled && !purging.DryRun {
		o.UploadAge = purging.Age
	}
	switch cache := store.(type) {
	case *cached.Driver:
		o.Scan = cache.Unwrap() // what a collection reads, it reads once
	case *cached.Shared:
		store, o.Swept = cache.Unwrap(), cache.Deleted
	}
	return gc.New(store, reg, o)
}

// follow returns the task that collects as configured.
func (p process) follow(collector *gc.Collector) (func(context.Context), error) {
	plan := gc.Plan{Interval: p.config.GC.Interval, Log: p.log}
	if p.config.GC.Schedule != "" {
		schedule, err := configuration.ParseSchedule(p.config.GC.Schedule)
		if err != nil {
			return nil, err
		}
		plan.Next = func(after time.Time) time.Time { return schedule.Next(after.Local()) }
	}
	return func(ctx context.Context) { collector.Follow(ctx, plan) }, nil
}
