package state

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat"
)

// Behind a pooler that hands out sessions by the transaction, such as PgBouncer, nothing may be kept in
// one: no statement with a name, of which the next session knows nothing or has another, and no
// setting. A commit is durable (rule A3) and waits no longer than Timeout in whatever session it is.
func TestNothingIsKeptInTheSession(t *testing.T) {
	t.Parallel()
	dsn, name := ownSchema(t, "session")
	conn, err := pgx.ParseConfig(dsn)
	require.NoError(t, err)
	conn.RuntimeParams["synchronous_commit"] = "off" // as the database may have it
	c := PostgresConfig{Conn: conn, Schema: name, Timeout: 77 * time.Second}
	s := Postgres(c)
	require.NoError(t, s.Open(t.Context(), "p"))
	t.Cleanup(func() { _ = s.Close() })
	_, err = s.conn.Exec(t.Context(), s.sql(`CREATE TABLE `+c.Schema+`.seen (sync text, idle text);
		CREATE FUNCTION `+c.Schema+`.see() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
			INSERT INTO `+c.Schema+`.seen VALUES (current_setting('synchronous_commit'), current_setting('idle_in_transaction_session_timeout')); RETURN NULL; END $$;
		CREATE CONSTRAINT TRIGGER see AFTER UPDATE ON {partitions} DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION `+c.Schema+`.see()`))
	require.NoError(t, err)
	for n := range 2 {
		_, err = s.conn.Exec(t.Context(), "RESET ALL") // the settings of another session
		require.NoError(t, err)
		_, err = s.Take(t.Context(), []string{"a"})
		require.NoError(t, err)
		require.NoError(t, s.Commit(t.Context(), leat.StateCommit{Partitions: map[string]leat.StateChange{"a": {Position: leat.Position{Next: int64(n)}}}}))
	}
	var bad, all, statements int
	require.NoError(t, s.conn.QueryRow(t.Context(), "SELECT count(*) FILTER (WHERE sync <> 'on' OR idle <> '77s'), count(*) FROM "+c.Schema+".seen").Scan(&bad, &all))
	require.Equal(t, 3, all)
	require.Zero(t, bad)
	require.NoError(t, s.conn.QueryRow(t.Context(), "SELECT count(*) FROM pg_prepared_statements", pgx.QueryExecModeSimpleProtocol).Scan(&statements))
	require.Zero(t, statements)

	require.NoError(t, s.Close())
	s.config.Timeout = 1000 * time.Hour // more than PostgreSQL can count
	require.NoError(t, s.Open(t.Context(), "p"))
}
