package csvsource

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"runtime/debug"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
	"unsafe"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/csvtext"
	"github.com/leatgo/leat/internal/engine"
	"github.com/leatgo/leat/internal/filesource"
	"github.com/leatgo/leat/internal/row"
)

// chunk is a piece of one file with all that its records need to be decoded and
// found again. It is immutable until it is released, so Decode and Locate may run at any
// time and as often as the engine likes.
type chunk[T any] struct {
	piece   csvtext.Piece
	header  *header
	base    int64 // of the file in the log
	file    string
	arrived time.Time
}

// The rules of rejected records, beside those of package row.
const (
	ruleFields = "fields" // more or fewer fields than the header has
	ruleQuote  = "quote"  // see package csvtext
	ruleSize   = "size"   // longer than MaxRecord
)

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
	d := c.header.decoder()
	defer d.Release()
	w := walk[T]{
		chunk: c, out: out, reject: reject, decoder: d,
		records: csvtext.NewRecords(&c.header.form.dialect, c.piece.Data, c.piece.Line, c.header.fields),
	}
	for !w.run() {
	}
	return w.rows, w.rejected, nil
}

// room is not less than the number of rows: neither lines nor bytes are enough for more.
// A quoted field, and what is between records, may have far more lines than that.
func (c *chunk[T]) room() int {
	lines := c.piece.EndLine - c.piece.Line + 1
	return int(min(lines, int64(len(c.piece.Data)/c.header.least)+1))
}

// walk is one decoding. It can be taken up again after a panic.
type walk[T any] struct {
	chunk          *chunk[T]
	out            *leat.Batch[T]
	reject         func(record int, err error)
	records        csvtext.Records
	decoder        *row.Decoder // nil: every record is read in the careful way, and strings are parts of the text
	rows, rejected int
	first          int // what the first record is called

	row   *T   // the place of the record at hand in out; nil: it has none yet
	quick bool // it is being read the quick way
}

// run decodes up to the end, or to a record whose column's own UnmarshalText
// panics: that record is rejected (rule A9).
func (w *walk[T]) run() (done bool) {
	defer func() {
		switch {
		case done:
		case w.quick: // once more, the careful way, which says what is wrong
			recover()
		default:
			w.refuse(&engine.PanicError{Value: recover(), Stack: debug.Stack()})
		}
	}()
	for again := w.quick; ; again = false {
		if !again && w.decoder != nil && w.chunk.header.extra == nil && w.line() {
			continue
		}
		w.quick = false
		if !w.records.Next() {
			w.drop()
			return true
		}
		err := w.chunk.fault(&w.records)
		if err == nil {
			err = w.parse()
		}
		if err != nil {
			w.refuse(err)
			continue
		}
		w.row = nil
		w.rows++
	}
}

// line reads the next record the quick way, if it is a plain one. If not, nothing has
// happened.
func (w *walk[T]) line() bool {
	at := w.records.End
	if at >= len(w.chunk.piece.Data) {
		return false
	}
	w.extend()
	w.quick = true
	next := w.decoder.Line(w.chunk.piece.Data, at, unsafe.Pointer(w.row))
	w.quick = false
	if next == 0 {
		return false
	}
	w.records.Pass(next - at)
	if w.chunk.header.origins != nil {
		if err := w.chunk.setOrigins(&w.records, unsafe.Pointer(w.row)); err != nil {
			w.refuse(err)
			return true
		}
	}
	w.row = nil
	w.rows++
	return true
}

// extend gives the record at hand a place. The row is decoded where it stays: it is
// large, and copying it costs as much as parsing a cell.
func (w *walk[T]) extend() { w.row = w.out.Extend(w.first + w.rows) }

func (w *walk[T]) drop() {
	if w.row != nil {
		w.out.Drop()
		w.row = nil
	}
}

func (w *walk[T]) refuse(err error) {
	w.drop()
	w.reject(w.first+w.rows, err)
	w.rejected++
	w.rows++
}

// parse sets the columns of the row at hand.
func (w *walk[T]) parse() error {
	if w.row == nil {
		w.extend()
	} else {
		var zero T
		*w.row = zero // the quick way has left something
	}
	p := unsafe.Pointer(w.row)
	h, r := w.chunk.header, &w.records
	for _, b := range h.columns {
		text := "" // of a record that is padded
		if b.field < len(r.Fields) {
			text = r.Fields[b.field]
		}
		if err := h.form.spelling.Set(b.column, p, text, w.decoder); err != nil {
			return fieldError(b.column.Name, err)
		}
	}
	if h.extra != nil {
		if err := h.keepOthers(p, r.Fields, w.decoder); err != nil {
			return err
		}
	}
	if h.origins != nil {
		return w.chunk.setOrigins(r, p)
	}
	return nil
}

// keepOthers fills the map of what the row type has no columns for.
func (h *header) keepOthers(p unsafe.Pointer, fields []string, keep *row.Decoder) error {
	at := h.extra.At(p)
	var set func(name, text string)
	switch h.extra.Elem().Elem() {
	case reflect.TypeFor[string]():
		m := make(map[string]string, len(h.others))
		*(*map[string]string)(at) = m
		set = func(name, text string) { m[name] = text }
	case reflect.TypeFor[any]():
		m := make(map[string]any, len(h.others))
		*(*map[string]any)(at) = m
		set = func(name, text string) { m[name] = text }
	default:
		m := make(map[string]json.RawMessage, len(h.others))
		*(*map[string]json.RawMessage)(at) = m
		set = func(name, text string) { m[name], _ = json.Marshal(text) } // of a string it never fails
	}
	for _, o := range h.others {
		if o.field >= len(fields) { // the record is shorter
			continue
		}
		text := fields[o.field]
		if h.form.trim {
			text = strings.Trim(text, " \t")
		}
		if fault := h.form.spelling.Check(text); fault != "" {
			return &leat.FieldError{Column: h.extra.Name, Rule: row.RuleUTF8, Msg: fmt.Sprintf("column %s: %q %s", o.name, text[:min(len(text), 64)], fault)}
		}
		if keep != nil {
			text = keep.Keep(text)
		}
		set(o.name, text)
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
	if r.Fault == csvtext.Fine {
		switch ragged := c.header.form.ragged; {
		case r.Count == c.header.fields,
			r.Count < c.header.fields && ragged&PadRagged != 0,
			r.Count > c.header.fields && ragged&CutRagged != 0:
			return nil
		}
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
		c.piece.Line, c.piece.End-c.piece.Start, c.header.form.dialect.MaxRecord, len(c.piece.Data))}
}

// Locate implements filesource.Piece. It walks the chunk again. What it gives are copies:
// whoever keeps them need not know of Release.
func (c *chunk[T]) Locate(records []int) []leat.Origin {
	origin := leat.Origin{File: c.file, Header: c.header.raw, Time: c.arrived}
	stored := func(text []byte) []byte { // rule B4: the original bytes
		return c.header.form.encoding.code().Encode(make([]byte, 0, len(text)), text)
	}
	out := make([]leat.Origin, 0, len(records))
	if c.piece.Long {
		origin.Offset, origin.Line, origin.Raw = c.base+c.piece.Start, c.piece.Line, stored(wholeCharacters(c.piece.Data))
		return append(out, slices.Repeat([]leat.Origin{origin}, len(records))...)
	}
	r := csvtext.NewWalk(&c.header.form.dialect, c.piece.Data, c.piece.Line)
	at := -1
	for _, want := range records {
		for at < want && r.Next() {
			at++
		}
		origin.Offset, origin.Line, origin.Raw = c.base+c.piece.Start+int64(r.Start), r.Line, stored(r.Raw())
		out = append(out, origin)
	}
	return out
}

// Offsets implements filesource.Piece. It walks the chunk again, as Locate does.
func (c *chunk[T]) Offsets(records []int, out []leat.Offset) {
	c.piece.Offsets(&c.header.form.dialect, c.base, records, out)
}

// wholeCharacters is text without a part of a character at its end.
func wholeCharacters(text []byte) []byte {
	for i := 1; i < utf8.UTFMax && i <= len(text); i++ {
		if utf8.RuneStart(text[len(text)-i]) {
			if !utf8.FullRune(text[len(text)-i:]) {
				return text[:len(text)-i]
			}
			break
		}
	}
	return text
}

// Bytes implements filesource.Piece: the text, the rows, and their strings, which are
// together no longer than the text.
func (c *chunk[T]) Bytes() int64 {
	var zero T
	n := int64(c.piece.Held()) + int64(c.room())*int64(unsafe.Sizeof(zero))
	if slices.ContainsFunc(c.header.columns, func(b binding) bool { return b.column.Kind >= row.String }) {
		n += int64(len(c.piece.Data))
	}
	if k := len(c.header.others); k > 0 { // a map for each row
		n += int64(c.room())*int64(48+64*k) + int64(len(c.piece.Data))
	}
	return n
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
