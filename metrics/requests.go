package metrics

import (
	"strconv"
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

// requests are the figures of HTTP.
type requests struct {
	inFlight [routes]atomic.Int64

	// Of the OpenShift registry.
	totals      totals
	durations   *summaries // by method
	received    *summaries
	sent        *summaries
	operations  *summaries
	byOperation [routes][2][]int // indices in operations, for what is named by digest and by tag

	// Of our own.
	routes [routes]routeFigures
}

type routeFigures struct {
	byStatus       [len(classes)]prometheus.Counter
	took           prometheus.Observer
	received, sent prometheus.Counter
}

// register makes and registers all figures of q.
func (q *requests) register(r *prometheus.Registry, now func() time.Time) {
	const second = float64(time.Second)
	q.totals.vec = counters(r, "imageregistry_http_requests_total", "Total number of requests by their HTTP code and method.", "code", "method")
	q.durations = register(r, newSummaries("imageregistry_http_request_duration_seconds",
		"A histogram of latencies for requests.", second, now, "method", methods[:]...))
	q.received = register(r, newSummaries("imageregistry_http_request_size_bytes",
		"A histogram of sizes of requests: the bytes of their bodies that were read.", 1, now, ""))
	q.sent = register(r, newSummaries("imageregistry_http_response_size_bytes",
		"A histogram of sizes of responses: the bytes of their bodies.", 1, now, ""))
	q.nameOperations(r, now)
	q.nameRoutes(r)
	q.watchFlights(r)
}

// nameOperations gives each route its operations of the OpenShift registry.
func (q *requests) nameOperations(r *prometheus.Registry, now func() time.Time) {
	index := map[string]int{}
	var names []string
	at := func(operations ...string) (list []int) {
		for _, name := range operations {
			if _, ok := index[name]; !ok && name != "" {
				index[name] = len(names)
				names = append(names, name)
			}
			if name != "" {
				list = append(list, index[name])
			}
		}
		return list
	}
	for route := range routes {
		info := infoOf(route)
		q.byOperation[route] = [2][]int{at(info.byDigest), at(info.byTag[:]...)}
	}
	q.operations = register(r, newSummaries("imageregistry_request_duration_seconds",
		"A histogram of latencies of operations, each with the transfer of its body.", float64(time.Second), now, "operation", names...))
}

// durationBuckets are the classic ones of durations, in seconds: from a manifest in memory to a blob of many gigabytes.
var durationBuckets = []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300}

// durationHistogram describes a histogram with classic buckets and with native ones, for which the server has to be asked.
func durationHistogram(name, help string) prometheus.HistogramOpts {
	return prometheus.HistogramOpts{
		Name: name, Help: help, Buckets: durationBuckets,
		NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 100, NativeHistogramMinResetDuration: time.Hour,
	}
}

func (q *requests) nameRoutes(r *prometheus.Registry) {
	total := counters(r, "berth_http_requests_total", "Requests by route and class of status.", "route", "status")
	received := counters(r, "berth_http_received_bytes_total", "Bytes of bodies of requests that were read, by route.", "route")
	sent := counters(r, "berth_http_sent_bytes_total", "Bytes of bodies that were sent, by route.", "route")
	took := register(r, prometheus.NewHistogramVec(durationHistogram("berth_http_request_duration_seconds",
		"How long requests took, by route, from their header to the last byte of the answer."), []string{"route"}))
	for route := range routes {
		name := infoOf(route).name
		f := &q.routes[route]
		f.took, f.received, f.sent = took.WithLabelValues(name), received.WithLabelValues(name), sent.WithLabelValues(name)
		for i, class := range classes {
			f.byStatus[i] = total.WithLabelValues(name, class)
		}
	}
}

// watchFlights shows how many requests are being served.
func (q *requests) watchFlights(r *prometheus.Registry) {
	gauge := func(name, help string, labels prometheus.Labels, f func() int64) {
		r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help, ConstLabels: labels},
			func() float64 { return float64(f()) }))
	}
	sum := func(counts func(Route) bool) func() int64 {
		return func() (n int64) {
			for route := range routes {
				if counts(route) {
					n += q.inFlight[route].Load()
				}
			}
			return n
		}
	}
	gauge("imageregistry_http_in_flight_requests", "A gauge of requests currently being served by the registry.", nil,
		sum(func(Route) bool { return true }))
	gauge("berth_uploads_in_progress", "Requests that are receiving bytes of a blob now.", nil,
		sum(func(route Route) bool { return infoOf(route).uploads }))
	for route := range routes {
		gauge("berth_http_in_flight_requests", "Requests being served now, by route.", prometheus.Labels{"route": infoOf(route).name},
			q.inFlight[route].Load)
	}
}

// Enter notes that a request of a route is being served, until [Metrics.Served] is told of it.
func (m *Metrics) Enter(route Route) { m.inFlight[route].Add(1) }

// Served counts a request that was answered.
func (m *Metrics) Served(r Request) {
	method := methodIndex(r.Method)
	m.totals.count(r.Status, method)
	m.durations.observe(method, int64(r.Took))
	m.received.observe(0, r.Received)
	m.sent.observe(0, r.Sent)
	which := 0
	if r.ByTag {
		which = 1
	}
	for _, operation := range m.byOperation[r.Route][which] {
		m.operations.observe(operation, int64(r.Took))
	}
	f := &m.routes[r.Route]
	f.byStatus[classIndex(r.Status)].Inc()
	f.took.Observe(r.Took.Seconds())
	f.received.Add(float64(r.Received))
	f.sent.Add(float64(r.Sent))
	m.auth[r.Outcome].Inc()
	if r.Entered {
		m.inFlight[r.Route].Add(-1)
	}
}

// totals count requests by code and method. Most pairs never occur; what does is looked up once.
type totals struct {
	vec      *prometheus.CounterVec
	children [500][len(methods)]atomic.Pointer[prometheus.Counter] // the statuses from 100 on
}

func (t *totals) count(status, method int) {
	if status < 100 || status > 599 {
		status = 599
	}
	child := &t.children[status-100][method]
	c := child.Load()
	if c == nil {
		made := t.vec.WithLabelValues(strconv.Itoa(status), methods[method])
		child.Store(&made)
		c = &made
	}
	(*c).Inc()
}
