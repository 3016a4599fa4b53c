package store

import (
	"bytes"
	"errors"
	"runtime"
	"runtime/debug"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"
)

// takes is how much memory a call takes at most, beside what there is before it.
func takes(call func() error) (bytes int64, _ error) {
	defer debug.SetGCPercent(debug.SetGCPercent(5))
	runtime.GC()
	heap := func() int64 {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before, done, peak := heap(), make(chan struct{}), make(chan int64)
	go func() {
		var most int64
		defer func() { peak <- most }()
		for {
			most = max(most, heap())
			select {
			case <-done:
				return
			case <-time.After(2 * time.Millisecond):
			}
		}
	}()
	err := call()
	close(done)
	return <-peak - before, err
}

// The state of a stage may be large: saving it, in the place of an older one too, must not take a
// multiple of it.
func TestLargePieceNeedsNoMemoryOfItsSize(t *testing.T) {
	s := mustOpen(t, newPath(t))
	const size = 96 << 20
	blob := bytes.Repeat([]byte("0123456789abcdef"), size/16)
	for n := range uint64(3) {
		bytes, err := takes(func() error { return s.Commit(Checkpoint{Seq: n + 1, Deltas: []Delta{{"s", "p", blob, true}}}) })
		require.NoError(t, err)
		require.Less(t, bytes, int64(size*3/4), "commit %d: %d MiB beside the piece itself", n+1, bytes>>20)
	}
	got, err := s.State("s", "p")
	require.NoError(t, err)
	require.Len(t, got, 1)
	require.True(t, bytes.Equal(blob, got[0]))
}

// An import is of all the state that a pipeline has, and must not take a multiple of it either.
func TestFillNeedsNoMemoryOfItsSize(t *testing.T) {
	s := mustOpen(t, newPath(t))
	const pieces = 48
	blob := bytes.Repeat([]byte("0123456789abcdef"), 2<<20/16)
	bytes, err := takes(func() error {
		return s.Fill(func(add func(Delta) error) (Saved, error) {
			for range pieces {
				if err := add(Delta{"s", "p", blob, false}); err != nil {
					return Saved{}, err
				}
			}
			return Saved{Positions: positions("p", 1)}, nil
		})
	})
	require.NoError(t, err)
	require.Less(t, bytes, int64(pieces*len(blob)*3/4), "%d MiB for %d", bytes>>20, pieces*len(blob)>>20)
	got := mustState(t, s, "s", "p")
	require.Len(t, got, pieces)
	for _, b := range got {
		require.True(t, b == string(blob))
	}
}

// An import that comes to nothing leaves an empty store, and what it wrote ahead is gone with the next one.
func TestFillThatFails(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	s := mustOpen(t, path)
	fill := func(stage string, err error, sizes ...int) error {
		return s.Fill(func(add func(Delta) error) (Saved, error) {
			for i, size := range sizes {
				if err := add(Delta{stage, "p", bytes.Repeat([]byte{byte(i)}, size), i == 0}); err != nil {
					return Saved{}, err
				}
			}
			return Saved{Seq: 3, Positions: positions("p", 1)}, err
		})
	}
	cut := errors.New("cut off")
	require.ErrorIs(t, fill("old", cut, 1, maxAtOnce, 3*maxAtOnce+1), cut)
	require.ErrorIs(t, s.Commit(Checkpoint{Seq: 1}), ErrClosed)
	require.NoError(t, s.Close())
	s = mustOpen(t, path)
	require.Empty(t, s.head.Load().Positions)
	require.Empty(t, mustState(t, s, "old", "p"))

	sizes := []int{5, 0, maxAtOnce, maxAtOnce - 1, 2*maxAtOnce + 1, 7}
	require.NoError(t, fill("s", nil, sizes...))
	require.ErrorIs(t, fill("s", nil, sizes...), ErrNotEmpty)
	require.NoError(t, s.Close())
	s = mustOpen(t, path)
	require.Equal(t, uint64(3), s.head.Load().Seq)
	got := mustState(t, s, "s", "p")
	require.Len(t, got, len(sizes))
	for i, size := range sizes {
		require.True(t, got[i] == string(bytes.Repeat([]byte{byte(i)}, size)), "piece %d", i)
	}
	require.NoError(t, s.Forget("p"))
	require.NoError(t, s.db.View(func(tx *bbolt.Tx) error {
		require.Zero(t, tx.Bucket(stateBucket).Stats().KeyN, "nothing is left over")
		return nil
	}))
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
