package sqlitesink

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/leatgo/leat"
)

const positions = `SELECT "partition", next_offset, resume, log, epoch FROM leat_positions ORDER BY 1`

func TestRestore(t *testing.T) {
	t.Parallel()
	t.Run("E7: a missing position is not 0", func(t *testing.T) {
		t.Parallel()
		path := dbPath(t)
		s := open(t, Config[venta]{Path: path})
		at, err := s.Restore(t.Context(), []string{"p", "q"})
		require.NoError(t, err)
		assert.Empty(t, at)
		commit(t, s, leat.Checkpoint{Positions: map[string]leat.Position{"p": {Next: 0, Log: "l"}}})
		at, err = s.Restore(t.Context(), []string{"p", "q"})
		require.NoError(t, err)
		assert.Equal(t, map[string]leat.Position{"p": {Next: 0, Log: "l"}}, at, "0 is a position once it is stored")
		assert.Equal(t, [][]string{{"text p", "int 0", "text ", "text l", "int 3"}, {"text q", "null", "text ", "text ", "int 2"}}, ask(t, path, positions))
	})
	t.Run("E1: positions survive, byte for byte", func(t *testing.T) {
		t.Parallel()
		s := open(t, Config[venta]{Path: dbPath(t)})
		want := leat.Position{Next: 1 << 60, Resume: "a\x00\xff\"'", Log: "log-1"}
		require.NoError(t, s.write(t.Context(), []venta{{1, "a"}}))
		commit(t, s, leat.Checkpoint{Positions: map[string]leat.Position{"p": want}})
		require.NoError(t, s.Close())
		require.NoError(t, s.Open(t.Context(), env()))
		at, err := s.Restore(t.Context(), []string{"p"})
		require.NoError(t, err)
		assert.Equal(t, want, at["p"])
	})
	t.Run("positions belong to one pipeline and one sink", func(t *testing.T) {
		t.Parallel()
		path := dbPath(t)
		s := open(t, Config[venta]{Path: path})
		commit(t, s, upTo(5))
		require.NoError(t, s.Close())
		for _, e := range []leat.Env{envOf("ventas", "otra"), envOf("otra", "tabla")} {
			require.NoError(t, s.Open(t.Context(), e))
			at, err := s.Restore(t.Context(), []string{"p"})
			require.NoError(t, err)
			assert.Empty(t, at)
			require.NoError(t, s.Close())
		}
	})
	t.Run("H5: partitions added while rows are open", func(t *testing.T) {
		t.Parallel()
		path := dbPath(t)
		s := open(t, Config[suelta]{Path: path})
		require.NoError(t, s.write(t.Context(), []suelta{{1, "a"}}))
		at, err := s.Restore(t.Context(), []string{"q"})
		require.NoError(t, err)
		assert.Empty(t, at)
		require.NoError(t, s.write(t.Context(), []suelta{{2, "b"}}))
		commit(t, s, leat.Checkpoint{Positions: map[string]leat.Position{"p": {Next: 1}, "q": {Next: 7}}})
		assert.Equal(t, "int 2", count(t, path, "ventas"))
		assert.Equal(t, [][]string{{"text p", "int 1", "text ", "text ", "int 1"}, {"text q", "int 7", "text ", "text ", "int 1"}}, ask(t, path, positions))
	})
}

func TestCommit(t *testing.T) {
	t.Parallel()
	t.Run("E3: positions move without rows", func(t *testing.T) {
		t.Parallel()
		path := dbPath(t)
		s := open(t, Config[venta]{Path: path})
		commit(t, s, upTo(9))
		assert.Equal(t, [][]string{{"text p", "int 9", "text ", "text log", "int 1"}}, ask(t, path, positions))
		commit(t, s, upTo(9))
		commit(t, s, leat.Checkpoint{})
	})
	t.Run("E7: a sink that is ahead does not step back", func(t *testing.T) {
		t.Parallel()
		path := dbPath(t)
		s := open(t, Config[venta]{Path: path})
		commit(t, s, upTo(500))
		commit(t, s, upTo(400))
		assert.Equal(t, "int 500", ask(t, path, positions)[0][1])
		commit(t, s, leat.Checkpoint{Positions: map[string]leat.Position{"p": {Next: 3, Log: "new log"}}})
		assert.Equal(t, "int 3", ask(t, path, positions)[0][1], "A2-1: another log is another offset space")
	})
	t.Run("an unknown position says nothing", func(t *testing.T) {
		t.Parallel()
		path := dbPath(t)
		s := open(t, Config[venta]{Path: path})
		commit(t, s, leat.Checkpoint{Positions: map[string]leat.Position{"p": {}}})
		assert.Equal(t, "null", ask(t, path, positions)[0][1])
	})
	t.Run("a partition that was never restored can't be fenced, so it can't be committed", func(t *testing.T) {
		t.Parallel()
		s := open(t, Config[venta]{Path: dbPath(t)})
		_, err := s.Commit(t.Context(), leat.Checkpoint{Positions: map[string]leat.Position{"x": {Next: 1}}})
		require.ErrorContains(t, err, "never restored")
	})
	t.Run("E3: a second owner takes the epoch and the first is fenced", func(t *testing.T) {
		t.Parallel()
		path := dbPath(t)
		first := open(t, Config[suelta]{Path: path})
		require.NoError(t, first.write(t.Context(), []suelta{{1, "a"}}))
		commit(t, first, upTo(1))

		second := New(Config[suelta]{Path: path, Table: "ventas"})
		require.NoError(t, second.Open(t.Context(), env()))
		t.Cleanup(func() { _ = second.Close() })
		at, err := second.Restore(t.Context(), []string{"p"})
		require.NoError(t, err)
		assert.Equal(t, int64(1), at["p"].Next)

		require.NoError(t, first.write(t.Context(), []suelta{{2, "first"}}))
		_, err = first.Commit(t.Context(), upTo(2))
		require.ErrorIs(t, err, leat.ErrFenced)
		require.ErrorContains(t, err, `"p"`)
		assert.False(t, leat.IsTransient(err))

		require.NoError(t, second.write(t.Context(), []suelta{{2, "second"}}))
		commit(t, second, upTo(2))
		assert.Equal(t, [][]string{{"int 1", "text a"}, {"int 2", "text second"}}, ask(t, path, "SELECT * FROM ventas"))
		require.ErrorIs(t, first.write(t.Context(), []suelta{{3, "first"}}), leat.ErrAborted, "E8: a fence costs the open rows")
	})
	t.Run("E3: only the partitions that another owner has are fenced", func(t *testing.T) {
		t.Parallel()
		path := dbPath(t)
		first := open(t, Config[suelta]{Path: path})
		_, err := first.Restore(t.Context(), []string{"q", "r"})
		require.NoError(t, err)
		second := New(Config[suelta]{Path: path, Table: "ventas"})
		require.NoError(t, second.Open(t.Context(), env()))
		_, err = second.Restore(t.Context(), []string{"q"})
		require.NoError(t, err)
		require.NoError(t, second.Close())

		commit(t, first, leat.Checkpoint{Positions: map[string]leat.Position{"p": {Next: 1}, "r": {Next: 1}}})
		_, err = first.Commit(t.Context(), leat.Checkpoint{Positions: map[string]leat.Position{"p": {Next: 2}, "q": {Next: 2}, "r": {Next: 2}}})
		require.ErrorIs(t, err, leat.ErrFenced)
		assert.ErrorContains(t, err, `["q"]`)
		assert.Equal(t, "int 1", ask(t, path, positions)[0][1], "rolled back as a whole")
	})
	t.Run("E3: a position that somebody else moved fences", func(t *testing.T) {
		t.Parallel()
		path := dbPath(t)
		s := open(t, Config[suelta]{Path: path})
		commit(t, s, upTo(1))
		run(t, path, "UPDATE leat_positions SET next_offset = 77")
		_, err := s.Commit(t.Context(), upTo(2))
		require.ErrorIs(t, err, leat.ErrFenced)
	})
	t.Run("Close discards what is not committed, and Open begins a new life", func(t *testing.T) {
		t.Parallel()
		path := dbPath(t)
		s := open(t, Config[suelta]{Path: path})
		require.NoError(t, s.write(t.Context(), []suelta{{1, "a"}}))
		commit(t, s, upTo(1))
		require.NoError(t, s.write(t.Context(), []suelta{{2, "b"}}))
		require.NoError(t, s.Close())
		require.NoError(t, s.Close(), "a second Close does nothing")
		assert.Equal(t, "int 1", count(t, path, "ventas"))
		require.NoError(t, s.Open(t.Context(), env()))
		require.ErrorContains(t, s.Open(t.Context(), env()), "is open")
	})
}

func TestBusy(t *testing.T) {
	t.Parallel()
	lock := func(t *testing.T, path string) *sqlite.Conn {
		c := connect(t, path)
		require.NoError(t, sqlitex.ExecuteTransient(c, "BEGIN IMMEDIATE", nil))
		return c
	}
	t.Run("another writer is waited for, then Transient, then all is well", func(t *testing.T) {
		t.Parallel()
		path := dbPath(t)
		s := open(t, Config[suelta]{Path: path, BusyTimeout: 20 * time.Millisecond})
		other := lock(t, path)
		err := s.write(t.Context(), []suelta{{1, "a"}})
		assert.True(t, leat.IsTransient(err), "%v", err)
		assert.NotErrorIs(t, err, leat.ErrAborted, "nothing was lost")
		_, err = s.Commit(t.Context(), upTo(1))
		assert.True(t, leat.IsTransient(err))
		_, err = s.Restore(t.Context(), []string{"q"})
		assert.True(t, leat.IsTransient(err))
		err = New(Config[suelta]{Path: path, Table: "ventas", BusyTimeout: -1}).Open(t.Context(), env())
		assert.True(t, leat.IsTransient(err), "%v", err)
		require.NoError(t, sqlitex.ExecuteTransient(other, "COMMIT", nil))
		require.NoError(t, s.write(t.Context(), []suelta{{1, "a"}}))
		commit(t, s, upTo(1))
		assert.Equal(t, "int 1", count(t, path, "ventas"))
	})
	t.Run("the wait ends with the context", func(t *testing.T) {
		t.Parallel()
		path := dbPath(t)
		s := open(t, Config[suelta]{Path: path, BusyTimeout: time.Hour})
		lock(t, path)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		require.ErrorIs(t, s.write(ctx, []suelta{{1, "a"}}), context.DeadlineExceeded)
	})
	t.Run("a reader does not hold the sink up", func(t *testing.T) {
		t.Parallel()
		path := dbPath(t)
		s := open(t, Config[suelta]{Path: path, BusyTimeout: -1})
		c := connect(t, path)
		require.NoError(t, sqlitex.ExecuteTransient(c, "BEGIN", nil))
		require.NoError(t, sqlitex.ExecuteTransient(c, "SELECT * FROM ventas", nil))
		require.NoError(t, s.write(t.Context(), []suelta{{1, "a"}}))
		commit(t, s, upTo(1))
	})
	t.Run("two sinks on one file take turns", func(t *testing.T) {
		t.Parallel()
		path := dbPath(t)
		a := open(t, Config[suelta]{Path: path, Table: "a"})
		b := New(Config[suelta]{Path: path, Table: "b"})
		require.NoError(t, b.Open(t.Context(), envOf("ventas", "b")))
		t.Cleanup(func() { _ = b.Close() })
		_, err := b.Restore(t.Context(), []string{"p"})
		require.NoError(t, err)
		const turns = 20
		end := make(chan error)
		go func() {
			for i := range int64(turns) {
				if err := b.write(t.Context(), []suelta{{i, "b"}}); err != nil {
					end <- err
					return
				}
				if _, err := b.Commit(t.Context(), upTo(i+1)); err != nil {
					end <- err
					return
				}
			}
			end <- nil
		}()
		for i := range int64(turns) {
			require.NoError(t, a.write(t.Context(), []suelta{{i, "a"}}))
			commit(t, a, upTo(i+1))
		}
		require.NoError(t, <-end)
		assert.Equal(t, "int 20", count(t, path, "a"))
		assert.Equal(t, "int 20", count(t, path, "b"))
	})
	t.Run("a sink of this process that holds the turn makes the other one retry", func(t *testing.T) {
		t.Parallel()
		path := dbPath(t)
		a := open(t, Config[suelta]{Path: path})
		b := open(t, Config[suelta]{Path: path, BusyTimeout: -1})
		require.NoError(t, b.write(t.Context(), []suelta{{1, "b"}}))
		a.db.wait = 0
		err := a.write(t.Context(), []suelta{{1, "a"}})
		assert.True(t, leat.IsTransient(err))
		require.NoError(t, b.Close())
		require.NoError(t, a.write(t.Context(), []suelta{{1, "a"}}))
	})
}

// A2-2, E3, H4: of a source that is only similar, rows come again that the sink holds, and no position
// moves. A member that has lost the partition meanwhile may not write them either: they would overwrite
// newer ones.
func TestRowsThatComeAgainAreFenced(t *testing.T) {
	t.Parallel()
	path := dbPath(t)
	at := func(next int64) leat.Checkpoint {
		return leat.Checkpoint{Positions: map[string]leat.Position{"": {Next: next, Log: "log"}}}
	}
	again := func(s *Sink[venta], name string) (bool, error) {
		var b leat.Batch[venta] // of partition ""
		b.Append(venta{1, name}, 0)
		require.NoError(t, s.Write(t.Context(), &b))
		return s.Commit(t.Context(), at(5)) // the sink holds up to 10
	}
	member := func() *Sink[venta] {
		s := New(Config[venta]{Path: path, Table: "ventas"})
		require.NoError(t, s.Open(t.Context(), env()))
		t.Cleanup(func() { _ = s.Close() })
		_, err := s.Restore(t.Context(), []string{""})
		require.NoError(t, err)
		return s
	}
	stale := member()
	require.NoError(t, stale.write(t.Context(), []venta{{1, "a"}}))
	commit(t, stale, at(10))
	done, err := again(stale, "b")
	require.NoError(t, err)
	require.True(t, done)

	younger := member()
	require.NoError(t, younger.write(t.Context(), []venta{{1, "new"}}))
	commit(t, younger, at(20))
	_, err = again(stale, "old")
	require.ErrorIs(t, err, leat.ErrFenced)
	assert.Equal(t, [][]string{{"text new"}}, ask(t, path, "SELECT nombre FROM ventas"))

	// E4: where no position moves, none tells whether a commit has happened.
	failAtCommit(younger, sqlite.ResultIOErrFsync.ToError(), func() { younger.db.rollback() })
	_, err = again(younger, "c")
	require.ErrorIs(t, err, leat.ErrAborted)
}

// failAtCommit makes the next COMMIT return err after doing what f does.
func failAtCommit[T any](s *Sink[T], err error, f func()) {
	s.commitHook = func() error {
		s.commitHook = nil
		f()
		return err
	}
}

func TestCommitErrors(t *testing.T) {
	t.Parallel()
	ioerr := sqlite.ResultIOErrFsync.ToError()
	start := func(t *testing.T) (string, *Sink[suelta]) {
		path := dbPath(t)
		s := open(t, Config[suelta]{Path: path})
		require.NoError(t, s.write(t.Context(), []suelta{{1, "a"}}))
		commit(t, s, upTo(1))
		require.NoError(t, s.write(t.Context(), []suelta{{2, "b"}}))
		return path, s
	}
	t.Run("E4: the new position is there, so it is committed", func(t *testing.T) {
		t.Parallel()
		path, s := start(t)
		failAtCommit(s, ioerr, func() { require.NoError(t, s.db.commit()) })
		commit(t, s, upTo(2))
		assert.Equal(t, "int 2", count(t, path, "ventas"))
		require.ErrorIs(t, s.write(t.Context(), []suelta{{3, "c"}}), leat.ErrAborted, "the connection is used no more")
	})
	t.Run("E4: the old position is there, so it is aborted", func(t *testing.T) {
		t.Parallel()
		path, s := start(t)
		failAtCommit(s, ioerr, func() { s.db.rollback() })
		done, err := s.Commit(t.Context(), upTo(2))
		require.ErrorIs(t, err, leat.ErrAborted)
		assert.False(t, done)
		assert.True(t, leat.IsTransient(err))
		assert.Equal(t, "int 1", count(t, path, "ventas"))
	})
	t.Run("E4: anything else is fenced", func(t *testing.T) {
		t.Parallel()
		path, s := start(t)
		failAtCommit(s, ioerr, func() {
			s.db.rollback()
			run(t, path, "UPDATE leat_positions SET epoch = epoch + 1")
		})
		_, err := s.Commit(t.Context(), upTo(2))
		require.ErrorIs(t, err, leat.ErrFenced)
	})
	t.Run("busy at COMMIT holds everything and can be tried again", func(t *testing.T) {
		t.Parallel()
		path, s := start(t)
		failAtCommit(s, sqlite.ResultBusy.ToError(), func() {})
		_, err := s.Commit(t.Context(), upTo(2))
		require.True(t, leat.IsTransient(err))
		require.NotErrorIs(t, err, leat.ErrAborted)
		require.NoError(t, s.write(t.Context(), []suelta{{3, "c"}}))
		commit(t, s, upTo(3)) // E3: compares with the position of the database, not of the first attempt
		assert.Equal(t, "int 3", count(t, path, "ventas"))
	})
	t.Run("a corrupt database ends the pipeline", func(t *testing.T) {
		t.Parallel()
		path, s := start(t)
		failAtCommit(s, sqlite.ResultCorrupt.ToError(), func() {})
		_, err := s.Commit(t.Context(), upTo(2))
		require.ErrorContains(t, err, "malformed")
		assert.NotErrorIs(t, err, leat.ErrAborted)
		assert.False(t, leat.IsTransient(err))
		assert.Equal(t, "int 1", count(t, path, "ventas"))
	})
	t.Run("leat_positions is gone", func(t *testing.T) {
		t.Parallel()
		path, s := start(t)
		commit(t, s, upTo(2))
		run(t, path, "DROP TABLE leat_positions")
		require.NoError(t, s.write(t.Context(), []suelta{{3, "c"}}))
		_, err := s.Commit(t.Context(), upTo(3))
		require.ErrorContains(t, err, "no such table")
		assert.NotErrorIs(t, err, leat.ErrAborted)
		assert.Equal(t, "int 2", count(t, path, "ventas"))
	})
}

func TestSynchronous(t *testing.T) {
	t.Parallel()
	for want, mode := range map[string]Synchronous{"int 2": Full, "int 1": Normal} {
		s := open(t, Config[venta]{Path: dbPath(t), Synchronous: mode})
		var got int64
		require.NoError(t, s.db.query("PRAGMA synchronous", func(stmt *sqlite.Stmt) error { got = stmt.ColumnInt64(0); return nil }))
		assert.Equal(t, want, map[int64]string{2: "int 2", 1: "int 1"}[got])
	}
}

// A position that is not the one that was written is never believed.
func TestPositionsThatAreDamaged(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		damage string
		want   string // of the error; "" is none
	}{
		"the offset":              {"UPDATE leat_positions SET next_offset = next_offset + 16", `partition "p" does not match`},
		"nothing held":            {"UPDATE leat_positions SET next_offset = NULL", `partition "p" does not match`},
		"where to go on":          {"UPDATE leat_positions SET resume = 'x'", `partition "p" does not match`},
		"the log":                 {"UPDATE leat_positions SET log = 'lof'", `partition "p" does not match`},
		"the partition's name":    {"UPDATE leat_positions SET partition = 'q'", `partition "q" does not match`},
		"the pipeline's name":     {"UPDATE leat_positions SET pipeline = 'ventar'", `pipeline "ventar"`},
		"the sink's name":         {"UPDATE leat_positions SET sink = 'tablb'", `sink "tablb"`},
		"the checksum":            {"UPDATE leat_positions SET checksum = '00000000'", `partition "p" does not match`},
		"by hand, and it says so": {"UPDATE leat_positions SET next_offset = 7, checksum = NULL", ""},
		"the epoch":               {"UPDATE leat_positions SET epoch = epoch + 1", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := dbPath(t)
			s := open(t, Config[venta]{Path: path})
			require.NoError(t, s.write(t.Context(), []venta{{1, "a"}}))
			commit(t, s, upTo(5))
			require.NoError(t, s.Close())
			run(t, path, c.damage)
			require.NoError(t, s.Open(t.Context(), env()))
			before := ask(t, path, "SELECT * FROM leat_positions")
			at, err := s.Restore(t.Context(), []string{"p"})
			if c.want == "" {
				require.NoError(t, err)
				require.NotEmpty(t, at)
				return
			}
			require.ErrorContains(t, err, c.want)
			require.ErrorContains(t, err, path)
			require.ErrorContains(t, err, "restore the whole database from a backup")
			require.False(t, leat.IsTransient(err))
			require.Equal(t, before, ask(t, path, "SELECT * FROM leat_positions"), "nothing was changed")
		})
	}
}

// rule H6: a table that an older leat has made gets its checksums.
func TestPositionsOfAnOlderLeat(t *testing.T) {
	t.Parallel()
	path := dbPath(t)
	run(t, path, strings.Replace(createPositions, `	"checksum" TEXT,`, "", 1),
		"INSERT INTO leat_positions VALUES ('ventas', 'tabla', 'p', 3, 'r', 'log', 7, 'then')", "CREATE TABLE ventas (id INTEGER PRIMARY KEY, nombre TEXT NOT NULL)")
	s := New(Config[venta]{Path: path, Table: "ventas"})
	require.NoError(t, s.Open(t.Context(), env()))
	at, err := s.Restore(t.Context(), []string{"p", "q"})
	require.NoError(t, err)
	require.Equal(t, map[string]leat.Position{"p": {Next: 3, Resume: "r", Log: "log"}}, at)
	commit(t, s, upTo(5))
	require.NoError(t, s.Close())
	require.Equal(t, [][]string{{"text p", "text text"}, {"text q", "text text"}}, ask(t, path, "SELECT partition, typeof(checksum) FROM leat_positions"))
	require.NoError(t, s.Open(t.Context(), env()))
	at, err = s.Restore(t.Context(), []string{"p"})
	require.NoError(t, err)
	require.Equal(t, int64(5), at["p"].Next)
	require.NoError(t, s.Close())
}
