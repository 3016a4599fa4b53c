package jsonsource

import (
	"bytes"
	"context"
	"fmt"
	"runtime/debug"
	"slices"
	"time"
	"unsafe"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/csvtext"
	"github.com/leatgo/leat/internal/engine"
	"github.com/leatgo/leat/internal/filesource"
	"github.com/leatgo/leat/internal/jsonrow"
	"github.com/leatgo/leat/internal/row"
)

// chunk is a piece of one file with all that its records need to be decoded and found
// again. It is immutable until it is released, so Decode and Locate may run at any time
// and as often as the engine likes.
type chunk[T any] struct {
	piece   csvtext.Piece
	lines   *lines
	base    int64 // of the file in the log
	file    string
	arrived time.Time
}

// ruleSize is the rule of records longer than MaxRecord; the others are package row's.
const ruleSize = "size"

// Span implements filesource.Piece.
func (c *chunk[T]) Span() filesource.Span {
	return filesource.Span{Start: c.piece.Start, End: c.piece.End, EndLine: c.piece.EndLine, Last: c.piece.Last}
}

// Decode implements filesource.Piece. Nothing of the rows shares memory with the chunk.
func (c *chunk[T]) Decode(_ context.Context, out *leat.Batch[T], reject func(record int, err error)) (records, rejected int, _ error) {
	if c.piece.Long {
		reject(0, c.longError())
		return 1, 1, nil
	}
	out.Grow(c.room())
	w := walk[T]{chunk: c, out: out, reject: reject, decoder: c.lines.plan.Decoder(), line: c.piece.Line}
	defer w.decoder.Release()
	for !w.run() {
	}
	return w.rows, w.rejected, nil
}

// room is not less than the number of rows: neither lines nor bytes are enough for more.
func (c *chunk[T]) room() int {
	lines := c.piece.EndLine - c.piece.Line + 1
	return int(min(lines, int64(len(c.piece.Data)/c.lines.least)+1))
}

// walk is one decoding. It can be taken up again after a panic.
type walk[T any] struct {
	chunk          *chunk[T]
	out            *leat.Batch[T]
	reject         func(record int, err error)
	decoder        *row.JSONDecoder
	rows, rejected int
	first          int // what the first record is called

	at    int   // what is to be read next
	line  int64 // of it
	start int   // of the record at hand
	given bool  // out has a row for it
}

// run decodes up to the end, or to a record whose column's own UnmarshalJSON or
// UnmarshalText panics: that record is rejected (rule A9).
func (w *walk[T]) run() (done bool) {
	defer func() {
		if !done {
			w.at = lineEnd(w.chunk.piece.Data, w.start)
			w.refuse(&engine.PanicError{Value: recover(), Stack: debug.Stack()})
			w.line++
		}
	}()
	data := w.chunk.piece.Data
	for {
		w.at, w.line = skipBlank(data, w.at, w.line)
		if w.at >= len(data) {
			return true
		}
		w.start = w.at
		p := unsafe.Pointer(w.out.Extend(w.first + w.rows))
		w.given = true
		next, err := w.decoder.Line(data, w.start, p)
		if err == nil && len(w.chunk.lines.origins) > 0 {
			err = w.setOrigins(p)
		}
		w.at = next
		if err != nil {
			w.refuse(jsonrow.FieldError(err))
		} else {
			w.given = false
			w.rows++
		}
		w.line++
	}
}

// skipBlank passes over lines with nothing on them, as csvtext does.
func skipBlank(data []byte, at int, line int64) (int, int64) {
	for at < len(data) {
		switch {
		case data[at] == '\n':
			at++
		case data[at] != '\r':
			return at, line
		case at+1 == len(data):
			return at + 1, line
		case data[at+1] == '\n':
			at += 2
		default:
			return at, line
		}
		line++
	}
	return at, line
}

func (w *walk[T]) refuse(err error) {
	if w.given {
		w.out.Drop()
		w.given = false
	}
	w.reject(w.first+w.rows, err)
	w.rejected++
	w.rows++
}

// setOrigins fills the fields tagged `leat:"@file"` and the like; those that have no
// meaning for a file stay zero.
func (w *walk[T]) setOrigins(p unsafe.Pointer) (err error) {
	c := w.chunk
	for i := range c.lines.origins {
		switch col := &c.lines.origins[i]; col.Name {
		case "@file":
			err = col.SetString(p, c.file)
		case "@line":
			err = col.SetInt(p, w.line)
		case "@offset":
			err = col.SetInt(p, c.base+c.piece.Start+int64(w.start))
		case "@timestamp":
			err = col.SetTime(p, c.arrived)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *chunk[T]) longError() error {
	return &leat.FieldError{Rule: ruleSize, Msg: fmt.Sprintf(
		"line %d: the record has %d bytes, more than the limit of %d; only its first %d bytes are kept",
		c.piece.Line, c.piece.End-c.piece.Start, c.lines.dialect.MaxRecord, len(c.piece.Data))}
}

// Locate implements filesource.Piece. It walks the chunk again. What it gives are copies:
// whoever keeps them need not know of Release.
func (c *chunk[T]) Locate(records []int) []leat.Origin {
	origin := leat.Origin{File: c.file, Time: c.arrived}
	out := make([]leat.Origin, 0, len(records))
	if c.piece.Long {
		origin.Offset, origin.Line, origin.Raw = c.base+c.piece.Start, c.piece.Line, bytes.Clone(c.piece.Data)
		return append(out, slices.Repeat([]leat.Origin{origin}, len(records))...)
	}
	r := csvtext.NewWalk(&c.lines.dialect, c.piece.Data, c.piece.Line)
	at := -1
	for _, want := range records {
		for at < want && r.Next() {
			at++
		}
		origin.Offset, origin.Line, origin.Raw = c.base+c.piece.Start+int64(r.Start), r.Line, bytes.Clone(r.Raw())
		out = append(out, origin)
	}
	return out
}

// Offsets implements filesource.Piece. It walks the chunk again, as Locate does.
func (c *chunk[T]) Offsets(records []int, out []leat.Offset) {
	c.piece.Offsets(&c.lines.dialect, c.base, records, out)
}

// Bytes implements filesource.Piece: the text, the rows, and what rows have outside of
// themselves.
func (c *chunk[T]) Bytes() int64 {
	var zero T
	return int64(c.piece.Held()) + int64(c.room())*int64(unsafe.Sizeof(zero)) + c.lines.grows*int64(len(c.piece.Data))
}

// onRelease, if set, is told of each chunk's text before its memory is given back: the
// tests overwrite it.
var onRelease func(text []byte)

// Release implements filesource.Piece. Only rows and what Locate gave are left.
func (c *chunk[T]) Release() {
	if onRelease != nil {
		onRelease(c.piece.Data)
	}
	c.piece.Release()
}

// lineEnd is where the line behind the one at data[at] begins.
func lineEnd(data []byte, at int) int {
	if nl := bytes.IndexByte(data[at:], '\n'); nl >= 0 {
		return at + nl + 1
	}
	return len(data)
}
