package leat_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/leattest"
)

// memGroup is a consumer group: partitions of rows each, and members that have them.
type memGroup struct {
	rows int // of each partition

	mu    sync.Mutex
	owner []*groupMember
	kept  []leat.Position
}

// groupMember is a source. Its partitions come and go while it runs.
type groupMember struct {
	g *memGroup

	turn turn // while a partition is assigned or sent
	own  map[int]bool
	got  map[int]uint64 // how often each was given
	next map[int]int    // of those that are assigned in this Run
	in   *leat.Intake[int]
}

func newGroup(partitions, rows int) *memGroup {
	return &memGroup{rows: rows, owner: make([]*groupMember, partitions), kept: make([]leat.Position, partitions)}
}

func (g *memGroup) member() *groupMember {
	return &groupMember{g: g, turn: make(turn, 1), own: map[int]bool{}, got: map[int]uint64{}}
}

// turn is a lock that virtual time does not stand still for.
type turn chan struct{}

func (t turn) Lock()   { t <- struct{}{} }
func (t turn) Unlock() { <-t }

func (m *groupMember) Name() string            { return "group" }
func (m *groupMember) Replay() leat.ReplayKind { return leat.ReplayExact }

func (m *groupMember) Run(ctx context.Context, in leat.Intake[int]) error {
	m.turn.Lock()
	m.in, m.next = &in, map[int]int{}
	m.turn.Unlock()
	defer func() {
		m.turn.Lock()
		m.in = nil
		m.turn.Unlock()
	}()
	for ctx.Err() == nil {
		for p := range m.g.owner {
			if err := m.step(in, p); err != nil && ctx.Err() == nil {
				return err
			}
		}
		select {
		case <-time.After(time.Millisecond):
		case <-ctx.Done():
		}
	}
	return nil
}

func (m *groupMember) step(in leat.Intake[int], p int) error {
	m.turn.Lock()
	defer m.turn.Unlock()
	if !m.own[p] {
		return nil
	}
	next, assigned := m.next[p]
	if !assigned {
		m.g.mu.Lock()
		kept := m.g.kept[p]
		m.g.mu.Unlock()
		name := strconv.Itoa(p)
		at, err := in.Assign(leat.Partition{Name: name, Log: "log", Kept: kept, Given: m.got[p]})
		if errors.Is(err, leat.ErrFenced) {
			m.own[p] = false // until it is given again
			return nil
		}
		if err != nil {
			return err
		}
		next = int(at[name].Next)
		m.next[p] = next
	}
	to := min(next+1+rand.IntN(5), m.g.rows)
	if next >= to {
		return nil
	}
	c := chunk(next, to)
	c.Partition = strconv.Itoa(p)
	c.Decode = func(_ context.Context, out *leat.Batch[int]) error {
		for i := range to - next {
			out.Append(p*1_000_000+next+i, i)
		}
		return nil
	}
	m.next[p] = to
	return in.Send(c)
}

func (m *groupMember) Commit(_ context.Context, cp leat.Checkpoint) error {
	m.g.mu.Lock()
	defer m.g.mu.Unlock()
	for name, at := range cp.Positions {
		p, err := strconv.Atoi(name)
		if err != nil {
			return err
		}
		if m.g.owner[p] == m && at.Next > m.g.kept[p].Next {
			m.g.kept[p] = at
		}
	}
	return nil
}

// take gives up a partition, in good order or after somebody else has got it already.
func (m *groupMember) take(ctx context.Context, p int, lost bool) error {
	m.turn.Lock()
	m.own[p] = false
	delete(m.next, p)
	in := m.in
	m.turn.Unlock()
	switch name := strconv.Itoa(p); {
	case in == nil:
		return nil
	case lost:
		in.Lost(name)
		return nil
	default:
		return in.Revoke(ctx, name)
	}
}

func (m *groupMember) give(p int) {
	m.g.mu.Lock()
	m.g.owner[p] = m
	m.g.mu.Unlock()
	m.turn.Lock()
	defer m.turn.Unlock()
	m.own[p] = true
	m.got[p]++
	delete(m.next, p)
}

func TestRevokeCommitsAndGoesOn(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGroup(3, 1000)
		m := g.member()
		for p := range 3 {
			m.give(p)
		}
		sink := leattest.Collect[int]()
		c := config(t)
		c.CheckpointEvery = time.Hour // only what is forced is committed
		p := leat.New("group", c)
		leat.To(leat.From(p, m), sink)
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		wait := start(ctx, p)
		time.Sleep(20 * time.Millisecond)
		require.Empty(t, sink.Committed())

		require.NoError(t, m.take(t.Context(), 1, false), "rule H3")
		of := func(p int) (n int) {
			for _, r := range sink.Committed() {
				if r/1_000_000 == p {
					n++
				}
			}
			return n
		}
		had := of(1)
		assert.Positive(t, had, "rule H3: a checkpoint is forced")
		g.mu.Lock()
		assert.EqualValues(t, had, g.kept[1].Next, "rule H3: the source has heard of it before Revoke returns")
		g.mu.Unlock()
		assert.Equal(t, 0, p.Stats().Run.Rewinds)
		time.Sleep(20 * time.Millisecond)
		require.NoError(t, m.take(t.Context(), 2, false))
		assert.Equal(t, had, of(1), "nothing of it is sent any more")

		m.give(1) // and it comes back
		time.Sleep(20 * time.Millisecond)
		stop()
		require.NoError(t, wait())
		assert.Greater(t, of(1), had)
		requireOnce(t, sink.Committed())
		requireBalance(t, p.Stats())
	})
}

func TestRevokeInTimeOrRewind(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGroup(2, 100_000)
		m := g.member()
		m.give(0)
		m.give(1)
		sink := leattest.Collect[int]()
		var slow sync.Map
		p := leat.New("group", config(t))
		leat.To(wait(leat.From(p, m), "slow", func(ctx context.Context, in, out *leat.Batch[int]) error {
			if _, ok := slow.Load(in.Rows()[0] / 1_000_000); ok {
				select {
				case <-time.After(time.Minute):
				case <-ctx.Done():
					return ctx.Err()
				}
			}
			out.AppendRows(in, 0, in.Len())
			return nil
		}), sink)
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		wait := start(ctx, p)
		time.Sleep(2500 * time.Millisecond)
		slow.Store(1, true)
		time.Sleep(50 * time.Millisecond)
		within, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		require.ErrorContains(t, m.take(within, 1, false), "rule H3")
		assert.Less(t, time.Since(began), 2*time.Second, "a revoke is bounded")
		had := len(sink.Committed())
		closed := sink.Calls("Close")
		assert.Equal(t, 1, closed, "rule H3: the sinks are closed before Revoke returns")
		slow.Clear()
		time.Sleep(5 * time.Second)
		assert.Greater(t, len(sink.Committed()), had, "the other partition goes on")
		stop()
		require.NoError(t, wait())
		assert.Equal(t, 1, p.Stats().Run.Rewinds)
		requireOnce(t, sink.Committed())
	})
}

func TestLostShowsNothing(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGroup(2, 100_000)
		m := g.member()
		m.give(0)
		m.give(1)
		sink := leattest.Collect[int]()
		c := config(t)
		c.CheckpointEvery = time.Second
		p := leat.New("group", c)
		leat.To(leat.From(p, m), sink)
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		wait := start(ctx, p)
		time.Sleep(1500 * time.Millisecond)
		had := slices.Clone(sink.Committed())
		require.NotEmpty(t, had)
		require.NoError(t, m.take(t.Context(), 1, true))
		time.Sleep(3 * time.Second)
		stop()
		require.NoError(t, wait())
		count := func(rows []int) (n int) {
			for _, r := range rows {
				if r >= 1_000_000 {
					n++
				}
			}
			return n
		}
		assert.Equal(t, count(had), count(sink.Committed()), "rule H3: nothing of a lost partition becomes visible")
		assert.Equal(t, 1, p.Stats().Run.Rewinds)
		requireOnce(t, sink.Committed())
	})
}

// TestGroupModel moves partitions between members at random: in good order, too late, and
// when they are somebody else's already; sinks abort meanwhile. Each row is there once.
func TestGroupModel(t *testing.T) {
	seeds := 40
	if testing.Short() {
		seeds = 10
	}
	for seed := range seeds {
		t.Run(strconv.Itoa(seed), func(t *testing.T) {
			bubble(t, func(t *testing.T) { groupModel(t, rand.New(rand.NewPCG(uint64(seed), 1))) })
		})
	}
}

func groupModel(t *testing.T, rng *rand.Rand) {
	const partitions, rows, members = 4, 3000, 3
	g := newGroup(partitions, rows)
	table := &sharedTable{rows: map[int]int{}, positions: map[string]leat.Position{}, epochs: map[string]int{}}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var ms []*groupMember
	pipelines := leat.Replicas(members, func(i int) *leat.Pipeline {
		m := g.member()
		ms = append(ms, m)
		c := config(t)
		c.CheckpointEvery = time.Duration(10+rng.IntN(200)) * time.Millisecond
		c.Retry.First = 10 * time.Millisecond
		p := leat.New("group", c)
		leat.To(leat.From(p, m), leat.Sink[int](&sharedSink{table: table, rng: rand.New(rand.NewPCG(rng.Uint64(), 2))}))
		return p
	})
	for p := range partitions {
		ms[p%members].give(p)
	}
	done := make(chan error, 1)
	go func() { done <- leat.Run(ctx, pipelines...) }()
	for move := 0; ; move++ {
		time.Sleep(time.Duration(rng.IntN(300)) * time.Millisecond)
		table.mu.Lock()
		n := len(table.rows)
		table.mu.Unlock()
		if n == partitions*rows && move > 20 {
			break
		}
		if move > 5000 {
			t.Fatalf("stands still at %d of %d rows", n, partitions*rows)
		}
		p, to := rng.IntN(partitions), ms[rng.IntN(members)]
		g.mu.Lock()
		from := g.owner[p]
		g.mu.Unlock()
		switch rng.IntN(4) {
		case 0: // the member had been silent for too long
			if from != to {
				to.give(p)
				time.Sleep(time.Duration(rng.IntN(100)) * time.Millisecond)
				_ = from.take(ctx, p, true)
			}
		case 1: // little time
			within, cancel := context.WithTimeout(ctx, time.Duration(rng.IntN(20))*time.Millisecond)
			_ = from.take(within, p, false)
			cancel()
			to.give(p)
		default:
			within, cancel := context.WithTimeout(ctx, 10*time.Second)
			_ = from.take(within, p, false)
			cancel()
			to.give(p)
		}
	}
	stop()
	if err := <-done; err != nil { // a member may be on its way back just now
		require.ErrorIs(t, err, leat.ErrAborted)
	}
	table.mu.Lock()
	defer table.mu.Unlock()
	for p := range partitions {
		for i := range rows {
			require.Equal(t, 1, table.rows[p*1_000_000+i], "partition %d, row %d", p, i)
		}
	}
	for _, p := range pipelines {
		requireBalance(t, p.Stats())
	}
}

func requireOnce(t *testing.T, rows []int) {
	t.Helper()
	seen := map[int]bool{}
	for _, r := range rows {
		require.False(t, seen[r], "row %d is there twice", r)
		seen[r] = true
	}
	for r := range seen {
		if r%1_000_000 > 0 {
			require.True(t, seen[r-1], "row %d is missing", r-1)
		}
	}
}

// sharedTable is a database that several members write to; positions have epochs (rules E1 to E3).
type sharedTable struct {
	mu        sync.Mutex
	rows      map[int]int
	positions map[string]leat.Position
	epochs    map[string]int
}

type sharedSink struct {
	table  *sharedTable
	rng    *rand.Rand
	rows   []int
	held   map[string]leat.Position
	epochs map[string]int
}

func (s *sharedSink) Name() string              { return "table" }
func (s *sharedSink) Guarantee() leat.Guarantee { return leat.ExactlyOnce }
func (s *sharedSink) Open(context.Context, leat.Env) error {
	s.rows, s.held, s.epochs = nil, map[string]leat.Position{}, map[string]int{}
	return nil
}
func (s *sharedSink) Close() error { return nil }
func (s *sharedSink) Write(_ context.Context, b *leat.Batch[int]) error {
	s.rows = append(s.rows, b.Rows()...)
	return nil
}

func (s *sharedSink) Restore(_ context.Context, partitions []string) (map[string]leat.Position, error) {
	s.table.mu.Lock()
	defer s.table.mu.Unlock()
	out := map[string]leat.Position{}
	for _, p := range partitions {
		s.table.epochs[p]++
		s.epochs[p] = s.table.epochs[p]
		s.held[p] = s.table.positions[p]
		if at, ok := s.table.positions[p]; ok {
			out[p] = at
		}
	}
	return out, nil
}

func (s *sharedSink) Commit(ctx context.Context, cp leat.Checkpoint) (bool, error) {
	time.Sleep(time.Duration(s.rng.IntN(20)) * time.Millisecond)
	if s.rng.IntN(30) == 0 {
		return false, fmt.Errorf("at random: %w", leat.ErrAborted)
	}
	s.table.mu.Lock()
	defer s.table.mu.Unlock()
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	var fenced []string
	for p, to := range cp.Positions {
		if to != s.held[p] && (s.epochs[p] != s.table.epochs[p] || s.held[p] != s.table.positions[p]) {
			fenced = append(fenced, p)
		}
	}
	if fenced != nil {
		return false, leat.Fenced(fenced...)
	}
	for _, r := range s.rows {
		s.table.rows[r]++
	}
	s.rows = nil
	for p, to := range cp.Positions {
		if to != s.held[p] { // else it may be another's by now
			s.table.positions[p], s.held[p] = to, to
		}
	}
	return true, nil
}
