package folder

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
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
			log.Warn("the folder is locked by another process, or by a source of this one that may read the same files: waiting for it to end", "folder", what, "rule", "D5")
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

// openDirs are the folders that this process has locked. Sources of one process share
// a folder if their globs can't match the same file: a program may read the CSV files
// of a folder and its Parquet files.
var openDirs struct {
	sync.Mutex
	list []*openDir
}

// openDir is one lock that is held for one user or several.
type openDir struct {
	f     *os.File
	is    fs.FileInfo
	alone bool
	users []*dirUser
}

// dirUser is one source's part in a lock.
type dirUser struct {
	dir   *openDir
	globs []string
}

// tryLockDir locks the folder itself, so that nothing is left in it: alone for
// those who move files, shared for those who only read; nil, nil means that somebody
// else has it. A file system without such locks (and Windows, for directories) gives an
// empty lock: the state folder's own still keeps a second process of the same pipeline
// out.
func tryLockDir(path string, alone bool, globs []string) (io.Closer, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	is, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	openDirs.Lock()
	defer openDirs.Unlock()
	for _, d := range openDirs.list {
		if os.SameFile(d.is, is) && d.apart(globs) {
			return d.join(alone, globs), f.Close()
		}
	}
	switch err := filelock.Try(f, !alone); {
	case errors.Is(err, filelock.ErrLocked):
		return nil, f.Close()
	case err != nil:
		return io.NopCloser(nil), f.Close()
	}
	d := &openDir{f: f, is: is, alone: alone}
	openDirs.list = append(openDirs.list, d)
	return d.join(alone, globs), nil
}

// apart tells whether no user of d can want a file that one of globs matches.
func (d *openDir) apart(globs []string) bool {
	for _, u := range d.users {
		for _, a := range u.globs {
			for _, b := range globs {
				if mayMeet(a, b) {
					return false
				}
			}
		}
	}
	return true
}

// join adds a user; nil when that needs the folder alone and another process reads it.
func (d *openDir) join(alone bool, globs []string) io.Closer {
	if alone && !d.alone {
		if filelock.Try(d.f, false) != nil {
			_ = filelock.Try(d.f, true) // what it was: a failed exchange may have lost it
			return nil
		}
		d.alone = true
	}
	u := &dirUser{dir: d, globs: globs}
	d.users = append(d.users, u)
	return u
}

// Close gives the lock back when this was its last user.
func (u *dirUser) Close() error {
	openDirs.Lock()
	defer openDirs.Unlock()
	d := u.dir
	d.users = slices.DeleteFunc(d.users, func(o *dirUser) bool { return o == u })
	if len(d.users) > 0 {
		return nil
	}
	openDirs.list = slices.DeleteFunc(openDirs.list, func(o *openDir) bool { return o == d })
	return locked{d.f}.Close()
}

// mayMeet tells whether two globs may match the same path. It looks at the characters
// before the first and behind the last special one, so it may say yes too often.
func mayMeet(a, b string) bool {
	ab, ae := literalEnds(a)
	bb, be := literalEnds(b)
	return (strings.HasPrefix(ab, bb) || strings.HasPrefix(bb, ab)) && (strings.HasSuffix(ae, be) || strings.HasSuffix(be, ae))
}

func literalEnds(glob string) (begin, end string) {
	const special = `*?[]\`
	i := strings.IndexAny(glob, special)
	if i < 0 {
		return glob, glob
	}
	return glob[:i], glob[strings.LastIndexAny(glob, special)+1:]
}

// locked gives its lock back on Close.
type locked struct{ f *os.File }

func (l locked) Close() error {
	filelock.Unlock(l.f)
	return l.f.Close()
}
