package registry

import "sync"

// A recentSet remembers about the last n strings added to it. It is safe for concurrent use.
type recentSet struct {
	n        int
	mu       sync.Mutex
	now, old map[string]struct{} // when now is full it becomes old
}

func newRecentSet(n int) *recentSet { return &recentSet{n: n / 2, now: map[string]struct{}{}} }

func (s *recentSet) add(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.now) >= s.n {
		s.old, s.now = s.now, make(map[string]struct{})
	}
	s.now[key] = struct{}{}
}

func (s *recentSet) remove(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.now, key)
	delete(s.old, key)
}

func (s *recentSet) has(key string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.now[key]; ok {
		return true
	}
	_, ok := s.old[key]
	return ok
}
