package metrics

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// A Request is one that was answered.
type Request struct {
	Method   string
	Status   int // that was answered; 499 for a client that left before
	Took     time.Duration
	Received int64 // bytes of body, that were read
	Sent     int64 // bytes of body
	Route    Route
	Outcome  Outcome
	ByTag    bool // it names a manifest by tag
	Entered  bool // [Metrics.Enter] was told of it
}

// requests are the figures of HTTP. A request is counted in one cell, and most families are worked out from the cells when
// they are asked for.
type requests struct {
	inFlight [routes]atomic.Int64
	cells    [routes][len(methods)][2]atomic.Pointer[cell] // by digest, by tag
	took     [routes]prometheus.Observer
	outcomes [outcomes]atomic.Uint64
	now      func() time.Time
	reading  sync.Mutex
	families families
}

// A cell is all requests of one kind.
type cell struct {
	byStatus             [500]atomic.Uint64 // from 100 on
	took, received, sent summary            // of received, only what is not zero
}

// families describes what is worked out from the cells.
type families struct {
	totals, durations, received, sent, operations *prometheus.Desc // of the OpenShift registry
	byRoute, receivedByRoute, sentByRoute, auth   *prometheus.Desc
}

// register registers all figures of q.
func (q *requests) register(r *prometheus.Registry, now func() time.Time) {
	q.now = now
	q.families = families{
		totals: prometheus.NewDesc("imageregistry_http_requests_total",
			"Total number of requests by their HTTP code and method.", []string{"code", "method"}, nil),
		durations: prometheus.NewDesc("imageregistry_http_request_duration_seconds",
			"A histogram of latencies for requests.", []string{"method"}, nil),
		received: prometheus.NewDesc("imageregistry_http_request_size_bytes",
			"A histogram of sizes of requests: the bytes of their bodies that were read.", nil, nil),
		sent: prometheus.NewDesc("imageregistry_http_response_size_bytes",
			"A histogram of sizes of responses: the bytes of their bodies.", nil, nil),
		operations: prometheus.NewDesc("imageregistry_request_duration_seconds",
			"A histogram of latencies of operations, each with the transfer of its body.", []string{"operation"}, nil),
		byRoute: prometheus.NewDesc("berth_http_requests_total",
			"Requests by route and class of status.", []string{"route", "status"}, nil),
		receivedByRoute: prometheus.NewDesc("berth_http_received_bytes_total",
			"Bytes of bodies of requests that were read, by route.", []string{"route"}, nil),
		sentByRoute: prometheus.NewDesc("berth_http_sent_bytes_total",
			"Bytes of bodies that were sent, by route.", []string{"route"}, nil),
		auth: prometheus.NewDesc("berth_auth_requests_total",
			"Requests by what authentication and authorization made of them.", []string{"outcome"}, nil),
	}
	took := register(r, prometheus.NewHistogramVec(durationHistogram("berth_http_request_duration_seconds",
		"How long requests took, by route, from their header to the last byte of the answer."), []string{"route"}))
	for route := range routes {
		q.took[route] = took.WithLabelValues(route.String())
	}
	r.MustRegister(q)
	q.watchFlights(r)
}

// durationBuckets are the classic ones of durations, in seconds: from a manifest in memory to a blob of many gigabytes.
var durationBuckets = []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300}

// durationHistogram describes a histogram with classic buckets and with native ones, for which the server has to be asked.
// When these become too many they become coarser: beginning anew, as the library can, would forget the counts too.
func durationHistogram(name, help string) prometheus.HistogramOpts {
	return prometheus.HistogramOpts{
		Name: name, Help: help, Buckets: durationBuckets,
		NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 160,
	}
}

// watchFlights shows how many requests are being served.
func (q *requests) watchFlights(r *prometheus.Registry) {
	gauge := func(name, help string, labels prometheus.Labels, counts func(Route) bool) {
		r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help, ConstLabels: labels}, func() float64 {
			n := int64(0)
			for route := range routes {
				if counts(route) {
					n += q.inFlight[route].Load()
				}
			}
			return float64(n)
		}))
	}
	gauge("imageregistry_http_in_flight_requests", "A gauge of requests currently being served by the registry.", nil,
		func(Route) bool { return true })
	gauge("berth_uploads_in_progress", "Requests that send bytes of a blob now, or wait for their turn to.", nil,
		func(route Route) bool { return infoOf(route).uploads })
	for route := range routes {
		gauge("berth_http_in_flight_requests", "Requests being served now, by route.", prometheus.Labels{"route": route.String()},
			func(r Route) bool { return r == route })
	}
}

// Enter notes that a request of a route is being served, until [Metrics.Served] is told of it.
func (m *Metrics) Enter(route Route) { m.inFlight[route].Add(1) }

// Served counts a request that was answered.
func (m *Metrics) Served(r Request) {
	c := m.cell(r)
	c.byStatus[min(max(r.Status, 100), 599)-100].Add(1)
	c.took.observe(int64(r.Took))
	c.sent.observe(r.Sent)
	c.received.observe(r.Received)
	m.requests.took[r.Route].Observe(r.Took.Seconds())
	m.outcomes[r.Outcome].Add(1)
	if r.Entered {
		m.inFlight[r.Route].Add(-1)
	}
}

// cell finds the cell of a request. Most kinds of requests never occur; what does gets its cell with the first.
func (q *requests) cell(r Request) *cell {
	named := 0
	if r.ByTag {
		named = 1
	}
	at := &q.cells[r.Route][methodIndex(r.Method)][named]
	if at.Load() == nil {
		now := q.now()
		at.CompareAndSwap(nil, &cell{took: summary{turned: now}, received: summary{turned: now}, sent: summary{turned: now}})
	}
	return at.Load()
}
