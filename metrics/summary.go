package metrics

import (
	"math"
	"math/bits"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// The buckets of a summary: the numbers below 16 have one each, and from there every power of two has 16, so that a
// quantile is off by 1/32 of its value at most. What is larger than maxValue (4.8 hours in nanoseconds, 17 TB) counts as that.
const (
	subBits  = 4
	sub      = 1 << subBits
	maxValue = 1<<44 - 1
	buckets  = (44 - subBits + 1) * sub
)

// turn is for how long a window of quantiles is filled before the other one is.
const turn = 5 * time.Minute

// A summary is what a Prometheus summary is made of, for a fraction of what the one of client_golang costs to observe: two
// atomic additions without a lock. Its quantiles are of the last 5 to 10 minutes, or of the time between scrapes where that
// is longer. Safe for concurrent use, but for addTo.
type summary struct {
	sum     atomic.Uint64
	current atomic.Uint32
	windows [2][buckets]atomic.Uint32
	turned  time.Time
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

// observe takes a value that is not negative.
func (s *summary) observe(v int64) {
	u := uint64(max(v, 0))
	s.sum.Add(u)
	s.windows[s.current.Load()&1][bucketOf(min(u, maxValue))].Add(1)
}

// A tally is what several summaries have observed together.
type tally struct {
	count, sum uint64
	recent     [buckets]uint64 // of the windows
}

// addTo adds to tallies what s has observed, count times in all, and gives the windows their turns.
func (s *summary) addTo(now time.Time, count uint64, tallies ...*tally) {
	sum := s.sum.Load()
	for _, t := range tallies {
		t.count += count
		t.sum += sum
	}
	for i := range buckets {
		n := uint64(s.windows[0][i].Load()) + uint64(s.windows[1][i].Load())
		for _, t := range tallies {
			t.recent[i] += n
		}
	}
	if now.Sub(s.turned) < turn {
		return
	}
	next := (s.current.Load() + 1) & 1
	for i := range s.windows[next] {
		s.windows[next][i].Store(0)
	}
	s.current.Store(next)
	s.turned = now
}

// metric returns a tally as Prometheus has it, where per of what was observed make one in the unit of the name. Its quantiles
// are those of the OpenShift registry.
func (t *tally) metric(desc *prometheus.Desc, per float64, labels ...string) prometheus.Metric {
	total := uint64(0)
	for _, n := range t.recent {
		total += n
	}
	quantiles := map[float64]float64{}
	for _, q := range []float64{.5, .9, .99} {
		quantiles[q] = t.rank(uint64(math.Ceil(q*float64(total)))) / per
	}
	return prometheus.MustNewConstSummary(desc, t.count, float64(t.sum)/per, quantiles, labels...)
}

// rank returns the value of the n-th recent observation, counted from 1; NaN for the 0th, when there is none.
func (t *tally) rank(n uint64) float64 {
	for i, c := range t.recent {
		if n > 0 && c >= n {
			return middle(i)
		}
		n -= min(c, n)
	}
	return math.NaN()
}
