package lake

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat"
)

// fila is a row of the tests. Its partition p is a folder.
type fila struct {
	ID int64
	P  string
	At time.Time
}

// lines is a format of one number per line, held back until Flush.
type lines struct {
	rows   []fila
	schema string
}

func (l *lines) Ext() string { return ".txt" }
func (l *lines) Schema() string {
	if l.schema == "" {
		return "id"
	}
	return l.schema
}

func (l *lines) Prepare(rows []fila) (refused []leat.RowError) {
	l.rows = rows
	for i, r := range rows {
		if r.ID < 0 {
			refused = append(refused, leat.RowError{Row: i, Err: errors.New("negative")})
		}
	}
	return refused
}

func (l *lines) Create(w io.Writer) (File, error) { return &lineFile{l: l, w: w}, nil }

type lineFile struct {
	l    *lines
	w    io.Writer
	buf  bytes.Buffer
	size int64
}

func (f *lineFile) Append(pick []int32) error {
	n := f.buf.Len()
	if pick == nil {
		for _, r := range f.l.rows {
			fmt.Fprintln(&f.buf, r.ID)
		}
	}
	for _, i := range pick {
		fmt.Fprintln(&f.buf, f.l.rows[i].ID)
	}
	f.size += int64(f.buf.Len() - n)
	return nil
}
func (f *lineFile) Size() int64     { return f.size }
func (f *lineFile) Buffered() int64 { return int64(f.buf.Len()) }
func (f *lineFile) Flush() error    { _, err := f.buf.WriteTo(f.w); return err }
func (f *lineFile) Close() error    { return f.Flush() }

// config is one without partitions; byP has one folder per P.
func config(dir string) Config[fila] {
	return Config[fila]{Kind: "linesink", Dir: dir, Format: func() (Format[fila], error) { return &lines{}, nil }}
}

func byP(dir string) Config[fila] {
	c := config(dir)
	c.Partition = []Partition[fila]{{Name: "p", Value: func(r fila) string { return r.P }}}
	return c
}

func env() leat.Env { return leat.Env{Pipeline: "ventas", Node: "lago"} }

func opened(t testing.TB, c Config[fila], e leat.Env) *Sink[fila] {
	t.Helper()
	s := New(c)
	require.NoError(t, openTaking(s, e))
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// openTaking opens a sink and takes over the one partition of most tests.
func openTaking(s *Sink[fila], e leat.Env) error {
	if err := s.Open(context.Background(), e); err != nil {
		return err
	}
	_, err := s.Restore(context.Background(), []string{"src"})
	return err
}

// put writes rows with these numbers, at offsets of the same numbers.
func put(t testing.TB, s *Sink[fila], from, to int64) {
	t.Helper()
	require.NoError(t, putRows(s, numbered(from, to)))
}

func putRows(s *Sink[fila], rows []fila) error {
	return s.write(context.Background(), "src", rows, func(i int) leat.Offset { return rows[i].ID })
}

func numbered(from, to int64) (rows []fila) {
	for id := from; id < to; id++ {
		rows = append(rows, fila{ID: id, P: string(rune('a' + id%3))})
	}
	return rows
}

func upTo(next int64) leat.Checkpoint {
	return leat.Checkpoint{Positions: map[string]leat.Position{"src": {Next: next, Log: "log"}}}
}

func forced(next int64) leat.Checkpoint {
	cp := upTo(next)
	cp.Force = true
	return cp
}

func commit(t testing.TB, s *Sink[fila], next int64) {
	t.Helper()
	done, err := s.Commit(context.Background(), forced(next))
	require.NoError(t, err)
	require.True(t, done)
}

func notYet(t testing.TB, s *Sink[fila], next int64) {
	t.Helper()
	done, err := s.Commit(context.Background(), upTo(next))
	require.NoError(t, err)
	require.False(t, done, "expected: not yet")
}

func yes(t testing.TB, s *Sink[fila], next int64) {
	t.Helper()
	done, err := s.Commit(context.Background(), upTo(next))
	require.NoError(t, err)
	require.True(t, done, "expected: done")
}

// heldBy is how far the sink's owner holds src.
func heldBy(t testing.TB, s *Sink[fila]) int64 {
	t.Helper()
	st, err := s.w.load()
	require.NoError(t, err)
	return st.of(s.w.owner).of("src").at.Next
}

// content is what a reader that goes by Files sees; every file is checked.
func content(t testing.TB, dir string) (ids []int64) {
	t.Helper()
	files, err := Files(dir)
	require.NoError(t, err)
	for _, f := range files {
		b, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(f.Path)))
		if errors.Is(err, fs.ErrNotExist) { // compacted just now?
			again, err2 := Files(dir)
			require.NoError(t, err2)
			if !slices.ContainsFunc(again, func(g FileInfo) bool { return g.Path == f.Path }) {
				return content(t, dir)
			}
		}
		require.NoError(t, err)
		require.Equal(t, f.Bytes, int64(len(b)), f.Path)
		require.Equal(t, f.Checksum, checksum(crc32.Checksum(b, castagnoli)), f.Path)
		got := parse(t, b)
		require.Equal(t, f.Rows, int64(len(got)), f.Path)
		ids = append(ids, got...)
	}
	return ids
}

func parse(t testing.TB, b []byte) (ids []int64) {
	for line := range strings.Lines(string(b)) {
		id, err := strconv.ParseInt(strings.TrimSpace(line), 10, 64)
		require.NoError(t, err)
		ids = append(ids, id)
	}
	return ids
}

// whole asserts that the lake holds 0 to n-1, each once.
func whole(t testing.TB, dir string, n int64) {
	t.Helper()
	ids := content(t, dir)
	slices.Sort(ids)
	require.Len(t, ids, int(n))
	for i, id := range ids {
		require.Equal(t, int64(i), id, "each row exactly once")
	}
}

// tree lists all files under dir but the manifest's own.
func tree(t testing.TB, dir string) (data, manifest []string) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(dir, p)
		rel = filepath.ToSlash(rel)
		if strings.HasPrefix(rel, leatDir+"/") {
			manifest = append(manifest, strings.TrimPrefix(rel, leatDir+"/"))
		} else {
			data = append(data, rel)
		}
		return err
	}))
	return data, manifest
}

// tidyTree asserts that nothing is there that the manifest does not name.
func tidyTree(t testing.TB, dir string) {
	t.Helper()
	l, err := openLake("test", dir, hooks{})
	require.NoError(t, err)
	defer l.root.Close()
	files, err := Files(dir)
	require.NoError(t, err)
	var live []string
	for _, f := range files {
		live = append(live, f.Path)
	}
	data, manifest := tree(t, dir)
	assert.ElementsMatch(t, live, data, "no stray files")
	for _, name := range manifest {
		if strings.HasSuffix(name, lockExt) { // of one that lives
			_, err := l.lockFile(path.Join(leatDir, name))
			assert.ErrorIs(t, err, errTaken, "left behind: %s", name)
		} else {
			assert.False(t, strings.HasPrefix(name, "."), "left behind: %s", name)
		}
	}
}

func mergeLines(_ context.Context, files []string, w io.Writer) (rows int64, err error) {
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			return rows, err
		}
		if _, err := w.Write(b); err != nil {
			return rows, err
		}
		rows += int64(bytes.Count(b, []byte("\n")))
	}
	return rows, nil
}

func compacting() CompactOptions { return CompactOptions{Ext: ".txt", Merge: mergeLines} }

// unsynced makes tests quick that are about something else than power cuts.
func unsynced(every int) hooks { return hooks{every: every, sync: func(*os.File) error { return nil }} }
