package lake

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/filelock"
)

// The lakes in testdata/v1 were written by the program of version 1. In "sinks" three sinks
// have written the rows 0 to 47, 48 to 59 (and 60 to 69 in a commit that was cut off), and 70
// to 79 (cut off, in an epoch that has ended); in "compaction" one has written 0 to 47, and a
// compaction was cut off.
func old(t *testing.T, name string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	require.NoError(t, os.CopyFS(dir, os.DirFS(filepath.Join("testdata", "v1", name))))
	return dir
}

// H6: a lake of version 1 is read, its commits that were cut off come to their end, and it
// is written on.
func TestUpgrade(t *testing.T) {
	t.Parallel()
	t.Run("sinks", func(t *testing.T) {
		t.Parallel()
		dir := old(t, "sinks")
		whole(t, dir, 60)
		require.NoError(t, os.Remove(filepath.Join(dir, lockName(compactor, veteran)))) // until the next Compact
		at := func(node, pipeline string) (*Sink[fila], int64) {
			s := New(byP(dir))
			s.hook.every = 4
			require.NoError(t, s.Open(t.Context(), leat.Env{Pipeline: pipeline, Node: node}))
			t.Cleanup(func() { _ = s.Close() })
			got, err := s.Restore(t.Context(), []string{"src", "other"})
			require.NoError(t, err)
			require.NotContains(t, got, "other", "E7")
			return s, got["src"].Next
		}
		a, next := at("lago", "ventas")
		require.Equal(t, int64(48), next)
		b, next := at("otro", "ventas")
		require.Equal(t, int64(70), next, "F1: rolled forward")
		whole(t, dir, 70)
		c, next := at("lago", "compras")
		require.Zero(t, next, "E3: taken back")
		whole(t, dir, 70)
		tidyTree(t, dir)

		put(t, c, 70, 80)
		commit(t, c, 80)
		for i := int64(80); i < 120; i += 2 {
			put(t, a, i, i+1)
			commit(t, a, i+1)
			put(t, b, i+1, i+2)
			commit(t, b, i+2)
		}
		whole(t, dir, 120)
		held, err := Positions(dir)
		require.NoError(t, err)
		var epochs []int64
		for _, h := range held {
			epochs = append(epochs, h.Epoch)
		}
		require.Equal(t, []int64{3, 2, 3}, epochs, "they go on from those of version 1")
		for _, s := range []*Sink[fila]{a, b, c} {
			require.NoError(t, s.Close())
		}
		_, next = at("lago", "ventas")
		require.Equal(t, int64(119), next)
		tidyTree(t, dir)
	})
	t.Run("compaction", func(t *testing.T) {
		t.Parallel()
		dir := old(t, "compaction")
		whole(t, dir, 48)
		_, err := Compact(t.Context(), dir, compacting())
		require.NoError(t, err)
		whole(t, dir, 48)
		files, err := Files(dir)
		require.NoError(t, err)
		require.Len(t, files, 3)
		require.NoError(t, opened(t, byP(dir), env()).Close())
		tidyTree(t, dir)
	})
	t.Run("a program of version 1 that still runs keeps one of version 2 out", func(t *testing.T) {
		t.Parallel()
		dir := old(t, "sinks")
		lock, err := os.OpenFile(filepath.Join(dir, lockName(owner{"ventas", "otro"}, veteran)), os.O_RDWR, 0)
		require.NoError(t, err)
		require.NoError(t, filelock.Try(lock, false))
		s := New(byP(dir))
		err = s.Open(t.Context(), leat.Env{Pipeline: "ventas", Node: "otro"})
		require.ErrorContains(t, err, "is being written by pipeline ventas, sink otro")
		require.True(t, leat.IsTransient(err))
		require.NoError(t, opened(t, byP(dir), env()).Close(), "of another owner")
		filelock.Unlock(lock)
		require.NoError(t, lock.Close())
		require.NoError(t, s.Open(t.Context(), leat.Env{Pipeline: "ventas", Node: "otro"}))
		require.NoError(t, s.Close())
	})
}
