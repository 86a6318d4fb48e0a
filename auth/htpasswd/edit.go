package htpasswd

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/crypto/bcrypt"
	"golang.org/x/sys/unix"

	"berth/auth"
)

// cost of the bcrypt hashes that Add makes: a quarter of a second, paid once in five minutes.
const cost = 12

// ErrNoUser is the error of an operation on a user that the file does not have.
var ErrNoUser = errors.New("there is no such user")

// A User is a line of a file.
type User struct {
	Name string
	Kind Kind
	Line int // from 1
}

// Add gives a user a password, in a file that is made if there is none, readable by its owner alone. It reports whether
// the user was there already, and then has the new password only. Comments, order, mode and owner of the file stay. The
// file changes as a whole or not at all, durably, also when several processes edit it.
func Add(path, user, password string) (replaced bool, err error) {
	return add(path, user, password, cost)
}

func add(path, user, password string, cost int) (replaced bool, err error) {
	if err := CheckName(user); err != nil {
		return false, err
	}
	switch {
	case password == "":
		return false, errors.New("the password is empty")
	case bytes.ContainsFunc([]byte(password), func(c rune) bool { return c < ' ' || c == 0x7f }):
		return false, errors.New("the password has a control character, which HTTP Basic authentication cannot carry")
	case len(password) > 72:
		return false, errors.New("the password is longer than 72 bytes, all that bcrypt looks at")
	}
	hash, err := bcrypt.GenerateFromPassword([]byte(password), cost)
	if err != nil {
		return false, fmt.Errorf("hash the password: %w", err)
	}
	line := append([]byte(user+":"), hash...)
	err = edit(path, true, func(data []byte) ([]byte, error) {
		var out []byte
		out, replaced = replace(data, user, append(line, '\n'))
		if !replaced {
			if len(out) > 0 && out[len(out)-1] != '\n' {
				out = append(out, '\n')
			}
			out = append(append(out, line...), '\n')
		}
		return out, nil
	})
	return replaced, err
}

// Remove takes a user out of a file, as carefully as [Add]. Errors match [ErrNoUser] when there is none of that name.
func Remove(path, user string) error {
	return edit(path, false, func(data []byte) ([]byte, error) {
		out, found := replace(data, user, nil)
		if !found {
			return nil, fmt.Errorf("%s: %q: %w", path, user, ErrNoUser)
		}
		return out, nil
	})
}

// List returns the users of a file, in its order. Errors name the line that is malformed.
func List(path string) ([]User, error) {
	t, err := readTable(path)
	if err != nil {
		return nil, err
	}
	users := make([]User, len(t.inFile))
	for i, e := range t.inFile {
		users[i] = User{e.user, e.kind, e.line}
	}
	return users, nil
}

// Check returns nil when a user has a password, and otherwise an error that matches [ErrNoUser] or
// [auth.ErrCredentials].
func Check(path, user, password string) error {
	t, err := readTable(path)
	if err != nil {
		return err
	}
	e := t.byName[user]
	switch {
	case e == nil:
		return fmt.Errorf("%s: %q: %w", path, user, ErrNoUser)
	case len(password) > maxPassword || !e.hash.verify(password):
		return auth.ErrCredentials
	}
	return nil
}

func readTable(path string) (*table, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return parseTable(path, data)
}

// replace puts line in the place of the first line that names the user, removes the others, and reports whether there
// was one.
func replace(data []byte, user string, line []byte) (out []byte, found bool) {
	for old := range bytes.Lines(data) {
		name, _, ok := bytes.Cut(trimEnd(old), []byte(":"))
		switch {
		case !ok || string(name) != user:
			out = append(out, old...)
		case !found:
			out = append(out, line...)
			found = true
		}
	}
	return out, found
}

// edit replaces a file's content by what change makes of it, if that is well-formed, under a lock.
func edit(path string, create bool, change func([]byte) ([]byte, error)) error {
	target, err := filepath.EvalSymlinks(path)
	if errors.Is(err, fs.ErrNotExist) && create {
		target, err = path, nil
	}
	if err != nil {
		return err
	}
	unlock, err := lock(target + ".lock")
	if errors.Is(err, fs.ErrNotExist) {
		return &fs.PathError{Op: "open", Path: filepath.Dir(target), Err: fs.ErrNotExist}
	}
	if err != nil {
		return err
	}
	defer unlock()
	data, err := os.ReadFile(target)
	if err != nil && !(create && errors.Is(err, fs.ErrNotExist)) {
		return err
	}
	if data, err = change(data); err != nil {
		return err
	}
	if len(data) > maxFile {
		return fmt.Errorf("%s: larger than %d bytes", path, maxFile)
	}
	if _, err := parseTable(path, data); err != nil {
		return fmt.Errorf("not changed, since it would be malformed: %w", err)
	}
	return writeFile(target, data)
}

// writeFile replaces a file, durably, by one of the same mode and owner.
func writeFile(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*") // mode 0600
	if err != nil {
		return err
	}
	err = errors.Join(fill(f, path, data), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return syncDir(filepath.Dir(path))
}

func fill(f *os.File, path string, data []byte) error {
	if _, err := f.Write(data); err != nil {
		return err
	}
	old, err := os.Stat(path)
	if err == nil {
		err = keep(f, old)
	} else if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if err != nil {
		return err
	}
	return f.Sync()
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// keep gives f the mode and the owner of the file that it is to replace. Where the owner is another one, only root can.
func keep(f *os.File, old fs.FileInfo) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	was, ok := old.Sys().(*syscall.Stat_t)
	is, ok2 := info.Sys().(*syscall.Stat_t)
	if ok && ok2 && (was.Uid != is.Uid || was.Gid != is.Gid) {
		if err := f.Chown(int(was.Uid), int(was.Gid)); err != nil {
			return fmt.Errorf("keep the owner of the file: %w", err)
		}
	}
	return f.Chmod(old.Mode().Perm())
}

// lock takes the lock of a name, waiting for it. The file of the lock is removed with it.
func lock(name string) (unlock func(), err error) {
	for {
		f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, err
		}
		if err := flock(f); err != nil {
			return nil, errors.Join(fmt.Errorf("lock %s: %w", name, err), f.Close())
		}
		if current, err := os.Stat(name); err == nil {
			if mine, err := f.Stat(); err == nil && os.SameFile(mine, current) {
				return func() { _, _ = os.Remove(name), f.Close() }, nil
			}
		}
		_ = f.Close() // whoever held the lock removed it: this is the lock of nothing
	}
}

func flock(f *os.File) error {
	for {
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != unix.EINTR {
			return err
		}
	}
}
