// Package durable makes changes to names in a file system survive a power cut.
//
// Writing a file and calling Sync on it makes its bytes durable, not its name: a file that was created or renamed may
// be gone, or be back under its old name, until the directory that holds the name is synced too. Every place in leat
// that promises "on disk" (rules A3, B3, D6, F1) goes through these functions, so that the order of write, fsync, rename
// and fsync of the directory is right in one place.
//
// On Windows a directory cannot be synced; NTFS journals names by itself and the directory steps do nothing there.
//
// The functions keep no state and are safe for concurrent use.
package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// SyncDir makes the names in dir durable: files created, renamed or removed in it before the call.
//
// A file system that cannot sync a directory at all (it answers EINVAL or ENOTSUP) is not an error: there is nothing
// more that could be done. Any other error means that names may be lost in a power cut.
func SyncDir(dir string) error {
	if err := syncDir(dir); err != nil {
		return fmt.Errorf("durable: sync directory %s: %w", dir, err)
	}
	return nil
}

// MkdirAll creates dir and the parents that are missing with permission perm, like [os.MkdirAll], and makes the new names
// durable. Directories that exist are neither changed nor synced.
func MkdirAll(dir string, perm fs.FileMode) error {
	dir = filepath.Clean(dir)
	var created []string // innermost first
	for p := dir; ; p = filepath.Dir(p) {
		if _, err := os.Lstat(p); !errors.Is(err, fs.ErrNotExist) {
			break // it exists, or os.MkdirAll will say better what is wrong with it
		}
		created = append(created, p)
		if p == filepath.Dir(p) {
			break
		}
	}
	if err := os.MkdirAll(dir, perm); err != nil {
		return err
	}
	for _, p := range created {
		if err := SyncDir(filepath.Dir(p)); err != nil {
			return err
		}
	}
	return nil
}

// WriteFile writes data to path so that, whenever the process or the machine dies, path holds either all of data or what
// it held before. It replaces an existing file. When it returns nil, data and name are durable.
//
// It writes a temporary file ".<name>.<random>.tmp" in path's directory, syncs it, renames it and syncs the directory.
// After an error the temporary file is removed; after a crash it may be left behind. When only the last step failed,
// path has the new content already, but may fall back to the old one in a power cut.
func WriteFile(path string, data []byte, perm fs.FileMode) (err error) {
	dir, base := filepath.Split(path)
	if dir == "" {
		dir = "."
	}
	f, err := os.CreateTemp(dir, "."+base+".*.tmp")
	if err != nil {
		return fmt.Errorf("durable: write %s: %w", path, err)
	}
	tmp := f.Name()
	defer func() {
		if err != nil {
			_ = f.Close() // a second Close is harmless
			_ = os.Remove(tmp)
		}
	}()
	if err := f.Chmod(perm); err != nil && !errors.Is(err, errors.ErrUnsupported) {
		return fmt.Errorf("durable: write %s: %w", path, err)
	}
	if _, err := f.Write(data); err != nil {
		return fmt.Errorf("durable: write %s: %w", path, err)
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("durable: write %s: %w", path, err)
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("durable: write %s: %w", path, err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return fmt.Errorf("durable: write %s: %w", path, err)
	}
	return SyncDir(dir)
}

// Rename renames oldpath to newpath, replacing a file that is there, and syncs both directories. The file's content must
// have been synced by the caller. An error of the rename itself is an [*os.LinkError] (EXDEV: two file systems, nothing has
// happened); an error of a directory sync comes after the rename.
func Rename(oldpath, newpath string) error {
	if err := os.Rename(oldpath, newpath); err != nil {
		return err
	}
	return syncBoth(oldpath, newpath)
}

// RenameNoReplace is [Rename] that never overwrites: when newpath exists, also as a dangling symbolic link, the error
// matches [fs.ErrExist] and nothing has happened. EXDEV is returned as it is, inside an [*os.LinkError].
//
// On Linux and Windows the check and the rename are one step. Where the kernel or the file system has no such rename,
// it is a hard link followed by a removal: as safe against overwriting, but a crash in between leaves both names.
// Where there are no hard links either (and for directories there), it is a check followed by a rename: two processes that
// race for the same new name can then overwrite one another.
func RenameNoReplace(oldpath, newpath string) error {
	if err := renameNoReplace(oldpath, newpath); err != nil {
		return err
	}
	return syncBoth(oldpath, newpath)
}

// linkAndRemove renames without a kernel call for it; see RenameNoReplace.
func linkAndRemove(oldpath, newpath string) error {
	if err := os.Link(oldpath, newpath); err != nil {
		if errors.Is(err, fs.ErrExist) || errors.Is(err, fs.ErrNotExist) || isCrossDevice(err) {
			return err
		}
		return checkedRename(oldpath, newpath)
	}
	return os.Remove(oldpath)
}

// checkedRename is the last resort: it looks before it renames.
func checkedRename(oldpath, newpath string) error {
	if _, err := os.Lstat(newpath); err == nil {
		return &os.LinkError{Op: "rename", Old: oldpath, New: newpath, Err: fs.ErrExist}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.Rename(oldpath, newpath)
}

func syncBoth(oldpath, newpath string) error {
	from, to := filepath.Dir(oldpath), filepath.Dir(newpath)
	// The new name first: a power cut in between leaves two names rather than none.
	if err := SyncDir(to); err != nil {
		return err
	}
	if from == to {
		return nil
	}
	return SyncDir(from)
}
