package jsonsource

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"

	"github.com/leatgo/leat/internal/csvtext"
	"github.com/leatgo/leat/internal/filesource"
	"github.com/leatgo/leat/internal/folder"
	"github.com/leatgo/leat/internal/row"
)

// lines is what all files of a source have in common.
type lines struct {
	plan    *row.JSONPlan
	origins []row.Column
	dialect csvtext.Dialect // of lines: nothing is quoted, and what delimits fields is not looked at
	least   int             // bytes of a line that becomes a row, its end included
	grows   int64           // how many bytes of the rows' own memory one byte of text may become
}

// format is filesource.Format for JSON lines.
type format[T any] struct {
	lines  *lines
	cutter *csvtext.Cutter
	glance *bufio.Reader // for the first bytes
}

func newFormat[T any](l *lines, chunk int) *format[T] {
	return &format[T]{lines: l, cutter: csvtext.NewCutter(l.dialect, chunk), glance: bufio.NewReaderSize(nil, 4<<10)}
}

// Inspect implements filesource.Format: it keeps out what is JSON, but no lines of it.
func (m *format[T]) Inspect(_ context.Context, name string, f *os.File, size int64) (folder.Look, error) {
	look := folder.Look{Extent: filesource.TextExtent(name, size)}
	if err := filesource.Rewind(f); err != nil {
		return look, err
	}
	r, done, err := filesource.OpenText(name, f)
	if err == nil {
		defer done()
		m.glance.Reset(r)
		err = noLines(m.glance)
	}
	if filesource.IsDamaged(err) {
		look.Fault, err = err, nil
	}
	return look, err
}

var (
	errArray = filesource.Damaged(errors.New("its text is one JSON array, not one object on each line: make lines of it, for instance with jq -c '.[]'"))
	errWide  = filesource.Damaged(errors.New("its objects go over several lines; each must be on a line of its own: make lines of it, for instance with jq -c"))
)

// farthest is how much white space is looked through.
const farthest = 64 << 10

// noLines tells by the first bytes whether a text is an array of objects, or objects that
// are spread over lines. Any other fault is one of a line: the others can be read. Damage
// of what is compressed counts here only if nothing comes before it.
func noLines(r *bufio.Reader) error {
	if mark, _ := r.Peek(3); string(mark) == "\xef\xbb\xbf" {
		_, _ = r.Discard(3)
	}
	first, _, err := nextByte(r)
	if err != nil {
		return ignoreEOF(err)
	}
	if first != '[' && first != '{' {
		return nil
	}
	second, ended, err := nextByte(r)
	switch {
	case err != nil && !filesource.IsDamaged(err):
		return ignoreEOF(err)
	case first == '[' && second == '{':
		return errArray
	case first == '[' && second == ']':
		if _, _, err := nextByte(r); err == io.EOF {
			return errArray
		}
	case first == '{' && second == '"' && ended:
		return errWide
	}
	return nil
}

func ignoreEOF(err error) error {
	if err == io.EOF {
		return nil
	}
	return err
}

// nextByte is the next one that is no white space; ended tells whether a line has ended
// before it.
func nextByte(r *bufio.Reader) (c byte, ended bool, err error) {
	for range farthest {
		c, err = r.ReadByte()
		switch {
		case err != nil:
			return 0, ended, err
		case c == '\n':
			ended = true
		case c != ' ' && c != '\t' && c != '\r':
			return c, ended, nil
		}
	}
	return 0, ended, nil
}

// Open implements filesource.Format.
func (m *format[T]) Open(_ context.Context, f filesource.File) (filesource.Records[T], error) {
	src, done, err := filesource.OpenText(f.Name, f)
	if err != nil {
		return nil, err
	}
	m.cutter.Reset(src)
	if err := m.cutter.SkipLines(0); err != nil { // a byte order mark
		done()
		return nil, err
	}
	return &records[T]{Cutter: m.cutter, lines: m.lines, file: f, done: done}, nil
}

// records is filesource.Records: a text.
type records[T any] struct {
	*csvtext.Cutter
	lines *lines
	file  filesource.File
	done  func()
}

// Next implements filesource.Records.
func (r *records[T]) Next() (filesource.Piece[T], error) {
	p, err := r.Cutter.Next()
	if err != nil {
		return nil, err
	}
	return &chunk[T]{piece: p, lines: r.lines, base: r.file.Base, file: r.file.Name, arrived: r.file.Arrived}, nil
}

// Close implements filesource.Records.
func (r *records[T]) Close() { r.done() }
