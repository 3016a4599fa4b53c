package durable

import (
	"errors"
	"os"
	"syscall"
)

func syncDir(dir string) error {
	// There is nothing to sync, but a directory that is not there is a mistake here as elsewhere.
	_, err := os.Stat(dir)
	return err
}

func renameNoReplace(oldpath, newpath string) error {
	from, err := syscall.UTF16PtrFromString(oldpath)
	if err == nil {
		var to *uint16
		if to, err = syscall.UTF16PtrFromString(newpath); err == nil {
			err = syscall.MoveFile(from, to) // unlike os.Rename it does not replace
		}
	}
	if err != nil {
		return &os.LinkError{Op: "rename", Old: oldpath, New: newpath, Err: err}
	}
	return nil
}

func isCrossDevice(err error) bool {
	const errorNotSameDevice = syscall.Errno(17)
	return errors.Is(err, errorNotSameDevice)
}
