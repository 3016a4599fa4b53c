package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

func TestStateExportAndImport(t *testing.T) {
	t.Parallel()
	from, _ := world(t)
	file, to := filepath.Join(t.TempDir(), "f.jsonl"), filepath.Join(t.TempDir(), "new")
	require.Contains(t, ok(t, "state", "export", "-state", from, "-o", file), "1 partitions and 0 pieces of state")
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, string(text), ok(t, "state", "export", "-state", from), "to standard output")
	require.Equal(t, map[string]any{"partitions": 1.0, "pieces": 0.0, "bytes": 0.0}, object(t, "state", "import", "-state", to, "-i", file))
	require.Equal(t, object(t, "positions", from)["nodes"], object(t, "positions", to)["nodes"])

	for _, c := range []struct {
		code int
		args []string
		says string
	}{
		{2, []string{"state", "export"}, "-state DIR and -pg"},
		{2, []string{"state", "export", "-state", from, "-pg", "x"}, "-state DIR and -pg"},
		{2, []string{"state", "export", "-pg", "postgres://h/d"}, "-pipeline"},
		{2, []string{"state", "import", "-pg", "postgres://h/d", "-i", file}, "-pipeline"},
		{2, []string{"state", "import", "-state", to, "-stage", "s"}, "-stage is for export"},
		{2, []string{"state", "move", "-state", to}, "state export or state import"},
		{1, []string{"state", "import", "-state", to, "-i", file}, "holds positions already"},
		{1, []string{"state", "export", "-state", from, "-o", file}, "exists"},
		{1, []string{"state", "export", "-state", t.TempDir()}, "is no state folder"},
	} {
		code, _, errs := leatCommand(c.args...)
		require.Equal(t, c.code, code, errs)
		require.Contains(t, errs, c.says)
	}

	pg := os.Getenv("LEAT_PG")
	if pg == "" {
		require.NotEqual(t, "true", os.Getenv("CI"), "LEAT_PG is not set: it is to name a PostgreSQL server")
		t.Skip("LEAT_PG is not set: no PostgreSQL to test the rest with")
	}
	name := fmt.Sprintf("leat-cmd-test-%d", os.Getpid())
	schema := fmt.Sprintf("leat_cmd_test_%d", os.Getpid())
	t.Cleanup(func() { dropSchema(t, pg, schema) })
	ok(t, "state", "import", "-pg", pg, "-schema", schema, "-pipeline", name, "-i", file)
	back := filepath.Join(t.TempDir(), "b.jsonl")
	ok(t, "state", "export", "-pg", pg, "-schema", schema, "-pipeline", name, "-o", back)
	code, _, errs := leatCommand("state", "import", "-pg", pg, "-schema", schema, "-i", back)
	require.Equal(t, 1, code)
	require.Contains(t, errs, name, "the file names the pipeline")
	ok(t, "state", "import", "-state", filepath.Join(t.TempDir(), "again"), "-i", back)
}

func dropSchema(t *testing.T, dsn, schema string) {
	conn, err := pgx.Connect(context.Background(), dsn)
	require.NoError(t, err)
	defer conn.Close(context.Background())
	_, err = conn.Exec(context.Background(), "DROP SCHEMA IF EXISTS "+schema+" CASCADE")
	require.NoError(t, err)
}
