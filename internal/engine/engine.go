package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/leatgo/leat/internal/failpoint"
	"github.com/leatgo/leat/internal/store"
)

// Engine is one run of a pipeline: what outlives a rewind.
type Engine struct {
	plan *Plan
	cfg  *Config
	log  *slog.Logger

	ctx  context.Context // its end asks for a drain
	stop context.CancelFunc

	out      chan *message.Message // to the router
	emitting sync.WaitGroup        // who may write to out
	slots    chan struct{}         // bounds decoding and stages to the processors
	done     chan struct{}
	err      error

	store   Storage
	folder  Storage // the state folder, when store is a shared one; else nil
	letters *letters
	seq     uint64      // of the last cut taken
	saved   store.Saved // what the store holds; kept true after each Commit
	poison  poison
	reopen  atomic.Bool // the store has failed on a full disk: the next life needs another one

	mu      sync.Mutex
	gen     *generation // the current one
	base    counters    // what the counters were when this process started
	past    counters    // what this process had counted, beyond base, whenever counters began anew
	rewinds int
	given   map[string]uint64 // Partition.Given when the store last heard of the partition from this process
	fenced  map[string]uint64 // partitions that another owner has taken: what Partition.Given was
	times   times

	doubt *store.Checkpoint // a commit to a shared storage that failed: it may have been done
}

// New prepares a run. The end of ctx asks for a drain.
func New(ctx context.Context, plan *Plan) *Engine {
	plan.prepare()
	e := &Engine{
		plan: plan, cfg: &plan.Config, log: plan.Config.Logger,
		out: make(chan *message.Message), done: make(chan struct{}),
		slots:  make(chan struct{}, runtime.GOMAXPROCS(0)),
		fenced: map[string]uint64{}, given: map[string]uint64{},
		base: newCounters(len(plan.Nodes)),
		past: newCounters(len(plan.Nodes)),
	}
	e.ctx, e.stop = context.WithCancel(ctx)
	e.letters = &letters{e: e, turn: make(chan struct{}, 1)}
	return e
}

// Stop asks for a drain.
func (e *Engine) Stop() { e.stop() }

// Wait blocks until the run has ended and returns its outcome.
func (e *Engine) Wait() error {
	<-e.done
	return e.err
}

// main is the run, on a goroutine of its own.
func (e *Engine) main() {
	defer e.stop()
	e.began()
	e.err = e.run()
	e.ended(e.err)
	if e.err != nil {
		e.log.Error("pipeline stopped", "error", e.err)
	}
	e.observe(Event{Kind: EventStopped, Err: e.err})
	// Rule K3: only now may the router's channel be closed; it would cancel what
	// is in flight.
	e.emitting.Wait()
	close(e.out)
	close(e.done)
}

func (e *Engine) run() (err error) {
	defer func() {
		// Last defence: a panic of ours must not take the program down.
		if r := recover(); r != nil {
			err = join(err, &PanicError{Value: r, Stack: debug.Stack()})
		}
	}()
	sourcesClosed := false
	closeSources := func() {
		if sourcesClosed {
			return
		}
		sourcesClosed = true
		for _, n := range e.plan.Nodes {
			if n.Kind == KindSource && n.Source.Close != nil {
				err = join(err, wrap(n, "", guard(n.Source.Close)))
			}
		}
	}
	defer closeSources() // also when Run was never called
	if e.ctx.Err() != nil {
		return nil // nothing was begun
	}
	defer func() { err = join(err, e.closeStorage()) }()
	if err := e.openStorage(e.cfg.Alone != nil); err != nil {
		if e.ctx.Err() != nil {
			return nil // stopped while waiting: nothing was begun
		}
		return err
	}
	if e.saved, err = e.store.Load(); err != nil {
		return err
	}
	e.seq = e.saved.Seq
	saved := e.loadCounters(e.saved.Counters)
	if !e.balanced(saved) {
		e.log.Info("counters begin anew: those that were saved are of a pipeline with other stages or sinks")
		saved, e.saved.Counters = newCounters(len(e.plan.Nodes)), nil
	}
	e.mu.Lock()
	e.base = saved
	e.mu.Unlock()
	if e.cfg.Alone != nil {
		held := map[string]Position{}
		for name, at := range e.saved.Positions {
			held[name] = Position(at)
		}
		if err := guard(func() error { return e.cfg.Alone(e.ctx, held) }); err != nil {
			return err
		}
	}
	if err := e.retry(e.ctx, "dead letters", "", nil, func() error {
		return guard(func() error { return e.cfg.Letters.Open(e.ctx, e.env("dead letters")) })
	}); err != nil {
		return fmt.Errorf("dead letters: %w", err)
	}
	defer func() { err = join(err, e.cfg.Letters.Close()) }()
	defer closeSources() // before the store and the letters

	for failed := 0; ; {
		before := e.saved.Seq
		g := newGeneration(e)
		e.mu.Lock()
		e.gen = g
		e.times.opens(time.Now())
		e.mu.Unlock()
		err := g.run()
		var back *rewind
		if !errors.As(err, &back) {
			return err
		}
		// Rule E8: the one way to recover.
		e.mu.Lock()
		e.rewinds++
		e.mu.Unlock()
		if e.saved.Seq > before {
			failed = 0
		}
		e.observe(Event{Kind: EventRewind, Err: back.cause})
		if back.named && !e.reopen.Load() { // a row at fault is known now: the next attempt is not the same
			e.log.Warn("rewinding to the last checkpoint, and on without the row or the partitions at fault", "checkpoint", e.saved.Seq, "cause", back.cause)
			continue
		}
		if failed++; e.cfg.Retry.exhausted(failed) {
			return fmt.Errorf("gave up after %d attempts without a checkpoint between them: %w", failed, back.cause)
		}
		wait := e.cfg.Retry.wait(failed)
		e.log.Warn("rewinding to the last checkpoint", "checkpoint", e.saved.Seq, "wait", wait, "cause", back.cause)
		if sleep(e.ctx, wait) != nil {
			return fmt.Errorf("stopped while recovering; what is not committed is read again at the next start: %w", back.cause)
		}
		if e.reopen.Swap(false) {
			if err := e.reopenStorage(); err != nil {
				return errors.Join(back.cause, err)
			}
		}
	}
}

// rewind is the outcome of a generation that ends in another one (rule E8).
type rewind struct {
	cause error
	named bool // the row at fault has been named: no need to wait
}

func (r *rewind) Error() string { return "rewind: " + r.cause.Error() }
func (r *rewind) Unwrap() error { return r.cause }

func isRewind(err error) bool {
	var r *rewind
	return errors.As(err, &r) || errors.Is(err, ErrAborted) || errors.Is(err, ErrFenced)
}

func (e *Engine) env(node string) Env {
	return Env{Pipeline: e.plan.Pipeline, Node: node, StateDir: e.cfg.StateDir, Logger: e.log.With("node", node)}
}

// hit reports a failpoint, to the process's handler and to the test kit's.
func (e *Engine) hit(point string) error {
	if err := failpoint.Hit(point); err != nil || e.cfg.Hook == nil {
		return err
	}
	return e.cfg.Hook(point)
}

// guard turns a panic of user code into an error (rule A9).
func guard(f func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = &PanicError{Value: r, Stack: debug.Stack()}
		}
	}()
	return f()
}

// wrap gives err the node and partition it happened at.
func wrap(n *Node, partition string, err error) error {
	if err == nil {
		return nil
	}
	return fault(n, partition, err)
}
