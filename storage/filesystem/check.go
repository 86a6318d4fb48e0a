package filesystem

import (
	"errors"
	"io/fs"
)

// Check returns an error for a folder whose content [Open] would refuse. It writes nothing and waits for nobody; one that is not
// there is not refused.
func Check(root string) error { return check(root, kindFilesystem) }

// CheckEmptyDir is as Check, for [OpenEmptyDir].
func CheckEmptyDir(root string) error { return check(root, kindEmptyDir) }

func check(root, kind string) error {
	err := checkRoot(root, kind)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
