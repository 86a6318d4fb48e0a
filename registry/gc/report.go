package gc

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"berth/storage"
)

// A Report is what a run did, or, for a dry run, what it would have done.
type Report struct {
	ID      string    `json:"id"`
	Holder  string    `json:"holder"`  // which process ran it
	Started time.Time `json:"started"` // by the clock of the store
	Seconds float64   `json:"seconds"` // by a clock that does not jump
	DryRun  bool      `json:"dry_run,omitempty"`
	Grace   string    `json:"grace"`
	Calls   int64     `json:"calls"`             // of the store; a thousand listed objects are one
	Stopped string    `json:"stopped,omitempty"` // why the run ended before its end
	Layers  []*Layer  `json:"layers"`
}

// A Layer is a part of a run.
type Layer struct {
	Name     string    `json:"name"`
	Start    time.Time `json:"start"` // what was touched later than this less the grace stayed; by the clock of the store
	Seconds  float64   `json:"seconds"`
	Examined int64     `json:"examined"`           // objects of this kind that are there
	Removed  int64     `json:"removed"`            // in a dry run: that would be
	Bytes    int64     `json:"bytes"`              // of those
	Young    int64     `json:"young"`              // unreached, but touched not long enough ago
	Changed  int64     `json:"changed"`            // unreached and old, but touched just when they were to be removed
	Failed   int64     `json:"failed"`             // could not be read or removed
	Skipped  string    `json:"skipped,omitempty"`  // why nothing was removed, or not everywhere
	Problems []string  `json:"problems,omitempty"` // the first of what failed

	mu sync.Mutex
}

// maxProblems bounds how many errors of a layer are kept.
const maxProblems = 10

// A Finding is an object that goes, or would.
type Finding struct {
	Key     string    `json:"key"`
	Layer   string    `json:"layer"`
	Why     string    `json:"why"`
	Touched time.Time `json:"touched"`
	Bytes   int64     `json:"bytes"`
}

// Removed returns how many objects went, and their bytes.
func (r *Report) Removed() (n, size int64) {
	for _, l := range r.Layers {
		n, size = n+l.Removed, size+l.Bytes
	}
	return n, size
}

// Failed returns how many objects could not be read or removed.
func (r *Report) Failed() (n int64) {
	for _, l := range r.Layers {
		n += l.Failed
	}
	return n
}

func (l *Layer) ended(took time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.Seconds = took.Seconds()
}

// snapshot returns a copy that does not change.
func (l *Layer) snapshot() *Layer {
	l.mu.Lock()
	defer l.mu.Unlock()
	return &Layer{Name: l.Name, Start: l.Start, Seconds: l.Seconds, Examined: l.Examined, Removed: l.Removed, Bytes: l.Bytes,
		Young: l.Young, Changed: l.Changed, Failed: l.Failed, Skipped: l.Skipped, Problems: slices.Clone(l.Problems)}
}

func (l *Layer) count(of *int64, n int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	*of += n
}

func (l *Layer) problem(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.Failed++
	if len(l.Problems) < maxProblems {
		l.Problems = append(l.Problems, err.Error())
	}
}

// skip notes that nothing is removed, of all or of a part.
func (l *Layer) skip(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.Skipped == "" {
		l.Skipped = fmt.Sprintf(format, args...)
	}
}

const (
	reportPrefix = "gc/"
	maxReport    = 1 << 20 // bytes
)

// reportKey sorts by time.
func reportKey(id string) string { return reportPrefix + id }

const reportTime = "20060102T150405.000Z"

func reportID(started time.Time, random string) string {
	return started.UTC().Format(reportTime) + "-" + random
}

// save keeps a report in the store, and removes those that are too many, before, since there may be no room for another.
func (c *Collector) save(ctx context.Context, r *Report) error {
	body, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("encode the report of a collection: %w", err)
	}
	keys, err := c.reportKeys(ctx)
	if err != nil {
		return err
	}
	for _, key := range keys[:max(0, len(keys)+1-c.o.Keep)] {
		if err := c.store.Delete(ctx, key, storage.Cond{}); err != nil {
			return fmt.Errorf("remove an old report: %w", err)
		}
	}
	if _, err := c.store.Put(ctx, reportKey(r.ID), bytes.NewReader(body), int64(len(body)), storage.Cond{}); err != nil {
		return fmt.Errorf("keep the report of a collection: %w", err)
	}
	return nil
}

func (c *Collector) reportKeys(ctx context.Context) ([]string, error) {
	var keys []string
	for key, err := range storage.Keys(ctx, c.store, reportPrefix, "") {
		if err != nil {
			return nil, fmt.Errorf("list the reports of collections: %w", err)
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// History returns the reports of the last runs, the newest first, n at most.
func (c *Collector) History(ctx context.Context, n int) ([]*Report, error) {
	keys, err := c.reportKeys(ctx)
	if err != nil {
		return nil, err
	}
	slices.Reverse(keys)
	reports := []*Report{}
	for _, key := range keys[:min(n, len(keys))] {
		body, _, err := storage.ReadAll(ctx, c.store, key, maxReport)
		if err != nil {
			return nil, fmt.Errorf("read the report of a collection: %w", err)
		}
		r := &Report{}
		if err := json.Unmarshal(body, r); err != nil {
			return nil, fmt.Errorf("read the report %s: %w", strings.TrimPrefix(key, reportPrefix), err)
		}
		reports = append(reports, r)
	}
	return reports, nil
}
