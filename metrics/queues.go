package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Queues are the state of what bounds how much is served at a time.
type Queues struct {
	Running, Waiting []int    // requests, by class
	Admitted         []uint64 // requests so far, by class
	Rejected         []uint64 // requests so far, by reason
}

// WatchQueues shows the queues, whose classes and reasons have names. What it returns is to be told how long each request
// waited in the queue of its class.
func (m *Metrics) WatchQueues(classes, reasons []string, read func() Queues) (waited func(class int, took time.Duration)) {
	desc := func(name, help, label string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, []string{label}, nil)
	}
	m.registry.MustRegister(queues{
		classes: classes, reasons: reasons, read: read,
		running:  desc("berth_queue_running", "Requests that hold a slot of their class now.", "class"),
		waiting:  desc("berth_queue_length", "Requests that wait for a slot of their class now.", "class"),
		admitted: desc("berth_queue_admitted_total", "Requests that got a slot of their class.", "class"),
		rejected: desc("berth_requests_rejected_total", "Requests that were turned away with 429, by reason.", "reason"),
	})
	times := register(m.registry, prometheus.NewHistogramVec(durationHistogram("berth_queue_wait_seconds",
		"How long requests waited that had to, by class."), []string{"class"}))
	byClass := make([]prometheus.Observer, len(classes))
	for i, class := range classes {
		byClass[i] = times.WithLabelValues(class)
	}
	return func(class int, took time.Duration) { byClass[class].Observe(took.Seconds()) }
}

// WatchConnections shows how many connections are open.
func (m *Metrics) WatchConnections(open func() int) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "berth_http_connections", Help: "Connections of clients that are open.",
	}, func() float64 { return float64(open()) }))
}

type queues struct {
	classes, reasons                     []string
	read                                 func() Queues
	running, waiting, admitted, rejected *prometheus.Desc
}

// Describe is part of [prometheus.Collector].
func (q queues) Describe(descs chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{q.running, q.waiting, q.admitted, q.rejected} {
		descs <- d
	}
}

// Collect is part of [prometheus.Collector].
func (q queues) Collect(all chan<- prometheus.Metric) {
	now := q.read()
	for i, class := range q.classes {
		all <- prometheus.MustNewConstMetric(q.running, prometheus.GaugeValue, float64(now.Running[i]), class)
		all <- prometheus.MustNewConstMetric(q.waiting, prometheus.GaugeValue, float64(now.Waiting[i]), class)
		all <- prometheus.MustNewConstMetric(q.admitted, prometheus.CounterValue, float64(now.Admitted[i]), class)
	}
	for i, reason := range q.reasons {
		all <- prometheus.MustNewConstMetric(q.rejected, prometheus.CounterValue, float64(now.Rejected[i]), reason)
	}
}
