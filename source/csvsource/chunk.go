package csvsource

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"time"
	"unsafe"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/csvtext"
	"github.com/leatgo/leat/internal/engine"
	"github.com/leatgo/leat/internal/folder"
	"github.com/leatgo/leat/internal/row"
)

// chunk is a piece of one file with all that its records need to be decoded and
// found again. It is immutable, so Decode and Locate may run at any time and as
// often as the engine likes.
type chunk[T any] struct {
	piece   csvtext.Piece
	dialect *csvtext.Dialect
	header  *header
	base    int64 // of the file in the log
	file    string
	arrived time.Time
	count   *folder.Count
}

// The rules of rejected records, beside those of package row.
const (
	ruleFields = "fields" // more or fewer fields than the header has
	ruleQuote  = "quote"  // see package csvtext
	ruleSize   = "size"   // longer than MaxRecord
)

// decode appends the rows. reject is called for each bad record, in order.
//
// String fields are parts of the chunk's text: nothing is allocated for them.
func (c *chunk[T]) decode(out *leat.Batch[T], reject func(record int, err error)) {
	if c.piece.Long {
		reject(0, c.longError())
		c.count.Set(1, 1)
		return
	}
	out.Grow(1 + bytes.Count(c.piece.Data, []byte{'\n'}))
	w := walk[T]{
		chunk: c, out: out, reject: reject,
		records: csvtext.NewRecords(c.dialect, c.piece.Data, c.piece.Line, c.header.fields),
	}
	for !w.run() {
	}
	c.count.Set(int64(w.rows), int64(w.rejected))
}

// walk is one decoding. It can be taken up again after a panic.
type walk[T any] struct {
	chunk          *chunk[T]
	out            *leat.Batch[T]
	reject         func(record int, err error)
	records        csvtext.Records
	rows, rejected int
	first          int // what the first record is called
	row            T   // one for all: parsing through a pointer would put each on the heap
}

// run decodes up to the end, or to a record whose column's own UnmarshalText
// panics: that record is rejected (rule A9).
func (w *walk[T]) run() (done bool) {
	defer func() {
		if !done {
			w.refuse(&engine.PanicError{Value: recover(), Stack: debug.Stack()})
		}
	}()
	var zero T
	p := unsafe.Pointer(&w.row)
	for w.records.Next() {
		err := w.chunk.fault(&w.records)
		if err == nil {
			w.row = zero
			err = w.chunk.parse(&w.records, p)
		}
		if err != nil {
			w.refuse(err)
			continue
		}
		w.out.Append(w.row, w.first+w.rows)
		w.rows++
	}
	return true
}

func (w *walk[T]) refuse(err error) {
	w.reject(w.first+w.rows, err)
	w.rejected++
	w.rows++
}

// parse sets the columns of the row at p.
func (c *chunk[T]) parse(r *csvtext.Records, p unsafe.Pointer) error {
	for _, b := range c.header.columns {
		var err error
		if text := r.Fields[b.field]; text != "" {
			err = b.column.Parse(p, text)
		} else {
			err = b.column.Empty(p)
		}
		if err != nil {
			return fieldError(b.column.Name, err)
		}
	}
	if c.header.origins != nil {
		return c.setOrigins(r, p)
	}
	return nil
}

func fieldError(column string, err error) error {
	var e *row.Error
	if errors.As(err, &e) {
		return &leat.FieldError{Column: e.Column, Rule: e.Rule(), Msg: e.Error()}
	}
	return &leat.FieldError{Column: column, Rule: "syntax", Msg: err.Error()}
}

// setOrigins fills the fields tagged `leat:"@file"` and the like; those that have
// no meaning for a file stay zero.
func (c *chunk[T]) setOrigins(r *csvtext.Records, p unsafe.Pointer) error {
	for _, col := range c.header.origins {
		var err error
		switch col.Name {
		case "@file":
			err = col.SetString(p, c.file)
		case "@line":
			err = col.SetInt(p, r.Line)
		case "@offset":
			err = col.SetInt(p, c.base+c.piece.Start+int64(r.Start))
		case "@timestamp":
			err = col.SetTime(p, c.arrived)
		}
		if err != nil {
			return fieldError(col.Name, err)
		}
	}
	return nil
}

// fault says what is wrong with the form of a record.
func (c *chunk[T]) fault(r *csvtext.Records) error {
	if r.Fault == csvtext.Fine && r.Count == c.header.fields {
		return nil
	}
	if r.Fault == csvtext.FaultQuote {
		return &leat.FieldError{Rule: ruleQuote, Msg: fmt.Sprintf(
			"line %d: a quote is misplaced, or a quoted field is never closed", r.Line)}
	}
	return &leat.FieldError{Rule: ruleFields, Msg: fmt.Sprintf("line %d: the header has %d fields, the record has %d", r.Line, c.header.fields, r.Count)}
}

func (c *chunk[T]) longError() error {
	return &leat.FieldError{Rule: ruleSize, Msg: fmt.Sprintf(
		"line %d: the record has %d bytes, more than the limit of %d; only its first %d bytes are kept",
		c.piece.Line, c.piece.End-c.piece.Start, c.dialect.MaxRecord, len(c.piece.Data))}
}

// locate walks the chunk again.
func (c *chunk[T]) locate(records []int) []leat.Origin {
	origin := leat.Origin{File: c.file, Header: c.header.raw, Time: c.arrived}
	out := make([]leat.Origin, 0, len(records))
	if c.piece.Long {
		origin.Offset, origin.Line, origin.Raw = c.base+c.piece.Start, c.piece.Line, c.piece.Data
		return append(out, slices.Repeat([]leat.Origin{origin}, len(records))...)
	}
	r := csvtext.NewWalk(c.dialect, c.piece.Data, c.piece.Line)
	at := -1
	for _, want := range records {
		for at < want && r.Next() {
			at++
		}
		origin.Offset, origin.Line, origin.Raw = c.base+c.piece.Start+int64(r.Start), r.Line, r.Raw()
		out = append(out, origin)
	}
	return out
}

// chunk turns it into what the engine takes.
func (c *chunk[T]) send(next int64) leat.Chunk[T] {
	var zero T
	lines := c.piece.EndLine - c.piece.Line + 1
	return leat.Chunk[T]{
		First:  c.base + c.piece.Start,
		Next:   next,
		Resume: resume{Line: c.piece.EndLine}.String(),
		Bytes:  int64(len(c.piece.Data)) + lines*int64(unsafe.Sizeof(zero)),
		Decode: func(_ context.Context, out *leat.Batch[T]) error {
			c.decode(out, func(record int, err error) { out.Reject(record, leat.Decode, err) })
			return nil
		},
		Locate: c.locate,
	}
}
