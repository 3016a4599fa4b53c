package engine

import (
	"maps"
	"strings"
)

// Tally counts the rows of one node: In + Added = Out + Rejected + Filtered
// (rule A8).
type Tally struct{ In, Out, Rejected, Filtered, Added int64 }

func (t *Tally) add(o Tally) {
	t.In += o.In
	t.Out += o.Out
	t.Rejected += o.Rejected
	t.Filtered += o.Filtered
	t.Added += o.Added
}

func (t Tally) negated() Tally {
	return Tally{-t.In, -t.Out, -t.Rejected, -t.Filtered, -t.Added}
}

// Set sets one of the counts by its name in the store; see SplitCounter.
func (t *Tally) Set(count string, rows int64) {
	switch count {
	case "in":
		t.In = rows
	case "out":
		t.Out = rows
	case "rejected":
		t.Rejected = rows
	case "filtered":
		t.Filtered = rows
	case "added":
		t.Added = rows
	}
}

// settle counts what a stage both kept and rejected of one row as added.
func (t *Tally) settle() {
	if t.Filtered < 0 {
		t.Added, t.Filtered = t.Added-t.Filtered, 0
	}
}

// counters are all counts at one moment. They are part of the checkpoint, so
// that a replay does not count twice.
type counters struct {
	nodes   []Tally          // by node; of sinks only Out, Rejected, and Filtered for rows that come back (Rerun)
	reasons map[string]int64 // by node and class/column/rule
}

func newCounters(nodes int) counters {
	return counters{nodes: make([]Tally, nodes), reasons: map[string]int64{}}
}

func (c counters) clone() counters {
	return counters{nodes: append([]Tally(nil), c.nodes...), reasons: maps.Clone(c.reasons)}
}

// plus adds what c counts beyond base.
func (t counters) plus(c, base counters) counters {
	out := t.clone()
	for i := range out.nodes {
		out.nodes[i].add(c.nodes[i])
		out.nodes[i].add(base.nodes[i].negated())
	}
	for k, v := range c.reasons {
		out.reasons[k] += v - base.reasons[k]
	}
	return out
}

// reason is the key of a reject in statistics: class/column/rule.
func reason(r Reject) string {
	column, rule := fieldOf(r.Err)
	if column == "" {
		column = "-"
	}
	if rule == "" {
		rule = "-"
		if r.Stack != nil {
			rule = "panic"
		}
	}
	return string(r.Class) + "/" + column + "/" + rule
}

func (c counters) reject(n *Node, rows []Reject) {
	for _, r := range rows {
		c.reasons[n.name(reason(r))]++
	}
}

// name is the key of one of n's counters.
func (n *Node) name(counter string) string { return n.Name + "\x00" + counter }

// In the store a counter is named node\x00count; reasons are node\x00?reason.
func (e *Engine) storeCounters(c counters) map[string]int64 {
	out := map[string]int64{}
	for i, t := range c.nodes {
		n := e.plan.Nodes[i]
		for k, v := range map[string]int64{"in": t.In, "out": t.Out, "rejected": t.Rejected, "filtered": t.Filtered, "added": t.Added} {
			if v != 0 {
				out[n.name(k)] = v
			}
		}
	}
	for k, v := range c.reasons {
		name, why, _ := strings.Cut(k, "\x00")
		out[name+"\x00?"+why] = v
	}
	return out
}

func (e *Engine) loadCounters(saved map[string]int64) counters {
	c := newCounters(len(e.plan.Nodes))
	for k, v := range saved {
		name, what, why := SplitCounter(k)
		if what == "" {
			c.reasons[name+"\x00"+why] = v
			continue
		}
		for i, n := range e.plan.Nodes {
			if n.Name != name {
				continue
			}
			c.nodes[i].Set(what, v)
		}
	}
	return c
}

// balanced tells whether rule A8 holds for c: for counters of another graph, in which a
// stage had another name or a sink was missing, it does not.
func (e *Engine) balanced(c counters) bool {
	for i, t := range c.nodes {
		if n := e.plan.Nodes[i]; n.Kind == KindSink {
			t = e.pathTally(n, c)
		}
		if t.In+t.Added != t.Out+t.Rejected+t.Filtered {
			return false
		}
	}
	return true
}

// Stats is a snapshot for people; documented in package leat.
type Stats struct {
	Nodes     []NodeStats
	Rejected  map[string]int64
	Run       RunStats
	InFlight  int64
	Batches   int
	Committed uint64
	Positions map[string]Position
	Times
}

// NodeStats is documented in package leat.
type NodeStats struct {
	Name                               string
	Kind                               string
	In, Out, Rejected, Filtered, Added int64
}

// RunStats is documented in package leat.
type RunStats struct {
	Nodes    []NodeStats
	In       int64
	Out      map[string]int64
	Rejected map[string]int64
	Rewinds  int
}

// Stats may be called at any time.
func (e *Engine) Stats() Stats {
	e.mu.Lock()
	g, c, base, past, rewinds := e.gen, e.base, e.base, e.past, e.rewinds
	times := e.times
	e.mu.Unlock()
	s := Stats{Rejected: map[string]int64{}, Positions: map[string]Position{},
		Run: RunStats{Out: map[string]int64{}, Rejected: map[string]int64{}, Rewinds: rewinds}}
	pending := true // its state and its dead letters are not open yet
	if g != nil {
		g.mu.Lock()
		c = g.count.clone()
		s.InFlight, s.Batches = g.bytes, g.batches
		s.Committed = g.committed
		for name, p := range g.complete {
			s.Positions[name] = p
		}
		pending = !g.opened || g.pendingLocked()
		e.mu.Lock() // inside the other lock, so that they fit the counts
		base, past, times = e.base, e.past, e.times
		e.mu.Unlock()
		g.mu.Unlock()
	}
	s.Times = times.public(pending)
	run := past.plus(c, base)
	for i, n := range e.plan.Nodes {
		t, own := c.nodes[i], run.nodes[i]
		if n.Kind == KindSink {
			t = e.pathTally(n, c)
			s.Run.Out[n.Name] = own.Out
			own.In = own.Out + own.Rejected + own.Filtered
		}
		if n.Kind == KindSource {
			s.Run.In += own.In
		}
		s.Nodes = append(s.Nodes, n.stats(t))
		s.Run.Nodes = append(s.Run.Nodes, n.stats(own))
	}
	for k, v := range c.reasons {
		_, why, _ := strings.Cut(k, "\x00")
		s.Rejected[why] += v
	}
	for k, v := range run.reasons {
		_, why, _ := strings.Cut(k, "\x00")
		if v != 0 {
			s.Run.Rejected[why] += v
		}
	}
	return s
}

func (n *Node) stats(t Tally) NodeStats {
	return NodeStats{n.Name, [...]string{"source", "stage", "merge", "sink"}[n.Kind],
		t.In, t.Out, t.Rejected, t.Filtered, t.Added}
}

// pathTally is the balance of one sink over its whole way (rule A8): what its
// sources read, what was rejected, filtered and added on the way to it. A node
// that several of its readers pass on to the sink adds its rows once for each
// but the first.
func (e *Engine) pathTally(sink *Node, c counters) Tally {
	own := c.nodes[sink.id]
	t := Tally{Out: own.Out, Rejected: own.Rejected, Filtered: own.Filtered}
	for _, n := range e.plan.Nodes {
		if n == sink || !reaches(n, sink) {
			continue
		}
		u := c.nodes[n.id]
		if n.Kind == KindSource {
			t.In += u.In
		}
		t.Rejected += u.Rejected
		t.Filtered += u.Filtered
		t.Added += u.Added
		ways := 0
		for _, next := range n.next {
			if reaches(next, sink) {
				ways++
			}
		}
		t.Added += int64(ways-1) * u.Out
	}
	return t
}

// SplitCounter is what a counter in the store is about: a node, and either one of its
// counts (in, out, rejected, filtered, added) or a reason of rejects.
func SplitCounter(name string) (node, count, reason string) {
	node, count, _ = strings.Cut(name, "\x00")
	if why, ok := strings.CutPrefix(count, "?"); ok {
		return node, "", why
	}
	return node, count, ""
}
