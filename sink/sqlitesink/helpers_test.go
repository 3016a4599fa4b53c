package sqlitesink

import (
	"fmt"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/leatgo/leat"
)

type venta struct {
	ID     int64  `leat:"id,key"`
	Nombre string `leat:"nombre"`
}

// suelta is a row type without a key.
type suelta struct {
	ID     int64  `leat:"id"`
	Nombre string `leat:"nombre"`
}

func dbPath(t testing.TB) string { return filepath.Join(t.TempDir(), "ventas.db") }

func env() leat.Env { return envOf("ventas", "tabla") }

func envOf(pipeline, node string) leat.Env {
	return leat.Env{Pipeline: pipeline, Node: node, Logger: slog.New(slog.DiscardHandler)}
}

// open makes a sink on path and begins a life of it with partition "p".
func open[T any](t testing.TB, c Config[T]) *Sink[T] {
	t.Helper()
	if c.Table == "" {
		c.Table = "ventas"
	}
	s := New(c)
	require.NoError(t, s.Validate())
	require.NoError(t, s.Open(t.Context(), env()))
	t.Cleanup(func() { _ = s.Close() })
	_, err := s.Restore(t.Context(), []string{"p"})
	require.NoError(t, err)
	return s
}

func upTo(next int64) leat.Checkpoint {
	return leat.Checkpoint{Positions: map[string]leat.Position{"p": {Next: next, Log: "log"}}}
}

func commit[T any](t testing.TB, s *Sink[T], cp leat.Checkpoint) {
	t.Helper()
	done, err := s.Commit(t.Context(), cp)
	require.NoError(t, err)
	require.True(t, done)
}

// connect opens a connection of somebody else.
func connect(t testing.TB, path string) *sqlite.Conn {
	t.Helper()
	c, err := sqlite.OpenConn(path, sqlite.OpenReadWrite, sqlite.OpenCreate)
	require.NoError(t, err)
	c.SetBusyTimeout(5 * time.Second)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func run(t testing.TB, path string, statements ...string) {
	t.Helper()
	c := connect(t, path)
	for _, q := range statements {
		require.NoError(t, sqlitex.ExecuteTransient(c, q, nil), q)
	}
	require.NoError(t, c.Close())
}

// ask returns the result of a query as text, with the storage class of each
// value: "int 1", "text a", "null".
func ask(t testing.TB, path, query string, args ...any) [][]string {
	t.Helper()
	c := connect(t, path)
	defer c.Close()
	var out [][]string
	err := sqlitex.ExecuteTransient(c, query, &sqlitex.ExecOptions{Args: args, ResultFunc: func(stmt *sqlite.Stmt) error {
		var r []string
		for i := range stmt.ColumnCount() {
			switch stmt.ColumnType(i) {
			case sqlite.TypeNull:
				r = append(r, "null")
			case sqlite.TypeInteger:
				r = append(r, fmt.Sprintf("int %d", stmt.ColumnInt64(i)))
			case sqlite.TypeFloat:
				r = append(r, fmt.Sprintf("real %v", stmt.ColumnFloat(i)))
			case sqlite.TypeText:
				r = append(r, "text "+stmt.ColumnText(i))
			case sqlite.TypeBlob:
				b := make([]byte, stmt.ColumnLen(i))
				stmt.ColumnBytes(i, b)
				r = append(r, fmt.Sprintf("blob %x", b))
			}
		}
		out = append(out, r)
		return nil
	}})
	require.NoError(t, err)
	return out
}

func count(t testing.TB, path, table string) string {
	t.Helper()
	return ask(t, path, "SELECT count(*) FROM "+quote(table))[0][0]
}

// refusedRows gives the indices that a Write named.
func refusedRows(t testing.TB, err error) []int {
	t.Helper()
	var re *leat.RowErrors
	require.ErrorAs(t, err, &re)
	var out []int
	for _, r := range re.Rows {
		out = append(out, r.Row)
	}
	return out
}

// because gives "column/rule" of the first refused row.
func because(t testing.TB, err error) string {
	t.Helper()
	var re *leat.RowErrors
	require.ErrorAs(t, err, &re)
	var f interface{ Field() (string, string) }
	require.ErrorAs(t, re.Rows[0].Err, &f)
	column, rule := f.Field()
	return column + "/" + rule
}
