package store

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestPeek(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "checkpoints.db")
	_, _, err := Peek(path)
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.NoFileExists(t, path)

	s, err := OpenNow(path)
	require.NoError(t, err)
	require.NoError(t, s.Commit(Checkpoint{Seq: 1, Positions: map[string]Position{"a": {Next: 7, Log: "l"}}, Counters: map[string]int64{"n": 3}}))
	want, err := s.Load()
	require.NoError(t, err)

	got, running, err := Peek(path)
	require.NoError(t, err)
	require.True(t, running)
	require.Equal(t, want, got)
	_, err = OpenNow(path)
	require.ErrorIs(t, err, ErrInUse)
	require.NoError(t, s.Commit(Checkpoint{Seq: 2, Positions: map[string]Position{"a": {Next: 8, Log: "l"}}}), "it was not disturbed")
	require.NoError(t, s.Close())

	got, running, err = Peek(path)
	require.NoError(t, err)
	require.False(t, running)
	require.Equal(t, int64(8), got.Positions["a"].Next)

	b, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, b[:len(b)/2], 0o600))
	_, _, err = Peek(path)
	require.ErrorIs(t, err, ErrCorrupt)
	require.NoError(t, os.WriteFile(path, nil, 0o600))
	_, _, err = Peek(path)
	require.ErrorIs(t, err, ErrCorrupt)
}

// A store that is written to without pause is read all the same, or said to be in use.
func TestPeekWhileWritten(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "checkpoints.db")
	s, err := OpenNow(path)
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		var err error
		for seq := uint64(1); err == nil && ctx.Err() == nil; seq++ {
			err = s.Commit(Checkpoint{Seq: seq, Positions: map[string]Position{"a": {Next: int64(seq)}}, Counters: map[string]int64{"n": int64(seq)}})
		}
		done <- err
	}()
	seen := 0
	for ctx.Err() == nil {
		got, running, err := Peek(path)
		require.True(t, running)
		if err != nil {
			require.ErrorIs(t, err, ErrInUse)
			continue
		}
		seen++
		require.Equal(t, int64(got.Seq), got.Positions["a"].Next, "one checkpoint, whole")
		require.Equal(t, int64(got.Seq), got.Counters["n"])
	}
	require.NoError(t, <-done)
	require.NoError(t, s.Close())
	require.NotZero(t, seen)
}

func TestMove(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "checkpoints.db")
	s, err := OpenNow(path)
	require.NoError(t, err)
	require.NoError(t, s.Commit(Checkpoint{
		Seq: 1, Positions: map[string]Position{"a": {Next: 7, Log: "l"}, "b": {Next: 9}}, Counters: map[string]int64{"n": 3},
		Deltas: []Delta{{Stage: "s", Partition: "a", Blob: []byte("x")}, {Stage: "s", Partition: "b", Blob: []byte("y")}},
	}))
	require.Equal(t, []string{"s"}, s.Stateful("a"))
	require.ErrorContains(t, s.Move("c", Position{}), `holds no position of partition "c"`)
	require.NoError(t, s.Move("a", Position{Next: 2, Log: "l"}))
	require.NoError(t, s.Close())

	s, err = OpenNow(path)
	require.NoError(t, err)
	defer s.Close()
	got, err := s.Load()
	require.NoError(t, err)
	require.Equal(t, Saved{Seq: 1, Positions: map[string]Position{"a": {Next: 2, Log: "l"}, "b": {Next: 9}}, Counters: map[string]int64{"n": 3}}, got)
	require.Empty(t, s.Stateful("a"), "the state belonged to the old position")
	blobs, err := s.State("s", "b")
	require.NoError(t, err)
	require.Equal(t, [][]byte{[]byte("y")}, blobs)
	blobs, err = s.State("s", "a")
	require.NoError(t, err)
	require.Empty(t, blobs)
}
