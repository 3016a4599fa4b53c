package csvsource

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/failpoint"
	"github.com/leatgo/leat/internal/filesource/filetest"
	"github.com/leatgo/leat/source/files"
)

// The tests of this file set failpoints, which are the whole process's: none of them
// is parallel.

// dieAt makes the process dead from the n-th time that it comes to a place: nothing
// that matters happens any more.
func dieAt(t *testing.T, place string, n int) (died *bool) {
	died = new(bool)
	failpoint.Set(func(name string) error {
		if name == place {
			n--
		}
		if n <= 0 {
			*died = true
			return fmt.Errorf("died at %s: %w", place, filetest.ErrKilled)
		}
		return nil
	})
	t.Cleanup(func() { failpoint.Set(nil) })
	return died
}

// rules D3, D6, B2: whichever step the process dies at, the next run repairs what is
// half done: each row once, each status and place as without the crash.
func TestD3DieAtEachStep(t *testing.T) {
	shm, err := os.MkdirTemp("/dev/shm", "leat")
	if err != nil {
		shm = ""
	}
	t.Cleanup(func() { _ = os.RemoveAll(shm) })
	scene := func(t *testing.T, elsewhere bool) (*world, Config[rec], life) {
		w := newWorld(t)
		w.Put("a.csv", ab)
		w.Put("b-refused.csv", "nothing\n")
		w.Put("c-same.csv", ab)
		w.Put("d-bad.csv", "id,text\n8,x\n9,bad\n")
		w.Put("e-cut.csv.gz", filetest.Gzip("id,text\n" + strings.Repeat("4,abcdefgh\n5,x\n", 4000))[:120])
		w.Put("f-empty.csv", "id,text\n")
		w.Put("g.csv", row1(3))
		c := w.config()
		c.After, c.ChunkBytes = files.Move, 10
		if elsewhere {
			dir, err := os.MkdirTemp(shm, "p")
			require.NoError(t, err)
			c.ProcessedDir = dir
		}
		return w, c, life{Commit: -1, Hear: true, Early: 2, RejectFile: true}
	}
	want := []string{
		"a.csv ok processed/a.csv", "b-refused.csv failed failed/b-refused.csv", "c-same.csv skipped processed/c-same.csv",
		"d-bad.csv failed failed/d-bad.csv", "e-cut.csv.gz failed failed/e-cut.csv.gz", "f-empty.csv ok processed/f-empty.csv",
		"g.csv ok processed/g.csv",
	}
	for _, elsewhere := range []bool{false, true} {
		if elsewhere && shm == "" {
			continue
		}
		hits := map[string]int{}
		failpoint.Set(func(name string) error { hits[name]++; return nil })
		w, c, l := scene(t, elsewhere)
		require.NoError(t, w.live(c, l))
		failpoint.Set(nil)
		w.must(c)
		require.Equal(t, want, w.Statuses())
		rows, history := slices.Clone(w.Rows), filetest.Brief(w.Ledger())
		require.Equal(t, "rejected whole: 1 bad row, the first: line 3: a bad word", w.Ledger()[3].Error)
		require.Equal(t, "rejected whole: the gzip file is truncated", w.Ledger()[4].Error)
		for _, place := range []string{"entry-written", "entries-synced", "begun", "verdict", "verdict-written", "status-written", "status-synced", "moved"} {
			require.Contains(t, hits, "folder/"+place)
		}
		if elsewhere {
			require.Contains(t, hits, "folder/copied")
			require.Contains(t, hits, "folder/copy-named")
		}
		delete(hits, "folder/open") // where tests make the disk fail: no steps
		delete(hits, "folder/read")
		for place, n := range hits {
			for k := 1; k <= min(n, 6); k++ {
				t.Run(fmt.Sprintf("%s %d elsewhere=%v", place, k, elsewhere), func(t *testing.T) {
					w, c, l := scene(t, elsewhere)
					died := dieAt(t, place, k)
					l.Dying = true
					_ = w.live(c, l)
					failpoint.Set(nil)
					if !*died {
						t.Skip("this life did not come to it")
					}
					l.Dying, l.Early = false, 0
					require.NoError(t, w.live(c, l))
					w.must(c)
					require.Equal(t, rows, w.Rows)
					require.Equal(t, history, filetest.Brief(w.Ledger()))
					require.Equal(t, want, w.Statuses())
					require.Empty(t, w.inDir(w.Dir))
					require.ElementsMatch(t, []string{"b-refused.csv", "d-bad.csv", "e-cut.csv.gz"}, w.inDir(w.Beside("failed")))
					if elsewhere {
						require.Equal(t, []string{"a.csv", "c-same.csv", "f-empty.csv", "g.csv"}, w.inDir(c.ProcessedDir), "no copy is left")
					}
				})
			}
		}
	}
}

// What was decided about a file outlives a crash in which the engine's checkpoint was
// saved and the source did not hear of it.
func TestD3FaultOutlivesTheCrash(t *testing.T) {
	begin := func(t *testing.T) (*world, Config[rec]) {
		w := newWorld(t)
		w.Put("a.csv", "id,text\n"+strings.Repeat("1,aaaaaaaaaa\n", 1000))
		w.Put("b.csv", row1(2))
		c := w.config()
		c.ChunkBytes = 100
		require.NoError(t, w.live(c, life{Commit: -1, Hear: false, BeforeChunk: func(i int) {
			if i == 2 {
				w.add("a.csv", "3,z\n")
			}
		}}))
		require.Equal(t, []string{"a.csv processing", "b.csv processing"}, w.Statuses())
		require.Equal(t, int64(2), w.Rows[len(w.Rows)-1].ID, "b.csv is delivered")
		return w, c
	}
	check := func(t *testing.T, w *world) {
		e := w.Ledger()[0]
		require.Equal(t, "failed", e.Status)
		require.Contains(t, e.Error, "the rest of the file was not")
	}
	t.Run("it is not said to be read whole", func(t *testing.T) {
		w, c := begin(t)
		rows := len(w.Rows)
		w.must(c)
		check(t, w)
		require.Greater(t, len(w.Rows), rows, "its new content is a new version")
	})
	t.Run("and nobody asks for the rest", func(t *testing.T) {
		w := newWorld(t)
		w.Put("a.csv", "id,text\n"+strings.Repeat("1,aaaaaaaaaa\n", 1000))
		c := w.config()
		c.ChunkBytes = 100
		require.NoError(t, w.live(c, life{Commit: -1, Hear: false, BeforeChunk: func(i int) {
			if i == 2 {
				w.add("a.csv", "3,z\n")
			}
		}}))
		rows := len(w.Rows)
		w.must(c)
		check(t, w)
		require.Len(t, w.Rows, rows+1001, "its new content is a new version")
	})
	t.Run("its original came back: counted up to the fault", func(t *testing.T) {
		w, c := begin(t)
		rows := len(w.Rows)
		require.NoError(t, os.Truncate(w.Path("a.csv"), 13008))
		w.must(c)
		check(t, w)
		require.Equal(t, int64(rows-1), w.Ledger()[0].Rows)
		require.Len(t, w.Rows, rows)

		first := slices.Clone(w.Rows)
		w.Held, w.Rows = leat.Position{}, nil
		w.must(c)
		require.Equal(t, first, w.Rows, "rule E7: a sink that starts anew gets the same rows, not more")
	})
}

// The same when the process dies before that is durable: no later row was sent yet.
func TestD3DieAtTheFault(t *testing.T) {
	w := newWorld(t)
	w.Put("a.csv", "id,text\n"+strings.Repeat("1,aaaaaaaaaa\n", 1000))
	w.Put("b.csv", row1(2))
	c := w.config()
	c.ChunkBytes = 100
	died := dieAt(t, "folder/fault-written", 1)
	require.ErrorIs(t, w.live(c, life{Commit: 1, BeforeChunk: func(i int) {
		if i == 2 {
			w.add("a.csv", "3,z\n")
		}
	}}), filetest.ErrKilled)
	failpoint.Set(nil)
	require.True(t, *died)
	require.ErrorContains(t, w.live(c, filetest.Whole()), "Sinks hold rows of it", "rule D3-1: they are part of the offsets")
	require.NoError(t, os.Truncate(w.Path("a.csv"), 13008))
	w.must(c)
	e := w.Ledger()[0]
	require.Equal(t, "failed", e.Status, "what was decided stands")
	require.Contains(t, e.Error, fmt.Sprintf("the records before line %d were read", e.Rows+2))
	require.Equal(t, int64(len(w.Rows)-1), e.Rows)
	require.Equal(t, "b.csv ok", w.Statuses()[1])
}

// Reprocess that dies half way: again, or it is said to be done.
func TestReprocessDies(t *testing.T) {
	w := newWorld(t)
	w.Put("a.csv", ab)
	w.must(w.config())
	dieAt(t, "folder/reprocess-written", 1)
	require.ErrorIs(t, files.Reprocess(w.State, "src", "a.csv"), filetest.ErrKilled)
	failpoint.Set(nil)
	require.ErrorContains(t, files.Reprocess(w.State, "src", "a.csv"), "the next run reads it anyway")
	w.must(w.config())
	require.Equal(t, []int64{1, 2, 1, 2}, w.IDs())
}

// A crash between the pass over a file and what follows: the verdict is in the ledger
// before any later row is sent.
func TestB2VerdictOutlivesTheCrash(t *testing.T) {
	w := newWorld(t)
	w.Put("a.csv", "id,text\n1,bad\n")
	w.Put("b.csv", row1(2))
	require.NoError(t, w.live(w.config(), life{Commit: -1, Hear: false, RejectFile: true}))
	require.Equal(t, []string{"a.csv failed", "b.csv processing"}, w.Statuses())
	w.must(w.config()) // the policy is another by now: the verdict stands
	require.Equal(t, []string{"a.csv failed", "b.csv ok"}, w.Statuses())
	require.Equal(t, []int64{2}, w.IDs())
}

// failReads makes reading fail from the n-th read of each run on.
func failReads(t *testing.T, after int) (reset func()) {
	n := 0
	failpoint.Set(func(name string) error {
		if name != "folder/read" {
			return nil
		}
		if n++; n > after {
			return &fs.PathError{Op: "read", Path: "disk", Err: syscall.EIO}
		}
		return nil
	})
	t.Cleanup(func() { failpoint.Set(nil) })
	return func() { n = 0 }
}

// rule B8: an error of the disk is tried again; after Attempts the file is given up,
// and the others are read.
func TestAttempts(t *testing.T) {
	text := "id,text\n" + strings.Repeat("1,aaaaaaaaaa\n", 1000)
	begin := func(t *testing.T, attempts int) (*world, *Source[rec], *filetest.Engine[rec]) {
		w := newWorld(t)
		w.Put("a.csv", text)
		c := w.config()
		c.ChunkBytes, c.Attempts = 200, attempts
		src := New(c)
		t.Cleanup(func() { _ = src.Close() })
		return w, src, w.Engine(src, life{CaughtUp: func(int) {}})
	}
	again := func(f *filetest.Engine[rec]) { f.Sent, f.Rows = nil, nil } // as after a rewind that lost it all
	t.Run("given up after as many as are allowed", func(t *testing.T) {
		w, src, f := begin(t, 3)
		reset := failReads(t, 40) // the hash and the first header take some
		for i := range 2 {
			reset()
			err := src.Drive(t.Context(), f)
			require.True(t, leat.IsTransient(err), "%v", err)
			require.ErrorContains(t, err, fmt.Sprintf("csvsource: folder: read a.csv (attempt %d of 3): read disk: input/output error", i+1))
			again(f)
		}
		w.Put("b.csv", row1(2))
		n := 0
		failpoint.Set(func(name string) error {
			if name == "folder/read" {
				if n++; n == 10 {
					return &fs.PathError{Op: "read", Path: "disk", Err: syscall.EIO}
				}
			}
			return nil
		})
		require.NoError(t, src.Drive(t.Context(), f))
		e := w.Ledger()[0]
		require.Equal(t, "failed", e.Status)
		require.Equal(t, 3, e.Attempt)
		require.Contains(t, e.Error, "given up after 3 attempts: read disk: input/output error; the records before line")
		require.Positive(t, e.Rows, "what is before the fault stays")
		require.Equal(t, []string{"a.csv failed", "b.csv ok"}, w.Statuses())
		require.Equal(t, []string{"a.csv failed", "b.csv ok"}, w.Told())
	})
	t.Run("never, with -1", func(t *testing.T) {
		_, src, f := begin(t, -1)
		reset := failReads(t, 40)
		for range 20 {
			reset()
			require.True(t, leat.IsTransient(src.Drive(t.Context(), f)))
			again(f)
		}
	})
	t.Run("not while a sink holds more", func(t *testing.T) {
		w, src, f := begin(t, 3)
		reset := failReads(t, 10)
		for range 2 {
			require.True(t, leat.IsTransient(src.Drive(t.Context(), f)))
			again(f)
			reset()
			w.Ahead = w.Ledger()[0].Size // of an earlier life, which had entered the file
		}
		err := src.Drive(t.Context(), f)
		require.False(t, leat.IsTransient(err))
		require.ErrorContains(t, err, "a.csv can't be read to its end: given up after 3 attempts")
		require.ErrorContains(t, err, "Sinks hold rows of it")
		require.Equal(t, []string{"a.csv processing"}, w.Statuses())
	})
	t.Run("when all that a sink holds could be read", func(t *testing.T) {
		w, src, f := begin(t, 2)
		reset := failReads(t, 10)
		require.True(t, leat.IsTransient(src.Drive(t.Context(), f)))
		again(f)
		reset()
		w.Ahead = 300
		require.NoError(t, src.Drive(t.Context(), f))
		require.Equal(t, []string{"a.csv failed"}, w.Statuses())
	})
	t.Run("when it can't be opened", func(t *testing.T) {
		w, src, f := begin(t, 2)
		n := 0
		failpoint.Set(func(name string) error {
			if name == "folder/open" {
				if n++; n > 1 { // the first one is for the hash
					return &fs.PathError{Op: "open", Path: "a.csv", Err: syscall.ENFILE}
				}
			}
			return nil
		})
		t.Cleanup(func() { failpoint.Set(nil) })
		require.True(t, leat.IsTransient(src.Drive(t.Context(), f)))
		require.NoError(t, src.Drive(t.Context(), f))
		require.Contains(t, w.Ledger()[0].Error, "too many open files in system; nothing of it was delivered")
	})
}

// rule D5: an unreadable file, as those who are not root meet it: it is refused, said
// once, and read when its rights are mended.
func TestD5Unreadable(t *testing.T) {
	failpoint.Set(func(name string) error {
		if name == "folder/open" {
			return &fs.PathError{Op: "openat", Path: "a.csv", Err: syscall.EACCES}
		}
		return nil
	})
	t.Cleanup(func() { failpoint.Set(nil) })
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.Put("a.csv", ab)
		r := w.watch(w.config(), life{})
		r.pass(20 * every)
		require.Equal(t, []string{"a.csv failed"}, r.Told())
		require.Equal(t, 1, w.says("a file is refused"))
		require.Contains(t, w.Ledger()[0].Error, "a.csv is refused: openat a.csv: permission denied")
		failpoint.Set(nil)
		r.pass(3 * every)
		require.Error(t, r.end(true))
		require.Equal(t, []int64{1, 2}, w.IDs())
		require.Equal(t, []string{"a.csv failed", "a.csv ok"}, w.Told())
	})
}

// rule D3: a full disk: said once, tried at later scans, nothing is lost.
func TestD3MoveToAFullDisk(t *testing.T) {
	var full atomic.Bool
	full.Store(true)
	failpoint.Set(func(name string) error {
		if name == "folder/move" && full.Load() {
			return syscall.ENOSPC
		}
		return nil
	})
	t.Cleanup(func() { failpoint.Set(nil) })
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.Put("a.csv", ab)
		c := w.config()
		c.After = files.Move
		r := w.watch(c, life{})
		r.pass(30 * every)
		require.Equal(t, []string{"a.csv ok"}, w.Statuses())
		require.Equal(t, 1, w.says("level=ERROR"))
		require.Contains(t, w.Log.String(), "a.csv: no space left on device")
		full.Store(false)
		r.pass(mostRetry)
		require.Equal(t, []string{"a.csv ok processed/a.csv"}, w.Statuses())
		require.Error(t, r.end(true))
		require.NoFileExists(t, w.Path("a.csv"))
		require.FileExists(t, filepath.Join(w.Beside("processed"), "a.csv"))
	})
}

const mostRetry = 6 * time.Minute
