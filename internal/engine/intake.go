package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync/atomic"

	"github.com/leatgo/leat/internal/store"
)

// Intake is the engine as a source sees it; documented in package leat.
type Intake struct {
	g    *generation
	node *Node
	ctx  context.Context // the source's
}

// Tap is the source's; nil outside the test kit.
func (in *Intake) Tap() func(chunk any) { return in.node.Source.Tap }

// Env is the source's surroundings.
func (in *Intake) Env() Env { return in.g.e.env(in.node.Name) }

func qualify(source, partition string) string {
	if partition == "" {
		return source
	}
	return source + "/" + partition
}

// Partition is the qualified name of a partition of source n.
func (n *Node) Partition(local string) string { return qualify(n.Name, local) }

// Assign makes a lane for each partition and finds where it starts (rules E7,
// E7-1).
func (in *Intake) Assign(partitions []Partition) (out map[string]Position, err error) {
	g, e := in.g, in.g.e
	var names []string
	logs := map[string]string{}
	for _, p := range partitions {
		name := qualify(in.node.Name, p.Name)
		e.mu.Lock()
		given, fenced := e.fenced[name]
		if fenced && given != p.Given { // it has come back since
			delete(e.fenced, name)
			fenced = false
		}
		e.mu.Unlock()
		if fenced {
			continue
		}
		names = append(names, name)
		logs[name] = p.Log
	}
	if len(names) == 0 && len(partitions) > 0 {
		return nil, wrap(in.node, "", ErrFenced)
	}

	g.mu.Lock()
	for _, name := range names {
		g.assigning[name] = true
	}
	g.mu.Unlock()
	defer func() {
		g.mu.Lock()
		for _, name := range names {
			delete(g.assigning, name)
		}
		g.mu.Unlock()
	}()

	// What each sink holds. The call goes through the sink's queue: one call at
	// a time is its contract.
	held := map[*Node]map[string]Position{}
	for _, w := range g.workers {
		if w.node.Sink.Restore == nil || !reaches(in.node, w.node) {
			continue
		}
		at, err := in.restore(w, names)
		switch {
		case g.ctx.Err() != nil:
			return nil, context.Cause(g.ctx)
		case in.ctx.Err() != nil:
			return nil, in.ctx.Err()
		case err != nil:
			err = wrap(w.node, "", asRewind(err))
			g.fail(err)
			return nil, err
		}
		held[w.node] = at
	}

	// Behind the sinks: an older owner saves nothing that they do not hold.
	if err := g.takeOver(in.ctx, names); err != nil {
		return nil, err
	}

	out = map[string]Position{}
	var lanes []*lane
	defer func() {
		if err != nil { // the next life may be without them
			g.forget(lanes)
		}
	}()
	fresh := map[string]store.Position{}
	notes := map[string]store.Note{}
	g.mu.Lock()
	virgin := !g.delivered // else counters count what has been delivered, and stay
	g.mu.Unlock()
	for _, p := range partitions {
		name := qualify(in.node.Name, p.Name)
		if _, ok := logs[name]; !ok {
			continue
		}
		l, known, err := g.newLane(in.ctx, in.node, p, name, held, notes, virgin)
		lanes = append(lanes, l)
		if err != nil {
			if isRewind(err) {
				g.fail(err)
			}
			return nil, wrap(in.node, name, err)
		}
		if !known {
			fresh[name] = store.Position(l.start)
		}
		out[p.Name] = l.start
		if at, noted := fresh[name]; noted && Position(at).Known() {
			e.mu.Lock()
			e.given[name] = p.Given
			e.mu.Unlock()
		}
	}
	if err := g.noteStart(in.ctx, fresh, notes); err != nil {
		if isRewind(err) {
			g.fail(err)
		}
		return nil, err
	}
	// Only now may cuts have them: the store is never called twice at once for a partition.
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.dead != nil {
		return nil, g.dead
	}
	for _, l := range lanes {
		if g.lanes[l.name] != nil {
			return nil, wrap(in.node, l.name, errors.New("the source assigned this partition twice"))
		}
		g.lanes[l.name] = l
		delete(g.gone, l.name)
		g.order = append(g.order, l)
	}
	return out, nil
}

// restore asks a sink for partitions, in its turn. When it returns, the sink is not about
// to take any: once the source has gone they may be another process's, whom that
// would fence.
func (in *Intake) restore(w *worker, names []string) (at map[string]Position, err error) {
	e := in.g.e
	var begun atomic.Bool // or never to be
	done := make(chan struct{})
	w.driver.queue.push(item{call: func() {
		if !begun.CompareAndSwap(false, true) {
			return
		}
		defer close(done)
		err = e.retry(in.ctx, w.node.Name, "", nil, func() error {
			return guard(func() (err error) {
				at, err = w.node.Sink.Restore(in.g.ctx, names) // what is open in the sink may still be committed
				return err
			})
		})
	}})
	select {
	case <-done:
	case <-in.ctx.Done(): // also when the generation dies
		if begun.CompareAndSwap(false, true) {
			return nil, in.ctx.Err()
		}
		<-done
	}
	return at, err
}

// newLane decides where a partition starts and restores its state. It adds to notes what
// has to be in the store before the first row (rule E7-4).
func (g *generation) newLane(ctx context.Context, src *Node, p Partition, name string, held map[*Node]map[string]Position, notes map[string]store.Note, virgin bool) (_ *lane, storeKnows bool, _ error) {
	e := g.e
	l := &lane{id: strconv.FormatUint(rand.Uint64(), 36), source: src, name: name, local: p.Name, log: p.Log, given: p.Given, ready: map[uint64]*passage{}, sizes: map[stateOf]store.Size{}}
	l.held = make([]Position, len(e.plan.Nodes))

	var states []*Node
	allKeep := true // every sink keeps positions
	for _, n := range e.plan.Nodes {
		if n.Kind == KindStage && n.Stage.State != nil && upstreamOf(n, src) {
			states = append(states, n)
		}
	}
	e.mu.Lock() // a checkpoint may be completed meanwhile, by another source's rows
	stored, storeKnows := e.saved.Positions[name]
	e.mu.Unlock()
	start, first := Position{}, true
	consider := func(who string, at Position) error {
		if at.Known() && at.Log != p.Log { // rule A2-1
			return fmt.Errorf("rule A2-1: %s holds a position of log %q, but the source now reads log %q: "+
				"its folder, topic or ledger was replaced. To read the new one from its start, reset this partition: delete %s's positions of it and the state folder %s",
				who, at.Log, p.Log, who, e.cfg.StateDir)
		}
		if first || (start.Known() && (!at.Known() || at.Next < start.Next)) {
			start, first = at, false
		}
		return nil
	}
	for _, w := range g.workers {
		if !reaches(src, w.node) {
			continue
		}
		at, transactional := held[w.node]
		if !transactional {
			allKeep = false
			continue
		}
		stands := at[name]
		if !stands.Known() && slices.Contains(e.cfg.NewSinks, w.node.Name) {
			stands = Position(stored) // rule E7-4: it starts at the state's cut
		}
		if err := consider("sink "+w.node.Name, stands); err != nil {
			return l, false, err
		}
		if stands.Known() && !at[name].Known() {
			e.log.Info("a new sink starts where the pipeline stands", "sink", w.node.Name, "partition", name, "position", stored.Next)
		} else if at[name].Known() {
			l.ahead = max(l.ahead, at[name].Next)
		} else if storeKnows && Position(stored).Known() {
			// A new sink, one that was reset, or one that has lost its positions: nobody can tell.
			e.log.Warn("a sink holds nothing of a partition that was read before, and gets all of it from the start; if it is neither new nor reset, its positions are lost: stop, and restore them with its rows from a backup",
				"sink", w.node.Name, "partition", name, "read up to", stored.Next)
		}
		if src.Source.Replay == ReplayExact { // rule A2-2: skipping needs the same offsets
			l.held[w.node.id] = at[name]
		}
	}
	// Rule E7-1. The store takes part whenever it knows the partition, so that
	// counters stay exact; it must take part when a sink keeps no positions or a
	// stage has state, even if it knows nothing.
	base, whose := Position(stored), "the state folder"
	e.mu.Lock()
	given, since := e.given[name]
	e.mu.Unlock()
	if p.Kept.Known() && (p.Kept.Next > base.Next || !base.Known()) && len(states) == 0 && !(since && given == p.Given) {
		// Neither is ahead of a sink, so the later one counts: other processes may have had the
		// partition since this one's folder heard of it. If this one has had it ever since, it begins
		// where its counters stand (rule A8).
		base, whose = p.Kept, "the consumer group"
	}
	if storeKnows || !allKeep || len(states) > 0 {
		if err := consider(whose, base); err != nil {
			return l, false, err
		}
	}
	if len(states) > 0 && start != Position(stored) {
		return l, false, fmt.Errorf("rule E7-4: a sink holds less (up to %d) than the saved state of stage %s (up to %d), so the rows between would be missing from it: "+
			"name a sink that is new in Config.NewSinks, and it starts at the state's position; else restore the sink's data, or delete the state folder %s to start from the beginning", start.Next, states[0].Name, stored.Next, e.cfg.StateDir)
	}
	changed, err := e.notesFor(l, states)
	if err != nil {
		return l, false, err
	}
	maps.Copy(notes, changed)
	for _, n := range states {
		for _, home := range l.homes() {
			var blobs [][]byte
			err := e.retry(ctx, "state store", home, nil, func() (err error) {
				blobs, err = e.store.State(ctx, n.Name, home)
				return err
			})
			if errors.Is(err, ErrFenced) {
				err = g.gaveUp(err, l)
			}
			if err != nil {
				return l, false, err
			}
			if err := guard(func() error { return n.Stage.State.Restore(home, blobs) }); err != nil {
				return l, false, fmt.Errorf("stage %s: restoring its state: %w", n.Name, err)
			}
		}
	}
	g.weighed.Store(g.stateSize()) // what was restored is no growth

	l.start, l.pos, l.sent = start, start, start
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.dead != nil {
		return l, false, g.dead
	}
	if virgin && storeKnows && start != Position(stored) && !e.store.Shared() {
		// Counters belong to the store's positions; from elsewhere they would
		// count some rows twice or not at all.
		e.mu.Lock()
		e.past = e.past.plus(g.count, e.base)
		e.base = newCounters(len(e.plan.Nodes))
		g.count = newCounters(len(e.plan.Nodes))
		e.saved.Counters = nil // a rewind before the first checkpoint must not bring them back, on top of a base of zero
		e.mu.Unlock()
	}
	return l, storeKnows, nil
}

func upstreamOf(n, src *Node) bool {
	for _, in := range n.In {
		if in == src || upstreamOf(in, src) {
			return true
		}
	}
	return false
}

// Send gives the chunk its ticket and sends it on its way. A chunk that is not
// taken is released at once, so that each is released once.
func (in *Intake) Send(c *Chunk) error {
	taken, err := in.send(c)
	if !taken && c.Release != nil {
		c.Release()
	}
	return err
}

func (in *Intake) send(c *Chunk) (taken bool, _ error) {
	g := in.g
	name := qualify(in.node.Name, c.Partition)
	g.mu.Lock()
	l := g.lanes[name]
	gone := l == nil && g.gone[name] != nil || l != nil && l.closing
	g.mu.Unlock()
	if gone {
		return false, nil // rule H4: it was given up meanwhile
	}
	if l == nil {
		return false, wrap(in.node, name, errors.New("the source sent a chunk of a partition that it was not assigned"))
	}
	if c.Next <= c.First {
		return false, wrap(in.node, name, fmt.Errorf("the source sent a chunk of offsets %d to %d, which is empty", c.First, c.Next))
	}
	if err := g.admit(in.ctx, c.Bytes); err != nil {
		return false, err
	}
	c.lane = l
	p := &passage{gen: g, lane: l, chunk: c}
	p.charge.Store(max(c.Bytes, 1))

	g.mu.Lock()
	if g.dead != nil {
		defer g.mu.Unlock()
		return false, g.dead
	}
	if l.closing { // rule H4: it was given up while this one waited for room
		defer g.mu.Unlock()
		g.giveBackLocked(p)
		return false, nil
	}
	if l.sent.Known() && c.First < l.sent.Next { // rule A2
		defer g.mu.Unlock()
		g.giveBackLocked(p)
		return false, wrap(in.node, name, fmt.Errorf("rule A2: the source sent offset %d after it had sent everything up to %d", c.First, l.sent.Next))
	}
	l.sent = Position{Next: c.Next, Resume: c.Resume, Log: l.log}
	p.ticket = l.issued
	l.issued++
	l.waiting += p.charge.Load()
	l.batches++
	g.live[p] = struct{}{}
	g.e.emitting.Add(1)
	g.mu.Unlock()

	if err := g.emit(p); err != nil {
		g.e.emitting.Done()
		return true, err // rule K1: the lane fails with its generation
	}
	return true, nil
}

// admit waits for budget (rule A5). A chunk larger than the budget goes alone.
func (g *generation) admit(ctx context.Context, bytes int64) error {
	bytes = max(bytes, 1)
	g.mu.Lock()
	for {
		switch {
		case g.dead != nil:
			defer g.mu.Unlock()
			return g.dead
		case ctx.Err() != nil:
			g.mu.Unlock()
			return ctx.Err()
		case g.batches == 0 || (g.batches < g.e.cfg.BudgetBatches && g.bytes+bytes <= g.e.cfg.BudgetBytes):
			g.sendsLocked()
			g.batches++
			g.bytes += bytes
			g.mu.Unlock()
			return nil
		}
		if g.room == nil {
			g.room = make(chan struct{})
		}
		room := g.room
		g.mu.Unlock()
		select {
		case <-room:
		case <-ctx.Done():
		case <-g.ctx.Done():
		}
		g.mu.Lock()
	}
}

// adds is what a stage adds to a batch's memory: its rows, less the rows that it made them
// of, which are given up. Of several readers the first counts that; what a sink gets
// too is not given up.
func (n *Node) adds(in, out int64) (bytes int64) {
	bytes = out * n.Stage.RowBytes
	if from := n.In[0]; from.next[0] == n && !from.written {
		bytes -= in * n.Stage.InBytes
	}
	return bytes
}

// charge adds what stages have made out of a batch (rule A5); it never waits.
func (g *generation) charge(p *passage, bytes int64) {
	if bytes <= 0 || p.trial {
		return
	}
	p.charge.Add(bytes)
	g.mu.Lock()
	g.bytes += bytes
	p.lane.waiting += bytes
	g.mu.Unlock()
}

// discharge takes back what an earlier attempt has charged, before stages make it again.
func (g *generation) discharge(p *passage) {
	made := p.charge.Load() - max(p.chunk.Bytes, 1)
	if made <= 0 {
		return // most of the time
	}
	p.charge.Add(-made)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.bytes -= made
	p.lane.waiting -= made
	g.roomLocked()
}

// release gives a batch's budget back: every sink has written it.
func (g *generation) release(p *passage) {
	g.mu.Lock()
	delete(g.live, p)
	g.mu.Unlock()
	p.drop(g.e.plan.Nodes, func(*Node) bool { return false })
	if p.chunk.Release != nil { // before another chunk may come: the budget is of memory
		p.chunk.Release()
	}
	g.mu.Lock()
	p.lane.waiting -= p.charge.Load()
	p.lane.batches--
	g.giveBackLocked(p)
	g.mu.Unlock()
}

// giveBackLocked gives back what admit let in. The caller holds the lock.
func (g *generation) giveBackLocked(p *passage) {
	g.batches--
	g.bytes -= p.charge.Load()
	g.roomLocked()
}

// roomLocked wakes who waits for budget. The caller holds the lock.
func (g *generation) roomLocked() {
	if g.room != nil {
		close(g.room)
		g.room = nil
	}
}

// Held tells whether a partition should pause (rule A5-1).
func (in *Intake) Held(partition string) bool {
	g := in.g
	g.mu.Lock()
	defer g.mu.Unlock()
	l := g.lanes[qualify(in.node.Name, partition)]
	return l != nil && (l.holds > 0 || l.waiting > g.e.cfg.BudgetBytes/4 || l.batches > g.e.cfg.BudgetBatches/4)
}

// Ahead tells how far the sink that holds most is.
func (in *Intake) Ahead(partition string) int64 {
	g := in.g
	g.mu.Lock()
	defer g.mu.Unlock()
	if l := g.lanes[qualify(in.node.Name, partition)]; l != nil {
		return l.ahead
	}
	return 0
}

// hold marks a lane as being retried.
func (g *generation) hold(l *lane, by int) {
	g.mu.Lock()
	l.holds += by
	g.mu.Unlock()
}

// CaughtUp asks for a cut at what has been sent (rule A6).
func (in *Intake) CaughtUp() {
	if tap := in.Tap(); tap != nil {
		tap(nil)
	}
	g := in.g
	g.mu.Lock()
	for _, l := range g.order {
		if l.source == in.node {
			l.goal = l.issued
		}
	}
	g.caughtUp = true
	g.mu.Unlock()
	g.poke()
}
