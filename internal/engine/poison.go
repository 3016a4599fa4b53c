package engine

import (
	"cmp"
	"slices"
	"sync"

	"github.com/leatgo/leat/internal/store"
)

// poison remembers, over rewinds, rows that cost a node its open work: they are
// rejected before the next attempt (rule B5).
type poison struct {
	mu   sync.Mutex
	rows map[poisonKey][]poisoned // by ascending offset
	slow map[poisonKey]int64      // feed single rows up to this offset
}

type poisonKey struct {
	node      string
	partition string
}

type poisoned struct {
	offset  int64
	ordinal int
	reject  Reject
}

// condemn names a row: a Reject as the node would have made it.
func (p *poison) condemn(n *Node, c *Chunk, r Reject) {
	offset := locate(c, []int{r.Record})[0].Offset
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.rows == nil {
		p.rows = map[poisonKey][]poisoned{}
	}
	k := poisonKey{n.Name, c.Qualified()}
	p.rows[k] = append(p.rows[k], poisoned{offset, r.Ordinal, r})
	slices.SortFunc(p.rows[k], func(a, b poisoned) int {
		return cmp.Or(cmp.Compare(a.offset, b.offset), cmp.Compare(a.ordinal, b.ordinal))
	})
}

// beCareful makes the node get single rows up to offset.
func (p *poison) beCareful(n *Node, partition string, offset int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.slow == nil {
		p.slow = map[poisonKey]int64{}
	}
	k := poisonKey{n.Name, partition}
	p.slow[k] = max(p.slow[k], offset)
}

func (p *poison) careful(n *Node, partition string, offset int64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	end, ok := p.slow[poisonKey{n.Name, partition}]
	return ok && offset < end
}

// forget drops what no rewind goes back to any more, or a process that meets a bad row now and
// then would keep, and look through, all of them for ever.
func (p *poison) forget(complete map[string]store.Position) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for k, rows := range p.rows {
		at, ok := complete[k.partition]
		if !ok {
			continue
		}
		n := 0
		for n < len(rows) && rows[n].offset < at.Next {
			n++
		}
		if n == len(rows) {
			delete(p.rows, k)
		} else if n > 0 {
			p.rows[k] = slices.Clone(rows[n:])
		}
	}
	for k, end := range p.slow {
		if at, ok := complete[k.partition]; ok && end <= at.Next {
			delete(p.slow, k)
		}
	}
}

// strain takes the condemned rows out of b.
func (p *poison) strain(n *Node, c *Chunk, b Batch) (Batch, []Reject) {
	p.mu.Lock()
	var here []poisoned
	for _, r := range p.rows[poisonKey{n.Name, c.Qualified()}] {
		if r.offset >= c.First && r.offset < c.Next {
			here = append(here, r)
		}
	}
	p.mu.Unlock()
	if len(here) == 0 {
		return b, nil
	}
	records := make([]int, b.Len())
	for i := range records {
		records[i] = b.Trace().Record(i)
	}
	var rejects []Reject
	var rows []int
	for i, o := range locate(c, records) {
		ordinal := b.Trace().Ordinal(i)
		for _, r := range here {
			if r.offset == o.Offset && r.ordinal == ordinal {
				reject := r.reject
				reject.Record = records[i] // chunks may be cut elsewhere this time
				rejects = append(rejects, reject)
				rows = append(rows, i)
			}
		}
	}
	if len(rows) == 0 {
		return b, nil
	}
	return b.Without(rows), rejects
}
