// Package filesystem keeps objects as files, one for each key, under one root folder:
//
//	berth.json       what this folder is, and the format of what is in it
//	lock             held while serving: exclusively, or together with others in shared mode
//	objects/<key>    the objects
//	tmp/<instance>/  bodies that are being written by one running process
//	locks/<xx>       in shared mode, the locks that arbitrate conditions between processes
//
// A body is written to a temporary file and made durable, then renamed to its place, then the folder is made durable:
// what has a name under objects is whole, through a crash at any moment. Readers are not shown what was renamed until
// the folder is durable too.
//
// A key whose path is a folder of other keys (a beside a/b) cannot be put, and a root on a file system that does not tell
// A from a is refused.
package filesystem

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"berth/storage"
	"berth/storage/filesystem/lock"
)

// Options configure a Driver. Only Root is required.
type Options struct {
	Root     string        // the folder; made if it is missing
	Shared   bool          // let several processes serve one root, as on a ReadWriteMany volume
	LockWait time.Duration // how long to wait for a process that holds the root; 0 means 30 seconds
	DirMode  fs.FileMode   // permissions of folders, before the umask; 0 means 0750
	FileMode fs.FileMode   // permissions of files, before the umask; 0 means 0640
	NoSync   bool          // give up durability: a crash may lose or tear everything. OpenEmptyDir sets it
	Limit    int64         // bytes that OpenEmptyDir lets the objects take; 0 means no limit but the disk
	// Warn is told in one line that the root is held by another process and waited for, or of what cannot be swept. A nil one is not.
	Warn func(string)
}

// A Driver is a [storage.Driver] and a [storage.Batcher] over a folder.
//
// A Rev of an object smaller than smallObject is taken from its bytes, so equal bytes share one. A Rev of a larger object
// is taken from its inode, size, time and its first and last bytes, where a nonce, if any, must be.
type Driver struct {
	options Options
	objects string // the folder of the objects
	temp    string // the folder of this process for temporary files
	sys     system
	traits  traits
	rootDir *os.File
	held    []*os.File // the lock files that stay locked until Close

	locks   lock.Locker
	folders folders
	flights flights
	syncer  syncer
	space   space

	tempNames atomic.Uint64
	failure   atomic.Pointer[error] // why nothing is written any more
	gate      sync.RWMutex          // read-held by each change of the tree, so that Close can wait for them
	closed    bool
}

var (
	_ storage.Driver  = (*Driver)(nil)
	_ storage.Batcher = (*Driver)(nil)
	_ storage.Clock   = (*Driver)(nil)
)

// Open takes the root and returns a Driver that serves it until Close. It sweeps what dead processes left in tmp, and
// never walks the objects.
func Open(ctx context.Context, o Options) (*Driver, error) {
	o.Limit = 0
	return open(ctx, o, kindFilesystem, realSystem{})
}

// OpenEmptyDir is as Open for a folder whose objects need not outlive the process: it takes the folder, removes all
// objects in it and never syncs. It refuses a folder that is neither empty nor one that it took before, and cannot share.
func OpenEmptyDir(ctx context.Context, o Options) (*Driver, error) {
	o.NoSync, o.Shared = true, false
	return open(ctx, o, kindEmptyDir, realSystem{})
}

func open(ctx context.Context, o Options, kind string, sys system) (*Driver, error) {
	o.LockWait = cmp.Or(o.LockWait, 30*time.Second)
	o.DirMode = cmp.Or(o.DirMode, 0o750)
	o.FileMode = cmp.Or(o.FileMode, 0o640)
	d := &Driver{options: o, sys: sys}
	if err := d.prepare(ctx, kind); err != nil {
		return nil, errors.Join(fmt.Errorf("open the storage root %s: %w", o.Root, err), d.release())
	}
	return d, nil
}

// Close waits for the changes under way, gives the root back and makes later changes fail. Open readers stay good.
func (d *Driver) Close() error {
	d.gate.Lock()
	defer d.gate.Unlock()
	if d.closed {
		return nil
	}
	d.closed = true
	return d.release()
}

// release removes the temporary files, closes every file that the driver holds, and with them gives up its locks.
func (d *Driver) release() error {
	var errs []error
	if d.temp != "" {
		_ = os.RemoveAll(d.temp) // on a disk that became read-only, the next start sweeps it
	}
	if d.locks != nil {
		errs = append(errs, d.locks.Close())
	}
	for _, f := range d.held {
		errs = append(errs, f.Close())
	}
	if d.rootDir != nil {
		errs = append(errs, d.rootDir.Close())
	}
	return errors.Join(errs...)
}

// change opens the gate for one change of the tree; the caller calls leave when it is durable.
func (d *Driver) change() (leave func(), err error) {
	d.gate.RLock()
	if d.closed {
		d.gate.RUnlock()
		return nil, fmt.Errorf("%w: the driver is closed", storage.ErrUnavailable)
	}
	if err := d.Healthy(); err != nil {
		d.gate.RUnlock()
		return nil, err
	}
	return d.gate.RUnlock, nil
}

// Healthy returns nil until a sync fails. From then on nothing is written any more, since the system may have dropped
// what it could not write, and reports it only once; the error, which matches ErrUnavailable, is what every Put and
// Delete answers. Only a new process can know what is on the disk.
func (d *Driver) Healthy() error {
	if err := d.failure.Load(); err != nil {
		return *err
	}
	return nil
}

// fail stops all writing, for good.
func (d *Driver) fail(cause error) error {
	err := fmt.Errorf("%w: writing has stopped until a restart, since a sync failed: %v", storage.ErrUnavailable, cause)
	d.failure.CompareAndSwap(nil, &err)
	return d.Healthy()
}

// FreeSpace returns how many bytes can still be written and how many there are in all, both cut to the limit of an empty
// directory.
func (d *Driver) FreeSpace() (free, total uint64, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(d.objects, &st); err != nil {
		return 0, 0, fmt.Errorf("free space: %w", classify(err))
	}
	free, total = st.Bavail*uint64(st.Bsize), st.Blocks*uint64(st.Bsize)
	if d.space.limit > 0 {
		free, total = min(free, d.space.left()), min(total, uint64(d.space.limit))
	}
	return free, total, nil
}

// Writable finds out without writing that nothing can be written: [storage.ErrReadOnly] for a disk that is mounted so,
// [storage.ErrNoSpace] where there is neither a block nor an inode left. Nil says little: a quota, for one, is not seen.
func (d *Driver) Writable() error {
	var st unix.Statfs_t
	err := unix.Statfs(d.objects, &st)
	switch {
	case err != nil:
		return fmt.Errorf("look at the disk: %w", classify(err))
	case st.Flags&mountedReadOnly != 0:
		return fmt.Errorf("look at the disk: %w", storage.ErrReadOnly)
	case st.Blocks > 0 && st.Bavail == 0, st.Files > 0 && st.Ffree == 0:
		return fmt.Errorf("look at the disk: %w", storage.ErrNoSpace)
	}
	return nil
}

// Now asks the file system for its time, by setting that of the folder of temporary files: a full disk has room for that.
func (d *Driver) Now() (time.Time, error) {
	if err := setTimes(d.temp); err != nil {
		return time.Time{}, fmt.Errorf("ask the disk for its time: %w", classify(err))
	}
	st, err := os.Stat(d.temp)
	if err != nil {
		return time.Time{}, fmt.Errorf("ask the disk for its time: %w", classify(err))
	}
	return st.ModTime(), nil
}

// space counts the bytes of the objects against a limit.
type space struct {
	limit int64 // 0: none, and nothing is counted
	used  atomic.Int64
}

func (s *space) reserve(n int64) error {
	if s.limit > 0 && s.used.Add(n) > s.limit {
		s.used.Add(-n)
		return fmt.Errorf("%w: the limit of %d bytes is reached", storage.ErrNoSpace, s.limit)
	}
	return nil
}

func (s *space) free(n int64) {
	if s.limit > 0 {
		s.used.Add(-n)
	}
}

func (s *space) left() uint64 { return uint64(max(0, s.limit-s.used.Load())) }
