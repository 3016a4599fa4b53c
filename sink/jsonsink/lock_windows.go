package jsonsink

import (
	"errors"
	"os"

	"golang.org/x/sys/windows"
)

// lock takes the file for this handle alone. A locked range
// can't be read by others on Windows, so it is one byte where no row ever is.
func lock(f *os.File) error {
	err := windows.LockFileEx(windows.Handle(f.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, far())
	if errors.Is(err, windows.ERROR_LOCK_VIOLATION) {
		return errLocked
	}
	return err
}

func unlock(f *os.File) { _ = windows.UnlockFileEx(windows.Handle(f.Fd()), 0, 1, 0, far()) }

func far() *windows.Overlapped { return &windows.Overlapped{OffsetHigh: 1 << 30} }
