//go:build unix && !solaris && !illumos && !aix

package jsonsink

import (
	"errors"
	"os"
	"syscall"
)

// lock takes the file for this open file alone.
func lock(f *os.File) error {
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case errors.Is(err, syscall.EINTR):
			continue
		case errors.Is(err, syscall.EWOULDBLOCK):
			return errLocked
		}
		return err
	}
}

// unlock comes before closing: a child process that is just being started has a
// copy of the file, which would keep the lock for a moment longer.
func unlock(f *os.File) { _ = syscall.Flock(int(f.Fd()), syscall.LOCK_UN) }
