package lake

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"syscall"
	"time"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/durable"
	"github.com/leatgo/leat/internal/failpoint"
)

// writer is a member: it writes entries of its owner.
type writer struct {
	*lake
	owner  owner
	ext    string // of its files
	member string
	lock   *os.File
	alone  *os.File // the lock of an owner that is one member at a time
	st     *state
	tmps   int // temporary names used up
	living int // other members that were alive in recover
}

// begin makes a member of an owner and reads the manifest.
func (l *lake) begin(o owner, ext string) (_ *writer, err error) {
	w := &writer{lake: l, owner: o, ext: ext}
	if err := l.ensureDir(leatDir); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.end())
		}
	}()
	if o == compactor {
		if w.alone, err = l.lockFile(lockName(o, veteran)); errors.Is(err, errTaken) {
			return nil, leat.Transient(fmt.Errorf("%s is being compacted already (%s is locked)", l.dir, l.abs(lockName(o, veteran))))
		} else if err != nil {
			return nil, err
		}
	}
	if err := w.join(); err != nil {
		return nil, err
	}
	if w.st, err = l.load(); err != nil {
		return nil, err
	}
	return w, nil
}

// end gives back what begin has taken.
func (w *writer) end() error {
	err := w.leave()
	if w.alone != nil {
		err = errors.Join(err, w.dropLock(lockName(w.owner, veteran), w.alone))
		w.alone = nil
	}
	return err
}

// nextTmp is a new temporary name.
func (w *writer) nextTmp() string {
	w.tmps++
	return tmpName(w.owner, w.member, w.tmps)
}

// inPlace makes sure that the root is still the folder of its path, which is synced by it.
func (l *lake) inPlace() error {
	opened, err := l.root.Stat(".")
	if err != nil {
		return err
	}
	if there, err := os.Stat(l.dir); err != nil || !os.SameFile(opened, there) {
		return errors.Join(fmt.Errorf("%s is not the folder any more that was opened", l.dir), err)
	}
	return nil
}

// ensureDir makes a folder under the root, with durable names. It never leaves
// the root, symlinks included (rule F6).
func (l *lake) ensureDir(dir string) error {
	if info, err := l.root.Stat(dir); err == nil && info.IsDir() {
		return nil
	}
	for i := 0; i <= len(dir); i++ {
		if i < len(dir) && dir[i] != '/' {
			continue
		}
		switch err := l.root.Mkdir(dir[:i], 0o755); {
		case err == nil:
			if err := durable.SyncDir(l.abs(path.Dir(dir[:i]))); err != nil {
				return err
			}
		case errors.Is(err, fs.ErrExist):
			if info, err := l.root.Stat(dir[:i]); err != nil {
				return err
			} else if !info.IsDir() {
				return fmt.Errorf("%s is in the way: it is not a folder", l.abs(dir[:i]))
			}
		default:
			return err
		}
	}
	return nil
}

// writeTmp writes a whole small file, synced, under a temporary name.
func (w *writer) writeTmp(b []byte) (name string, err error) {
	name = w.nextTmp()
	f, err := w.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return "", err
	}
	_, err = w.hook.write(f, b)
	if err == nil {
		err = w.hook.sync(f)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		_ = w.root.Remove(name)
		return "", err
	}
	return name, nil
}

// newEntry begins an entry of this owner.
func (w *writer) newEntry(k kind) *entry {
	return &entry{Version: version, Kind: k, ID: rand.Text(), Owner: w.owner, Time: time.Now().UTC()}
}

// planned is where a finished file is to go.
type planned struct {
	dir   string
	first leat.Offset
}

// name gives the files of e their final names, by the entry that comes next.
func (w *writer) name(e *entry, plans []planned) error {
	if _, err := w.catchUp(w.st); err != nil {
		return err
	}
	prefix := filePrefix(string(w.owner.Pipeline))
	if w.owner == compactor {
		prefix = "compact"
	}
	taken := map[string]bool{}
	for i, p := range plans {
		for n := 1; ; n++ {
			name := path.Join(p.dir, finalName(prefix, w.st.seq+1, p.first, n, w.ext))
			if taken[name] {
				continue
			}
			there, err := w.exists(name)
			if err != nil {
				return err
			}
			if !there {
				taken[name] = true
				e.Files[i].Path = name
				break
			}
		}
	}
	return nil
}

// errNotCurrent: what e builds on has gone meanwhile.
var errNotCurrent = errors.New("the lake has changed in a way that this can't follow")

// publish makes e the next entry of the manifest: the commit point (rule F1). Its
// files are whole and synced, under their temporary names. leat.ErrFenced means that
// nothing of it will happen any more.
//
// After any other error it is not known whether e has been published, or will be: the
// recovery of the next begin finds out (rule E4).
func (w *writer) publish(e *entry) error {
	var pending string // its name, once there is one
	for {
		came, err := w.catchUp(w.st)
		if err != nil {
			return err
		}
		if slices.ContainsFunc(came, func(c *entry) bool { return c.ID == e.ID }) {
			break // one that took this member for dead has rolled it forward
		}
		own := w.st.of(w.owner)
		switch e.Kind {
		case kindTakeover:
			for i := range e.Positions {
				m := &e.Positions[i]
				m.Epoch = own.of(string(m.Partition)).epoch + 1
			}
		case kindCommit:
			if partitions, why := own.fenced(e); why != nil { // rule E3
				if pending != "" {
					w.withdraw(e, pending)
				}
				return fmt.Errorf("%w: %w", leat.Fenced(partitions...), why)
			}
		}
		e.Seq, e.Version = w.st.seq+1, version
		before := w.st.last
		if err := w.st.check(e); err != nil {
			return fmt.Errorf("%w: %w", errNotCurrent, err)
		}
		if err := w.renumber(e); err != nil {
			return err
		}
		b, err := seal(e)
		if err != nil {
			return err
		}
		name, err := w.writeTmp(b)
		if err != nil {
			return err
		}
		if len(e.Files) > 0 {
			pending = pendingName(w.owner, w.member)
			if err := w.root.Rename(name, pending); err != nil {
				return err
			}
			name = pending
			if err := durable.SyncDir(w.abs(leatDir)); err != nil {
				return err
			}
			if err := failpoint.Hit("lake/pending-written"); err != nil {
				return err
			}
			collided, err := w.place(e)
			if err != nil {
				return err
			}
			if collided {
				continue // under other names
			}
		}
		if err := failpoint.Hit("lake/before-entry"); err != nil {
			return err
		}
		if err := w.inPlace(); err != nil {
			return err
		}
		// Compare-and-set (rule E3): only one writer gets this number. It is a second name of
		// the pending entry, which stays until it is known that this is the end of the chain.
		err = w.link(name, entryName(e.Seq))
		if errors.Is(err, fs.ErrExist) {
			if len(e.Files) == 0 {
				_ = w.root.Remove(name)
			}
			continue
		}
		if errors.Is(err, fs.ErrNotExist) {
			continue // one that took this member for dead has settled the pending entry
		}
		if err == nil {
			err = durable.SyncDir(w.abs(leatDir))
		}
		if err != nil {
			return err
		}
		if err := failpoint.Hit("lake/after-entry"); err != nil {
			return err
		}
		// The number may have been free because so much has come meanwhile that its
		// entry was tidied away. Then the one before is gone too.
		ok, err := w.endsAt(e.Seq-1, before)
		if err != nil {
			return err
		}
		if len(e.Files) == 0 {
			_ = w.root.Remove(name)
		}
		if ok {
			w.st.apply(e, len(b))
			break
		}
		published, err := w.overtaken(e)
		if err != nil {
			return err
		}
		if published {
			break
		}
	}
	if pending != "" {
		_ = w.root.Remove(pending)
	}
	for _, f := range e.Files { // now the second names of files
		_ = w.root.Remove(f.Tmp)
	}
	return nil
}

// overtaken tells, of an entry that was written while others went far ahead, whether
// it is in the chain: its number was free as long as nobody had used it, and again once
// that entry was tidied away.
func (w *writer) overtaken(e *entry) (published bool, err error) {
	now, err := w.load()
	if err != nil {
		return false, err
	}
	switch e.Kind {
	case kindReplace:
		published = now.isLive(e.Files[0].Path)
	case kindCommit:
		// Nobody else moves a partition in its epoch, so one that has come there tells. If
		// all epochs have ended, the next look finds out that the member is fenced. Where rows came
		// again no partition moves: then the files tell.
		own := now.of(w.owner)
		published = slices.ContainsFunc(e.Positions, func(m movement) bool {
			return (m.From == nil || *m.From != *m.To) && own.of(string(m.Partition)) == held{m.Epoch, true, m.To.leat()}
		}) || len(e.Files) > 0 && now.isLive(e.Files[0].Path)
	} // of a takeover it can't be told, and one more does no harm
	keep, err := w.keeps()
	if err != nil {
		return false, err
	}
	if e.Seq <= keep { // nobody reads it there
		if err := w.root.Remove(entryName(e.Seq)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return false, err
		}
	}
	if w.st.lite {
		now.forget()
	}
	w.st = now
	return published, nil
}

// withdraw takes back a commit that was fenced under way. What it does not manage is left
// to the recovery of the next begin.
func (w *writer) withdraw(e *entry, pending string) {
	now, err := w.load()
	if err != nil {
		return
	}
	if w.takeBack(now, e) == nil {
		_ = w.root.Remove(pending)
	}
}

// renumber puts the number of e into the names of its files. One that had been named for
// an earlier entry might get the name of a file that was there meanwhile and has been
// replaced, and be deleted in its stead.
func (w *writer) renumber(e *entry) error {
	for i := range e.Files {
		f := &e.Files[i]
		name := renumbered(f.Path, e.Seq)
		if name == f.Path {
			continue
		}
		if err := w.unplace(f); err != nil {
			return err
		}
		f.Path = name
	}
	return nil
}

// place gives the files of e their final names, durably. It never replaces a
// file: when one is in the way, the files of e get other names and none is in
// place.
func (w *writer) place(e *entry) (collided bool, err error) {
	var dirs []string
	for i := range e.Files {
		f := &e.Files[i]
		dir := path.Dir(f.Path)
		if !slices.Contains(dirs, dir) {
			if err := w.ensureDir(dir); err != nil {
				return false, err
			}
			dirs = append(dirs, dir)
		}
		err := w.link(f.Tmp, f.Path)
		switch {
		case errors.Is(err, fs.ErrExist):
			there, err := w.whole(f)
			if err != nil {
				return false, err
			}
			if there == atPath {
				break
			}
			for j := range i {
				if err := w.unplace(&e.Files[j]); err != nil {
					return false, err
				}
			}
			return true, w.rename(e, i)
		case errors.Is(err, fs.ErrNotExist):
			if there, err2 := w.whole(f); err2 != nil || there != atPath {
				return false, errors.Join(err, err2)
			}
		case err != nil:
			return false, err
		}
		if err := failpoint.Hit("lake/renamed"); err != nil {
			return false, err
		}
	}
	for _, dir := range dirs {
		if err := durable.SyncDir(w.abs(dir)); err != nil {
			return false, err
		}
	}
	return false, nil
}

// rename finds another name for file i of e. Its extension is not always that of w,
// which may be there to settle what an older program or another format has left.
func (w *writer) rename(e *entry, i int) error {
	stem, ext := splitFinal(e.Files[i].Path)
	for n := 2; ; n++ {
		name := fmt.Sprintf("%s.%d%s", stem, n, ext)
		there, err := w.exists(name)
		if err != nil {
			return err
		}
		if !there && !slices.ContainsFunc(e.Files, func(f file) bool { return f.Path == name }) {
			e.Files[i].Path = name
			return nil
		}
	}
}

// link gives a file a second name. Where there are no hard links it is a rename;
// then the temporary name is gone, which recovery copes with.
func (w *writer) link(tmp, name string) error {
	err := w.hook.link(w.root, tmp, name)
	if err == nil || !errors.Is(err, errors.ErrUnsupported) && !errors.Is(err, fs.ErrPermission) {
		if errors.Is(err, syscall.EXDEV) {
			return fmt.Errorf("the folders of %s must be on one file system: %w", w.dir, err)
		}
		return err
	}
	if err2 := durable.RenameNoReplace(w.abs(tmp), w.abs(name)); err2 != nil {
		if errors.Is(err2, fs.ErrExist) {
			return err2
		}
		return errors.Join(err, err2)
	}
	return nil
}

// where tells under which name a file of a pending entry is whole.
type where uint8

const (
	nowhere where = iota
	atTmp
	atPath
)

// look finds a file of a pending entry under its two names; nil where it is not.
func (w *writer) look(f *file) (tmp, final fs.FileInfo, err error) {
	if tmp, err = w.root.Lstat(f.Tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, err
	}
	if final, err = w.root.Lstat(f.Path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, err
	}
	return tmp, final, nil
}

// whole tells under which name a file of a pending entry can be had.
func (w *writer) whole(f *file) (where, error) {
	tmp, final, err := w.look(f)
	if err != nil {
		return nowhere, err
	}
	switch {
	case tmp != nil && tmp.Size() != f.Bytes:
		return nowhere, nil
	case tmp != nil && (final == nil || !os.SameFile(tmp, final)):
		return atTmp, nil
	case final == nil || !final.Mode().IsRegular() || final.Size() != f.Bytes:
		return nowhere, nil
	}
	if tmp == nil { // it was renamed; or it never got this name, and the file is somebody else's
		sum, err := w.sum(f.Path)
		if err != nil || sum != f.Checksum {
			return nowhere, err
		}
	}
	return atPath, nil
}

// unplace takes the final name off a file that is not committed.
func (w *writer) unplace(f *file) error {
	switch there, err := w.whole(f); {
	case err != nil || there != atPath:
		return err
	}
	if there, err := w.exists(f.Tmp); err != nil {
		return err
	} else if !there { // it was renamed
		return os.Rename(w.abs(f.Path), w.abs(f.Tmp))
	}
	return w.root.Remove(f.Path)
}

// tidy writes a snapshot when one is due and deletes what it made superfluous
// (rule F7). Nothing depends on it, so it is tried again after later commits when
// it fails.
func (w *writer) tidy() error {
	if !w.snapshotDue(w.st) {
		return nil
	}
	full, err := w.load()
	if err != nil {
		return err
	}
	if !w.snapshotDue(full) { // another owner was quicker
		full.forget()
		w.st = full
		return nil
	}
	sum, err := w.summary(full)
	if err != nil {
		return err
	}
	b, err := seal(sum)
	if err != nil {
		return err
	}
	tmp, err := w.writeTmp(b)
	if err != nil {
		return err
	}
	// Who writes a snapshot of the same entry at the same time writes the same.
	if err := durable.Rename(w.abs(tmp), w.abs(snapshotName(full.seq))); err != nil {
		return err
	}
	w.st.entries, w.st.bytes, w.st.base = int(w.st.seq-full.seq), 0, int64(len(b))
	if err := failpoint.Hit("lake/snapshot-written"); err != nil {
		return err
	}
	return w.retire()
}

// keeps is the last entry that nobody reads any more: the snapshot before the newest
// says what it did. 0 when there is none.
func (l *lake) keeps() (int64, error) {
	names, err := l.list()
	if err != nil {
		return 0, err
	}
	var newest, before int64
	for _, name := range names {
		if seq := seqOf(name, snapshotExt); seq > newest {
			newest, before = seq, newest
		} else {
			before = max(before, seq)
		}
	}
	return before, nil
}

// retire deletes what is older than the snapshot before the newest, so that
// readers who have begun there come to an end.
func (w *writer) retire() error {
	keep, err := w.keeps()
	if err != nil || keep == 0 {
		return err
	}
	names, err := w.list()
	if err != nil {
		return err
	}
	slices.Sort(names) // entries are deleted in order: endsAt relies on it
	for _, name := range names {
		entry, snap := seqOf(name, entryExt), seqOf(name, snapshotExt)
		if (entry == 0 || entry > keep) && (snap == 0 || snap >= keep) {
			continue
		}
		if err := failpoint.Hit("lake/before-delete"); err != nil {
			return err
		}
		if err := w.root.Remove(path.Join(leatDir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
