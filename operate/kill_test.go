package operate_test

import (
	"context"
	"fmt"
	"iter"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/killtest"
	"github.com/leatgo/leat/operate"
)

func TestMain(m *testing.M) { killtest.Main(m, map[string]func(dir string){"replay": replays}) }

func worldIn(dir string) *world {
	return &world{in: filepath.Join(dir, "in"), state: filepath.Join(dir, "state"), db: filepath.Join(dir, "s.db")}
}

const lettersPerStep = 5

// upTo is the first n letters of the pipeline.
func (w *world) upTo(n int) iter.Seq2[leat.DeadLetter, error] {
	return func(yield func(leat.DeadLetter, error) bool) {
		for l, err := range operate.Letters(operate.LettersFile(w.state), operate.Filter{}) {
			if n--; n < 0 || !yield(l, err) {
				return
			}
		}
	}
}

// replays replays some letters more in each step.
func replays(dir string) {
	w := worldIn(dir)
	w.mended = true
	ids, err := idsIn(w.db)
	killtest.Must(err)
	done := len(ids) // of letters only: no row was accepted before
	for killtest.More() {
		done += lettersPerStep
		_, err := leat.Replay(context.Background(), w.pipeline(w.csv()), w.upTo(done))
		killtest.Must(err)
		killtest.Ack(int64(done))
	}
}

func idsIn(db string) (out []int64, err error) {
	conn, err := sqlite.OpenConn(db, sqlite.OpenReadWrite) // takes part in recovery
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	err = sqlitex.ExecuteTransient(conn, "SELECT id FROM sales ORDER BY id", &sqlitex.ExecOptions{ResultFunc: func(s *sqlite.Stmt) error {
		out = append(out, s.ColumnInt64(0))
		return nil
	}})
	return out, err
}

// Rule B4: a replay that is killed, again and again, neither loses nor doubles a row.
func TestReplayKilled(t *testing.T) {
	t.Parallel()
	rows := 3000
	if os.Getenv("LEAT_LONG") == "1" {
		rows = 30000
	}
	dir := t.TempDir()
	w := worldIn(dir)
	require.NoError(t, os.Mkdir(w.in, 0o755))
	var text strings.Builder
	text.WriteString("id,qty\n")
	for i := range rows {
		fmt.Fprintf(&text, "%d,-1\n", i)
	}
	require.NoError(t, os.WriteFile(filepath.Join(w.in, "a.csv"), []byte(text.String()), 0o644))
	all := w.pipelineWith(w.csv(), leat.Config{StateDir: w.state, Logger: slog.New(slog.DiscardHandler), Breaker: leat.Breaker{Share: -1}})
	require.NoError(t, all.Run(t.Context()))

	killtest.Kill(t, "replay", dir, 8, func(t *testing.T, acked int64) {
		ids, err := idsIn(w.db)
		require.NoError(t, err)
		require.GreaterOrEqual(t, len(ids), int(acked), "what was reported is there")
		require.Len(t, slices.Compact(slices.Clone(ids)), len(ids), "no row twice")
	})

	w.mended = true
	p := w.pipeline(w.csv())
	_, err := leat.Replay(t.Context(), p, w.upTo(rows))
	require.NoError(t, err)
	ids, err := idsIn(w.db)
	require.NoError(t, err)
	require.Len(t, ids, rows)
	require.Len(t, slices.Compact(ids), rows)
	for _, n := range p.Stats().Nodes { // rule A8
		require.Equal(t, n.In+n.Added, n.Out+n.Rejected+n.Filtered, "%+v", n)
		if n.Kind != "source" {
			require.EqualValues(t, rows, n.Out, n.Name)
		}
	}
}
