package engine

import "slices"

// Rerun marks a chunk whose records come back from the dead letters (rule B4). Each
// record is decoded again from its bytes, and of the rows made of it one goes on, and
// only where it did not get before. For all other chunks nothing of this is done.
type Rerun struct {
	// Gates are the nodes that have refused the record, each later one behind the
	// one before it. Branches that lead past a gate are closed: they took the
	// row, or were closed, when the gate refused it.
	Gates []Gate

	// Home is the partition, qualified, from which the records were first read:
	// stages with state see the rows as rows of it (rules C5, H1).
	Home string

	// Missing are, by record, rows that nodes on the way had refused when the record
	// came to its gates: they are held back, so that ordinals are what they were.
	Missing [][]Step

	First   []int64 // by record: its offset in Home
	Attempt []int   // by record: how often it was tried
}

// Gate lets one row of each record pass.
type Gate struct {
	Node     *Node // one that is not in the plan stands for a node of an earlier program; then Decode makes no rows
	Ordinals []int // by record: which of the rows made from it
}

// Step is one row of a record before a node.
type Step struct {
	Node    string
	Ordinal int
}

// steps are the gates of one record.
func (r *Rerun) steps(record int) []Step {
	out := make([]Step, len(r.Gates))
	for i, g := range r.Gates {
		out[i] = Step{g.Node.Name, g.Ordinals[record]}
	}
	return out
}

// last is the gate that the rows have to get to.
func (r *Rerun) last() Gate { return r.Gates[len(r.Gates)-1] }

// before tells whether a row at n has not come to the last gate.
func (r *Rerun) before(n *Node) bool {
	g := r.last().Node
	return n != g && !upstreamOf(n, g)
}

// open tells whether rows go from c on to n, its reader.
func (r *Rerun) open(c, n *Node) bool {
	for _, g := range r.Gates {
		if n != g.Node && !upstreamOf(g.Node, n) && c != g.Node && !upstreamOf(c, g.Node) {
			return false
		}
	}
	return true
}

// rerun is what n gets of b, which c made: the part of input for chunks that come
// back. What is held back counts as filtered by n (rule A8).
func (p *passage) rerun(c, n *Node, b Batch) Batch {
	r := p.chunk.Rerun
	if !r.open(c, n) {
		p.setAside(n, b.Len())
		return nil
	}
	var gate *Gate
	for i := range r.Gates {
		if r.Gates[i].Node == n {
			gate = &r.Gates[i]
		}
	}
	var waiting map[int][]Step
	if gate != nil {
		waiting = p.refusedBefore(n)
	}
	var held []int
	t := b.Trace()
	ord := t.Ordinals()
	for i := range b.Len() {
		record, ordinal := t.Record(i), 0
		if ord != nil {
			ordinal = int(ord[i])
		}
		// Where a row is missing that was there then, the rows behind it have moved
		// up, and none of them can be told for sure: the record has to wait, with a
		// letter, until all its rows get there again.
		if gate != nil && (ordinal != gate.Ordinals[record] || waiting[record] != nil) ||
			slices.Contains(r.Missing[record], Step{n.Name, ordinal}) {
			held = append(held, i)
		}
	}
	if len(held) > 0 {
		p.setAside(n, len(held))
		b = b.Without(held)
	}
	if b.Len() == 0 {
		return nil
	}
	return b
}

// refusedBefore are, by record, the rows that were refused on the way to n. When that is
// a chunk with a Rerun, those that were missing before are not among them.
func (p *passage) refusedBefore(n *Node) map[int][]Step {
	var out map[int][]Step
	for _, at := range p.rejects {
		if at.node.Kind == KindSource || !upstreamOf(n, at.node) { // a source refuses a record whole
			continue
		}
		if out == nil {
			out = map[int][]Step{}
		}
		for _, row := range at.rows {
			out[row.Record] = append(out[row.Record], Step{at.node.Name, row.Ordinal})
		}
	}
	return out
}

func (p *passage) setAside(n *Node, rows int) {
	if p.aside == nil {
		p.aside = make([]int64, len(p.tally))
	}
	p.aside[n.id] += int64(rows)
}

// settle leaves one letter for a record that has not come to the last gate, as there
// was one, however many of its rows were refused on the way.
func (p *passage) settle() {
	r := p.chunk.Rerun
	told := map[int]bool{}
	kept := p.rejects[:0]
	for _, at := range p.rejects {
		if !r.before(at.node) {
			kept = append(kept, at)
			continue
		}
		var rows []Reject
		for _, row := range at.rows {
			if told[row.Record] {
				p.tally[at.node.id].Rejected--
				p.tally[at.node.id].Filtered++
				continue
			}
			told[row.Record] = true
			rows = append(rows, row)
		}
		if len(rows) > 0 {
			kept = append(kept, nodeRejects{at.node, rows})
		}
	}
	p.rejects = kept
}

// countAside adds what was held back to the counts: a sink's own In is that of its
// sources, any other node has taken in what it holds back.
func (p *passage) countAside(nodes []*Node) {
	for i, rows := range p.aside {
		p.tally[i].Filtered += rows
		if nodes[i].Kind != KindSink {
			p.tally[i].In += rows
		}
	}
}

// mark writes into a letter that its record came back. It keeps the way that is left to
// it: the gates, and the node that refuses it now when that lies behind them.
func (r *Rerun) mark(l *Letter, n *Node, record int) {
	l.Attempt = r.Attempt[record] + 1
	l.FirstPartition, l.FirstOffset = r.Home, r.First[record]
	l.Path = r.steps(record)
	if r.before(n) {
		l.Without = r.Missing[record] // of its gates; what is missing now may be there next time
		return
	}
	l.Without = append(slices.Clip(r.Missing[record]), l.Without...)
	if n != r.last().Node {
		l.Path = append(l.Path, Step{n.Name, l.Ordinal})
	}
}

// idNode is whose refusal names a letter (rule B3-2): before the last gate there is one
// for a record, whichever node writes it.
func (r *Rerun) idNode(n *Node, record, ordinal int) (*Node, int) {
	if r.before(n) {
		g := r.last()
		return g.Node, g.Ordinals[record]
	}
	return n, ordinal
}

// atHome gives rows to a stage with state as rows of the partition they were first read
// from, with their first offsets: a row is never a duplicate of itself (rule C5). Those that
// n has seen before are Repeated. b is the caller's own. away undoes it on what the stage made.
func (p *passage) atHome(n *Node, b Batch) {
	if p.chunk.Rerun == nil {
		return
	}
	if p.home == nil {
		c, r := p.chunk, p.chunk.Rerun
		p.home = &Chunk{
			First: c.First, Next: c.Next, lane: &lane{source: c.lane.source, name: r.Home},
			Locate: func(records []int) []Origin {
				found := c.Locate(records)
				for i := range found {
					found[i].Offset = r.First[records[i]]
				}
				return found
			},
			Offsets: func(records []int, out []int64) {
				for i, record := range records {
					out[i] = r.First[record]
				}
			},
		}
	}
	p.home.Repeated = p.chunk.Rerun.before(n)
	b.Trace().Chunk = p.home
}

func (p *passage) away(b Batch) {
	if p.chunk.Rerun != nil {
		b.Trace().Chunk = p.chunk
	}
}

// homes are the partitions whose state the rows of a lane belong to.
func (l *lane) homes() []string {
	if h := l.source.Source.Homes; h != nil {
		return h
	}
	return []string{l.name}
}
