package parquetsource

import (
	"bytes"
	"strconv"
	"testing"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/compress"
	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat/internal/filesource/filetest"
)

// rec is a row that knows where it came from.
type rec struct {
	ID     int32
	Text   string
	File   string `leat:"@file"`
	Line   int64  `leat:"@line"`
	Offset int64  `leat:"@offset"`
}

// stored is a row as files here have it: an ID may be too large, a text null.
type stored struct {
	Text  *string `parquet:"text,optional"`
	Other float64 `parquet:"other"`
	ID    int64   `parquet:"id"`
}

// pq makes a file of rows first, first+1 …, whose row groups have group rows and whose
// pages few. Every tenth ID is too large, every 25th text null.
func pq(t testing.TB, first, rows, group int, codec compress.Codec) []byte {
	t.Helper()
	var b bytes.Buffer
	w := parquet.NewGenericWriter[stored](&b, parquet.MaxRowsPerRowGroup(int64(group)), parquet.PageBufferSize(256), parquet.Compression(codec))
	for i := range rows {
		s := stored{ID: int64(first + i), Other: 1}
		if i%10 == 9 {
			s.ID = 1 << 40
		}
		text := "texto " + strconv.Itoa(i%40)
		if i%25 != 24 {
			s.Text = &text
		}
		_, err := w.Write([]stored{s})
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	return b.Bytes()
}

// good are the IDs of the rows of pq that become rows.
func good(first, rows int) []int64 {
	out := []int64{}
	for i := range rows {
		if i%10 != 9 && i%25 != 24 {
			out = append(out, int64(first+i))
		}
	}
	return out
}

// describe tells filetest what it looks at in a row.
func describe(r rec) filetest.Row {
	return filetest.Row{ID: int64(r.ID), Text: r.Text, Line: r.Line, Offset: r.Offset}
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

// put writes a file into the folder, complete at once.
func (w *world) put(name string, content []byte) {
	w.T.Helper()
	w.Put(name, string(content))
}
