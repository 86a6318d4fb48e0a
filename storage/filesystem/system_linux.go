package filesystem

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// mountedReadOnly is the flag of a file system that takes no changes: statfs(2).
const mountedReadOnly = unix.ST_RDONLY

// renameNew falls back to a link where the file system has no such rename (NFS, and FUSE at times).
func (realSystem) renameNew(from, to string) error {
	err := uninterrupted(func() error {
		return unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
	})
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOSYS), errors.Is(err, unix.ENOTSUP):
		return linkNew(from, to)
	}
	return &os.LinkError{Op: "renameat2", Old: from, New: to, Err: err}
}

func (realSystem) syncAll(root *os.File) error {
	return os.NewSyscallError("syncfs", unix.Syncfs(int(root.Fd())))
}

// alive sets the times of the folder to now, which xfs refuses once it has shut down. That it may be refused for other reasons
// tells nothing.
func (realSystem) alive(root *os.File) error {
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, root.Name(), nil, 0); errors.Is(err, unix.EIO) {
		return os.NewSyscallError("utimensat", err)
	}
	return nil
}

// setTimes sets the times of a file to now, by the clock of whoever keeps it.
func setTimes(path string) error {
	return pathError("utimensat", path, uninterrupted(func() error { return unix.UtimesNanoAt(unix.AT_FDCWD, path, nil, 0) }))
}

const writeAndWait = unix.SYNC_FILE_RANGE_WAIT_BEFORE | unix.SYNC_FILE_RANGE_WRITE | unix.SYNC_FILE_RANGE_WAIT_AFTER

// writeOut has the disk work on all files at once.
func (realSystem) writeOut(files []*os.File) error {
	for _, flags := range []int{unix.SYNC_FILE_RANGE_WRITE, writeAndWait} {
		for _, f := range files {
			err := unix.SyncFileRange(int(f.Fd()), 0, 0, flags)
			if errors.Is(err, unix.EPERM) { // by a seccomp profile
				return fmt.Errorf("%w: sync_file_range: %w", errors.ErrUnsupported, err)
			}
			if err != nil {
				return os.NewSyscallError("sync_file_range", err)
			}
		}
	}
	return nil
}

// startWriteback begins to write n bytes of f from off to the disk. It makes nothing durable.
func startWriteback(f *os.File, off, n int64) error {
	return syncRange(f, off, n, unix.SYNC_FILE_RANGE_WRITE)
}

// waitWriteback waits until n bytes of f from off were written. An error it returns is not reported again by a sync.
func waitWriteback(f *os.File, off, n int64) error {
	return syncRange(f, off, n, writeAndWait)
}

// setDirect has writes to f pass the system's memory by, or go through it again.
func setDirect(f *os.File, on bool) error {
	flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFL, 0)
	if err != nil {
		return os.NewSyscallError("fcntl", err)
	}
	flags &^= unix.O_DIRECT
	if on {
		flags |= unix.O_DIRECT
	}
	_, err = unix.FcntlInt(f.Fd(), unix.F_SETFL, flags)
	return os.NewSyscallError("fcntl", err)
}

func syncRange(f *os.File, off, n int64, flags int) error {
	err := unix.SyncFileRange(int(f.Fd()), off, n, flags)
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPERM) || errors.Is(err, unix.ESPIPE) {
		return nil // merely a hint
	}
	return os.NewSyscallError("sync_file_range", err)
}

// traitsOf finds out about the file system of an open folder; what cannot be found out does not hold.
//
// ext4 with a journal and xfs commit changes of folders in their order. What a file has written out they count as written
// once its blocks are its own (ext4_end_io_end, xfs_end_ioend), which is a change before a later rename; and a commit has the
// disk flush its cache first. syncfs(2) reports errors of data since Linux 5.8, and errors of the journal since 5.17 (kernel
// commit 5679897eb104). Of a folder whose last change is not waiting to be logged, xfs says without a look that it is synced, and
// a log that was shut down lets go of what was waiting (xfs_dir_fsync, xfs_log_force_inode).
func traitsOf(root *os.File) traits {
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(root.Fd()), &st); err != nil {
		return traits{}
	}
	switch uint32(st.Type) {
	case unix.TMPFS_MAGIC:
		return traits{orders: true, syncsWhole: true} // nothing survives a crash
	case unix.XFS_SUPER_MAGIC:
		return traits{orders: true, syncsWhole: kernelAtLeast(5, 17), unaware: true, direct: true}
	case unix.NFS_SUPER_MAGIC:
		return traits{cachesNames: true}
	case unix.EXT4_SUPER_MAGIC: // also of ext2 and ext3
		journal := hasJournal(root)
		return traits{orders: journal, syncsWhole: journal && kernelAtLeast(5, 17), direct: true}
	}
	return traits{}
}

// hasJournal reports whether ext4 has a journal on its own device, of which a commit has that device flush its cache: those are
// listed in proc by the device and the journal's inode, those on another device by that alone. sysfs is no help: it has a
// journal_task for all, which may say that there is none.
func hasJournal(root *os.File) bool {
	var st unix.Stat_t
	if err := unix.Fstat(int(root.Fd()), &st); err != nil {
		return false
	}
	device, err := os.Readlink(fmt.Sprintf("/sys/dev/block/%d:%d", unix.Major(st.Dev), unix.Minor(st.Dev)))
	if err != nil {
		return false
	}
	journals, err := os.ReadDir("/proc/fs/jbd2")
	return err == nil && slices.ContainsFunc(journals, func(j fs.DirEntry) bool {
		inode, ok := strings.CutPrefix(j.Name(), filepath.Base(device)+"-")
		_, err := strconv.ParseUint(inode, 10, 32)
		return ok && err == nil
	})
}

func kernelAtLeast(major, minor int) bool {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return false
	}
	var x, y int
	if n, _ := fmt.Sscanf(unix.ByteSliceToString(name.Release[:]), "%d.%d", &x, &y); n != 2 {
		return false
	}
	return x > major || x == major && y >= minor
}
