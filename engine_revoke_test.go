package leat_test

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/leattest"
)

// part is a chunk of partition p, whose rows are p·1,000,000 + offset.
func part(p, from, to int) leat.Chunk[int] {
	c := chunk(from, to)
	c.Partition = fmt.Sprint(p)
	c.Decode = func(_ context.Context, out *leat.Batch[int]) error {
		for i := range to - from {
			out.Append(p*1_000_000+from+i, i)
		}
		return nil
	}
	return c
}

// A chunk whose Send waits for room while its partition is given up is dropped: somebody
// else reads those rows (rules H3, H4).
func TestRevokeWhileSendWaits(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := config(t)
		c.BudgetBatches = 1
		sink := leattest.Collect[int]()
		revoked := make(chan error, 1)
		var released int
		src := source(func(ctx context.Context, in leat.Intake[int]) error {
			if _, err := in.Assign(leat.Partition{Name: "0", Log: "log"}, leat.Partition{Name: "1", Log: "log"}); err != nil {
				return err
			}
			if err := in.Send(part(0, 0, 10)); err != nil { // takes all the room, for a while
				return err
			}
			var sending sync.WaitGroup
			sending.Go(func() {
				late := part(1, 0, 10)
				late.Release = func() { released++ }
				assert.NoError(t, in.Send(late))
			})
			time.Sleep(time.Second)
			revoked <- in.Revoke(ctx, "1")
			sending.Wait()
			assert.Equal(t, 1, released)
			return in.Send(part(0, 10, 20))
		})
		p := leat.New("group", c)
		leat.To(wait(leat.From(p, src), "slow", func(ctx context.Context, in, out *leat.Batch[int]) error {
			time.Sleep(10 * time.Second)
			out.AppendRows(in, 0, in.Len())
			return nil
		}), sink)
		require.NoError(t, run(t, p))
		require.NoError(t, <-revoked)
		assert.Equal(t, ints(20), sink.Committed(), "rule H4: what is sent of a partition that was given up is dropped")
		requireBalance(t, p.Stats())
	})
}

// rule E7-4: a stop is clean only when no sink holds more. Else what that one holds came of
// the old configuration, and the state would be of the new one.
func TestStopBehindASinkIsNotClean(t *testing.T) {
	eachStorage(t, func(t *testing.T, c leat.Config) {
		ahead, behind := leattest.Collect[string]().Named("ahead"), tardy{leattest.Collect[string]().Named("behind").FailCommit(3, errDisk)}
		life := func(read bool, rows int, fingerprint string, reconfigure ...string) error {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			c.Reconfigure = reconfigure
			p := leat.New("state", c)
			src := source(func(_ context.Context, in leat.Intake[int]) error {
				if !read {
					_, err := in.Assign(leat.Partition{Log: "log"})
					cancel() // stopped before it has read anything
					return err
				}
				return sendAll(in, rows, 100)
			})
			leat.To(leat.Via(wait(leat.From(p, src), "pace", paced(100, 200*time.Millisecond)), "count",
				leat.Stage[int, string](numbered{newCounting(), fingerprint})), leat.Sink[string](ahead), behind)
			return p.Run(ctx)
		}
		require.ErrorIs(t, life(true, 5000, "old"), errDisk)
		require.Greater(t, len(ahead.Committed()), len(behind.Committed()))
		require.NoError(t, life(false, 0, "old"))
		require.ErrorContains(t, life(true, 5000, "new", "count"), "the last stop was not clean")
		require.NoError(t, life(true, 5000, "old"))
		require.NoError(t, life(true, 6000, "new", "count"))
		requireCounted(t, ahead)
		require.Equal(t, ahead.Committed(), behind.Committed())
	})
}

// tardy commits after the others.
type tardy struct{ *leattest.Collector[string] }

func (s tardy) Commit(ctx context.Context, cp leat.Checkpoint) (bool, error) {
	time.Sleep(time.Millisecond)
	return s.Collector.Commit(ctx, cp)
}

// The logger may ask the pipeline (rule E10).
func TestLostWithALoggerThatAsks(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := config(t)
		ask := &asking{}
		c.Logger = slog.New(ask)
		g := newGroup(2, 1000)
		m := g.member()
		m.give(0)
		m.give(1)
		p := leat.New("group", c)
		ask.stats = func() { p.Stats() }
		leat.To(leat.From(p, m), leattest.Collect[int]())
		ctx, stop := context.WithCancel(t.Context())
		wait := start(ctx, p)
		time.Sleep(20 * time.Millisecond)
		require.NoError(t, m.take(t.Context(), 1, true))
		time.Sleep(time.Second)
		stop()
		require.NoError(t, wait())
	})
}

type asking struct {
	slog.Handler
	stats func()
}

func (a *asking) Enabled(context.Context, slog.Level) bool  { return true }
func (a *asking) Handle(context.Context, slog.Record) error { a.stats(); return nil }
func (a *asking) WithAttrs([]slog.Attr) slog.Handler        { return a }
func (a *asking) WithGroup(string) slog.Handler             { return a }

// What a stage remembers of partitions that are no longer this process's is dropped: they
// come and go for months.
func TestLostStateIsForgotten(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := config(t)
		c.State = newMemShared().client()
		g := newGroup(2, 1000)
		m := g.member()
		m.give(0)
		m.give(1)
		st := newCounting()
		p := leat.New("group", c)
		leat.To(leat.Via(leat.From(p, m), "count", leat.Stage[int, string](st)), leattest.Collect[string]())
		ctx, stop := context.WithCancel(t.Context())
		wait := start(ctx, p)
		time.Sleep(100 * time.Millisecond)
		require.NoError(t, m.take(t.Context(), 1, true))
		time.Sleep(5 * time.Second)
		st.mu.Lock()
		assert.Zero(t, st.n["group/1"])
		assert.Positive(t, st.n["group/0"])
		st.mu.Unlock()
		stop()
		require.NoError(t, wait())
	})
}

// Nor does a stage keep that of a partition whose Assign was cut off, and which others have in the next life.
func TestStateOfACutOffAssignIsForgotten(t *testing.T) {
	bubble(t, func(t *testing.T) {
		shared := newMemShared()
		life := func(st *counting, fence bool, lives ...[]leat.Partition) {
			c := config(t)
			c.State = &fencedOnce{memClient: shared.client(), armed: fence}
			src := source(func(_ context.Context, in leat.Intake[int]) error {
				parts := lives[0]
				lives = lives[1:]
				at, err := in.Assign(parts...)
				for name, p := range at {
					n := int(name[0] - '0')
					if err := in.Send(part(n, int(p.Next), int(p.Next)+10)); err != nil {
						return err
					}
				}
				return err
			})
			p := leat.New("group", c)
			leat.To(leat.Via(leat.From(p, src), "count", leat.Stage[int, string](st)), leat.Sink[string](&bucket{}))
			require.NoError(t, run(t, p))
			require.Empty(t, lives)
		}
		both := []leat.Partition{{Name: "0", Log: "log"}, {Name: "1", Log: "log"}}
		life(newCounting(), false, both)
		st := newCounting()
		life(st, true, append(both, leat.Partition{Name: "2", Log: "log"}), both[1:])
		require.Equal(t, 20, st.n["func/1"])
		require.Zero(t, st.n["func/0"])
	})
}

// fencedOnce has its first Commit fenced, which is that of the partitions that are new.
type fencedOnce struct {
	*memClient
	armed bool
}

func (s *fencedOnce) Commit(ctx context.Context, c leat.StateCommit) error {
	if s.armed {
		s.armed = false
		return leat.Fenced("func/1")
	}
	return s.memClient.Commit(ctx, c)
}

// The last checkpoint leaves alone what was given up meanwhile: it may be somebody else's.
func TestGivenUpBeforeTheLastCheckpoint(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := config(t)
		shared := newMemShared()
		c.State = shared.client()
		g := newGroup(2, 100)
		m := g.member()
		m.give(0)
		m.give(1)
		p := leat.New("group", c)
		leat.To(leat.Via(leat.From(p, m), "count", leat.Stage[int, string](newCounting())), leat.Sink[string](&slowCommits{}))
		ctx, stop := context.WithCancel(t.Context())
		wait := start(ctx, p)
		time.Sleep(500 * time.Millisecond)
		go func() {
			time.Sleep(500 * time.Millisecond)
			stop() // the last cut is taken while that of the revoke is on its way
		}()
		require.NoError(t, m.take(t.Context(), 1, false))
		_, err := shared.client().Take(t.Context(), []string{"group/1"})
		require.NoError(t, err)
		require.NoError(t, wait(), "the partition is another's, and is left alone")
	})
}

// slowCommits takes a second for each commit.
type slowCommits struct{ bucket }

func (s *slowCommits) Commit(context.Context, leat.Checkpoint) (bool, error) {
	time.Sleep(time.Second)
	return true, nil
}

// memState is a memClient that says of which partitions a commit is.
type memState struct {
	*memClient
	commit func(partitions []string)
}

func (s *memState) Commit(ctx context.Context, c leat.StateCommit) error {
	s.commit(slices.Sorted(maps.Keys(c.Partitions)))
	return s.memClient.Commit(ctx, c)
}

// A partition's note is in the store before a checkpoint names it (rule E7-4), and the store
// is never called twice at once for it.
func TestBeginBeforeTheFirstCheckpoint(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := config(t)
		shared := newMemShared()
		var mu sync.Mutex
		busy, begun := map[string]bool{}, false
		c.State = &memState{shared.client(), func(partitions []string) {
			mu.Lock()
			for _, p := range partitions {
				assert.False(t, busy[p], "two commits at once are of %s", p)
				busy[p] = true
			}
			slow := !begun && slices.Contains(partitions, "func/1")
			begun = begun || slow
			mu.Unlock()
			if slow {
				time.Sleep(5 * time.Second)
			}
			mu.Lock()
			for _, p := range partitions {
				delete(busy, p)
			}
			mu.Unlock()
		}}
		src := source(func(_ context.Context, in leat.Intake[int]) error {
			if _, err := in.Assign(leat.Partition{Name: "0", Log: "log"}); err != nil {
				return err
			}
			var assigning sync.WaitGroup
			assigning.Go(func() { // with a position of the source's own
				_, err := in.Assign(leat.Partition{Name: "1", Log: "log", Kept: leat.Position{Next: 5, Log: "log"}})
				assert.NoError(t, err)
			})
			for i := range 3 {
				if err := in.Send(part(0, i*10, i*10+10)); err != nil {
					return err
				}
				time.Sleep(1500 * time.Millisecond)
			}
			assigning.Wait()
			return in.Send(part(1, 5, 10))
		})
		p := leat.New("group", c)
		leat.To(leat.From(p, src), leat.Sink[int](&plainSink{name: "plain"}))
		require.NoError(t, run(t, p))
		require.Equal(t, 0, p.Stats().Run.Rewinds)
		require.EqualValues(t, 30, shared.rows["func/0"].change.Position.Next)
		require.EqualValues(t, 10, shared.rows["func/1"].change.Position.Next)
		require.NotNil(t, shared.rows["func/1"].change.Note.Stages, "it is known that there are no stages with state")
	})
}

// rule E7-4: a copy of the state folder that was made after a clean stop is no clean stop
// when the sinks have gone on since.
func TestOldCopyOfTheStateIsNotClean(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := config(t)
		sink := leattest.Collect[string]()
		life := func(rows int, fingerprint string, reconfigure ...string) error {
			c.Reconfigure = reconfigure
			return (&numbering{config: c, src: leattest.Rows(ints(rows)...), sinks: []leat.Sink[string]{sink}, stages: map[string]string{"count": fingerprint}}).run(t)
		}
		require.NoError(t, life(1000, "old"))
		file := filepath.Join(c.StateDir, "checkpoints.db")
		copied, err := os.ReadFile(file)
		require.NoError(t, err)
		require.NoError(t, life(2000, "old"))
		require.NoError(t, os.WriteFile(file, copied, 0o600))
		require.ErrorContains(t, life(3000, "new", "count"), "the last stop was not clean")
		require.NoError(t, life(3000, "old"))
		require.NoError(t, life(4000, "new", "count"))
		requireCounted(t, sink)
		require.Len(t, sink.Committed(), 4000)
	})
}

// A sink takes over no partition after the source has gone: it may be another process's by
// then, which would be fenced, and nobody would read it.
func TestAssignThatIsCutOffTakesNothing(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var j journal
		table := &sharedTable{rows: map[int]int{}, positions: map[string]leat.Position{}, epochs: map[string]int{}}
		src := source(func(ctx context.Context, in leat.Intake[int]) error {
			defer j.add("the source has gone")
			if _, err := in.Assign(leat.Partition{Name: "0", Log: "log"}); err != nil {
				return err
			}
			if err := in.Send(part(0, 0, 10)); err != nil {
				return err
			}
			in.CaughtUp()
			time.Sleep(time.Second) // the sink commits now, for long
			_, err := in.Assign(leat.Partition{Name: "1", Log: "log"})
			return err
		})
		p := leat.New("group", config(t))
		leat.To(leat.From(p, src), leat.Sink[int](&slowTaker{sharedSink{table: table, rng: rand.New(rand.NewPCG(1, 40))}, &j}))
		ctx, stop := context.WithCancel(t.Context())
		wait := start(ctx, p)
		time.Sleep(2 * time.Second)
		stop()
		require.NoError(t, wait())
		assert.Equal(t, []string{"takes [func/0]", "the source has gone"}, j.all())
		assert.Equal(t, 10, len(table.rows))
	})
}

type slowTaker struct {
	sharedSink
	j *journal
}

func (s *slowTaker) Restore(ctx context.Context, partitions []string) (map[string]leat.Position, error) {
	s.j.add(fmt.Sprintf("takes %v", partitions))
	return s.sharedSink.Restore(ctx, partitions)
}

func (s *slowTaker) Commit(ctx context.Context, cp leat.Checkpoint) (bool, error) {
	time.Sleep(5 * time.Second)
	for {
		if done, err := s.sharedSink.Commit(ctx, cp); err == nil { // its moods are not what this is about
			return done, err
		}
	}
}

// rule E7-1: of what the state folder and the source itself know, the later counts, where
// sinks keep no positions.
func TestKeptBySource(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := config(t)
		sink := &plainSink{name: "plain"}
		life := func(kept, to int64, log string) (start int64, err error) {
			src := source(func(_ context.Context, in leat.Intake[int]) error {
				at, err := in.Assign(leat.Partition{Log: "log", Kept: leat.Position{Next: kept, Log: log}})
				if start = at[""].Next; err != nil || start >= to {
					return err
				}
				return in.Send(chunk(int(start), int(to)))
			})
			p := leat.New("group", c)
			leat.To(leat.From(p, src), leat.Sink[int](sink))
			err = run(t, p)
			return start, err
		}
		for _, step := range []struct{ kept, to, start int64 }{
			{5, 10, 5},   // the folder knows nothing
			{3, 20, 10},  // the group is behind: the last commit to it was cut off
			{40, 50, 40}, // another process had the partition
		} {
			start, err := life(step.kept, step.to, "log")
			require.NoError(t, err)
			assert.Equal(t, step.start, start)
		}
		_, err := life(60, 70, "another log")
		require.ErrorContains(t, err, `rule A2-1: the consumer group holds a position of log "another log"`)
	})
}
