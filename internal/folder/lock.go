package folder

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/leatgo/leat/internal/filelock"
)

const lockFile = "lock"

// lockPoll is how often a waiting process looks whether the folder is free.
const lockPoll = 100 * time.Millisecond

// waitLock takes a lock, waiting until ctx ends (rule D5: a second process says so
// and waits). try returns nil, nil when another process has it.
func waitLock(ctx context.Context, log *slog.Logger, what string, try func() (io.Closer, error)) (io.Closer, error) {
	said := false
	tick := time.NewTicker(lockPoll)
	defer tick.Stop()
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		c, err := try()
		if err != nil {
			return nil, fmt.Errorf("folder: lock %s: %w", what, err)
		}
		if c != nil {
			if said {
				log.Info("the folder is free now", "folder", what)
			}
			return c, nil
		}
		if !said {
			said = true
			log.Warn("the folder is locked by another process: waiting for it to end", "folder", what, "rule", "D5")
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
}

// tryLock locks a file of our own, creating it; nil, nil means that another
// process has it.
func tryLock(path string) (io.Closer, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	switch err := filelock.Try(f, false); {
	case errors.Is(err, filelock.ErrLocked):
		return nil, f.Close()
	case err != nil:
		return nil, errors.Join(err, f.Close())
	}
	return locked{f}, nil
}

// tryLockDir locks the folder itself, so that nothing is left in it: alone for
// those who move files, shared for those who only read. A file system without such
// locks (and Windows, for directories) gives an empty lock: the state folder's own
// still keeps a second process of the same pipeline out.
func tryLockDir(path string, alone bool) (io.Closer, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	switch err := filelock.Try(f, !alone); {
	case errors.Is(err, filelock.ErrLocked):
		return nil, f.Close()
	case err != nil:
		return io.NopCloser(nil), f.Close()
	}
	return locked{f}, nil
}

// locked gives its lock back on Close.
type locked struct{ f *os.File }

func (l locked) Close() error {
	filelock.Unlock(l.f)
	return l.f.Close()
}
