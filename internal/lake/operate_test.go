package lake

import (
	"io/fs"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat"
)

// An operator moves a position: back, ahead and to nothing. Files stay as they are.
func TestMove(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := opened(t, config(dir), env())
	restored := func(s *Sink[fila]) map[string]leat.Position {
		at, err := s.Restore(t.Context(), []string{"src"})
		require.NoError(t, err)
		return at
	}
	require.Empty(t, restored(s))
	put(t, s, 0, 10)
	commit(t, s, 10)

	held, err := Positions(dir)
	require.NoError(t, err)
	require.Equal(t, []Held{{"ventas", "lago", "src", leat.Position{Next: 10, Log: "log"}, 2}}, held, "Restore has been called twice")
	require.Error(t, Move(dir, held[0], leat.Position{}), "a sink is open")
	require.NoError(t, s.Close())

	for _, to := range []leat.Position{{Next: 4, Log: "log"}, {Next: 400, Log: "log"}, {}} {
		require.NoError(t, Move(dir, held[0], to))
		require.ErrorContains(t, Move(dir, held[0], to), "look again", "compare and set")
		held, err = Positions(dir)
		require.NoError(t, err)
		require.Equal(t, to, held[0].Position)
		s := opened(t, config(dir), env())
		require.Equal(t, to, restored(s)["src"])
		require.NoError(t, s.Close())
	}
	files, err := Files(dir)
	require.NoError(t, err)
	require.Len(t, files, 1)

	// From nothing on it goes on as a new lake would.
	s = opened(t, config(dir), env())
	put(t, s, 0, 5)
	commit(t, s, 5)
	require.NoError(t, s.Close())
	held, err = Positions(dir)
	require.NoError(t, err)
	require.Equal(t, leat.Position{Next: 5, Log: "log"}, held[0].Position)

	_, err = Positions(t.TempDir())
	require.ErrorIs(t, err, fs.ErrNotExist)
	empty := t.TempDir()
	require.ErrorIs(t, Move(empty, held[0], leat.Position{}), fs.ErrNotExist)
	require.NoDirExists(t, empty+"/_leat")
}
