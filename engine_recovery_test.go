package leat_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
	"weak"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/failpoint"
	"github.com/leatgo/leat/internal/store"
	"github.com/leatgo/leat/leattest"
)

// pipe is source → paced stage → sinks: 100 rows a batch, one batch every d.
func pipe(c leat.Config, src leat.Source[int], d time.Duration, sinks ...leat.Sink[int]) *leat.Pipeline {
	p := leat.New("pipe", c)
	leat.To(wait(leat.From(p, src), "pace", paced(100, d)), sinks...)
	return p
}

func TestAbortedCommitRewinds(t *testing.T) {
	bubble(t, func(t *testing.T) {
		sink := leattest.Collect[int]().
			FailCommit(2, leat.ErrAborted).FailCommit(3, leat.ErrAborted).FailCommit(5, fmt.Errorf("wrapped: %w", leat.ErrAborted)).
			FailWrite(12, leat.ErrAborted)
		p := pipe(config(t), leattest.Rows(ints(2000)...), 400*time.Millisecond, sink)
		require.NoError(t, run(t, p))
		require.Equal(t, ints(2000), sink.Committed(), "rule E8: each row exactly once, in order")
		s := p.Stats()
		assert.Equal(t, 4, s.Run.Rewinds)
		assert.Equal(t, 5, sink.Calls("Open"), "rule E8: sinks are opened again")
		assert.Equal(t, 5, sink.Calls("Close"), "rule E8: sinks are closed without commit")
		assert.Equal(t, int64(2000), node(t, s, "rows").In, "rule A8")
		requireBalance(t, s)
	})
}

// Rule A8: where a sink holds less than the state folder, counters begin anew; a rewind before the first
// checkpoint must not bring back those of the state folder.
func TestCountersAnewSurviveARewind(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := config(t)
		old := leattest.Collect[int]().Named("old")
		require.NoError(t, run(t, pipe(c, leattest.Rows(ints(1000)...), 10*time.Millisecond, old)))
		added := leattest.Collect[int]().Named("added").FailCommit(1, leat.ErrAborted).FailCommit(2, leat.ErrAborted)
		var mu sync.Mutex
		var high int64 // what metrics would show
		var p *leat.Pipeline
		c.Observe = func(leat.Event) {
			mu.Lock()
			defer mu.Unlock()
			high = max(high, p.Stats().Run.In)
		}
		p = pipe(c, leattest.Rows(ints(1500)...), 100*time.Millisecond, old, added)
		require.NoError(t, run(t, p))
		require.Equal(t, ints(1500), added.Committed())
		assert.EqualValues(t, 1500, p.Stats().Run.In, "each row counts once, however often the pipeline went back")
		assert.EqualValues(t, 1500, high, "at any time")
	})
}

// Rule A8: counters of another graph do not balance in this one, so they begin anew.
func TestCountersOfAnotherGraph(t *testing.T) {
	for name, change := range map[string]struct {
		stage string
		added leat.Sink[int]
		out   int64 // of the sink, in both runs
	}{
		"a stage is renamed":                {"barato", nil, 50},
		"a sink without positions is added": {"cheap", &plainSink{name: "plain"}, 50},
		"nothing":                           {"cheap", nil, 100},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				c, sink := config(t), leattest.Collect[int]().Named("sink").FailCommit(2, leat.ErrAborted)
				life := func(rows int, stage string, added leat.Sink[int]) leat.Stats {
					p := leat.New("p", c)
					even := via(leat.From(p, leattest.Rows(ints(rows)...)), stage, keep(func(n int) bool { return n%2 == 0 }))
					leat.To(even, leat.Sink[int](sink))
					if added != nil {
						leat.To(even, added)
					}
					require.NoError(t, run(t, p))
					requireBalance(t, p.Stats())
					return p.Stats()
				}
				life(100, "cheap", nil)
				s := life(200, change.stage, change.added)
				assert.Equal(t, change.out, node(t, s, "sink").Out)
				assert.EqualValues(t, 100, s.Run.In)
			})
		})
	}
}

func TestTransientSourceErrorRewinds(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src := leattest.Rows(ints(1000)...)
		for range 3 {
			src.FailAt(550, leat.Transient(errDisk))
		}
		sink := leattest.Collect[int]()
		began := time.Now()
		p := pipe(config(t), src, 10*time.Millisecond, sink)
		require.NoError(t, run(t, p))
		require.Equal(t, ints(1000), sink.Committed(), "rule E8")
		assert.Equal(t, 3, p.Stats().Run.Rewinds, "rule E8: a transient error of a source is a rewind")
		requireBackoff(t, time.Since(began), 7*time.Second) // 1 + 2 + 4
	})
}

// requireBackoff: the waits sum up to want, ±20 % and half a second of work.
func requireBackoff(t *testing.T, took, want time.Duration) {
	t.Helper()
	assert.GreaterOrEqual(t, took, want*8/10, "backoff is too short")
	assert.LessOrEqual(t, took, want*12/10+500*time.Millisecond, "backoff is too long")
}

func TestPermanentSourceErrorDrainsFirst(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src := leattest.Rows(ints(1000)...).FailAt(550, errDisk)
		sink := leattest.Collect[int]()
		p := pipe(config(t), src, 10*time.Millisecond, sink)
		err := run(t, p)
		require.ErrorIs(t, err, errDisk)
		var e *leat.Error
		require.ErrorAs(t, err, &e)
		assert.Equal(t, "rows", e.Node)
		assert.Equal(t, ints(550), sink.Committed(), "what was sent is committed first")
	})
}

func TestTransientFailuresAreRetriedWithBackoff(t *testing.T) {
	tr := leat.Transient(errDisk)
	for name, c := range map[string]struct {
		fail   func(sink *leattest.Collector[int])
		decode int // failures
		stage  int
		commit int // of the source
	}{
		"Open":          {fail: func(s *leattest.Collector[int]) { s.FailOpen(1, tr).FailOpen(2, tr).FailOpen(3, tr) }},
		"Write":         {fail: func(s *leattest.Collector[int]) { s.FailWrite(2, tr).FailWrite(3, tr).FailWrite(4, tr) }},
		"Commit":        {fail: func(s *leattest.Collector[int]) { s.FailCommit(1, tr).FailCommit(2, tr).FailCommit(3, tr) }},
		"Decode":        {decode: 3},
		"stage":         {stage: 3},
		"source Commit": {commit: 3},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				var decode, stage, commit atomic.Int64
				decode.Store(int64(c.decode))
				stage.Store(int64(c.stage))
				commit.Store(int64(c.commit))
				src := source(func(_ context.Context, in leat.Intake[int]) error {
					if _, err := in.Assign(leat.Partition{}); err != nil {
						return err
					}
					for from := 0; from < 1000; from += 100 {
						ch := chunk(from, from+100)
						inner := ch.Decode
						ch.Decode = func(ctx context.Context, out *leat.Batch[int]) error {
							if from == 500 && decode.Add(-1) >= 0 {
								out.Append(-1, 0)
								return tr
							}
							return inner(ctx, out)
						}
						if err := in.Send(ch); err != nil {
							return err
						}
					}
					return nil
				})
				src.commit = func(context.Context, leat.Checkpoint) error {
					if commit.Add(-1) >= 0 {
						return tr
					}
					return nil
				}
				sink := leattest.Collect[int]()
				if c.fail != nil {
					c.fail(sink)
				}
				var waits []time.Duration
				var mu sync.Mutex
				cfg := config(t)
				cfg.CheckpointEvery = time.Hour
				cfg.Observe = func(e leat.Event) {
					if e.Kind == leat.EventRetry {
						mu.Lock()
						waits = append(waits, e.Duration)
						mu.Unlock()
					}
				}
				p := leat.New("retry", cfg)
				leat.To(via(leat.From(p, src), "stage", func(_ context.Context, in, out *leat.Batch[int]) error {
					if in.Rows()[0] == 300 && stage.Add(-1) >= 0 {
						return tr
					}
					for i, r := range in.Rows() {
						out.Append(r, i)
					}
					return nil
				}), sink)
				began := time.Now()
				require.NoError(t, run(t, p))
				took := time.Since(began)
				require.Equal(t, ints(1000), sink.Committed(), "rule B8: nothing lost, nothing twice")
				requireBackoff(t, took, 7*time.Second)
				require.Len(t, waits, 3)
				var sum time.Duration
				for i, want := range []time.Duration{time.Second, 2 * time.Second, 4 * time.Second} {
					assert.InDelta(t, want, waits[i], float64(want)/5, "backoff: first 1 s, ×2, ±20 %%")
					sum += waits[i]
				}
				assert.Equal(t, sum, took, "rule B1: the time is spent in the backoff")
				assert.Zero(t, p.Stats().Run.Rewinds)
				requireBalance(t, p.Stats())
			})
		})
	}
}

func TestBackoffHasALongestWait(t *testing.T) {
	bubble(t, func(t *testing.T) {
		sink := leattest.Collect[int]()
		for i := 1; i <= 12; i++ {
			sink.FailCommit(i, leat.Transient(errDisk))
		}
		c := config(t)
		var waits []time.Duration
		c.Observe = func(e leat.Event) {
			if e.Kind == leat.EventRetry {
				waits = append(waits, e.Duration)
			}
		}
		require.NoError(t, run(t, pipe(c, leattest.Rows(1), 0, sink)))
		require.Len(t, waits, 12)
		for _, w := range waits[5:] {
			assert.InDelta(t, 30*time.Second, w, float64(6*time.Second), "backoff: at most 30 s ±20 %%")
		}
	})
}

func TestAttemptsUsedUp(t *testing.T) {
	tr := leat.Transient(errDisk)
	all := func(f func(n int, err error) *leattest.Collector[int], from int) {
		for n := from; n < 100; n++ {
			f(n, tr)
		}
	}
	for name, breakIt := range map[string]func(src *leattest.MemSource[int], s *leattest.Collector[int]){
		"Open":   func(_ *leattest.MemSource[int], s *leattest.Collector[int]) { all(s.FailOpen, 1) },
		"Write":  func(_ *leattest.MemSource[int], s *leattest.Collector[int]) { all(s.FailWrite, 7) },
		"Commit": func(_ *leattest.MemSource[int], s *leattest.Collector[int]) { all(s.FailCommit, 2) },
		"aborted Commit": func(_ *leattest.MemSource[int], s *leattest.Collector[int]) {
			for n := 2; n < 100; n++ {
				s.FailCommit(n, leat.ErrAborted)
			}
		},
		"source": func(src *leattest.MemSource[int], _ *leattest.Collector[int]) {
			for range 100 {
				src.FailAt(700, tr)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				src, sink := leattest.Rows(ints(1000)...), leattest.Collect[int]()
				breakIt(src, sink)
				c := config(t)
				c.Retry.Attempts = 4
				err := run(t, pipe(c, src, 400*time.Millisecond, sink))
				require.Error(t, err, "Attempts are used up")
				if name == "aborted Commit" {
					require.ErrorIs(t, err, leat.ErrAborted)
				} else {
					require.ErrorIs(t, err, errDisk)
				}
				// Nothing is lost: the next start goes on.
				sink2, src2 := sink.Successor(), leattest.Rows(ints(1000)...)
				require.NoError(t, run(t, pipe(c, src2, 0, sink2)))
				require.Equal(t, ints(1000), sink2.Committed(), "nothing is lost and nothing twice")
			})
		})
	}
}

func TestFencedPartitionIsGivenUpAndTheOtherGoesOn(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src := leattest.Rows(ints(4000)...).Partitions(2)
		sink := leattest.Collect[int]()
		c := config(t)
		p := pipe(c, src, 100*time.Millisecond, sink)
		end := start(t.Context(), p)
		time.Sleep(1500 * time.Millisecond) // a checkpoint is in
		before := len(sink.Committed())
		require.NotZero(t, before)
		other := sink.Successor()
		require.NoError(t, other.Open(t.Context(), leat.Env{}))
		at, err := other.Restore(t.Context(), []string{"rows/0"})
		require.NoError(t, err)
		require.NoError(t, end(), "rule E3: fenced is not a crash; the other partition goes on to its end")
		n := map[string]int64{}
		for _, o := range sink.Origins() {
			require.Equal(t, n[o.Partition], o.Offset, "rule E3: exactly once")
			n[o.Partition]++
		}
		assert.Equal(t, at["rows/0"].Next, n["rows/0"], "rule E3: nothing of a fenced partition is committed")
		assert.Equal(t, int64(2000), n["rows/1"], "rule E3: the other partition goes on")
		assert.Equal(t, 1, p.Stats().Run.Rewinds)

		// The successor takes over.
		c2 := config(t)
		s2 := sink.Successor()
		require.NoError(t, run(t, pipe(c2, leattest.Rows(ints(4000)...).Partitions(2), 0, s2)))
		requireSequential(t, s2, 2000)
		require.Len(t, s2.Committed(), 4000, "rule E2: the successor goes on from the sink's positions")
	})
}

func TestFencedFromAllPartitions(t *testing.T) {
	bubble(t, func(t *testing.T) {
		sink := leattest.Collect[int]()
		p := pipe(config(t), leattest.Rows(ints(4000)...), 100*time.Millisecond, sink)
		end := start(t.Context(), p)
		time.Sleep(1500 * time.Millisecond)
		other := sink.Successor()
		require.NoError(t, other.Open(t.Context(), leat.Env{}))
		_, err := other.Restore(t.Context(), []string{"rows"})
		require.NoError(t, err)
		err = end()
		require.ErrorIs(t, err, leat.ErrFenced, "rule E3")
		assert.Len(t, sink.Committed(), int(sink.Positions()["rows"].Next))
	})
}

// A sink that names partitions nobody has must not make the engine spin.
func TestFencedFromNothingBacksOff(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := config(t)
		c.Retry.Attempts = 5
		n := 0
		sink := leat.Sink[int](&plainSink{name: "odd", commit: func(leat.Checkpoint) (bool, error) {
			if n++; n > 1000 {
				return false, errors.New("spinning")
			}
			return false, leat.Fenced("nobody's")
		}})
		err := run(t, pipe(c, leattest.Rows(1, 2, 3), 0, sink))
		require.ErrorIs(t, err, leat.ErrFenced, "rule E8: rewinds without progress back off and end")
		assert.Equal(t, 5, n)
	})
}

func TestSinksAtDifferentPositions(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := config(t)
		src := leattest.Rows(ints(1000)...)
		a, b := leattest.Collect[int]().Named("a"), leattest.Collect[int]().Named("b")
		b.OnCall(func(call string) error {
			if call == "Commit" {
				time.Sleep(time.Second)
			}
			return nil
		}).FailCommit(1, errDisk)
		require.ErrorIs(t, run(t, pipe(c, src, 0, a, b)), errDisk)
		require.Len(t, a.Committed(), 1000)
		require.Empty(t, b.Committed())
		writes := a.Calls("Write")

		p := pipe(c, src, 0, a, b)
		require.NoError(t, run(t, p))
		assert.Equal(t, ints(1000), a.Committed(), "rule E7: the sink that is ahead gets nothing twice")
		assert.Equal(t, ints(1000), b.Committed(), "rule E7: the sink that is behind gets everything")
		assert.Equal(t, writes, a.Calls("Write"), "rule E7: rows that a sink holds are not written again")
		requireBalance(t, p.Stats())
		assert.Equal(t, int64(1000), node(t, p.Stats(), "a").Out, "rule A8: rows skipped by E7 are counted")
		assert.Equal(t, int64(1000), a.Positions()["rows"].Next)
	})
}

// A cut's counts must not hold rows that were skipped after it.
func TestSkippedRowsBelongToTheirCut(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := config(t)
		src := leattest.Rows(ints(2000)...)
		a, b := leattest.Collect[int]().Named("a"), leattest.Collect[int]().Named("b")
		b.OnCall(func(call string) error {
			if call == "Commit" {
				time.Sleep(time.Second)
			}
			return nil
		}).FailCommit(1, errDisk)
		c.CheckpointEvery = 500 * time.Hour
		require.ErrorIs(t, run(t, pipe(c, src, 0, a, b)), errDisk)
		require.Len(t, a.Committed(), 2000)

		// a is slow to pass its barriers, while rows that it holds go by.
		c.CheckpointEvery = 1500 * time.Millisecond
		b = b.Successor()
		a.OnCall(func(call string) error {
			if call == "Commit" {
				time.Sleep(5700 * time.Millisecond)
			}
			return nil
		})
		n := 0
		b.OnCall(func(call string) error {
			if call == "Commit" {
				if n++; n == 9 {
					return errDisk
				}
			}
			return nil
		})
		require.ErrorIs(t, run(t, pipe(c, src, time.Second, a, b)), errDisk)

		a.OnCall(nil)
		b = b.Successor()
		p := pipe(c, src, 0, a, b)
		require.NoError(t, run(t, p))
		assert.Equal(t, ints(2000), a.Committed())
		assert.Equal(t, ints(2000), b.Committed())
		s := p.Stats()
		assert.Equal(t, int64(2000), node(t, s, "a").Out, "rule A8: a row skipped after a cut is counted in that cut")
		requireBalance(t, s)
	})
}

func TestNotYetCompletesLater(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, fast := leattest.Rows(ints(2000)...), leattest.Collect[int]().Named("fast")
		var slow *leattest.Collector[int]
		var seqs []uint64
		slow = leattest.Collect[int]().Named("slow").NotYet(func(cp leat.Checkpoint) bool {
			seqs = append(seqs, cp.Seq)
			return len(seqs)%4 != 0
		})
		p := pipe(config(t), src, time.Second, fast, slow)
		end := start(t.Context(), p)
		time.Sleep(3500 * time.Millisecond)
		assert.NotEmpty(t, fast.Committed(), "rule E9: nobody waits for the slowest")
		assert.Empty(t, slow.Committed())
		assert.Empty(t, src.Committed(), "rule A3: the source hears of complete cuts only")
		time.Sleep(2 * time.Second)
		assert.NotEmpty(t, slow.Committed(), "rule E9: a later commit covers the earlier cut")
		assert.Equal(t, slow.Positions()["rows"], src.Committed()[""], "rule A3")
		require.NoError(t, end())
		assert.Equal(t, ints(2000), slow.Committed(), "rule E9: the last cut is forced")
		assert.Equal(t, ints(2000), fast.Committed())
		assert.True(t, slices.IsSorted(seqs))
	})
}

// A sink with an open file needs to be asked again, also when no row comes.
func TestNotYetIsAskedAgainWhenIdle(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		began := time.Now()
		sink := leattest.Collect[int]().NotYet(func(leat.Checkpoint) bool { return time.Since(began) < time.Minute })
		src := leattest.Rows(1, 2, 3).Endless()
		end := start(ctx, pipe(config(t), src, 0, sink))
		time.Sleep(59 * time.Second)
		assert.Empty(t, sink.Committed())
		time.Sleep(2500 * time.Millisecond)
		assert.Equal(t, []int{1, 2, 3}, sink.Committed(), "rules E9, F4: a sink that said \"not yet\" can go by age")
		calls := sink.Calls("Commit")
		time.Sleep(time.Hour)
		assert.Equal(t, calls, sink.Calls("Commit"), "nothing to commit, nothing asked")
		cancel()
		require.NoError(t, end())
	})
}

func TestNotYetToAForcedCutIsAnError(t *testing.T) {
	bubble(t, func(t *testing.T) {
		sink := leat.Sink[int](&plainSink{name: "never", commit: func(leat.Checkpoint) (bool, error) { return false, nil }})
		err := run(t, pipe(config(t), leattest.Rows(1), 0, sink))
		require.ErrorContains(t, err, "rule E9")
	})
}

func TestSlowSinkDoesNotHoldUpTheFastOne(t *testing.T) {
	bubble(t, func(t *testing.T) {
		fast := leattest.Collect[int]().Named("fast")
		slow := leattest.Collect[int]().Named("slow").OnCall(func(call string) error {
			if call == "Commit" {
				time.Sleep(10 * time.Second)
			}
			return nil
		})
		var mu sync.Mutex
		var told []int64
		fs := source(func(_ context.Context, in leat.Intake[int]) error { return sendAll(in, 3000, 100) })
		fs.commit = func(_ context.Context, cp leat.Checkpoint) error {
			mu.Lock()
			defer mu.Unlock()
			told = append(told, cp.Positions[""].Next)
			if pos := slow.Positions()["func"]; pos.Next < cp.Positions[""].Next {
				return fmt.Errorf("rule A3: told of %d, but the slow sink is at %d", cp.Positions[""].Next, pos.Next)
			}
			return nil
		}
		p := pipe(config(t), fs, time.Second, fast, slow)
		end := start(t.Context(), p)
		time.Sleep(8500 * time.Millisecond)
		assert.GreaterOrEqual(t, len(fast.Committed()), 700, "rule E9: nobody waits for the slowest")
		assert.Empty(t, slow.Committed())
		require.NoError(t, end())
		assert.True(t, slices.IsSorted(told), "rule A3: in order")
		assert.Equal(t, int64(3000), told[len(told)-1])
		assert.Equal(t, ints(3000), slow.Committed())
	})
}

// The generation dies while the source is being told: that is a rewind, not the end.
func TestRewindDuringSourceCommit(t *testing.T) {
	bubble(t, func(t *testing.T) {
		told := 0
		src := source(func(_ context.Context, in leat.Intake[int]) error { return sendAll(in, 2000, 100) })
		src.commit = func(ctx context.Context, _ leat.Checkpoint) error {
			if told++; told > 1 {
				return nil
			}
			<-ctx.Done() // as a client whose request is cut off
			return fmt.Errorf("telling the broker: %w", ctx.Err())
		}
		sink := leattest.Collect[int]().FailWrite(15, leat.ErrAborted)
		p := pipe(config(t), src, 300*time.Millisecond, sink)
		require.NoError(t, run(t, p), "rule E8: the rewind is the reason, not what it cut off")
		require.Equal(t, ints(2000), sink.Committed())
	})
}

// Two sources, one of which assigns while checkpoints complete.
func TestLateAssign(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := leat.New("late", func() leat.Config { c := config(t); c.CheckpointEvery = time.Millisecond; return c }())
		a := source(func(_ context.Context, in leat.Intake[int]) error {
			if _, err := in.Assign(leat.Partition{}); err != nil {
				return err
			}
			for i := range 100 {
				if err := in.Send(chunk(i, i+1)); err != nil {
					return err
				}
				time.Sleep(500 * time.Microsecond)
			}
			return nil
		})
		b := source(func(_ context.Context, in leat.Intake[int]) error {
			for i := range 50 {
				name := fmt.Sprint(i)
				if _, err := in.Assign(leat.Partition{Name: name}); err != nil {
					return err
				}
				ch := chunk(0, 1)
				ch.Partition = name
				if err := in.Send(ch); err != nil {
					return err
				}
				time.Sleep(time.Millisecond)
			}
			return nil
		})
		b.name = "b"
		sink := leat.Sink[int](&plainSink{name: "out"})
		leat.To(leat.Merge(leat.From(p, a), leat.From(p, b)), sink)
		require.NoError(t, run(t, p), "rule H5: partitions may be added while running")
		require.Len(t, sink.(*plainSink).got(), 150)
		requireBalance(t, p.Stats())
	})
}

func TestMissingPositionIsNotZero(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var starts []leat.Position
		src := source(func(_ context.Context, in leat.Intake[int]) error {
			at, err := in.Assign(leat.Partition{Log: "log"})
			if err != nil {
				return err
			}
			starts = append(starts, at[""])
			if !at[""].Known() {
				return in.Send(chunk(-5, 0)) // Next is 0 and known
			}
			return nil
		})
		c := config(t)
		sink := leattest.Collect[int]()
		require.NoError(t, run(t, pipeTo(c, src, sink)))
		require.NoError(t, run(t, pipeTo(c, src, sink)))
		require.Len(t, starts, 2)
		assert.False(t, starts[0].Known(), "rule E7: missing is not 0")
		assert.Equal(t, leat.Position{Next: 0, Log: "log"}, starts[1])
		assert.Equal(t, []int{-5, -4, -3, -2, -1}, sink.Committed())

		added := leattest.Collect[int]().Named("added") // missing, while the other holds 0
		require.NoError(t, run(t, pipeTo(c, src, sink, added)))
		assert.Equal(t, []int{-5, -4, -3, -2, -1}, added.Committed(), "rule E7: missing is not 0")
		assert.Len(t, sink.Committed(), 5)
	})
}

// A sink that is always behind its barriers commits all the same.
func TestSinkBehindItsBarriersCommits(t *testing.T) {
	bubble(t, func(t *testing.T) {
		sink := leattest.Collect[int]().OnCall(func(call string) error {
			if call == "Write" {
				time.Sleep(300 * time.Millisecond)
			}
			return nil
		})
		end := start(t.Context(), pipe(config(t), leattest.Rows(ints(20000)...), 100*time.Millisecond, sink))
		time.Sleep(15 * time.Second)
		assert.Greater(t, len(sink.Committed()), 3000, "rule E9: it may leave a cut to a later one, not for ever")
		require.NoError(t, end())
		require.Equal(t, ints(20000), sink.Committed())
	})
}

func pipeTo(c leat.Config, src leat.Source[int], sinks ...leat.Sink[int]) *leat.Pipeline {
	p := leat.New("pipe", c)
	leat.To(leat.From(p, src), sinks...)
	return p
}

func TestAnotherLogIsAnError(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := config(t)
		log := "first"
		src := source(func(_ context.Context, in leat.Intake[int]) error {
			if _, err := in.Assign(leat.Partition{Log: log}); err != nil {
				return err
			}
			return in.Send(chunk(0, 10))
		})
		sink := leattest.Collect[int]()
		require.NoError(t, run(t, pipeTo(c, src, sink)))
		log = "second"
		err := run(t, pipeTo(c, src, sink))
		require.ErrorContains(t, err, "rule A2-1", "a folder that was replaced is an error, never a silent skip")
		require.ErrorContains(t, err, "reset")
		require.Equal(t, ints(10), sink.Committed())
	})
}

func TestSinkAddedLater(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := config(t)
		src := leattest.Rows(ints(1000)...)
		old, added := leattest.Collect[int]().Named("old"), leattest.Collect[int]().Named("added")
		require.NoError(t, run(t, pipe(c, src, 0, old)))
		writes := old.Calls("Write")
		p := pipe(c, src, 0, old, added)
		require.NoError(t, run(t, p))
		assert.Equal(t, ints(1000), added.Committed(), "rule E7: a new sink gets everything")
		assert.Equal(t, ints(1000), old.Committed(), "rule E7: the old one nothing twice")
		assert.Equal(t, writes, old.Calls("Write"))
		requireBalance(t, p.Stats())
	})
}

func TestSourceGoingBackIsRefused(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src := source(func(_ context.Context, in leat.Intake[int]) error {
			if _, err := in.Assign(leat.Partition{}); err != nil {
				return err
			}
			if err := in.Send(chunk(0, 10)); err != nil {
				return err
			}
			return in.Send(chunk(5, 15))
		})
		sink := leattest.Collect[int]()
		p := pipeTo(config(t), src, sink)
		require.ErrorContains(t, run(t, p), "rule A2")
		require.Zero(t, p.Stats().Batches, "rule A5: the budget is given back")
		require.Equal(t, ints(10), sink.Committed())
	})
}

// The sinks have the cut, the store does not: the rows are not written again.
func TestCrashBetweenSinkAndStore(t *testing.T) { // not parallel: failpoints are global
	for _, at := range []string{"engine/before-commit", "engine/after-commit", "engine/before-store", "engine/after-store"} {
		for n := 1; n <= 3; n++ {
			t.Run(fmt.Sprintf("%s#%d", at, n), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					c := config(t)
					src := leattest.Rows(ints(1000)...)
					a, b := leattest.Collect[int]().Named("a"), leattest.Collect[string]().Named("b")
					build := func() *leat.Pipeline {
						p := leat.New("crash", c)
						rows := wait(leat.From(p, src), "pace", paced(100, 500*time.Millisecond))
						leat.To(rows, a)
						leat.To(leat.Via(rows, "count", leat.Stage[int, string](newCounting())), b)
						return p
					}
					var hits atomic.Int64
					failpoint.Set(func(name string) error {
						if name == at && hits.Add(1) == int64(n) {
							return errDisk
						}
						return nil
					})
					defer failpoint.Set(nil)
					require.ErrorIs(t, run(t, build()), errDisk)
					p := build()
					require.NoError(t, run(t, p))
					require.Equal(t, ints(1000), a.Committed(), "rule E7")
					requireCounted(t, b)
					require.Len(t, b.Committed(), 1000)
					requireBalance(t, p.Stats())
				})
			})
		}
	}
}

func TestShutdownDrainsAndForces(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		c := config(t)
		c.CheckpointEvery = time.Hour
		var forced atomic.Int64
		sink := leattest.Collect[int]().NotYet(func(leat.Checkpoint) bool { return true })
		sink.OnCall(func(call string) error {
			if call == "Commit" {
				forced.Add(1)
			}
			return nil
		})
		src := leattest.Rows(ints(1000)...).Endless()
		p := pipe(c, src, time.Second, sink)
		end := start(ctx, p)
		time.Sleep(3500 * time.Millisecond)
		cancel()
		require.NoError(t, end(), "rule A7: a clean drain on cancel")
		assert.Equal(t, ints(1000), sink.Committed(), "rule A7: what was sent is drained and committed, forced")
		assert.Equal(t, sink.Positions()["rows"], src.Committed()[""])
		assert.Equal(t, int64(1), forced.Load())
		assert.Equal(t, 1, sink.Calls("Close"))
	})
}

func TestCancelBeforeAndDuringStart(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		honest := func(ctx context.Context) error { return ctx.Err() } // as a driver does
		p := pipeTo(config(t), leattest.Rows(ints(10)...), leat.Sink[int](&plainSink{name: "out", open: honest}))
		require.NoError(t, p.Run(ctx), "rule A7: nothing was begun")

		ctx, cancel = context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		p = pipeTo(config(t), leattest.Rows(ints(10)...), leat.Sink[int](&plainSink{name: "out",
			open: func(context.Context) error { return leat.Transient(errDisk) }}))
		err := p.Run(ctx)
		require.ErrorContains(t, err, "stopped before out could be opened")
		require.ErrorContains(t, err, errDisk.Error(), "the user wants to know what it was waiting for")
	})
}

func TestDrainDeadline(t *testing.T) {
	// Everything fails for ten minutes: an engine without a deadline ends late,
	// instead of never.
	stuck := func(call string, sink *leattest.Collector[int]) {
		began := time.Time{}
		sink.OnCall(func(c string) error {
			if began.IsZero() {
				began = time.Now()
			}
			if c == call && time.Since(began) < 10*time.Minute {
				return leat.Transient(errDisk)
			}
			return nil
		})
	}
	letters := func(call string) *memLetters {
		began := time.Time{}
		return &memLetters{fail: func(c string) error {
			if began.IsZero() {
				began = time.Now()
			}
			if c == call && time.Since(began) < 10*time.Minute {
				return leat.Transient(errDisk)
			}
			return nil
		}}
	}
	for name, breakIt := range map[string]func(c *leat.Config, src *funcSource, sink *leattest.Collector[int]){
		"Write":  func(_ *leat.Config, _ *funcSource, s *leattest.Collector[int]) { stuck("Write", s) },
		"Commit": func(_ *leat.Config, _ *funcSource, s *leattest.Collector[int]) { stuck("Commit", s) },
		"source Commit": func(_ *leat.Config, s *funcSource, _ *leattest.Collector[int]) {
			began := time.Now()
			s.commit = func(context.Context, leat.Checkpoint) error {
				if time.Since(began) < 10*time.Minute {
					return leat.Transient(errDisk)
				}
				return nil
			}
		},
		"source Commit waits": func(_ *leat.Config, s *funcSource, _ *leattest.Collector[int]) {
			s.commit = func(ctx context.Context, _ leat.Checkpoint) error {
				select {
				case <-ctx.Done():
					return ctx.Err()
				case <-time.After(10 * time.Minute):
					return nil
				}
			}
		},
		"letters Append": func(c *leat.Config, _ *funcSource, s *leattest.Collector[int]) {
			c.DeadLetters = letters("Append")
			s.RejectIf(func(i int) error {
				if i == 150 {
					return errDisk
				}
				return nil
			})
		},
		"letters Sync": func(c *leat.Config, _ *funcSource, _ *leattest.Collector[int]) { c.DeadLetters = letters("Sync") },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				c := config(t)
				c.DrainTimeout = 20 * time.Second
				src := source(func(ctx context.Context, in leat.Intake[int]) error {
					if err := sendAll(in, 1000, 100); err != nil {
						return err
					}
					<-ctx.Done()
					return nil
				})
				sink := leattest.Collect[int]()
				good := c
				breakIt(&c, src, sink)
				began := time.Now()
				p := pipe(c, src, 0, sink)
				err := p.Run(ctx)
				require.ErrorContains(t, err, "rule A7")
				assert.Equal(t, 30*time.Second, time.Since(began), "rule A7: the drain has a deadline")
				if name == "letters Append" {
					return
				}
				sink2 := sink.Successor()
				require.NoError(t, run(t, pipe(good, source(func(_ context.Context, in leat.Intake[int]) error { return sendAll(in, 1000, 100) }), 0, sink2)))
				assert.Equal(t, ints(1000), sink2.Committed(), "rule A7: the next start completes exactly once")
			})
		})
	}
}

// A lane that hangs while a cut waits for it must not hide the deadline.
func TestDrainDeadlineWithABusyLane(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		c := config(t)
		p := leat.New("busy", c)
		st := newCounting()
		free := make(chan struct{})
		st.process = func(row int) {
			if row == 500 {
				<-free
			}
		}
		sink := leattest.Collect[string]()
		leat.To(leat.Via(wait(leat.From(p, leattest.Rows(ints(1000)...).Endless()), "pace", paced(100, 300*time.Millisecond)), "count", leat.Stage[int, string](st)), sink)
		time.AfterFunc(5*time.Minute, func() { close(free) })
		began := time.Now()
		err := p.Run(ctx)
		require.Error(t, err)
		assert.Contains(t, err.Error(), "rule A7", "rule A7: the drain has a deadline")
		assert.Less(t, time.Since(began), 2*time.Minute)
		time.Sleep(10 * time.Minute)
	})
}

func TestSourceIsClosedOnceAlways(t *testing.T) {
	bubble(t, func(t *testing.T) {
		good := func() *funcSource {
			return source(func(_ context.Context, in leat.Intake[int]) error { return sendAll(in, 10, 10) })
		}
		src := good()
		require.NoError(t, run(t, pipeTo(config(t), src, leattest.Collect[int]())))
		assert.Equal(t, 1, src.closed, "Close is called once")

		src = good()
		require.Error(t, run(t, pipeTo(config(t), src, leattest.Collect[int]().FailOpen(1, errDisk))))
		assert.Equal(t, 1, src.closed, "Close is called also when Run was never called")

		src = good()
		c := config(t)
		c.DeadLetters = &memLetters{fail: func(string) error { return errDisk }}
		require.Error(t, run(t, pipeTo(c, src, leattest.Collect[int]())))
		assert.Equal(t, 1, src.closed, "Close is called also when Run was never called")
	})
}

// Chunks that a rewind drops are released too.
func TestReleaseAfterRewind(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var sent, released atomic.Int64
		src := source(func(_ context.Context, in leat.Intake[int]) error {
			at, err := in.Assign(leat.Partition{Log: "log"})
			if err != nil {
				return err
			}
			for from := int(at[""].Next); from < 1000; from += 10 {
				ch := chunk(from, from+10)
				once := atomic.Bool{}
				ch.Release = func() {
					if once.Swap(true) {
						panic("released twice")
					}
					released.Add(1)
				}
				sent.Add(1)
				if err := in.Send(ch); err != nil {
					return err
				}
			}
			return nil
		})
		sink := leattest.Collect[int]().FailWrite(5, leat.ErrAborted).FailWrite(30, leat.ErrAborted)
		require.NoError(t, run(t, pipe(config(t), src, 10*time.Millisecond, sink)))
		require.Equal(t, ints(1000), sink.Committed())
		assert.Equal(t, sent.Load(), released.Load(), "Release is called when nothing will read the chunk again")
	})
}

// Rule B8: a full disk in the state folder is waited for: the pipeline rewinds, opens its store
// anew, and goes on when there is room. Counters and rows are as without it.
func TestFullStateFolderIsWaitedFor(t *testing.T) { // not parallel: failpoints are global
	for _, at := range []string{"engine/begin-store", "engine/before-store"} {
		t.Run(at, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				fails := 3
				failpoint.Set(func(name string) error {
					if name == at && fails > 0 {
						fails--
						return &fs.PathError{Op: "write", Path: "checkpoints.db", Err: syscall.ENOSPC}
					}
					return nil
				})
				defer failpoint.Set(nil)
				sink := leattest.Collect[int]()
				began := time.Now()
				p := pipe(config(t), leattest.Rows(ints(1000)...), 10*time.Millisecond, sink)
				require.NoError(t, run(t, p))
				require.Equal(t, ints(1000), sink.Committed(), "rule E8")
				assert.Equal(t, 3, p.Stats().Run.Rewinds)
				assert.Equal(t, int64(1000), node(t, p.Stats(), "rows").In, "rule A8")
				requireBalance(t, p.Stats())
				requireBackoff(t, time.Since(began), 7*time.Second) // 1 + 2 + 4
			})
		})
	}
	for name, disk := range map[string]error{
		"an I/O error is for people": &fs.PathError{Op: "fdatasync", Path: "checkpoints.db", Err: syscall.EIO},
		// After an fsync that failed the same file is not to be asked again, whatever the reason (rule A3).
		"no room found by fdatasync is for people": syscall.ENOSPC, // as bbolt gives it on Linux
		"no room found by fsync is for people":     &fs.PathError{Op: "sync", Path: "checkpoints.db", Err: syscall.ENOSPC},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				failed := false
				failpoint.Set(func(name string) error {
					if name == "engine/before-store" && !failed {
						failed = true
						return disk
					}
					return nil
				})
				defer failpoint.Set(nil)
				p := pipe(config(t), leattest.Rows(ints(1000)...), 10*time.Millisecond, leattest.Collect[int]())
				err := run(t, p)
				require.ErrorContains(t, err, "can't be written")
				require.ErrorIs(t, err, disk)
				require.Zero(t, p.Stats().Run.Rewinds)
			})
		})
	}
}

// Rule K3: as long as a sink of the old life is still in use, no rewind begins a new one: it would
// call the same sink a second time at once.
func TestNoNewLifeBesideTheOldOne(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var opened atomic.Int64
		hangs := make(chan struct{})
		hanging := &plainSink{name: "hanging",
			open: func(context.Context) error { opened.Add(1); return nil },
			write: func(b *leat.Batch[int]) error {
				if b.Rows()[0] == 500 && opened.Load() == 1 {
					close(hangs)
					time.Sleep(10 * time.Minute) // without a look at the context
				}
				return nil
			}}
		aborts := &plainSink{name: "aborts", write: func(b *leat.Batch[int]) error {
			if b.Rows()[0] == 500 && opened.Load() == 1 {
				<-hangs
				return leat.ErrAborted
			}
			return nil
		}}
		err := run(t, pipe(config(t), leattest.Rows(ints(1000)...), 10*time.Millisecond, hanging, aborts))
		require.ErrorContains(t, err, "sinks are left unclosed")
		require.ErrorIs(t, err, leat.ErrAborted)
		require.Equal(t, int64(1), opened.Load(), "rule K3")
		time.Sleep(10 * time.Minute)
	})
}

// The store is opened anew also when the generation has died of something else before its error
// was known: a full disk meets several at once.
func TestFullStateFolderBesideAnotherRewind(t *testing.T) { // not parallel: failpoints are global
	synctest.Test(t, func(t *testing.T) {
		c := config(t)
		path := filepath.Join(c.StateDir, "checkpoints.db")
		begins, abort, aborted, moved := 0, make(chan struct{}), false, false
		failpoint.Set(func(name string) error {
			if name != "engine/begin-store" {
				return nil
			}
			if begins++; begins != 2 {
				return nil
			}
			close(abort)
			time.Sleep(time.Second) // until the generation is dead
			// The file that is open goes on elsewhere: who opens the path has another one.
			text, err := os.ReadFile(path)
			if err == nil {
				err = errors.Join(os.Rename(path, path+".old"), os.WriteFile(path, text, 0o600))
			}
			moved = err == nil
			return &fs.PathError{Op: "write", Path: path, Err: syscall.ENOSPC}
		})
		defer failpoint.Set(nil)
		a := source(func(_ context.Context, in leat.Intake[int]) error { return sendAll(in, 100, 100) })
		a.name = "a"
		b := source(func(_ context.Context, in leat.Intake[int]) error {
			time.Sleep(10 * time.Millisecond)
			return sendAll(in, 100, 100)
		})
		b.name = "b"
		aborts := &plainSink{name: "aborts", write: func(*leat.Batch[int]) error {
			if aborted {
				return nil
			}
			<-abort
			aborted = true
			return leat.ErrAborted
		}}
		p := leat.New("p", c)
		leat.To(leat.From(p, a), leat.Sink[int](aborts))
		leat.To(leat.From(p, b), leat.Sink[int](leattest.Collect[int]()))
		require.NoError(t, run(t, p))
		require.True(t, moved)
		s, err := store.OpenNow(path)
		require.NoError(t, err)
		defer s.Close()
		saved, err := s.Load()
		require.NoError(t, err)
		require.Equal(t, int64(100), saved.Positions["b"].Next, "the store that failed is used no more")
	})
}

// What is remembered of rows at fault, over rewinds, is forgotten when they are behind a
// checkpoint: else a service that meets one now and then grows for ever.
func TestRowsAtFaultAreForgotten(t *testing.T) {
	bubble(t, func(t *testing.T) {
		type blame [64]byte
		c := config(t)
		c.Breaker = leat.Breaker{Share: -1}
		var blamed []weak.Pointer[blame]
		sink := &plainSink{name: "plain", write: func(b *leat.Batch[int]) error {
			for _, row := range b.Rows() {
				if row%10 == 9 {
					why := &blame{}
					blamed = append(blamed, weak.Make(why))
					panic(why)
				}
			}
			return nil
		}}
		remembered := 0
		src := source(func(ctx context.Context, in leat.Intake[int]) error {
			if err := sendAll(in, 100, 1); err != nil {
				return err
			}
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(time.Minute): // all is committed
			}
			runtime.GC()
			for _, p := range blamed {
				if p.Value() != nil {
					remembered++
				}
			}
			return nil
		})
		p := leat.New("recovery", c)
		leat.To(leat.From(p, src), sink)
		require.NoError(t, run(t, p))
		require.Len(t, blamed, 10)
		require.LessOrEqual(t, remembered, 1)
	})
}
