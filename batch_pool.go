package leat

import (
	"sync"
	"sync/atomic"

	"github.com/leatgo/leat/internal/engine"
)

// rowPool keeps the memory of batches that nobody reads any more. Each node has one:
// its batches are all about as large.
type rowPool[T any] struct{ free sync.Pool }

// rowMemory holds the rows of a batch and of those that share them. A user of it that
// never gives it back costs nothing but its memory, which is then collected.
type rowMemory[T any] struct {
	rows  []T // of length 0, once the batch is made
	pool  *rowPool[T]
	users atomic.Int32
}

// batch makes an empty batch.
func (p *rowPool[T]) batch() *Batch[T] {
	m, _ := p.free.Get().(*rowMemory[T])
	if m == nil {
		m = &rowMemory[T]{pool: p}
	}
	m.users.Store(1)
	return &Batch[T]{rows: m.rows, memory: m}
}

// made notes where the rows of a batch came to lie: they may have outgrown the memory
// that they began in. Memory far too large for them is not used again: the budget is
// told of rows, not of what they lie in (rule A5), and a single large batch now and then
// would in time leave such memory to each of the small ones.
func (b *Batch[T]) made() {
	switch n := len(b.rows); {
	case b.memory == nil || b.shares:
	case n > 0 && cap(b.rows) > 4*n+fewRows: // without rows it may have had no use for any
		b.memory.rows = nil
	default:
		b.memory.rows = b.rows[:0]
	}
}

// fewRows is a number of rows for which there is always memory enough.
const fewRows = 1024

// share makes b's rows those of in.
func (b *Batch[T]) share(in *Batch[T]) {
	b.made()
	b.memory.give()
	b.rows, b.memory, b.shares = in.rows[:len(in.rows):len(in.rows)], in.memory, true
	if b.memory != nil {
		b.memory.users.Add(1)
	}
}

// give says that one user is through with the rows.
func (m *rowMemory[T]) give() {
	if m != nil && m.users.Add(-1) == 0 {
		if engine.Scrub {
			clear(m.rows[:cap(m.rows)])
		}
		m.pool.free.Put(m)
	}
}

// Release implements engine.Batch. Rows that are read after it are missing, not wrong.
func (b *erased[T]) Release() {
	b.rows = nil
	b.memory.give()
	b.memory = nil
}
