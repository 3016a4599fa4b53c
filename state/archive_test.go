package state_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/operate"
	"github.com/leatgo/leat/state"
)

func export(t *testing.T, c state.PostgresConfig) error {
	t.Helper()
	_, err := operate.ExportState(t.Context(), state.PostgresArchive(c, "p"), &bytes.Buffer{}, "")
	return err
}

// An archive whose tables are refused leaves no connection behind.
func TestArchiveClosesItsConnection(t *testing.T) {
	t.Parallel()
	c := config(t)
	open(t, c)
	exec(t, t.Context(), "UPDATE "+c.Schema+".leat_state_version SET version = 99")
	conn, err := pgx.ParseConfig(c.DSN)
	require.NoError(t, err)
	var dialed net.Conn
	conn.DialFunc = func(ctx context.Context, network, addr string) (_ net.Conn, err error) {
		dialed, err = (&net.Dialer{}).DialContext(ctx, network, addr)
		return dialed, err
	}
	c.DSN, c.Conn = "", conn
	require.ErrorIs(t, export(t, c), state.ErrNewer)
	_, err = dialed.Write(nil)
	require.ErrorIs(t, err, net.ErrClosed)
}

// Looking changes nothing: a schema that was misspelt is not made, and tables that older programs
// run on are not upgraded, which would be the end of them (rule H6).
func TestExportChangesNothing(t *testing.T) {
	t.Parallel()
	c := config(t)
	require.ErrorContains(t, export(t, c), "no pipeline has kept its state here")
	require.Zero(t, exec(t, t.Context(), "SELECT FROM pg_namespace WHERE nspname = $1", c.Schema))

	s := open(t, c)
	take(t, s, "a")
	require.NoError(t, s.Commit(t.Context(), commit(1, "1")))
	require.NoError(t, export(t, c))
	exec(t, t.Context(), "UPDATE "+c.Schema+".leat_state_version SET version = version - 1")
	require.ErrorContains(t, export(t, c), "use the program that runs the pipelines")
	require.EqualValues(t, 1, exec(t, t.Context(), "SELECT FROM "+c.Schema+".leat_state_version WHERE version = 0"))
	exec(t, t.Context(), "UPDATE "+c.Schema+".leat_state_version SET version = 99")
	require.ErrorIs(t, export(t, c), state.ErrNewer)
}

// slowImport begins an import of file and holds on in the middle of it; end lets it go on.
func slowImport(t *testing.T, c state.PostgresConfig, file []byte) (end func() error) {
	t.Helper()
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() {
		_, err := operate.ImportState(t.Context(), r, state.PostgresArchive(c, "p"))
		_ = r.CloseWithError(err)
		done <- err
	}()
	head, last := bytes.IndexByte(file, '\n')+1, len(file)-100
	for _, part := range [][]byte{file[:head], file[head:last]} {
		_, err := w.Write(part)
		require.NoError(t, err)
	}
	require.Eventually(t, func() bool { // it has taken the partitions, and waits for the rest of the file
		return exec(t, t.Context(), "SELECT FROM pg_stat_activity WHERE state = 'idle in transaction' AND query LIKE $1", "INSERT INTO "+pgx.Identifier{c.Schema}.Sanitize()+"%") > 0
	}, 10*time.Second, 10*time.Millisecond)
	return func() error {
		_, _ = w.Write(file[last:])
		_ = w.Close()
		return <-done
	}
}

// exported is what a pipeline with the partitions has.
func exported(t *testing.T, partitions ...string) []byte {
	t.Helper()
	c := config(t)
	s := open(t, c)
	take(t, s, partitions...)
	full := commit(1, "1")
	for _, p := range partitions {
		full.Partitions[p] = full.Partitions["a"]
	}
	require.NoError(t, s.Commit(t.Context(), full))
	var file bytes.Buffer
	_, err := operate.ExportState(t.Context(), state.PostgresArchive(c, "p"), &file, "")
	require.NoError(t, err)
	return file.Bytes()
}

// An import, which may take its time, holds nobody up but the pipeline that it is for, which it fences:
// others share the tables.
func TestImportHoldsUpItsPipelineAlone(t *testing.T) {
	t.Parallel()
	file := exported(t, "a", "b")
	c := config(t)
	other := state.Postgres(c)
	require.NoError(t, other.Open(t.Context(), "other"))
	t.Cleanup(func() { _ = other.Close() })
	take(t, other, "a")
	running := open(t, c)
	take(t, running, "a", "b")

	end := slowImport(t, c, file)
	soon, stop := context.WithTimeout(t.Context(), 15*time.Second)
	defer stop()
	require.NoError(t, other.Commit(soon, commit(1, "1")))
	_, err := other.Take(soon, []string{"b"})
	require.NoError(t, err)
	late := make(chan error, 1)
	go func() { late <- running.Commit(t.Context(), commit(5, "5")) }()
	time.Sleep(100 * time.Millisecond)
	require.NoError(t, end())
	require.ErrorIs(t, <-late, leat.ErrFenced)
	requireHeld(t, c, 1, "1")
}

// A partition that is begun while the import runs, and is not in the file, is found out.
func TestImportBesideABeginning(t *testing.T) {
	t.Parallel()
	file := exported(t, "a")
	c := config(t)
	running := open(t, c)
	take(t, running, "b")
	end := slowImport(t, c, file)
	committed := make(chan error, 1)
	go func() {
		committed <- running.Commit(t.Context(), leat.StateCommit{Partitions: map[string]leat.StateChange{"b": {Position: leat.Position{Next: 7, Log: "l"}}}})
	}()
	time.Sleep(100 * time.Millisecond)
	err := end()
	require.NoError(t, <-committed)
	held := take(t, open(t, c), "a", "b")
	require.Contains(t, held, "b")
	if err == nil {
		return // the import came first
	}
	require.ErrorContains(t, err, "already")
	require.NotContains(t, held, "a", "all or nothing")
}

// Of two imports one comes first.
func TestImportsAtOnce(t *testing.T) {
	t.Parallel()
	file := exported(t, "a", "b")
	c := config(t)
	end := slowImport(t, c, file)
	second := make(chan error, 1)
	go func() {
		_, err := operate.ImportState(t.Context(), bytes.NewReader(file), state.PostgresArchive(c, "p"))
		second <- err
	}()
	time.Sleep(100 * time.Millisecond)
	require.NoError(t, end())
	require.ErrorContains(t, <-second, "already")
	requireHeld(t, c, 1, "1")
}
