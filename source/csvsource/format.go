package csvsource

import (
	"context"
	"os"

	"github.com/leatgo/leat/internal/csvtext"
	"github.com/leatgo/leat/internal/filesource"
	"github.com/leatgo/leat/internal/folder"
)

// format is filesource.Format for CSV.
type format[T any] struct {
	form   *form
	cutter *csvtext.Cutter
	glance *csvtext.Cutter // for headers
	header *header         // of the file that was read last
}

func newFormat[T any](c *Config[T]) (*format[T], error) {
	f, err := newForm(c)
	if err != nil {
		return nil, err
	}
	return &format[T]{form: f, cutter: csvtext.NewCutter(f.dialect, c.chunkBytes()), glance: csvtext.NewCutter(f.dialect, 4<<10)}, nil
}

// Inspect implements filesource.Format: it looks at the header.
func (m *format[T]) Inspect(_ context.Context, name string, f *os.File, size int64) (folder.Look, error) {
	look := folder.Look{Extent: m.form.extent(name, size)}
	if err := filesource.Rewind(f); err != nil {
		return look, err
	}
	r, done, err := m.form.text(name, f)
	if err == nil {
		defer done()
		m.glance.Reset(r)
		look.Schema, _, err = m.form.header(m.glance)
	}
	if filesource.IsDamaged(err) {
		look.Fault, err = err, nil
	}
	return look, err
}

// Open implements filesource.Format.
func (m *format[T]) Open(_ context.Context, f filesource.File) (filesource.Records[T], error) {
	src, done, err := m.form.text(f.Name, f)
	if err != nil {
		return nil, err
	}
	m.cutter.Reset(src)
	_, h, err := m.form.header(m.cutter)
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
		piece: p, header: r.format.header,
		base: r.file.Base, file: r.file.Name, arrived: r.file.Arrived,
	}, nil
}

// Close implements filesource.Records.
func (r *records[T]) Close() { r.done() }
