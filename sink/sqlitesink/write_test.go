package sqlitesink

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"zombiezen.com/go/sqlite"

	"github.com/leatgo/leat"
)

func TestWrite(t *testing.T) {
	t.Parallel()
	t.Run("nothing is visible before the commit", func(t *testing.T) {
		t.Parallel()
		path := dbPath(t)
		s := open(t, Config[venta]{Path: path})
		require.NoError(t, s.write(t.Context(), []venta{{1, "a"}, {2, "b"}}))
		assert.Equal(t, "int 0", count(t, path, "ventas"))
		commit(t, s, upTo(2))
		assert.Equal(t, "int 2", count(t, path, "ventas"))
	})
	t.Run("without a key the same row twice is two rows", func(t *testing.T) {
		t.Parallel()
		path := dbPath(t)
		s := open(t, Config[suelta]{Path: path})
		require.NoError(t, s.write(t.Context(), []suelta{{1, "a"}, {1, "a"}}))
		commit(t, s, upTo(2))
		assert.Equal(t, "int 2", count(t, path, "ventas"))
	})
	t.Run("with a key the last row wins", func(t *testing.T) {
		t.Parallel()
		path := dbPath(t)
		s := open(t, Config[venta]{Path: path})
		require.NoError(t, s.write(t.Context(), []venta{{1, "a"}, {2, "b"}, {1, "c"}}))
		commit(t, s, upTo(3))
		require.NoError(t, s.write(t.Context(), []venta{{2, "d"}}))
		commit(t, s, upTo(4))
		assert.Equal(t, [][]string{{"int 1", "text c"}, {"int 2", "text d"}}, ask(t, path, "SELECT * FROM ventas ORDER BY id"))
	})
	t.Run("a table of keys alone keeps the first", func(t *testing.T) {
		t.Parallel()
		type par struct {
			A int64  `leat:"a,key"`
			B string `leat:"b,key"`
		}
		path := dbPath(t)
		s := open(t, Config[par]{Path: path})
		require.NoError(t, s.write(t.Context(), []par{{1, "a"}, {1, "a"}, {1, "b"}}))
		commit(t, s, upTo(3))
		assert.Equal(t, "int 2", count(t, path, "ventas"))
	})
	t.Run("B5: a violation in the middle costs its rows and no others", func(t *testing.T) {
		t.Parallel()
		path := dbPath(t)
		run(t, path, `CREATE TABLE ventas (id INTEGER PRIMARY KEY CHECK (id > 0), nombre TEXT NOT NULL UNIQUE)`)
		s := open(t, Config[venta]{Path: path})
		require.NoError(t, s.write(t.Context(), []venta{{1, "a"}}))
		batch := []venta{{2, "b"}, {-1, "c"}, {3, "a"}, {4, "d"}, {-2, "e"}, {5, "b"}}
		err := s.write(t.Context(), batch)
		assert.Equal(t, []int{1, 2, 4, 5}, refusedRows(t, err))
		assert.Equal(t, "/check", because(t, err))
		var re *leat.RowErrors
		require.ErrorAs(t, err, &re)
		assert.Equal(t, "nombre/unique", because(t, &leat.RowErrors{Rows: re.Rows[1:]}))
		// The engine writes the rest again.
		require.NoError(t, s.write(t.Context(), []venta{batch[0], batch[3]}))
		commit(t, s, upTo(7))
		assert.Equal(t, [][]string{{"int 1", "text a"}, {"int 2", "text b"}, {"int 4", "text d"}}, ask(t, path, "SELECT * FROM ventas ORDER BY id"))
	})
	t.Run("B5: NULL for a column of the table that has none", func(t *testing.T) {
		t.Parallel()
		type nula struct {
			ID     int64
			Nombre *string
		}
		path := dbPath(t)
		run(t, path, `CREATE TABLE ventas (id INTEGER, nombre TEXT NOT NULL)`)
		s := open(t, Config[nula]{Path: path})
		name := "a"
		err := s.write(t.Context(), []nula{{1, &name}, {2, nil}})
		assert.Equal(t, []int{1}, refusedRows(t, err))
		assert.Equal(t, "nombre/not_null", because(t, err))
	})
	t.Run("B5: an expression of the table that fails for one row", func(t *testing.T) {
		t.Parallel()
		path := dbPath(t)
		run(t, path, `CREATE TABLE ventas (id INTEGER, nombre TEXT CHECK (json_extract(nombre, '$.a') > 0))`)
		s := open(t, Config[suelta]{Path: path})
		err := s.write(t.Context(), []suelta{{1, `{"a":1}`}, {2, `{"a":`}, {3, `{"a":2}`}})
		assert.Equal(t, []int{1}, refusedRows(t, err))
		assert.NotErrorIs(t, err, leat.ErrAborted)
	})
	t.Run("B5: a trigger that raises", func(t *testing.T) {
		t.Parallel()
		path := dbPath(t)
		run(t, path, `CREATE TABLE ventas (id INTEGER, nombre TEXT)`,
			`CREATE TRIGGER tr BEFORE INSERT ON ventas WHEN new.id = 2 BEGIN SELECT RAISE(ABORT, 'two is forbidden'); END`)
		s := open(t, Config[suelta]{Path: path})
		err := s.write(t.Context(), []suelta{{1, "a"}, {2, "b"}, {3, "c"}})
		assert.Equal(t, []int{1}, refusedRows(t, err))
		assert.Equal(t, "/trigger", because(t, err))
		assert.ErrorContains(t, err, "two is forbidden")
	})
	t.Run("E8: a constraint that rolls everything back aborts and names its row", func(t *testing.T) {
		t.Parallel()
		path := dbPath(t)
		run(t, path, `CREATE TABLE ventas (id INTEGER, nombre TEXT UNIQUE ON CONFLICT ROLLBACK)`)
		s := open(t, Config[suelta]{Path: path})
		require.NoError(t, s.write(t.Context(), []suelta{{1, "a"}}))
		err := s.write(t.Context(), []suelta{{2, "b"}, {3, "a"}, {4, "c"}})
		require.ErrorIs(t, err, leat.ErrAborted)
		assert.Equal(t, []int{1}, refusedRows(t, err))
		// Whatever comes before the rewind is refused, or the first rows would be lost.
		require.ErrorIs(t, s.write(t.Context(), []suelta{{5, "e"}}), leat.ErrAborted)
		_, err = s.Commit(t.Context(), upTo(5))
		require.ErrorIs(t, err, leat.ErrAborted)
		require.NoError(t, s.Close())
		require.NoError(t, s.Open(t.Context(), env()))
		at, err := s.Restore(t.Context(), []string{"p"})
		require.NoError(t, err)
		assert.Empty(t, at)
		assert.Equal(t, "int 0", count(t, path, "ventas"))
	})
	t.Run("an ended context leaves what was written before", func(t *testing.T) {
		t.Parallel()
		path := dbPath(t)
		s := open(t, Config[suelta]{Path: path})
		require.NoError(t, s.write(t.Context(), []suelta{{1, "a"}}))
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		err := s.write(ctx, []suelta{{2, "b"}})
		require.ErrorIs(t, err, context.Canceled)
		assert.NotErrorIs(t, err, leat.ErrAborted)
		commit(t, s, upTo(1))
		assert.Equal(t, "int 1", count(t, path, "ventas"))
	})
	t.Run("a commit is not broken off by its context", func(t *testing.T) {
		t.Parallel()
		path := dbPath(t)
		s := open(t, Config[suelta]{Path: path})
		require.NoError(t, s.write(t.Context(), []suelta{{1, "a"}}))
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		done, err := s.Commit(ctx, upTo(1))
		require.NoError(t, err)
		assert.True(t, done)
		assert.Equal(t, "int 1", count(t, path, "ventas"))
	})
	t.Run("a table that is dropped between two commits stops the pipeline, not the rows", func(t *testing.T) {
		t.Parallel()
		path := dbPath(t)
		s := open(t, Config[suelta]{Path: path})
		require.NoError(t, s.write(t.Context(), []suelta{{1, "a"}}))
		commit(t, s, upTo(1))
		run(t, path, "DROP TABLE ventas")
		err := s.write(t.Context(), []suelta{{2, "b"}})
		require.ErrorIs(t, err, leat.ErrAborted)
		require.NoError(t, s.Close())
		err = s.Open(t.Context(), env())
		require.ErrorContains(t, err, "the table ventas is gone")
		assert.False(t, leat.IsTransient(err))
	})
	t.Run("a column that is dropped between two commits", func(t *testing.T) {
		t.Parallel()
		path := dbPath(t)
		s := open(t, Config[suelta]{Path: path})
		require.NoError(t, s.write(t.Context(), []suelta{{1, "a"}}))
		commit(t, s, upTo(1))
		run(t, path, "ALTER TABLE ventas DROP COLUMN nombre")
		err := s.write(t.Context(), []suelta{{2, "b"}})
		require.ErrorIs(t, err, leat.ErrAborted)
		require.NoError(t, s.Close())
		require.ErrorContains(t, s.Open(t.Context(), env()), `lacks these columns`)
	})
	t.Run("before Open there is no plain error, which would condemn rows", func(t *testing.T) {
		t.Parallel()
		require.ErrorIs(t, New(Config[venta]{}).write(t.Context(), []venta{{}}), leat.ErrAborted)
	})
}

func TestFullDisk(t *testing.T) {
	t.Parallel()
	path := dbPath(t)
	s := open(t, Config[suelta]{Path: path})
	require.NoError(t, s.write(t.Context(), []suelta{{1, "a"}}))
	commit(t, s, upTo(1))
	require.NoError(t, s.db.exec("PRAGMA max_page_count=8"))
	require.NoError(t, s.write(t.Context(), []suelta{{2, "b"}}))
	err := s.write(t.Context(), []suelta{{3, string(make([]byte, 100_000))}, {4, "d"}})
	require.ErrorIs(t, err, leat.ErrAborted, "E8: the open rows are gone")
	assert.True(t, leat.IsTransient(err), "with backoff, until there is room")
	assert.NotErrorAs(t, err, new(*leat.RowErrors))
	require.NoError(t, s.Close())

	require.NoError(t, s.Open(t.Context(), env())) // room again
	at, err := s.Restore(t.Context(), []string{"p"})
	require.NoError(t, err)
	assert.Equal(t, int64(1), at["p"].Next)
	assert.Equal(t, "int 1", count(t, path, "ventas"))
}

// What Write can't tell the engine, the Open of the rewind does.
func TestDoom(t *testing.T) {
	t.Parallel()
	s := open(t, Config[suelta]{Path: dbPath(t)})
	require.NoError(t, s.write(t.Context(), []suelta{{1, "a"}}))
	err := s.abort(sqlite.ResultCorrupt.ToError())
	require.ErrorIs(t, err, leat.ErrAborted)
	assert.False(t, leat.IsTransient(err))
	require.NoError(t, s.Close())
	err = s.Open(t.Context(), env())
	require.ErrorContains(t, err, "malformed")
	assert.False(t, leat.IsTransient(err) || sqlite.ErrCode(err) == sqlite.ResultOK)
}

func TestReadOnlyDatabase(t *testing.T) {
	t.Parallel()
	s := open(t, Config[suelta]{Path: dbPath(t)})
	require.NoError(t, s.db.exec("PRAGMA query_only=1"))
	err := s.write(t.Context(), []suelta{{1, "a"}})
	require.ErrorIs(t, err, leat.ErrAborted)
	require.NoError(t, s.Close())
	require.ErrorContains(t, s.Open(t.Context(), env()), "readonly")
}
