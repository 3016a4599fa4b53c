package stage_test

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/leattest"
)

// letters is a dead-letter log in memory.
type letters struct {
	mu  sync.Mutex
	all []leat.DeadLetter
}

func (l *letters) Open(context.Context, leat.Env) error { return nil }
func (l *letters) Sync(context.Context) error           { return nil }
func (l *letters) Close() error                         { return nil }
func (l *letters) Append(_ context.Context, add []leat.DeadLetter) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, add...)
	return nil
}

// byOffset are the letters in the order of their rows.
func (l *letters) byOffset() []leat.DeadLetter {
	slices.SortFunc(l.all, func(a, b leat.DeadLetter) int { return int(a.Offset - b.Offset) })
	return l.all
}

// outcome is what a stage made of some rows.
type outcome[Out any] struct {
	rows    []Out
	at      []leat.Offset // where rows came from
	letters []leat.DeadLetter
	stage   leat.NodeStats
	stats   leat.Stats
	retries int
	err     error
}

// rejected lists the offsets of the rejected rows.
func (o outcome[Out]) rejected() []leat.Offset {
	out := []leat.Offset{}
	for _, l := range o.letters {
		out = append(out, l.Offset)
	}
	return out
}

// pass sends the rows through the stage in batches of 100, on the real engine.
func pass[In, Out any](t *testing.T, st leat.Stage[In, Out], rows ...In) outcome[Out] {
	t.Helper()
	return passFrom(t, st, leattest.Rows(rows...))
}

func passFrom[In, Out any](t *testing.T, st leat.Stage[In, Out], src leat.Source[In]) outcome[Out] {
	t.Helper()
	var (
		out  outcome[Out]
		mu   sync.Mutex
		log  letters
		sink = leattest.Collect[Out]()
	)
	p := leat.New("test", leat.Config{
		StateDir: t.TempDir(), DeadLetters: &log, Logger: slog.New(slog.DiscardHandler),
		Breaker: leat.Breaker{Share: -1}, Retry: leat.Retry{First: time.Millisecond},
		Observe: func(e leat.Event) {
			if e.Kind == leat.EventRetry {
				mu.Lock()
				out.retries++
				mu.Unlock()
			}
		},
	})
	leat.To(leat.Via(leat.From(p, src), "stage", st), sink)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out.err = p.Run(ctx)
	require.NoError(t, ctx.Err(), "the pipeline hangs")
	out.rows, out.letters, out.stats = sink.Committed(), log.byOffset(), p.Stats()
	for _, at := range sink.Origins() {
		out.at = append(out.at, at.Offset)
	}
	for _, n := range out.stats.Nodes {
		if n.Name == "stage" {
			out.stage = n
			require.Equal(t, n.In+n.Added, n.Out+n.Rejected+n.Filtered, "rule A8: rows are conserved")
		}
	}
	return out
}

// count is 0 to n-1.
func count(n int) []int {
	rows := make([]int, n)
	for i := range rows {
		rows[i] = i
	}
	return rows
}

// onEngine calls f with the rows as one batch of the engine's, and with what makes
// an empty batch for a stage to fill from it, as often as f wants.
func onEngine[In, Out any](t testing.TB, rows []In, f func(in *leat.Batch[In], out func() *leat.Batch[Out])) {
	t.Helper()
	p := leat.New("test", leat.Config{StateDir: t.TempDir(), Logger: slog.New(slog.DiscardHandler)})
	called := false
	leat.To(leat.Via(leat.From(p, leattest.Rows(rows...).Batches(len(rows))), "stage", inside[In, Out](func(in *leat.Batch[In], out *leat.Batch[Out]) {
		called = true
		f(in, func() *leat.Batch[Out] { again := *out; return &again })
	})), leattest.Collect[Out]())
	require.NoError(t, p.Run(t.Context()))
	require.True(t, called)
}

type inside[In, Out any] func(in *leat.Batch[In], out *leat.Batch[Out])

func (f inside[In, Out]) Process(_ context.Context, in *leat.Batch[In], out *leat.Batch[Out]) error {
	f(in, out)
	return nil
}
