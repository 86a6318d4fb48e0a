package filesystem

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// A system is what the driver asks of the operating system to change its tree and to make changes durable. Tests put
// a model of a disk, or one that fails, in its place.
type system interface {
	rename(from, to string) error    // replaces to
	renameNew(from, to string) error // fs.ErrExist if to is there
	mkdir(path string, mode fs.FileMode) error
	unlink(path string) error // a file, never a folder
	rmdir(path string) error  // an empty folder, never a file

	// writeOut gets the content of files to the disk, without the names by which it can be found. errors.ErrUnsupported
	// where the system cannot, or will not, do that.
	writeOut(files []*os.File) error
	syncFile(f *os.File) error
	syncDir(path string) error   // errNotAsked if that had to end before it began
	syncAll(root *os.File) error // the whole file system that root is on
	alive(root *os.File) error   // EIO once that has shut down
}

// traits are what is known about the file system of a root.
type traits struct {
	// orders says that a crash keeps renames in their order: none survives without all before it, nor without the
	// content of its file if that was written out before it.
	orders bool
	// syncsWhole says that syncAll makes every earlier change durable, and that it reports each failure to do so.
	syncsWhole bool
	// unaware says that the sync of a folder does not notice when the file system has shut down.
	unaware bool
	// direct says that large writes gain from passing the system's memory by: they are of a disk in this machine.
	direct bool
	// cachesNames says that what a name leads to is remembered for a while, although others change it on a server, until its folder is
	// opened: close-to-open consistency, nfs(5).
	cachesNames bool
}

type realSystem struct{}

func (realSystem) mkdir(path string, mode fs.FileMode) error { return os.Mkdir(path, mode) }
func (realSystem) syncFile(f *os.File) error                 { return f.Sync() }

// rename, unlink and rmdir are the plain system calls: their namesakes in os look first, or try the other.

func (realSystem) rename(from, to string) error {
	if err := uninterrupted(func() error { return unix.Rename(from, to) }); err != nil {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
	}
	return nil
}

func (realSystem) unlink(path string) error {
	return pathError("unlink", path, uninterrupted(func() error { return unix.Unlink(path) }))
}

func (realSystem) rmdir(path string) error {
	return pathError("rmdir", path, uninterrupted(func() error { return unix.Rmdir(path) }))
}

func uninterrupted(call func() error) error {
	for {
		if err := call(); err != unix.EINTR {
			return err
		}
	}
}

func pathError(op, path string, err error) error {
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: op, Path: path, Err: err}
}

// errNotAsked says that the system has no descriptors, or no memory, to sync a folder with: no sync has failed.
var errNotAsked = errors.New("the system is short of means")

// syncDir makes the entries of a folder durable, where the file system knows how to sync a folder.
func (realSystem) syncDir(path string) error {
	f, err := os.Open(path)
	switch {
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE), errors.Is(err, syscall.ENOMEM):
		return fmt.Errorf("%w: %w", errNotAsked, err)
	case err != nil:
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
	os.Remove(from) // the object is in its place; if this fails, the next start sweeps the other name
	return nil
}
