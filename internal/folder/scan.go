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
)

// candidate is a name that a scan found, or the reason why it is refused.
type candidate struct {
	name   string
	refuse error
}

// scan lists what there is, in order of the relative path, bytewise; Files stay in
// the order given.
func (f *Folder) scan(ctx context.Context) ([]candidate, error) {
	if f.root == nil {
		return f.scanFiles()
	}
	var patterns [][]string
	deep := false
	for _, g := range f.c.Globs {
		p := strings.Split(g, "/")
		patterns = append(patterns, p)
		deep = deep || len(p) > 1
	}
	wanted := func(name string) bool {
		parts := strings.Split(name, "/")
		return slices.ContainsFunc(patterns, func(p []string) bool { return matches(p, parts) })
	}
	var found []candidate
	err := fs.WalkDir(f.root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil && name == ".":
			return err
		case err != nil: // rule D5: an unreadable folder is refused, the rest is read
			found = append(found, candidate{name, err})
			return fs.SkipDir
		case name == ".":
		case d.IsDir():
			if !deep || f.isMoveDir(name) {
				return fs.SkipDir
			}
		case wanted(name):
			found = append(found, candidate{name: name})
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("folder: scan %s: %w", f.c.Dir, err)
	}
	slices.SortFunc(found, func(a, b candidate) int { return strings.Compare(a.name, b.name) })
	return found, nil
}

// isMoveDir keeps a processed/ inside the folder from being read.
func (f *Folder) isMoveDir(name string) bool {
	info, err := f.root.Stat(name)
	if err != nil {
		return false
	}
	for _, to := range []string{ToProcessed, ToFailed} {
		if dir := f.c.moveDir(to); dir != "" && f.c.Move {
			if other, err := os.Stat(dir); err == nil && os.SameFile(info, other) {
				return true
			}
		}
	}
	return false
}

func (f *Folder) scanFiles() ([]candidate, error) {
	var found []candidate
	var missing []error
	for _, name := range fileNames(f.c.Files) {
		_, err := os.Stat(filepath.FromSlash(name))
		if errors.Is(err, fs.ErrNotExist) {
			f.mu.Lock()
			known := f.led.byName[name] != nil
			f.mu.Unlock()
			if !known {
				missing = append(missing, err)
			}
			continue
		}
		found = append(found, candidate{name: name})
	}
	return found, errors.Join(missing...)
}

// open opens a file of the folder for reading. It never waits, never leaves the
// folder, and gives regular files only (rule D5).
func (f *Folder) open(name string) (*os.File, fs.FileInfo, error) {
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
