package csvsource

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/leatgo/leat/internal/csvtext"
	"github.com/leatgo/leat/internal/filesource"
	"github.com/leatgo/leat/internal/row"
	"github.com/leatgo/leat/internal/transcode"
	"github.com/leatgo/leat/source/drift"
)

// form is how all files of a source are read. It is immutable.
type form struct {
	row      *row.Type
	dialect  csvtext.Dialect
	spelling row.Spelling
	encoding Encoding
	skip     int      // lines
	names    []string // of the columns, when the files have no header; else nil
	ragged   Ragged
	extra    drift.Extra
	missing  drift.Missing
	trim     bool
}

func newForm[T any](c *Config[T]) (*form, error) {
	t, err := row.Of[T]()
	if err != nil {
		return nil, err
	}
	return &form{
		row: t, dialect: c.dialect(), spelling: c.spelling(), encoding: c.Encoding, skip: c.SkipLines, names: c.Header,
		ragged: c.Ragged, extra: c.Extra, missing: c.Missing, trim: c.Trim,
	}, nil
}

// coded tells whether the text is not what is stored.
func (f *form) coded() bool { return f.encoding.code() != transcode.UTF8 }

// extent is the width of a file's range of offsets, which are places in its text in
// UTF-8 (rule D6).
func (f *form) extent(name string, size int64) int64 {
	if f.coded() && !filesource.Compressed(name) {
		size *= transcode.Growth
	}
	return filesource.TextExtent(name, size)
}

// text gives a file's text in UTF-8; see filesource.OpenText.
func (f *form) text(name string, file io.ReadSeeker) (io.Reader, func(), error) {
	r, done, err := filesource.OpenText(name, file)
	if err != nil || !f.coded() {
		return r, done, err
	}
	r = f.encoding.code().Reader(r)
	if filesource.Compressed(name) { // else the extent has place for all that may come
		r = &limited{r, f.extent(name, 0)}
	}
	return r, done, nil
}

// limited is a text that must be shorter than left.
type limited struct {
	r    io.Reader
	left int64
}

func (l *limited) Read(p []byte) (int, error) {
	n, err := l.r.Read(p)
	if l.left -= int64(n); l.left <= 0 {
		return 0, filesource.Damaged(errors.New("its text in UTF-8 is too long for a range of offsets"))
	}
	return n, err
}

// header reads the start of a text up to its first record, and binds the columns. The error
// is a headerFault or one of reading; names come with a headerFault too, if there
// are any.
func (f *form) header(c *csvtext.Cutter) (names []string, _ *header, err error) {
	if err := f.checkMark(c.Peek(16)); err != nil {
		return nil, nil, filesource.Damaged(err)
	}
	if err := c.SkipLines(f.skip); err != nil {
		return nil, nil, err
	}
	if f.names != nil {
		h, err := f.bind(f.names, headerLine(&f.dialect, f.names))
		return f.names, h, err
	}
	return f.readHeader(c)
}

// marks are the byte order marks.
var marks = []struct {
	bytes    string
	encoding Encoding
}{{"\xef\xbb\xbf", UTF8}, {"\xff\xfe", UTF16LE}, {"\xfe\xff", UTF16BE}}

// checkMark refuses a text that begins with the byte order mark of another encoding.
func (f *form) checkMark(start []byte) error {
	stored := f.encoding.code().Encode(nil, start)
	for _, m := range marks {
		if bytes.HasPrefix(stored, []byte(m.bytes)) && m.encoding != f.encoding && f.encoding != AnyBytes {
			return &headerFault{msg: fmt.Sprintf("the file begins with the byte order mark of %v, but Encoding is %v", m.encoding, f.encoding)}
		}
	}
	return nil
}

// headerLine is the header that a file with these columns would have.
func headerLine(d *csvtext.Dialect, names []string) string {
	var b []byte
	for i, name := range names {
		if i > 0 {
			b = append(b, d.Delimiter)
		}
		if d.Quote == 0 {
			b = append(b, name...)
			continue
		}
		b = append(b, d.Quote)
		b = append(b, bytes.ReplaceAll([]byte(name), []byte{d.Quote}, []byte{d.Quote, d.Quote})...)
		b = append(b, d.Quote)
	}
	return string(b)
}
