package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// revocation is partitions that a source gives up in good order (rule H3).
type revocation struct {
	lanes []*lane
	cut   uint64 // the forced one that covers them; 0: not taken yet
	done  chan struct{}
}

// Revoke is documented in package leat.
func (in *Intake) Revoke(ctx context.Context, partitions []string) error {
	g, e := in.g, in.g.e
	g.mu.Lock()
	if p := in.assigning(partitions); p != "" {
		// A sink that takes it over only now would fence the one who gets it.
		why := wrap(in.node, p, errors.New("rule H3: it is given up while the sinks are taking it over"))
		g.failLocked(&rewind{cause: why, named: true})
		g.mu.Unlock()
		<-g.over
		return why
	}
	r := &revocation{lanes: in.lanesOf(partitions), done: make(chan struct{})}
	if len(r.lanes) == 0 {
		g.mu.Unlock()
		return nil
	}
	for _, l := range r.lanes {
		l.closing = true // what is sent from now on is dropped (rule H4)
	}
	if g.dead == nil {
		g.revoking = append(g.revoking, r)
	}
	g.mu.Unlock()
	g.poke()

	var why error
	select {
	case <-r.done:
		return nil
	case <-ctx.Done():
		why = context.Cause(ctx)
	case <-g.over:
		// Its last cut may have covered them.
		switch {
		case r.isDone() || g.hasCommitted(r.lanes):
			return nil
		default:
			return fmt.Errorf("the pipeline stopped or went back before the partitions could be given up: %w", g.cause())
		}
	}
	if r.isDone() { // both at once
		return nil
	}
	why = wrap(in.node, r.lanes[0].name, fmt.Errorf("rule H3: partitions could not be drained and committed in time, so they are given up uncommitted: %w", why))
	g.fail(&rewind{cause: why, named: true}) // the next attempt is without them
	e.log.Warn("giving partitions up took too long", "partitions", names(r.lanes))
	<-g.over
	return why
}

// Lost is documented in package leat.
func (in *Intake) Lost(partitions []string) {
	g := in.g
	g.mu.Lock()
	if p := in.assigning(partitions); p != "" {
		g.failLocked(&rewind{cause: wrap(in.node, p, fmt.Errorf("it was taken away while the sinks were taking it over: %w", ErrFenced)), named: true})
		g.mu.Unlock()
		return
	}
	lost := in.lanesOf(partitions)
	g.mu.Unlock()
	if len(lost) == 0 {
		return
	}
	g.e.log.Warn("partitions are another member's; going back without them", "partitions", names(lost))
	g.fail(&rewind{cause: &Error{Node: in.node.Name, Partition: lost[0].name, Offset: -1,
		Err: fmt.Errorf("%d partitions were taken away: %w", len(lost), ErrFenced)}, named: true})
}

// lanesOf are those of the partitions that are assigned. The caller holds the lock.
func (in *Intake) lanesOf(partitions []string) []*lane {
	var out []*lane
	for _, p := range partitions {
		if l := in.g.lanes[qualify(in.node.Name, p)]; l != nil {
			out = append(out, l)
		}
	}
	return out
}

// assigning is one of the partitions that Assign is at; "" for none. The caller holds the lock.
func (in *Intake) assigning(partitions []string) string {
	for _, p := range partitions {
		if name := qualify(in.node.Name, p); in.g.assigning[name] {
			return name
		}
	}
	return ""
}

func (r *revocation) isDone() bool {
	select {
	case <-r.done:
		return true
	default:
		return false
	}
}

// hasCommitted tells whether all that was sent of lanes is in a complete cut.
func (g *generation) hasCommitted(lanes []*lane) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return !slices.ContainsFunc(lanes, func(l *lane) bool { return l.due < l.issued || l.pos != g.complete[l.name] })
}

// forget drops what stages remember of lanes that are not this process's any more, or may not be.
func (g *generation) forget(lanes []*lane) {
	for _, n := range g.e.plan.Nodes {
		if n.Kind != KindStage || n.Stage.State == nil {
			continue
		}
		for _, l := range lanes {
			if !upstreamOf(n, l.source) {
				continue
			}
			for _, home := range l.homes() {
				if err := guard(func() error { return n.Stage.State.Restore(home, nil) }); err != nil {
					g.e.log.Warn("a stage could not forget a partition", "stage", n.Name, "partition", home, "error", err)
				}
			}
		}
	}
}

// revokeCuts takes the cut that revocations wait for, once all of theirs is delivered.
func (g *generation) revokeCuts() error {
	g.mu.Lock()
	var ready []*revocation
	for _, r := range g.revoking {
		if r.cut == 0 && !slices.ContainsFunc(r.lanes, func(l *lane) bool { return l.due < l.issued }) {
			ready = append(ready, r)
		}
	}
	g.mu.Unlock()
	if len(ready) == 0 {
		return nil
	}
	c, err := g.take(true, false)
	if err != nil {
		return err
	}
	g.mu.Lock()
	for _, r := range ready {
		r.cut = c.seq
		for _, l := range c.lanes {
			if slices.Contains(r.lanes, l.lane) {
				c.stopped = append(c.stopped, l)
			}
		}
	}
	g.mu.Unlock()
	if len(g.drivers) == 0 {
		g.poke()
	}
	return nil
}

// revoked takes the lanes of revocations away that the complete cut covers.
func (g *generation) revoked() {
	var done []*revocation
	g.mu.Lock()
	g.revoking = slices.DeleteFunc(g.revoking, func(r *revocation) bool {
		if r.cut == 0 || r.cut > g.committed {
			return false
		}
		for _, l := range r.lanes {
			delete(g.lanes, l.name)
			delete(g.complete, l.name)
			l.gone = true
			g.gone[l.name] = l
		}
		g.order = slices.DeleteFunc(g.order, func(l *lane) bool { return slices.Contains(r.lanes, l) })
		done = append(done, r)
		return true
	})
	g.mu.Unlock()
	for _, r := range done {
		g.forget(r.lanes) // before anybody can assign them again
		g.e.log.Info("partitions given up", "partitions", names(r.lanes))
		close(r.done)
	}
}

func names(lanes []*lane) []string {
	out := make([]string, len(lanes))
	for i, l := range lanes {
		out[i] = l.name
	}
	return out
}

// LocalState is documented in package leat.
func (in *Intake) LocalState() string {
	if in.g.e.sharedState() {
		return ""
	}
	for _, n := range in.g.e.plan.Nodes {
		if n.Kind == KindStage && n.Stage.State != nil && upstreamOf(n, in.node) {
			return n.Name
		}
	}
	return ""
}

// sharedState tells whether state and positions are kept where other processes see them.
func (e *Engine) sharedState() bool { return e.store.Shared() }

var errEnded = errors.New("the generation has ended")
