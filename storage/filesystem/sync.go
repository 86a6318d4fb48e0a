package filesystem

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// A target is what a sync makes durable: the content of a file, or the entries of a folder.
type target struct {
	file *os.File
	dir  string // if file is nil
}

// A syncer makes targets durable, for many callers at once. While one sync runs, the callers that come gather, and the
// next sync serves them all: alone by a sync of its own targets, together by one of the whole file system where that is
// known to be sound.
type syncer struct {
	sys    system
	root   *os.File
	off    bool // nothing is made durable
	traits traits

	mu      sync.Mutex
	running bool
	next    *syncBatch
	failed  error // of the first batch that failed; of run alone
}

type syncBatch struct {
	callers int
	targets []target
	done    chan struct{}
	err     error // set before done is closed
}

// sync returns when all targets are durable. It cannot be interrupted: a change that others may have seen must come to
// an end.
func (s *syncer) sync(targets []target) error {
	if s.off || len(targets) == 0 {
		return nil
	}
	if !s.traits.syncsWhole {
		return s.syncEach(targets)
	}
	s.mu.Lock()
	if s.next == nil {
		s.next = &syncBatch{done: make(chan struct{})}
	}
	b := s.next
	b.callers++
	b.targets = append(b.targets, targets...)
	if !s.running {
		s.running = true
		go s.run()
	}
	s.mu.Unlock()
	<-b.done
	return b.err
}

// run serves batches until none is waiting. After one that failed all fail: what the system could not write it may have dropped,
// and it tells of that once, so that a later sync would succeed for nothing.
func (s *syncer) run() {
	for {
		s.mu.Lock()
		b := s.next
		if s.next = nil; b == nil {
			s.running = false
			s.mu.Unlock()
			return
		}
		s.mu.Unlock()
		switch {
		case s.failed != nil:
		case b.callers == 1:
			s.failed = s.syncEach(b.targets)
		default:
			s.failed = s.sys.syncAll(s.root)
		}
		b.err = s.failed
		close(b.done)
	}
}

// syncEach syncs each target, all at the same time.
func (s *syncer) syncEach(targets []target) error {
	err := s.syncAtOnce(targets)
	if err == nil && s.traits.unaware {
		err = s.sys.alive(s.root)
	}
	return err
}

func (s *syncer) syncAtOnce(targets []target) error {
	if len(targets) == 1 {
		return s.syncOne(targets[0])
	}
	errs := make([]error, len(targets))
	var wg sync.WaitGroup
	for i, t := range targets {
		wg.Go(func() { errs[i] = s.syncOne(t) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

func (s *syncer) syncOne(t target) error {
	if t.file != nil {
		return s.sys.syncFile(t.file)
	}
	err := s.syncDir(t.dir)
	for dir := t.dir; errors.Is(err, fs.ErrNotExist); { // removed when it was empty: its own entry is the change now
		dir = filepath.Dir(dir)
		err = s.syncDir(dir)
	}
	return err
}

// A folder that cannot be opened for want of descriptors is tried again, with pauses, for as long as scarcity.
const (
	scarcity = time.Minute
	pause    = 10 * time.Millisecond
)

// syncDir syncs a folder, although the change in it, which others must not see before, may have left no descriptor for that: the
// sync of the whole file system needs none.
func (s *syncer) syncDir(dir string) error {
	for began := time.Now(); ; time.Sleep(pause) {
		err := s.sys.syncDir(dir)
		switch {
		case !errors.Is(err, errNotAsked), time.Since(began) > scarcity:
			return err
		case s.traits.syncsWhole:
			return s.sys.syncAll(s.root)
		}
	}
}

// folders makes the folders of keys, and knows which of them have an entry in their parent that is not durable yet.
type folders struct {
	sys       system
	top       string // the folder of the objects, which is there and durable
	mode      fs.FileMode
	strangers bool // others make folders here too, of which nothing is known

	mu    sync.Mutex
	count uint64
	made  map[string]uint64 // a fresh folder, and the count when it was made
}

// make makes a folder under top with all its parents.
func (f *folders) make(dir string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.makeLocked(dir)
}

func (f *folders) makeLocked(dir string) error {
	err := f.sys.mkdir(dir, f.mode)
	if errors.Is(err, fs.ErrNotExist) && dir != f.top {
		if err := f.makeLocked(filepath.Dir(dir)); err != nil {
			return err
		}
		err = f.sys.mkdir(dir, f.mode)
	}
	switch {
	case errors.Is(err, fs.ErrExist):
		return nil // if it is a file, the rename into it will tell
	case err == nil:
		f.count++
		f.made[dir] = f.count
	}
	return err
}

// entries returns what must be durable for an entry of dir to be so: dir, and each parent of a fresh folder on the way
// to it. When they are, the caller calls durable.
func (f *folders) entries(dirs []string) (targets []target, durable func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	seen := make(map[string]bool)
	fresh := make(map[string]uint64)
	add := func(dir string) {
		if !seen[dir] {
			seen[dir] = true
			targets = append(targets, target{dir: dir})
		}
	}
	for _, dir := range dirs {
		add(dir)
		for ; len(dir) > len(f.top); dir = filepath.Dir(dir) {
			count, ok := f.made[dir]
			if ok {
				fresh[dir] = count
			}
			if ok || f.strangers {
				add(filepath.Dir(dir))
			}
		}
	}
	return targets, func() { f.forget(fresh) }
}

// forget removes the folders that are durable from those made, unless they were removed and made again meanwhile.
func (f *folders) forget(fresh map[string]uint64) {
	if len(fresh) == 0 {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for dir, count := range fresh {
		if f.made[dir] == count {
			delete(f.made, dir)
		}
	}
}
