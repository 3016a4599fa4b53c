package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/ThreeDotsLabs/watermill/message"
)

// passage is one chunk on its way from Send to the last sink: the engine's
// ticket.
type passage struct {
	gen    *generation
	lane   *lane
	ticket uint64
	chunk  *Chunk
	trial  bool // nothing of it is delivered (Intake.Try)
	sent   int  // messages sent for it; Send, then one watcher at a time
	state  atomic.Int32

	records int     // in the chunk, rejected ones included
	outs    []Batch // by node: what the node made of the chunk
	tally   []Tally // by node
	rejects []nodeRejects

	// Of a chunk with a Rerun only.
	aside []int64 // by node: rows held back before it
	home  *Chunk  // see atHome

	charge atomic.Int64 // bytes of the budget
	refs   atomic.Int32 // sinks that have not written it
}

type nodeRejects struct {
	node *Node
	rows []Reject
}

const (
	passageIdle int32 = iota
	passageWorking
	passageFiled
)

func (p *passage) isFiled() bool { return p.state.Load() == passageFiled }

// handle is the router's handler: one message is one batch (rule A1).
func (e *Engine) handle(msg *message.Message) error {
	ctx := msg.Context()
	p, ok := ctx.Value(passageKey{}).(*passage)
	if !ok {
		// Sending it again would not help, and nobody else would hear of it.
		err := errors.New("the message has lost its batch: middleware must pass the message's context on (rule K2)")
		e.mu.Lock()
		g := e.gen
		e.mu.Unlock()
		g.fail(&Error{Offset: -1, Err: err})
		return err
	}
	g := p.gen
	if g.ctx.Err() != nil {
		return nil // a dead generation (rule H4)
	}
	if !p.state.CompareAndSwap(passageIdle, passageWorking) {
		if p.isFiled() {
			// Rule K1: filing is final. A Duplicator ends here (rule K2).
			e.log.Warn("middleware delivered a batch twice; the second one was ignored", "batch", msg.UUID)
			return nil
		}
		return errors.New("middleware runs the handler twice at once for one batch")
	}
	if !g.begin() {
		p.state.Store(passageIdle)
		return nil
	}
	defer g.tasks.Done()
	err := g.process(ctx, p)
	switch {
	case err == nil:
		g.file(p)
		return nil
	case g.ctx.Err() != nil:
		p.state.Store(passageIdle)
		return nil
	case ctx.Err() != nil:
		// Middleware's own deadline (Timeout): the batch is sent again.
		p.state.Store(passageIdle)
		return err
	default:
		g.fail(err)
		p.state.Store(passageIdle)
		return nil
	}
}

// begin counts a task in, unless the generation is dead: after its end has
// begun to wait, no new task may start.
func (g *generation) begin() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.dead != nil {
		return false
	}
	g.tasks.Add(1)
	return true
}

// process decodes the chunk and runs the stateless stages, in parallel with
// other batches (rule A4).
func (g *generation) process(ctx context.Context, p *passage) error {
	slot := slot{g: g, p: p}
	if err := slot.take(ctx); err != nil {
		return err
	}
	defer slot.give()

	g.discharge(p)
	p.outs = make([]Batch, len(g.e.plan.Nodes))
	p.tally = make([]Tally, len(g.e.plan.Nodes))
	p.rejects, p.aside = nil, nil
	src := p.lane.source
	var b Batch
	err := g.e.retry(ctx, src.Name, p.lane.name, slot.pause, func() error {
		return guard(func() (err error) {
			b, err = p.chunk.Decode(ctx)
			return err
		})
	})
	if err != nil {
		return &Error{Node: src.Name, Partition: p.lane.name, Offset: p.chunk.First, Class: Decode, Err: err}
	}
	p.took(src, b)
	p.records = b.Len() + len(b.Rejects())
	p.tally[src.id] = Tally{In: int64(p.records), Out: int64(b.Len()), Rejected: int64(len(b.Rejects()))}

	for _, n := range g.e.plan.Nodes {
		if n.ordered {
			continue
		}
		switch n.Kind {
		case KindMerge:
			g.merge(p, n)
		case KindStage:
			in := p.input(n)
			if in == nil || p.trial && n.Stage.Blocking {
				continue // a trial does no I/O and sees nothing behind it
			}
			if n.Stage.Blocking {
				slot.give()
			}
			slot.unused = n.Stage.Blocking
			err := g.stateless(ctx, p, n, in, slot.pause)
			slot.unused = false
			if err != nil {
				return err
			}
			if n.Stage.Blocking {
				if err := slot.take(ctx); err != nil {
					return err
				}
			}
		}
	}
	p.drop(g.e.plan.Nodes, func(n *Node) bool { return n.keep }) // while it waits for its turn, the batch holds what it needs
	return nil
}

// drop gives back what nodes made of the chunk, but for those to be kept.
func (p *passage) drop(nodes []*Node, keep func(*Node) bool) {
	for _, n := range nodes {
		if b := p.outs[n.id]; b != nil && !keep(n) {
			b.Release()
			p.outs[n.id] = nil
		}
	}
}

// slot is one of the few places for decoding; it is given back before waiting
// for anything.
type slot struct {
	g      *generation
	p      *passage
	held   bool
	unused bool // a stage that waits for I/O goes without
}

func (s *slot) take(ctx context.Context) error {
	select {
	case s.g.e.slots <- struct{}{}:
		s.held = true
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (s *slot) give() {
	if s.held {
		<-s.g.e.slots
		s.held = false
	}
}

// pause is for retry: no slot while waiting, and the partition is held
// (rule A5-1).
func (s *slot) pause(waiting bool) {
	if waiting {
		s.give()
		s.g.hold(s.p.lane, +1)
		return
	}
	s.g.hold(s.p.lane, -1)
	if s.unused {
		return
	}
	_ = s.take(s.g.ctx) // on failure the next attempt sees the dead context
}

// input is what node n gets of the chunk; nil when there is nothing.
func (p *passage) input(n *Node) Batch {
	b := p.outs[n.In[0].id]
	if b == nil || b.Len() == 0 {
		return nil
	}
	if p.chunk.Rerun != nil {
		return p.rerun(n.In[0], n, b)
	}
	return b
}

// took notes what a node made.
func (p *passage) took(n *Node, out Batch) {
	p.outs[n.id] = out
	if r := out.Rejects(); len(r) > 0 {
		p.rejects = append(p.rejects, nodeRejects{n, r})
	}
}

func (g *generation) merge(p *passage, n *Node) {
	var parts []Batch
	rows := 0
	for _, in := range n.In {
		b := p.outs[in.id]
		if b != nil && b.Len() > 0 && p.chunk.Rerun != nil {
			b = p.rerun(in, n, b)
		}
		if b != nil && b.Len() > 0 {
			parts = append(parts, b)
			rows += b.Len()
		}
	}
	if len(parts) == 0 {
		return
	}
	p.outs[n.id] = n.Merge(parts)
	p.tally[n.id] = Tally{In: int64(rows), Out: int64(rows)}
}

// stateless runs a pure stage. A permanent error of the whole batch is pinned
// on the rows at fault by halving (rules A9, B5).
func (g *generation) stateless(ctx context.Context, p *passage, n *Node, in Batch, pause func(bool)) error {
	run := func(b Batch) (out Batch, err error) {
		err = g.e.retry(ctx, n.Name, p.lane.name, pause, func() error {
			return guard(func() (err error) {
				out, err = n.Stage.Process(ctx, b)
				return err
			})
		})
		return out, err
	}
	var bad []Reject
	var badRows []int
	var find func(i, j int) error
	find = func(i, j int) error {
		_, err := run(in.Slice(i, j))
		if err == nil || ctx.Err() != nil || transientGaveUp(err) {
			if err == nil {
				return nil
			}
			return err
		}
		if j-i == 1 {
			bad = append(bad, rejectOf(in, i, Transform, err))
			badRows = append(badRows, i)
			return nil
		}
		mid := (i + j) / 2
		if err := find(i, mid); err != nil {
			return err
		}
		return find(mid, j)
	}
	rest := in
	out, err := run(rest)
	for err != nil {
		if ctx.Err() != nil || transientGaveUp(err) {
			return err
		}
		before := len(badRows)
		if rest.Len() == in.Len() {
			if ferr := find(0, in.Len()); ferr != nil {
				return ferr
			}
		}
		if len(badRows) == before {
			// Each row alone passes, together they do not: not a row's fault.
			return &Error{Node: n.Name, Partition: p.lane.name, Offset: p.chunk.First, Class: Transform, Err: err}
		}
		rest = in.Without(badRows)
		if rest.Len() == 0 {
			break
		}
		out, err = run(rest)
	}
	if len(bad) > 0 {
		p.rejects = append(p.rejects, nodeRejects{n, bad})
	}
	g.staged(p, n, in.Len(), len(bad), out)
	return nil
}

// transientGaveUp: the retries are used up, which is not a row's fault.
func transientGaveUp(err error) bool { return IsTransient(err) }

// staged takes note of what a stage made of n rows.
func (g *generation) staged(p *passage, n *Node, in, alreadyBad int, out Batch) {
	t := Tally{In: int64(in), Rejected: int64(alreadyBad)}
	if out != nil {
		p.took(n, out)
		t.Out = int64(out.Len())
		t.Rejected += int64(len(out.Rejects()))
		sources := int64(out.Inputs())
		t.Added = t.Out - sources
		t.Filtered = t.In - t.Rejected - sources
		t.settle()
		g.charge(p, n.adds(t.In, t.Out))
	}
	p.tally[n.id] = t
}

// rejectOf refuses row i of a batch.
func rejectOf(b Batch, i int, class Class, err error) Reject {
	r := Reject{Record: b.Trace().Record(i), Ordinal: b.Trace().Ordinal(i), Class: class, Err: err, Row: b.RowJSON(i)}
	var p *PanicError
	if errors.As(err, &p) {
		r.Stack = p.Stack
	}
	return r
}

// rejectedRecords lists the records that were rejected, ascending, once each.
func (p *passage) rejectedRecords() []int {
	var out []int
	for _, r := range p.rejects {
		for _, row := range r.rows {
			out = append(out, row.Record)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func (p *passage) String() string { return fmt.Sprintf("%s#%d", p.lane.name, p.ticket) }
