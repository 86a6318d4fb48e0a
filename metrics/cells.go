package metrics

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// sums are what a look at all cells adds up to.
type sums struct {
	codes          [len(methods)][500]uint64
	byMethod       [len(methods)]tally
	byOperation    map[string]*tally
	received, sent tally
	byRoute        [routes]routeSums
}

type routeSums struct {
	classes        [len(classes)]uint64
	received, sent uint64
}

// add adds a cell.
func (s *sums) add(now time.Time, c *cell, route Route, method, named int) {
	count := uint64(0)
	at := &s.byRoute[route]
	for i := range c.byStatus {
		n := c.byStatus[i].Load()
		count += n
		s.codes[method][i] += n
		at.classes[classIndex(i+100)] += n
	}
	times := []*tally{&s.byMethod[method]}
	for _, operation := range infoOf(route).operations(named == 1) {
		if s.byOperation[operation] == nil {
			s.byOperation[operation] = new(tally)
		}
		times = append(times, s.byOperation[operation])
	}
	c.took.addTo(now, count, times...)
	at.sent += c.sent.sum.Load()
	c.sent.addTo(now, count, &s.sent)
	at.received += c.received.sum.Load()
	c.received.addTo(now, count, &s.received)
}

// Describe is part of [prometheus.Collector].
func (q *requests) Describe(descs chan<- *prometheus.Desc) {
	f := q.families
	for _, d := range []*prometheus.Desc{f.totals, f.durations, f.received, f.sent, f.operations, f.byRoute, f.receivedByRoute, f.sentByRoute, f.auth} {
		descs <- d
	}
}

// Collect is part of [prometheus.Collector].
func (q *requests) Collect(all chan<- prometheus.Metric) {
	q.reading.Lock()
	defer q.reading.Unlock()
	s := &sums{byOperation: map[string]*tally{}}
	now := q.now()
	for route := range q.cells {
		for method := range q.cells[route] {
			for named := range q.cells[route][method] {
				if c := q.cells[route][method][named].Load(); c != nil {
					s.add(now, c, Route(route), method, named)
				}
			}
		}
	}
	q.families.openShift(s, all)
	q.families.ours(s, all)
	for outcome := range q.outcomes {
		all <- counter(q.families.auth, q.outcomes[outcome].Load(), outcomeNames[outcome])
	}
}

func counter(desc *prometheus.Desc, n uint64, labels ...string) prometheus.Metric {
	return prometheus.MustNewConstMetric(desc, prometheus.CounterValue, float64(n), labels...)
}

func (f families) openShift(s *sums, all chan<- prometheus.Metric) {
	const second = float64(time.Second)
	for method, name := range methods {
		for i, n := range s.codes[method] {
			if n > 0 {
				all <- counter(f.totals, n, strconv.Itoa(i+100), name)
			}
		}
		if s.byMethod[method].count > 0 {
			all <- s.byMethod[method].metric(f.durations, second, name)
		}
	}
	for operation, times := range s.byOperation {
		all <- times.metric(f.operations, second, operation)
	}
	all <- s.received.metric(f.received, 1)
	all <- s.sent.metric(f.sent, 1)
}

func (f families) ours(s *sums, all chan<- prometheus.Metric) {
	for route := range routes {
		at := &s.byRoute[route]
		for i, class := range classes {
			all <- counter(f.byRoute, at.classes[i], route.String(), class)
		}
		all <- counter(f.receivedByRoute, at.received, route.String())
		all <- counter(f.sentByRoute, at.sent, route.String())
	}
}
