package filesystem

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"berth/storage"
)

// List implements [storage.Driver]. It leaves Revs empty, reads each folder when it comes to it, and only those that can
// hold what is asked for. It follows no symbolic link.
func (d *Driver) List(ctx context.Context, prefix, after string) iter.Seq2[storage.Info, error] {
	return func(yield func(storage.Info, error) bool) {
		d.list(&listing{d: d, ctx: ctx, prefix: prefix, after: after, yield: yield})
	}
}

// Keys implements [storage.Namer]: it reads folders, and nothing of the files in them.
func (d *Driver) Keys(ctx context.Context, prefix, after string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		d.list(&listing{d: d, ctx: ctx, prefix: prefix, after: after, keysOnly: true,
			yield: func(info storage.Info, err error) bool { return yield(info.Key, err) }})
	}
}

func (d *Driver) list(l *listing) {
	folder := l.prefix[:lastSlash(l.prefix)+1]
	if folder != "" && storage.CheckKey(folder[:len(folder)-1]) != nil {
		return // no key begins so
	}
	l.walk(folder)
}

func lastSlash(key string) int { return strings.LastIndexByte(key, '/') }

// A listing is one run through the tree.
type listing struct {
	d             *Driver
	ctx           context.Context
	prefix, after string
	keysOnly      bool // describe no object
	yield         func(storage.Info, error) bool
}

// walk yields what is under a folder, "" or a key with a slash at its end; it reports whether to go on.
func (l *listing) walk(folder string) bool {
	dir, names, err := l.open(folder)
	if err != nil {
		l.yield(storage.Info{}, fmt.Errorf("list %s: %w", l.prefix, err))
		return false
	}
	defer dir.Close()
	for _, name := range names {
		key := folder + name
		if strings.HasSuffix(name, "/") {
			if !l.walk(key) {
				return false
			}
			continue
		}
		info, err := l.info(dir, name, key)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			err = fmt.Errorf("list %s: %w", l.prefix, err)
		}
		if !l.yield(info, err) || err != nil {
			return false
		}
	}
	return true
}

// open opens a folder and returns the names in it that may be asked for, those of folders with a slash at their end, so
// that the order of their bytes is the order of the keys. A folder that is not there is nil and has none.
func (l *listing) open(folder string) (*os.File, []string, error) {
	if err := l.ctx.Err(); err != nil {
		return nil, nil, err
	}
	changed := l.d.flights.watch(folder)
	defer changed()
	path := filepath.Join(l.d.objects, folder)
	f, err := openFolder(path)
	if isMissing(err) && l.d.lookAgain(path) {
		f, err = openFolder(path)
	}
	if isMissing(err) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, classify(err)
	}
	entries, err := f.ReadDir(-1)
	if err == nil && l.d.options.Shared { // what other processes replaced meanwhile is there at a second look, unless they do so again
		var again []fs.DirEntry
		if _, err = f.Seek(0, io.SeekStart); err == nil {
			again, err = f.ReadDir(-1)
		}
		entries = append(entries, again...)
	}
	if err != nil && !isMissing(err) {
		return nil, nil, errors.Join(classify(err), f.Close())
	}
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		if e.IsDir() {
			names = append(names, e.Name()+"/")
		} else if e.Type().IsRegular() {
			names = append(names, e.Name())
		}
	}
	for _, name := range changed() {
		if _, err := stat(f, name); err == nil {
			names = append(names, name)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return nil, nil, errors.Join(err, f.Close())
		}
	}
	return f, l.choose(folder, names), nil
}

func openFolder(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDONLY|syscall.O_DIRECTORY|syscall.O_NOFOLLOW, 0)
}

// choose returns the names in a folder that may be asked for, in their order, each once: a file that is replaced meanwhile
// may have been read twice.
func (l *listing) choose(folder string, names []string) []string {
	all := strings.HasPrefix(folder, l.prefix) && (l.after == "" || folder > l.after)
	names = slices.DeleteFunc(names, func(name string) bool {
		return isSilly(name) || !all && !l.wants(folder+name) || storage.CheckKey(strings.TrimSuffix(name, "/")) != nil
	})
	slices.Sort(names)
	return slices.Compact(names)
}

// wants reports whether key, or something under it if it is a folder, may be asked for.
func (l *listing) wants(key string) bool {
	if strings.HasSuffix(key, "/") {
		return (strings.HasPrefix(key, l.prefix) || strings.HasPrefix(l.prefix, key)) &&
			(key > l.after || strings.HasPrefix(l.after, key))
	}
	return strings.HasPrefix(key, l.prefix) && key > l.after
}

// info describes an object by its name in an open folder, without its Rev.
func (l *listing) info(dir *os.File, name, key string) (storage.Info, error) {
	if err := l.ctx.Err(); err != nil {
		return storage.Info{}, err
	}
	if l.keysOnly {
		return storage.Info{Key: key}, l.d.flights.settle(l.ctx, key)
	}
	st, err := stat(dir, name)
	if err = cmp.Or(l.d.flights.settle(l.ctx, key), err); err != nil {
		return storage.Info{}, err
	}
	return storage.Info{Key: key, Size: st.Size, ModTime: time.Unix(st.Mtim.Unix())}, nil
}

// stat describes a file in an open folder.
func stat(dir *os.File, name string) (st unix.Stat_t, err error) {
	err = readError(uninterrupted(func() error { return unix.Fstatat(int(dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW) }))
	if err == nil && st.Mode&unix.S_IFMT != unix.S_IFREG {
		err = fs.ErrNotExist
	}
	return st, err
}
