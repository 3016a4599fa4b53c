package lake

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/durable"
)

// settle rolls a pending entry of a dead member forward if its partitions are still those
// of its epochs, and else back: whoever has taken them over writes its rows again.
func (w *writer) settle(name string) error {
	b, err := w.root.ReadFile(name)
	if err != nil {
		return err
	}
	e, err := decode(b)
	if err != nil {
		return fmt.Errorf("%s, a commit that was not finished, is damaged: %w; nothing was changed: move it away, and its rows are written again", w.abs(name), err)
	}
	if _, err := w.catchUp(w.st); err != nil {
		return err
	}
	forward := e.Version == version || e.Kind != kindCommit || e.Epoch == w.st.of(w.owner).base
	e.Version, e.Epoch, e.Seq = version, 0, w.st.seq+1 // what version 1 has begun is carried out as version 2
	forward = forward && w.st.check(e) == nil
	for i := range e.Files {
		at, err := w.whole(&e.Files[i])
		if err != nil {
			return err
		}
		forward = forward && at != nowhere
	}
	if forward {
		switch err := w.publish(e); {
		case err == nil:
			return w.removed(name)
		case !errors.Is(err, errNotCurrent) && !errors.Is(err, leat.ErrFenced):
			return err
		}
	}
	if err := w.takeBack(w.st, e); err != nil {
		return err
	}
	return w.removed(name)
}

// removed deletes a pending entry, if it has not become an entry.
func (w *writer) removed(name string) error {
	if err := w.root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// takeBack takes their final names off the files of a pending entry, as far as they have
// them: a file that counts, or that is somebody else's, stays. now knows all files.
func (w *writer) takeBack(now *state, e *entry) error {
	for i := range e.Files {
		f := &e.Files[i]
		tmp, final, err := w.look(f)
		if err != nil {
			return err
		}
		if final == nil || now.isLive(f.Path) || tmp != nil && !os.SameFile(tmp, final) {
			continue
		}
		if tmp == nil { // it was renamed; or it is gone, and who else has this name?
			if at, err := w.whole(f); err != nil {
				return err
			} else if at != atPath {
				continue
			}
		}
		if err := w.root.Remove(f.Path); err != nil {
			return err
		}
		if err := durable.SyncDir(w.abs(path.Dir(f.Path))); err != nil {
			return err
		}
	}
	return nil
}

// newest refuses a manifest that ends before the entry of which a file of this pipeline is:
// it is an older copy. Its rows would be written again, beside a file that has them, which
// a reader finds who does not ask the manifest.
func (w *writer) newest() error {
	if some, err := w.pending(); some || err != nil { // somebody is between a file and its entry
		return err
	}
	found := ""
	err := fs.WalkDir(w.root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
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
	// Or another has begun a commit, carried it out, or taken it back.
	if some, err := w.pending(); some || err != nil {
		return err
	}
	if _, err := w.catchUp(w.st); err != nil {
		return err
	}
	if there, err := w.exists(found); err != nil || !there {
		return err
	}
	if seqOfFile(path.Base(found), filePrefix(string(w.owner.Pipeline)), w.ext) <= w.st.seq {
		return nil
	}
	return fmt.Errorf("%s is of a later entry than the last one, %d, of the manifest %s: the manifest is an older copy. Put the newest one back; or, to go on from where it ends, move such files away, whose rows are written again", w.abs(found), w.st.seq, w.abs(leatDir))
}

// pending tells whether anybody is in a commit.
func (w *writer) pending() (bool, error) {
	names, err := w.list()
	return slices.ContainsFunc(names, func(name string) bool { return strings.HasSuffix(name, pendingExt) }), err
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
		// Or somebody has begun the lake meanwhile.
		if _, err := w.catchUp(w.st); err != nil || w.st.seq > 0 {
			return err
		}
		return fmt.Errorf("%s is there, and no manifest in %s: leat has not written it, or the manifest is lost; move the files away, restore %s, or give another Dir", w.abs(found), w.abs(leatDir), leatDir)
	}
	return nil
}
