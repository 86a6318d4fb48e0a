package process

import (
	"context"
	"fmt"
	"strings"
	"time"

	"berth/metrics"
	"berth/registry"
	"berth/registry/health"
	"berth/storage"
)

// retryStorage is how often a storage that fails is looked at.
const retryStorage = time.Second

// newHealth makes the monitor of a server. What it watches of the storage is added when that is open.
func (p process) newHealth() *health.Monitor {
	var found func(string, bool)
	var m *health.Monitor
	if p.metrics != nil {
		found = p.metrics.WatchHealth(func() bool { return m.Report().Writable })
	}
	m = health.New(p.log, found)
	return m
}

// watchStorage adds the checks of a storage: that it answers, that there is room, that it takes what is written, that its clock
// is ours.
func (p process) watchStorage(store storage.Driver, reg *registry.Registry) {
	if c := p.config.Health.StorageDriver; c.Enabled {
		p.health.Add(health.Check{Name: "storage", Effect: health.Readiness, Run: health.Storage(store), Reason: health.StorageReason,
			Interval: c.Interval, Retry: retryStorage, Threshold: c.Threshold})
	}
	changes := func(name string, run func(context.Context) error, reason func(error) string) {
		p.health.Add(health.Check{Name: name, Effect: health.Changes, Run: run, Reason: reason,
			Interval: p.config.Health.StorageDriver.Interval, Retry: retryStorage})
	}
	if disk, ok := storage.As[interface {
		FreeSpace() (free, total uint64, err error)
	}](store); ok {
		changes("room", health.Room(disk.FreeSpace, p.limits.minFree.Load), func(error) string { return "the storage has too little room left" })
	}
	if disk, ok := storage.As[interface{ Writable() error }](store); ok {
		p.writing.Look = func() error {
			err := disk.Writable()
			if err != nil && p.metrics != nil {
				p.metrics.StoreCalled(metrics.WriteRecord, 0, storeError(err)) // what would have failed is not tried
			}
			return err
		}
	}
	p.writing.Try = func(ctx context.Context) error {
		if p.guard.ReadOnly() {
			return nil
		}
		_, _, err := reg.StoreTime(ctx)
		return err
	}
	changes("writing", p.writing.Check, health.StorageReason)
	changes("clock", func(ctx context.Context) error {
		if reg.ClockSkew() != nil && !p.guard.ReadOnly() {
			_, _, _ = reg.StoreTime(ctx) // if the storage does not tell, what was known stays
		}
		return reg.ClockSkew()
	}, func(err error) string { return strings.TrimPrefix(err.Error(), storage.ErrUnavailable.Error()+": ") })
}

// watchOthers adds the checks that the operator names.
func (p process) watchOthers() {
	add := func(key string, c health.Check) {
		c.Name, c.Effect = key, health.Service
		c.Reason = func(error) string { return key + " fails" }
		p.health.Add(c)
	}
	for i, f := range p.config.Health.File {
		add(fmt.Sprintf("health.file[%d]", i), health.Check{Run: health.NoFile(f.File), Interval: f.Interval, Threshold: f.Threshold})
	}
	for i, h := range p.config.Health.HTTP {
		add(fmt.Sprintf("health.http[%d]", i), health.Check{Run: health.Responds(h.URI.Reveal(), h.Header(), h.StatusCode),
			Interval: h.Interval, Timeout: h.Timeout, Threshold: h.Threshold})
	}
	for i, t := range p.config.Health.TCP {
		add(fmt.Sprintf("health.tcp[%d]", i), health.Check{Run: health.Answers(t.Addr), Interval: t.Interval, Timeout: t.Timeout, Threshold: t.Threshold})
	}
}

// storeFailed has what explains the failure of a call of the storage looked at.
func (p process) storeFailed(err error) {
	switch storeError(err) {
	case metrics.NoSpace, metrics.ReadOnlyFilesystem:
		p.writing.Doubt()
		p.health.Suspect(health.Changes)
	case metrics.StoreUnavailable, metrics.UnknownError:
		p.health.Suspect(health.Readiness)
	}
}
