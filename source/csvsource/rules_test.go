package csvsource

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/filesource/filetest"
	"github.com/leatgo/leat/source/files"
)

const ab = "id,text\n1,a\n2,b\n"

// old makes a file's times trustworthy: it was not changed in the last seconds.
func (w *world) old(names ...string) {
	w.T.Helper()
	then := time.Now().Add(-time.Hour)
	for _, n := range names {
		require.NoError(w.T, os.Chtimes(filepath.Join(w.Dir, n), then, then))
	}
}

func (w *world) inDir(dir string) []string {
	w.T.Helper()
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	require.NoError(w.T, err)
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

func TestFilesInOrderOfTheirPath(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for i, name := range []string{"b.csv", "a/x.csv", "a-b/x.csv", "a.csv", ".hidden.csv", "a/.x.csv", "c.txt", "Z.csv"} {
		w.Put(name, fmt.Sprintf("id,text\n%d,x\n", i))
	}
	c := w.config()
	c.Glob = "**/*.csv"
	w.must(c)
	// Bytewise: '-' < '.' < '/'.
	require.Equal(t, []string{"Z.csv ok", "a-b/x.csv ok", "a.csv ok", "a/x.csv ok", "b.csv ok"}, w.Statuses())
	require.Equal(t, []int64{7, 2, 3, 1, 0}, w.IDs())
	var base int64
	for _, e := range w.Ledger() {
		require.Equal(t, base, e.Offset, "the next base is base + size + 1")
		base += e.Size + 1
	}
	require.Equal(t, base, w.Held.Next, "the position after a file is the next file's base")
	for _, r := range w.Rows {
		require.Equal(t, int64(2), r.Line)
	}
}

func TestDefaultGlob(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Put("a.csv", ab)
	w.Put("b.csv.gz", filetest.Gzip("id,text\n3,c\n"))
	w.Put("c.csv.zst", filetest.Zstd("id,text\n4,d\n"))
	w.Put("d.csv.tmp2", ab)
	w.Put("e.tsv", ab)
	w.Put("sub/f.csv", "id,text\n9,z\n")
	w.must(w.config())
	require.Equal(t, []int64{1, 2, 3, 4}, w.IDs())
	h := w.Ledger()
	require.Equal(t, int64(1<<36), h[2].Offset-h[1].Offset, "a compressed file's range")
	require.Equal(t, h[1].Offset+8, w.Rows[2].Offset, "the offset counts text")
}

// rule D2: same name, same content: skipped, and said so.
func TestD2SameNameSameContent(t *testing.T) {
	t.Parallel()
	for name, touch := range map[string]bool{"unchanged": false, "written again": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.Put("a.csv", ab)
			w.old("a.csv")
			w.must(w.config())
			before, err := os.ReadFile(w.LedgerPath())
			require.NoError(t, err)
			if touch {
				w.Put("a.csv", ab)
			}
			w.must(w.config())
			require.Equal(t, []int64{1, 2}, w.IDs())
			require.Equal(t, 1, w.Stats.Unchanged)
			require.Contains(t, w.Log.String(), "a file was read before and is skipped")
			after, err := os.ReadFile(w.LedgerPath())
			require.NoError(t, err)
			require.Equal(t, string(before), string(after), "nothing new to note")
		})
	}
}

// rule D2: same name, new content: a new version.
func TestD2NewVersion(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Put("a.csv", ab)
	w.must(w.config())
	w.Put("a.csv", "id,text\n7,x\n")
	w.must(w.config())
	require.Equal(t, []int64{1, 2, 7}, w.IDs())
	require.Equal(t, []string{"a.csv ok", "a.csv ok"}, w.Statuses())
	w.Put("a.csv", ab)
	w.must(w.config())
	require.Equal(t, []int64{1, 2, 7}, w.IDs(), "the first version again")
}

// rule D2: same content, new name: policy, default skip.
func TestD2Duplicates(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Put("a.csv", ab)
	w.Put("b.csv", ab)
	w.must(w.config())
	require.Equal(t, []int64{1, 2}, w.IDs())
	require.Equal(t, []string{"a.csv ok", "b.csv skipped"}, w.Statuses())
	require.Equal(t, "same content as a.csv (file 1)", w.Ledger()[1].Error)
	require.Equal(t, files.Stats{OK: 1, Skipped: 1}, w.Stats)
	w.must(w.config())
	require.Len(t, w.Ledger(), 2)
	w.Put("c.csv", ab)
	c := w.config()
	c.Duplicates = files.ReadDuplicates
	w.must(c)
	require.Equal(t, []int64{1, 2, 1, 2}, w.IDs())
}

// A header that was refused may be fine for a newer program.
func TestRefusedHeaderIsTriedAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Put("a.csv", "id\n1\n")
	w.Put("b.csv", ab)
	w.must(w.config())
	require.Equal(t, []string{"a.csv failed", "b.csv ok"}, w.Statuses())
	require.Equal(t, `the header is refused: it misses the columns "text" (header line: "id")`, w.Ledger()[0].Error)
	require.Contains(t, w.Log.String(), `it misses the columns`)
	require.NotContains(t, w.Log.String(), "header line", "a file without header has a row there: logs hold no payload")
	require.Equal(t, files.Stats{OK: 1, Failed: 1}, w.Stats)
	w.must(w.config())
	require.Len(t, w.Ledger(), 2, "no new entry for the same refusal")

	type newer struct{ ID int64 }
	src := New(Config[newer]{Dir: w.Dir, Name: "src"})
	in := &plainIntake[newer]{env: w.Env(), at: w.Held}
	require.NoError(t, src.Drive(t.Context(), in))
	require.NoError(t, src.Close())
	require.Equal(t, []newer{{1}}, in.rows)
	require.Len(t, w.Ledger(), 3)
}

// plainIntake only collects.
type plainIntake[T any] struct {
	env   leat.Env
	at    leat.Position
	rows  []T
	trips int
	onRun func()
}

func (p *plainIntake[T]) Env() leat.Env      { return p.env }
func (p *plainIntake[T]) CaughtUp()          {}
func (p *plainIntake[T]) RejectsFiles() bool { return false }
func (p *plainIntake[T]) Try(context.Context, leat.Chunk[T]) (int, error, error) {
	return 0, nil, nil
}
func (p *plainIntake[T]) Ahead(string) leat.Offset { return p.at.Next }
func (p *plainIntake[T]) Assign(...leat.Partition) (map[string]leat.Position, error) {
	if p.onRun != nil {
		p.onRun()
	}
	return map[string]leat.Position{"": p.at}, nil
}
func (p *plainIntake[T]) Send(c leat.Chunk[T]) error {
	out := new(leat.Batch[T])
	err := c.Decode(context.Background(), out)
	p.rows = append(p.rows, out.Rows()...)
	p.trips++
	return err
}

// rule D3: ok is written when a complete checkpoint covers the file's end, the move comes after it.
func TestD3OkOnlyAfterTheCheckpoint(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Put("a.csv", ab)
	c := w.config()
	c.After = files.Move
	require.NoError(t, w.live(c, life{Commit: 0}))
	require.Equal(t, []string{"a.csv processing"}, w.Statuses())
	require.FileExists(t, filepath.Join(w.Dir, "a.csv"))
	w.must(c)
	require.Equal(t, []string{"a.csv ok processed/a.csv"}, w.Statuses())
	require.NoFileExists(t, filepath.Join(w.Dir, "a.csv"))
	require.FileExists(t, w.Beside("processed/a.csv"))
	e := w.Ledger()[0]
	require.Equal(t, [3]int64{2, 0, 2}, [3]int64{e.Rows, e.Rejected, int64(e.Attempt)})
	require.False(t, e.Started.IsZero())
	require.GreaterOrEqual(t, e.Duration(), time.Duration(0))
	require.Equal(t, []int64{1, 2}, w.IDs())
}

// rule D3: a move never overwrites.
func TestD3MoveNeverOverwrites(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.config()
	c.After = files.Move
	for i := range 3 {
		w.Put("a.csv", fmt.Sprintf("id,text\n%d,x\n", i))
		w.Put("bad.csv.gz", filetest.Gzip(fmt.Sprintf("nothing %d", i)))
		w.must(c)
	}
	w.Put("a.csv", "id,text\n0,x\n") // the first one once more
	w.must(c)
	require.Equal(t, []int64{0, 1, 2}, w.IDs())
	require.Equal(t, []string{"a.2.csv", "a.3.csv", "a.4.csv", "a.csv"}, w.inDir(w.Beside("processed")))
	require.Equal(t, []string{"bad.2.csv.gz", "bad.3.csv.gz", "bad.csv.gz"}, w.inDir(w.Beside("failed")))
	require.Empty(t, w.inDir(w.Dir))
	require.Equal(t, "a.csv skipped processed/a.4.csv", w.Statuses()[6])
	data, err := os.ReadFile(w.Beside("processed/a.csv"))
	require.NoError(t, err)
	require.Equal(t, "id,text\n0,x\n", string(data))
}

func TestMoveKeepsSubfolders(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Put("x/y/a.csv", ab)
	c := w.config()
	c.After, c.Glob = files.Move, "**/*.csv"
	c.ProcessedDir = filepath.Join(w.Dir, "done") // inside the folder: not read again
	w.must(c)
	w.must(c)
	require.FileExists(t, filepath.Join(w.Dir, "done/x/y/a.csv"))
	require.Len(t, w.Ledger(), 1)
}

// rule D3: everything that a crash may leave between two steps is repaired.
func TestD3CrashBetweenStatusAndMove(t *testing.T) {
	t.Parallel()
	moved := func(w *world, from, to string) {
		require.NoError(w.T, os.MkdirAll(filepath.Dir(w.Beside(to)), 0o755))
		require.NoError(w.T, os.Rename(filepath.Join(w.Dir, from), w.Beside(to)))
	}
	for name, tc := range map[string]struct {
		between func(w *world)
		want    string
		dir     []string
	}{
		"not moved":               {func(*world) {}, "a.csv ok processed/a.csv", nil},
		"moved, not noted":        {func(w *world) { moved(w, "a.csv", "processed/a.csv") }, "a.csv ok processed/a.csv", nil},
		"moved to a second name":  {func(w *world) { moved(w, "a.csv", "processed/a.2.csv"); writeFile(w, "processed/a.csv", "other") }, "a.csv ok processed/a.2.csv", nil},
		"linked, not yet removed": {func(w *world) { linkFile(w, "a.csv", "processed/a.csv") }, "a.csv ok processed/a.csv", nil},
		"name taken meanwhile":    {func(w *world) { writeFile(w, "processed/a.csv", "other") }, "a.csv ok processed/a.2.csv", nil},
		"gone":                    {func(w *world) { require.NoError(w.T, os.Remove(filepath.Join(w.Dir, "a.csv"))) }, "a.csv ok", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.Put("a.csv", ab)
			w.must(w.config()) // Keep: as if the crash came before the move
			tc.between(w)
			c := w.config()
			c.After = files.Move
			w.must(c)
			require.Equal(t, []string{tc.want}, w.Statuses())
			require.Empty(t, w.inDir(w.Dir))
			require.Equal(t, []int64{1, 2}, w.IDs())
		})
	}
	t.Run("another version has its name", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		w.Put("a.csv", ab)
		w.must(w.config())
		w.Put("a.csv", "id,text\n3,c\n")
		c := w.config()
		c.After = files.Move
		w.must(c)
		require.Equal(t, []string{"a.csv ok", "a.csv ok processed/a.csv"}, w.Statuses())
		require.Equal(t, []int64{1, 2, 3}, w.IDs())
	})
}

func writeFile(w *world, name, text string) {
	require.NoError(w.T, os.MkdirAll(filepath.Dir(w.Beside(name)), 0o755))
	require.NoError(w.T, os.WriteFile(w.Beside(name), []byte(text), 0o644))
}

func linkFile(w *world, from, to string) {
	require.NoError(w.T, os.MkdirAll(filepath.Dir(w.Beside(to)), 0o755))
	require.NoError(w.T, os.Link(filepath.Join(w.Dir, from), w.Beside(to)))
}

// Without hard links, or across file systems, files are copied.
func TestMoveAcrossFileSystems(t *testing.T) {
	t.Parallel()
	shm, err := os.MkdirTemp("/dev/shm", "leat")
	if err != nil {
		t.Skip("no second file system: ", err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(shm) })
	w := newWorld(t)
	c := w.config()
	c.After, c.ProcessedDir = files.Move, shm
	w.Put("a.csv", ab)
	w.must(c)
	w.Put("a.csv", "id,text\n3,c\n")
	w.must(c)
	require.Equal(t, []string{"a.2.csv", "a.csv"}, w.inDir(shm))
	require.Empty(t, w.inDir(w.Dir))
}

// rule D5: a folder is locked by one process; a second one says so and waits.
func TestD5SecondProcessWaits(t *testing.T) {
	t.Parallel()
	for name, move := range map[string]bool{"same state folder": false, "same folder, both move": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if move && runtime.GOOS == "windows" {
				t.Skip("a directory can't be locked on Windows")
			}
			w := newWorld(t)
			w.Put("a.csv", ab)
			c := w.config()
			second := &plainIntake[rec]{env: w.Env()}
			if move {
				c.After = files.Move
				second.env.StateDir = t.TempDir()
			}
			first := New(c)
			in := &plainIntake[rec]{env: w.Env()}
			require.NoError(t, first.Drive(t.Context(), in))
			require.NoError(t, first.Drive(t.Context(), in), "rule E8: run again without Close")

			other := New(c)
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			require.ErrorIs(t, other.Drive(ctx, second), context.DeadlineExceeded)
			require.Contains(t, w.Log.String(), "the folder is locked by another process")

			done := make(chan error, 1)
			go func() { done <- other.Drive(t.Context(), second) }()
			require.NoError(t, first.Close())
			require.NoError(t, <-done)
			require.NoError(t, other.Close())
			require.Len(t, second.rows, 2)
		})
	}
	t.Run("two pipelines may read one folder", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		w.Put("a.csv", ab)
		for range 2 {
			src := New(w.config())
			in := &plainIntake[rec]{env: w.Env()}
			in.env.StateDir = t.TempDir()
			require.NoError(t, src.Drive(t.Context(), in))
			require.Len(t, in.rows, 2)
			t.Cleanup(func() { _ = src.Close() })
		}
	})
}

// rule D6: the entry is in the ledger before the first row is sent.
func TestD6EntryBeforeRows(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Put("a.csv", ab)
	seen := false
	require.NoError(t, w.live(w.config(), life{Commit: -1, BeforeChunk: func(int) {
		seen = true
		require.Equal(t, []string{"a.csv processing"}, w.Statuses())
		require.Len(t, w.Ledger()[0].Hash, 64)
	}}))
	require.True(t, seen)
	if runtime.GOOS != "windows" {
		info, err := os.Stat(w.LedgerPath())
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
		info, err = os.Stat(filepath.Dir(w.LedgerPath()))
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o700), info.Mode().Perm())
	}
}

// rule A2-1: a position beyond the log's end is an error that says what to do.
func TestA21PositionBeyondTheLedger(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Put("a.csv", ab)
	w.must(w.config())
	w.Held.Next += 100
	require.ErrorContains(t, w.live(w.config(), filetest.Whole()), "rule A2-1")
}

func TestNothingToDo(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.must(w.config())
	require.Empty(t, w.Ledger())
	w.Put("a.csv", ab)
	w.must(w.config())
	held := w.Held
	w.must(w.config())
	require.Equal(t, held, w.Held)
	require.Len(t, w.Rows, 2)
	require.ErrorContains(t, w.live(Config[rec]{Dir: w.Beside("missing"), Name: "other"}, filetest.Whole()), "missing")
}

func TestTenThousandFiles(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("10,000 files")
	}
	w := newWorld(t)
	const n = 10_000
	for i := range n {
		require.NoError(t, os.WriteFile(filepath.Join(w.Dir, fmt.Sprintf("f%05d.csv", i)), fmt.Appendf(nil, "id,text\n%d,x\n", i), 0o644))
	}
	c := w.config()
	c.After = files.Move
	begin := time.Now()
	w.must(c)
	t.Logf("10,000 files in %v", time.Since(begin))
	require.Len(t, w.Rows, n)
	require.Equal(t, n, w.Stats.OK)
	require.Empty(t, w.inDir(w.Dir))
	begin = time.Now()
	w.must(c)
	t.Logf("nothing to do in %v", time.Since(begin))
}

func TestListOfFiles(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Put("a.csv", ab)
	w.Put("b.csv", "id,text\n3,c\n")
	path := func(n string) string { return filepath.Join(w.Dir, n) }
	c := Config[rec]{Name: "src", Files: []string{path("b.csv"), path("a.csv"), path("no.csv")}}
	require.ErrorContains(t, w.live(c, filetest.Whole()), "no.csv")
	require.Empty(t, w.Rows)
	c.Files = c.Files[:2]
	c.After, c.ProcessedDir, c.FailedDir = files.Move, w.Beside("p"), w.Beside("f")
	w.must(c)
	require.Equal(t, []int64{3, 1, 2}, w.IDs(), "in the order given")
	require.Equal(t, []string{"a.csv", "b.csv"}, w.inDir(w.Beside("p")))
	w.must(c)
	require.Len(t, w.Rows, 3, "gone because they were moved: no error")
}

func TestCancelIsPrompt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Put("a.csv", "id,text\n"+strings.Repeat("1,x\n", 1000))
	c := w.config()
	c.ChunkBytes = 100
	ctx, cancel := context.WithCancel(t.Context())
	err := w.Live(ctx, New(c), life{Commit: -1, Hear: true, BeforeChunk: func(i int) {
		if i == 3 {
			cancel()
		}
	}})
	require.ErrorIs(t, err, context.Canceled)
	require.Less(t, len(w.Rows), 200)
	w.must(c)
	require.Len(t, w.Rows, 1000)
	require.Equal(t, int64(1000), w.Ledger()[0].Rows)

	ctx, cancel = context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, w.Live(ctx, New(c), filetest.Whole()), context.Canceled)
}
