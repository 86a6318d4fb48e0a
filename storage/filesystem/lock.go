package filesystem

import (
	"context"
	"errors"
	"os"
	"strings"
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
	mu      sync.RWMutex
	byKey   map[string]*flight
	watches map[*watch]struct{}
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
	for w := range f.watches {
		w.see(key)
	}
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

// A watch notes the objects of a folder that may change while the folder is read. Not every file system shows a file that
// is replaced meanwhile to who opened the folder before, nor does POSIX ask for it: btrfs gives the new one a later place than a
// reading goes to (since Linux 6.5). Such an object was there all the time, and a listing must have it.
type watch struct {
	folder string // "" or a key with a slash at its end
	names  []string
}

// watch begins to note changes by this process: begin it before the folder is opened. changed returns the names, and ends it.
func (f *flights) watch(folder string) (changed func() []string) {
	w := &watch{folder: folder}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.watches[w] = struct{}{}
	for key := range f.byKey { // which may yet take place
		w.see(key)
	}
	return func() []string {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.watches, w)
		return w.names
	}
}

func (w *watch) see(key string) {
	if name, ok := strings.CutPrefix(key, w.folder); ok && lastSlash(name) < 0 {
		w.names = append(w.names, name)
	}
}
