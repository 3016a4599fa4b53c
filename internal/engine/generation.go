package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// generation is one life of the pipeline between two rewinds: it begins with
// opening the sinks and ends with closing them. What carries a dead generation
// is dropped wherever it turns up (rule H4).
type generation struct {
	e      *Engine
	ctx    context.Context // of all work; ends when the generation dies, with the reason as cause
	cancel context.CancelCauseFunc

	workers []*worker     // by sink, in plan order
	drivers []*driver     // who runs them
	over    chan struct{} // closed when its sinks are closed
	wake    chan struct{}
	tasks   sync.WaitGroup // source runs, sink workers, handlers and drainers: who uses user code

	mu        sync.Mutex
	dead      error // why it died; nil while alive
	lanes     map[string]*lane
	order     []*lane // in order of assignment
	busy      int     // lanes being drained
	cutting   bool    // a cut is being taken: no new drains
	quiet     chan struct{}
	bytes     int64 // in flight
	batches   int
	room      chan struct{} // closed when budget is given back; nil when nobody waits
	count     counters
	live      map[*passage]struct{} // sent and not released
	breaker   *breaker
	moved     bool                // something was delivered since the last cut
	delivered bool                // or ever
	revoking  []*revocation       // partitions that are being given up
	gone      map[string]*lane    // partitions that were given up
	assigning map[string]bool     // partitions that sinks are taking over
	caughtUp  bool                // a source asked for a cut at goals
	reading   int                 // sources that have not ended
	srcErr    error               // first error of a source that ended for good
	cuts      []*cut              // taken and not complete, in order
	opened    bool                // its sinks are open and its sources run
	sentSome  bool                // a chunk was admitted
	saving    bool                // cuts that every sink holds are being saved
	committed uint64              // the newest complete cut
	complete  map[string]Position // its positions

	weighed atomic.Int64 // bytes of state when the last cut was taken
	heavy   atomic.Bool  // and it has grown much since
}

func newGeneration(e *Engine) *generation {
	g := &generation{
		e: e, wake: make(chan struct{}, 1), over: make(chan struct{}), lanes: map[string]*lane{}, gone: map[string]*lane{}, assigning: map[string]bool{},
		count: e.loadCounters(e.saved.Counters), breaker: newBreaker(e.cfg),
		live:      map[*passage]struct{}{},
		committed: e.saved.Seq, complete: map[string]Position{},
	}
	for name, at := range e.saved.Positions {
		if p := Position(at); p.Known() {
			g.complete[name] = p
		}
	}
	// Not a child of the user's context: its end asks for a drain, not for a stop.
	g.ctx, g.cancel = context.WithCancelCause(context.WithoutCancel(e.ctx))
	return g
}

// fail ends the generation; the first reason counts.
func (g *generation) fail(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.failLocked(err)
}

func (g *generation) failLocked(err error) {
	if g.dead == nil {
		g.dead = err
		g.cancel(err)
	}
}

// poke wakes the checkpoint loop.
func (g *generation) poke() {
	select {
	case g.wake <- struct{}{}:
	default:
	}
}

// run lives the generation. It returns nil when everything is committed.
func (g *generation) run() (err error) {
	var opened []*worker
	defer close(g.over)
	defer func() { err = g.end(opened, err) }()

	for _, n := range g.e.plan.Nodes {
		if n.Kind != KindSink {
			continue
		}
		w := newWorker(g, n)
		err := g.untilDrain(func(ctx context.Context) error {
			return g.e.retry(ctx, n.Name, "", nil, func() error {
				return guard(func() error { return n.Sink.Open(ctx, g.e.env(n.Name)) })
			})
		})
		if err != nil {
			if g.e.ctx.Err() != nil {
				return fmt.Errorf("stopped before %s could be opened: %w", n.Name, err)
			}
			return wrap(n, "", asRewind(err))
		}
		opened = append(opened, w)
		g.workers = append(g.workers, w)
		g.seat(w)
	}
	for _, d := range g.drivers {
		g.tasks.Go(d.run)
	}

	readCtx, stopReading := context.WithCancel(g.ctx)
	defer stopReading()
	defer context.AfterFunc(g.e.ctx, stopReading)()
	for _, n := range g.e.plan.Nodes {
		if n.Kind == KindSource {
			g.reading++
		}
	}
	for _, n := range g.e.plan.Nodes {
		if n.Kind != KindSource {
			continue
		}
		in := &Intake{g: g, node: n, ctx: readCtx}
		g.tasks.Go(func() {
			err := guard(func() error { return n.Source.Run(readCtx, in) })
			g.sourceEnded(n, err, readCtx.Err() != nil, stopReading)
		})
	}
	g.opens()
	g.e.observe(Event{Kind: EventStarted})
	return g.checkpoints()
}

// untilDrain runs f with a context that ends with the generation or when the
// user stops the pipeline: for waits at which nothing is in flight yet.
func (g *generation) untilDrain(f func(ctx context.Context) error) error {
	ctx, cancel := context.WithCancel(g.ctx)
	defer cancel()
	defer context.AfterFunc(g.e.ctx, cancel)()
	return f(ctx)
}

// sourceEnded takes note of a source that returned.
func (g *generation) sourceEnded(n *Node, err error, stopped bool, stopReading func()) {
	switch {
	case err == nil || (stopped && errors.Is(err, context.Canceled)):
		err = nil
	case IsTransient(err) && !stopped:
		g.fail(&rewind{cause: wrap(n, "", err)})
	default:
		// What was sent is drained and committed before the error is returned;
		// there is no use in the others reading on.
		err = wrap(n, "", err)
		stopReading()
	}
	g.mu.Lock()
	g.reading--
	if err != nil && g.srcErr == nil {
		g.srcErr = err
	}
	g.mu.Unlock()
	g.poke()
}

// end closes the generation in order (rule A7): nothing of it runs user code
// any more when the sinks are closed.
func (g *generation) end(opened []*worker, err error) error {
	g.fail(errEnded) // no-op when it died of something else
	over := make(chan struct{})
	go func() {
		g.tasks.Wait()
		close(over)
	}()
	deadline := time.NewTimer(g.e.cfg.DrainTimeout)
	defer deadline.Stop()
	select {
	case <-over:
	case <-deadline.C:
		// Rule K3: a sink that is still in use can't be closed, so no new life
		// can begin either: this is no rewind any more.
		if back := (*rewind)(nil); errors.As(err, &back) {
			err = back.cause
		}
		return errors.Join(err, fmt.Errorf("a source, stage or sink did not return within %v after its context had ended; sinks are left unclosed", g.e.cfg.DrainTimeout))
	}
	// What the generation takes with it is read by nobody any more.
	for p := range g.live {
		if p.chunk.Release == nil {
			continue
		}
		if perr := guard(func() error { p.chunk.Release(); return nil }); perr != nil {
			g.e.log.Warn("releasing a chunk failed", "batch", p, "error", perr)
		}
	}
	if errors.As(err, new(*rewind)) { // the next life may be without some of them
		g.mu.Lock()
		lanes := slices.Clone(g.order)
		g.mu.Unlock()
		g.forget(lanes)
	}
	for _, w := range opened {
		if cerr := guard(w.node.Sink.Close); cerr != nil {
			cerr = wrap(w.node, "", cerr)
			if err == nil {
				err = cerr // everything is committed, but the user should know
			} else {
				g.e.log.Warn("closing a sink failed", "error", cerr)
			}
		}
	}
	return err
}

// asRewind turns what the sink contract calls a rewind into one.
func asRewind(err error) error {
	var back *rewind
	if err == nil || errors.As(err, &back) {
		return err
	}
	if errors.Is(err, ErrAborted) {
		return &rewind{cause: err}
	}
	return err
}
