package folder

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/leatgo/leat/internal/failpoint"
)

// candidate is a name that a scan found, or the reason why it is refused.
type candidate struct {
	name   string
	sight  sight
	refuse error
}

// scan lists what there is, in order of the relative path, bytewise; Files stay in
// the order given. It costs one system call for each file.
func (f *Folder) scan(ctx context.Context) ([]candidate, error) {
	if f.root == nil {
		return f.scanFiles()
	}
	w := walk{f: f, ctx: ctx}
	for _, g := range f.c.Globs {
		p := strings.Split(g, "/")
		w.patterns = append(w.patterns, p)
		w.deep = w.deep || len(p) > 1
	}
	for _, to := range []Place{ToProcessed, ToFailed} {
		if dir := f.c.moveDir(to); dir != "" && f.c.Move {
			if info, err := os.Stat(dir); err == nil {
				w.moveDirs = append(w.moveDirs, info)
			}
		}
	}
	if err := w.dir(f.root, ""); err != nil {
		return nil, fmt.Errorf("folder: scan %s: %w", f.c.Dir, err)
	}
	slices.SortFunc(w.found, func(a, b candidate) int { return strings.Compare(a.name, b.name) })
	return w.found, nil
}

// walk is one scan of a folder.
type walk struct {
	f        *Folder
	ctx      context.Context
	patterns [][]string
	deep     bool
	moveDirs []fs.FileInfo // a processed/ inside the folder is not read
	found    []candidate
}

// dir lists one folder; prefix is its path with a slash behind it, or "".
func (w *walk) dir(dir *os.Root, prefix string) error {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	w.f.hints.watch(filepath.Join(w.f.c.Dir, filepath.FromSlash(prefix)))
	self, err := dir.Open(".")
	if err != nil {
		return err
	}
	names, err := self.Readdirnames(-1) // ReadDir of a root would look at each file by itself
	if err = errors.Join(err, self.Close()); err != nil {
		return err
	}
	for _, base := range names {
		if name := prefix + base; w.deep || wanted(w.patterns, name) {
			if err := w.entry(dir, base, name); err != nil {
				return err
			}
		}
	}
	return nil
}

// entry looks at what has a name: from outside, and at a symbolic link's target, if
// that is inside.
func (w *walk) entry(dir *os.Root, base, name string) error {
	info, err := dir.Lstat(base)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		if wanted(w.patterns, name) {
			w.found = append(w.found, candidate{name: name, refuse: err})
		}
		return nil
	case info.IsDir() && !w.deep:
		return nil
	case info.IsDir():
		return w.sub(dir, base, name)
	case !wanted(w.patterns, name):
		return nil
	case info.Mode()&fs.ModeSymlink != 0 && !w.f.c.Move:
		if target, err := w.f.root.Stat(name); err == nil {
			info = target
		}
	}
	w.found = append(w.found, candidate{name: name, sight: sightOf(info)})
	return nil
}

func (w *walk) sub(dir *os.Root, base, name string) error {
	sub, err := dir.OpenRoot(base)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		defer sub.Close()
		if info, serr := sub.Stat("."); serr == nil && slices.ContainsFunc(w.moveDirs, func(m fs.FileInfo) bool { return os.SameFile(info, m) }) {
			return nil
		}
		err = w.dir(sub, name+"/")
	}
	if w.ctx.Err() != nil {
		return w.ctx.Err()
	}
	if err != nil { // rule D5: an unreadable folder is refused, the rest is read
		w.found = append(w.found, candidate{name: name, refuse: err})
	}
	return nil
}

func wanted(patterns [][]string, name string) bool {
	if len(patterns) > 0 && strings.IndexByte(name, '/') < 0 {
		parts := [1]string{name}
		return slices.ContainsFunc(patterns, func(p []string) bool { return matches(p, parts[:]) })
	}
	parts := strings.Split(name, "/")
	return slices.ContainsFunc(patterns, func(p []string) bool { return matches(p, parts) })
}

func (f *Folder) scanFiles() ([]candidate, error) {
	var found []candidate
	var missing []error
	for _, name := range fileNames(f.c.Files) {
		info, err := os.Stat(filepath.FromSlash(name))
		if errors.Is(err, fs.ErrNotExist) {
			f.mu.Lock()
			known := f.led.latest(name) != nil
			f.mu.Unlock()
			if !known {
				missing = append(missing, err)
			}
			continue
		}
		c := candidate{name: name}
		if err == nil {
			c.sight = sightOf(info)
		}
		found = append(found, c)
	}
	return found, errors.Join(missing...)
}

// open opens a file of the folder for reading. It never waits, never leaves the
// folder, and gives regular files only (rule D5).
func (f *Folder) open(name string) (*os.File, fs.FileInfo, error) {
	if err := failpoint.Hit("folder/open"); err != nil {
		return nil, nil, err
	}
	var file *os.File
	var err error
	if f.root == nil {
		path := filepath.FromSlash(name)
		if info, lerr := os.Lstat(path); lerr == nil && info.Mode()&fs.ModeSymlink != 0 && f.c.Move {
			return nil, nil, refusal("it is a symbolic link, which can't be moved with its content")
		}
		file, err = os.OpenFile(path, os.O_RDONLY|nonBlock, 0)
	} else {
		info, lerr := f.root.Lstat(name)
		switch {
		case lerr != nil:
			return nil, nil, lerr
		case info.Mode()&fs.ModeSymlink != 0 && f.c.Move:
			return nil, nil, refusal("it is a symbolic link, which can't be moved with its content")
		case !info.Mode().IsRegular() && info.Mode()&fs.ModeSymlink == 0:
			return nil, nil, refusal("it is not a regular file but " + kindOf(info.Mode()))
		}
		file, err = f.root.OpenFile(name, os.O_RDONLY|nonBlock, 0)
		if err != nil && info.Mode()&fs.ModeSymlink != 0 {
			return nil, nil, refusal(fmt.Sprintf("it is a symbolic link that can't be followed inside the folder: %v", err))
		}
	}
	if err != nil {
		return nil, nil, err
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = refusal("it is not a regular file but " + kindOf(info.Mode()))
	}
	if err != nil {
		return nil, nil, errors.Join(err, file.Close())
	}
	return file, info, nil
}

// refusal is a reason that stays the same from scan to scan.
type refusal string

func (r refusal) Error() string { return string(r) }

func kindOf(m fs.FileMode) string {
	switch {
	case m.IsDir():
		return "a folder"
	case m&fs.ModeNamedPipe != 0:
		return "a named pipe"
	case m&fs.ModeSocket != 0:
		return "a socket"
	case m&fs.ModeSymlink != 0:
		return "a symbolic link"
	case m&fs.ModeDevice != 0:
		return "a device"
	}
	return "something special"
}
