package folder

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/leatgo/leat/internal/durable"
	"github.com/leatgo/leat/internal/failpoint"
)

// moveAll moves finished files out of the folder, if they are to be moved at all.
// A move that fails is said and tried again, at a later scan or the next start: the
// rows are delivered and the ledger says so, so nothing depends on it.
func (f *Folder) moveAll(ctx context.Context, entries []*Entry) {
	if !f.c.Move || len(entries) == 0 {
		return
	}
	f.moving.Lock()
	defer f.moving.Unlock()
	dirs := map[string]bool{}
	var events []event
	var left []*Entry
	var first error
	for i, e := range entries {
		if ctx.Err() != nil || len(left) >= hopeless && len(events) == 0 {
			left = append(left, entries[i:]...)
			break
		}
		to, as, err := f.move(ctx, e, dirs)
		if err != nil {
			if left = append(left, e); first == nil {
				first = fmt.Errorf("%s: %w", printable(e.Name), err)
			}
			continue
		}
		if failpoint.Hit("folder/moved") != nil {
			break
		}
		events = append(events, event{Event: "moved", Seq: e.Seq, To: to, As: as})
	}
	for dir := range dirs {
		if err := durable.SyncDir(dir); err != nil {
			f.log.Warn("moved files may be back after a power cut", "error", err)
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(events) > 0 {
		if err := f.led.append(events...); err != nil {
			f.log.Error("moves are not in the ledger; the next start finds them", "error", err)
		}
	}
	f.leftLocked(left, first)
}

// hopeless is how many moves in a row fail before the rest is not even tried: a
// full disk is full for all.
const hopeless = 10

// The waits between attempts to move what could not be moved.
const (
	firstMoveWait = 5 * time.Second
	mostMoveWait  = 5 * time.Minute
)

// leftLocked remembers what could not be moved. It speaks once, not at each attempt.
func (f *Folder) leftLocked(left []*Entry, first error) {
	if len(left) == 0 {
		return
	}
	if first != nil {
		then := "the next start tries again"
		if f.c.Watch > 0 {
			then = "later scans try again"
		}
		if f.moveWait == 0 {
			f.moveWait = firstMoveWait
			f.moveAgain = time.Now().Add(f.moveWait)
			f.log.Error("finished files can't be moved; "+then, "files", len(left), "first", first)
		} else {
			f.log.Debug("finished files still can't be moved", "files", len(left), "first", first)
		}
	}
	f.unmoved = append(f.unmoved, left...)
}

// retryMoves tries again what could not be moved, less and less often.
func (f *Folder) retryMoves(ctx context.Context) {
	f.mu.Lock()
	if len(f.unmoved) == 0 || time.Now().Before(f.moveAgain) {
		f.mu.Unlock()
		return
	}
	entries := f.unmoved
	f.unmoved = nil
	f.moveWait = min(2*f.moveWait, mostMoveWait)
	f.moveAgain = time.Now().Add(f.moveWait)
	f.mu.Unlock()
	f.moveAll(ctx, entries)
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.unmoved) == 0 {
		f.moveWait = 0
		f.log.Info("finished files that could not be moved are moved now", "files", len(entries))
	}
}

// taken tells whether a finished file was moved to this place.
func (f *Folder) taken(to Place, as string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, e := range f.led.entries {
		if e.Settled && e.Moved == to && e.MovedTo == as {
			return true
		}
	}
	return false
}

// move moves one file and tells where it is now. It never overwrites (rule D3).
// If the file is already there, because a crash came before the ledger heard of
// the move, that is found out.
func (f *Folder) move(ctx context.Context, e *Entry, dirs map[string]bool) (to Place, as string, err error) {
	if err := failpoint.Hit("folder/move"); err != nil {
		return 0, "", err
	}
	to = ToProcessed
	if e.Status == Failed {
		to = ToFailed
	}
	name := e.Name
	src := filepath.FromSlash(name)
	if f.c.Dir != "" {
		if !filepath.IsLocal(src) {
			return 0, "", fmt.Errorf("the name %q leaves the folder", name)
		}
		src = filepath.Join(f.c.Dir, src)
	} else {
		name = filepath.Base(src)
	}
	if e.Moved == ToProcessed || e.Moved == ToFailed { // Reprocess: it was moved before
		lies := filepath.Join(f.c.moveDir(e.Moved), filepath.FromSlash(e.MovedTo))
		if info, err := os.Lstat(lies); err == nil {
			same, err := f.sameContent(ctx, lies, info, e)
			switch {
			case err != nil:
				return 0, "", err
			case same && e.Moved == to:
				return to, e.MovedTo, nil
			case same:
				src = lies
			}
		}
	}
	target := func(k int) (rel, path string) {
		rel = numbered(name, k)
		return rel, filepath.Join(f.c.moveDir(to), filepath.FromSlash(rel))
	}
	info, err := os.Lstat(src)
	gone := errors.Is(err, fs.ErrNotExist)
	if err == nil {
		same, err := f.sameContent(ctx, src, info, e)
		if err != nil {
			return 0, "", err
		}
		gone = !same
	}
	if gone {
		if err := f.reachable(); err != nil {
			return 0, "", err
		}
		// It is gone, or another file has its name by now.
		for k := 1; ; k++ {
			rel, path := target(k)
			info, err := os.Lstat(path)
			if err != nil {
				f.log.Warn("a finished file is gone", "file", e.Name)
				return Lost, "", nil
			}
			same, err := f.sameContent(ctx, path, info, e)
			if err != nil {
				return 0, "", err
			}
			if same && !f.taken(to, rel) {
				return to, rel, nil
			}
		}
	}
	if err != nil {
		return 0, "", err
	}
	_, path := target(1)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return 0, "", err
	}
	number := to.String() + "/" + name
	for k := 1; ; k++ {
		if k == 2 {
			k = max(k, f.numbers[number]) // a name that comes each day
		}
		rel, path := target(k)
		err := f.rename(src, path, to, info)
		if errors.Is(err, fs.ErrExist) {
			half, err := f.halfMoved(ctx, path, info, e)
			if err != nil {
				return 0, "", err
			}
			if half && !f.taken(to, rel) {
				if err := os.Remove(src); err != nil {
					return 0, "", err
				}
				dirs[filepath.Dir(src)] = true
				return to, rel, nil
			}
			continue
		}
		if err != nil {
			return 0, "", err
		}
		dirs[filepath.Dir(path)], dirs[filepath.Dir(src)] = true, true
		if k > 1 {
			f.numbers[number] = k
		}
		return to, rel, nil
	}
}

// halfMoved tells whether the file at path is a copy that a move had made, when the
// process died before it removed the original. The copy has the same time, which
// hardly another file has; the content decides.
func (f *Folder) halfMoved(ctx context.Context, path string, src fs.FileInfo, e *Entry) (bool, error) {
	info, err := os.Lstat(path)
	if err != nil || !info.Mode().IsRegular() || info.Size() != src.Size() || !info.ModTime().Equal(src.ModTime()) {
		return false, nil
	}
	return hasContent(ctx, path, e)
}

// sameContent tells whether the file at path is the entry's. An error (a stop, the
// disk) means that it is not known.
func (f *Folder) sameContent(ctx context.Context, path string, info fs.FileInfo, e *Entry) (bool, error) {
	if !info.Mode().IsRegular() || info.Size() != e.Size {
		return false, nil
	}
	if writable(info.ModTime()).Equal(e.ModTime()) && filepath.Base(path) == filepath.Base(filepath.FromSlash(e.Name)) && !f.doubtful(e, info) {
		return true, nil
	}
	return hasContent(ctx, path, e)
}

func hasContent(ctx context.Context, path string, e *Entry) (bool, error) {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer file.Close()
	hash, _, err := hashAll(ctx, file)
	return err == nil && hash == e.hash, err
}

// errNoRename is renameNew's answer where there is no rename that never overwrites.
var errNoRename = errors.New("no such rename here")

// rename gives the file at src the name path, unless that is taken (fs.ErrExist).
// The directories are synced later, for many files at once.
func (f *Folder) rename(src, path string, to Place, info fs.FileInfo) error {
	err := renameNew(src, path)
	switch {
	case err == nil:
		return putBack(src, path, info)
	case errors.Is(err, fs.ErrExist), errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission):
		if other, serr := os.Lstat(path); serr == nil && os.SameFile(info, other) {
			return os.Remove(src) // a crash between the two halves of linkOver
		}
		return err
	case errors.Is(err, errNoRename):
		if err := linkOver(src, path, info); err == nil || errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	// Another file system, or one without hard links.
	return f.copyOver(src, path, to, info)
}

var errTaken = errors.New("another file took its name at this very moment")

// putBack looks whether it was the right file that was moved: another one may have
// taken its name a moment before, and nobody has read that one.
func putBack(src, path string, info fs.FileInfo) error {
	got, err := os.Lstat(path)
	if err != nil || os.SameFile(got, info) {
		return err
	}
	for k := 1; ; k++ {
		back := filepath.Join(filepath.Dir(src), numbered(filepath.Base(src), k))
		err := durable.RenameNoReplace(path, back)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		return errors.Join(errTaken, err)
	}
}

// linkOver moves a file by a second name for it.
func linkOver(src, path string, info fs.FileInfo) error {
	if err := os.Link(src, path); err != nil {
		return err
	}
	if err := failpoint.Hit("folder/linked"); err != nil {
		return err
	}
	if now, err := os.Lstat(src); err != nil || !os.SameFile(now, info) {
		return err // another file has the name by now
	}
	return os.Remove(src)
}

// copyName is where copies grow. There is one at a time (moving is held), so what a
// crash has left is found by its name.
func (f *Folder) copyName(to Place) string {
	return filepath.Join(f.c.moveDir(to), ".leat-"+f.led.log+".tmp")
}

// dropCopies removes the copies that a crash has left unfinished.
func (f *Folder) dropCopies() {
	if !f.c.Move {
		return
	}
	for _, to := range []Place{ToProcessed, ToFailed} {
		if err := os.Remove(f.copyName(to)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			f.log.Warn("an unfinished copy of an earlier run can't be removed", "error", err)
		}
	}
}

// copyOver moves a file to another file system: the copy is whole and durable
// before it gets its name, and has its name before the original goes.
func (f *Folder) copyOver(src, path string, to Place, info fs.FileInfo) (err error) {
	if _, err := os.Lstat(path); err == nil {
		return fs.ErrExist // before a copy is made for nothing
	}
	in, err := os.Open(src)
	if err != nil {
		return err
	}
	defer in.Close()
	if now, err := in.Stat(); err != nil || !os.SameFile(now, info) {
		return errors.Join(err, errTaken)
	}
	out, err := os.OpenFile(f.copyName(to), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	crash := false
	defer func() {
		if err != nil && !crash {
			_ = out.Close()
			_ = os.Remove(out.Name())
		}
	}()
	if _, err := io.Copy(out, in); err != nil {
		return err
	}
	if err := out.Chmod(info.Mode().Perm()); err != nil && !errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	if err := out.Sync(); err != nil {
		return err
	}
	if err := out.Close(); err != nil {
		return err
	}
	if err := os.Chtimes(out.Name(), info.ModTime(), info.ModTime()); err != nil {
		return err
	}
	if err := failpoint.Hit("folder/copied"); err != nil {
		crash = true
		return err
	}
	if err := durable.RenameNoReplace(out.Name(), path); err != nil {
		return err
	}
	if err := failpoint.Hit("folder/copy-named"); err != nil {
		return err
	}
	if now, err := os.Lstat(src); err != nil || !os.SameFile(now, info) {
		return err // another file has the name by now
	}
	return os.Remove(src)
}

// longestName is how many bytes a name may have on nearly all file systems.
const longestName = 255

// numbered is the k-th name to try: name.csv, name.2.csv, name.3.csv; a suffix of
// compression stays with the one before it. A name that gets too long is cut.
func numbered(name string, k int) string {
	if k == 1 {
		return name
	}
	dir, base := "", name
	if i := strings.LastIndexByte(name, '/'); i >= 0 {
		dir, base = name[:i+1], name[i+1:]
	}
	ext := filepath.Ext(base)
	switch strings.ToLower(ext) {
	case ".gz", ".zst":
		ext = filepath.Ext(base[:len(base)-len(ext)]) + ext
	}
	if len(ext) == len(base) {
		ext = ""
	}
	stem, tail := base[:len(base)-len(ext)], fmt.Sprintf(".%d%s", k, ext)
	if over := len(stem) + len(tail) - longestName; over > 0 && over < len(stem) {
		stem = stem[:len(stem)-over]
		for !utf8.ValidString(stem) { // no half of a character
			stem = stem[:len(stem)-1]
		}
	}
	return dir + stem + tail
}
