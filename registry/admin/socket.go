package admin

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"
)

// maxPath is the longest path of a socket that every system takes, in bytes, less the mark of one that is being made.
const maxPath = 102

// A Socket is a Unix socket that only the user of this process and root can open.
type Socket struct {
	listener *net.UnixListener
	path     string
	made     fs.FileInfo // the socket, to tell it from one that another process put in its place
	lock     *os.File
}

// Listen makes the socket at a path, and its folder (0700) if that is missing. The folder must belong to the user of this
// process or to root, and nobody else may write to it. A socket that another server listens on is refused; one that a dead
// server left is replaced at once, so that the path is never without one. Servers agree by a lock on the file path+".lock",
// which stays.
func Listen(path string) (*Socket, error) {
	s, err := listen(path)
	if err != nil {
		return nil, fmt.Errorf("listen for commands on %s: %w", path, err)
	}
	return s, nil
}

func listen(path string) (*Socket, error) {
	if len(path) > maxPath {
		return nil, fmt.Errorf("the path has %d bytes, and systems take no more than %d: set http.admin.socket to a shorter one", len(path), maxPath)
	}
	if err := prepareFolder(filepath.Dir(path)); err != nil {
		return nil, err
	}
	lock, err := takeLock(path + ".lock")
	if err != nil {
		return nil, err
	}
	s := &Socket{path: path, lock: lock}
	if err := s.bind(); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return s, nil
}

// prepareFolder makes the folder, or checks that nobody else can put another socket in place of ours.
func prepareFolder(dir string) error {
	if err := os.Mkdir(dir, 0o700); err == nil || !errors.Is(err, fs.ErrExist) {
		return err
	}
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return fmt.Errorf("%s is not a folder", dir)
	}
	if owner := ownerOf(info); owner != os.Geteuid() && owner != 0 {
		return fmt.Errorf("the folder %s belongs to the user number %d, who could replace the socket: give it a folder of its own", dir, owner)
	}
	if info.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("others can write to the folder %s (%v) and replace the socket: give it a folder of its own", dir, info.Mode())
	}
	return nil
}

func ownerOf(info fs.FileInfo) int {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(st.Uid)
	}
	return -1
}

// takeLock opens the lock for reading, since a file that is open for writing keeps a file system from being remounted
// read-only; NFS alone asks for more (flock(2)).
func takeLock(path string) (*os.File, error) {
	f, err := lockAs(os.O_RDONLY, path)
	if errors.Is(err, unix.EBADF) {
		f, err = lockAs(os.O_RDWR, path)
	}
	return f, err
}

func lockAs(access int, path string) (*os.File, error) {
	f, err := os.OpenFile(path, access|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = errInUse
		}
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

var errInUse = errors.New("another server listens there")

// bind makes the socket beside its place, where nobody looks for it, and moves it there once its permissions are right.
func (s *Socket) bind() error {
	if err := checkStale(s.path); err != nil {
		return err
	}
	fresh := s.path + "~"
	if err := os.Remove(fresh); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: fresh, Net: "unix"})
	if err != nil {
		return err
	}
	l.SetUnlinkOnClose(false)
	if err = os.Chmod(fresh, 0o600); err == nil {
		err = os.Rename(fresh, s.path)
	}
	if err == nil {
		s.made, err = os.Lstat(s.path)
	}
	if err != nil {
		return errors.Join(err, l.Close(), os.Remove(fresh))
	}
	s.listener = l
	return nil
}

// checkStale refuses to replace what is not a dead socket: something else, or one of a program that does not know the lock.
func checkStale(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return errors.New("there is something else than a socket")
	}
	c, err := net.DialTimeout("unix", path, time.Second)
	if err != nil {
		return nil
	}
	return errors.Join(errInUse, c.Close())
}

// Path returns where the socket is.
func (s *Socket) Path() string { return s.path }

// Close stops listening and removes the socket, unless another process has put its own there, or the disk has become
// read-only: the next server replaces what a dead one left.
func (s *Socket) Close() error {
	var err error
	if now, statErr := os.Lstat(s.path); statErr == nil && os.SameFile(now, s.made) {
		if err = os.Remove(s.path); errors.Is(err, unix.EROFS) {
			err = nil
		}
	}
	if closeErr := s.listener.Close(); !errors.Is(closeErr, net.ErrClosed) { // Serve closes it, too
		err = errors.Join(err, closeErr)
	}
	return errors.Join(err, s.lock.Close())
}

// Serve serves requests until ctx ends, and lets those that run finish for a second. There is no limit to how long one may
// take: a command waits for as long as its work lasts.
func (s *Socket) Serve(ctx context.Context, h http.Handler, logger logrus.FieldLogger) {
	server := &http.Server{
		Handler: h, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute,
		MaxHeaderBytes: 16 << 10, ConnContext: withPeer, ErrorLog: log.New(complaints{logger}, "", 0),
	}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(s.listener) }()
	select {
	case err := <-failed:
		logger.WithError(err).Error("commands are not served any more")
	case <-ctx.Done():
		ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		if server.Shutdown(ending) != nil {
			_ = server.Close() // what it cannot close is closed by the end of the process
		}
	}
}

// complaints are what net/http logs.
type complaints struct{ log logrus.FieldLogger }

func (w complaints) Write(p []byte) (int, error) {
	w.log.Warn(strings.TrimSpace(string(p)))
	return len(p), nil
}
