package csvsource

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/filesource/filetest"
	"github.com/leatgo/leat/source/files"
)

// expected reads everything in one life of another world.
func expected(t *testing.T, w *world) ([]rec, []files.Entry) {
	t.Helper()
	other := newWorld(t)
	require.NoError(t, os.RemoveAll(other.Dir))
	other.Dir = w.Dir
	c := other.config()
	other.must(c)
	return other.Rows, other.Ledger()
}

// rule D4: a crash in the middle of a file neither loses nor doubles a row, and
// the ledger's counts are right too.
func TestD4RandomCrashes(t *testing.T) {
	t.Parallel()
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 9))
		w := newWorld(t)
		for i := range 1 + r.IntN(4) {
			w.PutRandomly(r, fmt.Sprintf("f%d.csv", i), randomCSV(r, i, r.IntN(30)))
		}
		want, history := expected(t, w)

		c := w.config()
		if seed%2 == 0 {
			c.After = files.Move
		}
		lives := 0
		for ; lives < 300; lives++ {
			c.ChunkBytes = 1 + r.IntN(200)
			l := filetest.RandomLife(r)
			if err := w.live(c, l); err == nil && l.Commit >= l.StopAfter {
				break
			} else if err != nil {
				require.ErrorIs(t, err, filetest.ErrKilled, "seed %d", seed)
			}
			if r.IntN(4) == 0 {
				powerCut(t, w, r)
			}
		}
		w.must(c)
		require.Equal(t, want, w.Rows, "seed %d", seed)
		got := w.Ledger()
		require.Equal(t, filetest.Brief(history), filetest.Brief(got), "seed %d", seed)
		if c.After == files.Move {
			require.Empty(t, w.inDir(w.Dir), "seed %d", seed)
		}
	}
}

// powerCut drops what was appended to the ledger and never synced: progress,
// beginnings and moves.
func powerCut(t *testing.T, w *world, r *rand.Rand) {
	data, err := os.ReadFile(w.LedgerPath())
	require.NoError(t, err)
	lines := strings.SplitAfter(string(data), "\n")
	for len(lines) > 1 && r.IntN(4) != 0 {
		last := lines[len(lines)-1]
		lost := last == "" || strings.Contains(last, `"progress"`) || strings.Contains(last, `"status":"processing"`) || strings.Contains(last, `"moved"`)
		if !lost {
			break
		}
		lines = lines[:len(lines)-1]
	}
	text := strings.Join(lines, "")
	if r.IntN(2) == 0 {
		text += `{"event":"pro` // a torn line
	}
	require.NoError(t, os.WriteFile(w.LedgerPath(), []byte(text), 0o600))
}

// Every prefix of the ledger's unsynced and final lines, with the sinks already
// ahead: the crash between a checkpoint and Commit.
func TestCrashBeforeTheLedgerHears(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := rand.New(rand.NewPCG(1, 2))
	w.Put("a.csv", randomCSV(r, 0, 20))
	w.Put("b.csv.gz", filetest.Gzip(randomCSV(r, 1, 20)))
	w.Put("c.csv", "id,text\n")
	w.Put("d.csv.gz", filetest.Gzip(randomCSV(r, 2, 2000))[:2000])
	w.Put("e.csv", "id,text\nx,y\n")
	c := w.config()
	c.ChunkBytes = 100
	require.NoError(t, w.live(c, life{Commit: -1, Hear: true, Early: 3}))
	want := filetest.Brief(w.Ledger())
	require.Contains(t, want[3], "the gzip file is truncated")
	rows := len(w.Rows)
	full, err := os.ReadFile(w.LedgerPath())
	require.NoError(t, err)
	lines := strings.SplitAfter(string(full), "\n")
	entered := 0
	for i, l := range lines {
		if strings.Contains(l, `"event":"file"`) {
			entered = i
		}
	}
	for n := entered + 1; n < len(lines); n++ {
		require.NoError(t, os.WriteFile(w.LedgerPath(), []byte(strings.Join(lines[:n], "")), 0o600))
		w.must(c)
		require.Len(t, w.Rows, rows, "nothing is sent again")
		require.Equal(t, want, filetest.Brief(w.Ledger()), "%d lines kept", n)
	}
	require.NoError(t, os.WriteFile(w.LedgerPath(), []byte(strings.Join(lines[:entered-2], "")), 0o600))
	require.ErrorContains(t, w.live(c, filetest.Whole()), "rule A2-1", "an older copy of the ledger")
}

// Restart at every record boundary: the same rest, at the same offsets and lines.
func TestRestartAtEveryChunk(t *testing.T) {
	t.Parallel()
	for name, pack := range map[string]func(string) string{"a.csv": func(s string) string { return s }, "a.csv.gz": filetest.Gzip, "a.csv.zst": filetest.Zstd} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text := randomCSV(rand.New(rand.NewPCG(3, 3)), 1, 40)
			filetest.RestartAtEveryChunk(t, describe, func(w *filetest.World[rec], chunkBytes int) filetest.Source[rec] {
				c := (&world{w}).config()
				c.ChunkBytes = chunkBytes
				return New(c)
			}, name, pack(text))
		})
	}
}

// A zero position starts at the ledger's first entry, wherever the files are by now.
func TestNothingHeldReadsMovedFilesAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.config()
	c.After = files.Move
	w.Put("a.csv", ab)
	w.Put("b.csv", "nothing\n")
	w.Put("c.csv", ab)
	broken := filetest.Gzip("id,text\n" + strings.Repeat("4,abcdefgh\n5,x\n", 4000))
	w.Put("d.csv.gz", broken[:len(broken)/2])
	w.must(c)
	w.Put("a.csv", "id,text\n3,c\n")
	w.must(c)
	first, history := slices.Clone(w.Rows), w.Ledger()
	require.Greater(t, len(first), 5)

	w.Held, w.Rows = leat.Position{}, nil
	w.must(c)
	require.Equal(t, first, w.Rows)
	require.Equal(t, history, w.Ledger(), "history stays")

	require.NoError(t, os.Remove(w.Beside("processed/a.csv")))
	w.Held, w.Rows = leat.Position{}, nil
	err := w.live(c, filetest.Whole())
	require.ErrorContains(t, err, "a.csv can't be read to its end")
	require.ErrorContains(t, err, "Put back the original")
	require.Empty(t, w.Rows)
	require.ErrorContains(t, files.Abandon(w.State, "src", "no.csv"), "was never entered")
}

// A file that was begun, but of which no sink holds anything, may be mended: the
// breaker's advice can be followed.
func TestBegunFileThatNobodyHoldsMayChange(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Put("a.csv", ab)
	require.NoError(t, w.live(w.config(), life{Commit: 0})) // sent, and no sink committed it
	require.Equal(t, []string{"a.csv processing"}, w.Statuses())
	w.Put("a.csv", "id,text\n7,mended\n")
	w.must(w.config())
	require.Equal(t, []int64{7}, w.IDs())
	require.Equal(t, []string{"a.csv failed", "a.csv ok"}, w.Statuses())
}

// rule E7: a second sink may be further than the position that Assign gives. What
// it holds is skipped by offset, so the file must still be the same.
func TestFileChangesUnderTheSinkThatIsAhead(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Put("a.csv", ab)
	require.NoError(t, w.live(w.config(), life{Commit: 0}))
	w.Ahead = 5
	w.Put("a.csv", "id,text\n7,other\n")
	require.ErrorContains(t, w.live(w.config(), filetest.Whole()), "Sinks hold rows of it")
	require.Empty(t, w.Rows)
}

// The safe behaviour when a file changes under a position in its middle.
func TestFileChangesUnderAPosition(t *testing.T) {
	t.Parallel()
	text := "id,text\n" + strings.Repeat("1,a\n", 50)
	half := func(t *testing.T) (*world, Config[rec]) {
		w := newWorld(t)
		w.Put("a.csv", text)
		w.Put("b.csv", ab)
		c := w.config()
		c.ChunkBytes = 20
		require.ErrorIs(t, w.live(c, life{StopAfter: 4, Commit: 2, Hear: true}), filetest.ErrKilled)
		return w, c
	}
	for name, change := range map[string]func(w *world){
		"removed":     func(w *world) { require.NoError(w.T, os.Remove(filepath.Join(w.Dir, "a.csv"))) },
		"longer":      func(w *world) { w.Put("a.csv", text+"9,z\n") },
		"same length": func(w *world) { w.Put("a.csv", strings.Replace(text, "1,a", "2,b", 1)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, c := half(t)
			rows := len(w.Rows)
			change(w)
			err := w.live(c, filetest.Whole())
			require.ErrorContains(t, err, "a.csv can't be read to its end")
			require.ErrorContains(t, err, "Sinks hold rows of it, up to offset")
			require.Len(t, w.Rows, rows, "nothing is sent from another file")
			require.Equal(t, "processing", w.Ledger()[0].Status)

			t.Run("the original comes back", func(t *testing.T) {
				w.Put("a.csv", text) // with another modification time
				w.must(c)
				require.Len(t, w.Rows, 52)
				require.Equal(t, int64(50), w.Ledger()[0].Rows)
			})
		})
		t.Run(name+", given up", func(t *testing.T) {
			t.Parallel()
			w, c := half(t)
			rows := len(w.Rows)
			change(w)
			require.Error(t, w.live(c, filetest.Whole()))
			require.NoError(t, files.Abandon(w.State, "src", "a.csv"))
			require.NoError(t, files.Abandon(w.State, "src", "a.csv"), "twice")
			w.must(c)
			e := w.Ledger()[0]
			require.Equal(t, "failed", e.Status)
			require.Contains(t, e.Error, "given up by hand")
			require.GreaterOrEqual(t, len(w.Rows), rows+2)
		})
	}
	t.Run("of a file that was never begun: it fails, the run goes on", func(t *testing.T) {
		t.Parallel()
		for name, change := range map[string]func(w *world){
			"removed": func(w *world) { require.NoError(w.T, os.Remove(filepath.Join(w.Dir, "b.csv"))) },
			"changed": func(w *world) { w.Put("b.csv", "id,text\n7,seven\n") },
		} {
			w, c := half(t)
			w.Put("c.csv", "id,text\n8,x\n")
			change(w)
			w.must(c)
			require.Equal(t, "failed", w.Ledger()[1].Status, name)
			require.Contains(t, w.Ledger()[1].Error, "nothing of it was delivered")
			require.Contains(t, w.IDs(), int64(8))
			require.Equal(t, name == "changed", slices.Contains(w.IDs(), 7), "the new version is read")
		}
	})
}

// A file that changes while it is read for the first time fails; the run goes on.
func TestFileChangesWhileRead(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(path string) error{
		"appended": func(path string) error {
			f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
			if err != nil {
				return err
			}
			defer f.Close()
			_, err = f.WriteString("3,z\n")
			return err
		},
		"touched":   func(path string) error { return os.Chtimes(path, time.Time{}, time.Unix(1, 0)) },
		"truncated": func(path string) error { return os.Truncate(path, 10) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.Put("a.csv", "id,text\n"+strings.Repeat("1,aaaaaaaaaa\n", 1000))
			w.Put("b.csv", ab)
			c := w.config()
			c.ChunkBytes = 100
			require.NoError(t, w.live(c, life{Commit: -1, Hear: true, BeforeChunk: func(i int) {
				if i == 2 {
					require.NoError(t, change(filepath.Join(w.Dir, "a.csv")))
				}
			}}))
			e := w.Ledger()[0]
			require.Equal(t, "failed", e.Status)
			require.Contains(t, e.Error, "the file is no longer the one that was entered into the ledger")
			require.Contains(t, e.Error, "the rest of the file was not")
			require.Positive(t, e.Rows)
			require.Equal(t, int64(len(w.Rows)), e.Rows+2, "what was read is delivered, and b.csv")
		})
	}
}

// The same in a second life: sinks may be ahead of where the change is found, so
// the run ends.
func TestFileChangesWhileReadAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	text := "id,text\n" + strings.Repeat("1,aaaaaaaaaa\n", 1000)
	w.Put("a.csv", text)
	c := w.config()
	c.ChunkBytes = 100
	require.ErrorIs(t, w.live(c, life{StopAfter: 9, Commit: 1, Hear: true}), filetest.ErrKilled)
	err := w.live(c, life{Commit: -1, Hear: true, BeforeChunk: func(i int) {
		if i == 2 {
			require.NoError(t, os.Truncate(filepath.Join(w.Dir, "a.csv"), 5000))
		}
	}})
	require.ErrorContains(t, err, "a.csv can't be read to its end")
	require.Equal(t, "processing", w.Ledger()[0].Status)
	require.Equal(t, w.Ledger()[0].Rows, int64(len(w.Rows)))
	w.Put("a.csv", text)
	w.must(c)
	require.Len(t, w.Rows, 1000)
	require.Equal(t, int64(1000), w.Ledger()[0].Rows)
}

// What is before the damage is delivered, then the file fails, and the next is read.
func TestDamagedCompression(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(7, 7))
	var b strings.Builder
	b.WriteString("id,text\n")
	for i := range 20_000 {
		fmt.Fprintf(&b, "%d,%x\n", i, r.Uint64())
	}
	text := b.String()
	flip := func(s string) string {
		x := []byte(s)
		x[len(x)-6] ^= 1 // the checksum
		return string(x)
	}
	for name, tc := range map[string]struct {
		file, data, want string
		some, all        bool
	}{
		"truncated gzip":       {"a.csv.gz", filetest.Gzip(text)[:100_000], "the gzip file is truncated", true, false},
		"gzip without its end": {"a.csv.gz", filetest.Gzip(text)[:len(filetest.Gzip(text))-8], "the gzip file is truncated", true, true},
		"gzip with a bad sum":  {"a.csv.gz", flip(filetest.Gzip(text)), "the gzip file is damaged", true, true},
		"gzip and garbage":     {"a.csv.gz", filetest.Gzip(text) + "garbage", "the gzip file is", true, true},
		"no gzip at all":       {"a.csv.gz", text, "the gzip file is damaged", false, false},
		"empty gzip file":      {"a.csv.gz", "", "the gzip file is truncated", false, false},
		"truncated zstd":       {"a.csv.zst", filetest.Zstd(text)[:200_000], "the zstd file is truncated", true, false},
		"no zstd at all":       {"a.csv.zst", text, "the zstd file is damaged", false, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.Put(tc.file, tc.data)
			w.Put("b.csv", ab)
			c := w.config()
			c.ChunkBytes = 10_000
			w.must(c)
			h := w.Ledger()
			require.Equal(t, "failed", h[0].Status)
			require.Contains(t, h[0].Error, tc.want)
			require.Equal(t, "ok", h[1].Status)
			require.Equal(t, int64(len(w.Rows)-2), h[0].Rows)
			require.Equal(t, tc.some, h[0].Rows > 0)
			if tc.all {
				require.Equal(t, int64(20_000), h[0].Rows)
			}
			for i, row := range w.Rows[:h[0].Rows] { // and no half of a row
				require.Equal(t, int64(i), row.ID)
				require.Contains(t, text, fmt.Sprintf("\n%d,%s\n", row.ID, row.Text))
			}
		})
	}
	t.Run("several members", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		w.Put("a.csv.gz", filetest.Gzip("id,te")+filetest.Gzip("xt\n1,a\n2")+filetest.Gzip(",b\n"))
		w.must(w.config())
		require.Equal(t, []int64{1, 2}, w.IDs())
	})
}
