package metrics

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// A Reloadable is something that changes while the server runs.
type Reloadable uint8

// What is reloaded.
const (
	Configuration Reloadable = iota
	Users
	Groups
	Certificates
	Keys // by which tokens are checked
	reloadables
)

var reloadableNames = [reloadables]string{"configuration", "users", "groups", "certificates", "keys"}

// String returns the value of the label what.
func (r Reloadable) String() string { return reloadableNames[r] }

type reloads struct {
	mu     sync.Mutex
	failed [reloadables]map[string]struct{}   // the sources that do
	total  [reloadables][2]prometheus.Counter // failed, done
	ok     [reloadables]prometheus.Gauge
	last   [reloadables]prometheus.Gauge
	now    func() time.Time
}

func newReloads(r *prometheus.Registry, now func() time.Time) *reloads {
	l := &reloads{now: now}
	total := counters(r, "berth_reloads_total", "Attempts to put something changed in force, by what and result.", "what", "result")
	ok := gauges(r, "berth_last_reload_successful", "1 unless the last attempt failed, so that something older is in force.", "what")
	last := gauges(r, "berth_last_reload_success_timestamp_seconds", "When what is in force was read, by what.", "what")
	for w, name := range reloadableNames {
		l.failed[w] = make(map[string]struct{})
		l.total[w] = [2]prometheus.Counter{total.WithLabelValues(name, "failure"), total.WithLabelValues(name, "success")}
		l.ok[w], l.last[w] = ok.WithLabelValues(name), last.WithLabelValues(name)
		l.ok[w].Set(1)
		l.last[w].Set(float64(now().UnixMilli()) / 1000)
	}
	return l
}

// Reloaded counts an attempt to put in force what changed at one of the sources of what.
func (m *Metrics) Reloaded(what Reloadable, source string, err error) {
	l := m.reloads
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.total[what][0].Inc()
		l.ok[what].Set(0)
		l.failed[what][source] = struct{}{}
		return
	}
	l.total[what][1].Inc()
	if delete(l.failed[what], source); len(l.failed[what]) == 0 {
		l.ok[what].Set(1)
	}
	l.last[what].Set(float64(l.now().UnixMilli()) / 1000)
}

// WatchCertificates shows when the first of the certificates ends.
func (m *Metrics) WatchCertificates(expires func() time.Time) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "berth_tls_certificate_expiry_timestamp_seconds", Help: "When the first of the certificates served ends.",
	}, func() float64 { return float64(expires().Unix()) }))
}

// WatchDisk shows how many bytes can still be written, and how many there are in all. While that cannot be told, neither is
// shown.
func (m *Metrics) WatchDisk(space func() (free, total uint64, err error)) {
	m.registry.MustRegister(disk{
		space: space,
		free:  prometheus.NewDesc("berth_storage_free_bytes", "Bytes that can still be written to the storage.", nil, nil),
		total: prometheus.NewDesc("berth_storage_size_bytes", "Bytes that the storage has in all.", nil, nil),
	})
}

type disk struct {
	space       func() (free, total uint64, err error)
	free, total *prometheus.Desc
}

// Describe is part of [prometheus.Collector].
func (d disk) Describe(descs chan<- *prometheus.Desc) { descs <- d.free; descs <- d.total }

// Collect is part of [prometheus.Collector].
func (d disk) Collect(all chan<- prometheus.Metric) {
	free, total, err := d.space()
	if err != nil {
		return
	}
	all <- prometheus.MustNewConstMetric(d.free, prometheus.GaugeValue, float64(free))
	all <- prometheus.MustNewConstMetric(d.total, prometheus.GaugeValue, float64(total))
}

// WatchHealth shows what was found by health checks, by their names, which the operator chooses. The function it returns is to
// be told of each result.
func (m *Metrics) WatchHealth(writable func() bool) (found func(check string, ok bool)) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "berth_health_writable", Help: "1 unless changes are refused, for a reason that /readyz tells.",
	}, func() float64 { return number(writable()) }))
	checks := gauges(m.registry, "berth_health_check_ok", "1 unless what a check found last counts as a failure, by check.", "check")
	return func(check string, ok bool) { checks.WithLabelValues(check).Set(number(ok)) }
}

func number(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
