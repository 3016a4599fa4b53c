package state_test

import (
	"bytes"
	"context"
	"net"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

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
