package state_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/statefile"
	"github.com/leatgo/leat/leattest"
	"github.com/leatgo/leat/operate"
	"github.com/leatgo/leat/state"
)

// numbers gives each row of a partition its number.
type numbers struct {
	mu sync.Mutex
	n  map[string]int
}

func (s *numbers) Process(_ context.Context, in *leat.Batch[int], out *leat.Batch[string]) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, r := range in.Rows() {
		s.n[in.Partition()]++
		out.Append(fmt.Sprintf("%d:%d", s.n[in.Partition()], r), i)
	}
	return nil
}

func (s *numbers) Restore(partition string, saved [][]byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.n[partition] = 0
	for _, b := range saved {
		n := 0
		if err := json.Unmarshal(b, &n); err != nil {
			return err
		}
		s.n[partition] = n
	}
	return nil
}

func (s *numbers) Delta(partition string) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return json.Marshal(s.n[partition])
}

func (s *numbers) Snapshot(partition string) ([]byte, error) { return s.Delta(partition) }

func ints(n int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = i
	}
	return out
}

// life runs a pipeline over so many rows of two partitions.
func life(t *testing.T, dir string, shared leat.StateStore, rows int, sink leat.Sink[string]) *leat.Pipeline {
	t.Helper()
	p := leat.New("numbers", leat.Config{StateDir: dir, State: shared, CheckpointEvery: 5 * time.Millisecond, Logger: slog.New(slog.DiscardHandler),
		Retry: leat.Retry{First: time.Millisecond}})
	src := leattest.Rows(ints(rows)...).Partitions(2).Batches(20).Slow(time.Millisecond)
	leat.To(leat.Via(leat.From(p, src), "number", leat.Stage[int, string](&numbers{n: map[string]int{}})), sink)
	return p
}

// requireNumbered checks that each partition's rows are all there, once, with their numbers.
func requireNumbered(t *testing.T, sink *leattest.Collector[string], rows int) {
	t.Helper()
	n := map[string]int{}
	all := sink.Committed()
	require.Len(t, all, rows)
	for i, at := range sink.Origins() {
		n[at.Partition]++
		require.True(t, strings.HasPrefix(all[i], fmt.Sprintf("%d:", n[at.Partition])), "rules G12, H1: row %q is number %d of %s", all[i], n[at.Partition], at.Partition)
	}
}

// rules H1, H4: processes on one pipeline, each with a folder of its own; whoever has the
// partitions goes on with their state, whatever cut the other one off.
func TestProcessesShareState(t *testing.T) {
	t.Parallel()
	c := config(t)
	sink := leattest.Collect[string]()
	for k := range 4 {
		ctx, stop := context.WithCancel(t.Context())
		rows := 2000 + 1000*k
		old := sink
		done := make(chan error, 1)
		go func() { done <- life(t, t.TempDir(), state.Postgres(c), rows, old).Run(ctx) }()
		time.Sleep(60 * time.Millisecond)
		if k%2 == 0 { // the other one is not asked
			sink = sink.Successor()
			require.NoError(t, life(t, t.TempDir(), state.Postgres(c), rows, sink).Run(t.Context()))
			if err := <-done; err != nil {
				require.ErrorIs(t, err, leat.ErrFenced, "rule E3")
			}
		} else {
			require.NoError(t, <-done)
		}
		stop()
		requireNumbered(t, sink, rows)
	}
}

// The way from a state folder to PostgreSQL, to another pipeline's name there, and back.
func TestStateMoves(t *testing.T) {
	t.Parallel()
	c := config(t)
	sink := leattest.Collect[string]()
	one, two, three := t.TempDir(), t.TempDir(), t.TempDir()
	require.NoError(t, life(t, one, nil, 1000, sink).Run(t.Context()))

	move := func(from, to operate.StatePlace) operate.StateMoved {
		var file bytes.Buffer
		out, err := operate.ExportState(t.Context(), from, &file, "")
		require.NoError(t, err)
		in, err := operate.ImportState(t.Context(), bytes.NewReader(file.Bytes()), to)
		require.NoError(t, err)
		require.Equal(t, out.Pieces, in.Pieces)
		require.Equal(t, 2, in.Partitions)
		_, err = operate.ImportState(t.Context(), bytes.NewReader(file.Bytes()), to)
		require.ErrorContains(t, err, "already", "what is there is not replaced")
		return in
	}
	require.ErrorContains(t, life(t, one, state.Postgres(c), 1000, sink).Run(t.Context()), "of a time without Config.State")
	move(operate.StateFolder(one), state.PostgresArchive(c, "numbers"))
	require.NoError(t, life(t, two, state.Postgres(c), 2000, sink).Run(t.Context()))
	require.Equal(t, "numbers", move(state.PostgresArchive(c, "numbers"), state.PostgresArchive(c, "copy")).Pipeline)
	move(state.PostgresArchive(c, "copy"), operate.StateFolder(three))
	require.NoError(t, life(t, three, nil, 3000, sink).Run(t.Context()))
	requireNumbered(t, sink, 3000)

	_, err := operate.ExportState(t.Context(), state.PostgresArchive(c, "nobody"), &bytes.Buffer{}, "")
	require.ErrorContains(t, err, `nothing of pipeline "nobody"`)
	var file bytes.Buffer
	_, err = operate.ExportState(t.Context(), state.PostgresArchive(c, "numbers"), &file, "")
	require.NoError(t, err)
	_, err = operate.ImportState(t.Context(), bytes.NewReader(file.Bytes()[:file.Len()-10]), state.PostgresArchive(c, "half"))
	require.ErrorIs(t, err, statefile.ErrCorrupt)
	_, err = operate.ExportState(t.Context(), state.PostgresArchive(c, "half"), &bytes.Buffer{}, "")
	require.ErrorContains(t, err, "nothing of pipeline", "all or nothing")
}
