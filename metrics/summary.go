package metrics

import (
	"math"
	"math/bits"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// The buckets of a summary: the numbers below 32 have one each, and from there every power of two has 32, so that a
// quantile is off by 1/64 of its value at most. What is larger than maxValue (4.8 hours in nanoseconds, 17 TB) counts as that.
const (
	subBits  = 5
	sub      = 1 << subBits
	maxValue = 1<<44 - 1
	buckets  = (44 - subBits + 1) * sub
)

// turn is for how long a window of quantiles is filled before the other one is.
const turn = 5 * time.Minute

// A summary is what a Prometheus summary is, for a fraction of what the one of client_golang costs to observe: four atomic
// additions without a lock. Its quantiles are of the last 5 to 10 minutes, or of the time between scrapes where that is
// longer. Safe for concurrent use.
type summary struct {
	count, sum atomic.Uint64
	current    atomic.Uint32
	windows    [2][buckets]atomic.Uint32

	mu     sync.Mutex // held by readers
	turned time.Time
}

func bucketOf(v uint64) int {
	if v < sub {
		return int(v)
	}
	shift := bits.Len64(v) - subBits - 1
	return shift*sub + int(v>>shift)
}

// middle is the inverse of bucketOf, as near as can be.
func middle(bucket int) float64 {
	if bucket < 2*sub {
		return float64(bucket)
	}
	shift := bucket/sub - 1
	low := uint64(bucket-shift*sub) << shift
	return float64(low) + float64(uint64(1)<<shift-1)/2
}

// observe counts a value that is not negative.
func (s *summary) observe(v int64) {
	u := uint64(max(v, 0))
	s.count.Add(1)
	s.sum.Add(u)
	s.windows[s.current.Load()&1][bucketOf(min(u, maxValue))].Add(1)
}

// quantiles are those that the OpenShift registry has.
var quantiles = [...]float64{0.5, 0.9, 0.99}

// read returns the quantiles in units of per, and gives the windows their turns.
func (s *summary) read(now time.Time, per float64) map[float64]float64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	var counts [buckets]uint64
	total := uint64(0)
	for i := range counts {
		counts[i] = uint64(s.windows[0][i].Load()) + uint64(s.windows[1][i].Load())
		total += counts[i]
	}
	if now.Sub(s.turned) >= turn {
		next := (s.current.Load() + 1) & 1
		for i := range s.windows[next] {
			s.windows[next][i].Store(0)
		}
		s.current.Store(next)
		s.turned = now
	}
	found := map[float64]float64{}
	for _, q := range quantiles {
		found[q] = rank(counts[:], uint64(math.Ceil(q*float64(total)))) / per
	}
	return found
}

// rank returns the value of the n-th observation, counted from 1; NaN for the 0th, when there is none.
func rank(counts []uint64, n uint64) float64 {
	if n == 0 {
		return math.NaN()
	}
	for i, c := range counts {
		if c >= n {
			return middle(i)
		}
		n -= c
	}
	return math.NaN()
}

// summaries are a family of summaries, one for each value of a label. Those that nothing was observed for are not shown.
type summaries struct {
	desc     *prometheus.Desc
	per      float64 // how many of what is observed make one in the unit of the name
	labels   []string
	children []atomic.Pointer[summary]
	now      func() time.Time
}

// newSummaries makes a family; without a label it has one member, which is shown from the start.
func newSummaries(name, help string, per float64, now func() time.Time, label string, values ...string) *summaries {
	f := &summaries{per: per, labels: values, children: make([]atomic.Pointer[summary], max(1, len(values))), now: now}
	names := []string{label}
	if label == "" {
		names = nil
		f.children[0].Store(&summary{turned: now()})
	}
	f.desc = prometheus.NewDesc(name, help, names, nil)
	return f
}

// observe counts a value of the member of an index.
func (f *summaries) observe(index int, v int64) {
	s := f.children[index].Load()
	if s == nil {
		f.children[index].CompareAndSwap(nil, &summary{turned: f.now()})
		s = f.children[index].Load()
	}
	s.observe(v)
}

// Describe is part of [prometheus.Collector].
func (f *summaries) Describe(descs chan<- *prometheus.Desc) { descs <- f.desc }

// Collect is part of [prometheus.Collector].
func (f *summaries) Collect(all chan<- prometheus.Metric) {
	for i := range f.children {
		s := f.children[i].Load()
		if s == nil {
			continue
		}
		var labels []string
		if len(f.labels) > 0 {
			labels = f.labels[i : i+1]
		}
		all <- prometheus.MustNewConstSummary(f.desc, s.count.Load(), float64(s.sum.Load())/f.per, s.read(f.now(), f.per), labels...)
	}
}
