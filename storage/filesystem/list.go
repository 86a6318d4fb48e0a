package filesystem

import (
	"context"
	"errors"
	"fmt"
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
	f, err := os.OpenFile(filepath.Join(l.d.objects, folder), os.O_RDONLY|syscall.O_DIRECTORY|syscall.O_NOFOLLOW, 0)
	if isMissing(err) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, classify(err)
	}
	entries, err := f.ReadDir(-1)
	if err != nil && !isMissing(err) {
		return nil, nil, errors.Join(classify(err), f.Close())
	}
	return f, l.names(folder, entries), nil
}

func (l *listing) names(folder string, entries []fs.DirEntry) []string {
	names := make([]string, 0, len(entries))
	all := strings.HasPrefix(folder, l.prefix) && (l.after == "" || folder > l.after)
	for _, e := range entries {
		name := e.Name()
		if e.IsDir() {
			name += "/"
		} else if !e.Type().IsRegular() || isSilly(name) {
			continue
		}
		if (all || l.wants(folder+name)) && storage.CheckKey(e.Name()) == nil {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names) // a file replaced meanwhile may have been read twice
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
	var st unix.Stat_t
	err := uninterrupted(func() error { return unix.Fstatat(int(dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW) })
	if settleErr := l.d.flights.settle(l.ctx, key); settleErr != nil {
		return storage.Info{}, settleErr
	}
	if err != nil {
		return storage.Info{}, readError(err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return storage.Info{}, fs.ErrNotExist
	}
	return storage.Info{Key: key, Size: st.Size, ModTime: time.Unix(st.Mtim.Unix())}, nil
}
