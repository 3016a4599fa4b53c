package leat_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/engine"
	"github.com/leatgo/leat/internal/statetest"
	"github.com/leatgo/leat/internal/store"
	"github.com/leatgo/leat/internal/testhook"
	"github.com/leatgo/leat/leattest"
)

// memShared is a server with state that processes share.
type memShared struct {
	mu      sync.Mutex
	rows    map[string]*memRow
	commits int
}

type memRow struct {
	epoch, version int
	held           bool
	change         leat.StateChange
	pieces         map[string][]leat.StatePiece
}

// memClient is one process's way to it.
type memClient struct {
	*memShared
	call func(name string) (done bool, err error) // may be nil; done: the call is carried out, and fails all the same
	own  map[string][2]int                        // epoch and version
}

func newMemShared() *memShared { return &memShared{rows: map[string]*memRow{}} }

func (s *memShared) client() *memClient { return &memClient{memShared: s, own: map[string][2]int{}} }

func (c *memClient) called(name string) (bool, error) {
	if c.call == nil {
		return false, nil
	}
	return c.call(name)
}

func (c *memClient) Open(context.Context, string) error {
	_, err := c.called("state.Open")
	return err
}

func (c *memClient) Close() error { return nil }

func (c *memClient) Take(_ context.Context, partitions []string) (map[string]leat.StateHeld, error) {
	if _, err := c.called("state.Take"); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	out := map[string]leat.StateHeld{}
	for _, p := range partitions {
		if c.rows[p] == nil {
			c.rows[p] = &memRow{pieces: map[string][]leat.StatePiece{}}
		}
		r := c.rows[p]
		r.epoch++
		c.own[p] = [2]int{r.epoch, r.version}
		if !r.held {
			continue
		}
		held := leat.StateHeld{Position: r.change.Position, Note: r.change.Note, Sizes: map[string]leat.StateExtent{}}
		pieces := map[string][][]byte{}
		for stage, all := range r.pieces {
			size := leat.StateExtent{Pieces: len(all)}
			for _, piece := range all {
				pieces[stage] = append(pieces[stage], piece.Data)
				if piece.Whole {
					size.Whole = int64(len(piece.Data))
				} else {
					size.Rest += int64(len(piece.Data))
				}
			}
			held.Sizes[stage] = size
		}
		held.Pieces = func(_ context.Context, stage string) ([][]byte, error) {
			_, err := c.called("state.Pieces")
			return pieces[stage], err
		}
		out[p] = held
	}
	return out, nil
}

func (c *memClient) Commit(_ context.Context, cp leat.StateCommit) error {
	done, err := c.called("state.Save")
	if err != nil && !done {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	var lost []string
	twice := true
	for p := range cp.Partitions {
		r, own := c.rows[p], c.own[p]
		if r.epoch != own[0] {
			lost = append(lost, p)
		}
		twice = twice && r.version == own[1]+1
	}
	if len(lost) > 0 {
		slices.Sort(lost)
		return leat.Fenced(lost...)
	}
	if !twice { // rule E4
		c.commits++
		for p, change := range cp.Partitions {
			r := c.rows[p]
			r.held, r.change = true, change
			r.version++
			maps.DeleteFunc(r.pieces, func(stage string, _ []leat.StatePiece) bool {
				_, named := change.Note.Stages[stage]
				return change.Note.Stages != nil && !named
			})
		}
		for _, piece := range cp.Pieces {
			r := c.rows[piece.Partition]
			if piece.Whole {
				r.pieces[piece.Stage] = nil
			}
			piece.Data = bytes.Clone(piece.Data)
			r.pieces[piece.Stage] = append(r.pieces[piece.Stage], piece)
		}
	}
	if err != nil {
		return err
	}
	for p := range cp.Partitions {
		c.own[p] = [2]int{c.rows[p].epoch, c.rows[p].version}
	}
	return nil
}

func TestMemSharedIsAStorage(t *testing.T) {
	t.Parallel()
	statetest.Run(t, func(t *testing.T) statetest.World {
		s := newMemShared()
		return statetest.World{Open: func(*testing.T) engine.Storage { return testhook.Storage(s.client()) }}
	})
}

// numbered is a counting stage with a fingerprint.
type numbered struct {
	*counting
	fingerprint string
}

func (n numbered) Fingerprint() string { return n.fingerprint }

// numbering is a pipeline with one or two such stages.
type numbering struct {
	config leat.Config
	src    *leattest.MemSource[int]
	sinks  []leat.Sink[string]
	stages map[string]string // their fingerprints
	made   map[string]*counting
}

func (n *numbering) run(t *testing.T) error {
	t.Helper()
	p := leat.New("state", n.config)
	rows := wait(leat.From(p, n.src), "pace", paced(100, 200*time.Millisecond))
	n.made = map[string]*counting{}
	for _, name := range slices.Sorted(maps.Keys(n.stages)) {
		n.made[name] = newCounting()
		out := leat.Via(rows, name, leat.Stage[int, string](numbered{n.made[name], n.stages[name]}))
		leat.To(out, n.sinks...)
		break
	}
	if len(n.stages) == 0 {
		leat.To(via(rows, "plain", rowwise(func(i int) (string, error) { return fmt.Sprintf("%d:%d", i+1, i), nil })), n.sinks...)
	}
	return run(t, p)
}

// Both storages obey the rules about who may change what.
func eachStorage(t *testing.T, f func(t *testing.T, c leat.Config)) {
	t.Run("state folder", func(t *testing.T) { bubble(t, func(t *testing.T) { f(t, config(t)) }) })
	t.Run("shared", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			c := config(t)
			c.State = newMemShared().client()
			f(t, c)
		})
	})
}

// rule E7-4: state of another configuration is refused, unless it is meant and the last
// stop was clean.
func TestFingerprint(t *testing.T) {
	eachStorage(t, func(t *testing.T, c leat.Config) {
		sink := leattest.Collect[string]()
		life := func(rows int, fingerprint string, reconfigure ...string) error {
			c.Reconfigure = reconfigure
			n := &numbering{config: c, src: leattest.Rows(ints(rows)...), sinks: []leat.Sink[string]{sink}, stages: map[string]string{"count": fingerprint}}
			return n.run(t)
		}
		require.NoError(t, life(1000, "ttl=1h"))
		err := life(2000, "ttl=2h")
		require.ErrorContains(t, err, `rule E7-4: the saved state of partition rows is of another pipeline: stage "count" is configured otherwise: its state was made with "ttl=1h", and now it is "ttl=2h"`)
		require.ErrorContains(t, err, "Config.Reconfigure")
		require.Error(t, life(2000, "ttl=2h", "other"))
		require.Len(t, sink.Committed(), 1000)
		require.NoError(t, life(2000, "ttl=2h", "count"), "a refused start leaves the stop clean")
		require.NoError(t, life(3000, "ttl=2h"))
		requireCounted(t, sink)

		sink.FailCommit(sink.Calls("Commit")+3, errDisk)
		require.ErrorIs(t, life(5000, "ttl=2h"), errDisk)
		err = life(5000, "ttl=3h", "count")
		require.ErrorContains(t, err, "the last stop was not clean")
		require.NoError(t, life(5000, "ttl=2h"))
		require.NoError(t, life(6000, "ttl=3h", "count"))
		requireCounted(t, sink)
		require.Len(t, sink.Committed(), 6000)
	})
}

// rule E7-4: a stage with state that is new, and one that is gone.
func TestStagesComeAndGo(t *testing.T) {
	eachStorage(t, func(t *testing.T, c leat.Config) {
		sink := leattest.Collect[string]()
		life := func(rows int, stage string, reconfigure ...string) (*numbering, error) {
			c.Reconfigure = reconfigure
			n := &numbering{config: c, src: leattest.Rows(ints(rows)...), sinks: []leat.Sink[string]{sink}, stages: map[string]string{}}
			if stage != "" {
				n.stages[stage] = ""
			}
			return n, n.run(t)
		}
		_, err := life(100, "")
		require.NoError(t, err)
		_, err = life(200, "count")
		require.ErrorContains(t, err, `stage "count" is new, and has not seen the rows before`)
		n, err := life(200, "count", "count")
		require.NoError(t, err)
		require.Equal(t, 100, n.made["count"].n["rows"])
		_, err = life(300, "number", "number")
		require.ErrorContains(t, err, `stage "count" is gone, and its state would be deleted`)
		n, err = life(300, "number", "number", "count")
		require.NoError(t, err)
		require.Equal(t, 100, n.made["number"].n["rows"])
		n, err = life(400, "count", "number", "count")
		require.NoError(t, err)
		require.Equal(t, 100, n.made["count"].n["rows"], "the state of the first one is deleted")
	})
}

// rule E7-4: a new sink starts at the state's cut when it is said so.
func TestNewSinkAtTheState(t *testing.T) {
	eachStorage(t, func(t *testing.T, c leat.Config) {
		old, added := leattest.Collect[string]().Named("old"), leattest.Collect[string]().Named("added")
		life := func(rows int, sinks ...leat.Sink[string]) error {
			n := &numbering{config: c, src: leattest.Rows(ints(rows)...), sinks: sinks, stages: map[string]string{"count": ""}}
			return n.run(t)
		}
		require.NoError(t, life(1000, old))
		require.ErrorContains(t, life(2000, old, added), "Config.NewSinks")
		c.NewSinks = []string{"added"}
		added.FailCommit(2, errDisk)
		require.ErrorIs(t, life(2000, old, added), errDisk)
		require.NoError(t, life(2000, old, added))
		require.NoError(t, life(3000, old, added))
		requireCounted(t, old)
		require.Len(t, old.Committed(), 3000)
		require.Equal(t, old.Committed()[1000:], added.Committed(), "what came after the state's cut, once")
	})
	c := config(t)
	c.NewSinks = []string{"nobody"}
	p := leat.New("p", c)
	leat.To(leat.From(p, leattest.Rows(1)), leattest.Collect[int]())
	require.ErrorContains(t, p.Check(), `Config.NewSinks: there is no sink "nobody"`)
}

// rules E3, H4: who takes a partition goes on where the other one was, and that one stops.
func TestSharedStateIsFenced(t *testing.T) {
	bubble(t, func(t *testing.T) {
		shared := newMemShared()
		one, two := &bucket{}, &bucket{}
		first, second := config(t), config(t)
		first.State, second.State = shared.client(), shared.client()
		life := func(c leat.Config, sink leat.Sink[string]) error {
			return (&numbering{config: c, src: leattest.Rows(ints(2000)...), sinks: []leat.Sink[string]{sink}, stages: map[string]string{"count": ""}}).run(t)
		}
		done := make(chan error)
		go func() { done <- life(first, one) }()
		time.Sleep(1500 * time.Millisecond)
		// The sinks keep no fence of their own here, so it is the state's that stops the first one.
		require.NoError(t, life(second, two))
		err := <-done
		require.ErrorIs(t, err, leat.ErrFenced, "rule E3: fenced is no crash, it stops the partition")
		require.NotEmpty(t, one.rows)
		for i, r := range two.rows { // the state is that of the position from which it goes on
			require.Equal(t, fmt.Sprintf("%d:%d", 2000-len(two.rows)+i+1, 2000-len(two.rows)+i), r, "rule G12")
		}
		require.Less(t, len(two.rows), 2000)
		require.Equal(t, int64(2000), shared.rows["rows"].change.Position.Next)
	})
}

// bucket is a sink that keeps no positions.
type bucket struct{ rows []string }

func (b *bucket) Open(context.Context, leat.Env) error { return nil }
func (b *bucket) Write(_ context.Context, in *leat.Batch[string]) error {
	b.rows = append(b.rows, in.Rows()...)
	return nil
}
func (b *bucket) Commit(context.Context, leat.Checkpoint) (bool, error) { return true, nil }
func (b *bucket) Close() error                                          { return nil }

// A shared storage that fails for a while is waited for, and one that has answered too late
// is not written twice (rules B8, E4).
func TestSharedStateFails(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := config(t)
		shared := newMemShared()
		client := shared.client()
		n := 0
		client.call = func(name string) (bool, error) {
			n++
			switch {
			case n%3 == 0:
				return false, leat.Transient(errDisk)
			case n%3 == 1 && name == "state.Save":
				return true, leat.Transient(errDisk)
			}
			return false, nil
		}
		c.State = client
		sink := leattest.Collect[string]().FailCommit(4, leat.ErrAborted)
		require.NoError(t, (&numbering{config: c, src: leattest.Rows(ints(3000)...).Partitions(2), sinks: []leat.Sink[string]{sink}, stages: map[string]string{"count": ""}}).run(t))
		requireCounted(t, sink)
		require.Len(t, sink.Committed(), 3000)
		require.Equal(t, int64(1500), shared.rows["rows/1"].change.Position.Next)
		require.True(t, shared.rows["rows/1"].change.Note.Clean)

		_, err := leat.Replay(t.Context(), func() *leat.Pipeline {
			p := leat.New("state", c)
			leat.To(leat.From(p, leattest.Rows(1)), leattest.Collect[int]())
			return p
		}(), nil)
		require.ErrorContains(t, err, "Config.State")
		permanent := shared.client()
		permanent.call = func(name string) (bool, error) {
			if name == "state.Save" {
				return false, errDisk
			}
			return false, nil
		}
		c.State = permanent
		err = (&numbering{config: c, src: leattest.Rows(ints(4000)...).Partitions(2), sinks: []leat.Sink[string]{sink}, stages: map[string]string{"count": ""}}).run(t)
		require.ErrorIs(t, err, errDisk)
		require.ErrorContains(t, err, "the state store")
	})
}

// set remembers which numbers it has seen, 8 bytes each: a delta is what is new, and a
// snapshot everything.
type set struct {
	all, fresh      []byte
	deltas, written int64
	snapshots       int
}

func (s *set) Process(_ context.Context, in *leat.Batch[int], out *leat.Batch[int]) error {
	for i, r := range in.Rows() {
		for k := range 200 {
			s.fresh = binary.LittleEndian.AppendUint64(s.fresh, uint64(r*200+k))
		}
		out.Append(r, i)
	}
	return nil
}

func (s *set) Restore(_ string, saved [][]byte) error {
	s.all, s.fresh = bytes.Join(saved, nil), nil
	return nil
}

func (s *set) Delta(string) ([]byte, error) {
	d := s.fresh
	s.all, s.fresh = append(s.all, d...), nil
	s.deltas += int64(len(d))
	s.written += int64(len(d))
	return d, nil
}

func (s *set) Snapshot(string) ([]byte, error) {
	s.deltas += int64(len(s.fresh))
	s.all, s.fresh = append(s.all, s.fresh...), nil
	s.written += int64(len(s.all))
	s.snapshots++
	return bytes.Clone(s.all), nil
}

// A state that grows is written at most three times, and read at most twice: snapshots are
// geometric, not every so many checkpoints.
func TestStateIsWrittenFewTimes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := config(t)
		st := &set{}
		p := leat.New("state", c)
		leat.To(leat.Via(wait(leat.From(p, leattest.Rows(ints(20_000)...).Batches(50)), "pace", paced(50, 2*time.Second)), "set", leat.Stage[int, int](st)), leattest.Collect[int]())
		require.NoError(t, run(t, p)) // 400 checkpoints of 80 KB: 32 MB
		require.Equal(t, int64(20_000*200*8), st.deltas)
		t.Logf("written %.2f times, %d snapshots", float64(st.written)/float64(st.deltas), st.snapshots)
		require.Less(t, st.written, 3*st.deltas)
		require.Less(t, st.snapshots, 10)
		s, err := store.OpenNow(c.StateDir + "/checkpoints.db")
		require.NoError(t, err)
		size := s.Size("set", "rows")
		require.LessOrEqual(t, size.Deltas, max(size.Snapshot, 1<<20)+100_000)
		require.NoError(t, s.Close())
	})
}
