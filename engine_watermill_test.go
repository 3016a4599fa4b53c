package leat_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/message/router/middleware"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/leattest"
)

// seen is a repository of the Deduplicator without a goroutine of its own.
type seen struct {
	mu   sync.Mutex
	keys map[string]bool
}

func (s *seen) IsDuplicate(_ context.Context, key string) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	was := s.keys[key]
	s.keys[key] = true
	return was, nil
}

// publisher takes everything.
type publisher struct{}

func (publisher) Publish(string, ...*message.Message) error { return nil }
func (publisher) Close() error                              { return nil }

func poisonQueue(t *testing.T) message.HandlerMiddleware {
	m, err := middleware.PoisonQueue(publisher{}, "poison")
	require.NoError(t, err)
	return m
}

// times answers with an error the first n calls for each message's batch.
func failing(n int, before bool) message.HandlerMiddleware {
	var mu sync.Mutex
	calls := 0
	return func(h message.HandlerFunc) message.HandlerFunc {
		return func(msg *message.Message) (out []*message.Message, err error) {
			mu.Lock()
			calls++
			bad := calls%3 == 0 && calls <= 3*n
			mu.Unlock()
			if bad && before {
				return nil, errDisk
			}
			out, err = h(msg)
			if bad {
				return nil, errDisk
			}
			return out, err
		}
	}
}

func panicking(before bool) message.HandlerMiddleware {
	m := failing(3, before)
	return func(h message.HandlerFunc) message.HandlerFunc {
		return func(msg *message.Message) ([]*message.Message, error) {
			out, err := m(h)(msg)
			if errors.Is(err, errDisk) {
				panic(err)
			}
			return out, err
		}
	}
}

// What middleware may do: all rows are there once, in order (rules K1, K2).
func TestHarmlessMiddleware(t *testing.T) {
	for name, m := range map[string][]message.HandlerMiddleware{
		"an error before the handler": {failing(4, true)},
		"an error behind the handler": {failing(4, false)},
		"a panic before the handler":  {panicking(true)},
		"a panic behind the handler":  {panicking(false)},
		"Recoverer":                   {middleware.Recoverer, panicking(true)},
		"Retry":                       {middleware.Retry{MaxRetries: 3, InitialInterval: time.Second, Logger: watermill.NopLogger{}}.Middleware, failing(4, true)},
		"Retry, error behind":         {middleware.Retry{MaxRetries: 3, InitialInterval: time.Second, Logger: watermill.NopLogger{}}.Middleware, failing(4, false)},
		"Duplicator":                  {middleware.Duplicator},
		"Duplicator, errors":          {failing(4, true), middleware.Duplicator},
		"Timeout, long enough":        {middleware.Timeout(time.Minute)},
		"Timeout, error, Retry":       {middleware.Timeout(time.Minute), middleware.Retry{MaxRetries: 3, InitialInterval: time.Second, Logger: watermill.NopLogger{}}.Middleware, failing(4, true)},
		"Deduplicator by UUID": {(&middleware.Deduplicator{
			KeyFactory: func(m *message.Message) (string, error) { return m.UUID, nil },
			Repository: &seen{keys: map[string]bool{}}}).Middleware, failing(3, true)},
		"CorrelationID":             {middleware.CorrelationID},
		"IgnoreErrors, nothing bad": {middleware.NewIgnoreErrors([]error{errDisk}).Middleware},
		"PoisonQueue, nothing bad":  {poisonQueue(t)},
		"a handler called twice at once": {func(h message.HandlerFunc) message.HandlerFunc {
			return func(msg *message.Message) ([]*message.Message, error) {
				var wg sync.WaitGroup
				var errs [2]error
				for i := range 2 {
					wg.Go(func() { _, errs[i] = h(msg) })
				}
				wg.Wait()
				return nil, errors.Join(errs[:]...)
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				c := config(t)
				c.Middleware = m
				sink := leattest.Collect[int]()
				p := pipe(c, leattest.Rows(ints(2000)...), time.Second, sink)
				require.NoError(t, run(t, p), "rules K1, K2")
				require.Equal(t, ints(2000), sink.Committed(), "rule K1: each batch once, in order")
				requireBalance(t, p.Stats())
				assert.Zero(t, p.Stats().Run.Rewinds)
			})
		})
	}
}

// A5: a batch that is sent again is charged once for what stages make of it.
func TestTimeoutMiddlewareAndTheBudget(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := config(t)
		c.Middleware = []message.HandlerMiddleware{middleware.Timeout(time.Second)}
		var p *leat.Pipeline
		var inFlight []int64
		p = leat.New("p", c)
		many := via(leat.From(p, leattest.Rows(ints(100)...).Batches(100)), "many", flat(func(i int) []int { return make([]int, 1000) }))
		leat.To(wait(many, "slow", func(ctx context.Context, in, out *leat.Batch[int]) error {
			inFlight = append(inFlight, p.Stats().InFlight)
			if len(inFlight) < 5 {
				<-ctx.Done()
				return ctx.Err()
			}
			out.AppendRows(in, 0, in.Len())
			return nil
		}), leattest.Collect[int]())
		require.NoError(t, run(t, p))
		require.Len(t, slices.Compact(slices.Clone(inFlight)), 1, "%v", inFlight)
		require.Zero(t, p.Stats().InFlight)
	})
}

// A Timeout that cuts batches off makes them come again.
func TestTimeoutMiddleware(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := config(t)
		c.Middleware = []message.HandlerMiddleware{middleware.Timeout(time.Second)}
		letters := &memLetters{}
		c.DeadLetters = letters
		var mu sync.Mutex
		calls := map[int]int{}
		p := leat.New("timeout", c)
		sink := leattest.Collect[int]()
		leat.To(wait(leat.From(p, leattest.Rows(ints(1000)...)), "slow", func(ctx context.Context, in, out *leat.Batch[int]) error {
			mu.Lock()
			calls[in.Rows()[0]]++
			n := calls[in.Rows()[0]]
			mu.Unlock()
			if n < 3 { // hangs twice
				<-ctx.Done()
				return ctx.Err()
			}
			for i, r := range in.Rows() {
				out.Append(r, i)
			}
			return nil
		}), sink)
		require.NoError(t, run(t, p))
		require.Equal(t, ints(1000), sink.Committed(), "rule K1: re-entry decodes afresh and files once")
		require.Empty(t, letters.all(), "rule B8: a deadline is no row's fault")
		requireBalance(t, p.Stats())
	})
}

// Middleware that answers for the handler is found out (rules K1, K2).
func TestMiddlewareThatSwallowsIsDetected(t *testing.T) {
	for name, m := range map[string][]message.HandlerMiddleware{
		"drops a batch": {func(h message.HandlerFunc) message.HandlerFunc {
			return func(msg *message.Message) ([]*message.Message, error) { return nil, nil }
		}},
		"acks without the handler": {func(h message.HandlerFunc) message.HandlerFunc {
			return func(msg *message.Message) ([]*message.Message, error) { msg.Ack(); return nil, errDisk }
		}},
		"Deduplicator by payload": {(&middleware.Deduplicator{Repository: &seen{keys: map[string]bool{}}}).Middleware},
		"IgnoreErrors":            {middleware.NewIgnoreErrors([]error{errDisk}).Middleware, failing(1, true)},
		"PoisonQueue":             {poisonQueue(t), failing(1, true)},
		"InstantAck":              {middleware.InstantAck}, // the stage below is slow enough
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				c := config(t)
				good := c
				c.Middleware = m
				sink := leattest.Collect[int]()
				p := leat.New("pipe", c)
				leat.To(wait(leat.From(p, leattest.Rows(ints(2000)...)), "pace", func(ctx context.Context, in, out *leat.Batch[int]) error {
					time.Sleep(time.Second)
					return paced(100, 0)(ctx, in, out)
				}), sink)
				require.ErrorContains(t, run(t, p), "middleware swallowed batch", "rule K1")
				next := sink.Successor()
				require.NoError(t, run(t, pipe(good, leattest.Rows(ints(2000)...), 0, next)))
				require.Equal(t, ints(2000), next.Committed(), "rule K1: nothing is lost")
			})
		})
	}
}

func TestMiddlewareThatLosesTheContextIsDetected(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := config(t)
		c.Middleware = []message.HandlerMiddleware{func(h message.HandlerFunc) message.HandlerFunc {
			return func(msg *message.Message) ([]*message.Message, error) {
				return h(message.NewMessage(msg.UUID, msg.Payload))
			}
		}}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		err := pipe(c, leattest.Rows(ints(10)...), 0, leattest.Collect[int]()).Run(ctx)
		require.ErrorContains(t, err, "context", "rule K2: the user hears what is wrong, it does not go on for ever")
		require.NoError(t, ctx.Err())
	})
}

func TestMiddlewareThatAlwaysRefusesUsesUpAttempts(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := config(t)
		c.Retry.Attempts = 4
		n := 0
		c.Middleware = []message.HandlerMiddleware{func(message.HandlerFunc) message.HandlerFunc {
			return func(*message.Message) ([]*message.Message, error) { n++; return nil, errDisk }
		}}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		err := pipe(c, leattest.Rows(ints(10)...), 0, leattest.Collect[int]()).Run(ctx)
		require.ErrorContains(t, err, "gave up after 4 attempts")
		require.Equal(t, 4, n)
	})
}

func TestMessageIDsAreUnique(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var mu sync.Mutex
		ids := map[string]int{}
		note := func(h message.HandlerFunc) message.HandlerFunc {
			return func(msg *message.Message) ([]*message.Message, error) {
				mu.Lock()
				ids[msg.UUID]++
				mu.Unlock()
				return h(msg)
			}
		}
		c := config(t)
		c.Middleware = []message.HandlerMiddleware{note, failing(5, true)}
		sink := leattest.Collect[int]().FailCommit(2, leat.ErrAborted).FailWrite(15, leat.ErrAborted)
		p := pipe(c, leattest.Rows(ints(4000)...).Partitions(2), 300*time.Millisecond, sink)
		require.NoError(t, run(t, p))
		requireSequential(t, sink, 2000)
		again := source(func(ctx context.Context, in leat.Intake[int]) error { // the next process, and a partition that comes back
			for from := 0; from < 30; from += 10 {
				if _, err := in.Assign(leat.Partition{Name: "0", Log: "log"}); err != nil {
					return err
				}
				if err := in.Send(part(0, from, from+10)); err != nil {
					return err
				}
				if err := in.Revoke(ctx, "0"); err != nil {
					return err
				}
			}
			return nil
		})
		c.StateDir = t.TempDir()
		for range 2 {
			p := leat.New("p", c)
			leat.To(leat.From(p, again), leattest.Collect[int]())
			require.NoError(t, run(t, p))
			c.StateDir = t.TempDir()
		}
		for id, n := range ids {
			assert.Equal(t, 1, n, "rule K2: id %s came more than once", id)
		}
		assert.Greater(t, len(ids), 40)
	})
}

// gochan is a plain subscriber of another handler on the same router.
type gochan struct{ out chan *message.Message }

func (g gochan) Subscribe(ctx context.Context, _ string) (<-chan *message.Message, error) {
	out := make(chan *message.Message)
	go func() {
		defer close(out)
		for {
			select {
			case m := <-g.out:
				out <- m
			case <-ctx.Done():
				return
			}
		}
	}()
	return out, nil
}
func (gochan) Close() error { return nil }

func TestMountBesideAnotherHandler(t *testing.T) {
	bubble(t, func(t *testing.T) {
		router := message.NewDefaultRouter(watermill.NopLogger{})
		other := gochan{make(chan *message.Message)}
		var mu sync.Mutex
		var got []string
		router.AddConsumerHandler("other", "topic", other, func(m *message.Message) error {
			mu.Lock()
			defer mu.Unlock()
			got = append(got, m.UUID)
			return nil
		})
		src, sink := leattest.Rows(ints(2000)...).Endless(), leattest.Collect[int]()
		c := config(t)
		c.CheckpointEvery = time.Hour
		free := make(chan struct{})
		p := leat.New("pipe", c)
		leat.To(wait(leat.From(p, src), "gate", func(ctx context.Context, in, out *leat.Batch[int]) error {
			<-free
			return paced(100, 0)(ctx, in, out)
		}), sink)
		h, err := p.Mount(router)
		require.NoError(t, err)
		ended := make(chan error, 1)
		go func() { ended <- router.Run(t.Context()) }()
		<-router.Running()
		other.out <- message.NewMessage("hello", nil)
		time.Sleep(time.Second)
		mu.Lock()
		assert.Equal(t, []string{"hello"}, got, "the other handler works beside the pipeline")
		mu.Unlock()
		assert.Empty(t, sink.Committed())
		// Watermill closes under a lock for which the other handler waits, so
		// virtual time stands still from here on.
		closed := make(chan error, 1)
		go func() { closed <- router.Close() }()
		close(free)
		require.NoError(t, <-closed, "rules A7, K3: closing the router drains")
		require.NoError(t, h.Wait())
		require.NoError(t, <-ended)
		assert.Equal(t, ints(2000), sink.Committed(), "rule A7: what was sent is committed")
		assert.Equal(t, int64(2000), src.Committed()[""].Next)
	})
}

// The end of a pipeline leaves the router and its other handlers alone.
func TestMountedPipelineThatEnds(t *testing.T) {
	bubble(t, func(t *testing.T) {
		router := message.NewDefaultRouter(watermill.NopLogger{})
		other := gochan{make(chan *message.Message)}
		got := make(chan string, 1)
		router.AddConsumerHandler("other", "topic", other, func(m *message.Message) error { got <- m.UUID; return nil })
		sink := leattest.Collect[int]()
		h, err := pipe(config(t), leattest.Rows(ints(1000)...), 0, sink).Mount(router)
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- router.Run(ctx) }()
		require.NoError(t, h.Wait())
		assert.Equal(t, ints(1000), sink.Committed())
		time.Sleep(time.Minute)
		other.out <- message.NewMessage("still here", nil)
		assert.Equal(t, "still here", <-got)
		assert.False(t, router.IsClosed())
		cancel()
		require.NoError(t, router.Close())
		<-ended
	})
}

func TestStopOfAHandle(t *testing.T) {
	bubble(t, func(t *testing.T) {
		router := message.NewDefaultRouter(watermill.NopLogger{})
		sink := leattest.Collect[int]()
		h, err := pipe(config(t), leattest.Rows(ints(1000)...).Endless(), 0, sink).Mount(router)
		require.NoError(t, err)
		ended := make(chan error, 1)
		go func() { ended <- router.Run(t.Context()) }()
		time.Sleep(time.Second)
		h.Stop()
		require.NoError(t, h.Wait())
		require.NoError(t, <-ended, "the router's only handler has ended")
		assert.Equal(t, ints(1000), sink.Committed())
	})
}

func TestMountUnderATakenName(t *testing.T) {
	router := message.NewDefaultRouter(watermill.NopLogger{})
	p := pipe(config(t), leattest.Rows(1), 0, leattest.Collect[int]())
	q := pipe(config(t), leattest.Rows(1), 0, leattest.Collect[int]())
	_, err := p.Mount(router)
	require.NoError(t, err)
	_, err = q.Mount(router)
	require.ErrorContains(t, err, `"pipe" already`)
	_, err = q.Mount(message.NewDefaultRouter(watermill.NopLogger{}))
	require.NoError(t, err, "a pipeline that was refused has not been run")
}

func TestRunOfTwoPipelines(t *testing.T) {
	two := func(t *testing.T, a, b *leattest.MemSource[int]) (x, y *leattest.Collector[int], p, q *leat.Pipeline) {
		x, y = leattest.Collect[int](), leattest.Collect[int]()
		p, q = leat.New("p", config(t)), leat.New("q", config(t))
		leat.To(wait(leat.From(p, a), "pace", paced(100, time.Second)), x)
		leat.To(wait(leat.From(q, b), "pace", paced(100, time.Second)), y)
		return
	}
	t.Run("both end", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			x, y, p, q := two(t, leattest.Rows(ints(1000)...), leattest.Rows(ints(2000)...))
			require.NoError(t, leat.Run(t.Context(), p, q))
			assert.Equal(t, ints(1000), x.Committed())
			assert.Equal(t, ints(2000), y.Committed())
		})
	})
	t.Run("one fails", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			x, y, p, q := two(t, leattest.Rows(ints(1000)...).FailAt(500, errDisk), leattest.Rows(ints(1000)...).Endless())
			err := leat.Run(t.Context(), p, q)
			require.ErrorIs(t, err, errDisk)
			assert.Equal(t, ints(500), x.Committed())
			assert.Equal(t, ints(1000), y.Committed(), "the others are drained")
		})
	})
	t.Run("cancel", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			x, y, p, q := two(t, leattest.Rows(ints(1000)...).Endless(), leattest.Rows(ints(1000)...).Endless())
			require.NoError(t, leat.Run(ctx, p, q))
			assert.Equal(t, ints(1000), x.Committed())
			assert.Equal(t, ints(1000), y.Committed())
		})
	})
	t.Run("one name", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			p := pipe(config(t), leattest.Rows(1), 0, leattest.Collect[int]())
			q := pipe(config(t), leattest.Rows(1), 0, leattest.Collect[int]())
			require.ErrorContains(t, leat.Run(t.Context(), p, q), "already")
		})
	})
}

func TestObserveAndStats(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var mu sync.Mutex
		kinds := map[leat.EventKind]int{}
		rows := map[leat.EventKind]int{}
		var seqs []uint64
		var p *leat.Pipeline
		c := config(t)
		c.Observe = func(e leat.Event) {
			mu.Lock()
			defer mu.Unlock()
			kinds[e.Kind]++
			rows[e.Kind] += e.Rows
			if e.Kind == leat.EventCheckpoint {
				seqs = append(seqs, e.Seq)
			}
			if e.Time.IsZero() {
				kinds["no time"]++
			}
			if e.Pipeline != p.Name() {
				kinds["no pipeline"]++
			}
		}
		sink := leattest.Collect[int]().FailWrite(3, leat.Transient(errDisk)).FailCommit(3, leat.ErrAborted)
		src := leattest.Rows(ints(2000)...)
		p = pipe(c, src, 400*time.Millisecond, sink)
		assert.Equal(t, leat.Stats{}, p.Stats(), "Stats may be called before Run")
		end := start(t.Context(), p)
		for range 20 {
			time.Sleep(500 * time.Millisecond)
			s := p.Stats()
			requireBalanceOfStages(t, s)
			assert.GreaterOrEqual(t, s.InFlight, int64(0))
			assert.GreaterOrEqual(t, s.Batches, 0)
		}
		require.NoError(t, end())
		s := p.Stats()
		requireBalance(t, s)
		assert.Equal(t, 1, kinds[leat.EventRetry])
		assert.Equal(t, 1, kinds[leat.EventRewind])
		assert.Equal(t, 2, kinds[leat.EventStarted])
		assert.Equal(t, 1, kinds[leat.EventStopped])
		assert.Zero(t, kinds["no time"])
		assert.Zero(t, kinds["no pipeline"])
		assert.GreaterOrEqual(t, rows[leat.EventWrite], 2000)
		assert.True(t, slices.IsSorted(seqs))
		assert.Equal(t, seqs[len(seqs)-1], s.Committed)
		assert.Equal(t, int64(2000), s.Positions["rows"].Next)
		assert.Equal(t, leat.RunStats{In: 2000, Out: map[string]int64{"collect": 2000}, Rejected: map[string]int64{}, Letters: map[leat.Class]int64{}, Rewinds: 1,
			Nodes: s.Nodes}, s.Run, "in the first process the two are one")
		assert.Zero(t, s.InFlight)

		// The next process knows where it stands, and counts its own rows apart.
		idle := pipe(c, leattest.Rows(ints(2500)...), 0, sink.Successor())
		require.NoError(t, run(t, idle))
		s = idle.Stats()
		assert.Equal(t, int64(500), s.Run.In)
		assert.Equal(t, leat.NodeStats{Name: "collect", Kind: "sink", In: 500, Out: 500}, s.Run.Nodes[len(s.Run.Nodes)-1])
		assert.Equal(t, int64(2500), node(t, s, "rows").In)
	})
}

// requireBalanceOfStages checks rule A8 in mid-flow: a sink's rows are under way.
func requireBalanceOfStages(t *testing.T, s leat.Stats) {
	t.Helper()
	for _, n := range s.Nodes {
		if n.Kind != "sink" {
			require.Equal(t, n.In+n.Added, n.Out+n.Rejected+n.Filtered, "rule A8: %+v", n)
		}
	}
}

func TestStatsAfterARewindKnowTheLastCheckpoint(t *testing.T) {
	bubble(t, func(t *testing.T) {
		sink := leattest.Collect[int]().FailCommit(3, leat.ErrAborted)
		p := pipe(config(t), leattest.Rows(ints(2000)...), 400*time.Millisecond, sink)
		end := start(t.Context(), p)
		last := uint64(0)
		for range 30 {
			time.Sleep(200 * time.Millisecond)
			synctest.Wait()
			s := p.Stats()
			assert.GreaterOrEqual(t, s.Committed, last, "Committed is the last complete checkpoint, rewinds or not")
			last = s.Committed
			if last > 0 {
				assert.NotEmpty(t, s.Positions)
			}
		}
		require.NoError(t, end())
		require.Equal(t, 1, p.Stats().Run.Rewinds)
	})
}

func TestRunTwiceIsAnError(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := pipe(config(t), leattest.Rows(1), 0, leattest.Collect[int]())
		require.NoError(t, run(t, p))
		require.ErrorContains(t, run(t, p), "run before")
	})
}
