package engine

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"
)

// Retry is exponential backoff: First, then twice as long each time, up to Max,
// each ±20 %.
type Retry struct {
	First, Max time.Duration
	Attempts   int // 0: for ever
}

// wait is how long to wait before attempt n (from 1).
func (r Retry) wait(n int) time.Duration {
	d := r.First
	for i := 1; i < n && d < r.Max; i++ {
		d *= 2
	}
	d = min(d, r.Max)
	return time.Duration(float64(d) * (0.8 + 0.4*rand.Float64()))
}

// exhausted tells whether n failed attempts are enough.
func (r Retry) exhausted(n int) bool { return r.Attempts > 0 && n >= r.Attempts }

// sleep waits, or returns the context's error.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// retry calls f until it succeeds, fails for good or ctx ends (rule B8: only
// what is transient is tried again). paused, if set, is called around each wait.
func (e *Engine) retry(ctx context.Context, node, partition string, paused func(waiting bool), f func() error) error {
	for n := 1; ; n++ {
		err := f()
		if err == nil || !IsTransient(err) || isRewind(err) {
			return err
		}
		if e.cfg.Retry.exhausted(n) {
			return &Error{Node: node, Partition: partition, Offset: -1, Class: SinkUnavailable,
				Err: fmt.Errorf("gave up after %d attempts; nothing is lost, what is not committed is read again at the next start: %w", n, err)}
		}
		d := e.cfg.Retry.wait(n)
		e.log.Warn("transient failure, will retry", "node", node, "partition", partition, "attempt", n, "wait", d, "error", err)
		e.observe(Event{Kind: EventRetry, Node: node, Partition: partition, Duration: d, Err: err})
		if paused != nil {
			paused(true)
		}
		cut := sleep(ctx, d)
		if paused != nil {
			paused(false)
		}
		if cut != nil {
			// Not %w for the failure: what was cut off is not transient any more.
			return fmt.Errorf("%w; it was waiting because of: %v", cut, err)
		}
	}
}
