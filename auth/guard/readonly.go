package guard

import (
	"sync"
	"sync/atomic"
)

// A ReadOnly is whether changes are refused: as configured, unless it was switched. A switch holds until it is switched back, the
// configuration changes, or the process ends; reloading a configuration that says what it said before does not end it, lest a
// reload for another reason let pushes in while somebody relies on there being none.
type ReadOnly struct{ On, Configured bool }

// A readOnlyMode keeps a [ReadOnly]. It is safe for concurrent use.
type readOnlyMode struct {
	on atomic.Bool

	mu         sync.Mutex
	configured bool
}

// configure takes over what a configuration says, unless it says what the last one said and the mode was switched.
func (m *readOnlyMode) configure(on bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if on != m.configured {
		m.on.Store(on)
	}
	m.configured = on
}

// ReadOnly reports whether changes are refused now.
func (g *Guard) ReadOnly() bool { return g.mode.on.Load() }

// ReadOnlyMode tells more than [Guard.ReadOnly].
func (g *Guard) ReadOnlyMode() ReadOnly {
	g.mode.mu.Lock()
	defer g.mode.mu.Unlock()
	return ReadOnly{On: g.mode.on.Load(), Configured: g.mode.configured}
}

// SwitchReadOnly refuses changes from now on, or takes them. Until when is said at [ReadOnly].
func (g *Guard) SwitchReadOnly(on bool) (mode ReadOnly, changed bool) {
	g.mode.mu.Lock()
	defer g.mode.mu.Unlock()
	changed = g.mode.on.Swap(on) != on
	return ReadOnly{On: on, Configured: g.mode.configured}, changed
}
