package gate

import (
	"container/list"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// maxClients bounds how many clients a rate is kept of. When there are more, the one that has not asked for longest is
// forgotten, and may then begin with a burst again.
const maxClients = 16 << 10

// burstSeconds is how many seconds' worth of requests a burst has that was not said to be anything else.
const burstSeconds = 10

// rates are a bucket of tokens for each client that asked lately.
type rates struct {
	on      atomic.Bool
	mu      sync.Mutex
	rate    Rate
	buckets map[Client]*list.Element // of *bucket
	recent  list.List                // the same, the latest in front
}

type bucket struct {
	client Client
	tokens *rate.Limiter
}

// setRate changes the rate of all clients. Nobody keeps what was used up.
func (r *rates) setRate(to Rate) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if to == r.rate {
		return
	}
	r.rate, r.buckets = to, make(map[Client]*list.Element)
	r.recent.Init()
	r.on.Store(to.PerSecond > 0)
}

// take takes a token of a client, or says how long it takes until there is one.
func (r *rates) take(c Client) (wait time.Duration, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.rate.PerSecond == 0 {
		return 0, true
	}
	now := time.Now()
	tokens := r.bucket(c)
	reserved := tokens.ReserveN(now, 1)
	if wait = reserved.DelayFrom(now); wait > 0 {
		reserved.CancelAt(now)
		return wait, false
	}
	return 0, true
}

func (r *rates) bucket(c Client) *rate.Limiter {
	if e, ok := r.buckets[c]; ok {
		r.recent.MoveToFront(e)
		return e.Value.(*bucket).tokens
	}
	if r.recent.Len() >= maxClients {
		oldest := r.recent.Remove(r.recent.Back()).(*bucket)
		delete(r.buckets, oldest.client)
	}
	burst := r.rate.Burst
	if burst == 0 {
		burst = burstSeconds * r.rate.PerSecond
	}
	b := &bucket{c, rate.NewLimiter(rate.Limit(r.rate.PerSecond), burst)}
	r.buckets[c] = r.recent.PushFront(b)
	return b.tokens
}

// shares count what each client has under way. Their number is bounded by that of the requests there are.
type shares struct {
	mu    sync.Mutex
	limit int // of each client; 0: none
	held  map[Client]int
	total int
}

func (s *shares) setLimit(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.limit = n
}

func (s *shares) take(c Client) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.limit > 0 && s.held[c] >= s.limit && c != (Client{}) {
		return false
	}
	if s.held == nil {
		s.held = make(map[Client]int)
	}
	s.held[c]++
	s.total++
	return true
}

func (s *shares) give(c Client) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held[c]--; s.held[c] == 0 {
		delete(s.held, c)
	}
	s.total--
}

func (s *shares) sum() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.total
}
