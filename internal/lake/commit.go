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
	"github.com/leatgo/leat/internal/filelock"
)

// writer is an owner with its lock: it writes entries.
type writer struct {
	*lake
	owner owner
	ext   string // of its files
	epoch int64
	lock  *os.File
	st    *state
	tmps  int // temporary names used up in this epoch
}

// begin locks the lake for an owner and reads the manifest.
func (l *lake) begin(o owner, ext string) (_ *writer, err error) {
	w := &writer{lake: l, owner: o, ext: ext}
	if err := l.ensureDir(leatDir); err != nil {
		return nil, err
	}
	if w.lock, err = l.root.OpenFile(lockName(o), os.O_RDWR|os.O_CREATE, 0o644); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			w.end()
		}
	}()
	if err := filelock.Try(w.lock, false); errors.Is(err, filelock.ErrLocked) {
		locked := w.lock
		w.lock = nil
		return nil, leat.Transient(errors.Join(fmt.Errorf("%s is being written by %s in another process, or by another sink of this one (%s is locked)", l.dir, o, l.abs(lockName(o))), locked.Close()))
	} else if err != nil {
		return nil, fmt.Errorf("lock %s: %w", l.abs(lockName(o)), err)
	}
	if w.st, err = l.load(); err != nil {
		return nil, err
	}
	w.epoch = w.st.of(o).epoch
	return w, nil
}

func (w *writer) end() error {
	if w.lock == nil {
		return nil
	}
	filelock.Unlock(w.lock)
	err := w.lock.Close()
	w.lock = nil
	return err
}

// nextTmp is a new temporary name.
func (w *writer) nextTmp() string {
	w.tmps++
	return tmpName(w.owner, w.epoch, w.tmps)
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
	var f *os.File
	for { // recovery works with names of the epoch before, of which some are taken
		name = w.nextTmp()
		if f, err = w.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644); err == nil {
			break
		}
		if !errors.Is(err, fs.ErrExist) {
			return "", err
		}
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
	return &entry{Version: version, Kind: k, ID: rand.Text(), Epoch: w.epoch, Owner: w.owner, Time: time.Now().UTC()}
}

// planned is where a finished file is to go.
type planned struct {
	dir   string
	first leat.Offset
}

// name gives the files of e their final names. The number in them is that of the
// entry, unless another owner takes it in the last moment.
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
// files are whole and synced, under their temporary names.
//
// After an error it is not known whether e has been published, or will be: the
// recovery of the next begin finds out (rule E4).
func (w *writer) publish(e *entry) error {
	var pending string // its name, once there is one
	for {
		came, err := w.catchUp(w.st)
		if err != nil {
			return err
		}
		own := w.st.of(w.owner)
		if own.last == e.ID || slices.ContainsFunc(came, func(c *entry) bool { return c.ID == e.ID }) {
			break // a new owner has rolled it forward
		}
		switch e.Kind {
		case kindTakeover:
			e.Epoch = own.epoch + 1
		case kindCommit:
			if own.epoch != e.Epoch { // rule E3
				return fmt.Errorf("%w: %s has begun epoch %d, and this is epoch %d", leat.ErrFenced, w.owner, own.epoch, e.Epoch)
			}
		}
		e.Seq = w.st.seq + 1
		if err := w.st.check(e); err != nil {
			return fmt.Errorf("%w: %w", errNotCurrent, err)
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
			before := pending
			pending = pendingName(e.Seq, w.owner)
			if err := w.root.Rename(name, pending); err != nil {
				return err
			}
			name = pending
			if err := durable.SyncDir(w.abs(leatDir)); err != nil {
				return err
			}
			if before != "" && before != pending {
				_ = w.root.Remove(before) // left behind, it is found to be superfluous
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
		// Compare-and-set (rule E3): only one writer gets this number.
		err = durable.RenameNoReplace(w.abs(name), w.abs(entryName(e.Seq)))
		if errors.Is(err, fs.ErrExist) {
			if len(e.Files) == 0 {
				_ = w.root.Remove(name)
			}
			continue
		}
		if errors.Is(err, fs.ErrNotExist) {
			if there, err2 := w.exists(name); err2 != nil || there { // under the open root, and not under its path
				return errors.Join(fmt.Errorf("%s is not the folder any more that was opened: %w", w.dir, err), err2)
			}
			continue // a new owner has found the pending entry, and settled it
		}
		if err != nil {
			return err
		}
		pending = ""
		if err := failpoint.Hit("lake/after-entry"); err != nil {
			return err
		}
		// The number may have been free because so much has come meanwhile that its
		// entry was tidied away. Then the one before is gone too.
		ok, err := w.endsAt(e.Seq - 1)
		if err != nil {
			return err
		}
		if ok {
			w.st.apply(e, len(b))
			break
		}
		now, err := w.load()
		if err != nil {
			return err
		}
		if now.of(w.owner).last != e.ID {
			if err := w.root.Remove(entryName(e.Seq)); err != nil { // nobody reads it there
				return err
			}
		}
		if w.st.lite {
			now.forget()
		}
		w.st = now
	}
	if pending != "" {
		_ = w.root.Remove(pending)
	}
	for _, f := range e.Files { // now the second names of files
		_ = w.root.Remove(f.Tmp)
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

// whole tells under which name a file of a pending entry can be had. Of a file
// that has its final name and no other, only the size can be judged.
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
	case final != nil && final.Mode().IsRegular() && final.Size() == f.Bytes:
		return atPath, nil
	}
	return nowhere, nil
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

// retire deletes what is older than the snapshot before the newest, so that
// readers who have begun there come to an end.
func (w *writer) retire() error {
	names, err := w.list()
	if err != nil {
		return err
	}
	var snapshots []int64
	for _, name := range names {
		if seq := seqOf(name, snapshotExt); seq > 0 {
			snapshots = append(snapshots, seq)
		}
	}
	if len(snapshots) < 2 {
		return nil
	}
	slices.Sort(snapshots)
	keep := snapshots[len(snapshots)-2]
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
