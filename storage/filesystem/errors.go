package filesystem

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	"berth/storage"
)

// classify gives an error of the operating system the class that callers know: full, read-only, or else unavailable, be it an
// input/output error, a lost server or a permission. The class hides the original from errors.Is, so
// that a temporary file that vanished does not read as an object that is not there.
func classify(err error) error {
	switch {
	case err == nil:
		return nil
	case isFull(err):
		return fmt.Errorf("%w: %v", storage.ErrNoSpace, err)
	case errors.Is(err, syscall.EROFS):
		return fmt.Errorf("%w: %v", storage.ErrReadOnly, err)
	case errors.Is(err, storage.ErrUnavailable), errors.Is(err, storage.ErrNoSpace):
		return err
	}
	return fmt.Errorf("%w: %v", storage.ErrUnavailable, err)
}

func isFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// isMissing reports whether a path is not there, be it that one of its folders is a file.
func isMissing(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}

// ambiguous reports whether a change that failed so may have happened all the same, as on a server whose answer was lost.
func ambiguous(err error) bool {
	return errors.Is(err, storage.ErrUnavailable) && !errors.Is(err, storage.ErrReadOnly)
}
