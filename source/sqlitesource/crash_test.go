package sqlitesource

import (
	"context"
	"io"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/killtest"
	"github.com/leatgo/leat/sink/sqlitesink"
)

func TestMain(m *testing.M) { killtest.Main(m, map[string]func(dir string){"copy": copyTable}) }

// killRows are in the table that is read; it gets no more.
const killRows = 20_000

// acks is a log of the sink's commits, as a sink of its own.
type acks struct{ n int64 }

func (a *acks) Name() string                         { return "acks" }
func (a *acks) Open(context.Context, leat.Env) error { return nil }
func (a *acks) Close() error                         { return nil }
func (a *acks) Write(_ context.Context, b *leat.Batch[fila]) error {
	a.n += int64(b.Len())
	return nil
}
func (a *acks) Commit(context.Context, leat.Checkpoint) (bool, error) {
	killtest.Ack(a.n)
	return true, nil
}

// copyTable copies t of in.db to out.db by a pipeline. When it has all, it waits to be
// killed.
func copyTable(dir string) {
	p := leat.New("copy", leat.Config{
		StateDir: filepath.Join(dir, "state"), CheckpointEvery: time.Millisecond,
		Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	leat.To(leat.From(p, New(Config[fila]{Path: filepath.Join(dir, "in.db"), Name: "in", Table: "t", Cursor: "id", PageRows: 10, AppendOnly: true, Every: time.Millisecond})),
		leat.Sink[fila](sqlitesink.New(sqlitesink.Config[fila]{Path: filepath.Join(dir, "out.db"), Table: "t"})), leat.Sink[fila](&acks{}))
	go func() {
		for range time.Tick(50 * time.Millisecond) {
			killtest.Ack(0) // so that a copy that is complete is killed too
		}
	}()
	killtest.Must(p.Run(context.Background()))
}

// A3, E7: killed again and again while it reads, an append-only table comes through whole:
// lost 0, twice 0.
func TestKill(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	in, out := filepath.Join(dir, "in.db"), filepath.Join(dir, "out.db")
	exec(t, in, "PRAGMA journal_mode=WAL", numbered, "INSERT INTO t WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000) SELECT i * 3, 'n' || i FROM n")
	kills, rows := 0, int64(0)
	killtest.Kill(t, "copy", dir, 12, func(t *testing.T, _ int64) {
		kills++
		rows = requireCopied(t, out, rows)
	})
	p := leat.New("copy", leat.Config{StateDir: filepath.Join(dir, "state"), Logger: slog.New(slog.DiscardHandler)})
	leat.To(leat.From(p, New(Config[fila]{Path: in, Name: "in", Table: "t", Cursor: "id", AppendOnly: true})),
		sqlitesink.New(sqlitesink.Config[fila]{Path: out, Table: "t"}))
	require.NoError(t, p.Run(t.Context()))
	require.Equal(t, int64(killRows), requireCopied(t, out, rows))
	t.Logf("%d kills, %d rows at the last of them, %d in the end: lost 0, twice 0", kills, rows, killRows)
}

// requireCopied checks that out.db holds the first rows of the table, each once.
func requireCopied(t *testing.T, out string, before int64) (rows int64) {
	t.Helper()
	var last, distinct int64
	d, err := openDB(t.Context(), out, time.Second)
	if err != nil {
		return before // it was killed before there was one
	}
	defer d.close()
	if n, _, err := d.number("SELECT count(*) FROM sqlite_schema WHERE name = 't'"); err != nil || n == 0 {
		return before
	}
	for query, n := range map[string]*int64{"SELECT count(*) FROM t": &rows, "SELECT count(DISTINCT id) FROM t": &distinct, "SELECT ifnull(max(id), 0) FROM t": &last} {
		var err error
		*n, _, err = d.number(query)
		require.NoError(t, err)
	}
	require.Equal(t, rows, distinct, "E7: twice")
	require.Equal(t, 3*rows, last, "A3: lost")
	require.GreaterOrEqual(t, rows, before)
	return rows
}
