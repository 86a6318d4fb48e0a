// Package lock has locks on keys, inside a process and between processes, and on files.
package lock

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

// A Locker locks keys. Lock takes several at once, in an order that cannot deadlock; they may repeat. It waits for as long as ctx
// lasts. It is safe for concurrent use.
type Locker interface {
	Lock(ctx context.Context, keys ...string) (unlock func(), err error)
	Close() error
}

// Keys are locks inside this process.
type Keys struct {
	mu   sync.Mutex
	held map[string]*keyLock
}

type keyLock struct {
	taken chan struct{} // holds one element while taken
	users int           // who holds it or waits for it; at 0 it leaves the map
}

// NewKeys makes locks that nobody holds.
func NewKeys() *Keys { return &Keys{held: make(map[string]*keyLock)} }

// Lock takes keys.
func (l *Keys) Lock(ctx context.Context, keys ...string) (func(), error) {
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

func (l *Keys) take(ctx context.Context, key string) error {
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

func (l *Keys) leave(keys []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, key := range keys {
		k := l.held[key]
		<-k.taken
		l.unuse(key, k)
	}
}

func (l *Keys) unuse(key string, k *keyLock) {
	if k.users--; k.users == 0 {
		delete(l.held, key)
	}
}

// Close does nothing.
func (l *Keys) Close() error { return nil }

// Shards are locks between processes: each key belongs to one of a fixed number of files, which is locked. Inside
// this process, a key of that file's name comes first, so that only processes ever poll.
type Shards struct {
	folder string
	mode   os.FileMode
	local  *Keys
	files  [shards]*os.File // opened at first use, each under the local lock of its name
}

const shards = 256

// NewShards makes locks by files in a folder, which are made with a mode at first use.
func NewShards(folder string, mode os.FileMode) *Shards {
	return &Shards{folder: folder, mode: mode, local: NewKeys()}
}

// Lock takes keys.
func (l *Shards) Lock(ctx context.Context, keys ...string) (func(), error) {
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
	leave, err := l.local.Lock(ctx, names...)
	if err != nil {
		return nil, err
	}
	var locked []*os.File
	unlock := func() {
		for _, f := range locked {
			Try(f, unix.LOCK_UN) // cannot fail on a file that is locked; closing it would unlock it as well
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

func (l *Shards) lockShard(ctx context.Context, i int) (*os.File, error) {
	if l.files[i] == nil {
		f, err := Open(filepath.Join(l.folder, shardName(i)), unix.LOCK_EX, l.mode)
		if err != nil {
			return nil, err
		}
		l.files[i] = f
	}
	return l.files[i], Wait(ctx, l.files[i], unix.LOCK_EX, time.Millisecond, 20*time.Millisecond)
}

// Close closes the files, which gives up what is locked.
func (l *Shards) Close() error {
	var errs []error
	for _, f := range l.files {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	return errors.Join(errs...)
}

func shardName(i int) string { return fmt.Sprintf("%02x", i) }

// Open opens a lock file, made if it is missing, that is to be locked as how says. It may be locked when it returns;
// to lock it again changes nothing.
//
// It is opened for reading, since a file that is open for writing keeps a file system from being remounted read-only.
// Only NFS refuses that: there an exclusive lock is one on a range of bytes, of a file open for writing (flock(2)).
func Open(path string, how int, mode os.FileMode) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|os.O_CREATE, mode)
	if err != nil || !errors.Is(Try(f, how), unix.EBADF) {
		return f, err
	}
	f.Close()
	return os.OpenFile(path, os.O_RDWR|os.O_CREATE, mode)
}

// Try is flock(2) without waiting; an open file that is locked otherwise answers EWOULDBLOCK.
func Try(f *os.File, how int) error {
	for {
		if err := unix.Flock(int(f.Fd()), how|unix.LOCK_NB); err != unix.EINTR {
			return err
		}
	}
}

// Wait locks f, trying again after pauses that double from the shortest to the longest.
func Wait(ctx context.Context, f *os.File, how int, pause, longest time.Duration) error {
	for {
		err := Try(f, how)
		if err == nil || !errors.Is(err, unix.EWOULDBLOCK) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
		pause = min(2*pause, longest)
	}
}
