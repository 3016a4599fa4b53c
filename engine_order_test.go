package leat_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/leattest"
)

func TestOrderKeptPerPartition(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const parts, batches, size = 4, 250, 64
		src := leattest.Rows(ints(parts * batches * size)...).Partitions(parts).Batches(size)
		sink := leattest.Collect[int]()
		p := leat.New("order", config(t))
		var now, most atomic.Int64
		late := wait(leat.From(p, src), "late", func(_ context.Context, in, out *leat.Batch[int]) error {
			n := now.Add(1)
			defer now.Add(-1)
			for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
			}
			time.Sleep(time.Second + rand.N(time.Second))
			for i, r := range in.Rows() {
				out.Append(r, i)
			}
			return nil
		})
		leat.To(late, sink)
		require.NoError(t, run(t, p))
		requireSequential(t, sink, batches*size)
		require.Len(t, sink.Committed(), parts*batches*size)
		assert.Equal(t, int64(parts*batches), most.Load(), "rule A4: stateless stages of successive batches run in parallel")
		requireBalance(t, p.Stats())
	})
}

// requireSequential checks that each partition came whole and in order.
func requireSequential[T any](t *testing.T, sink *leattest.Collector[T], perPartition int) {
	t.Helper()
	next := map[string]int64{}
	for _, at := range sink.Origins() {
		require.Equal(t, next[at.Partition], at.Offset, "rule A4: partition %s is out of order", at.Partition)
		next[at.Partition]++
	}
	for part, n := range next {
		require.Equal(t, int64(perPartition), n, "rule A3: partition %s is not whole", part)
	}
}

func TestOrderBehindAStageWithState(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src := leattest.Rows(ints(20000)...).Partitions(2).Batches(50)
		sink := leattest.Collect[string]()
		p := leat.New("order", config(t))
		late := wait(leat.From(p, src), "late", func(_ context.Context, in, out *leat.Batch[int]) error {
			time.Sleep(rand.N(3 * time.Second))
			for i, r := range in.Rows() {
				out.Append(r, i)
			}
			return nil
		})
		leat.To(leat.Via(late, "count", leat.Stage[int, string](newCounting())), sink)
		require.NoError(t, run(t, p))
		requireSequential(t, sink, 10000)
		requireCounted(t, sink)
	})
}

func TestPartitionsDoNotWaitForEachOther(t *testing.T) {
	for name, c := range map[string]leat.Config{
		"plenty of budget":   {},
		"few batches":        {BudgetBatches: 8},
		"few bytes (A5-1)":   {BudgetBytes: 8 * 64 * 10},
		"one of each (A5-1)": {BudgetBatches: 8, BudgetBytes: 8 * 64 * 10},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				src := leattest.Rows(ints(1000)...).Partitions(2).Batches(10)
				sink := leattest.Collect[int]()
				c.StateDir, c.Logger = t.TempDir(), silent
				p := leat.New("apart", c)
				free := make(chan struct{})
				leat.To(wait(leat.From(p, src), "stuck", func(_ context.Context, in, out *leat.Batch[int]) error {
					if in.Partition() == "rows/0" {
						<-free
					}
					for i, r := range in.Rows() {
						out.Append(r, i)
					}
					return nil
				}), sink)
				end := start(t.Context(), p)
				time.Sleep(5 * time.Second)
				got := sink.Origins()
				assert.Len(t, got, 500, "rules A4, A5-1: partition 1 waits for partition 0")
				assert.False(t, slices.ContainsFunc(got, func(a leattest.At) bool { return a.Partition == "rows/0" }))
				close(free)
				require.NoError(t, end())
				requireSequential(t, sink, 500)
			})
		})
	}
}

func TestBudgetBounds(t *testing.T) {
	for name, c := range map[string]struct {
		config leat.Config
		most   int64
	}{
		"batches": {leat.Config{BudgetBatches: 5}, 5},
		"bytes":   {leat.Config{BudgetBytes: 39}, 3}, // chunks of 10 bytes
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				var flying, most, released atomic.Int64
				src := source(func(_ context.Context, in leat.Intake[int]) error {
					if _, err := in.Assign(leat.Partition{}); err != nil {
						return err
					}
					for from := 0; from < 1000; from += 10 {
						ch := chunk(from, from+10)
						ch.Release = func() { flying.Add(-1); released.Add(1) }
						if err := in.Send(ch); err != nil {
							return err
						}
						n := flying.Add(1)
						for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
						}
					}
					return nil
				})
				sink := leattest.Collect[int]().OnCall(func(call string) error {
					if call == "Write" {
						time.Sleep(10 * time.Millisecond)
					}
					return nil
				})
				c.config.StateDir, c.config.Logger = t.TempDir(), silent
				p := leat.New("budget", c.config)
				leat.To(leat.From(p, src), sink)
				require.NoError(t, run(t, p))
				require.Equal(t, ints(1000), sink.Committed())
				assert.Equal(t, c.most, most.Load(), "rule A5: batches in flight")
				assert.Equal(t, int64(100), released.Load(), "Release is called once for each chunk")
				assert.Zero(t, p.Stats().InFlight, "rule A5: the budget is given back")
				assert.Zero(t, p.Stats().Batches, "rule A5: the budget is given back")
			})
		})
	}
}

func TestBudgetLetsALargeChunkPassAlone(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := config(t)
		c.BudgetBytes = 100
		p := leat.New("budget", c)
		sink := leattest.Collect[int]()
		leat.To(leat.From(p, source(func(_ context.Context, in leat.Intake[int]) error {
			return sendAll(in, 5000, 1000) // 1,000 bytes each
		})), sink)
		require.NoError(t, run(t, p), "rule A5: a chunk larger than the budget passes")
		require.Equal(t, ints(5000), sink.Committed())
	})
}

func TestBudgetSendWakesOnCancel(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var left time.Duration
		began := time.Now()
		src := source(func(_ context.Context, in leat.Intake[int]) error {
			err := sendAll(in, 1000, 10)
			left = time.Since(began)
			return err
		})
		sink := leattest.Collect[int]().OnCall(func(call string) error {
			if call == "Write" {
				time.Sleep(10 * time.Second)
			}
			return nil
		})
		c := config(t)
		c.BudgetBatches = 1
		p := leat.New("budget", c)
		leat.To(leat.From(p, src), sink)
		end := start(ctx, p)
		time.Sleep(time.Second)
		cancel()
		require.NoError(t, end(), "rule A7: a cancel is a drain")
		assert.Equal(t, time.Second, left, "rule A5: Send watches the context while it waits")
		assert.Equal(t, ints(10), sink.Committed(), "rule A7: what was sent is committed")
	})
}

func TestBudgetSendWakesOnFailure(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := config(t)
		c.BudgetBatches = 1
		c.Retry.Attempts = 2
		p := leat.New("budget", c)
		leat.To(leat.From(p, source(func(_ context.Context, in leat.Intake[int]) error { return sendAll(in, 1000, 10) })),
			leat.Sink[int](&plainSink{name: "bad", write: func(*leat.Batch[int]) error { return leat.Transient(errDisk) }}))
		require.ErrorIs(t, run(t, p), errDisk, "rule A5: Send watches the pipeline's failure")
	})
}

func TestBudgetChargesWhatStagesMake(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := config(t)
		c.BudgetBytes = 10000
		p := leat.New("budget", c)
		sent := atomic.Int64{}
		free := make(chan struct{})
		src := source(func(_ context.Context, in leat.Intake[int]) error {
			if _, err := in.Assign(leat.Partition{}); err != nil {
				return err
			}
			for i := range 10 {
				if err := in.Send(chunk(i, i+1)); err != nil {
					return err
				}
				sent.Add(1)
				time.Sleep(time.Second) // the stage is done with it
			}
			return nil
		})
		many := via(leat.From(p, src), "many", flat(func(i int) []int { return slices.Repeat([]int{i}, 1000) }))
		sink := leattest.Collect[int]().OnCall(func(call string) error {
			if call == "Write" {
				<-free
			}
			return nil
		})
		leat.To(many, sink)
		end := start(t.Context(), p)
		time.Sleep(time.Minute)
		assert.Equal(t, int64(2), sent.Load(), "rule A5: rows made by a stage are charged too")
		assert.Equal(t, int64(2*(1+999*8)), p.Stats().InFlight)
		close(free)
		require.NoError(t, end())
		require.Len(t, sink.Committed(), 10000)
		assert.Zero(t, p.Stats().InFlight)
	})
}

// Rule A5: rows that go several ways are held as often, and given up once.
func TestBudgetChargesEachBranch(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := leat.New("budget", config(t))
		free := make(chan struct{})
		src := source(func(_ context.Context, in leat.Intake[int]) error {
			if _, err := in.Assign(leat.Partition{}); err != nil {
				return err
			}
			return in.Send(chunk(0, 100))
		})
		rows := leat.From(p, src)
		same := func(i int) (int, error) { return i, nil }
		for i := range 4 {
			sink := leattest.Collect[int]().Named(fmt.Sprint("sink", i)).OnCall(func(call string) error {
				if call == "Write" {
					<-free
				}
				return nil
			})
			leat.To(via(rows, fmt.Sprint("way", i), rowwise(same)), sink)
		}
		end := start(t.Context(), p)
		time.Sleep(time.Minute)
		assert.Equal(t, int64(100+3*100*8), p.Stats().InFlight, "the chunk says 100; of the four copies one takes the place of the input")
		close(free)
		require.NoError(t, end())
		assert.Zero(t, p.Stats().InFlight)
	})
}

func TestLoneRowIsCommittedAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		c := config(t)
		c.CheckpointEvery = time.Hour
		p := leat.New("idle", c)
		src, sink := leattest.Rows(7).Endless(), leattest.Collect[int]()
		leat.To(leat.From(p, src), sink)
		began := time.Now()
		end := start(ctx, p)
		synctest.Wait()
		assert.Equal(t, []int{7}, sink.Committed(), "rule A6: a lone row must not wait")
		assert.Equal(t, int64(1), src.Committed()[""].Next, "rule A3: the source hears of it")
		assert.Zero(t, time.Since(began))
		cancel()
		require.NoError(t, end())
	})
}

func TestCaughtUpCutsAfterWhatWasSentBeforeIt(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := config(t)
		c.CheckpointEvery = time.Hour
		p := leat.New("idle", c)
		sink := leattest.Collect[int]()
		ctx, cancel := context.WithCancel(t.Context())
		src := source(func(ctx context.Context, in leat.Intake[int]) error {
			if err := sendAll(in, 50, 10); err != nil {
				return err
			}
			in.CaughtUp()
			<-ctx.Done()
			return nil
		})
		leat.To(wait(leat.From(p, src), "pace", paced(10, time.Second)), sink)
		end := start(ctx, p)
		time.Sleep(3500 * time.Millisecond)
		assert.Empty(t, sink.Committed(), "rule A6: the cut waits for the tickets issued before CaughtUp")
		time.Sleep(time.Second)
		assert.Equal(t, ints(50), sink.Committed(), "rule A6: CaughtUp cuts as soon as they have drained")
		cancel()
		require.NoError(t, end())
	})
}

func TestMergeRestoresOffsetOrder(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := leat.New("merge", config(t))
		rows := leat.From(p, leattest.Rows(ints(5000)...).Batches(64))
		even := via(rows, "even", keep(func(i int) bool { return i%2 == 0 }))
		odd := wait(rows, "odd", func(_ context.Context, in, out *leat.Batch[int]) error {
			time.Sleep(rand.N(time.Second))
			for i, r := range in.Rows() {
				if r%2 == 1 {
					out.Append(r, i)
				}
			}
			return nil
		})
		sink := leattest.Collect[int]()
		leat.To(leat.Merge(odd, even), sink)
		require.NoError(t, run(t, p))
		require.Equal(t, ints(5000), sink.Committed(), "rule G2-1: Merge of flows of one partition restores offset order")
		requireSequential(t, sink, 5000)
		requireBalance(t, p.Stats())
	})
}

// The rows of one record keep the order of the flows given to Merge.
func TestMergeOfOneRecord(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := leat.New("merge", config(t))
		rows := leat.From(p, leattest.Rows(1, 2, 3))
		tens := via(rows, "tens", flat(func(i int) []int { return []int{10 * i, 10*i + 1} }))
		none := via(rows, "none", keep(func(int) bool { return false }))
		sink := leattest.Collect[int]()
		leat.To(leat.Merge(tens, none, rows), sink)
		require.NoError(t, run(t, p))
		require.Equal(t, []int{10, 11, 1, 20, 21, 2, 30, 31, 3}, sink.Committed(), "rule G2-1")
		requireBalance(t, p.Stats())
		assert.Equal(t, leat.NodeStats{Name: "collect", Kind: "sink", In: 3, Out: 9, Added: 9, Filtered: 3}, node(t, p.Stats(), "collect"))
	})
}

// conserve is a pipeline with everything that changes the number of rows.
func conserve(c leat.Config, src *leattest.MemSource[int], a, b *leattest.Collector[int]) *leat.Pipeline {
	p := leat.New("conserve", c)
	rows := wait(leat.From(p, src), "pace", paced(100, 100*time.Millisecond))
	good := via(rows, "good", rowwise(func(i int) (int, error) {
		if i%7 == 0 {
			return 0, &leat.FieldError{Column: "n", Rule: "seven", Msg: "sevens are bad"}
		}
		return i, nil
	}))
	some := via(good, "some", keep(func(i int) bool { return i%3 != 0 }))
	twice := via(good, "twice", flat(func(i int) []int { return []int{i, -i} }))
	both := leat.Merge(some, twice)
	last := via(both, "last", rowwise(func(i int) (int, error) {
		if i%11 == 0 {
			panic("eleven")
		}
		return i, nil
	}))
	leat.To(last, a)
	leat.To(some, b)
	return p
}

func TestRowsAreConserved(t *testing.T) {
	refuse := func(i int) error {
		if i%13 == 0 {
			return errDisk
		}
		return nil
	}
	run1 := func(t *testing.T, prepare func(src *leattest.MemSource[int], a, b *leattest.Collector[int]), runs int) leat.Stats {
		src := leattest.Rows(ints(3000)...).Batches(100)
		a := leattest.Collect[int]().Named("a").RejectIf(refuse)
		b := leattest.Collect[int]().Named("b").RejectIf(refuse)
		prepare(src, a, b)
		c := config(t)
		var p *leat.Pipeline
		for i := range runs {
			p = conserve(c, src, a, b)
			err := run(t, p)
			if err == nil {
				require.True(t, runs == 1 || i > 0, "nothing has failed")
				break
			}
			require.Less(t, i, runs-1, "%v", err)
		}
		s := p.Stats()
		requireBalance(t, s)
		assert.Len(t, a.Committed(), int(node(t, s, "a").Out), "rule A8: sink a holds what was counted")
		assert.Len(t, b.Committed(), int(node(t, s, "b").Out), "rule A8: sink b holds what was counted")
		assert.Equal(t, int64(3000), node(t, s, "a").In)
		assert.Equal(t, int64(3000), node(t, s, "b").In)
		return s
	}
	var mu sync.Mutex
	var clean leat.Stats
	t.Run("clean", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			clean = run1(t, func(*leattest.MemSource[int], *leattest.Collector[int], *leattest.Collector[int]) {}, 1)
		})
		require.Equal(t, int64(429), node(t, clean, "good").Rejected)
		require.Equal(t, int64(429), clean.Rejected["Contract/n/seven"]+clean.Rejected["Transform/n/seven"])
	})
	same := func(t *testing.T, s leat.Stats) {
		mu.Lock()
		defer mu.Unlock()
		assert.Equal(t, clean.Nodes, s.Nodes, "rule A8: a replay counts nothing twice")
		assert.Equal(t, clean.Rejected, s.Rejected, "rule A8: a replay counts nothing twice")
	}
	t.Run("rewinds", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			s := run1(t, func(src *leattest.MemSource[int], a, b *leattest.Collector[int]) {
				a.FailCommit(2, leat.ErrAborted).FailWrite(40, leat.ErrAborted)
				b.FailCommit(4, leat.ErrAborted)
				src.FailAt(2500, leat.Transient(errDisk))
			}, 1)
			assert.GreaterOrEqual(t, s.Run.Rewinds, 3)
			same(t, s)
		})
	})
	t.Run("restarts", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			same(t, run1(t, func(_ *leattest.MemSource[int], a, b *leattest.Collector[int]) {
				a.FailCommit(2, errDisk)
				b.FailCommit(4, errDisk)
			}, 3))
		})
	})
}

// A6, E9: that the source has caught up is said once, so a slow sink that leaves cuts to
// later ones must hear of it all the same.
func TestCaughtUpReachesASlowSink(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := config(t)
		c.CheckpointEvery = 10 * time.Second
		src := source(func(_ context.Context, in leat.Intake[int]) error {
			if _, err := in.Assign(leat.Partition{Log: "log"}); err != nil {
				return err
			}
			steps := []struct {
				wait     time.Duration
				from, to int
				caughtUp bool
			}{
				{5 * time.Second, 0, 10, true},          // committed at once
				{4600 * time.Millisecond, 10, 20, true}, // written until after 10 s
				{100 * time.Millisecond, 20, 30, false}, // in the cut of the timer, at 10 s
			}
			for _, s := range steps {
				time.Sleep(s.wait)
				if err := in.Send(chunk(s.from, s.to)); err != nil {
					return err
				}
				if s.caughtUp {
					in.CaughtUp()
				}
			}
			time.Sleep(3 * time.Second)
			return nil
		})
		var heard []bool
		sink := &plainSink{name: "slow"}
		sink.write = func(b *leat.Batch[int]) error {
			if slices.Contains(b.Rows(), 10) {
				time.Sleep(time.Second)
			}
			return nil
		}
		sink.commit = func(cp leat.Checkpoint) (bool, error) {
			heard = append(heard, cp.CaughtUp)
			return true, nil
		}
		p := leat.New("p", c)
		leat.To(leat.From(p, leat.Source[int](src)), leat.Sink[int](sink))
		require.NoError(t, run(t, p))
		require.Equal(t, ints(30), sink.got())
		require.Equal(t, []bool{true, true}, heard[:2], "the second cut had a later one behind it")
	})
}
