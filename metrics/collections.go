package metrics

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// A Collection is a run of the collection that has ended.
type Collection struct {
	Result  CollectionResult
	Seconds float64
	Layers  []CollectedLayer
}

// A CollectionResult is how a run ended.
type CollectionResult uint8

// How runs end.
const (
	Collected  CollectionResult = iota
	Incomplete                  // it came to its end, and something could not be read or removed
	Stopped                     // it did not come to its end
	collectionResults
)

var collectionResultNames = [collectionResults]string{"success", "incomplete", "stopped"}

// A CollectedLayer is what a run removed of one layer. Those without a name among [layerNames] are not counted.
type CollectedLayer struct {
	Name    string
	Removed int64 // objects
	Bytes   int64
	Failed  int64 // objects that could not be read or removed
	Seconds float64
}

var layerNames = [...]string{"untagged", "links", "tags", "referrers", "catalog", "blobs", "uploads", "data", "leases", "leftovers"}

type collections struct {
	runs     [collectionResults]prometheus.Counter
	removed  map[string]prometheus.Counter
	bytes    map[string]prometheus.Counter
	failed   map[string]prometheus.Counter
	took     map[string]prometheus.Gauge
	last     prometheus.Gauge
	now      func() time.Time
	underWay atomic.Pointer[func() bool]
}

func newCollections(r *prometheus.Registry, now func() time.Time) *collections {
	c := &collections{now: now, removed: map[string]prometheus.Counter{}, bytes: map[string]prometheus.Counter{},
		failed: map[string]prometheus.Counter{}, took: map[string]prometheus.Gauge{}}
	runs := counters(r, "berth_gc_runs_total", "Collections that ended, by result.", "result")
	for i, name := range collectionResultNames {
		c.runs[i] = runs.WithLabelValues(name)
	}
	removed := counters(r, "berth_gc_removed_total", "Objects that collections removed, by layer.", "layer")
	size := counters(r, "berth_gc_removed_bytes_total", "Bytes of objects that collections removed, by layer.", "layer")
	failed := counters(r, "berth_gc_failures_total", "Objects that collections could not read or remove, by layer.", "layer")
	took := gauges(r, "berth_gc_last_duration_seconds", "How long the last collection took, by layer.", "layer")
	for _, name := range layerNames {
		c.removed[name], c.bytes[name] = removed.WithLabelValues(name), size.WithLabelValues(name)
		c.failed[name], c.took[name] = failed.WithLabelValues(name), took.WithLabelValues(name)
	}
	c.last = register(r, prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "berth_gc_last_success_timestamp_seconds", Help: "When this process last collected to the end; 0: not yet.",
	}))
	r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "berth_gc_running", Help: "1 while this process collects."}, c.running))
	return c
}

func (c *collections) running() float64 {
	if ask := c.underWay.Load(); ask != nil && (*ask)() {
		return 1
	}
	return 0
}

// WatchCollector shows whether a collection is under way.
func (m *Metrics) WatchCollector(running func() bool) { m.collections.underWay.Store(&running) }

// CollectionEnded counts a run.
func (m *Metrics) CollectionEnded(run Collection) {
	c := m.collections
	c.runs[run.Result].Inc()
	for _, l := range run.Layers {
		if c.removed[l.Name] == nil {
			continue
		}
		c.removed[l.Name].Add(float64(l.Removed))
		c.bytes[l.Name].Add(float64(l.Bytes))
		c.failed[l.Name].Add(float64(l.Failed))
		c.took[l.Name].Set(l.Seconds)
	}
	if run.Result != Stopped {
		c.last.Set(float64(c.now().UnixMilli()) / 1000)
	}
}
