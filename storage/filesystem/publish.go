package filesystem

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"berth/storage"
)

// commit settles the contents of a batch, puts them in their places in order, each under its condition, and makes that
// durable. It returns an Info for each that was placed, and the error that stopped it.
func (d *Driver) commit(ctx context.Context, batch []*staged) ([]storage.Info, error) {
	if len(batch) == 0 {
		return nil, nil
	}
	if err := d.settleContents(batch); err != nil {
		return nil, putError(batch[0].key, err)
	}
	keys := make([]string, len(batch))
	for i, s := range batch {
		keys[i] = s.key
	}
	unlock, err := d.lock(ctx, keys...)
	if err != nil {
		return nil, putError(batch[0].key, err)
	}
	defer unlock()
	if err := ctx.Err(); err != nil {
		return nil, putError(batch[0].key, err)
	}
	leave, err := d.change()
	if err != nil {
		return nil, putError(batch[0].key, err)
	}
	defer leave()
	return d.publish(batch)
}

// settleContents sees to it that no crash leaves an object of a batch without its content, and closes the temporary files.
func (d *Driver) settleContents(batch []*staged) error {
	settle := d.syncContents
	if d.options.NoSync {
		settle = func([]*staged) error { return nil }
	} else if d.traits.orders && d.traits.syncsWhole {
		settle = d.writeOut
	}
	if err := settle(batch); err != nil {
		return err
	}
	for _, s := range batch {
		if err := s.describe(); err != nil {
			return err
		}
	}
	return nil
}

// writeOut is enough where a file gets its name in the tree after its content: the sync of the folders is then a sync of
// both. If it fails nobody relies on these files, and nothing else need stop.
func (d *Driver) writeOut(batch []*staged) error {
	files := make([]*os.File, len(batch))
	for i, s := range batch {
		files[i] = s.file
	}
	err := d.sys.writeOut(files)
	if errors.Is(err, errors.ErrUnsupported) {
		return d.syncContents(batch)
	}
	return classify(err)
}

// syncContents makes the contents of a batch durable.
func (d *Driver) syncContents(batch []*staged) error {
	targets := make([]target, 0, len(batch))
	for _, s := range batch {
		if s.size <= syncAlone {
			targets = append(targets, target{file: s.file})
		} else if err := d.synced(d.syncer.syncEach([]target{{file: s.file}})); err != nil {
			return err
		}
	}
	return d.synced(d.syncer.sync(targets))
}

// synced judges a sync of temporary files. A full disk or quota may show only now; nobody relies on these files, so that
// alone stops nothing else, if it was their own sync that told.
func (d *Driver) synced(err error) error {
	if err == nil || isFull(err) && !d.traits.syncsWhole {
		return classify(err)
	}
	return d.fail(err)
}

// describe fills in the Info, now that a server cannot change the time of the file any more, and closes the file.
func (s *staged) describe() error {
	st, err := s.file.Stat()
	if err != nil {
		return classify(err)
	}
	s.info = storage.Info{Key: s.key, Size: s.size, ModTime: st.ModTime(), Rev: s.rev}
	if s.rev == "" {
		s.info.Rev = largeRev(&s.ends, st)
	}
	err = s.file.Close()
	s.file = nil
	return classify(err)
}

// publish places a batch, under the locks of its keys. Once a change can be seen it is brought to an end, whatever
// becomes of the caller.
func (d *Driver) publish(batch []*staged) ([]storage.Info, error) {
	flight := newFlight()
	infos := make([]storage.Info, 0, len(batch))
	var dirs []string
	var err error
	for i, s := range batch {
		if err = d.place(s, flight); err != nil {
			if ambiguous(err) {
				dirs = append(dirs, filepath.Dir(s.path)) // who reads it back must not find what is not durable
			}
			err = putError(s.key, err)
			break
		}
		infos = append(infos, s.info)
		dirs = append(dirs, filepath.Dir(s.path))
		if !d.traits.orders && i < len(batch)-1 {
			if syncErr := d.syncFolders(dirs[i:]); syncErr != nil {
				d.flights.end(flight, syncErr)
				return infos[:i], putError(s.key, syncErr)
			}
		}
	}
	syncErr := d.syncFolders(dirs)
	d.flights.end(flight, syncErr)
	if syncErr != nil {
		return nil, putError(batch[0].key, syncErr)
	}
	return infos, err
}

// syncFolders makes the entries of folders durable.
func (d *Driver) syncFolders(dirs []string) error {
	if len(dirs) == 0 {
		return nil
	}
	targets, durable := d.folders.entries(dirs)
	if err := d.syncer.sync(targets); err != nil {
		return d.fail(err)
	}
	if err := d.Healthy(); err != nil {
		return err // another sync failed, which may have been told what concerns this one
	}
	durable()
	return nil
}

// place gives an object its name, if its condition holds.
func (d *Driver) place(s *staged, flight *flight) error {
	if _, ok := s.cond.Rev(); ok {
		switch c, err := d.load(s.path, s.key); {
		case err != nil && !errors.Is(err, fs.ErrNotExist):
			return err
		case !s.cond.Holds(err == nil, c.close().info.Rev):
			return storage.ErrConflict
		}
	}
	old := d.sizeAt(s.path)
	d.flights.begin(s.key, flight)
	if err := d.rename(s); err != nil {
		return err
	}
	s.placed = true
	d.space.free(old)
	return nil
}

// close closes the file of a content, if it has one.
func (c content) close() content {
	if c.file != nil {
		c.file.Close()
	}
	return c
}

// sizeAt returns how much of the limit the object at path takes.
func (d *Driver) sizeAt(path string) int64 {
	if d.space.limit == 0 {
		return 0
	}
	st, err := os.Lstat(path)
	if err != nil || !st.Mode().IsRegular() {
		return 0
	}
	return st.Size()
}

// rename moves the temporary file to its place. Folders come and go meanwhile: a delete removes those that it leaves
// empty, and one that was left over may be where the object belongs.
func (d *Driver) rename(s *staged) error {
	rename := d.sys.rename
	if s.cond.IsAbsent() {
		rename = d.sys.renameNew
	}
	const tries = 1000
	var err error
	for range tries {
		err = rename(s.temp, s.path)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, fs.ErrNotExist):
			if err := d.folders.make(filepath.Dir(s.path)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return classify(err)
			}
		case errors.Is(err, fs.ErrExist), errors.Is(err, syscall.EISDIR):
			if err := d.clearFolder(s); err != nil {
				return err
			}
		case errors.Is(err, syscall.ENOTDIR):
			return fmt.Errorf("%w: a part of %q is an object", storage.ErrInvalidKey, s.key)
		default:
			return classify(err)
		}
	}
	return classify(err)
}

// clearFolder is called when something is where s belongs. It removes what is left of empty folders, so that the rename
// can be tried again.
func (d *Driver) clearFolder(s *staged) error {
	st, err := os.Lstat(s.path)
	switch {
	case isMissing(err):
		return nil
	case err != nil:
		return classify(err)
	case !st.IsDir():
		return storage.ErrConflict
	}
	err = d.removeEmpty(s.path)
	switch {
	case err == nil, isMissing(err):
		return nil
	case errors.Is(err, fs.ErrExist): // which ENOTEMPTY is too
		return fmt.Errorf("%w: %q is a folder of other keys", storage.ErrInvalidKey, s.key)
	}
	return classify(err)
}

// removeEmpty removes a folder that has nothing but empty folders in it.
func (d *Driver) removeEmpty(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := d.removeEmpty(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return d.sys.rmdir(dir)
}
