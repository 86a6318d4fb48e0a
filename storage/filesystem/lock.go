package filesystem

import (
	"context"
	"errors"
	"os"
	"sync"
	"time"

	"berth/storage/filesystem/lock"
)

// lock takes keys, whose conditions are then nobody else's to change.
func (d *Driver) lock(ctx context.Context, keys ...string) (unlock func(), err error) {
	unlock, err = d.locks.Lock(ctx, keys...)
	return unlock, lockError(ctx, err)
}

// wait is [lock.Wait].
func wait(ctx context.Context, f *os.File, how int, pause, longest time.Duration) error {
	return lockError(ctx, lock.Wait(ctx, f, how, pause, longest))
}

// lockError is classify, but for the end of a context.
func lockError(ctx context.Context, err error) error {
	if errors.Is(err, ctx.Err()) {
		return err
	}
	return classify(err)
}

// flights are the changes that others may see in the tree, but that are not durable yet. Who read a key waits for its
// flight to end before believing what it read.
type flights struct {
	mu    sync.RWMutex
	byKey map[string]*flight
}

// A flight is the way of one commit to durability. One that fails stays for ever: nobody knows what is on the disk.
type flight struct {
	keys []string
	done chan struct{}
	err  error // set before done is closed
}

func newFlight() *flight { return &flight{done: make(chan struct{})} }

// begin is called before the change of a key can be seen, under the lock of the key.
func (f *flights) begin(key string, of *flight) {
	f.mu.Lock()
	defer f.mu.Unlock()
	of.keys = append(of.keys, key)
	f.byKey[key] = of
}

func (f *flights) end(of *flight, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if of.err = err; err == nil {
		for _, key := range of.keys {
			delete(f.byKey, key)
		}
	}
	close(of.done)
}

// settle is called after key was read. It returns when what was read is durable, or an error if it cannot become so.
func (f *flights) settle(ctx context.Context, key string) error {
	f.mu.RLock()
	of := f.byKey[key]
	f.mu.RUnlock()
	if of == nil {
		return nil
	}
	select {
	case <-of.done:
		return of.err
	case <-ctx.Done():
		return ctx.Err()
	}
}
