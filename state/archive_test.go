package state_test

import (
	"bytes"
	"testing"
	"time"

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
	conn.RuntimeParams["application_name"] = c.Schema
	through := c
	through.DSN, through.Conn = "", conn
	require.ErrorIs(t, export(t, through), state.ErrNewer)
	require.Eventually(t, func() bool { // the server may take its time
		return exec(t, t.Context(), "SELECT FROM pg_stat_activity WHERE application_name = $1", c.Schema) == 0
	}, 5*time.Second, 50*time.Millisecond)
}
