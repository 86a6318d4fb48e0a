package main

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"berth/auth"
	"berth/configuration"
	"berth/registry"
	"berth/registry/admin"
	"berth/registry/gc"
)

// A gcRequest is the body of POST /v1/gc/run.
type gcRequest struct {
	DryRun bool `json:"dry_run"`
}

// A gcLine is a line of the answer to POST /v1/gc/run: what goes, how far the run is, and, as the last, what it did.
type gcLine struct {
	Finding  *gc.Finding `json:"finding,omitempty"` // of a dry run alone
	Progress *gc.Report  `json:"progress,omitempty"`
	Report   *gc.Report  `json:"report,omitempty"`
}

// A gcStatus is the answer to GET /v1/gc/status.
type gcStatus struct {
	Enabled  bool       `json:"enabled"`
	Schedule string     `json:"schedule"` // gc.schedule, or "every" and gc.interval
	Grace    string     `json:"grace"`
	Next     time.Time  `json:"next,omitzero"` // about when
	Running  *gc.Report `json:"running"`       // what a run that this process has under way did so far
	Last     *gc.Report `json:"last"`          // the last run of any replica that came to its end
}

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
	var in gcRequest
	if err := r.Decode(&in); err != nil {
		return nil, err
	}
	return admin.Stream(func(ctx context.Context, send func(any) error) error {
		ctx, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		o := gc.RunOptions{DryRun: in.DryRun}
		if in.DryRun {
			o.Found = func(f gc.Finding) {
				if err := send(gcLine{Finding: &f}); err != nil {
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
		return send(gcLine{Report: report})
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
			if now := c.collector.Running(); now != nil && send(gcLine{Progress: now}) != nil {
				return
			}
		}
	}()
	return func() { close(done); <-stopped }
}

func (c *commands) collectionStatus(ctx context.Context) (gcStatus, error) {
	return collectionStatus(ctx, c.config, c.collector)
}

// collectionStatus says how the collections of a store are, by a collector of it.
func collectionStatus(ctx context.Context, c *configuration.Config, collector *gc.Collector) (gcStatus, error) {
	s := gcStatus{Enabled: c.GC.Enabled, Schedule: c.GC.Schedule, Grace: c.GC.Grace.String(), Running: collector.Running()}
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

const defaultHistory = 10

func (c *commands) collectionHistory(r *admin.Request) (any, error) {
	n := defaultHistory
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

// A removal is the answer to DELETE /v1/repositories/{name}.
type removal struct {
	Manifests int `json:"manifests"`
	Tags      int `json:"tags"` // that no manifest led to
	Links     int `json:"links"`
	Later     int `json:"later"` // links that stay until the collection, see [registry.RemoveResult]
}

// A purgeRequest is the body of POST /v1/purge.
type purgeRequest struct {
	Digest string `json:"digest"`
	Refuse bool   `json:"refuse"` // from now on
	Allow  bool   `json:"allow"`  // in place of all else: let it be pushed again
}

// A purged is the answer to POST /v1/purge.
type purged struct {
	Links     []string `json:"links"`     // repositories that could serve the blob
	Manifests []string `json:"manifests"` // repositories that had it as a manifest
	Objects   int      `json:"objects"`
	Bytes     int64    `json:"bytes"`
}

func (c *commands) removalRoutes() []admin.Route {
	ofName := func(r *admin.Request) ([]auth.Access, error) {
		return []auth.Access{{Action: auth.Delete, Repository: r.PathValue("name")}}, nil
	}
	everywhere := func(*admin.Request) ([]auth.Access, error) {
		return []auth.Access{{Action: auth.Admin}, {Action: auth.Delete}}, nil
	}
	return []admin.Route{
		{Method: "DELETE", Path: "/v1/repositories/{name...}", Access: ofName, Serve: c.removeRepository},
		{Method: "POST", Path: "/v1/purge", Access: everywhere, Serve: admin.Call(c.purge)},
	}
}

// checkDeletes refuses what removes content where the configuration allows none to be removed.
func (c *commands) checkDeletes() error {
	if c.config.Storage.Delete.Enabled {
		return nil
	}
	return admin.Refused(errors.New("deleting is disabled in this registry: set storage.delete.enabled and restart it"))
}

func (c *commands) removeRepository(r *admin.Request) (any, error) {
	if err := c.checkDeletes(); err != nil {
		return nil, err
	}
	name, err := registry.ParseName(r.PathValue("name"))
	if err != nil {
		return nil, err
	}
	result, err := c.registry.Repository(name).Remove(r.Context(), r.URL.Query().Get("force") == "true")
	if err != nil {
		return nil, err
	}
	c.log.WithField("repository", name.String()).Warn("a repository was deleted by a command")
	return removal(result), nil
}

func (c *commands) purge(ctx context.Context, in purgeRequest) (purged, error) {
	d, err := registry.ParseDigest(in.Digest)
	if err != nil {
		return purged{}, err
	}
	if in.Allow {
		return purged{Links: []string{}, Manifests: []string{}}, c.registry.AllowBlob(ctx, d)
	}
	if err := c.checkDeletes(); err != nil {
		return purged{}, err
	}
	result, err := c.registry.PurgeBlob(ctx, d, in.Refuse)
	if err != nil {
		return purged{}, err
	}
	c.log.WithField("digest", d.String()).Warn("a digest was purged by a command")
	return purged{Links: repositories(result.Links), Manifests: repositories(result.Manifests), Objects: result.Objects, Bytes: result.Bytes}, nil
}

func repositories(list []registry.Name) []string {
	texts := make([]string, len(list))
	for i, n := range list {
		texts[i] = n.String()
	}
	return texts
}
