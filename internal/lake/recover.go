package lake

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/leatgo/leat/internal/durable"
)

// recover brings the lake to where every commit of this owner has happened or
// not, and deletes what it left behind (rules F1, F5). Nothing of another owner is
// touched.
func (w *writer) recover() error {
	names, err := w.list()
	if err != nil {
		return err
	}
	slices.Sort(names)
	slices.Reverse(names) // of several pending entries the last is the one that counts
	for _, name := range names {
		if !isPendingOf(name, w.owner) {
			continue
		}
		if err := w.settle(path.Join(leatDir, name)); err != nil {
			return err
		}
	}
	for _, name := range names {
		if isTmpOf(name, w.owner) {
			if err := w.root.Remove(path.Join(leatDir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	return nil
}

// settle rolls a pending entry forward, or back.
func (w *writer) settle(name string) error {
	b, err := w.root.ReadFile(name)
	if err != nil {
		return err
	}
	var e entry
	if err := unseal(b, &e); err != nil {
		return fmt.Errorf("%s, a commit that was not finished, is damaged: %w; nothing was changed: move it away, and its rows are written again", w.abs(name), err)
	}
	if w.st.of(w.owner).last == e.ID { // it is finished
		return w.root.Remove(name)
	}
	e.Seq = w.st.seq + 1
	forward := w.st.check(&e) == nil // else a new epoch has begun in between
	for i := range e.Files {
		at, err := w.whole(&e.Files[i])
		if err != nil {
			return err
		}
		forward = forward && at != nowhere
	}
	if forward {
		err := w.publish(&e)
		if err == nil {
			if err = w.root.Remove(name); errors.Is(err, fs.ErrNotExist) {
				err = nil // it has become the entry
			}
			return err
		}
		if !errors.Is(err, errNotCurrent) {
			return err
		}
	}
	for i := range e.Files {
		f := &e.Files[i]
		tmp, final, err := w.look(f)
		if err != nil {
			return err
		}
		if final == nil || w.st.isLive(f.Path) || tmp != nil && !os.SameFile(tmp, final) { // none, or somebody else's
			continue
		}
		if err := w.root.Remove(f.Path); err != nil {
			return err
		}
		if err := durable.SyncDir(w.abs(path.Dir(f.Path))); err != nil {
			return err
		}
	}
	return w.root.Remove(name)
}

// newest refuses a manifest that ends before the entry of which a file of this pipeline is:
// it is an older copy. Its rows would be written again, beside a file that has them, which
// a reader finds who does not ask the manifest.
func (w *writer) newest() error {
	names, err := w.list()
	if err != nil {
		return err
	}
	for _, name := range names {
		if strings.HasSuffix(name, pendingExt) { // somebody else is between the file and its entry
			return nil
		}
	}
	found := ""
	err = fs.WalkDir(w.root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist): // compacted away just now
			return nil
		case err != nil:
			return err
		case d.IsDir() && name == leatDir:
			return fs.SkipDir
		case !d.IsDir() && seqOfFile(d.Name(), filePrefix(string(w.owner.Pipeline)), w.ext) > w.st.seq && !w.st.isLive(name):
			found = name
			return fs.SkipAll
		}
		return nil
	})
	if err != nil || found == "" {
		return err
	}
	if _, err := w.catchUp(w.st); err != nil { // or another owner has gone on
		return err
	}
	if seqOfFile(path.Base(found), filePrefix(string(w.owner.Pipeline)), w.ext) <= w.st.seq {
		return nil
	}
	return fmt.Errorf("%s is of a later entry than the last one, %d, of the manifest %s: the manifest is an older copy. Put the newest one back; or, to go on from where it ends, move such files away, whose rows are written again", w.abs(found), w.st.seq, w.abs(leatDir))
}

// verify makes sure that every file that counts is there (rule F5).
func (w *writer) verify() error {
	for {
		name, fault, err := w.missing()
		if err != nil || fault == nil {
			return err
		}
		// Perhaps a compaction has replaced it just now, and will do so with others.
		if _, err := w.catchUp(w.st); err != nil {
			return err
		}
		if w.st.isLive(name) {
			return fault
		}
	}
}

// missing gives the first file that is not as it was committed, and what is wrong.
func (w *writer) missing() (name string, fault, err error) {
	const advice = "nothing was changed and no other file is affected: restore it from a backup, or start over by moving the whole folder away"
	for _, f := range w.st.files {
		if f == nil {
			continue
		}
		info, err := os.Lstat(w.abs(f.Path))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return f.Path, fmt.Errorf("%s is missing, and its %d rows were committed (entry %d of the manifest): %s", w.abs(f.Path), f.Rows, f.Seq, advice), nil
		case err != nil:
			return "", nil, err
		case !info.Mode().IsRegular():
			return f.Path, fmt.Errorf("%s is no regular file any more, and its %d rows were committed (entry %d of the manifest): %s", w.abs(f.Path), f.Rows, f.Seq, advice), nil
		case info.Size() != f.Bytes:
			return f.Path, fmt.Errorf("%s has %d bytes, and %d were committed (entry %d of the manifest): %s", w.abs(f.Path), info.Size(), f.Bytes, f.Seq, advice), nil
		}
	}
	return "", nil, nil
}

// virgin refuses a folder that has such files and no manifest: leat has not
// written them, or the manifest is lost.
func (w *writer) virgin() error {
	found := ""
	err := fs.WalkDir(w.root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && name == leatDir:
			return fs.SkipDir
		case !d.IsDir() && strings.HasSuffix(name, w.ext) && !strings.HasPrefix(d.Name(), "."):
			found = name
			return fs.SkipAll
		}
		return nil
	})
	if err != nil {
		return err
	}
	if found != "" {
		return fmt.Errorf("%s is there, and no manifest in %s: leat has not written it, or the manifest is lost; move the files away, restore %s, or give another Dir", w.abs(found), w.abs(leatDir), leatDir)
	}
	return nil
}
