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

	"github.com/leatgo/leat/internal/durable"
	"github.com/leatgo/leat/internal/failpoint"
)

// moveAll moves finished files out of the folder, if they are to be moved at all.
// A move that fails is said and tried again at the next start: the rows are
// delivered and the ledger says so, so nothing depends on it.
func (f *Folder) moveAll(ctx context.Context, entries []*Entry) {
	if !f.c.Move || len(entries) == 0 {
		return
	}
	f.moving.Lock()
	defer f.moving.Unlock()
	dirs := map[string]bool{}
	var events []event
	taken := f.takenNames()
	for _, e := range entries {
		if ctx.Err() != nil {
			break
		}
		to, as, err := f.move(ctx, e, dirs, taken)
		if err != nil {
			f.log.Error("a finished file can't be moved; the next start tries again", "file", e.Name, "error", err)
			continue
		}
		if failpoint.Hit("folder/moved") != nil {
			break
		}
		taken[to+"/"+as] = true
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
}

// takenNames are the places of files that were moved before.
func (f *Folder) takenNames() map[string]bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	taken := map[string]bool{}
	for _, e := range f.led.entries {
		if e.Moved != "" {
			taken[e.Moved+"/"+e.MovedTo] = true
		}
	}
	return taken
}

// move moves one file and tells where it is now. It never overwrites (rule D3).
// If the file is already there, because a crash came before the ledger heard of
// the move, that is found out.
func (f *Folder) move(ctx context.Context, e *Entry, dirs, taken map[string]bool) (to, as string, err error) {
	to = ToProcessed
	if e.Status == Failed {
		to = ToFailed
	}
	name := e.Name
	src := filepath.FromSlash(name)
	if f.root != nil {
		if !filepath.IsLocal(src) {
			return "", "", fmt.Errorf("the name %q leaves the folder", name)
		}
		src = filepath.Join(f.c.Dir, src)
	} else {
		name = filepath.Base(src)
	}
	target := func(k int) (rel, path string) {
		rel = numbered(name, k)
		return rel, filepath.Join(f.c.moveDir(to), filepath.FromSlash(rel))
	}
	info, err := os.Lstat(src)
	if err == nil && !sameContent(ctx, src, info, e) || errors.Is(err, fs.ErrNotExist) {
		// It is gone, or another file has its name by now.
		for k := 1; ; k++ {
			rel, path := target(k)
			info, err := os.Lstat(path)
			if err != nil {
				f.log.Warn("a finished file is gone", "file", e.Name)
				return Lost, "", nil
			}
			if !taken[to+"/"+rel] && sameContent(ctx, path, info, e) {
				return to, rel, nil
			}
		}
	}
	if err != nil {
		return "", "", err
	}
	for k := 1; ; k++ {
		rel, path := target(k)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return "", "", err
		}
		err := rename(src, path, info)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			return "", "", err
		}
		dirs[filepath.Dir(path)], dirs[filepath.Dir(src)] = true, true
		return to, rel, nil
	}
}

// sameContent tells whether the file at path is the entry's.
func sameContent(ctx context.Context, path string, info fs.FileInfo, e *Entry) bool {
	if !info.Mode().IsRegular() || info.Size() != e.Size {
		return false
	}
	if info.ModTime().Equal(e.ModTime) && filepath.Base(path) == filepath.Base(filepath.FromSlash(e.Name)) {
		return true
	}
	file, err := os.Open(path)
	if err != nil {
		return false
	}
	defer file.Close()
	hash, _, err := hashAll(ctx, file)
	return err == nil && hash == e.Hash
}

// rename gives the file at src the name path, unless that is taken (fs.ErrExist).
// The directories are synced later, for many files at once.
func rename(src, path string, info fs.FileInfo) error {
	err := os.Link(src, path)
	if err == nil {
		if err := failpoint.Hit("folder/linked"); err != nil {
			return err
		}
		return os.Remove(src)
	}
	if errors.Is(err, fs.ErrExist) {
		if other, serr := os.Lstat(path); serr == nil && os.SameFile(info, other) {
			return os.Remove(src) // a crash between the two halves of this
		}
		return fs.ErrExist
	}
	// No hard links here, or another file system.
	err = durable.RenameNoReplace(src, path)
	if err == nil || errors.Is(err, fs.ErrExist) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return err
	}
	return copyOver(src, path, info)
}

// copyOver moves a file to another file system: the copy is whole and durable
// before it gets its name, and has its name before the original goes.
func copyOver(src, path string, info fs.FileInfo) (err error) {
	in, err := os.Open(src)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*.tmp")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
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
	if err := durable.RenameNoReplace(out.Name(), path); err != nil {
		return err
	}
	return os.Remove(src)
}

// numbered is the k-th name to try: name.csv, name.2.csv, name.3.csv; a suffix of
// compression stays with the one before it.
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
	return fmt.Sprintf("%s%s.%d%s", dir, base[:len(base)-len(ext)], k, ext)
}
