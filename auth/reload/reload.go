// Package reload keeps what a file says up to date, without watching and without restarting.
package reload

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// Interval is how often a file is looked at, at most, and so the longest time for which what it said before may hold.
const Interval = time.Second

// settle is how old a change must be for a file's times to tell of a later one: clocks of filesystems are coarse, so that
// two changes in quick succession can look like one.
const settle = 2 * time.Second

// Options of a File. The zero value is valid.
type Options struct {
	// OnError is told once of each error that keeps a changed file from taking effect. Neither function may use the File.
	OnError func(error)
	// OnReload is called after a changed file took effect, and after one with an error became again what it was before.
	OnReload func()

	now func() time.Time
}

// A File is what a file of the disk says, as parsed by a function, with the last good state in force when the file
// becomes bad or vanishes. It is safe for concurrent use.
type File[T any] struct {
	path  string
	max   int64
	parse func(path string, data []byte) (T, error)
	o     Options

	value   atomic.Pointer[T]
	version atomic.Uint64
	base    time.Time    // when the file was opened; its monotonic reading is what counts
	next    atomic.Int64 // when to look again, in nanoseconds since base

	mu       sync.Mutex // held while looking; guards the rest
	seen     fs.FileInfo
	settled  bool // seen was old when it was read
	sum      [sha256.Size]byte
	reported string
}

// Open reads a file of at most max bytes. parse is given its path, for its errors to name, and its content; it is called
// by one goroutine at a time, and what it returned is never changed.
func Open[T any](path string, max int64, parse func(path string, data []byte) (T, error), o *Options) (*File[T], error) {
	f := &File[T]{path: path, max: max, parse: parse}
	if o != nil {
		f.o = *o
	}
	if f.o.now == nil {
		f.o.now = time.Now
	}
	f.base = f.o.now()
	if _, err := f.load(f.base); err != nil {
		return nil, err
	}
	f.next.Store(int64(Interval))
	return f, nil
}

// Get returns what the file says now, or said no longer than [Interval] ago; or what it said when it was last good.
func (f *File[T]) Get() *T {
	if now := f.o.now(); int64(now.Sub(f.base)) >= f.next.Load() && f.mu.TryLock() {
		_ = f.look(now) // it was reported
		f.mu.Unlock()
	}
	return f.value.Load()
}

// Version returns a number that grows each time that the file takes effect. What was worked out from what [File.Get] returned
// after Version is good for as long as Version returns the same.
func (f *File[T]) Version() uint64 {
	f.Get()
	return f.version.Load()
}

// Refresh looks at the file at once, however short ago that was last done. Its error is why the file does not take effect,
// also when that was reported before.
func (f *File[T]) Refresh() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.look(f.o.now())
}

func (f *File[T]) look(now time.Time) error {
	defer f.next.Store(int64(now.Sub(f.base) + Interval))
	wasBad := f.reported != ""
	changed, err := f.load(now)
	switch {
	case err != nil:
		if err.Error() != f.reported && f.o.OnError != nil {
			f.o.OnError(fmt.Errorf("reload: %w; what it said before stays in force", err))
		}
		f.reported = err.Error()
	case (changed || wasBad) && f.o.OnReload != nil:
		f.o.OnReload()
	}
	return err
}

// load takes the file's content if it is another one than was seen, and reports whether it did. A bad content is seen,
// and its error returned, again and again: until it is mended the file is not up to date.
func (f *File[T]) load(now time.Time) (changed bool, err error) {
	info, err := os.Stat(f.path)
	if err != nil {
		return false, err
	}
	if !info.Mode().IsRegular() {
		return false, fmt.Errorf("%s: not a regular file", f.path)
	}
	if f.reported == "" && f.settled && same(info, f.seen) {
		return false, nil
	}
	info, data, err := f.read()
	if err != nil {
		return false, err
	}
	sum := sha256.Sum256(data)
	if f.seen == nil || sum != f.sum {
		value, err := f.parse(f.path, data)
		if err != nil {
			return false, err
		}
		f.value.Store(&value)
		f.version.Add(1)
		changed = true
	}
	f.seen, f.sum, f.reported = info, sum, ""
	f.settled = now.Sub(info.ModTime()) > settle
	return changed, nil
}

func (f *File[T]) read() (info fs.FileInfo, data []byte, err error) {
	file, err := os.Open(f.path)
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if info, err = file.Stat(); err != nil {
		return nil, nil, err
	}
	if data, err = io.ReadAll(io.LimitReader(file, f.max+1)); err != nil {
		return nil, nil, err
	}
	if int64(len(data)) > f.max {
		return nil, nil, fmt.Errorf("%s: larger than %d bytes", f.path, f.max)
	}
	return info, data, nil
}

func same(a, b fs.FileInfo) bool {
	return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}
