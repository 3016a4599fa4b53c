package jsonsink

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/filelock"
)

// openFile opens and locks the file, and cuts it back to what is committed. The
// sidecar is the one that was found, or a new one that is not yet written.
func openFile(path string) (_ *os.File, _ *sidecar, err error) {
	// Looked at before the file is made, so that a wrong path leaves no file behind.
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		side, err := readSidecar(path + sidecarSuffix)
		if err != nil {
			return nil, nil, err
		}
		if side != nil && side.Length > 0 {
			return nil, nil, fmt.Errorf("%s is missing, but its sidecar says that %d bytes are committed: restore it, or start over by deleting %s", path, side.Length, path+sidecarSuffix)
		}
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, nil, err
	}
	defer func() {
		if err != nil {
			_ = f.Close()
		}
	}()
	if err := filelock.Try(f, false); errors.Is(err, filelock.ErrLocked) {
		return nil, nil, leat.Transient(fmt.Errorf("%s is locked by another process, or by another sink of this one", path))
	} else if err != nil {
		return nil, nil, fmt.Errorf("lock %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			filelock.Unlock(f) // before the close above
		}
	}()
	info, err := f.Stat()
	if err != nil {
		return nil, nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, nil, fmt.Errorf("%s is not a regular file", path)
	}
	if err := stillThere(f, path); err != nil {
		return nil, nil, leat.Transient(err) // replaced between open and lock
	}
	side, err := readSidecar(path + sidecarSuffix)
	switch {
	case err != nil:
		return nil, nil, err
	case side == nil && info.Size() > 0:
		return nil, nil, fmt.Errorf("%s holds %d bytes and has no sidecar %s, so leat has not written it: move it away, or give another Path", path, info.Size(), path+sidecarSuffix)
	case side == nil:
		side = &sidecar{Version: sidecarVersion}
		if side.Tail, err = tailOf(f, 0); err != nil {
			return nil, nil, err
		}
		return f, side, nil
	case info.Size() < side.Length:
		return nil, nil, fmt.Errorf("%s has %d bytes, but %d are committed: it was cut or replaced; restore it, or start over by deleting it and %s", path, info.Size(), side.Length, path+sidecarSuffix)
	}
	tail, err := tailOf(f, side.Length)
	switch {
	case err != nil:
		return nil, nil, err
	case tail != side.Tail:
		return nil, nil, fmt.Errorf("the first %d bytes of %s are not what was committed (%s, expected %s): it was edited or replaced; restore it, or start over by deleting it and %s",
			side.Length, path, tail, side.Tail, path+sidecarSuffix)
	case info.Size() == side.Length:
		return f, side, nil
	}
	// Rule E1: what lies behind was never committed.
	if err := f.Truncate(side.Length); err != nil {
		return nil, nil, err
	}
	return f, side, f.Sync()
}

// stillThere makes sure that path names the open file f.
func stillThere(f *os.File, path string) error {
	open, err := f.Stat()
	if err != nil {
		return err
	}
	named, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("%s was moved away while it was open: %w", path, err)
	}
	if !os.SameFile(open, named) {
		return fmt.Errorf("%s was replaced while it was open", path)
	}
	return nil
}
