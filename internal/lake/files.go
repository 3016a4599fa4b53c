package lake

import (
	"errors"
	"fmt"
	"io/fs"
	"time"
)

// FileInfo is a file that counts: its rows are committed.
type FileInfo struct {
	Path             string // relative to the lake's root, with slashes
	Bytes, Rows      int64
	Checksum         string    // "crc32c:" and eight hex digits, of all bytes
	MinTime, MaxTime time.Time // of the rows' event times; see HasTimes
	Pipeline, Sink   string    // who wrote it; "" and "@compact" for a file that Compact made
	Seq              int64     // the manifest's entry that added it
	Schema           string    // as the format describes it

	since int64 // the oldest entry whose rows it holds
}

// HasTimes tells whether the event times of all rows are known.
func (f *FileInfo) HasTimes() bool { return !f.MinTime.IsZero() }

// Files are the files that count, oldest first: every committed row is in exactly
// one of them. It may be called while sinks and Compact write.
//
// A file that is listed here can be deleted before it is opened, when Compact
// replaces it in that moment: then list again. An open file stays readable.
func Files(dir string) ([]FileInfo, error) {
	l, err := openLake("lake", dir, hooks{})
	if err != nil {
		return nil, fmt.Errorf("lake: %w", err)
	}
	defer l.root.Close()
	st, err := l.load()
	if errors.Is(err, fs.ErrNotExist) {
		if _, missing := l.root.Stat(leatDir); missing != nil {
			return nil, fmt.Errorf("lake: %s holds no lake: it has no folder %s: %w", dir, leatDir, fs.ErrNotExist)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("lake: %w", err)
	}
	return st.live(), nil
}
