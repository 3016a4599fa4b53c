package leattest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/leatgo/leat"
)

// Collector is a sink that keeps rows in memory. It is transactional: rows and
// positions become visible together in Commit, survive a rewind and a restart,
// and a second Collector sharing the first one's memory (Successor) fences it.
// Configure it before the pipeline runs.
type Collector[T any] struct {
	name      string
	mem       *memory[T]
	epoch     map[string]int // of the partitions taken over
	open      []T
	offsets   []At
	rejectIf  func(T) error
	notYet    func(leat.Checkpoint) bool
	faults    map[string]map[int][]error // by call, by number of the call from 1
	calls     map[string]int
	onCall    func(call string) error
	guarantee leat.Guarantee
	slow      time.Duration
	ambiguous map[int]bool // by number of the Commit: whether it took effect
	fenceAt   int
	crashAt   map[string]int
	crashed   bool
}

// ErrCrash is what a Collector returns once CrashAt has come.
var ErrCrash = errors.New("leattest: the process has crashed")

// At is where a collected row came from.
type At struct {
	Partition string
	Offset    leat.Offset
}

// memory is what would be on disk.
type memory[T any] struct {
	mu        sync.Mutex
	rows      []T
	at        []At
	positions map[string]leat.Position
	epochs    map[string]int
}

// Collect makes a sink named "collect".
func Collect[T any]() *Collector[T] {
	return &Collector[T]{name: "collect", guarantee: leat.ExactlyOnce,
		mem:    &memory[T]{positions: map[string]leat.Position{}, epochs: map[string]int{}},
		faults: map[string]map[int][]error{}, calls: map[string]int{}, ambiguous: map[int]bool{}, crashAt: map[string]int{}}
}

// In makes the collector's memory that of a folder: all of the same row type and name that
// are made for one folder share it, as if it was stored there. For [TestRecovery] and
// whatever else builds a pipeline several times from the name of a folder. Call it after
// Named.
func (c *Collector[T]) In(dir string) *Collector[T] {
	mem, _ := stored.LoadOrStore(storedAt{dir, c.name, reflect.TypeFor[T]()}, c.mem)
	c.mem = mem.(*memory[T])
	return c
}

var stored sync.Map // of *memory[T], by storedAt

type storedAt struct {
	dir, name string
	row       reflect.Type
}

// Named sets the sink's name. Defaults to "collect".
func (c *Collector[T]) Named(name string) *Collector[T] { c.name = name; return c }

// Successor is a sink over the same memory, as a second process would open it.
func (c *Collector[T]) Successor() *Collector[T] {
	s := Collect[T]()
	s.name, s.mem = c.name, c.mem
	return s
}

// RejectIf refuses the rows for which f returns an error, by *leat.RowErrors.
func (c *Collector[T]) RejectIf(f func(T) error) *Collector[T] { c.rejectIf = f; return c }

// NotYet makes Commit answer "not yet" when f says so and it may (rule E9).
func (c *Collector[T]) NotYet(f func(leat.Checkpoint) bool) *Collector[T] { c.notYet = f; return c }

// FailOpen, FailWrite and FailCommit make the n-th call (from 1) return err,
// before it has done anything. After leat.ErrAborted the open rows are gone, as
// its contract says.
func (c *Collector[T]) FailOpen(n int, err error) *Collector[T]   { return c.fail("Open", n, err) }
func (c *Collector[T]) FailWrite(n int, err error) *Collector[T]  { return c.fail("Write", n, err) }
func (c *Collector[T]) FailCommit(n int, err error) *Collector[T] { return c.fail("Commit", n, err) }

func (c *Collector[T]) fail(call string, n int, err error) *Collector[T] {
	if c.faults[call] == nil {
		c.faults[call] = map[int][]error{}
	}
	c.faults[call][n] = append(c.faults[call][n], err)
	return c
}

// AmbiguousCommit makes the connection break at the n-th Commit (from 1): whether it took
// effect, which took says, the sink learns only from what it finds when it is opened again
// (rule E4). Commit returns leat.ErrAborted, and the pipeline rewinds.
func (c *Collector[T]) AmbiguousCommit(n int, took bool) *Collector[T] {
	c.ambiguous[n] = took
	return c
}

// FenceAt makes another owner take over all partitions just before the n-th Commit (from
// 1), which then fails (rule E3).
func (c *Collector[T]) FenceAt(n int) *Collector[T] { c.fenceAt = n; return c }

// CrashAt ends the sink's process, so to say, at the n-th call (from 1) of "Open",
// "Restore", "Write" or "Commit": nothing of that call or of any later one happens, and
// Pipeline.Run ends with ErrCrash. What a restart finds is in the Successor.
func (c *Collector[T]) CrashAt(call string, n int) *Collector[T] { c.crashAt[call] = n; return c }

// Slow makes each Write take so long.
func (c *Collector[T]) Slow(d time.Duration) *Collector[T] { c.slow = d; return c }

// Promises sets the declared guarantee. Defaults to leat.ExactlyOnce.
func (c *Collector[T]) Promises(g leat.Guarantee) *Collector[T] { c.guarantee = g; return c }

// OnCall runs f before each call ("Open", "Restore", "Write", "Commit",
// "Close"); an error is returned as the call's, a wait makes the sink slow.
func (c *Collector[T]) OnCall(f func(call string) error) *Collector[T] { c.onCall = f; return c }

// Committed are the rows that are durable and visible, in order of commit.
func (c *Collector[T]) Committed() []T {
	c.mem.mu.Lock()
	defer c.mem.mu.Unlock()
	return slices.Clone(c.mem.rows)
}

// Origins tells where each of the Committed rows came from.
func (c *Collector[T]) Origins() []At {
	c.mem.mu.Lock()
	defer c.mem.mu.Unlock()
	return slices.Clone(c.mem.at)
}

// Positions are those of the last commit.
func (c *Collector[T]) Positions() map[string]leat.Position {
	c.mem.mu.Lock()
	defer c.mem.mu.Unlock()
	return maps.Clone(c.mem.positions)
}

// Calls tells how often a method has been called.
func (c *Collector[T]) Calls(name string) int {
	c.mem.mu.Lock()
	defer c.mem.mu.Unlock()
	return c.calls[name]
}

func (c *Collector[T]) called(call string) error {
	c.mem.mu.Lock()
	c.calls[call]++
	errs := c.faults[call][c.calls[call]]
	c.crashed = c.crashed || call != "Close" && c.crashAt[call] == c.calls[call]
	crashed := c.crashed && call != "Close"
	c.mem.mu.Unlock()
	switch {
	case crashed && call == "Write":
		// Of a plain error the engine would think that some row is at fault. After this one
		// it opens the sink anew, and hears there.
		return fmt.Errorf("%w: %w", ErrCrash, leat.ErrAborted)
	case crashed:
		return ErrCrash
	}
	if c.onCall != nil {
		if err := c.onCall(call); err != nil {
			errs = append(errs, err)
		}
	}
	err := errors.Join(errs...)
	if errors.Is(err, leat.ErrAborted) {
		c.open, c.offsets = nil, nil
	}
	return err
}

// Name implements leat.Named.
func (c *Collector[T]) Name() string { return c.name }

// Guarantee implements leat.Guaranteed.
func (c *Collector[T]) Guarantee() leat.Guarantee { return c.guarantee }

// Open implements leat.Sink.
func (c *Collector[T]) Open(context.Context, leat.Env) error {
	if err := c.called("Open"); err != nil {
		return err
	}
	c.open, c.offsets, c.epoch = nil, nil, map[string]int{}
	return nil
}

// Restore implements leat.Transactional.
func (c *Collector[T]) Restore(_ context.Context, partitions []string) (map[string]leat.Position, error) {
	if err := c.called("Restore"); err != nil {
		return nil, err
	}
	c.mem.mu.Lock()
	defer c.mem.mu.Unlock()
	out := map[string]leat.Position{}
	for _, p := range partitions {
		c.mem.epochs[p]++ // rule E2
		c.epoch[p] = c.mem.epochs[p]
		if at, ok := c.mem.positions[p]; ok {
			out[p] = at
		}
	}
	return out, nil
}

// Write implements leat.Sink.
func (c *Collector[T]) Write(ctx context.Context, b *leat.Batch[T]) error {
	if err := c.called("Write"); err != nil {
		return err
	}
	if c.slow > 0 {
		select {
		case <-time.After(c.slow):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	if c.rejectIf != nil {
		var refused leat.RowErrors
		for i, r := range b.Rows() {
			if err := c.rejectIf(r); err != nil {
				refused.Rows = append(refused.Rows, leat.RowError{Row: i, Err: err})
			}
		}
		if len(refused.Rows) > 0 {
			return &refused
		}
	}
	rows := make([]int, b.Len())
	for i := range rows {
		rows[i] = i
	}
	for _, o := range b.Origins(rows) {
		c.offsets = append(c.offsets, At{b.Partition(), o.Offset})
	}
	c.open = append(c.open, b.Rows()...)
	return nil
}

// Commit implements leat.Sink.
func (c *Collector[T]) Commit(_ context.Context, cp leat.Checkpoint) (bool, error) {
	if err := c.called("Commit"); err != nil {
		return false, err
	}
	if c.notYet != nil && !cp.Force && c.notYet(cp) {
		return false, nil
	}
	c.mem.mu.Lock()
	defer c.mem.mu.Unlock()
	n := c.calls["Commit"]
	if n == c.fenceAt {
		for p := range cp.Positions {
			c.mem.epochs[p]++
		}
	}
	var lost []string
	for p := range cp.Positions {
		if c.mem.epochs[p] != c.epoch[p] { // rule E3
			lost = append(lost, p)
		}
	}
	if len(lost) > 0 {
		c.open, c.offsets = nil, nil
		slices.Sort(lost)
		return false, leat.Fenced(lost...)
	}
	took, ambiguous := c.ambiguous[n]
	if !ambiguous || took {
		c.mem.rows = append(c.mem.rows, c.open...)
		c.mem.at = append(c.mem.at, c.offsets...)
		maps.Copy(c.mem.positions, cp.Positions)
	}
	c.open, c.offsets = nil, nil
	if ambiguous {
		return false, fmt.Errorf("the connection was lost at COMMIT (rule E4): %w", leat.ErrAborted)
	}
	return true, nil
}

// Close implements leat.Sink.
func (c *Collector[T]) Close() error {
	err := c.called("Close")
	c.open, c.offsets = nil, nil
	return err
}
