package sqlitesink

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/leattest"
)

// conKey and conBare take different ways to the database.
type conKey struct {
	ID     uint64 `leat:"id,key"`
	Nombre string `leat:"nombre"`
}

type conBare struct {
	ID     uint64 `leat:"id"`
	Nombre string `leat:"nombre"`
}

// The contract of leat.Sink.
func TestConformance(t *testing.T) {
	t.Parallel()
	t.Run("with a key", func(t *testing.T) {
		t.Parallel()
		leattest.TestSink(t, harness("", func(id uint64, name string) conKey { return conKey{id, name} }, func(r conKey) conKey { r.ID = 1 << 63; return r }))
	})
	t.Run("without a key", func(t *testing.T) {
		t.Parallel()
		leattest.TestSink(t, harness("", func(id uint64, name string) conBare { return conBare{id, name} }, func(r conBare) conBare { r.ID = 1 << 63; return r }))
	})
	t.Run("with a constraint", func(t *testing.T) { // SQLite refuses, not the sink: rows are found by savepoints
		t.Parallel()
		leattest.TestSink(t, harness("CREATE TABLE IF NOT EXISTS ventas (id INTEGER PRIMARY KEY, nombre TEXT CHECK (nombre <> 'bad'))",
			func(id uint64, name string) conKey { return conKey{id, name} }, func(r conKey) conKey { r.Nombre = "bad"; return r }))
	})
}

func harness[T any](ddl string, row func(id uint64, name string) T, spoil func(T) T) leattest.SinkHarness[T] {
	path := func(dir string) string { return filepath.Join(dir, "a.db") }
	return leattest.SinkHarness[T]{
		New: func(t *testing.T, dir string) leat.Sink[T] {
			if ddl != "" {
				if _, err := os.Stat(path(dir)); err != nil {
					run(t, path(dir), ddl)
				}
			}
			return New(Config[T]{Path: path(dir), Table: "ventas", BusyTimeout: -1})
		},
		Row: func(n int) T { return row(uint64(n), fmt.Sprint("n", n)) },
		Bad: func(n int) T { return spoil(row(uint64(n), "")) },
		ReadBack: func(t *testing.T, dir string) []T {
			if _, err := os.Stat(path(dir)); err != nil {
				return nil
			}
			c := connect(t, path(dir))
			defer c.Close()
			var out []T
			require.NoError(t, sqlitex.ExecuteTransient(c, `SELECT id, nombre FROM ventas ORDER BY rowid`, &sqlitex.ExecOptions{ResultFunc: func(stmt *sqlite.Stmt) error {
				out = append(out, row(uint64(stmt.ColumnInt64(0)), stmt.ColumnText(1)))
				return nil
			}}))
			return out
		},
		Trouble: func(t *testing.T, dir string) func() {
			// Somebody else takes the write lock as soon as it is free.
			c := connect(t, path(dir))
			c.SetBusyTimeout(0)
			err := sqlitex.ExecuteTransient(c, "BEGIN IMMEDIATE", nil)
			return func() {
				if err == nil {
					require.NoError(t, sqlitex.ExecuteTransient(c, "ROLLBACK", nil))
				}
				require.NoError(t, c.Close())
			}
		},
		Ambiguous: func(_ *testing.T, _ string, sink leat.Sink[T], took bool) {
			s := sink.(*Sink[T])
			s.commitHook = func() error {
				s.commitHook = nil
				if took {
					if err := s.db.commit(); err != nil {
						return err
					}
				}
				return fmt.Errorf("%w: %w", io.ErrUnexpectedEOF, sqlite.ResultIOErr.ToError())
			}
		},
	}
}

// Nothing of a bubble of testing/synctest is left behind for the next one to stumble over.
func TestOneFileInTwoBubbles(t *testing.T) {
	t.Parallel()
	path := dbPath(t)
	for n := range 2 {
		p := leat.New(fmt.Sprint("p", n), leat.Config{})
		rows := leat.From(p, leattest.Rows(venta{int64(n), "a"}))
		leat.To(rows, New(Config[venta]{Path: path, Table: "one"}), New(Config[venta]{Path: path, Table: "two"}))
		leattest.Run(t, p)
	}

}
