package state_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat/leattest"
	"github.com/leatgo/leat/state"
)

// A role that may make no tables is enough once they are there: what the package's doc says it needs.
func TestRights(t *testing.T) {
	t.Parallel()
	c := config(t)
	require.NoError(t, open(t, c).Close())
	role := c.Schema + "_role"
	exec(t, t.Context(), "CREATE ROLE "+role)
	t.Cleanup(func() {
		exec(t, context.Background(), "DROP OWNED BY "+role)
		exec(t, context.Background(), "DROP ROLE "+role)
	})
	conn, err := pgx.ParseConfig(c.DSN)
	require.NoError(t, err)
	conn.RuntimeParams["role"] = role
	c.DSN, c.Conn = "", conn
	require.ErrorContains(t, state.Postgres(c).Open(t.Context(), "p"), "permission denied")

	exec(t, t.Context(), "GRANT USAGE ON SCHEMA "+c.Schema+" TO "+role)
	exec(t, t.Context(), "GRANT SELECT ON "+c.Schema+".leat_state_version TO "+role)
	exec(t, t.Context(), "GRANT SELECT, INSERT, UPDATE, DELETE ON "+c.Schema+".leat_state_partitions, "+c.Schema+".leat_state_pieces TO "+role)
	sink := leattest.Collect[string]()
	for rows := range 3 {
		rows = 1000 * (rows + 1)
		require.NoError(t, life(t, t.TempDir(), state.Postgres(c), rows, sink).Run(t.Context()))
		requireNumbered(t, sink, rows)
		sink = sink.Successor()
	}
}
