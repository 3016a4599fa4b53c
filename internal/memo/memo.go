// Package memo remembers what was expensive to get: a value for each key, got once
// however many goroutines ask for it at the same time.
package memo

import (
	"context"
	"errors"
	"sync"
	"time"
)

var errPanicked = errors.New("the load panicked")

// Cache keeps the values of load for ever, and its errors for a while. The zero value
// is ready, but for Load. It is safe for concurrent use; a hit takes no lock.
type Cache[K comparable, V any] struct {
	// Load gets the value of a key. Several keys are loaded at a time, each by one
	// goroutine.
	Load func(ctx context.Context, key K) (V, error)

	// Keep tells for how long an error is the answer for its key; 0 is not at all: those
	// who waited for it get it, and the next to ask loads again.
	Keep func(err error) time.Duration

	known sync.Map // K → V
	mu    sync.Mutex
	open  map[K]*call[V] // being loaded, and errors that are kept
}

type call[V any] struct {
	done  chan struct{}
	v     V
	err   error
	until time.Time // of a kept error, once done is closed
	gone  bool      // the ctx of who loaded it has ended, and err may be of that
}

// maxErrors bounds the errors that are kept: keys come from the outside, and a made-up one
// must not cost memory for ever.
const maxErrors = 1024

// Get gives the value of key. A caller whose ctx ends stops waiting; one that waited for a
// load that was given up with its caller's ctx loads by itself.
func (c *Cache[K, V]) Get(ctx context.Context, key K) (V, error) {
	if v, ok := c.known.Load(key); ok {
		return v.(V), nil
	}
	return c.slow(ctx, key)
}

func (c *Cache[K, V]) slow(ctx context.Context, key K) (V, error) {
	for {
		cl, mine := c.join(key)
		if mine {
			return c.load(ctx, key, cl)
		}
		select {
		case <-cl.done:
		case <-ctx.Done():
			var none V
			return none, context.Cause(ctx)
		}
		if !cl.gone || ctx.Err() != nil {
			return cl.v, cl.err
		}
	}
}

func (c *Cache[K, V]) join(key K) (cl *call[V], mine bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if v, ok := c.known.Load(key); ok { // it came while this caller was on its way
		cl = &call[V]{v: v.(V), done: make(chan struct{})}
		close(cl.done)
		return cl, false
	}
	if cl, ok := c.open[key]; ok && (cl.until.IsZero() || time.Now().Before(cl.until)) {
		return cl, false
	}
	if c.open == nil {
		c.open = make(map[K]*call[V])
	}
	if len(c.open) >= maxErrors {
		for k, o := range c.open {
			if !o.until.IsZero() {
				delete(c.open, k)
			}
		}
	}
	cl = &call[V]{done: make(chan struct{})}
	c.open[key] = cl
	return cl, true
}

func (c *Cache[K, V]) load(ctx context.Context, key K, cl *call[V]) (v V, err error) {
	finished := false
	defer func() { // a panic of Load must not leave the others waiting
		c.mu.Lock()
		defer c.mu.Unlock()
		if !finished {
			err = errPanicked
		}
		cl.v, cl.err = v, err
		var keep time.Duration
		if err != nil && finished && c.Keep != nil {
			keep = c.Keep(err)
		}
		switch {
		case err == nil:
			c.known.Store(key, v)
			delete(c.open, key)
		case keep > 0:
			cl.until = time.Now().Add(keep)
		default:
			// Whatever the error says: a ctx may end with a cause of its own, and a load
			// may time out though nobody has given it up.
			cl.gone = ctx.Err() != nil
			delete(c.open, key)
		}
		close(cl.done)
	}()
	v, err = c.Load(ctx, key)
	finished = true
	return v, err
}
