package lake

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/leatgo/leat/internal/durable"
	"github.com/leatgo/leat/internal/failpoint"
)

// CompactOptions says which files Compact replaces, and how.
type CompactOptions struct {
	// Ext is the end of the names of the files to look at, with its dot.
	Ext string

	// Smaller: only files below this many bytes are replaced. Defaults to half of
	// Target.
	Smaller int64

	// Target is the size that a replacing file should have, about. Defaults to
	// 128 MiB.
	Target int64

	// Merge writes the rows of the files, in order, to w, and says how many those
	// were. The paths can be opened as they are.
	Merge func(ctx context.Context, files []string, w io.Writer) (rows int64, err error)

	hook hooks // set by tests
}

// CompactStats is what Compact has done.
type CompactStats struct {
	Replaced int   // files that are no more
	Written  int   // files in their place
	Bytes    int64 // of those
	Rows     int64 // in those
}

// Compact replaces the small files of each folder by one, or by several of about
// Target. Each replacing file is one entry of the manifest: for those who go by
// Files its rows move at once. It may run while sinks write, but not twice at a
// time. What a Compact that was killed has left behind is finished first.
//
// Who reads the folder itself instead sees rows twice from the moment a replacing
// file appears until the replaced ones are deleted, milliseconds later (or, when
// the process is killed in between, until the next Compact). Files that somebody
// has open stay readable on systems that allow deleting open files.
func Compact(ctx context.Context, dir string, o CompactOptions) (stats CompactStats, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("lake: compact %s: %w", dir, err)
		}
	}()
	if o.Ext == "" || o.Merge == nil {
		return stats, errors.New("the options need Ext and Merge")
	}
	if o.Target <= 0 {
		o.Target = defaultBytes
	}
	if o.Smaller <= 0 {
		o.Smaller = o.Target / 2
	}
	l, err := openLake("lake", dir, o.hook)
	if err != nil {
		return stats, err
	}
	defer func() { err = errors.Join(err, l.root.Close()) }()
	if ok, err := l.exists(leatDir); err != nil {
		return stats, err
	} else if !ok {
		return stats, fmt.Errorf("there is no lake: no folder %s: %w", leatDir, fs.ErrNotExist)
	}
	w, err := l.begin(compactor, o.Ext)
	if err != nil {
		return stats, err
	}
	defer func() { err = errors.Join(err, w.end()) }()
	if err := w.recover(); err != nil {
		return stats, err
	}
	if err := w.sweep(); err != nil {
		return stats, err
	}
	for _, small := range groupSmall(w.st.live(), o) {
		if ctx.Err() != nil {
			return stats, context.Cause(ctx)
		}
		made, err := w.replace(ctx, small, o)
		if err != nil {
			return stats, err
		}
		stats.Replaced += len(small)
		stats.Written++
		stats.Bytes += made.Bytes
		stats.Rows += made.Rows
	}
	return stats, nil
}

// groupSmall finds the files that become one: of one folder and one schema, oldest
// first.
func groupSmall(files []FileInfo, o CompactOptions) [][]FileInfo {
	type place struct{ dir, schema string }
	byPlace := map[place][]FileInfo{}
	var places []place
	for _, f := range files {
		if f.Bytes >= o.Smaller || !strings.HasSuffix(f.Path, o.Ext) {
			continue
		}
		p := place{path.Dir(f.Path), f.Schema}
		if byPlace[p] == nil {
			places = append(places, p)
		}
		byPlace[p] = append(byPlace[p], f)
	}
	slices.SortFunc(places, func(a, b place) int {
		return cmp.Or(cmp.Compare(a.dir, b.dir), cmp.Compare(a.schema, b.schema))
	})
	var out [][]FileInfo
	for _, p := range places {
		var now []FileInfo
		size := int64(0)
		for _, f := range byPlace[p] {
			if len(now) > 1 && size+f.Bytes > o.Target {
				out = append(out, now)
				now, size = nil, 0
			}
			now = append(now, f)
			size += f.Bytes
		}
		if len(now) > 1 {
			out = append(out, now)
		}
	}
	return out
}

// replace makes one file of several.
func (w *writer) replace(ctx context.Context, small []FileInfo, o CompactOptions) (*file, error) {
	e := w.newEntry(kindReplace)
	e.Schema = small[0].Schema
	var paths []string
	rows := int64(0)
	out := &outFile{dir: path.Dir(small[0].Path), tmp: w.nextTmp(), write: w.hook.write}
	for i := range small {
		f := &small[i]
		if err := w.intact(f); err != nil {
			return nil, err
		}
		paths = append(paths, w.abs(f.Path))
		e.Removed = append(e.Removed, f.Path)
		rows += f.Rows
		if f.HasTimes() {
			out.times.add(f.MinTime)
			out.times.add(f.MaxTime)
		} else if f.Rows > 0 {
			out.times.unknown = true
		}
	}
	var err error
	if out.f, err = w.root.OpenFile(out.tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644); err != nil {
		return nil, err
	}
	published := false
	defer func() {
		if out.f != nil {
			_ = out.f.Close()
		}
		if !published {
			_ = w.root.Remove(out.tmp)
		}
	}()
	out.buf = bufio.NewWriterSize((*diskWriter)(out), bufferSize)
	out.enc = nothing{}
	if out.rows, err = o.Merge(ctx, paths, out.buf); err != nil {
		return nil, err
	}
	if out.rows != rows {
		return nil, fmt.Errorf("the manifest says that %s and %d more files have %d rows, and %d were merged; nothing was replaced", w.abs(small[0].Path), len(small)-1, rows, out.rows)
	}
	if err := out.finish(w.hook.sync); err != nil {
		return nil, err
	}
	if err := failpoint.Hit("lake/compact-merged"); err != nil {
		return nil, err
	}
	f := out.entry()
	f.Since = small[0].since
	e.Files = []file{f}
	if err := w.name(e, []planned{{out.dir, small[0].since}}); err != nil {
		return nil, err
	}
	published = true // or may be: recovery finds out
	if err := w.publish(e); err != nil {
		return nil, err
	}
	if err := failpoint.Hit("lake/compact-replaced"); err != nil {
		return nil, err
	}
	if err := w.sweep(); err != nil {
		return nil, err
	}
	return &e.Files[0], nil
}

// nothing is the encoder of a file whose bytes come whole.
type nothing struct{ File }

func (nothing) Close() error { return nil }

// intact makes sure that a file has the bytes that were committed, so that damage
// is not copied into a file that looks whole.
func (w *writer) intact(f *FileInfo) error {
	sum, err := w.sum(f.Path)
	if err == nil && sum != f.Checksum {
		err = fmt.Errorf("%s is damaged: its bytes are not those that were committed (%s, expected %s); nothing was replaced: restore it from a backup", w.abs(f.Path), sum, f.Checksum)
	}
	return err
}

// sweep deletes the files that were replaced.
func (w *writer) sweep() error {
	var dirs []string
	for p := range w.st.removed {
		if w.st.isLive(p) { // an earlier program has used the name again
			continue
		}
		if err := failpoint.Hit("lake/compact-before-delete"); err != nil {
			return err
		}
		err := w.root.Remove(p)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return err
		case !slices.Contains(dirs, path.Dir(p)):
			dirs = append(dirs, path.Dir(p))
		}
		delete(w.st.removed, p)
	}
	for _, dir := range dirs {
		if err := durable.SyncDir(w.abs(dir)); err != nil {
			return err
		}
	}
	return nil
}
