package folder

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// renameNew renames in one step and never overwrites. Unlike durable.RenameNoReplace
// it leaves the syncing of the directories to the caller, who moves many files.
func renameNew(src, path string) error {
	for {
		err := unix.Renameat2(unix.AT_FDCWD, src, unix.AT_FDCWD, path, unix.RENAME_NOREPLACE)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOSYS), errors.Is(err, unix.ENOTSUP):
			return errNoRename
		default:
			return &os.LinkError{Op: "rename", Old: src, New: path, Err: err}
		}
	}
}
