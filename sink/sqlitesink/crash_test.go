package sqlitesink

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat"
)

// TestMain turns the test binary into the process that gets killed.
func TestMain(m *testing.M) {
	if path := os.Getenv("SQLITESINK_CRASH"); path != "" {
		crashing(path)
		return
	}
	os.Exit(m.Run())
}

// crashing loads rows for ever, from where the positions say, and tells the
// parent of every commit.
func crashing(path string) {
	ctx := context.Background()
	must := func(err error) {
		if err != nil {
			fmt.Println("error", err)
			os.Exit(1)
		}
	}
	s := New(Config[suelta]{Path: path, Table: "ventas"})
	must(s.Open(ctx, env()))
	at, err := s.Restore(ctx, []string{"p"})
	must(err)
	next := at["p"].Next
	rows := make([]suelta, 50)
	for {
		for range 3 {
			for i := range rows {
				rows[i] = suelta{next, strings.Repeat("x", int(next%500))}
				next++
			}
			must(s.write(ctx, rows))
		}
		_, err := s.Commit(ctx, upTo(next))
		must(err)
		fmt.Println("commit", next)
	}
}

// E1: rows and position agree whenever the process is killed, and what was
// reported as committed is there.
func TestKill9(t *testing.T) {
	t.Parallel()
	path := dbPath(t)
	reported := int64(0)
	for round := range 8 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "SQLITESINK_CRASH="+path)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		lines := bufio.NewScanner(out)
		for range 2 + 3*round {
			require.True(t, lines.Scan(), "the process ended by itself")
			n, err := strconv.ParseInt(strings.TrimPrefix(lines.Text(), "commit "), 10, 64)
			require.NoError(t, err, lines.Text())
			reported = n
		}
		require.NoError(t, cmd.Process.Kill())
		for lines.Scan() {
			if n, err := strconv.ParseInt(strings.TrimPrefix(lines.Text(), "commit "), 10, 64); err == nil {
				reported = n
			}
		}
		_ = cmd.Wait()

		got := ask(t, path, `SELECT (SELECT count(*) FROM ventas), (SELECT count(DISTINCT id) FROM ventas), (SELECT ifnull(max(id), -1) + 1 FROM ventas), next_offset FROM leat_positions`)
		require.Len(t, got, 1)
		for _, n := range got[0] {
			require.Equal(t, got[0][3], n, "rows, distinct rows, last row and position: %v", got[0])
		}
		next, err := strconv.ParseInt(strings.TrimPrefix(got[0][3], "int "), 10, 64)
		require.NoError(t, err)
		require.GreaterOrEqual(t, next, reported, "A3: a reported commit is durable")
		require.Equal(t, [][]string{{"text ok"}}, ask(t, path, "PRAGMA integrity_check"))
	}
	s := open(t, Config[suelta]{Path: path})
	at, err := s.Restore(t.Context(), []string{"p"})
	require.NoError(t, err)
	assert.GreaterOrEqual(t, at["p"].Next, reported)
	assert.Equal(t, leat.Position{Next: at["p"].Next, Log: "log"}, at["p"])
}
