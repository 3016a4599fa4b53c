package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// RejectsFiles tells whether the policy of some class is to refuse a whole file.
func (in *Intake) RejectsFiles() bool {
	return in.g.e.cfg.Policy(Decode) == PolicyRejectFile || in.g.e.cfg.Policy(Contract) == PolicyRejectFile
}

// Try runs a chunk through the pure stages behind the source and delivers nothing
// (rule B2). faults are the rows for which the policy is to refuse the file.
func (in *Intake) Try(ctx context.Context, c *Chunk) (faults int, first, err error) {
	if c.Release != nil {
		defer c.Release()
	}
	g := in.g
	name := qualify(in.node.Name, c.Partition)
	g.mu.Lock()
	l, dead := g.lanes[name], g.dead
	g.mu.Unlock()
	switch {
	case dead != nil:
		return 0, nil, dead
	case l == nil:
		return 0, nil, wrap(in.node, name, errors.New("the source tries a chunk of a partition that it was not assigned"))
	}
	c.lane = l
	p := &passage{gen: g, lane: l, chunk: c, trial: true}
	if err := g.process(ctx, p); err != nil {
		if dead := g.cause(); dead != nil {
			return 0, nil, dead
		}
		return 0, nil, err
	}
	defer p.drop(g.e.plan.Nodes, func(*Node) bool { return false })
	at := 0
	for _, r := range p.rejects {
		for _, row := range r.rows {
			if g.e.cfg.Policy(row.Class) != PolicyRejectFile {
				continue
			}
			if faults++; first == nil || row.Record < at {
				at = row.Record
				first = row.Err
			}
		}
	}
	if first != nil {
		o := locate(c, []int{at})[0]
		if o.Line > 0 {
			first = &placedError{fmt.Sprintf("line %d: ", o.Line), first}
		}
	}
	return faults, first, nil
}

// placedError says where, unless the error does so itself.
type placedError struct {
	place string
	err   error
}

func (e *placedError) Error() string {
	if text := e.err.Error(); strings.HasPrefix(text, e.place) {
		return text
	}
	return e.place + e.err.Error()
}
func (e *placedError) Unwrap() error { return e.err }
