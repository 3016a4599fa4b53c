package store

import (
	"bytes"
	"context"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat/internal/killtest"
)

func TestMain(m *testing.M) {
	killtest.Main(m, map[string]func(dir string){"commit": commit})
}

func killedStore(dir string) string { return filepath.Join(dir, "state", "checkpoints.db") }

// commit commits checkpoints, on from the last.
func commit(dir string) {
	s, err := Open(context.Background(), killedStore(dir), nil)
	killtest.Must(err)
	saved, err := s.Load()
	killtest.Must(err)
	if saved.Seq == 0 {
		killtest.Must(s.Begin(positions("a", 0, "b", 0), map[string]Note{"a": {Stages: map[string]string{"s": "v1"}}}))
	}
	for seq := saved.Seq + 1; killtest.More(); seq++ {
		killtest.Must(s.Commit(Checkpoint{
			Seq:       seq,
			Positions: positions("a", int(seq), "b", int(seq)),
			Counters:  map[string]int64{"in": int64(seq)},
			Deltas: []Delta{
				{Stage: "s", Partition: "a", Blob: []byte(strconv.FormatUint(seq, 10)), Full: seq%7 == 0},
				{Stage: "s", Partition: "b", Blob: bytes.Repeat([]byte{byte(seq)}, int(seq%5)*3000), Full: true},
			},
		}))
		killtest.Ack(int64(seq))
	}
	killtest.Must(s.Close())
}

// requireWhole checks what a kill has left.
func requireWhole(t *testing.T, dir string, acked int64) {
	t.Helper()
	s := mustOpen(t, killedStore(dir))
	saved, err := s.Load()
	require.NoError(t, err)
	require.GreaterOrEqual(t, saved.Seq, uint64(acked), "rule A3: an acknowledged checkpoint is there")
	require.LessOrEqual(t, saved.Seq, uint64(acked)+1)
	if seq := int(saved.Seq); seq > 0 {
		require.Equal(t, positions("a", seq, "b", seq), saved.Positions, "one checkpoint, not parts of two")
		require.Equal(t, map[string]int64{"in": int64(seq)}, saved.Counters)
		var pieces []string
		for n := max(1, seq/7*7); n <= seq; n++ {
			pieces = append(pieces, strconv.Itoa(n))
		}
		require.Equal(t, pieces, mustState(t, s, "s", "a"))
		require.Equal(t, []string{strings.Repeat(string([]byte{byte(seq)}), seq%5*3000)}, mustState(t, s, "s", "b"))
	}
	require.NoError(t, s.Close())
}

func TestKill(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	killtest.Kill(t, "commit", dir, 15, func(t *testing.T, acked int64) { requireWhole(t, dir, acked) })
}

// The same at every system call of opening, beginning, four commits and closing.
func TestKillAtEverySyscall(t *testing.T) {
	t.Parallel()
	killtest.EverySyscall(t, "commit", 4, requireWhole)
}
