package throttle

import "sync"

// Turns lets a few work at a time. Those who wait have their turn address by address, so that whoever comes with many waits for
// oneself. It is safe for concurrent use.
type Turns struct {
	mu      sync.Mutex
	free    int
	waiting map[string][]chan struct{} // of an address, the first first
	order   []string                   // the addresses of waiting, the next first
}

// NewTurns returns Turns for n at a time.
func NewTurns(n int) *Turns {
	return &Turns{free: n, waiting: make(map[string][]chan struct{})}
}

// Take waits until it is the turn of somebody at an address. End must follow.
func (t *Turns) Take(address string) {
	if turn := t.enter(address); turn != nil {
		<-turn
	}
}

func (t *Turns) enter(address string) (turn chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.free > 0 { // then nobody waits
		t.free--
		return nil
	}
	turn = make(chan struct{})
	if len(t.waiting[address]) == 0 {
		t.order = append(t.order, address)
	}
	t.waiting[address] = append(t.waiting[address], turn)
	return turn
}

// End passes a turn on.
func (t *Turns) End() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.order) == 0 {
		t.free++
		return
	}
	address := t.order[0]
	t.order = t.order[1:]
	queue := t.waiting[address]
	close(queue[0])
	if len(queue) == 1 {
		delete(t.waiting, address)
		return
	}
	t.waiting[address] = queue[1:]
	t.order = append(t.order, address)
}
