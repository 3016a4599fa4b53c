package jsonsource

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

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

// randomJSON has good and bad records, with keys in one of three orders.
func randomJSON(r *rand.Rand, first, rows int) string {
	var b strings.Builder
	b.WriteString([]string{"", "\xef\xbb\xbf", "\r\n\n"}[first%3])
	end := []string{"\n", "\r\n", "\n\n"}[first%3]
	for i := range rows {
		id := fmt.Sprint(first*1000 + i)
		text := strings.Repeat(`añ\n\"\u0041`, r.IntN(4))
		switch r.IntN(12) {
		case 0:
			id += ".5" // no whole number
		case 1:
			text += "\xff"
		case 2:
			text += `"` // it ends here
		}
		switch first % 3 {
		case 0:
			fmt.Fprintf(&b, `{"id":%s,"text":"%s"}`, id, text)
		case 1:
			fmt.Fprintf(&b, ` { "x" : [1, {"y":null}] , "text": "%s" ,	"id": %s}`, text, id)
		case 2:
			fmt.Fprintf(&b, `{"text":"%s","id":%s,"otra":"%s"}`, text, id, text)
		}
		b.WriteString(end)
	}
	if text := b.String(); rows%2 == 1 {
		return strings.TrimRight(text, "\r\n")
	}
	return b.String()
}

func init() {
	// In no test may anything of a chunk be looked at after its release.
	onRelease = func(text []byte) {
		for i := range text {
			text[i] = '~'
		}
	}
}

// pieces cuts a text as a source does.
func pieces[T any](t testing.TB, c Config[T], text string) (out []*chunk[T]) {
	t.Helper()
	l, err := c.lines()
	require.NoError(t, err)
	cut := csvtext.NewCutter(l.dialect, c.chunkBytes())
	cut.Reset(strings.NewReader(text))
	require.NoError(t, cut.SkipLines(0))
	for {
		p, err := cut.Next()
		if err == io.EOF {
			return out
		}
		require.NoError(t, err)
		out = append(out, &chunk[T]{piece: p, lines: l, base: 1000, file: "f.jsonl", arrived: time.Unix(5, 0)})
	}
}

// decodeText decodes a whole text in chunks and gives rows, rejects and where those came
// from.
func decodeText[T any](t testing.TB, c Config[T], text string) (rows []T, rejects []error, origins []leat.Origin) {
	t.Helper()
	for _, ch := range pieces(t, c, text) {
		out := new(leat.Batch[T])
		var bad []int
		n, nbad, err := ch.Decode(context.Background(), out, func(i int, err error) {
			rejects = append(rejects, err)
			bad = append(bad, i)
		})
		require.NoError(t, err)
		origins = append(origins, ch.Locate(bad)...)
		require.Equal(t, out.Len()+len(bad), n)
		require.Equal(t, len(bad), nbad)
		require.LessOrEqual(t, out.Len(), ch.room())
		ch.Release()
		rows = append(rows, out.Rows()...)
	}
	return rows, rejects, origins
}
