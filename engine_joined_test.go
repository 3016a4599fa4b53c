package leat_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/leattest"
)

// joint is a transaction of several sinks and a dead-letter log: what Kafka is (rule J3).
type joint struct {
	source  any
	members int

	mu        sync.Mutex
	inUse     bool
	open      []string // written, not committed
	arrived   int
	committed []string
	moving    map[string]leat.Position // of the commit that is under way
	positions map[string]leat.Position
	fail      func(commit int) error
	commits   int
}

// enter fails the test when two goroutines are in the transaction at once.
func (j *joint) enter() func() {
	j.mu.Lock()
	if j.inUse {
		panic("rule J3: two members are called at once")
	}
	j.inUse = true
	j.mu.Unlock()
	time.Sleep(time.Millisecond)
	return func() {
		j.mu.Lock()
		j.inUse = false
		j.mu.Unlock()
	}
}

type jointSink struct {
	j    *joint
	name string
}

func (s *jointSink) Name() string              { return s.name }
func (s *jointSink) JoinedWith() any           { return s.j }
func (s *jointSink) BoundTo() any              { return s.j.source }
func (s *jointSink) Guarantee() leat.Guarantee { return leat.ExactlyOnce }
func (s *jointSink) Open(context.Context, leat.Env) error {
	s.j.open, s.j.arrived, s.j.moving = nil, 0, nil
	return nil
}
func (s *jointSink) Close() error { s.j.open = nil; return nil }
func (s *jointSink) Write(_ context.Context, b *leat.Batch[int]) error {
	defer s.j.enter()()
	if slices.Contains(b.Rows(), 13) {
		i := slices.Index(b.Rows(), 13)
		return &leat.RowErrors{Rows: []leat.RowError{{Row: i, Err: errors.New("thirteen")}}}
	}
	for _, r := range b.Rows() {
		s.j.open = append(s.j.open, fmt.Sprintf("%s %d", s.name, r))
	}
	return nil
}

func (s *jointSink) Restore(_ context.Context, partitions []string) (map[string]leat.Position, error) {
	out := map[string]leat.Position{}
	for _, p := range partitions {
		if at, ok := s.j.positions[p]; ok {
			out[p] = at
		}
	}
	return out, nil
}

func (s *jointSink) Commit(_ context.Context, cp leat.Checkpoint) (bool, error) {
	defer s.j.enter()()
	j := s.j
	if j.moving == nil {
		j.moving = map[string]leat.Position{}
	}
	maps.Copy(j.moving, cp.Positions)
	if j.arrived++; j.arrived < j.members {
		return true, nil
	}
	j.arrived = 0
	if j.commits++; j.fail != nil {
		if err := j.fail(j.commits); err != nil {
			return false, err
		}
	}
	j.committed = append(j.committed, j.open...)
	j.open = nil
	if j.positions == nil {
		j.positions = map[string]leat.Position{}
	}
	maps.Copy(j.positions, j.moving)
	return true, nil
}

type jointLetters struct {
	j     *joint
	plain []string // of sinks and sources that are not in the transaction
}

func (l *jointLetters) JoinedWith() any                      { return l.j }
func (l *jointLetters) Open(context.Context, leat.Env) error { return nil }
func (l *jointLetters) Sync(context.Context) error           { return nil }
func (l *jointLetters) Close() error                         { return nil }
func (l *jointLetters) Append(_ context.Context, letters []leat.DeadLetter) error {
	if letters[0].Sink == "alone" || letters[0].Source == "z" {
		for _, d := range letters {
			l.plain = append(l.plain, d.Node+" "+string(d.Raw))
		}
		return nil
	}
	defer l.j.enter()()
	for _, d := range letters {
		l.j.open = append(l.j.open, d.Node+" letter "+string(d.Raw))
	}
	return nil
}

func TestJoinedSinksAndLettersAreOneCommit(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src := leattest.Rows(ints(1000)...)
		j := &joint{source: src, members: 2}
		j.fail = func(n int) error {
			if n%3 == 2 {
				return leat.ErrAborted
			}
			return nil
		}
		letters := &jointLetters{j: j}
		c := config(t)
		c.DeadLetters = letters
		c.CheckpointEvery = 300 * time.Millisecond
		alone := leattest.Collect[int]().RejectIf(func(r int) error {
			if r == 77 {
				return errors.New("no")
			}
			return nil
		})
		p := leat.New("joint", c)
		good := via(wait(leat.From(p, src), "pace", paced(20, 100*time.Millisecond)), "odd", rowwise(func(r int) (int, error) {
			if r%10 == 5 {
				return 0, errors.New("odd")
			}
			return r, nil
		}))
		leat.To(good, leat.Sink[int](&jointSink{j, "a"}), leat.Sink[int](&jointSink{j, "b"}), leat.Sink[int](named{alone, "alone"}))
		require.NoError(t, run(t, p))

		want := map[string]int{}
		for _, r := range ints(1000) {
			switch {
			case r%10 == 5:
				want[fmt.Sprintf("odd letter %d", r)]++
			case r == 13:
				want["a letter 13"]++
				want["b letter 13"]++
			default:
				want[fmt.Sprintf("a %d", r)]++
				want[fmt.Sprintf("b %d", r)]++
			}
		}
		got := map[string]int{}
		for _, l := range j.committed {
			got[l]++
		}
		assert.Equal(t, want, got, "rule J3: rows and letters once each")
		assert.Contains(t, letters.plain, "alone 77", "a letter of a sink outside is written outside")
		assert.Greater(t, p.Stats().Run.Rewinds, 1)
		requireBalance(t, p.Stats())
	})
}

// Two sources, each with a joined sink of its own, and one that reaches none: the letters of a
// transaction come from its goroutine, and are there once, whichever of its sinks a source reaches. The
// others are written by themselves.
func TestJoinedLettersOfSeveralSources(t *testing.T) {
	bubble(t, func(t *testing.T) {
		j := &joint{members: 2}
		letters := &jointLetters{j: j}
		c := config(t)
		c.DeadLetters = letters
		c.CheckpointEvery = 100 * time.Millisecond
		behind := &plainSink{name: "behind"}
		aborts := 0
		behind.commit = func(leat.Checkpoint) (bool, error) {
			time.Sleep(20 * time.Millisecond) // the transaction is committed by then
			if aborts++; aborts%4 == 3 && aborts < 15 {
				return false, leat.ErrAborted
			}
			return true, nil
		}
		p := leat.New("joint", c)
		flow := func(name string, from int) leat.Flow[int] {
			rows := make([]int, 300)
			for i := range rows {
				rows[i] = from + i
			}
			src := leattest.Rows(rows...).Batches(10).Named(name)
			pace := wait(leat.From(p, src), "pace "+name, func(ctx context.Context, in, out *leat.Batch[int]) error {
				time.Sleep(time.Duration((in.Rows()[0]-from)/10) * 50 * time.Millisecond)
				out.AppendRows(in, 0, in.Len())
				return nil
			})
			return via(pace, "odd "+name, rowwise(func(r int) (int, error) {
				if r%10 == 5 {
					return 0, errors.New("odd")
				}
				return r, nil
			}))
		}
		leat.To(flow("x", 1000), leat.Sink[int](&jointSink{j, "a"}))
		leat.To(flow("y", 2000), leat.Sink[int](&jointSink{j, "b"}), leat.Sink[int](behind))
		leat.To(flow("z", 3000), leat.Sink[int](&plainSink{name: "plain"}))
		require.NoError(t, run(t, p))
		assert.Greater(t, p.Stats().Run.Rewinds, 1)
		got := map[string]int{}
		for _, l := range j.committed {
			got[l]++
		}
		for i := range 300 {
			x, y := fmt.Sprintf("a %d", 1000+i), fmt.Sprintf("b %d", 2000+i)
			if i%10 == 5 {
				x, y = fmt.Sprintf("odd x letter %d", 1000+i), fmt.Sprintf("odd y letter %d", 2000+i)
				assert.Contains(t, letters.plain, fmt.Sprintf("odd z %d", 3000+i))
			}
			assert.Equal(t, 1, got[x], x)
			assert.Equal(t, 1, got[y], y)
		}
		requireBalance(t, p.Stats())
	})
}

type named struct {
	*leattest.Collector[int]
	name string
}

func (n named) Name() string { return n.name }

func TestCheckOfJoinedAndBoundAndLimited(t *testing.T) {
	src, other := leattest.Rows(1), leattest.Rows(2)
	j := &joint{source: src}
	c := config(t)
	c.DeadLetters = &jointLetters{j: &joint{}}
	p := leat.New("p", c)
	leat.To(leat.From(p, other), leat.Sink[int](&jointSink{j, "a"}))
	err := p.Check()
	assert.ErrorContains(t, err, "rule J3: sink a commits positions of another source than rows")
	assert.ErrorContains(t, err, "commits together with a sink that the pipeline has not got")

	// Two transactions that keep their positions in one source's group.
	p = leat.New("p", config(t))
	leat.To(leat.From(p, src), leat.Sink[int](&jointSink{j, "a"}), leat.Sink[int](&jointSink{j, "b"}))
	assert.NoError(t, p.Check())
	p = leat.New("p", config(t))
	leat.To(leat.From(p, src), leat.Sink[int](&jointSink{j, "a"}), leat.Sink[int](&jointSink{&joint{source: src}, "b"}))
	assert.ErrorContains(t, p.Check(), "rule J3: sinks a and b both commit the positions of one source, each for itself")

	lim := func(force bool) error {
		c := config(t)
		c.ForceCheckpoints = force
		p := leat.New("p", c)
		leat.To(leat.From(p, leat.Source[int](limited{source(nil)})), leat.Sink[int](deferring{&plainSink{name: "slow"}}))
		return p.Check()
	}
	assert.ErrorContains(t, lim(false), "rule E9: source func can have only 1 records uncommitted")
	assert.NoError(t, lim(true))
}

type limited struct{ *funcSource }

func (limited) MaxUncommitted() int { return 1 }

type deferring struct{ *plainSink }

func (deferring) MayDefer() bool { return true }
