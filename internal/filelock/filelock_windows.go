package filelock

import (
	"errors"
	"os"

	"golang.org/x/sys/windows"
)

// Try locks f without waiting. A locked range can't be read by others on Windows,
// so it is one byte where no data ever is. A directory can't be locked there: that
// is an error.
func Try(f *os.File, shared bool) error {
	how := uint32(windows.LOCKFILE_FAIL_IMMEDIATELY)
	if !shared {
		how |= windows.LOCKFILE_EXCLUSIVE_LOCK
	}
	err := windows.LockFileEx(windows.Handle(f.Fd()), how, 0, 1, 0, far())
	if errors.Is(err, windows.ERROR_LOCK_VIOLATION) || errors.Is(err, windows.ERROR_IO_PENDING) {
		return ErrLocked
	}
	return err
}

// Unlock gives the lock back.
func Unlock(f *os.File) { _ = windows.UnlockFileEx(windows.Handle(f.Fd()), 0, 1, 0, far()) }

func far() *windows.Overlapped { return &windows.Overlapped{OffsetHigh: 1 << 30} }
