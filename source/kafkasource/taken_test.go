package kafkasource

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/leattest"
)

// restoring is a sink that takes partitions over slowly, the first time.
type restoring struct {
	*leattest.Collector[rec]
	began, late chan struct{}
	lives       atomic.Int32
	ended       atomic.Bool // by its context
}

func (s *restoring) Restore(ctx context.Context, partitions []string) (map[string]leat.Position, error) {
	if s.lives.Add(1) == 1 {
		close(s.began)
		select {
		case <-ctx.Done():
			s.ended.Store(true)
			return nil, ctx.Err()
		case <-s.late: // and fences whoever has them by now
		}
	}
	return s.Collector.Restore(ctx, partitions)
}

// Rules E2, H3: partitions that go away while sinks take them over are not taken over
// later on, when somebody else has them.
func TestTakenWhileAssigned(t *testing.T) {
	t.Parallel()
	for name, lose := range map[string]func(s *Source[rec]){
		"revoked": func(s *Source[rec]) { s.onRevoked(t.Context(), nil, map[string][]int32{"in": {1}}) },
		"lost":    func(s *Source[rec]) { s.onLost(t.Context(), nil, map[string][]int32{"in": {1}}) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := broker(t, 2, "in")
			w.fill("in", 2, 0, 100)
			dir := t.TempDir()
			sink := &restoring{Collector: leattest.Collect[rec]().In(dir), began: make(chan struct{}), late: make(chan struct{})}
			c := w.member("g", "in")
			c.RevokeBudget = 100 * time.Millisecond
			a := start(t, c, sink)
			<-sink.began
			lose(a.src.(*Source[rec])) // it returns: the group gives them away
			if name == "revoked" {
				assert.True(t, sink.ended.Load(), "it would fence the next owner")
			}
			await(t, sink.ended.Load)
			close(sink.late)
			await(t, func() bool { return len(sink.Committed()) == 50 })
			require.NoError(t, a.stop())
		})
	}
}

// A partition that a zombie took at a sink, and that nobody else reads, is taken back.
func TestTakenByZombie(t *testing.T) {
	t.Parallel()
	w := broker(t, 2, "in")
	w.fill("in", 2, 0, 20)
	dir := t.TempDir()
	sink := leattest.Collect[rec]().In(dir)
	c := w.member("g", "in")
	c.SessionTimeout = time.Second
	a := start(t, c, sink)
	await(t, func() bool { return len(sink.Committed()) == 20 })
	zombie := leattest.Collect[rec]().In(dir)
	require.NoError(t, zombie.Open(t.Context(), leat.Env{}))
	_, err := zombie.Restore(t.Context(), []string{"src/in/1"})
	require.NoError(t, err)
	w.fill("in", 2, 20, 40)
	await(t, func() bool { return len(sink.Committed()) == 40 })
	require.NoError(t, a.stop())
	once(t, sink.Committed(), 40)
}

// It is given up after some times, and tried again in the next generation of the group.
func TestTakenAgainAndAgain(t *testing.T) {
	t.Parallel()
	w := broker(t, 2, "in", "other")
	w.fill("in", 2, 0, 20)
	dir := t.TempDir()
	sink := leattest.Collect[rec]().In(dir)
	c := w.member("g", "in")
	c.SessionTimeout = time.Second
	a := start(t, c, sink)
	await(t, func() bool { return len(sink.Committed()) == 20 })
	zombie := leattest.Collect[rec]().In(dir)
	require.NoError(t, zombie.Open(t.Context(), leat.Env{}))
	n := 20
	more := func() {
		_, err := zombie.Restore(t.Context(), []string{"src/in/1"})
		require.NoError(t, err)
		w.fill("in", 2, n, n+2)
		n += 2
	}
	for range retakes {
		more()
		await(t, func() bool { return len(sink.Committed()) == n })
	}
	more()
	await(t, func() bool { return len(sink.Committed()) == n-1 })
	time.Sleep(4 * a.src.(*Source[rec]).patience())
	require.Len(t, sink.Committed(), n-1, "somebody else's, it seems")

	b := w.member("g", "other") // a new generation, in which in/1 stays where it is
	b.SessionTimeout = time.Second
	start(t, b, leattest.Collect[rec]().In(t.TempDir()))
	await(t, func() bool { return len(sink.Committed()) == n })
	require.NoError(t, a.stop())
	once(t, sink.Committed(), n)
}
