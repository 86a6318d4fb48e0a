package remote

import (
	"fmt"
	"sync"
	"time"

	"berth/storage"
)

const (
	// TripAfter is how many failures in a row, of all calls together, mean that the service is dead, if they took as long as
	// tripTime: retries bridge what is shorter.
	TripAfter = 20
	tripTime  = 5 * time.Second
	// OpenFor is how long nobody asks a dead service; then one call tries.
	OpenFor = 2 * time.Second
)

// A breaker keeps callers from waiting for a service that is dead. The zero one is ready.
type breaker struct {
	mu       sync.Mutex
	failures int       // in a row
	first    time.Time // of them
	until    time.Time // nobody is let through before
}

// allow returns ErrUnavailable while the service counts as dead. Whoever is let through calls record.
func (b *breaker) allow() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	if b.failures < TripAfter || now.Sub(b.first) < tripTime {
		return nil
	}
	if now.Before(b.until) {
		return fmt.Errorf("%w: it failed %d times in a row and is not asked for a moment", storage.ErrUnavailable, b.failures)
	}
	b.until = now.Add(OpenFor) // this caller tries for all
	return nil
}

// record tells how a call ended: whether the service answered at all.
func (b *breaker) record(alive bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if alive {
		b.failures = 0
		return
	}
	if b.failures++; b.failures == 1 {
		b.first = time.Now()
	}
	b.until = time.Now().Add(OpenFor)
}
