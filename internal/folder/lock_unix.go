//go:build unix && !solaris && !aix

package folder

import (
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// tryLock locks a file of our own, creating it; nil, nil means that another
// process has it. The lock ends with the process.
func tryLock(path string) (io.Closer, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	return flock(f, unix.LOCK_EX)
}

// tryLockDir locks the folder itself, so that nothing is left in it: alone for
// those who move files, shared for those who only read. A file system without such
// locks gives an empty lock: the state folder's own still keeps a second process of
// the same pipeline out.
func tryLockDir(path string, alone bool) (io.Closer, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	how := unix.LOCK_SH
	if alone {
		how = unix.LOCK_EX
	}
	c, err := flock(f, how)
	if err != nil {
		return io.NopCloser(nil), nil
	}
	return c, nil
}

func flock(f *os.File, how int) (io.Closer, error) {
	for {
		err := unix.Flock(int(f.Fd()), how|unix.LOCK_NB)
		switch {
		case err == nil:
			return f, nil
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EWOULDBLOCK):
			return nil, f.Close()
		}
		return nil, errors.Join(err, f.Close())
	}
}

// nonBlock keeps the opening of a FIFO from waiting for a writer.
const nonBlock = unix.O_NONBLOCK
