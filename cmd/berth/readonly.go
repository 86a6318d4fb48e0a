package main

import (
	"sync"
	"sync/atomic"

	"berth/registry/admin"
)

// A readOnlyMode is whether changes are refused: as configured, unless a command switched it. A switch holds until it is
// switched back, the configuration says the same, or the process ends; reloading a configuration that says what it said
// before does not end it, lest a reload for another reason let pushes in while somebody relies on there being none. It is
// safe for concurrent use.
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

// set switches the mode.
func (m *readOnlyMode) set(on bool) (state admin.ReadOnly, changed bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	changed = m.on.Swap(on) != on
	return admin.ReadOnly{On: on, Configured: m.configured}, changed
}

func (m *readOnlyMode) state() admin.ReadOnly {
	m.mu.Lock()
	defer m.mu.Unlock()
	return admin.ReadOnly{On: m.on.Load(), Configured: m.configured}
}
