package process

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"berth/configuration"
	"berth/registry"
	"berth/registry/admin"
	"berth/registry/gc"
)

// progressEvery is how often a command is told how far a run is.
const progressEvery = time.Second

func (c *commands) gcRoutes() []admin.Route {
	return []admin.Route{
		{Method: "POST", Path: "/v1/gc/run", Access: admin.Administer, Serve: c.runCollection},
		{Method: "GET", Path: "/v1/gc/status", Access: admin.Administer, Serve: admin.Ask(c.collectionStatus)},
		{Method: "GET", Path: "/v1/gc/history", Access: admin.Administer, Serve: c.collectionHistory},
		{Method: "GET", Path: "/v1/gc/why/{digest}", Access: admin.Administer, Serve: c.whyKept},
	}
}

// runCollection collects for as long as the command waits for it.
func (c *commands) runCollection(r *admin.Request) (any, error) {
	var in admin.GCRequest
	if err := r.Decode(&in); err != nil {
		return nil, err
	}
	return admin.Stream(func(ctx context.Context, send func(any) error) error {
		ctx, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		o := gc.RunOptions{DryRun: in.DryRun, Fast: in.Fast}
		if in.DryRun {
			o.Found = func(f gc.Finding) {
				if err := send(admin.GCLine{Finding: &f}); err != nil {
					cancel(err)
				}
			}
		}
		stop := c.tellProgress(send)
		report, err := c.collector.Run(ctx, o)
		stop()
		if !in.DryRun {
			gc.Log(c.log, report, err)
		}
		if refusedRun(err) {
			err = admin.Refused(err)
		}
		if err != nil {
			return err
		}
		return send(admin.GCLine{Report: report})
	}), nil
}

// tellProgress tells how far a run is until it is stopped.
func (c *commands) tellProgress(send func(any) error) (stop func()) {
	done, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		tick := time.NewTicker(progressEvery)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
			}
			if now := c.collector.Running(); now != nil && send(admin.GCLine{Progress: now}) != nil {
				return
			}
		}
	}()
	return func() { close(done); <-stopped }
}

func (c *commands) collectionStatus(ctx context.Context) (admin.GCStatus, error) {
	return collectionStatus(ctx, c.config, c.collector)
}

// collectionStatus says how the collections of a store are, by a collector of it.
func collectionStatus(ctx context.Context, c *configuration.Config, collector *gc.Collector) (admin.GCStatus, error) {
	s := admin.GCStatus{Enabled: c.GC.Enabled, Schedule: c.GC.Schedule, Grace: c.GC.Grace.String(), Running: collector.Running()}
	if s.Schedule == "" {
		s.Schedule = "every " + c.GC.Interval.String()
	}
	last, err := collector.History(ctx, 1)
	if err != nil {
		return s, err
	}
	if len(last) > 0 {
		s.Last = last[0]
	}
	s.Next = due(c, s.Last, time.Now())
	return s, nil
}

func (c *commands) collectionHistory(r *admin.Request) (any, error) {
	n := admin.DefaultHistory
	if text := r.URL.Query().Get("n"); text != "" {
		var err error
		if n, err = strconv.Atoi(text); err != nil || n < 1 {
			return nil, &admin.Problem{Status: http.StatusBadRequest, Code: "INVALID", Message: "n must be a number from 1 on"}
		}
	}
	return c.collector.History(r.Context(), n)
}

func (c *commands) whyKept(r *admin.Request) (any, error) {
	d, err := registry.ParseDigest(r.PathValue("digest"))
	if err != nil {
		return nil, err
	}
	return c.collector.Why(r.Context(), d)
}
