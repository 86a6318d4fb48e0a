// Package metrics counts what the registry does, for Prometheus: under the names of the OpenShift registry
// (imageregistry_*), so that dashboards and alerts made for it keep working, and under names of its own (berth_*), which
// tell more. docs/monitoring.md lists them.
//
// No label has a value that a client can choose: all are looked up among those made at the start, which also makes counting
// cheap enough for every request.
package metrics

import (
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Options: zero values mean defaults.
type Options struct {
	Version string           // such as v1.2.3
	Commit  string           // of the source
	Now     func() time.Time // nil: time.Now
}

// Metrics are all figures of a process. They are safe for concurrent use.
type Metrics struct {
	registry *prometheus.Registry
	requests
	store
	reloads     *reloads
	collections *collections
}

// New makes the figures.
func New(o Options) *Metrics {
	if o.Now == nil {
		o.Now = time.Now
	}
	m := &Metrics{registry: prometheus.NewRegistry()}
	m.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.buildInfo(o)
	m.requests.register(m.registry, o.Now)
	m.store.register(m.registry, o.Now)
	m.reloads = newReloads(m.registry, o.Now)
	m.collections = newCollections(m.registry, o.Now)
	return m
}

func (m *Metrics) buildInfo(o Options) {
	major, minor := "", ""
	if parts := strings.SplitN(strings.TrimPrefix(o.Version, "v"), ".", 3); len(parts) > 1 {
		major, minor = parts[0], parts[1]
	}
	info := gauges(m.registry, "imageregistry_build_info",
		"A metric with a constant '1' value labeled by major, minor, git commit & git version from which the image registry was built.",
		"major", "minor", "gitCommit", "gitVersion")
	info.WithLabelValues(major, minor, o.Commit, o.Version).Set(1)
}

// Handler answers GET with all figures, in the format that the client asks for.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		Registry: m.registry, MaxRequestsInFlight: 4, Timeout: 30 * time.Second,
	})
}

// counters makes and registers a family of counters.
func counters(r *prometheus.Registry, name, help string, labels ...string) *prometheus.CounterVec {
	return register(r, prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels))
}

// gauges makes and registers a family of gauges.
func gauges(r *prometheus.Registry, name, help string, labels ...string) *prometheus.GaugeVec {
	return register(r, prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, labels))
}

func register[C prometheus.Collector](r *prometheus.Registry, c C) C {
	r.MustRegister(c)
	return c
}
