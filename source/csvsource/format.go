package csvsource

import (
	"context"
	"os"

	"github.com/leatgo/leat/internal/csvtext"
	"github.com/leatgo/leat/internal/filesource"
	"github.com/leatgo/leat/internal/folder"
	"github.com/leatgo/leat/internal/row"
)

// format is filesource.Format for CSV.
type format[T any] struct {
	row     *row.Type
	dialect csvtext.Dialect
	cutter  *csvtext.Cutter
	glance  *csvtext.Cutter // for headers
	header  *header         // of the file that was read last
}

func newFormat[T any](c *Config[T]) (*format[T], error) {
	t, err := row.Of[T]()
	if err != nil {
		return nil, err
	}
	d := c.dialect()
	return &format[T]{row: t, dialect: d, cutter: csvtext.NewCutter(d, c.chunkBytes()), glance: csvtext.NewCutter(d, 4<<10)}, nil
}

// Inspect implements filesource.Format: it looks at the header.
func (m *format[T]) Inspect(_ context.Context, name string, f *os.File, size int64) (folder.Look, error) {
	look := folder.Look{Extent: filesource.TextExtent(name, size)}
	if err := filesource.Rewind(f); err != nil {
		return look, err
	}
	r, done, err := filesource.OpenText(name, f)
	if err == nil {
		defer done()
		m.glance.Reset(r)
		look.Schema, _, err = readHeader(m.glance, m.row)
	}
	if filesource.IsDamaged(err) {
		look.Fault, err = err, nil
	}
	return look, err
}

// Open implements filesource.Format.
func (m *format[T]) Open(_ context.Context, f filesource.File) (filesource.Records[T], error) {
	src, done, err := filesource.OpenText(f.Name, f)
	if err != nil {
		return nil, err
	}
	m.cutter.Reset(src)
	_, h, err := readHeader(m.cutter, m.row)
	if err != nil {
		done()
		return nil, err
	}
	if m.header == nil || m.header.raw != h.raw {
		m.header = h // else what the last one has learned serves again
	}
	return &records[T]{Cutter: m.cutter, format: m, file: f, done: done}, nil
}

// records is filesource.Records: a text behind its header.
type records[T any] struct {
	*csvtext.Cutter
	format *format[T]
	file   filesource.File
	done   func()
}

// Next implements filesource.Records.
func (r *records[T]) Next() (filesource.Piece[T], error) {
	p, err := r.Cutter.Next()
	if err != nil {
		return nil, err
	}
	return &chunk[T]{
		piece: p, dialect: &r.format.dialect, header: r.format.header,
		base: r.file.Base, file: r.file.Name, arrived: r.file.Arrived,
	}, nil
}

// Close implements filesource.Records.
func (r *records[T]) Close() { r.done() }
