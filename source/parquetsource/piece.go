package parquetsource

import (
	"context"
	"errors"
	"time"
	"unsafe"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/filesource"
	"github.com/leatgo/leat/internal/parquetread"
	"github.com/leatgo/leat/internal/row"
)

// piece is filesource.Piece: some rows as columns of values, which nothing changes.
type piece[T any] struct {
	*parquetread.Piece
	plan    *parquetread.Plan
	row     *row.Type
	last    bool
	base    int64 // of the file in the log
	file    string
	arrived time.Time
}

// Span implements filesource.Piece.
func (p *piece[T]) Span() filesource.Span {
	end := p.First + int64(p.Rows)
	return filesource.Span{Start: p.First, End: end, EndLine: end + 1, Last: p.last}
}

// Decode implements filesource.Piece. Rows share memory with each other (texts that
// repeat, in a dictionary), and none with what is used again.
func (p *piece[T]) Decode(_ context.Context, out *leat.Batch[T], reject func(record int, err error)) (records, rejected int, _ error) {
	n := p.Rows
	if n == 0 {
		return 0, 0, nil
	}
	out.Grow(n)
	first := out.Extend(0)
	for i := 1; i < n; i++ {
		out.Extend(i)
	}
	var errs []error
	refuse := func(i int, err error) {
		if errs == nil {
			errs = make([]error, n)
		}
		if errs[i] == nil {
			errs[i] = err
			rejected++
		}
	}
	stride := unsafe.Sizeof(*first)
	p.plan.Fill(p.Piece, unsafe.Pointer(first), stride, refuse)
	for i := range p.row.Origins {
		p.origins(&p.row.Origins[i], unsafe.Pointer(first), stride, refuse)
	}
	if rejected == 0 {
		return n, 0, nil
	}
	rows := append([]T(nil), unsafe.Slice(first, n)...)
	for range n {
		out.Drop()
	}
	for i, err := range errs {
		if err != nil {
			reject(i, err)
		} else {
			*out.Extend(i) = rows[i]
		}
	}
	return n, rejected, nil
}

// origins fills a field tagged `leat:"@file"` or the like; those that have no meaning for
// a file stay zero.
func (p *piece[T]) origins(c *row.Column, base unsafe.Pointer, stride uintptr, refuse func(i int, err error)) {
	for i := range p.Rows {
		var err error
		r := unsafe.Add(base, uintptr(i)*stride)
		switch c.Name {
		case "@file":
			err = c.SetString(r, p.file)
		case "@line":
			err = c.SetInt(r, p.First+int64(i)+1)
		case "@offset":
			err = c.SetInt(r, p.base+p.First+int64(i))
		case "@timestamp":
			err = c.SetTime(r, p.arrived)
		default:
			return
		}
		if err != nil {
			refuse(i, fieldError(c.Name, err))
		}
	}
}

func fieldError(column string, err error) error {
	var e *row.Error
	if errors.As(err, &e) {
		return &leat.FieldError{Column: e.Column, Rule: e.Rule(), Msg: e.Error()}
	}
	return &leat.FieldError{Column: column, Rule: row.RuleSyntax, Msg: err.Error()}
}

// Locate implements filesource.Piece. Raw is the row as JSON.
func (p *piece[T]) Locate(records []int) []leat.Origin {
	out := make([]leat.Origin, len(records))
	letters := p.plan.Letters(p.Piece)
	for k, i := range records {
		out[k] = leat.Origin{
			Offset: p.base + p.First + int64(i), File: p.file, Line: p.First + int64(i) + 1, Time: p.arrived,
			Raw: letters.AppendJSON(nil, i),
		}
	}
	return out
}

// Offsets implements filesource.Piece.
func (p *piece[T]) Offsets(records []int, out []leat.Offset) {
	for k, i := range records {
		out[k] = p.base + p.First + int64(i)
	}
}

// Bytes implements filesource.Piece.
func (p *piece[T]) Bytes() int64 {
	var zero T
	return p.Piece.Bytes() + int64(p.Rows)*int64(unsafe.Sizeof(zero))
}

// Release implements filesource.Piece: the garbage collector has the memory.
func (p *piece[T]) Release() {}
