package lake

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/filelock"
)

// A member is one life of one sink: several of one owner may write at a time, as the
// processes of a consumer group do, each the partitions that it has taken over. What
// is a member's own bears its id: its lock, its temporary files, its pending entry.
// Whoever gets the lock of another one knows that this one is dead, and clears up after
// it (rule F5).

// veteran stands for whoever wrote in version 1: an owner was one process then, and
// its names have no id in them.
const veteran = ""

const memberLen = 14

// newMember is an id that nobody else has. The letter in front keeps it from being a
// number, which stood in its place in version 1.
func newMember() string { return "m" + rand.Text()[:memberLen-1] }

func isMember(s string) bool {
	return len(s) == memberLen && s[0] == 'm' && strings.Trim(s[1:], "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") == ""
}

// errTaken: the lock is another's.
var errTaken = errors.New("another has the lock")

// lockFile locks the file of that name, which is made if it is missing. The file may be
// deleted by whoever held the lock before; to have locked such a one is to have
// nothing.
func (l *lake) lockFile(name string) (*os.File, error) {
	f, err := l.root.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	if err := filelock.Try(f, false); errors.Is(err, filelock.ErrLocked) {
		return nil, errors.Join(errTaken, f.Close())
	} else if err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", l.abs(name), err), f.Close())
	}
	mine, err := f.Stat()
	if err == nil {
		var there fs.FileInfo
		if there, err = l.root.Lstat(name); errors.Is(err, fs.ErrNotExist) || err == nil && !os.SameFile(mine, there) {
			err = errTaken
		}
	}
	if err != nil {
		filelock.Unlock(f)
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// dropLock gives a lock back and deletes its file: first, so that nobody gets the lock
// of a file that goes away; and once more for systems where an open file stays.
func (l *lake) dropLock(name string, f *os.File) error {
	gone := l.root.Remove(name)
	filelock.Unlock(f)
	err := f.Close()
	if gone != nil {
		_ = l.root.Remove(name)
	}
	return err
}

// join makes w a member.
func (w *writer) join() error {
	for {
		id := newMember()
		lock, err := w.lockFile(lockName(w.owner, id))
		if errors.Is(err, errTaken) { // by one that saw the file before it was locked, and takes it for a dead one's
			continue
		}
		if err != nil {
			return err
		}
		w.member, w.lock = id, lock
		return nil
	}
}

// leave ends the membership. What a commit whose end is not known has left is
// for the next one that opens the lake.
func (w *writer) leave() error {
	if w.lock == nil {
		return nil
	}
	err := w.dropLock(lockName(w.owner, w.member), w.lock)
	w.lock = nil
	return err
}

// recover brings every commit of a dead member of this owner to where it has
// happened or not, and deletes what they left behind (rules F1, F5). Nothing of a living
// one, or of another owner, is touched.
//
// One member does it at a time, so that no two carry out the same commit; another one
// goes on without. What is carried out later than it takes a partition over is
// fenced (rule E3), as if it had not been there.
func (w *writer) recover() (err error) {
	if w.alone == nil {
		lock, err2 := w.lockFile(recoveryName(w.owner))
		if errors.Is(err2, errTaken) {
			w.living++
			return w.noVeteran()
		} else if err2 != nil {
			return err2
		}
		defer func() { err = errors.Join(err, w.dropLock(recoveryName(w.owner), lock)) }()
		if err := w.noVeteran(); err != nil {
			return err
		}
	}
	names, err := w.list()
	if err != nil {
		return err
	}
	var members []string
	for _, name := range names {
		if m, _, ok := splitOwn(name, w.owner); ok && m != w.member && !slices.Contains(members, m) {
			members = append(members, m)
		}
	}
	slices.Sort(members)
	for _, m := range members {
		if m == veteran && w.alone != nil { // its lock is this one's
			if err := w.clear(m); err != nil {
				return err
			}
			continue
		}
		lock, err := w.lockFile(lockName(w.owner, m))
		if errors.Is(err, errTaken) {
			w.living++
			continue
		} else if err != nil {
			return err
		}
		err = w.clear(m)
		if err := errors.Join(err, w.dropLock(lockName(w.owner, m), lock)); err != nil {
			return err
		}
	}
	return nil
}

// noVeteran waits for a process of version 1, which knows nothing of members.
func (w *writer) noVeteran() error {
	name := lockName(w.owner, veteran)
	if there, err := w.exists(name); err != nil || !there {
		return err
	}
	lock, err := w.lockFile(name)
	if errors.Is(err, errTaken) {
		return leat.Transient(fmt.Errorf("%s is being written by %s with an older leat, or what that has left is being cleared up (%s is locked)", w.dir, w.owner, w.abs(name)))
	} else if err != nil {
		return err
	}
	filelock.Unlock(lock)
	return lock.Close()
}

// clear settles what a dead member has left. Its lock is held.
func (w *writer) clear(member string) error {
	names, err := w.list()
	if err != nil {
		return err
	}
	slices.Sort(names)
	slices.Reverse(names) // of several pending entries of version 1 the last is the one that counts
	var tmps []string
	for _, name := range names {
		switch m, ext, ok := splitOwn(name, w.owner); {
		case !ok || m != member:
		case ext == pendingExt:
			if err := w.settle(path.Join(leatDir, name)); err != nil {
				return err
			}
		case ext == tmpExt:
			tmps = append(tmps, name)
		}
	}
	for _, name := range tmps {
		if err := w.root.Remove(path.Join(leatDir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
