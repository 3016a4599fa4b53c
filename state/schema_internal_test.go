package state

import (
	"context"
	"fmt"
	"os"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat"
)

// ownSchema names a server and, in it, a schema of the test's own, which goes with it.
func ownSchema(t *testing.T, of string) (dsn, name string) {
	t.Helper()
	dsn = os.Getenv("LEAT_PG")
	if dsn == "" {
		if os.Getenv("CI") == "true" {
			t.Fatal("LEAT_PG is not set: it is to name a PostgreSQL server")
		}
		t.Skip("LEAT_PG is not set: no PostgreSQL to test with")
	}
	name = fmt.Sprintf("leat_state_%s_%d", of, os.Getpid())
	t.Cleanup(func() {
		conn, err := pgx.Connect(context.Background(), dsn)
		require.NoError(t, err)
		defer conn.Close(context.Background())
		_, err = conn.Exec(context.Background(), "DROP SCHEMA IF EXISTS "+name+" CASCADE")
		require.NoError(t, err)
	})
	return dsn, name
}

// rule H6: the upgrade path works, all or nothing, before there is a second version.
func TestUpgrade(t *testing.T) {
	t.Parallel()
	dsn, name := ownSchema(t, "upgrade")
	c := PostgresConfig{DSN: dsn, Schema: name}
	s := Postgres(c)
	require.NoError(t, s.Open(t.Context(), "p"))
	_, err := s.Take(t.Context(), []string{"a"})
	require.NoError(t, err)
	require.NoError(t, s.Commit(t.Context(), leat.StateCommit{Partitions: map[string]leat.StateChange{"a": {Position: leat.Position{Next: 5}}}}))
	require.NoError(t, s.Close())

	newer := func(last string) *PostgresStore {
		s := Postgres(c)
		v := current.version
		s.schema = schema{version: v + 2, steps: map[int]string{v: "ALTER TABLE {partitions} ADD COLUMN extra integer NOT NULL DEFAULT 1", v + 1: last}}
		return s
	}
	s = newer("UPDATE {partitions} SET missing = 2")
	require.ErrorContains(t, s.Open(t.Context(), "p"), fmt.Sprintf("from version %d of the tables to %d", current.version+1, current.version+2))
	require.NoError(t, s.Close())
	s = Postgres(c)
	s.schema = schema{version: current.version + 1}
	require.ErrorContains(t, s.Open(t.Context(), "p"), "there is no way")
	require.NoError(t, s.Close())
	s = Postgres(c)
	require.NoError(t, s.Open(t.Context(), "p"), "a failed upgrade has changed nothing")
	require.NoError(t, s.Close())

	s = newer("UPDATE {partitions} SET extra = extra + 1")
	require.NoError(t, s.Open(t.Context(), "p"))
	held, err := s.Take(t.Context(), []string{"a"})
	require.NoError(t, err)
	require.Equal(t, int64(5), held["a"].Position.Next)
	var extra int
	require.NoError(t, s.conn.QueryRow(t.Context(), s.sql("SELECT extra FROM {partitions}")).Scan(&extra))
	require.Equal(t, 2, extra, "each step once, in order")
	require.NoError(t, s.Close())
	require.ErrorIs(t, Postgres(c).Open(t.Context(), "p"), ErrNewer)
}
