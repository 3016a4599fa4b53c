package engine

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/leatgo/leat/internal/store"
)

// cut is a numbered barrier: positions of all partitions between two batches of
// each (rule E9).
type cut struct {
	seq    uint64
	force  bool
	caught bool // the sources have nothing more for now
	lanes  []laneCut
	at     time.Time
	count  counters // of sources and stages; sinks add theirs when they pass it
	deltas []store.Delta
	clean  bool // everything read is delivered, and nothing comes any more (rule E7-4)

	stopped []laneCut // of these alone that is so: they are given up
}

type laneCut struct {
	lane *lane
	pos  Position
}

// clean are the partitions that a stop here leaves clean (rule E7-4): none while a sink holds
// more since an earlier life, since that came of its configuration.
func (l laneCut) clean() []string {
	if l.lane.behind(l.pos) {
		return nil
	}
	return l.lane.clean
}

// behind tells whether a sink has held more than pos since an earlier life.
func (l *lane) behind(pos Position) bool {
	return slices.ContainsFunc(l.held, func(held Position) bool { return held.Known() && (!pos.Known() || held.Next > pos.Next) })
}

// forSink gives the positions that the sink commits. Where it holds more since
// an earlier life, its own position stays (rule E7). The caller holds the lock.
func (c *cut) forSink(sink *Node) map[string]Position {
	out := map[string]Position{}
	for _, l := range c.lanes {
		if l.lane.gone || !reaches(l.lane.source, sink) {
			continue
		}
		p := l.pos
		if held := l.lane.held[sink.id]; held.Known() && (!p.Known() || held.Next > p.Next) {
			p = held
		}
		if p.Known() {
			out[l.lane.name] = p
		}
	}
	return out
}

// checkpoints is the checkpoint loop. It ends when everything is committed, or
// with the reason why the generation died.
func (g *generation) checkpoints() error {
	e := g.e
	timer := time.NewTimer(e.cfg.CheckpointEvery)
	defer timer.Stop()
	// Rule A7: the deadline is not this loop's, which may itself be what hangs: in
	// a busy lane, in the dead letters, in a source's Commit.
	defer context.AfterFunc(e.ctx, func() {
		late := time.NewTimer(e.cfg.DrainTimeout)
		defer late.Stop()
		select {
		case <-late.C:
			g.fail(fmt.Errorf("rule A7: the drain took longer than Config.DrainTimeout, %v; what is not committed is read again at the next start", e.cfg.DrainTimeout))
		case <-g.ctx.Done():
		}
	})()
	var final *cut
	for {
		select {
		case <-g.ctx.Done():
			return g.cause()
		case <-timer.C:
			timer.Reset(e.cfg.CheckpointEvery)
			if final == nil && (g.hasMoved() || g.hasDeferred()) {
				if err := g.takeInTime(); err != nil {
					return err
				}
			}
		case <-g.wake:
		}
		if err := g.completeCuts(); err != nil {
			return err
		}
		if err := g.revokeCuts(); err != nil {
			return err
		}
		switch {
		case final != nil:
			if g.isComplete(final) {
				return g.srcErr
			}
		case g.drained():
			// Rule A7: everything read is delivered; nothing comes any more.
			c, err := g.take(true, true)
			if err != nil {
				return err
			}
			c.clean = true
			if final = c; len(g.workers) == 0 {
				g.poke()
			}
		case g.caughtUpNow():
			// Rule A6: the source has nothing more for now.
			if _, err := g.take(false, true); err != nil {
				return err
			}
		case g.heavy.Load():
			if err := g.takeInTime(); err != nil {
				return err
			}
		}
	}
}

// takeInTime makes a cut that nobody has asked for.
func (g *generation) takeInTime() error {
	_, err := g.take(g.stateWaiting() > maxPendingState, false)
	return err
}

// whyFailed is why a call to the outside failed: when the generation died meanwhile,
// that cut it off. It is not for the store's errors: after one, what is saved is
// not known, so there is nothing to go back to.
func (g *generation) whyFailed(err error) error {
	if dead := g.cause(); dead != nil {
		return dead
	}
	return err
}

// cause is why the generation died.
func (g *generation) cause() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.dead
}

func (g *generation) hasMoved() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.moved
}

// hasDeferred tells whether a sink has answered "not yet" to the last cut it was
// asked for: it is asked again, also when no row comes (rules E9, F4).
func (g *generation) hasDeferred() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, w := range g.workers {
		if w.deferred {
			return true
		}
	}
	return false
}

// drained tells whether all sources have ended and all they sent is delivered.
func (g *generation) drained() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.reading > 0 || g.busy > 0 {
		return false
	}
	for _, l := range g.order {
		if l.due < l.issued {
			return false
		}
	}
	return true
}

// caughtUpNow tells whether a cut that CaughtUp asked for is due.
func (g *generation) caughtUpNow() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.caughtUp {
		return false
	}
	for _, l := range g.order {
		if l.due < l.goal {
			return false
		}
	}
	g.caughtUp = false
	return g.moved || len(g.cuts) > 0 // a sink may have deferred, or be about to
}

func (g *generation) isComplete(c *cut) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.committed >= c.seq
}

// take makes a cut while no lane is busy and puts it on every sink's queue.
// New deliveries wait for it; handlers do not (rules E9, E10).
func (g *generation) take(force, caughtUp bool) (*cut, error) {
	e := g.e
	g.mu.Lock()
	g.cutting = true
	for g.busy > 0 && g.dead == nil {
		if g.quiet == nil {
			g.quiet = make(chan struct{})
		}
		quiet := g.quiet
		g.mu.Unlock()
		select {
		case <-quiet:
		case <-g.ctx.Done():
		}
		g.mu.Lock()
	}
	if g.dead != nil {
		defer g.mu.Unlock()
		return nil, g.dead
	}
	e.seq++
	c := &cut{seq: e.seq, at: time.Now(), force: force || e.cfg.ForceCheckpoints, caught: caughtUp, count: g.count.clone()}
	for _, l := range g.order {
		c.lanes = append(c.lanes, laneCut{l, l.pos})
	}
	g.moved = false
	g.cuts = append(g.cuts, c)
	g.mu.Unlock()

	err := g.deltas(c)
	g.weighed.Store(g.stateSize())
	g.heavy.Store(false)
	if err == nil { // a sink must not hold a cut whose state is lost
		for _, d := range g.drivers {
			d.queue.push(item{cut: c})
		}
	}

	g.mu.Lock()
	g.cutting = false
	for _, l := range g.order {
		if l.ready[l.due] != nil && g.dead == nil {
			g.tasks.Go(func() {
				g.mu.Lock()
				g.drainLocked(l)
				g.mu.Unlock()
			})
		}
	}
	g.mu.Unlock()
	return c, err
}

const (
	// maxPendingState is how many bytes of state may wait for sinks that answer
	// "not yet" before they are forced (rule E9).
	maxPendingState = 8 << 20

	// maxGrowth is by how much state may grow before the next cut is taken.
	maxGrowth = 4 << 20
)

// weigh asks for a cut when the stages remember much more than at the last one. What has
// changed is in memory once more while it is saved, and a stage may keep it twice until then; how
// much comes within CheckpointEvery depends on the machine.
func (g *generation) weigh() {
	if grown := g.stateSize() - g.weighed.Load(); grown > maxGrowth && !g.heavy.Swap(true) {
		g.poke()
	}
}

// stateSize is about how much the stages that tell it remember.
func (g *generation) stateSize() (bytes int64) {
	for _, n := range g.e.plan.Nodes {
		if n.Kind == KindStage && n.Stage.State != nil && n.Stage.State.Size != nil {
			_ = guard(func() error { // only a hint: it is no reason to stop
				bytes += n.Stage.State.Size()
				return nil
			})
		}
	}
	return bytes
}

// stateWaiting is how much state waits for sinks that have not been forced yet.
func (g *generation) stateWaiting() (bytes int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, c := range g.cuts {
		if c.force {
			bytes = 0
			continue
		}
		for _, d := range c.deltas {
			bytes += len(d.Blob)
		}
	}
	return bytes
}

// When a stage is asked for its whole state instead of what has changed: when the changes
// since the last whole one are larger than that, but not for less than minDeltas bytes, or
// when there are maxPieces of them. So what is written is at most about three times what
// has changed, and what is read at a start at most about twice the state. Deltas that only
// add are as small as a snapshot: for them the number counts alone.
const (
	minDeltas = 1 << 20
	maxPieces = 1000
)

func (e *Engine) wantsSnapshot(n *Node, s store.Size) bool {
	if e.cfg.StatePieces > 0 {
		return s.Pieces >= e.cfg.StatePieces
	}
	return s.Pieces >= maxPieces || s.Deltas > max(minDeltas, s.Snapshot) && !n.Stage.State.AppendOnly
}

type stateOf struct{ stage, partition string }

// deltas asks the stages what has changed since the last cut (rule G12: state
// and positions are one cut).
func (g *generation) deltas(c *cut) error {
	for _, n := range g.e.plan.Nodes {
		if n.Kind != KindStage || n.Stage.State == nil {
			continue
		}
		for _, l := range c.lanes {
			if l.pos == l.lane.cutAt || !upstreamOf(n, l.lane.source) {
				continue
			}
			for _, home := range l.lane.homes() {
				d := store.Delta{Stage: n.Name, Partition: home}
				ask := n.Stage.State.Delta
				size, known := l.lane.sizes[stateOf{n.Name, home}]
				if !known { // from here on with what waits for sinks that answer "not yet"
					size = g.e.store.Size(d.Stage, d.Partition)
				}
				if g.e.wantsSnapshot(n, size) {
					ask, d.Full = n.Stage.State.Snapshot, true
				}
				err := guard(func() (err error) {
					d.Blob, err = ask(d.Partition)
					return err
				})
				if err != nil {
					return wrap(n, d.Partition, fmt.Errorf("saving its state: %w", err))
				}
				if d.Blob != nil || d.Full {
					c.deltas = append(c.deltas, d)
					size.Add(len(d.Blob), d.Full)
				}
				l.lane.sizes[stateOf{n.Name, home}] = size
			}
		}
	}
	for _, l := range c.lanes {
		l.lane.cutAt = l.pos
	}
	return nil
}

// completeCuts finds the newest cut that every sink holds, saves it and tells
// the sources (rule A3).
func (g *generation) completeCuts() error {
	e := g.e
	g.mu.Lock()
	least := e.seq
	for _, w := range g.workers {
		least = min(least, w.done)
	}
	n := 0
	for n < len(g.cuts) && g.cuts[n].seq <= least {
		n++
	}
	if n == 0 {
		g.mu.Unlock()
		return nil
	}
	whole := g.cuts[:n]
	g.cuts = g.cuts[n:]
	g.saving = true
	last := whole[n-1]
	// What was given up meanwhile is in the store, and perhaps another process's by now.
	lanes := slices.DeleteFunc(slices.Clone(last.lanes), func(l laneCut) bool { return l.lane.gone })
	count := last.count
	for _, w := range g.workers {
		t := count.nodes[w.node.id]
		own := w.passed[last.seq]
		t.Out, t.Rejected = own.Out, own.Rejected
		count.nodes[w.node.id] = t
		maps.DeleteFunc(count.reasons, func(k string, _ int64) bool { return strings.HasPrefix(k, w.node.Name+"\x00") })
		maps.Copy(count.reasons, w.bad[last.seq])
		for seq := range w.passed {
			if seq <= last.seq {
				delete(w.passed, seq)
				delete(w.bad, seq)
			}
		}
	}
	g.mu.Unlock()

	if err := e.letters.sync(g.ctx); err != nil { // rule B3-1
		return g.whyFailed(err)
	}
	cp := store.Checkpoint{Seq: last.seq, Positions: map[string]store.Position{}, Counters: e.storeCounters(count)}
	for _, l := range lanes {
		if l.pos.Known() {
			cp.Positions[l.lane.name] = store.Position(l.pos)
		}
	}
	cp.Deltas = needed(whole)
	for _, c := range whole {
		for _, l := range c.stopped {
			cp.Clean = append(cp.Clean, l.clean()...)
		}
	}
	if last.clean {
		for _, l := range lanes {
			cp.Clean = append(cp.Clean, l.clean()...)
		}
	}
	err := e.hit("engine/before-store")
	if err == nil {
		err = e.retry(g.ctx, "state store", "", nil, func() error { return e.store.Commit(g.ctx, cp) })
	}
	if err == nil {
		err = e.hit("engine/after-store")
	}
	if err != nil {
		e.mu.Lock()
		e.doubt = &cp
		e.mu.Unlock()
		if dead := g.cause(); dead != nil && e.store.Shared() {
			return dead // that cut it off; what is saved is asked for again
		}
		return g.storageFailed(err)
	}
	e.remember(cp)
	e.poison.forget(cp.Positions)
	e.mu.Lock()
	for _, l := range lanes {
		if l.pos.Known() {
			e.given[l.lane.name] = l.lane.given
		}
	}
	e.mu.Unlock()

	for _, n := range e.plan.Nodes {
		if n.Kind != KindSource {
			continue
		}
		own := Checkpoint{Seq: last.seq, Force: last.force, CaughtUp: last.caught, Positions: map[string]Position{}}
		for _, l := range lanes {
			if l.lane.source == n && l.pos.Known() {
				own.Positions[l.lane.local] = l.pos
			}
		}
		err := e.retry(g.ctx, n.Name, "", nil, func() error {
			return guard(func() error { return n.Source.Commit(g.ctx, own) })
		})
		if err != nil {
			return g.whyFailed(wrap(n, "", fmt.Errorf("told of checkpoint %d: %w", last.seq, asRewind(err))))
		}
	}
	g.mu.Lock()
	g.committed = last.seq
	g.complete = map[string]Position{}
	for _, l := range lanes {
		g.complete[l.lane.name] = l.pos
	}
	g.savedLocked(last)
	g.mu.Unlock()
	g.revoked()
	e.observe(Event{Kind: EventCheckpoint, Seq: last.seq, Duration: time.Since(last.at)})
	return nil
}

// needed are the pieces of state of cuts that are saved together, without those that a
// later snapshot among them replaces.
func needed(cuts []*cut) (out []store.Delta) {
	whole := map[stateOf]bool{}
	for _, c := range slices.Backward(cuts) {
		for _, d := range slices.Backward(c.deltas) {
			k := stateOf{d.Stage, d.Partition}
			if !whole[k] {
				out = append(out, d)
			}
			whole[k] = whole[k] || d.Full
		}
	}
	slices.Reverse(out)
	return out
}

// reasonsOf copies the reasons of one node.
func reasonsOf(c counters, n *Node) map[string]int64 {
	out := map[string]int64{}
	for k, v := range c.reasons {
		if strings.HasPrefix(k, n.Name+"\x00") {
			out[k] = v
		}
	}
	return out
}
