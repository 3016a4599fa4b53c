package engine

import "github.com/leatgo/leat/internal/store"

// lane is one partition in one generation: where it is and what is due next.
// Its fields are guarded by generation.mu, but held and start, which do not
// change.
type lane struct {
	id     string // no other lane has had it
	source *Node
	name   string // qualified
	local  string // as the source says it
	log    string
	given  uint64 // see leat.Partition
	start  Position
	ahead  int64      // the largest offset that a sink stood at (rule E7)
	held   []Position // by sink node: what the sink held at the start (rule E7)
	clean  []string   // partitions that a clean stop leaves clean (rule E7-4)

	issued uint64                 // tickets given out
	due    uint64                 // the ticket to be delivered next
	ready  map[uint64]*passage    // the reorder buffer: filed and not due yet
	busy   bool                   // somebody drains it
	pos    Position               // everything before it is delivered
	sent   Position               // everything before it is sent
	goal   uint64                 // CaughtUp waits for this ticket
	cutAt  Position               // pos at the last cut; the checkpoint loop's own
	sizes  map[stateOf]store.Size // of state, with what is not saved yet; the checkpoint loop's own

	closing bool // it is being given up: nothing more is sent (rule H3)
	gone    bool // it was given up: later cuts leave it out

	waiting int64 // bytes sent and not released
	batches int   // the same in batches
	holds   int   // retries under way
}

// file puts a processed batch in the reorder buffer. Whoever files the one that
// is due delivers all that are ready; nobody waits (rule K3).
func (g *generation) file(p *passage) {
	g.mu.Lock()
	p.state.Store(passageFiled)
	p.lane.ready[p.ticket] = p
	g.drainLocked(p.lane)
	g.mu.Unlock()
}

// drainLocked delivers what is due. It is called with the lock, gives it up
// while it works (rule E10), and returns with it.
func (g *generation) drainLocked(l *lane) {
	if l.busy {
		return
	}
	l.busy = true
	g.busy++
	for g.dead == nil && !g.cutting {
		p := l.ready[l.due]
		if p == nil {
			break
		}
		delete(l.ready, l.due)
		g.mu.Unlock()
		err := guard(func() error { return g.deliver(p) })
		g.mu.Lock()
		if err != nil {
			g.failLocked(wrap(l.source, l.name, err))
			break
		}
		l.due++
		l.pos = Position{Next: p.chunk.Next, Resume: p.chunk.Resume, Log: l.log}
		g.moved, g.delivered = true, true
		if p.aside != nil {
			p.countAside(g.e.plan.Nodes)
		}
		for i, t := range p.tally {
			g.count.nodes[i].add(t)
		}
		for _, r := range p.rejects {
			g.count.reject(r.node, r.rows)
		}
	}
	l.busy = false
	g.busy--
	if g.busy == 0 && g.quiet != nil {
		close(g.quiet)
		g.quiet = nil
	}
	if (g.caughtUp || g.reading == 0) && l.due >= l.goal || len(g.revoking) > 0 {
		g.poke()
	}
}

// deliver does what has to happen in order: letters, breaker, stages with
// state, and the hand-over to the sinks.
func (g *generation) deliver(p *passage) error {
	for _, n := range g.e.plan.Nodes {
		if !n.ordered {
			continue
		}
		switch n.Kind {
		case KindMerge:
			g.merge(p, n)
		case KindStage:
			in := p.input(n)
			if in == nil {
				continue
			}
			var err error
			if n.Stage.State != nil {
				err = g.stateful(p, n, in)
			} else {
				err = g.stateless(g.ctx, p, n, in, nil)
			}
			if err != nil {
				return err
			}
		}
	}
	if p.chunk.Rerun != nil {
		p.settle()
	}
	bad := p.rejectedRecords()
	var to []item
	for _, r := range p.rejects {
		later, err := g.e.letters.refuse(g.ctx, p, r.node, r.rows, nil)
		if err != nil {
			return err
		}
		if len(later) > 0 {
			to = append(to, item{p: p, letters: later})
		}
	}
	g.mu.Lock()
	err := g.breaker.rows(p.records, bad)
	g.mu.Unlock()
	if err != nil {
		return &Error{Node: p.lane.source.Name, Partition: p.lane.name, Offset: p.chunk.First, Err: err}
	}

	for _, w := range g.workers {
		b := p.input(w.node)
		if b == nil {
			continue
		}
		it := item{w: w, p: p}
		it.batch, it.held = g.unheld(p, w, b)
		to = append(to, it)
	}
	p.drop(g.e.plan.Nodes, func(n *Node) bool { return n.written })
	g.e.observe(Event{Kind: EventBatch, Node: p.lane.source.Name, Partition: p.lane.name, Rows: p.records, Rejected: len(bad), Bytes: p.charge.Load()})
	if len(to) == 0 {
		g.release(p)
		return nil
	}
	p.refs.Store(int32(len(to)))
	for _, it := range to {
		d := g.joinedDriver()
		if it.w != nil {
			d = it.w.driver
		}
		d.queue.push(it)
	}
	return nil
}

// unheld drops the rows that a sink holds from an earlier life (rule E7). They
// count as delivered, or as rejected when the letters say so.
func (g *generation) unheld(p *passage, w *worker, b Batch) (Batch, Tally) {
	held := p.lane.held[w.node.id]
	if !held.Known() || p.chunk.First >= held.Next {
		return b, Tally{}
	}
	records := make([]int, b.Len())
	for i := range records {
		records[i] = b.Trace().Record(i)
	}
	drop := 0
	var t Tally
	for i, o := range locate(p.chunk, records) {
		if o.Offset >= held.Next {
			break // offsets grow
		}
		drop++
		if g.e.letters.has(g.ctx, g.e.letterID(w.node, p.lane.name, o.Offset, b.Trace().Ordinal(i))) {
			t.Rejected++
		} else {
			t.Out++
		}
	}
	return b.Slice(drop, b.Len()), t
}

// stateful runs a stage that remembers. It can't be asked twice within one
// life: what fails is found over a rewind (rule E8), first in which batch, then
// which row.
func (g *generation) stateful(p *passage, n *Node, in Batch) error {
	e := g.e
	in, condemned := e.poison.strain(n, p.chunk, in)
	if len(condemned) > 0 {
		p.rejects = append(p.rejects, nodeRejects{n, condemned})
	}
	if in.Len() == 0 {
		p.tally[n.id] = Tally{In: int64(len(condemned)), Rejected: int64(len(condemned))}
		return nil
	}
	step := in.Len()
	if e.poison.careful(n, p.lane.name, p.chunk.First) {
		step = 1
	}
	var outs []Batch
	for i := 0; i < in.Len(); i += step {
		part := in.Slice(i, i+step)
		p.atHome(n, part)
		var out Batch
		err := guard(func() (err error) {
			out, err = n.Stage.Process(g.ctx, part)
			return err
		})
		if err == nil {
			p.away(out)
			outs = append(outs, out)
			continue
		}
		if IsTransient(err) || g.ctx.Err() != nil {
			return &rewind{cause: wrap(n, p.lane.name, err)}
		}
		if part.Len() == 1 {
			e.poison.condemn(n, p.chunk, rejectOf(part, 0, Transform, err))
		} else {
			e.poison.beCareful(n, p.lane.name, p.chunk.Next)
		}
		return &rewind{cause: wrap(n, p.lane.name, err), named: true}
	}
	t := Tally{In: int64(in.Len() + len(condemned)), Rejected: int64(len(condemned))}
	for _, out := range outs {
		t.Out += int64(out.Len())
		t.Rejected += int64(len(out.Rejects()))
		sources := int64(out.Inputs())
		t.Added += int64(out.Len()) - sources
		if r := out.Rejects(); len(r) > 0 {
			p.rejects = append(p.rejects, nodeRejects{n, r})
		}
	}
	t.Filtered = t.In + t.Added - t.Out - t.Rejected
	t.settle()
	p.tally[n.id] = t
	g.charge(p, n.adds(t.In, t.Out))
	g.weigh()
	if len(outs) == 1 {
		p.outs[n.id] = outs[0]
		return nil
	}
	p.outs[n.id] = n.Stage.Concat(outs)
	return nil
}
