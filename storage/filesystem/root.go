package filesystem

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"berth/storage/filesystem/lock"
)

// Names in the root, beside objects.
const (
	markerName  = "berth.json"
	lockName    = "lock"
	objectsName = "objects"
	tempName    = "tmp"
	locksName   = "locks"
)

// What a root can be, and the format that this driver writes.
const (
	kindFilesystem = "filesystem"
	kindEmptyDir   = "emptydir"
	format         = 1
)

// A marker is the content of the file that tells what a root is.
type marker struct {
	Kind   string `json:"kind"`
	Format int    `json:"format"`
}

// prepare takes the root, as kind, and sets up all that the driver needs of it. Nothing is written before the root is
// known to be ours or free.
func (d *Driver) prepare(ctx context.Context, kind string) error {
	root, err := filepath.Abs(d.options.Root)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(root, d.options.DirMode); err != nil {
		return err
	}
	if err := checkRoot(root, kind); err != nil {
		return err
	}
	if err := d.lockRoot(ctx, filepath.Join(root, lockName), kind); err != nil {
		return err
	}
	if err := checkRoot(root, kind); err != nil { // again: the one before us may have been making it
		return err
	}
	if err := d.mark(root, kind); err != nil {
		return err
	}
	if kind == kindEmptyDir {
		if err := errors.Join(os.RemoveAll(filepath.Join(root, objectsName)), os.RemoveAll(filepath.Join(root, tempName))); err != nil {
			return err
		}
	}
	d.objects = filepath.Join(root, objectsName)
	_, err = os.Stat(d.objects)
	fresh := errors.Is(err, fs.ErrNotExist)
	for _, dir := range []string{d.objects, filepath.Join(root, tempName), filepath.Join(root, locksName)} {
		if err := os.Mkdir(dir, d.options.DirMode); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	if err := d.takeTemp(ctx, filepath.Join(root, tempName)); err != nil {
		return err
	}
	if err := d.probe(); err != nil && (fresh || !isFull(err)) { // it was tried when there was room
		return err
	}
	return d.setUp(root)
}

// setUp fills in the parts of the driver, and makes durable what an earlier process left in the caches of the system:
// from now on, what can be read counts as durable.
func (d *Driver) setUp(root string) (err error) {
	if d.rootDir, err = os.Open(root); err != nil {
		return err
	}
	d.traits = traitsOf(d.rootDir)
	d.syncer = syncer{sys: d.sys, root: d.rootDir, off: d.options.NoSync, traits: d.traits}
	d.flights = flights{byKey: make(map[string]*flight), watches: make(map[*watch]struct{})}
	d.space = space{limit: d.options.Limit}
	d.folders = folders{
		sys:       d.sys,
		top:       d.objects,
		mode:      d.options.DirMode,
		strangers: d.options.Shared && !d.traits.orders,
		made:      make(map[string]uint64),
	}
	d.locks = lock.NewKeys()
	if d.options.Shared {
		d.locks = lock.NewShards(filepath.Join(root, locksName), d.options.FileMode)
	}
	if d.options.NoSync {
		return nil
	}
	return errors.Join(d.sys.syncAll(d.rootDir), d.sys.syncDir(root))
}

// checkRoot refuses a root that is another program's, of another kind or of a newer format.
func checkRoot(root, kind string) error {
	text, err := os.ReadFile(filepath.Join(root, markerName))
	if errors.Is(err, fs.ErrNotExist) {
		return checkUnmarked(root, kind)
	}
	if err != nil {
		return err
	}
	var m marker
	dec := json.NewDecoder(bytes.NewReader(text))
	if err := dec.Decode(&m); err != nil {
		return fmt.Errorf("its %s cannot be read: %w", markerName, err)
	}
	switch {
	case m.Kind != kind:
		return fmt.Errorf("its %s says that it is of the kind %q, not %q: give each its own folder", markerName, m.Kind, kind)
	case m.Format > format:
		return fmt.Errorf("it has the format %d, and this version knows formats up to %d: use the version that wrote it", m.Format, format)
	case m.Format < 1:
		return fmt.Errorf("its %s has no valid format", markerName)
	}
	return nil
}

func checkUnmarked(root, kind string) error {
	if _, err := os.Stat(filepath.Join(root, "docker", "registry", "v2")); err == nil {
		return errors.New("it holds the data of a CNCF distribution registry (docker/registry/v2), which is not read: " +
			"set an empty folder, and copy the repositories over from the running registry with a client such as skopeo")
	}
	entries, err := os.ReadDir(root)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if kind == kindEmptyDir && !strings.HasPrefix(e.Name(), lockName) && e.Name() != "lost+found" {
			return fmt.Errorf("it holds %s and no %s: an emptydir is emptied at every start, so it must be a new or an empty folder",
				e.Name(), markerName)
		}
		if e.Name() == objectsName {
			return fmt.Errorf("it holds %s but no %s: restore that file, or set an empty folder", objectsName, markerName)
		}
	}
	return nil
}

// mark writes the marker, if there is none, so that it appears whole.
func (d *Driver) mark(root, kind string) error {
	path := filepath.Join(root, markerName)
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	text, err := json.Marshal(marker{Kind: kind, Format: format})
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(root, lockName+"*") // begins like the lock: no obstacle to a next start
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(append(text, '\n'))
	if err = errors.Join(err, f.Chmod(d.options.FileMode), f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// lockRoot takes the lock of the root: alone, or with others that share it.
func (d *Driver) lockRoot(ctx context.Context, path, kind string) error {
	how := unix.LOCK_EX
	if d.options.Shared {
		how = unix.LOCK_SH
	}
	f, err := d.hold(path, how)
	if err != nil {
		return err
	}
	if err := lock.Try(f, how); errors.Is(err, unix.EWOULDBLOCK) && d.options.Warn != nil {
		d.options.Warn(fmt.Sprintf("waiting up to %v for %s, which holds the storage root %s", d.options.LockWait, holder(path), filepath.Dir(path)))
	}
	waiting, cancel := context.WithTimeout(ctx, d.options.LockWait)
	defer cancel()
	err = wait(waiting, f, how, 10*time.Millisecond, 100*time.Millisecond)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%s serves it already (waited %v): stop that one%s", holder(path), d.options.LockWait, remedy(kind))
	case err != nil:
		return fmt.Errorf("locking %s: %w", lockName, err)
	}
	host, err := os.Hostname()
	if err != nil {
		host = "an unknown host"
	}
	err = os.WriteFile(path, fmt.Appendf(nil, "process %d on %s\n", os.Getpid(), host), d.options.FileMode)
	if isFull(err) {
		return nil // the lock is held, and merely says nothing of whom
	}
	return err
}

// remedy is how a second process can serve a root all the same.
func remedy(kind string) string {
	if kind == kindEmptyDir {
		return "; only one process can serve an emptydir"
	}
	return ", or write storage.filesystem.shared: true for all of them"
}

// hold is [lock.Open] for a file that the driver closes in the end.
func (d *Driver) hold(path string, how int) (*os.File, error) {
	f, err := lock.Open(path, how, d.options.FileMode)
	if err == nil {
		d.held = append(d.held, f)
	}
	return f, err
}

// holder names the process that wrote a lock file last.
func holder(path string) string {
	if text, err := os.ReadFile(path); err == nil && len(bytes.TrimSpace(text)) > 0 {
		return strings.TrimSpace(string(text))
	}
	return "another process"
}

// takeTemp makes a folder for the temporary files of this process, and removes those of dead ones, as far as it may: those
// whose lock file nobody holds. All of it happens under one lock, so that no folder is seen before it is locked.
func (d *Driver) takeTemp(ctx context.Context, temps string) error {
	guard, err := os.OpenFile(filepath.Join(temps, lockName), os.O_RDWR|os.O_CREATE, d.options.FileMode)
	if err != nil {
		return err
	}
	defer guard.Close()
	if err := wait(ctx, guard, unix.LOCK_EX, time.Millisecond, 100*time.Millisecond); err != nil {
		return err
	}
	entries, err := os.ReadDir(temps)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		if err := sweep(filepath.Join(temps, e.Name())); err != nil && d.options.Warn != nil { // another user left it
			d.options.Warn(fmt.Sprintf("old temporary files stay in %s: %v", filepath.Join(temps, e.Name()), err))
		}
	}
	d.temp = filepath.Join(temps, strings.ToLower(rand.Text()))
	if err := os.Mkdir(d.temp, d.options.DirMode); err != nil {
		return err
	}
	f, err := d.hold(filepath.Join(d.temp, lockName), unix.LOCK_EX)
	if err != nil {
		return err
	}
	return lock.Try(f, unix.LOCK_EX)
}

// sweep removes the temporary folder of a process, unless that lives.
func sweep(dir string) error {
	f, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR, 0)
	if err == nil {
		defer f.Close()
		err = lock.Try(f, unix.LOCK_EX)
	}
	switch {
	case errors.Is(err, unix.EWOULDBLOCK):
		return nil
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	}
	return os.RemoveAll(dir)
}

// probe tries, among the temporary files, what the driver relies on.
func (d *Driver) probe() error {
	a, b := filepath.Join(d.temp, "Probe"), filepath.Join(d.temp, "probe2")
	for _, path := range []string{a, b} {
		if err := os.WriteFile(path, []byte(filepath.Base(path)), d.options.FileMode); err != nil {
			return err
		}
	}
	if _, err := os.Lstat(filepath.Join(d.temp, "probe")); !errors.Is(err, fs.ErrNotExist) {
		return errors.New("its file system does not tell upper from lower case, so it cannot hold all tags: use another volume")
	}
	if err := d.sys.renameNew(a, b); !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("its file system cannot rename without replacing: %w", refusal(err))
	}
	if got, err := os.ReadFile(b); err != nil || !slices.Equal(got, []byte("probe2")) {
		return errors.New("its file system replaces files that it was told not to replace")
	}
	if err := d.sys.renameNew(a, b+"3"); err != nil {
		return fmt.Errorf("its file system cannot rename without replacing: %w", err)
	}
	if d.options.Shared {
		if err := probeLocks(b); err != nil {
			return err
		}
	}
	return errors.Join(os.Remove(b), os.Remove(b+"3"))
}

// probeLocks checks that a lock on an open file keeps other open files of the same path out.
func probeLocks(path string) error {
	one, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer one.Close()
	two, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer two.Close()
	if err := lock.Try(one, unix.LOCK_EX); err != nil {
		return fmt.Errorf("its file system has no working locks, so it cannot be shared: %w", err)
	}
	if err := lock.Try(two, unix.LOCK_EX); !errors.Is(err, unix.EWOULDBLOCK) {
		return fmt.Errorf("its file system has no working locks, so it cannot be shared: %w", refusal(err))
	}
	return nil
}

// refusal turns a success where a failure was due into an error.
func refusal(err error) error {
	if err == nil {
		return errors.New("it did what it had to refuse")
	}
	return err
}
