package state_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat/internal/engine"
	"github.com/leatgo/leat/internal/statetest"
	"github.com/leatgo/leat/internal/testhook"
	"github.com/leatgo/leat/state"
)

// dsn is that of a real PostgreSQL.
func dsn(t *testing.T) string {
	t.Helper()
	v := os.Getenv("LEAT_PG")
	if v == "" {
		if os.Getenv("CI") == "true" {
			t.Fatal("LEAT_PG is not set: it is to name a PostgreSQL server")
		}
		t.Skip("LEAT_PG is not set: no PostgreSQL to test with")
	}
	return v
}

var schemas atomic.Int64

// newSchema names a schema of the test's own.
func newSchema(t *testing.T) string {
	t.Helper()
	name := fmt.Sprintf("leat_state_test_%d_%d", os.Getpid(), schemas.Add(1))
	t.Cleanup(func() { exec(t, context.Background(), "DROP SCHEMA IF EXISTS "+name+" CASCADE") })
	return name
}

func exec(t *testing.T, ctx context.Context, sql string, args ...any) int64 {
	t.Helper()
	conn, err := pgx.Connect(ctx, dsn(t))
	require.NoError(t, err)
	defer conn.Close(ctx)
	tag, err := conn.Exec(ctx, sql, args...)
	require.NoError(t, err)
	return tag.RowsAffected()
}

func config(t *testing.T) state.PostgresConfig {
	t.Helper()
	return state.PostgresConfig{DSN: dsn(t), Schema: newSchema(t), Timeout: 20 * time.Second}
}

func open(t *testing.T, c state.PostgresConfig) *state.PostgresStore {
	t.Helper()
	s := state.Postgres(c)
	require.NoError(t, s.Open(t.Context(), "p"))
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func TestPostgresStorage(t *testing.T) {
	t.Parallel()
	dsn(t)
	statetest.Run(t, func(t *testing.T) statetest.World {
		c := config(t)
		return statetest.World{Open: func(t *testing.T) engine.Storage { return testhook.Storage(open(t, c)) }}
	})
}

func TestValidate(t *testing.T) {
	t.Parallel()
	require.ErrorContains(t, state.Postgres(state.PostgresConfig{}).Validate(), "one of DSN and Conn")
	for _, bad := range []string{
		"postgres://user:s3cret@host:bad/db", "postgres://user:s3%zzcret@host/db", "host=h password=s3cret port=x", "password='s3cret", "postgres://u:s3cret@h/d?sslmode=what",
	} {
		err := state.Postgres(state.PostgresConfig{DSN: bad}).Validate()
		require.Error(t, err, bad)
		require.NotContains(t, err.Error(), "s3", "no secrets in errors")
	}
	for _, wrong := range []string{"postgres://leat_nobody:s3cret@127.0.0.1:1/db", strings.Replace(dsn(t), "postgres@", "leat_nobody:s3cret@", 1)} {
		s := state.Postgres(state.PostgresConfig{DSN: wrong, Timeout: 5 * time.Second})
		require.NoError(t, s.Validate())
		err := s.Open(t.Context(), "p")
		require.Error(t, err)
		require.NotContains(t, err.Error(), "s3cret", "no secrets in errors")
		require.NoError(t, s.Close())
	}
}
