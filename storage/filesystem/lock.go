package filesystem

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// A locker arbitrates the conditions of keys. lock takes several keys at once, in an order that cannot deadlock; the
// keys may repeat.
type locker interface {
	lock(ctx context.Context, keys ...string) (unlock func(), err error)
	close() error
}

// keyLocks are locks on names inside this process.
type keyLocks struct {
	mu   sync.Mutex
	held map[string]*keyLock
}

type keyLock struct {
	taken chan struct{} // holds one element while taken
	users int           // who holds it or waits for it; at 0 it leaves the map
}

func newKeyLocks() *keyLocks { return &keyLocks{held: make(map[string]*keyLock)} }

func (l *keyLocks) lock(ctx context.Context, keys ...string) (func(), error) {
	if len(keys) > 1 {
		keys = slices.Compact(slices.Sorted(slices.Values(keys)))
	}
	for i, key := range keys {
		if err := l.take(ctx, key); err != nil {
			l.leave(keys[:i])
			return nil, err
		}
	}
	return func() { l.leave(keys) }, nil
}

func (l *keyLocks) take(ctx context.Context, key string) error {
	l.mu.Lock()
	k := l.held[key]
	if k == nil {
		k = &keyLock{taken: make(chan struct{}, 1)}
		l.held[key] = k
	}
	k.users++
	l.mu.Unlock()
	select {
	case k.taken <- struct{}{}:
		return nil
	case <-ctx.Done():
		l.mu.Lock()
		defer l.mu.Unlock()
		l.unuse(key, k)
		return ctx.Err()
	}
}

func (l *keyLocks) leave(keys []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, key := range keys {
		k := l.held[key]
		<-k.taken
		l.unuse(key, k)
	}
}

func (l *keyLocks) unuse(key string, k *keyLock) {
	if k.users--; k.users == 0 {
		delete(l.held, key)
	}
}

func (l *keyLocks) close() error { return nil }

// shardLocks are locks between processes: each key belongs to one of a fixed number of files, which is locked. Inside
// this process, a keyLock of that file's name comes first, so that only processes ever poll.
type shardLocks struct {
	folder string
	mode   os.FileMode
	local  *keyLocks
	files  [shards]*os.File // opened at first use, each under the local lock of its name
}

const shards = 256

func (l *shardLocks) lock(ctx context.Context, keys ...string) (func(), error) {
	var wanted [shards]bool
	var names []string
	for _, key := range keys {
		h := fnv.New32a()
		h.Write([]byte(key))
		if i := h.Sum32() % shards; !wanted[i] {
			wanted[i] = true
			names = append(names, shardName(int(i)))
		}
	}
	leave, err := l.local.lock(ctx, names...)
	if err != nil {
		return nil, err
	}
	var locked []*os.File
	unlock := func() {
		for _, f := range locked {
			flock(f, unix.LOCK_UN) // cannot fail on a file that is locked; closing it would unlock it as well
		}
		leave()
	}
	for i := range shards { // in one order everywhere, so that no two processes wait for each other
		if !wanted[i] {
			continue
		}
		f, err := l.lockShard(ctx, i)
		if err != nil {
			unlock()
			return nil, err
		}
		locked = append(locked, f)
	}
	return unlock, nil
}

func (l *shardLocks) lockShard(ctx context.Context, i int) (*os.File, error) {
	if l.files[i] == nil {
		f, err := openLock(filepath.Join(l.folder, shardName(i)), unix.LOCK_EX, l.mode)
		if err != nil {
			return nil, classify(err)
		}
		l.files[i] = f
	}
	return l.files[i], waitFlock(ctx, l.files[i], unix.LOCK_EX, time.Millisecond, 20*time.Millisecond)
}

func (l *shardLocks) close() error {
	var errs []error
	for _, f := range l.files {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	return errors.Join(errs...)
}

func shardName(i int) string { return fmt.Sprintf("%02x", i) }

// openLock opens a lock file, made if it is missing, that is to be locked as how says. It may be locked when it returns;
// to lock it again changes nothing.
//
// It is opened for reading, since a file that is open for writing keeps a file system from being remounted read-only.
// Only NFS refuses that: there an exclusive lock is one on a range of bytes, of a file open for writing (flock(2)).
func openLock(path string, how int, mode os.FileMode) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|os.O_CREATE, mode)
	if err != nil || !errors.Is(flock(f, how), unix.EBADF) {
		return f, err
	}
	f.Close()
	return os.OpenFile(path, os.O_RDWR|os.O_CREATE, mode)
}

// flock is flock(2) without waiting; an open file that is locked otherwise answers EWOULDBLOCK.
func flock(f *os.File, how int) error {
	return uninterrupted(func() error { return unix.Flock(int(f.Fd()), how|unix.LOCK_NB) })
}

// waitFlock locks f, trying again after pauses that double from the shortest to the longest.
func waitFlock(ctx context.Context, f *os.File, how int, pause, longest time.Duration) error {
	for {
		err := flock(f, how)
		if err == nil || !errors.Is(err, unix.EWOULDBLOCK) {
			return classify(err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
		pause = min(2*pause, longest)
	}
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
