package leat_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/leattest"
)

// measured is a source with something left to read, and a stage with state, as far as
// Stats asks them.
type measured struct {
	leat.Source[int]
	leat.Stage[int, int]
	panics bool
}

func (m measured) Lag() map[string]int64 {
	if m.panics {
		panic("rule A9")
	}
	return map[string]int64{"": 5, "p1": 7}
}

func (m measured) StateSize() (keys, bytes int64) { return 3, 300 }

func TestStatsTellsATroubledPipelineFromAnIdleOne(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		more := make(chan struct{})
		var open atomic.Bool
		src := source(func(ctx context.Context, in leat.Intake[int]) error {
			if _, err := in.Assign(leat.Partition{Log: "log"}); err != nil {
				return err
			}
			for at := 0; ; at += 10 {
				select {
				case <-more:
				case <-ctx.Done():
					return nil
				}
				if err := in.Send(chunk(at, at+10)); err != nil {
					return err
				}
			}
		})
		sink := leattest.Collect[int]().FailOpen(1, leat.Transient(errDisk)).NotYet(func(leat.Checkpoint) bool { return !open.Load() })
		p := pipeTo(config(t), src, sink)
		begin := time.Now()
		end := start(ctx, p)
		at := func(d time.Duration) leat.Stats {
			time.Sleep(time.Until(begin.Add(d)))
			synctest.Wait()
			return p.Stats()
		}

		s := at(500 * time.Millisecond)
		assert.Equal(t, begin, s.Started)
		assert.Equal(t, begin, s.Uncommitted, "the sink can't be opened")
		s = at(time.Minute)
		assert.Zero(t, s.Uncommitted, "there was nothing to read")
		assert.Zero(t, s.Checkpointed)

		more <- struct{}{}
		s = at(2 * time.Minute)
		assert.Equal(t, begin.Add(time.Minute), s.Uncommitted, "the sink says: not yet")
		open.Store(true)
		s = at(3 * time.Minute)
		assert.Zero(t, s.Uncommitted)
		assert.Less(t, s.Checkpointed, begin.Add(2*time.Minute+3*time.Second))

		more <- struct{}{}
		s = at(3*time.Minute + time.Millisecond)
		assert.Equal(t, begin.Add(3*time.Minute), s.Uncommitted, "not since the last checkpoint: nothing was there")
		assert.Zero(t, at(4*time.Minute).Uncommitted)
		assert.Zero(t, p.Stats().Stopped)

		stop()
		require.NoError(t, end())
		s = p.Stats()
		assert.Equal(t, begin.Add(4*time.Minute), s.Stopped)
		assert.NoError(t, s.Err)
	})
}

// What a rewind takes back is as old afterwards as before.
func TestStatsOverRewinds(t *testing.T) {
	bubble(t, func(t *testing.T) {
		sink := leattest.Collect[int]()
		for n := 1; n < 5; n++ {
			sink.FailWrite(n, leat.ErrAborted)
		}
		p := pipe(config(t), leattest.Rows(ints(100)...), 0, sink)
		begin := time.Now()
		end := start(t.Context(), p)
		for sink.Calls("Write") < 5 {
			synctest.Wait()
			if s := p.Stats(); sink.Calls("Write") > 0 && sink.Calls("Write") < 5 {
				assert.Equal(t, begin, s.Uncommitted)
			}
			time.Sleep(100 * time.Millisecond)
		}
		require.NoError(t, end())
		assert.Equal(t, 4, p.Stats().Run.Rewinds)
	})
}

func TestStatsAsksTheNodes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, keep := leattest.Rows(1, 2, 3), stageFunc[int, int](func(_ context.Context, in *leat.Batch[int], out *leat.Batch[int]) error {
			for i, r := range in.Rows() {
				out.Append(r, i)
			}
			return nil
		})
		p := leat.New("pipe", config(t))
		flow := leat.From(p, leat.Source[int](measured{Source: src}))
		leat.To(leat.Via(flow, "keep", leat.Stage[int, int](measured{Stage: keep, panics: true})), leattest.Collect[int]())
		require.NoError(t, run(t, p))
		s := p.Stats()
		assert.Equal(t, map[string]int64{"measured": 5, "measured/p1": 7}, s.Lag, "of the stage, nothing: it panicked (rule A9)")
		assert.Equal(t, map[string]leat.StateSize{"measured": {Keys: 3, Bytes: 300}}, s.State)
	})
}
