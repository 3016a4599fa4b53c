package csvsource

import (
	"bytes"
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/csvtext"
	"github.com/leatgo/leat/internal/filesource/filetest"
)

// rec is a row that knows where it came from.
type rec struct {
	ID     int64
	Text   string
	File   string `leat:"@file"`
	Line   int64  `leat:"@line"`
	Offset int64  `leat:"@offset"`
}

// describe tells filetest what it looks at in a row.
func describe(r rec) filetest.Row {
	return filetest.Row{ID: r.ID, Text: r.Text, Line: r.Line, Offset: r.Offset}
}

// world is filetest's, with this package's Config.
type world struct{ *filetest.World[rec] }

type life = filetest.Life

func newWorld(t *testing.T) *world { return &world{filetest.New(t, describe)} }

func (w *world) config() Config[rec] {
	return Config[rec]{Dir: w.Dir, Name: filetest.Name, OnFile: w.OnFile}
}

// live runs one life and gives what Drive returned.
func (w *world) live(c Config[rec], l life) error {
	w.T.Helper()
	return w.Live(w.T.Context(), New(c), l)
}

// must is a life without trouble.
func (w *world) must(c Config[rec]) {
	w.T.Helper()
	require.NoError(w.T, w.live(c, filetest.Whole()))
}

// randomCSV has good and bad records; every other cell is of several lines.
func randomCSV(r *rand.Rand, first, rows int) string {
	var b strings.Builder
	b.WriteString([]string{"id,text\n", "\xef\xbb\xbftext,\"id\"\r\n", "x,text,id\n\n"}[first%3])
	for i := range rows {
		id := []byte(nil)
		for n := first*1000 + i; ; n /= 10 {
			id = append([]byte{byte('0' + n%10)}, id...)
			if n < 10 {
				break
			}
		}
		cell := strings.Repeat("ab\n\"\"c,", r.IntN(4))
		switch r.IntN(12) {
		case 0:
			id = append(id, 'x') // no number
		case 1:
			cell = "unclosed\n" // costs this line
		}
		cell = `"` + cell
		if !strings.HasSuffix(cell, "d\n") {
			cell += `"`
		}
		switch first % 3 {
		case 0:
			b.WriteString(string(id) + "," + cell)
		case 1:
			b.WriteString(cell + "," + string(id))
		case 2:
			b.WriteString(",\"" + strings.TrimPrefix(cell, `"`) + "," + string(id))
		}
		if !strings.HasSuffix(b.String(), "\n") {
			b.WriteString("\n")
		}
	}
	return b.String()
}

// decode is Decode, for tests.
func (c *chunk[T]) decode(out *leat.Batch[T], reject func(record int, err error)) (records, rejected int) {
	records, rejected, err := c.Decode(context.Background(), out, reject)
	if err != nil {
		panic(err)
	}
	return records, rejected
}

// decodeOf is the only chunk of a small file.
func decodeOf(s *Source[rec], path string) (*chunk[rec], error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	f, err := newForm(&s.config)
	if err != nil {
		return nil, err
	}
	c := csvtext.NewCutter(f.dialect, s.config.chunkBytes())
	c.Reset(bytes.NewReader(text))
	_, h, err := f.header(c)
	if err != nil {
		return nil, err
	}
	p, err := c.Next()
	return &chunk[rec]{piece: p, header: h, file: filepath.Base(path)}, err
}
