package store

import (
	"bytes"
	"runtime"
	"runtime/debug"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"
)

// The state of a stage may be large: saving it, in the place of an older one too, must not take a
// multiple of it.
func TestLargePieceNeedsNoMemoryOfItsSize(t *testing.T) {
	s := mustOpen(t, newPath(t))
	const size = 96 << 20
	blob := bytes.Repeat([]byte("0123456789abcdef"), size/16)
	defer debug.SetGCPercent(debug.SetGCPercent(5))
	runtime.GC()
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	for n := range uint64(3) {
		before, saved, peak := heap(), make(chan struct{}), make(chan uint64)
		go func() {
			var most uint64
			defer func() { peak <- most }()
			for {
				most = max(most, heap())
				select {
				case <-saved:
					return
				case <-time.After(2 * time.Millisecond):
				}
			}
		}()
		err := s.Commit(Checkpoint{Seq: n + 1, Deltas: []Delta{{"s", "p", blob, true}}})
		close(saved)
		most := <-peak
		require.NoError(t, err)
		require.Less(t, most, before+size*3/4, "commit %d: %d MiB beside the piece itself", n+1, (most-before)>>20)
	}
	got, err := s.State("s", "p")
	require.NoError(t, err)
	require.Len(t, got, 1)
	require.True(t, bytes.Equal(blob, got[0]))
}

// Large pieces are written ahead of the commit that names them. What a crash between the two leaves is
// nobody's, and goes with the state.
func TestLargePieceWithoutItsCommit(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	s := mustOpen(t, path)
	large := func(c byte, size int) []byte { return bytes.Repeat([]byte{c}, size) }
	require.NoError(t, s.Commit(Checkpoint{Seq: 1, Positions: positions("p", 1), Deltas: []Delta{{"s", "p", large('a', 2*maxAtOnce+1), true}, {"s", "p", []byte("b"), false}}}))
	crash := func() {
		require.NoError(t, s.ahead(s.head.Load(), []Delta{{"s", "p", []byte("x"), false}, {"s", "p", large('y', 3*maxAtOnce), true}, {"t", "p", large('z', maxAtOnce+1), false}}))
		require.NoError(t, s.Close())
		s = mustOpen(t, path)
	}
	requireState := func(want ...string) {
		t.Helper()
		got := mustState(t, s, "s", "p")
		require.Len(t, got, len(want))
		for i := range want {
			require.True(t, want[i] == got[i], "piece %d of %d bytes, should have %d", i, len(got[i]), len(want[i]))
		}
	}
	crash()
	requireState(string(large('a', 2*maxAtOnce+1)), "b")
	require.Empty(t, mustState(t, s, "t", "p"))

	// The numbers are used again, by smaller and by larger pieces.
	require.NoError(t, s.Commit(Checkpoint{Seq: 2, Positions: positions("p", 2), Deltas: []Delta{{"s", "p", []byte("c"), false}, {"s", "p", []byte("d"), false}}}))
	requireState(string(large('a', 2*maxAtOnce+1)), "b", "c", "d")
	crash()
	require.NoError(t, s.Commit(Checkpoint{Seq: 3, Positions: positions("p", 3), Deltas: []Delta{
		{"s", "p", large('e', maxAtOnce+1), true}, {"s", "p", large('f', maxAtOnce+2), false}, {"t", "p", []byte("g"), false}}}))
	requireState(string(large('e', maxAtOnce+1)), string(large('f', maxAtOnce+2)))
	require.Equal(t, []string{"g"}, mustState(t, s, "t", "p"))

	crash()
	require.NoError(t, s.Forget("p"))
	require.NoError(t, s.db.View(func(tx *bbolt.Tx) error {
		require.Zero(t, tx.Bucket(stateBucket).Stats().KeyN, "nothing is left over")
		return nil
	}))
}
