package leat_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/leattest"
)

// counting numbers the rows of each partition: row → "n:row".
type counting struct {
	mu        sync.Mutex
	n         map[string]int
	dirty     map[string]bool
	restored  [][]int // what each Restore got
	snapshots int
	deltas    int
	process   func(row int) // may panic
	err       func(row int) error
}

func newCounting() *counting {
	return &counting{n: map[string]int{}, dirty: map[string]bool{}}
}

func (c *counting) Process(_ context.Context, in *leat.Batch[int], out *leat.Batch[string]) error {
	for i, r := range in.Rows() {
		if c.process != nil {
			c.process(r)
		}
		if c.err != nil {
			if err := c.err(r); err != nil {
				return err
			}
		}
		c.mu.Lock()
		c.n[in.Partition()]++
		c.dirty[in.Partition()] = true
		n := c.n[in.Partition()]
		c.mu.Unlock()
		out.Append(fmt.Sprintf("%d:%d", n, r), i)
	}
	return nil
}

func (c *counting) Restore(partition string, saved [][]byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n[partition], c.dirty[partition] = 0, false
	var all []int
	for _, b := range saved {
		var n int
		if err := json.Unmarshal(b, &n); err != nil {
			return err
		}
		c.n[partition] = n
		all = append(all, n)
	}
	c.restored = append(c.restored, all)
	return nil
}

func (c *counting) Delta(partition string) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.dirty[partition] {
		return nil, nil
	}
	c.deltas++
	c.dirty[partition] = false
	return json.Marshal(c.n[partition])
}

func (c *counting) Snapshot(partition string) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.snapshots++
	c.dirty[partition] = false
	return json.Marshal(c.n[partition])
}

// requireCounted checks that the n-th row of each partition has number n.
func requireCounted(t *testing.T, sink *leattest.Collector[string]) {
	t.Helper()
	n := map[string]int{}
	rows := sink.Committed()
	for i, at := range sink.Origins() {
		n[at.Partition]++
		got, _, _ := strings.Cut(rows[i], ":")
		require.Equal(t, fmt.Sprint(n[at.Partition]), got, "rule G12: state and positions are one cut (row %q of %s)", rows[i], at.Partition)
	}
}

func TestStateEqualsReplay(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := config(t)
		src := leattest.Rows(ints(4000)...).Partitions(2)
		for range 2 {
			src.FailAt(1500, leat.Transient(errDisk))
		}
		st := newCounting()
		sink := leattest.Collect[string]().FailCommit(2, leat.ErrAborted).FailWrite(20, leat.ErrAborted).FailCommit(6, errDisk)
		build := func() *leat.Pipeline {
			p := leat.New("state", c)
			leat.To(leat.Via(wait(leat.From(p, src), "pace", paced(100, 200*time.Millisecond)), "count", leat.Stage[int, string](st)), sink)
			return p
		}
		require.ErrorIs(t, run(t, build()), errDisk)
		st = newCounting()
		p := build()
		require.NoError(t, run(t, p))
		requireSequential(t, sink, 2000)
		requireCounted(t, sink)
		require.Len(t, sink.Committed(), 4000)
		requireBalance(t, p.Stats())
	})
}

func TestSnapshotAfterManyDeltas(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := config(t)
		st := newCounting()
		sink := leattest.Collect[string]()
		build := func(rows int) *leat.Pipeline {
			p := leat.New("state", c)
			leat.To(leat.Via(wait(leat.From(p, leattest.Rows(ints(rows)...)), "pace", paced(100, 2*time.Second)), "count", leat.Stage[int, string](st)), sink)
			return p
		}
		require.NoError(t, run(t, build(110_000))) // 1,100 checkpoints, a few bytes each
		require.Equal(t, 1, st.snapshots, "pieces of state are merged when there are 1,000")
		st = newCounting()
		require.NoError(t, run(t, build(110_100)))
		require.Len(t, st.restored, 1)
		require.LessOrEqual(t, len(st.restored[0]), 1000, "the pieces stay few")
		require.Equal(t, 110_000, st.restored[0][len(st.restored[0])-1], "rule G12: the state is that of the position")
		requireCounted(t, sink)
	})
}

func TestSinkBelowTheStateIsRefused(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := config(t)
		build := func(sinks ...leat.Sink[string]) *leat.Pipeline {
			p := leat.New("state", c)
			leat.To(leat.Via(leat.From(p, leattest.Rows(ints(1000)...)), "count", leat.Stage[int, string](newCounting())), sinks...)
			return p
		}
		old := leattest.Collect[string]().Named("old")
		require.NoError(t, run(t, build(old)))
		err := run(t, build(old, leattest.Collect[string]().Named("new")))
		require.ErrorContains(t, err, "rule E7-4")
		require.Len(t, old.Committed(), 1000)
	})
}

func TestPanicInAStageWithState(t *testing.T) {
	for name, breakIt := range map[string]func(st *counting){
		"panic": func(st *counting) {
			st.process = func(r int) {
				if r == 123 || r == 124 || r == 777 {
					panic("boom")
				}
			}
		},
		"error": func(st *counting) {
			st.err = func(r int) error {
				if r == 123 || r == 124 || r == 777 {
					return errDisk
				}
				return nil
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				c := config(t)
				letters := &memLetters{}
				c.DeadLetters = letters
				st := newCounting()
				breakIt(st)
				sink := leattest.Collect[string]()
				p := leat.New("state", c)
				leat.To(leat.Via(wait(leat.From(p, leattest.Rows(ints(1000)...)), "pace", paced(100, 500*time.Millisecond)), "count", leat.Stage[int, string](st)), sink)
				require.NoError(t, run(t, p))
				require.Equal(t, []int64{123, 124, 777}, letters.offsets(), "rule A9: a panic is one bad row")
				require.Len(t, sink.Committed(), 997)
				requireCounted(t, sink)
				requireBalance(t, p.Stats())
				require.Equal(t, int64(3), node(t, p.Stats(), "count").Rejected)
				if name == "panic" {
					require.Contains(t, letters.all()[0].Stack, "engine_state_test.go")
				}
			})
		})
	}
}

func TestTransientErrorInAStageWithState(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n := 0
		st := newCounting()
		st.err = func(r int) error {
			if r == 555 {
				if n++; n <= 2 {
					return leat.Transient(errDisk)
				}
			}
			return nil
		}
		sink := leattest.Collect[string]()
		p := leat.New("state", config(t))
		leat.To(leat.Via(leat.From(p, leattest.Rows(ints(1000)...)), "count", leat.Stage[int, string](st)), sink)
		require.NoError(t, run(t, p))
		requireCounted(t, sink)
		require.Len(t, sink.Committed(), 1000)
		require.Equal(t, 2, p.Stats().Run.Rewinds)
	})
}

// A sink that defers for long must not let the state's pieces grow without bound.
func TestStateBehindASinkThatDefers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := config(t)
		st := newCounting()
		sink := leattest.Collect[string]().NotYet(func(leat.Checkpoint) bool { return true })
		src := leattest.Rows(ints(30000)...)
		build := func() *leat.Pipeline {
			p := leat.New("state", c)
			leat.To(leat.Via(wait(leat.From(p, src), "pace", paced(100, 2*time.Second)), "count", leat.Stage[int, string](st)), sink)
			return p
		}
		require.NoError(t, run(t, build()))
		requireCounted(t, sink)
		st = newCounting()
		require.NoError(t, run(t, build()))
		require.LessOrEqual(t, len(st.restored[0]), 300)
		require.Equal(t, 30000, st.restored[0][len(st.restored[0])-1])
	})
}

// A cut is taken when no lane is busy: not in the middle of a batch.
func TestCutWaitsForABusyLane(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := config(t)
		src := leattest.Rows(ints(2000)...)
		sink := leattest.Collect[string]().FailCommit(3, errDisk).FailCommit(7, leat.ErrAborted)
		build := func() *leat.Pipeline {
			st := newCounting()
			st.process = func(row int) {
				if row%100 == 50 {
					time.Sleep(700 * time.Millisecond)
				}
			}
			p := leat.New("state", c)
			leat.To(leat.Via(leat.From(p, src), "count", leat.Stage[int, string](st)), sink)
			return p
		}
		require.ErrorIs(t, run(t, build()), errDisk)
		require.NoError(t, run(t, build()))
		requireSequential(t, sink, 2000)
		requireCounted(t, sink)
	})
}

// hoarder remembers kilobytes for each row, and tells the size.
type hoarder struct {
	mu          sync.Mutex
	held, delta []byte
	most        int // the greatest delta
}

const hoarded = 16 << 10 // bytes for each row

func (h *hoarder) Process(_ context.Context, in *leat.Batch[int], out *leat.Batch[int]) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.delta = append(h.delta, make([]byte, hoarded*in.Len())...)
	h.held = append(h.held, make([]byte, hoarded*in.Len())...)
	out.AppendRows(in, 0, in.Len())
	return nil
}

func (h *hoarder) Restore(_ string, saved [][]byte) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.held, h.delta = bytes.Join(saved, nil), nil
	return nil
}

func (h *hoarder) Delta(string) ([]byte, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	b := h.delta
	h.most, h.delta = max(h.most, len(b)), nil
	return b, nil
}

func (h *hoarder) Snapshot(string) ([]byte, error) { return h.held, nil }
func (h *hoarder) AppendOnly() bool                { return true }

func (h *hoarder) StateSize() (keys, bytes int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return 0, int64(len(h.held))
}

// Rule E9: state that grows fast is cut, and sinks that answer "not yet" are forced, by its
// size and not only by the clock.
func TestGrowingStateIsCut(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := config(t)
		c.CheckpointEvery = time.Hour
		forced := 0
		h, sink := &hoarder{}, &plainSink{name: "lazy", commit: func(cp leat.Checkpoint) (bool, error) {
			if cp.Force {
				forced++
			}
			return cp.Force, nil
		}}
		p := leat.New("state", c)
		leat.To(leat.Via(wait(leat.From(p, leattest.Rows(ints(4000)...)), "pace", paced(10, time.Millisecond)), "hoard", leat.Stage[int, int](h)), sink)
		require.NoError(t, run(t, p))
		require.Less(t, h.most, 8<<20, "a delta is small: a cut is made when the state has grown by 4 MiB")
		// 62 MiB came; more than 8 MiB never wait for a sink that defers.
		require.Greater(t, forced, 4)
		require.Less(t, forced, 12)
		require.Len(t, sink.got(), 4000)

		h = &hoarder{} // what is restored is no growth
		forced = 0
		p = leat.New("state", c)
		leat.To(leat.Via(leat.From(p, leattest.Rows(ints(4010)...)), "hoard", leat.Stage[int, int](h)), sink)
		require.NoError(t, run(t, p))
		require.Equal(t, 4010*hoarded, len(h.held))
		require.Equal(t, 1, forced, "the last one")
	})
}
