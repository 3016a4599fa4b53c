package csvsource

import (
	"context"
	"os"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat/internal/filesource/filetest"
	"github.com/leatgo/leat/source/files"
)

// rule D2: a file is skipped for another one of the same content. When that one can't
// be read after all, the content must not be lost with it.
func TestD2DuplicateOfAFileThatFails(t *testing.T) {
	t.Parallel()
	// 0.csv, a.csv and b.csv are entered together; a.csv goes away before its turn.
	goes := func(w *world) life {
		w.Put("0.csv", row1(100))
		w.Put("a.csv", ab)
		w.Put("b.csv", ab)
		w.Put("c.csv", ab)
		l := filetest.Whole()
		l.BeforeChunk = func(i int) {
			if i == 0 {
				require.NoError(w.T, os.Remove(w.Path("a.csv")))
			}
		}
		return l
	}
	for _, after := range []files.After{files.Keep, files.Move} {
		name := map[files.After]string{files.Keep: "Keep", files.Move: "Move"}[after]
		where := func(s, place string) string {
			if after == files.Move {
				return s + " " + place
			}
			return s
		}
		want := []string{
			where("0.csv ok", "processed/0.csv"), "a.csv failed", "b.csv skipped", where("c.csv skipped", "processed/c.csv"),
			where("b.csv ok", "processed/b.csv"),
		}
		t.Run(name+", one pass", func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			c := w.config()
			c.After = after
			require.NoError(t, w.live(c, goes(w)))
			require.Equal(t, []int64{100, 1, 2}, w.IDs())
			w.must(c)
			require.Equal(t, []int64{100, 1, 2}, w.IDs(), "once")
			require.Equal(t, want, w.Statuses())
			require.Zero(t, w.says("is gone file=b.csv"))
			if after == files.Move {
				require.Empty(t, w.inDir(w.Dir))
			}
		})
		t.Run(name+", watching", func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				c := w.config()
				c.After = after
				r := w.watch(c, goes(w))
				r.pass(4 * every)
				require.Equal(t, []int64{100, 1, 2}, r.have())
				require.ErrorIs(t, r.end(true), context.Canceled)
				c.Watch, c.PollOnly = 0, false
				w.must(c)
				require.Equal(t, want, w.Statuses())
			})
		})
		t.Run(name+", and the process dies before the original's turn", func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			c := w.config()
			c.After = after
			goes(w)
			require.ErrorIs(t, w.live(c, life{StopAfter: 1, Commit: 1, Hear: true}), filetest.ErrKilled)
			require.NoError(t, os.Remove(w.Path("a.csv")))
			w.must(c)
			require.Equal(t, []int64{100, 1, 2}, w.IDs())
			w.must(c)
			require.Equal(t, want, w.Statuses())
		})
		t.Run(name+", and the original is read at last", func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			c := w.config()
			c.After = after
			goes(w)
			require.ErrorIs(t, w.live(c, life{StopAfter: 1, Commit: 1, Hear: true}), filetest.ErrKilled)
			w.must(c)
			require.Equal(t, []int64{100, 1, 2}, w.IDs())
			require.Equal(t, []string{
				where("0.csv ok", "processed/0.csv"), where("a.csv ok", "processed/a.csv"),
				where("b.csv skipped", "processed/b.csv"), where("c.csv skipped", "processed/c.csv"),
			}, w.Statuses())
		})
	}
	// A file that was entered and not read gets another name while no process runs. The
	// next one finds the new name before it misses the old one.
	t.Run("renamed while pending", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			c := w.config()
			c.After = files.Move
			w.Put("0.csv", row1(100))
			w.Put("a.csv", ab)
			require.ErrorIs(t, w.live(c, life{StopAfter: 1, Commit: 1, Hear: true}), filetest.ErrKilled)
			require.NoError(t, os.Rename(w.Path("a.csv"), w.Path("b.csv")))
			c.OnFile = nil
			w.must(c)
			require.Equal(t, []int64{100, 1, 2}, w.IDs())
			require.ElementsMatch(t, []string{"0.csv", "b.csv"}, w.inDir(w.Beside("processed")))
		})
	})
	// rule B2: its content is as bad as the original's, and it is said of it too.
	t.Run("of a file that is refused whole", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		c := w.config()
		c.After = files.Move
		w.Put("a.csv", "id,text\n1,bad\n")
		w.Put("b.csv", "id,text\n1,bad\n")
		l := filetest.Whole()
		l.RejectFile = true
		require.NoError(t, w.live(c, l))
		require.Empty(t, w.IDs())
		require.ElementsMatch(t, []string{"a.csv", "b.csv"}, w.inDir(w.Beside("failed")))
	})
}
