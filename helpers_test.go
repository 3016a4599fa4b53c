package leat_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/engine"
)

// TestMain fails the run when any test leaves a goroutine behind (rule A7). All tests run
// with scrubbed batches.
func TestMain(m *testing.M) {
	engine.Scrub = true
	goleak.VerifyTestMain(m)
}

// bubble runs f in virtual time. A goroutine that is left over, and a
// pipeline that stands still, fail the test.
func bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, f)
}

var silent = slog.New(slog.DiscardHandler)

func config(t *testing.T) leat.Config {
	return leat.Config{StateDir: t.TempDir(), Logger: silent}
}

func ints(n int) []int {
	rows := make([]int, n)
	for i := range rows {
		rows[i] = i
	}
	return rows
}

// stageFunc is a stage of one function.
type stageFunc[In, Out any] func(ctx context.Context, in *leat.Batch[In], out *leat.Batch[Out]) error

func (f stageFunc[In, Out]) Process(ctx context.Context, in *leat.Batch[In], out *leat.Batch[Out]) error {
	return f(ctx, in, out)
}

// blocking is a stage that waits.
type blocking[In, Out any] struct{ stageFunc[In, Out] }

func (blocking[In, Out]) Blocking() bool { return true }

// via, to: type inference does not see through interfaces.
func via[In, Out any](f leat.Flow[In], name string, st func(ctx context.Context, in *leat.Batch[In], out *leat.Batch[Out]) error) leat.Flow[Out] {
	return leat.Via(f, name, leat.Stage[In, Out](stageFunc[In, Out](st)))
}

func wait[In, Out any](f leat.Flow[In], name string, st func(ctx context.Context, in *leat.Batch[In], out *leat.Batch[Out]) error) leat.Flow[Out] {
	return leat.Via(f, name, leat.Stage[In, Out](blocking[In, Out]{st}))
}

// rowwise is a Map: an error rejects the row, a panic is the stage's.
func rowwise[In, Out any](f func(In) (Out, error)) func(context.Context, *leat.Batch[In], *leat.Batch[Out]) error {
	return func(_ context.Context, in *leat.Batch[In], out *leat.Batch[Out]) error {
		for i, r := range in.Rows() {
			if v, err := f(r); err != nil {
				out.Reject(i, leat.Transform, err)
			} else {
				out.Append(v, i)
			}
		}
		return nil
	}
}

func keep[T any](ok func(T) bool) func(context.Context, *leat.Batch[T], *leat.Batch[T]) error {
	return func(_ context.Context, in, out *leat.Batch[T]) error {
		from := 0
		for i, r := range in.Rows() {
			if !ok(r) {
				out.AppendRows(in, from, i)
				from = i + 1
			}
		}
		out.AppendRows(in, from, in.Len())
		return nil
	}
}

func flat[In, Out any](f func(In) []Out) func(context.Context, *leat.Batch[In], *leat.Batch[Out]) error {
	return func(_ context.Context, in *leat.Batch[In], out *leat.Batch[Out]) error {
		for i, r := range in.Rows() {
			for _, v := range f(r) {
				out.Append(v, i)
			}
		}
		return nil
	}
}

// paced lets batch k of n rows through k·d after the generation's start, in
// parallel with the others; rows are their own offsets.
func paced(n int, d time.Duration) func(context.Context, *leat.Batch[int], *leat.Batch[int]) error {
	return func(ctx context.Context, in, out *leat.Batch[int]) error {
		select {
		case <-time.After(time.Duration(in.Rows()[0]/n) * d):
		case <-ctx.Done():
			return ctx.Err()
		}
		for i, r := range in.Rows() {
			out.Append(r, i)
		}
		return nil
	}
}

// funcSource is a source of functions.
type funcSource struct {
	name   string
	replay leat.ReplayKind
	run    func(ctx context.Context, in leat.Intake[int]) error
	commit func(ctx context.Context, cp leat.Checkpoint) error

	mu     sync.Mutex
	runs   int
	closed int
}

func source(run func(ctx context.Context, in leat.Intake[int]) error) *funcSource {
	return &funcSource{name: "func", replay: leat.ReplayExact, run: run}
}

func (s *funcSource) Name() string            { return s.name }
func (s *funcSource) Replay() leat.ReplayKind { return s.replay }
func (s *funcSource) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed++
	return nil
}
func (s *funcSource) Run(ctx context.Context, in leat.Intake[int]) error {
	s.mu.Lock()
	s.runs++
	s.mu.Unlock()
	return s.run(ctx, in)
}
func (s *funcSource) Commit(ctx context.Context, cp leat.Checkpoint) error {
	if s.commit == nil {
		return nil
	}
	return s.commit(ctx, cp)
}

// chunk has the rows from..to-1, each its own offset.
func chunk(from, to int) leat.Chunk[int] {
	return leat.Chunk[int]{
		First: int64(from), Next: int64(to), Bytes: int64(to - from),
		Decode: func(_ context.Context, out *leat.Batch[int]) error {
			for i := range to - from {
				out.Append(from+i, i)
			}
			return nil
		},
		Locate: func(records []int) []leat.Origin {
			out := make([]leat.Origin, len(records))
			for k, i := range records {
				out[k] = leat.Origin{Offset: int64(from + i), Raw: fmt.Append(nil, from+i)}
			}
			return out
		},
	}
}

// sendAll assigns the one partition and sends the rows up to n in chunks.
func sendAll(in leat.Intake[int], n, size int) error {
	at, err := in.Assign(leat.Partition{Log: "log"})
	if err != nil {
		return err
	}
	for from := int(at[""].Next); from < n; from += size {
		if err := in.Send(chunk(from, min(from+size, n))); err != nil {
			return err
		}
	}
	return nil
}

// memLetters is a dead-letter log in memory that notes the order of calls.
type memLetters struct {
	journal *journal
	fail    func(call string) error

	mu      sync.Mutex
	letters []leat.DeadLetter
	ids     map[string]bool
	writes  int // of letters, known ones included
	dirty   int // appended since the last Sync
}

func (l *memLetters) call(name string) error {
	l.journal.add("letters." + name)
	if l.fail != nil {
		return l.fail(name)
	}
	return nil
}
func (l *memLetters) Open(context.Context, leat.Env) error { return l.call("Open") }
func (l *memLetters) Append(_ context.Context, letters []leat.DeadLetter) error {
	if err := l.call("Append"); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ids == nil {
		l.ids = map[string]bool{}
	}
	for _, d := range letters {
		l.writes++
		l.dirty++
		if !l.ids[d.ID] {
			l.ids[d.ID] = true
			l.letters = append(l.letters, d)
		}
	}
	return nil
}
func (l *memLetters) Sync(context.Context) error {
	if err := l.call("Sync"); err != nil {
		return err
	}
	l.mu.Lock()
	l.dirty = 0
	l.mu.Unlock()
	return nil
}
func (l *memLetters) Close() error { return l.call("Close") }

// unsynced is how many letters are not durable.
func (l *memLetters) unsynced() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.dirty
}

func (l *memLetters) all() []leat.DeadLetter {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.letters)
}

func (l *memLetters) offsets() []int64 {
	var out []int64
	for _, d := range l.all() {
		out = append(out, d.Offset)
	}
	slices.Sort(out)
	return out
}

// journal is a list of what happened, in order. A nil one forgets.
type journal struct {
	mu    sync.Mutex
	lines []string
}

func (j *journal) add(line string) {
	if j == nil {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, line)
}

func (j *journal) all() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.lines)
}

// plainSink keeps no positions: it has everything it was ever told.
type plainSink struct {
	name   string
	write  func(b *leat.Batch[int]) error
	commit func(cp leat.Checkpoint) (bool, error)
	open   func(ctx context.Context) error

	mu   sync.Mutex
	rows []int
}

func (s *plainSink) Name() string { return s.name }
func (s *plainSink) Open(ctx context.Context, _ leat.Env) error {
	if s.open != nil {
		return s.open(ctx)
	}
	return nil
}
func (s *plainSink) Write(_ context.Context, b *leat.Batch[int]) error {
	if s.write != nil {
		if err := s.write(b); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rows = append(s.rows, b.Rows()...)
	return nil
}
func (s *plainSink) Commit(_ context.Context, cp leat.Checkpoint) (bool, error) {
	if s.commit != nil {
		return s.commit(cp)
	}
	return true, nil
}
func (s *plainSink) Close() error { return nil }
func (s *plainSink) got() []int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.rows)
}

// requireBalance checks rule A8 for every node and sink.
func requireBalance(t *testing.T, s leat.Stats) {
	t.Helper()
	for _, n := range s.Nodes {
		require.Equal(t, n.In+n.Added, n.Out+n.Rejected+n.Filtered, "rule A8: the rows of %s %q do not balance: %+v", n.Kind, n.Name, n)
		require.GreaterOrEqual(t, min(n.In, n.Added, n.Out, n.Rejected, n.Filtered), int64(0), "rule A8: a count below zero: %+v", n)
	}
}

func node(t *testing.T, s leat.Stats, name string) leat.NodeStats {
	t.Helper()
	for _, n := range s.Nodes {
		if n.Name == name {
			return n
		}
	}
	require.Failf(t, "no such node", "%q in %+v", name, s.Nodes)
	return leat.NodeStats{}
}

// start runs p on a goroutine; the function waits for it.
func start(ctx context.Context, p *leat.Pipeline) (wait func() error) {
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	return sync.OnceValue(func() error { return <-done })
}

// runs p to its end, at most an hour of virtual time.
func run(t *testing.T, p *leat.Pipeline) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	err := p.Run(ctx)
	assert.NoError(t, ctx.Err(), "the pipeline did not end by itself")
	return err
}

var errDisk = errors.New("disk on fire")
