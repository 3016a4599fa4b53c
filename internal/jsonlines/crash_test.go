package jsonlines

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat/internal/killtest"
)

func TestMain(m *testing.M) {
	killtest.Main(m, map[string]func(dir string){"append": appendLines})
}

func killedLog(dir string) string { return filepath.Join(dir, "state", "letters.jsonl") }

// padding makes some lines longer than the buffer.
func padding(n int) int {
	if n%29 == 28 {
		return bufferSize + n
	}
	return n % 7 * 500
}

// appendLines appends lines, on from the last.
func appendLines(dir string) {
	path := killedLog(dir)
	l, err := Open(path)
	killtest.Must(err)
	next := 0
	files, err := Files(path)
	killtest.Must(err)
	for _, f := range files {
		killtest.Must(Scan(f, func([]byte) error { next++; return nil }))
	}
	for killtest.More() {
		for range 1 + next%5 {
			killtest.Must(l.Append(fmt.Appendf(nil, "{\"n\":%d,\"pad\":%q}\n", next, strings.Repeat("x", padding(next)))))
			next++
		}
		killtest.Must(l.Sync())
		killtest.Ack(int64(next))
		if l.Size() > 40<<10 {
			killtest.Must(l.Rotate())
		}
	}
	killtest.Must(l.Close())
}

// requireWhole checks what a kill has left.
func requireWhole(t *testing.T, dir string, acked int64) {
	t.Helper()
	path := killedLog(dir)
	require.NoError(t, mustOpen(t, path).Close())
	whole := read(t, path)
	require.True(t, whole == "" || strings.HasSuffix(whole, "\n"))
	files, err := Files(path)
	require.NoError(t, err)
	n := 0
	for _, f := range files {
		for _, line := range scan(t, f) {
			var got struct {
				N   int
				Pad string
			}
			require.NoError(t, json.Unmarshal([]byte(line), &got))
			require.Equal(t, n, got.N)
			require.Len(t, got.Pad, padding(n))
			n++
		}
	}
	require.GreaterOrEqual(t, int64(n), acked, "rule B3: synced lines are there")
}

func TestKill(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	killtest.Kill(t, "append", dir, 15, func(t *testing.T, acked int64) { requireWhole(t, dir, acked) })
}

// The same at every system call of opening, rotating and sixteen syncs.
func TestKillAtEverySyscall(t *testing.T) {
	t.Parallel()
	killtest.EverySyscall(t, "append", 16, requireWhole)
}
