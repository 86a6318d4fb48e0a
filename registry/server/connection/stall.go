package connection

import (
	"sync"
	"time"
)

// A stall bounds each of the calls that are made one after another, and not the time between them. A deadline of a stream of HTTP/2
// cannot do that: once it has passed the stream is cut, also when nobody was reading or writing.
type stall struct {
	timeout time.Duration
	cut     func() // makes the call that is under way fail; not called at other times, nor once all is over

	mu    sync.Mutex
	since time.Time // when the call under way began; zero: none is
	timer *time.Timer
}

func (s *stall) begin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.since = time.Now()
	if s.timer == nil {
		s.timer = time.AfterFunc(s.timeout, s.look)
		return
	}
	s.timer.Reset(s.timeout)
}

func (s *stall) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.since = time.Time{}
	s.timer.Stop()
}

// stop is for when the handler returns, and with it the time in which a stream can be cut, whatever may still be under way.
func (s *stall) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cut = func() {}
}

// look may come late, when the next call is under way.
func (s *stall) look() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.since.IsZero() && time.Since(s.since) >= s.timeout {
		s.cut()
	}
}

// over is a deadline that has passed.
var over = time.Unix(1, 0)
