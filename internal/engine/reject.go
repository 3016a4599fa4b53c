package engine

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Letters is the dead-letter log; documented as leat.DeadLetterLog.
type Letters interface {
	Open(ctx context.Context, env Env) error
	Append(ctx context.Context, l []Letter) error
	Sync(ctx context.Context) error
	Has(id string) bool // as far as the log remembers
	Close() error
}

// Letter is one rejected row.
type Letter struct {
	ID       string
	Time     time.Time
	Pipeline string
	Version  string
	Node     string
	Class    Class
	Error    string
	Column   string
	Rule     string
	Stack    []byte
	Attempt  int
	Source   string
	Sink     string
	Ordinal  int
	Origin   Origin
	Row      []byte

	// Rows of the same record that nodes before this one had refused: without them,
	// Ordinal is what it is.
	Without []Step

	// Of a record that came back from the dead letters; see Rerun.
	FirstPartition string
	FirstOffset    int64
	Path           []Step
}

// letters calls the log for several lanes and sink workers, one at a time.
type letters struct {
	e *Engine
	// turn is a lock that a waiter leaves when its context ends, since the log is
	// user code and may take its time (rule E10).
	turn chan struct{}
}

func (l *letters) call(ctx context.Context, f func() error) error {
	select {
	case l.turn <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { <-l.turn }()
	return guard(f)
}

// refuse writes the letters of what node n refused of a chunk, by policy (rule
// B2). rows is sorted in place. Where letters are committed with rows of joined sinks
// they are returned, for that driver to write in its turn; by is the driver that calls.
func (l *letters) refuse(ctx context.Context, p *passage, n *Node, rows []Reject, by *driver) (later []Letter, _ error) {
	c := p.chunk
	slices.SortStableFunc(rows, func(a, b Reject) int { return a.Record - b.Record })
	var keep []Reject
	for _, r := range rows {
		switch l.e.cfg.Policy(r.Class) {
		// A row that only delivery found at fault, behind the reach of Try, or in a file
		// of which some rows were delivered before the policy was set: it is kept.
		case PolicyDeadLetter, PolicyRejectFile:
			keep = append(keep, r)
		case PolicyFail:
			o := locate(c, []int{r.Record})[0]
			return nil, &Error{Node: n.Name, Partition: o.Partition, Offset: o.Offset, Class: r.Class,
				Err: fmt.Errorf("%sa row of class %s was refused and the policy is to stop: %w", place(o), r.Class, r.Err)}
		}
	}
	if len(keep) == 0 {
		return nil, nil
	}
	records := make([]int, len(keep))
	for i, r := range keep {
		records[i] = r.Record
	}
	neighbours := p.refusedBefore(n)
	out := make([]Letter, len(keep))
	for i, o := range locate(c, records) {
		r := keep[i]
		whose, ordinal := n, r.Ordinal
		if c.Rerun != nil {
			whose, ordinal = c.Rerun.idNode(n, r.Record, r.Ordinal)
		}
		out[i] = Letter{
			ID:   l.e.letterID(whose, o.Partition, o.Offset, ordinal),
			Time: time.Now().UTC(), Pipeline: l.e.plan.Pipeline, Version: l.e.plan.Version,
			Node: n.Name, Class: r.Class, Error: r.Err.Error(), Stack: r.Stack, Attempt: 1,
			Source: c.lane.source.Name, Ordinal: r.Ordinal, Origin: o, Row: r.Row, Without: neighbours[r.Record],
		}
		out[i].Column, out[i].Rule = fieldOf(r.Err)
		if n.Kind == KindSink {
			out[i].Sink = n.Name
		}
		if c.Rerun != nil {
			c.Rerun.mark(&out[i], n, r.Record)
		}
	}
	d := p.gen.joinedDriver()
	if d == nil || n.Kind == KindSink && by != d {
		return nil, l.append(ctx, p, out)
	}
	i := slices.IndexFunc(d.workers, func(w *worker) bool { return reaches(p.lane.source, w.node) })
	if i < 0 { // what holds its position does not wait for them (rule B3-1)
		return nil, l.append(ctx, p, out)
	}
	// Rule E7 for letters: those before the position that the joined sinks hold were
	// committed with it.
	held := p.lane.held[d.workers[i].node.id]
	out = slices.DeleteFunc(out, func(l Letter) bool { return held.Known() && l.Origin.Offset < held.Next })
	if by == d {
		return nil, l.append(ctx, p, out)
	}
	return out, nil
}

// append writes letters of a chunk.
func (l *letters) append(ctx context.Context, p *passage, out []Letter) error {
	if len(out) == 0 {
		return nil
	}
	// Rule B3: when it can't be written the partition goes no further.
	err := l.e.retry(ctx, "dead letters", p.lane.name, nil, func() error {
		return l.call(ctx, func() error { return l.e.cfg.Letters.Append(ctx, out) })
	})
	if err != nil {
		return &Error{Node: out[0].Node, Partition: p.lane.name, Offset: p.chunk.First, Err: fmt.Errorf("dead letters can't be written, and no position moves past a rejected row before they are (rule B3): %w", asRewind(err))}
	}
	return nil
}

// joinedDriver is the driver of the sinks that dead letters are committed with; nil: they
// are a log of their own.
func (g *generation) joinedDriver() *driver {
	if j := g.e.cfg.LettersJoined; j != nil {
		for _, d := range g.drivers {
			if d.joined == j {
				return d
			}
		}
	}
	return nil
}

// sync makes all letters durable (rule B3-1).
func (l *letters) sync(ctx context.Context) error {
	err := l.e.retry(ctx, "dead letters", "", nil, func() error {
		return l.call(ctx, func() error { return l.e.cfg.Letters.Sync(ctx) })
	})
	if err != nil {
		return &Error{Node: "dead letters", Offset: -1, Err: fmt.Errorf("dead letters can't be made durable, and no position moves past a rejected row before they are (rule B3): %w", err)}
	}
	return nil
}

func (l *letters) has(ctx context.Context, id string) (known bool) {
	_ = l.call(ctx, func() error {
		known = l.e.cfg.Letters.Has(id)
		return nil
	})
	return known
}

// letterID is the same for the same row refused by the same node (rule B3-2).
func (e *Engine) letterID(n *Node, partition string, offset int64, ordinal int) string {
	h := sha256.New()
	for _, s := range []string{e.plan.Pipeline, n.Name, partition} {
		var size [8]byte
		binary.LittleEndian.PutUint64(size[:], uint64(len(s)))
		h.Write(size[:])
		h.Write([]byte(s))
	}
	var at [16]byte
	binary.LittleEndian.PutUint64(at[:8], uint64(offset))
	binary.LittleEndian.PutUint64(at[8:], uint64(ordinal))
	h.Write(at[:])
	return hex.EncodeToString(h.Sum(nil)[:16])
}

func locate(c *Chunk, records []int) []Origin {
	t := Trace{Chunk: c}
	return t.Origins(records)
}

// place is an origin as people look for it.
func place(o Origin) string {
	switch {
	case o.File != "" && o.Line > 0:
		return fmt.Sprintf("%s:%d: ", o.File, o.Line)
	case o.File != "":
		return o.File + ": "
	case o.Topic != "":
		return o.Topic + ": "
	}
	return ""
}

// fieldOf finds the column and rule that an error knows.
func fieldOf(err error) (column, rule string) {
	var f FieldError
	if errors.As(err, &f) {
		return f.Field()
	}
	return "", ""
}
