package leat

import (
	"encoding/json"
	"reflect"
	"slices"
	"time"
	"unsafe"

	"github.com/leatgo/leat/internal/engine"
	"github.com/leatgo/leat/internal/row"
)

// Offset is the place of a record in its partition. Offsets grow; gaps are
// allowed, nothing assumes offset+1 (rule A2).
type Offset = int64

// Position is how far a partition has been read: everything before Next is
// behind it.
type Position struct {
	Next   Offset // the first offset not yet read
	Resume string // what the source needs to seek to Next; opaque to everyone else
	Log    string // which offset space Next belongs to: a folder ledger's id, a Kafka topic id (rule A2-1)
}

// Known tells whether p says anything. The zero Position means "nothing is
// held", which is not the same as offset 0 (rule E7).
func (p Position) Known() bool { return p != Position{} }

// Checkpoint holds the positions of all partitions at one consistent cut:
// everything before it has been processed, nothing after it.
type Checkpoint struct {
	Seq       uint64              // grows from cut to cut; after a crash the numbers of cuts that were not complete come again
	Positions map[string]Position // by partition; a partition of which nothing is known is missing
	Force     bool                // the sink may not answer "not yet" (rule E9)
	CaughtUp  bool                // the sources had nothing more to send: a good moment to answer "done"
}

// Origin is where one record came from. Fields that a source has no use for
// are zero.
type Origin struct {
	Partition string            // qualified by the source's name
	Offset    Offset            // in the partition
	File      string            // as the source names it: relative to its folder
	Line      int64             // the first line of the record, from 1
	Topic     string            //
	Key       []byte            //
	Headers   map[string]string //
	Time      time.Time         // when the record arrived at its log
	Header    string            // the CSV header line in force
	Raw       []byte            // the record's original bytes
}

// Batch is a run of rows of one partition, in order. The engine makes and owns
// batches; sources, stages and sinks see one only during the call that hands it
// to them and must not keep it or its slices.
//
// A Batch is not safe for concurrent use, but one batch may be read by several
// readers at once (branches do).
type Batch[T any] struct {
	rows    []T
	trace   engine.Trace
	in      *engine.Trace // of the batch that this one is made from; nil while a chunk is decoded
	inRow   func(i int) []byte
	rejects []engine.Reject
	inputs  int // rows or records of the input that Append has named
	last    int // the last of them, plus 1
	memory  *rowMemory[T]
	shares  bool // the rows are another batch's
}

// Len is the number of rows.
func (b *Batch[T]) Len() int { return len(b.rows) }

// Rows are the rows, in order. The slice is shared: read it, do not change it,
// do not keep it after the call.
func (b *Batch[T]) Rows() []T { return b.rows }

// Partition is the partition all rows came from, qualified by the source's name.
func (b *Batch[T]) Partition() string {
	if b.trace.Chunk == nil {
		return ""
	}
	return b.trace.Chunk.Qualified()
}

// Origin finds where row i came from. It may walk the whole chunk again: call
// it for the rare row, or use Origins for many.
func (b *Batch[T]) Origin(i int) Origin { return b.Origins([]int{i})[0] }

// Offset is the offset of the record that row i came from; see Origin for its cost.
func (b *Batch[T]) Offset(i int) Offset { return b.Origin(i).Offset }

// Offsets are the offsets of all rows, in their order: cheap where the source has
// Chunk.Offsets, else as dear as Origins.
func (b *Batch[T]) Offsets() []Offset {
	records := make([]int, len(b.rows))
	for i := range records {
		records[i] = b.trace.Record(i)
	}
	out := make([]Offset, len(records))
	switch {
	case b.trace.Chunk != nil && len(records) > 0:
		b.trace.Offsets(records, out)
	case b.trace.Chunk == nil: // outside a pipeline, as in Origins
		for i, record := range records {
			out[i] = Offset(record)
		}
	}
	return out
}

// Ordinal tells how many rows before row i were made from the same record. The offset
// and it name a row of a partition (rule C5).
func (b *Batch[T]) Ordinal(i int) int { return b.trace.Ordinal(i) }

// Repeated tells a stage with state that it has seen these very rows before: they come
// with the letter of a node behind it (see Repeatable). The other rows that it is given
// are new to it, those of letters that it, or a node before it, has refused included.
func (b *Batch[T]) Repeated() bool { return b.trace.Chunk != nil && b.trace.Chunk.Repeated }

// Origins finds where the given rows (ascending) came from in one walk.
func (b *Batch[T]) Origins(rows []int) []Origin {
	records := make([]int, len(rows))
	for k, i := range rows {
		records[k] = b.trace.Record(i)
	}
	out := make([]Origin, len(rows))
	if b.trace.Chunk == nil { // outside a pipeline: rows are named by their own numbers
		for k, record := range records {
			out[k].Offset = Offset(record)
		}
		return out
	}
	for k, o := range b.trace.Origins(records) {
		out[k] = Origin(o)
	}
	return out
}

// Grow makes room for n more rows.
func (b *Batch[T]) Grow(n int) { b.rows = slices.Grow(b.rows, n) }

// Append adds a row that came from row `from` of the batch being read or, while
// a chunk is decoded, from record `from` of the chunk (counted from 0, rejected
// records included). from must not be smaller than in the call before; several
// rows may come from one.
func (b *Batch[T]) Append(row T, from int) {
	if from >= b.last {
		b.inputs, b.last = b.inputs+1, from+1
	}
	if b.in != nil {
		from = b.in.Record(from)
	}
	if b.trace.From != nil || from != b.trace.Base+len(b.rows) {
		b.noteRecord(from)
	}
	b.rows = append(b.rows, row)
}

// AppendRows adds rows i to j-1 of in, which must be the batch that the stage was
// given, each as coming from itself: what Append would do row by row. When b is empty
// and these are all the rows of in, nothing is copied, so a stage that only looks at
// its rows should call it once.
func (b *Batch[T]) AppendRows(in *Batch[T], i, j int) {
	var trace engine.Trace // outside a pipeline: rows are named by their own numbers
	switch {
	case b.in != nil && b.in != &in.trace:
		panic("leat: AppendRows takes rows of the batch that the stage was given, of no other")
	case i >= j:
		return
	case b.in != nil:
		trace = *b.in
	}
	b.inputs += j - max(i, b.last)
	b.last = j
	n := len(b.rows)
	if n == 0 && i == 0 && j == len(in.rows) {
		b.share(in)
		b.trace.From, b.trace.Base = trace.From, trace.Base
		return
	}
	switch dense := trace.From == nil && b.trace.From == nil; {
	case dense && (n == 0 || trace.Base+i == b.trace.Base+n):
		b.trace.Base = trace.Base + i - n
	case trace.From == nil:
		b.partFromRecords()
		for k := i; k < j; k++ {
			b.trace.From = append(b.trace.From, int32(trace.Base+k))
		}
	default:
		b.partFromRecords()
		b.trace.From = append(b.trace.From, trace.From[i:j]...)
	}
	b.rows = append(b.rows, in.rows[i:j]...)
}

// Extend adds a zero row as Append does, and returns its address for the caller to
// fill in, which is valid until the next row is added. For decoders: from must be
// greater than in the call before.
func (b *Batch[T]) Extend(from int) *T {
	n := len(b.rows)
	if n == cap(b.rows) || b.trace.From != nil || from != b.trace.Base+n {
		var zero T
		b.Append(zero, from)
		return &b.rows[n]
	}
	b.inputs, b.last = b.inputs+1, from+1
	b.rows = b.rows[:n+1]
	row := &b.rows[n]
	clear(b.rows[n:]) // in place: a zero row would be copied
	return row
}

// Drop takes back the row that the last call, of Extend, has added. It may be repeated,
// for rows of records that follow each other.
func (b *Batch[T]) Drop() {
	n := len(b.rows) - 1
	b.rows = b.rows[:n]
	b.inputs--
	b.last--
	if b.trace.From != nil {
		b.trace.From = b.trace.From[:n]
	}
}

// noteRecord keeps the way back to the records once rows and records part.
func (b *Batch[T]) noteRecord(record int) {
	if b.trace.From == nil {
		if len(b.rows) == 0 {
			b.trace.Base = record // still dense, from another start
			return
		}
		b.partFromRecords()
	}
	b.trace.From = append(b.trace.From, int32(record))
}

// partFromRecords begins to keep the record of each row.
func (b *Batch[T]) partFromRecords() {
	if b.trace.From != nil {
		return
	}
	b.trace.From = make([]int32, len(b.rows), cap(b.rows)+1)
	for i := range b.trace.From {
		b.trace.From[i] = int32(b.trace.Base + i)
	}
}

// Reject refuses row `from` (counted as in Append) with a reason. The row goes
// where Config.OnReject sends its class: by default to the dead letters, with
// its original bytes. If err is made by the contract (see FieldError), the
// statistics tell column and rule.
func (b *Batch[T]) Reject(from int, class Class, err error) {
	r := engine.Reject{Record: from, Class: engine.Class(class), Err: err}
	if p, ok := errorsAs[*engine.PanicError](err); ok {
		r.Stack = p.Stack
	}
	if b.in != nil {
		r.Record, r.Ordinal = b.in.Record(from), b.in.Ordinal(from)
		if b.inRow != nil {
			r.Row = b.inRow(from)
		}
	}
	b.rejects = append(b.rejects, r)
}

// erased is a Batch as the engine sees it. It has the same memory, so that
// hiding the row type costs nothing, and other methods, so that users do not
// see them.
type erased[T any] Batch[T]

func (b *erased[T]) Len() int                 { return len(b.rows) }
func (b *erased[T]) Trace() *engine.Trace     { return &b.trace }
func (b *erased[T]) Rejects() []engine.Reject { return b.rejects }

func (b *erased[T]) Inputs() int { return b.inputs }

func (b *erased[T]) Slice(i, j int) engine.Batch {
	return &erased[T]{rows: b.rows[i:j:j], trace: b.trace.Slice(i, j), memory: b.memory}
}

func (b *erased[T]) Without(rows []int) engine.Batch {
	out := &Batch[T]{in: &b.trace, rows: make([]T, 0, len(b.rows)-len(rows))}
	out.trace.Chunk = b.trace.Chunk
	ord := b.trace.Ordinals()
	k := 0
	for i, r := range b.rows {
		if k < len(rows) && rows[k] == i {
			k++
			continue
		}
		out.Append(r, i)
		if ord != nil {
			out.trace.Ord = append(out.trace.Ord, ord[i])
		}
	}
	out.in = nil
	return (*erased[T])(out)
}

func (b *erased[T]) RowJSON(i int) []byte { return rowJSON(&b.rows[i]) }

// rowJSON is the row as a dead letter shows it; nil when it has no JSON form,
// which must not keep the letter from being written.
func rowJSON[T any](r *T) (out []byte) {
	defer func() {
		if recover() != nil { // a user's MarshalText may panic on the very row that is bad
			out = nil
		}
	}()
	if t, err := row.Of[T](); err == nil && reflect.TypeFor[T]().Kind() == reflect.Struct {
		if js, err := t.AppendJSON(nil, unsafe.Pointer(r)); err == nil {
			return js
		}
		return nil
	}
	js, err := json.Marshal(r)
	if err != nil {
		return nil
	}
	return js
}

// mergeBatches joins the parts of one chunk that came by several branches,
// back in the order of their records (rule G2-1); rows of one record keep the
// order of the flows given to Merge.
func mergeBatches[T any](parts []engine.Batch) engine.Batch {
	out := &Batch[T]{}
	if len(parts) == 1 {
		only := (*Batch[T])(parts[0].(*erased[T]))
		out.share(only)
		out.trace = only.trace
		return (*erased[T])(out)
	}
	at := make([]int, len(parts))
	for {
		best, record := -1, 0
		for k, p := range parts {
			if at[k] < p.Len() {
				if r := p.Trace().Record(at[k]); best < 0 || r < record {
					best, record = k, r
				}
			}
		}
		if best < 0 {
			break
		}
		out.Append(parts[best].(*erased[T]).rows[at[best]], record)
		at[best]++
	}
	out.trace.Chunk = parts[0].Trace().Chunk
	return (*erased[T])(out)
}
