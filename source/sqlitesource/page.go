package sqlitesource

import (
	"context"
	"fmt"
	"math"
	"runtime/debug"
	"strconv"
	"sync"
	"unsafe"

	"zombiezen.com/go/sqlite"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/cursor"
	"github.com/leatgo/leat/internal/engine"
	"github.com/leatgo/leat/internal/row"
)

// page is rows as SQLite gave them, with all that is needed to decode and find them
// again. It is immutable once it is finished, until it is released.
type page[T any] struct {
	reader *reader[T] // until it is finished
	shape  *shape

	partition string
	cells     []cursor.Value // shape.width of each row
	rows      int
	text      int // bytes of texts and blobs
	first     int64
	next      int64
	offsets   []int64 // of the rows, where they are keys
	resume    string
}

// cellPool holds the memory of pages that were released.
var cellPool sync.Pool

func (r *reader[T]) newPage() *page[T] {
	p := &page[T]{reader: r, shape: r.shape, partition: r.partition, first: r.state.Rows}
	if cells, ok := cellPool.Get().(*[]cursor.Value); ok {
		p.cells = *cells
	}
	return p
}

func (p *page[T]) full() bool {
	c := p.reader.config
	return p.rows > 0 && (p.rows >= orDefault(c.PageRows, defaultPageRows) || p.bytes() >= int64(orDefault(c.PageBytes, defaultPageBytes)))
}

// read takes the cells of the row at hand. It belongs to the page when it is taken too, and
// is forgotten when it is not.
func (p *page[T]) read(stmt *sqlite.Stmt) []cursor.Value {
	n := p.rows * p.shape.width
	p.cells = p.cells[:n]
	for i := range p.shape.width {
		p.cells = append(p.cells, value(stmt, i))
	}
	return p.cells[n:]
}

// take makes the row that was read one of the page's.
func (p *page[T]) take(cells []cursor.Value, key int64) {
	for i := range cells {
		p.text += len(cells[i].Str)
	}
	if p.shape.keys {
		p.offsets = append(p.offsets, key)
	}
	p.rows++
}

// finish notes where the page ends.
func (p *page[T]) finish() {
	r := p.reader
	p.cells = p.cells[:p.rows*p.shape.width]
	if p.shape.keys {
		p.first, p.next = p.offsets[0], r.tail.Last+1
		p.resume = r.tail.Mark().Encode()
	} else {
		p.next = r.state.Rows
		p.resume = r.state.Encode()
	}
	p.reader = nil
}

// bytes is what the page takes, as long as it is decoded rows share its texts.
func (p *page[T]) bytes() int64 {
	return int64(p.text) + int64(p.rows)*int64(p.shape.width)*int64(unsafe.Sizeof(cursor.Value{}))
}

// send turns it into what the engine takes.
func (p *page[T]) send() leat.Chunk[T] {
	var zero T
	return leat.Chunk[T]{
		Partition: p.partition, First: p.first, Next: p.next, Resume: p.resume,
		Bytes: p.bytes() + int64(p.rows)*int64(unsafe.Sizeof(zero)),
		Decode: func(_ context.Context, out *leat.Batch[T]) error {
			p.decode(out)
			return nil
		},
		Locate: p.locate,
		Offsets: func(records []int, out []leat.Offset) {
			for k, i := range records {
				out[k] = p.offset(i)
			}
		},
		Release: p.release,
	}
}

// release gives the cells back. Rows have their texts, which are not used again.
func (p *page[T]) release() {
	clear(p.cells[:cap(p.cells)])
	cells := p.cells[:0]
	cellPool.Put(&cells)
}

func (p *page[T]) offset(record int) int64 {
	if p.offsets != nil {
		return p.offsets[record]
	}
	return p.first + int64(record)
}

func (p *page[T]) record(i int) []cursor.Value { return p.cells[i*p.shape.width : (i+1)*p.shape.width] }

func (p *page[T]) decode(out *leat.Batch[T]) {
	out.Grow(p.rows)
	d := decoding[T]{shape: p.shape, out: out}
	for d.at < p.rows {
		d.run(p.rows, p.record, p.offset, 0)
	}
}

func (p *page[T]) locate(records []int) []leat.Origin {
	out := make([]leat.Origin, len(records))
	for k, i := range records {
		out[k] = leat.Origin{Offset: p.offset(i), Raw: p.shape.appendJSON(nil, p.record(i))}
	}
	return out
}

// appendJSON writes a record as one JSON object: what a dead letter keeps, and
// DecodeLetter reads.
func (s *shape) appendJSON(b []byte, record []cursor.Value) []byte {
	b = append(b, '{')
	for i, v := range record {
		if s.pseudo(i) {
			continue
		}
		if i > 0 {
			b = append(b, ',')
		}
		b = cursor.Value{Kind: cursor.Text, Str: s.names[i]}.AppendJSON(b)
		b = append(b, ':')
		b = v.AppendJSON(b)
	}
	return append(b, '}')
}

// decoding turns records into rows. It can be taken up again after a panic.
type decoding[T any] struct {
	shape *shape
	out   *leat.Batch[T]
	at    int
	open  bool // the record at hand has a place in out
}

// run goes up to the end, or to a record whose own UnmarshalText panics: that one is
// rejected (rule A9). first is what record 0 is called.
func (d *decoding[T]) run(n int, record func(i int) []cursor.Value, offset func(i int) int64, first int) {
	defer func() {
		if d.at < n {
			d.refuse(first, &engine.PanicError{Value: recover(), Stack: debug.Stack()})
		}
	}()
	for d.at < n {
		p := unsafe.Pointer(d.out.Extend(first + d.at))
		d.open = true
		if err := d.shape.fill(p, record(d.at), offset(d.at)); err != nil {
			d.refuse(first, err)
			continue
		}
		d.open = false
		d.at++
	}
}

func (d *decoding[T]) refuse(first int, err error) {
	if d.open {
		d.out.Drop()
		d.open = false
	}
	d.out.Reject(first+d.at, leat.Decode, err)
	d.at++
}

// fill sets the fields of the row at p.
func (s *shape) fill(p unsafe.Pointer, record []cursor.Value, offset int64) error {
	for i, col := range s.columns {
		if err := set(col, p, &record[i]); err != nil {
			return fieldError(col.Name, err)
		}
	}
	if s.extra != nil {
		if err := s.fillExtra(p, record); err != nil {
			return err
		}
	}
	for _, col := range s.origins {
		if col.Name == "@offset" {
			if err := col.SetInt(p, offset); err != nil {
				return fieldError(col.Name, err)
			}
		}
	}
	return nil
}

func fieldError(column string, err error) error {
	rule := row.RuleSyntax
	if e, ok := err.(*row.Error); ok {
		rule = e.Rule()
	}
	return &leat.FieldError{Column: column, Rule: rule, Msg: err.Error()}
}

// ruleNull is the rule of a NULL in a field that has none.
const ruleNull = "null"

// set gives a field what SQLite holds, or says why it can't have it: whatever sqlitesink
// writes comes back as it was, numbers are exact, and nothing is guessed.
func set(c *row.Column, p unsafe.Pointer, v *cursor.Value) error {
	switch v.Kind {
	case cursor.Null:
		if !c.Null {
			return c.Refuse(ruleNull, "", "it is NULL, but the column must hold a value: "+c.Holds())
		}
		return c.Empty(p)
	case cursor.Text:
		if c.Kind == row.Bytes {
			return c.SetBytes(p, []byte(v.Str))
		}
		return c.Parse(p, v.Str)
	case cursor.Blob:
		if c.Kind == row.Bytes {
			return c.SetBytes(p, []byte(v.Str)) // a copy: who has the row may write into it
		}
		return c.Refuse(row.RuleType, "", fmt.Sprintf("it is a blob of %d bytes, but the column holds %s", len(v.Str), c.Holds()))
	case cursor.Int:
		switch c.Kind {
		case row.Bool:
			if v.Int != 0 && v.Int != 1 {
				return c.Refuse(row.RuleRange, strconv.FormatInt(v.Int, 10), "is neither 0 nor 1, which is what a bool is in SQLite")
			}
			return c.SetBool(p, v.Int == 1)
		case row.Float:
			f := float64(v.Int)
			if int64(f) != v.Int || f == 1<<63 {
				return c.Refuse(row.RuleRange, strconv.FormatInt(v.Int, 10), "has more digits than a float holds")
			}
			return c.SetFloat(p, f)
		case row.Text:
			return c.Parse(p, strconv.FormatInt(v.Int, 10))
		case row.Time:
			return c.Refuse(row.RuleType, strconv.FormatInt(v.Int, 10), "is an integer, but the column holds a time as text: read it into an int64, or read a Query with datetime(…, 'unixepoch')")
		}
		return c.SetInt(p, v.Int)
	}
	switch c.Kind {
	case row.Float:
		return c.SetFloat(p, v.Float)
	case row.Int, row.Uint:
		if v.Float == math.Trunc(v.Float) && v.Float >= -1<<63 && v.Float < 1<<63 { // a column without a type
			return c.SetInt(p, int64(v.Float))
		}
		return c.Refuse(row.RuleType, strconv.FormatFloat(v.Float, 'g', -1, 64), "is no whole number of 64 bits")
	case row.Text, row.String:
		return c.Parse(p, strconv.FormatFloat(v.Float, 'g', -1, 64))
	}
	return c.Refuse(row.RuleType, strconv.FormatFloat(v.Float, 'g', -1, 64), "is a float, but the column holds "+c.Holds())
}
