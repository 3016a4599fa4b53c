package memo

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestLoadsOnceForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var loads atomic.Int32
		c := Cache[int, string]{Load: func(context.Context, int) (string, error) {
			loads.Add(1)
			time.Sleep(time.Second)
			return "value", nil
		}}
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				v, err := c.Get(t.Context(), 7)
				if v != "value" || err != nil {
					t.Errorf("got %q, %v", v, err)
				}
			})
		}
		wg.Wait()
		require.EqualValues(t, 1, loads.Load())
	})
}

func TestErrorsAreKeptForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gone, down := errors.New("gone"), errors.New("down")
		loads := 0
		fail := gone
		c := Cache[int, string]{
			Load: func(context.Context, int) (string, error) { loads++; return "", fail },
			Keep: func(err error) time.Duration {
				if errors.Is(err, gone) {
					return 10 * time.Second
				}
				return 0
			},
		}
		for range 3 {
			_, err := c.Get(t.Context(), 1)
			require.ErrorIs(t, err, gone)
		}
		require.Equal(t, 1, loads)
		time.Sleep(11 * time.Second)
		fail = down
		for range 3 {
			_, err := c.Get(t.Context(), 1)
			require.ErrorIs(t, err, down)
		}
		require.Equal(t, 4, loads)
		for i := range 5 * maxErrors { // made-up keys
			fail = gone
			_, _ = c.Get(t.Context(), i)
			require.LessOrEqual(t, len(c.open), maxErrors)
		}
	})
}

// The one who loads may be cancelled; the others must not fail for it.
func TestACancelledLoaderIsReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		loads := 0
		c := Cache[int, string]{Load: func(ctx context.Context, _ int) (string, error) {
			loads++
			if loads > 1 {
				return "value", nil
			}
			<-ctx.Done()
			return "", ctx.Err()
		}}
		first, cancel := context.WithCancel(t.Context())
		go func() { _, _ = c.Get(first, 1) }()
		synctest.Wait()
		got := make(chan string)
		go func() { v, _ := c.Get(t.Context(), 1); got <- v }()
		synctest.Wait()
		cancel()
		require.Equal(t, "value", <-got)
	})
}

func TestAPanicLeavesNobodyWaiting(t *testing.T) {
	c := Cache[int, string]{Load: func(context.Context, int) (string, error) { panic("no") }}
	require.Panics(t, func() { _, _ = c.Get(t.Context(), 1) })
	require.Panics(t, func() { _, _ = c.Get(t.Context(), 1) })
}

// The engine ends contexts with a cause of its own. It says nothing about the key, so it is no
// answer for the others.
func TestACauseIsNotTheOthersAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		loads := 0
		c := Cache[int, string]{Load: func(ctx context.Context, _ int) (string, error) {
			loads++
			if loads > 1 {
				return "value", nil
			}
			<-ctx.Done()
			return "", context.Cause(ctx)
		}}
		first, cancel := context.WithCancelCause(t.Context())
		go func() { _, _ = c.Get(first, 1) }()
		synctest.Wait()
		got := make(chan error)
		go func() { _, err := c.Get(t.Context(), 1); got <- err }()
		synctest.Wait()
		cancel(errors.New("rewind"))
		require.NoError(t, <-got)
	})
}

// A load that timed out by itself is the answer for all who waited: else each would wait as
// long again, one after the other.
func TestATimeoutIsTheAnswerForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var loads atomic.Int32
		c := Cache[int, string]{Load: func(context.Context, int) (string, error) {
			loads.Add(1)
			time.Sleep(5 * time.Second)
			return "", context.DeadlineExceeded // as net/http's client has it
		}}
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				_, err := c.Get(t.Context(), 1)
				if !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("got %v", err)
				}
			})
		}
		wg.Wait()
		require.EqualValues(t, 1, loads.Load())
	})
}
