package sqlitesink_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/leattest"
	"github.com/leatgo/leat/sink/jsonsink"
	"github.com/leatgo/leat/sink/sqlitesink"
)

type fila struct {
	ID     int64
	Nombre string
}

func filas(n int) []fila {
	rows := make([]fila, n)
	for i := range rows {
		rows[i] = fila{int64(i), "x"}
	}
	return rows
}

func number(t *testing.T, path, query string) (n int64) {
	t.Helper()
	conn, err := sqlite.OpenConn(path, sqlite.OpenReadOnly)
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, sqlitex.ExecuteTransient(conn, query, &sqlitex.ExecOptions{ResultFunc: func(stmt *sqlite.Stmt) error {
		n = stmt.ColumnInt64(0)
		return nil
	}}))
	return n
}

// countLines counts the lines of all files that match.
func countLines(t *testing.T, glob string) (n int) {
	t.Helper()
	files, err := filepath.Glob(glob)
	require.NoError(t, err)
	for _, path := range files {
		b, err := os.ReadFile(path)
		require.NoError(t, err)
		n += bytes.Count(b, []byte("\n"))
	}
	return n
}

func runs(t *testing.T, p *leat.Pipeline) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	return p.Run(ctx)
}

// The sinks inside the real engine: what the unit tests can't see, such as how
// the engine reacts to the errors, and two sinks that share the write lock.
func TestInThePipeline(t *testing.T) {
	t.Parallel()
	const rows = 5000
	quick := leat.Retry{First: time.Millisecond, Max: 20 * time.Millisecond}

	t.Run("two tables of one database and a file of lines, over rewinds and a restart", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		db := filepath.Join(dir, "v.db")
		build := func(n int) *leat.Pipeline {
			p := leat.New("ventas", leat.Config{StateDir: filepath.Join(dir, "state"), Retry: quick, CheckpointEvery: 5 * time.Millisecond})
			flaky := leattest.Rows(filas(n)...).Partitions(3)
			flaky.FailAt(500, leat.Transient(errors.New("network"))).FailAt(1200, leat.Transient(errors.New("network")))
			leat.To(leat.From(p, flaky),
				sqlitesink.New(sqlitesink.Config[fila]{Path: db, Table: "a"}),
				sqlitesink.New(sqlitesink.Config[fila]{Path: db, Table: "b"}),
				jsonsink.New(jsonsink.Config[fila]{Dir: filepath.Join(dir, "c")}))
			return p
		}
		for _, n := range []int{rows, rows, rows + 300} {
			require.NoError(t, runs(t, build(n)))
			for _, table := range []string{"a", "b"} {
				assert.Equal(t, int64(n), number(t, db, "SELECT count(*) FROM "+table))
				assert.Equal(t, int64(n), number(t, db, "SELECT count(DISTINCT id) FROM "+table))
			}
			assert.Equal(t, n, countLines(t, filepath.Join(dir, "c", "*.jsonl")))
		}
	})
	t.Run("B5: a bad row is rejected alone", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		db := filepath.Join(dir, "v.db")
		conn, err := sqlite.OpenConn(db, sqlite.OpenReadWrite, sqlite.OpenCreate)
		require.NoError(t, err)
		require.NoError(t, sqlitex.ExecuteTransient(conn, "CREATE TABLE a (id INTEGER CHECK (id % 1000 <> 7), nombre TEXT)", nil))
		require.NoError(t, conn.Close())
		p := leat.New("ventas", leat.Config{StateDir: filepath.Join(dir, "state"), Retry: quick})
		leat.To(leat.From(p, leattest.Rows(filas(rows)...)), sqlitesink.New(sqlitesink.Config[fila]{Path: db, Table: "a"}))
		require.NoError(t, runs(t, p))
		assert.Equal(t, int64(rows-5), number(t, db, "SELECT count(*) FROM a"))
		assert.Equal(t, 5, countLines(t, filepath.Join(dir, "state", "dead-letters.jsonl")))
	})
	t.Run("E8: a row that rolls everything back is condemned over a rewind", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		db := filepath.Join(dir, "v.db")
		conn, err := sqlite.OpenConn(db, sqlite.OpenReadWrite, sqlite.OpenCreate)
		require.NoError(t, err)
		require.NoError(t, sqlitex.ExecuteTransient(conn, "CREATE TABLE a (id INTEGER, nombre TEXT)", nil))
		require.NoError(t, sqlitex.ExecuteTransient(conn, "CREATE TRIGGER tr BEFORE INSERT ON a WHEN new.id IN (777, 778, 2500) BEGIN SELECT RAISE(ROLLBACK, 'no'); END", nil))
		require.NoError(t, conn.Close())
		p := leat.New("ventas", leat.Config{StateDir: filepath.Join(dir, "state"), Retry: quick})
		leat.To(leat.From(p, leattest.Rows(filas(rows)...)), sqlitesink.New(sqlitesink.Config[fila]{Path: db, Table: "a"}))
		require.NoError(t, runs(t, p))
		assert.Equal(t, int64(rows-3), number(t, db, "SELECT count(*) FROM a"))
		assert.Equal(t, int64(rows-3), number(t, db, "SELECT count(DISTINCT id) FROM a"))
		assert.Equal(t, 3, countLines(t, filepath.Join(dir, "state", "dead-letters.jsonl")))
	})
}
