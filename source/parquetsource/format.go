package parquetsource

import (
	"context"
	"io"
	"os"

	"github.com/leatgo/leat/internal/filesource"
	"github.com/leatgo/leat/internal/folder"
	"github.com/leatgo/leat/internal/parquetread"
	"github.com/leatgo/leat/internal/row"
)

// format is filesource.Format for Parquet.
type format[T any] struct {
	row    *row.Type
	config *Config[T]
}

func newFormat[T any](c *Config[T]) (*format[T], error) {
	t, err := row.Of[T]()
	if err != nil {
		return nil, err
	}
	return &format[T]{row: t, config: c}, nil
}

// opened is a file whose footer was read, in this process or in another one.
type opened interface {
	// meta is what the footer says.
	meta() *parquetread.File

	// reader begins to read columns at a row.
	reader(columns []int, from int64, rows int) pieces

	close()
}

// pieces gives the pieces of a file, as parquetread.Reader does.
type pieces interface {
	Next(ctx context.Context) (*parquetread.Piece, error)
}

// here is a file that this process decodes.
type here struct{ file *parquetread.File }

func (h here) meta() *parquetread.File { return h.file }
func (h here) close()                  {}
func (h here) reader(columns []int, from int64, rows int) pieces {
	return h.file.Reader(columns, from, rows)
}

// open reads a file's footer and finds its columns. Faults of the file are Damaged.
func (m *format[T]) open(ctx context.Context, r io.ReaderAt, size int64, reads bool) (o opened, plan *parquetread.Plan, err error) {
	if m.config.Isolate.on() {
		o, err = isolated(ctx, &m.config.Isolate, r, size, m.config.Limits.read(), reads)
	} else {
		var f *parquetread.File
		f, err = parquetread.Open(r, size, m.config.Limits.read())
		o = here{f}
	}
	if err != nil {
		return nil, nil, marked(err)
	}
	plan, err = o.meta().Plan(m.row, m.config.drift())
	return o, plan, marked(err)
}

// marked tells filesource which faults are the file's.
func marked(err error) error {
	if parquetread.IsDamage(err) {
		return filesource.Damaged(err)
	}
	return err
}

// Inspect implements filesource.Format: it looks at the footer. The range of offsets has
// one for each row, and one more.
func (m *format[T]) Inspect(ctx context.Context, _ string, f *os.File, size int64) (folder.Look, error) {
	look := folder.Look{Extent: 1}
	o, _, err := m.open(ctx, f, size, false)
	if o != nil {
		defer o.close()
		look.Extent = o.meta().Rows + 1
		for i := range o.meta().Columns {
			c := &o.meta().Columns[i]
			look.Schema = append(look.Schema, c.Name+" "+c.Type)
		}
	}
	if filesource.IsDamaged(err) {
		look.Fault, err = err, nil
	}
	return look, err
}

// Open implements filesource.Format.
func (m *format[T]) Open(ctx context.Context, f filesource.File) (filesource.Records[T], error) {
	o, plan, err := m.open(ctx, f, f.Size, true)
	if err != nil {
		if o != nil {
			o.close()
		}
		return nil, err
	}
	return &records[T]{format: m, ctx: ctx, file: f, opened: o, plan: plan, stop: -1}, nil
}

// repeatedBytes is about how many bytes of texts that repeat the rows of a piece may have.
const repeatedBytes = 64 << 20

// records is filesource.Records: the rows of a file, by their numbers from 0.
type records[T any] struct {
	format *format[T]
	ctx    context.Context
	file   filesource.File
	opened opened
	plan   *parquetread.Plan

	pieces pieces // nil: not begun
	next   int64  // row
	stop   int64  // the row that is not read any more; -1: none

	// Piece at hand, of which the rows from next on are still to come: it was read up to
	// Stop only, or is too large for one batch.
	rest *parquetread.Piece
}

func (r *records[T]) Offset() int64 { return r.next }
func (r *records[T]) Line() int64   { return r.next + 1 }

// Stop implements filesource.Records.
func (r *records[T]) Stop(offset int64) { r.stop = offset }

// SkipTo implements filesource.Records.
func (r *records[T]) SkipTo(offset, _ int64) error {
	if offset > r.opened.meta().Rows {
		return io.ErrUnexpectedEOF
	}
	if offset != r.next {
		r.next, r.pieces, r.rest = offset, nil, nil
	}
	return nil
}

// end is the row behind the last one to be read.
func (r *records[T]) end() int64 {
	if r.stop >= 0 {
		return min(r.stop, r.opened.meta().Rows)
	}
	return r.opened.meta().Rows
}

// Next implements filesource.Records.
func (r *records[T]) Next() (filesource.Piece[T], error) {
	end := r.end()
	if r.next >= end {
		return nil, io.EOF
	}
	p := r.rest
	if p == nil {
		if r.pieces == nil {
			r.pieces = r.opened.reader(r.plan.Columns, r.next, r.format.config.ChunkRows)
		}
		var err error
		p, err = r.pieces.Next(r.ctx)
		if err == io.EOF { // before the last row
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return nil, marked(err)
		}
	}
	r.rest = nil
	if n := int(min(int64(p.Fit(repeatedBytes)), end-p.First)); n < p.Rows {
		p, r.rest = p.Split(n)
	}
	r.next = p.First + int64(p.Rows)
	return &piece[T]{
		Piece: p, plan: r.plan, row: r.format.row, last: r.next == end,
		base: r.file.Base, file: r.file.Name, arrived: r.file.Arrived,
	}, nil
}

// Close implements filesource.Records.
func (r *records[T]) Close() { r.opened.close() }
