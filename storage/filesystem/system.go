package filesystem

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
)

// A system is what the driver asks of the operating system to change its tree and to make changes durable. Tests put
// a model of a disk, or one that fails, in its place.
type system interface {
	rename(from, to string) error    // replaces to
	renameNew(from, to string) error // fs.ErrExist if to is there
	mkdir(path string, mode fs.FileMode) error
	remove(path string) error // a file or an empty folder

	syncFile(f *os.File) error
	syncDir(path string) error
	syncAll(root *os.File) error // the whole file system that root is on
}

// traits are what is known about the file system of a root.
type traits struct {
	// orders says that a crash keeps renames in their order: none survives without all before it.
	orders bool
	// syncsWhole says that syncAll makes every earlier change durable, and that it reports each failure to do so.
	syncsWhole bool
}

type realSystem struct{}

func (realSystem) rename(from, to string) error              { return os.Rename(from, to) }
func (realSystem) mkdir(path string, mode fs.FileMode) error { return os.Mkdir(path, mode) }
func (realSystem) remove(path string) error                  { return os.Remove(path) }
func (realSystem) syncFile(f *os.File) error                 { return f.Sync() }

// syncDir makes the entries of a folder durable, where the file system knows how to sync a folder.
func (realSystem) syncDir(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Sync(); err != nil && !errors.Is(err, syscall.EINVAL) && !errors.Is(err, syscall.ENOTSUP) {
		return err
	}
	return nil
}

// linkNew is renameNew for systems without such a rename: the name appears by a link, whole and only if it is free.
func linkNew(from, to string) error {
	if err := os.Link(from, to); err != nil {
		return err
	}
	return os.Remove(from)
}
