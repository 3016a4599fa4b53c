package sqlitesink

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/killtest"
)

func TestMain(m *testing.M) {
	killtest.Main(m, map[string]func(dir string){"load": load, "member": beMember})
}

func killedDB(dir string) string { return filepath.Join(dir, "v.db") }

// load commits rows, from where the positions say.
func load(dir string) {
	ctx := context.Background()
	s := New(Config[suelta]{Path: killedDB(dir), Table: "ventas"})
	killtest.Must(s.Open(ctx, env()))
	at, err := s.Restore(ctx, []string{"p"})
	killtest.Must(err)
	next := at["p"].Next
	rows := make([]suelta, 50)
	for killtest.More() {
		for range 3 {
			for i := range rows {
				rows[i] = suelta{next, strings.Repeat("x", int(next%500))}
				next++
			}
			killtest.Must(s.write(ctx, rows))
		}
		_, err := s.Commit(ctx, upTo(next))
		killtest.Must(err)
		if s.bulk.batches == 0 {
			killtest.Must(errors.New("the rows did not go the short way, which is what is tested"))
		}
		killtest.Ack(next)
	}
	killtest.Must(s.Close())
}

// requireWhole checks what a kill has left.
func requireWhole(t *testing.T, dir string, acked int64) {
	t.Helper()
	path := killedDB(dir)
	s := open(t, Config[suelta]{Path: path}) // takes part in recovery, as the next life does
	at, err := s.Restore(t.Context(), []string{"p"})
	require.NoError(t, err)
	require.NoError(t, s.Close())
	if at["p"].Known() {
		assert.Equal(t, leat.Position{Next: at["p"].Next, Log: "log"}, at["p"])
	}
	require.GreaterOrEqual(t, at["p"].Next, acked, "A3: a reported commit is durable")

	want := "int " + strconv.FormatInt(at["p"].Next, 10)
	got := ask(t, path, `SELECT (SELECT count(*) FROM ventas), (SELECT count(DISTINCT id) FROM ventas), (SELECT ifnull(max(id), -1) + 1 FROM ventas)`)
	require.Equal(t, [][]string{{want, want, want}}, got, "E1: rows, distinct rows and the last row agree with the position")
	require.Equal(t, [][]string{{"text ok"}}, ask(t, path, "PRAGMA integrity_check"))
}

// E1: rows and position agree whenever the process is killed, and what was
// reported as committed is there.
func TestKill(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	killtest.Kill(t, "load", dir, 8, func(t *testing.T, acked int64) { requireWhole(t, dir, acked) })
}

// E1: the same at every system call of opening, three commits and closing.
func TestKillAtEverySyscall(t *testing.T) {
	t.Parallel()
	killtest.EverySyscall(t, "load", 3, requireWhole)
}

// A3: what an earlier process has left in the write-ahead log is durable before anything is
// built on it: Open has copied it into the database, also if the pages of the log are
// lost afterwards, as they are after an fsync that failed.
func TestOpenDoesNotTrustTheLog(t *testing.T) {
	t.Parallel()
	one, two, three := filepath.Join(t.TempDir(), "v.db"), filepath.Join(t.TempDir(), "v.db"), filepath.Join(t.TempDir(), "v.db")
	s := open(t, Config[suelta]{Path: one})
	_, err := s.Restore(t.Context(), []string{"p"})
	require.NoError(t, err)
	require.NoError(t, s.write(t.Context(), []suelta{{1, "one"}, {2, "two"}}))
	_, err = s.Commit(t.Context(), upTo(3))
	require.NoError(t, err)
	copyFile(t, one, two) // as a kill leaves it
	copyFile(t, one+"-wal", two+"-wal")
	require.NoError(t, s.Close())

	s = open(t, Config[suelta]{Path: two})
	copyFile(t, two, three) // without its log
	require.NoError(t, s.Close())
	require.Equal(t, [][]string{{"int 2"}}, ask(t, three, "SELECT count(*) FROM ventas"))
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(to, b, 0o600))
}
