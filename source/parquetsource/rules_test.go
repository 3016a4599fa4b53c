package parquetsource

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/parquet-go/parquet-go"
	thriftformat "github.com/parquet-go/parquet-go/format"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/filesource/filetest"
	"github.com/leatgo/leat/internal/parquetread/craft"
	"github.com/leatgo/leat/leattest"
	"github.com/leatgo/leat/source/csvsource"
	"github.com/leatgo/leat/source/drift"
	"github.com/leatgo/leat/source/files"
)

// TestFolder: files in order of their names, offsets by rows, one range after the other.
func TestFolder(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.put("b.parquet", pq(t, 1000, 120, 50, &parquet.Snappy))
	w.put("a.parquet", pq(t, 0, 70, 33, &parquet.Zstd))
	w.put("empty.parquet", pq(t, 0, 0, 10, &parquet.Uncompressed))
	w.put("c.csv", []byte("id,text\n1,a\n"))
	w.must(w.config())
	require.Equal(t, append(good(0, 70), good(1000, 120)...), w.IDs())
	for _, r := range w.Rows {
		first := int64(0)
		if r.File == "b.parquet" {
			first = 71 // the rows of a.parquet, and one
			require.EqualValues(t, r.ID-1000, r.Line-1)
		} else {
			require.EqualValues(t, r.ID, r.Line-1)
		}
		require.Equal(t, first+r.Line-1, r.Offset, "D6: the file's base, and the number of the row")
	}
	require.Equal(t, []string{"a.parquet ok", "b.parquet ok", "empty.parquet ok"}, w.Statuses())
	e := w.Ledger()
	require.Equal(t, []int64{0, 71, 71 + 121}, []int64{e[0].Offset, e[1].Offset, e[2].Offset}, "D6")
	require.EqualValues(t, 70, e[0].Rows)
	require.EqualValues(t, 7+1, e[0].Rejected, "IDs of 7 rows are too large, one more has no text")
}

// TestResume: rule D4. A run that ends anywhere is gone on with by one with other chunks.
func TestResume(t *testing.T) {
	t.Parallel()
	files := map[string][]byte{"a.parquet": pq(t, 0, 100, 40, &parquet.Gzip), "b.parquet": pq(t, 1000, 90, 90, &parquet.Snappy)}
	want := append(good(0, 100), good(1000, 90)...)
	for _, first := range []int{1, 7, 64} {
		for _, second := range []int{3, 11, 0} {
			for stop := 1; stop < 190/first; stop += max(1, 40/first) {
				w := newWorld(t)
				for name, b := range files {
					w.put(name, b)
				}
				c := w.config()
				c.ChunkRows = first
				// All that was sent, or half of it, is durable, and the source may have heard of it.
				l := life{StopAfter: stop, Commit: stop, Hear: stop%2 == 0}
				if stop%3 == 0 {
					l.Commit = stop / 2
				}
				require.ErrorIs(t, w.live(c, l), filetest.ErrKilled)
				c.ChunkRows = second
				w.must(c)
				require.Equal(t, want, w.IDs(), "D4: chunks of %d, %d of them sent, then of %d", first, stop, second)
				for _, e := range w.Ledger() {
					require.Equal(t, "ok", e.Status)
					require.EqualValues(t, map[string]int64{"a.parquet": 100, "b.parquet": 90}[e.Name], e.Rows, "D3: counted once over the crash")
				}
			}
		}
	}
}

// TestDamaged: the rows before the damage stay, the file is failed, the others are read.
func TestDamaged(t *testing.T) {
	t.Parallel()
	whole := pq(t, 0, 300, 100, &parquet.Snappy)
	damaged := append([]byte(nil), whole...)
	f, err := parquet.OpenFile(strings.NewReader(string(whole)), int64(len(whole)))
	require.NoError(t, err)
	// A page of the id column in the second row group.
	at := f.Metadata().RowGroups[1].Columns[2].MetaData.DataPageOffset
	for i := range 40 {
		damaged[int(at)+30+i] ^= 0x5a
	}
	for name, c := range map[string]struct {
		b    []byte
		rows int
		want string
	}{
		"a page is damaged":    {damaged, 100, `column "id", row group 1`},
		"the end is missing":   {whole[:len(whole)-100], 0, "it is cut off"},
		"half is missing":      {whole[:len(whole)/2], 0, "it is cut off"},
		"it is text":           {[]byte("id,text\n1,a\n2,b\n"), 0, "it is no Parquet file"},
		"it is empty":          {nil, 0, "it has 0 bytes"},
		"the footer is zeroed": {append(append([]byte(nil), whole[:len(whole)-200]...), append(make([]byte, 192), whole[len(whole)-8:]...)...), 0, "its footer is damaged"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, chunk := range []int{1, 9, 0} {
				w := newWorld(t)
				w.put("a.parquet", c.b)
				w.put("b.parquet", pq(t, 1000, 10, 10, &parquet.Snappy))
				cfg := w.config()
				cfg.ChunkRows = chunk
				w.must(cfg)
				require.Equal(t, append(good(0, c.rows), good(1000, 10)...), w.IDs(), "chunks of %d", chunk)
				require.Equal(t, []string{"a.parquet failed", "b.parquet ok"}, w.Statuses())
				require.Contains(t, w.Ledger()[0].Error, c.want)
				require.EqualValues(t, c.rows, w.Ledger()[0].Rows)
				w.must(cfg)
				require.Equal(t, append(good(0, c.rows), good(1000, 10)...), w.IDs(), "a failed file is not read again")
			}
		})
	}
}

// TestChangedWhileRead: a file that is written to while it is read fails after the rows
// before, and its new content is a new version.
func TestChangedWhileRead(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.put("a.parquet", pq(t, 0, 300, 100, &parquet.Snappy))
	path := filepath.Join(w.Dir, "a.parquet")
	c := w.config()
	c.ChunkRows = 30
	l := filetest.Whole()
	l.BeforeChunk = func(i int) {
		if i == 2 {
			b := pq(t, 5000, 40, 40, &parquet.Snappy)
			require.NoError(t, os.WriteFile(path, b, 0o644))
			require.NoError(t, os.Chtimes(path, time.Time{}, time.Now().Add(time.Second)))
		}
	}
	require.NoError(t, w.live(c, l))
	n := len(w.Rows)
	require.Less(t, n, len(good(0, 300)))
	require.Equal(t, good(0, 300)[:n], w.IDs())
	require.Contains(t, w.Ledger()[0].Error, "no longer the one that was entered")
	w.must(c)
	require.Equal(t, good(5000, 40), w.IDs()[n:], "D2: a new version")
}

// TestRejectFile: rule B2. A file with one bad row is refused before anything of it is
// sent; one that is damaged too.
func TestRejectFile(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	bad := "bad"
	write := func(name string, rows ...stored) {
		path := filepath.Join(w.Dir, name)
		require.NoError(t, parquet.WriteFile(path, rows))
	}
	text := "ok"
	write("a.parquet", stored{Text: &text, ID: 1}, stored{Text: &bad, ID: 2}, stored{Text: &text, ID: 3})
	write("b.parquet", stored{Text: &text, ID: 4})
	l := filetest.Whole()
	l.RejectFile = true
	require.NoError(t, w.live(w.config(), l))
	require.Equal(t, []int64{4}, w.IDs())
	require.Equal(t, []string{"a.parquet failed", "b.parquet ok"}, w.Statuses())
	require.Contains(t, w.Ledger()[0].Error, "rejected whole: 1 bad row, the first: line 2: a bad word")
}

// TestMove moves what was read, and what failed.
func TestMove(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.put("a.parquet", pq(t, 0, 10, 10, &parquet.Snappy))
	w.put("b.parquet", []byte("no"))
	c := w.config()
	c.After = files.Move
	w.must(c)
	require.Equal(t, []string{"a.parquet ok processed/a.parquet", "b.parquet failed failed/b.parquet"}, w.Statuses())
	require.FileExists(t, w.Beside("processed/a.parquet"))
}

// TestDrift: columns that are missing or more, by policy.
func TestDrift(t *testing.T) {
	t.Parallel()
	type row struct {
		ID    int64
		Nota  *string
		Monto float64
		Otros map[string]any `leat:"otros,extra"`
	}
	type simple struct {
		ID    int64
		Nota  *string
		Monto float64
	}
	type file struct {
		ID    int64   `parquet:"id"`
		Pais  string  `parquet:"pais"`
		Clase *int32  `parquet:"clase,optional"`
		Serie []int64 `parquet:"serie,list"`
	}
	dir := t.TempDir()
	clase := int32(3)
	require.NoError(t, parquet.WriteFile(filepath.Join(dir, "a.parquet"), []file{{1, "uy", &clase, []int64{1, 2}}, {2, "ar", nil, nil}}))
	run := func(src leat.Source[row]) ([]row, string) {
		state := t.TempDir()
		sink := leattest.Collect[row]()
		p := leat.New("p", leat.Config{StateDir: state})
		leat.To(leat.From(p, src), sink)
		require.NoError(t, p.Run(t.Context()))
		entries, err := files.Ledger(state, "in")
		require.NoError(t, err)
		return sink.Committed(), entries[0].Error
	}
	rows, why := run(New(Config[row]{Name: "in", Dir: dir}))
	assert.Empty(t, rows)
	assert.Contains(t, why, `it misses the columns "nota", "monto" (it has "id", "pais", "clase", "serie")`, "RefuseMissing is the default")

	rows, why = run(New(Config[row]{Name: "in", Dir: dir, Missing: drift.NullMissing}))
	assert.Empty(t, rows)
	assert.Contains(t, why, `can't be null, "monto"`)

	rows, why = run(New(Config[row]{Name: "in", Dir: dir, Missing: drift.ZeroMissing}))
	assert.Empty(t, why)
	assert.Equal(t, []row{
		{ID: 1, Otros: map[string]any{"pais": "uy", "clase": int64(3), "serie": []any{int64(1), int64(2)}}},
		{ID: 2, Otros: map[string]any{"pais": "ar", "clase": nil, "serie": []any{}}},
	}, rows)

	rows, why = run(New(Config[row]{Name: "in", Dir: dir, Missing: drift.ZeroMissing, Extra: drift.RefuseExtra}))
	assert.Empty(t, rows)
	assert.Contains(t, why, `it has the columns "pais", "clase", "serie", which the row type has not`)

	w := newWorld(t)
	sink := leattest.Collect[simple]()
	p := leat.New("p", leat.Config{StateDir: w.State})
	leat.To(leat.From(p, New(Config[simple]{Dir: dir, Missing: drift.ZeroMissing})), sink)
	require.NoError(t, p.Run(t.Context()))
	assert.Equal(t, []simple{{ID: 1}, {ID: 2}}, sink.Committed(), "IgnoreExtra: not even read")
}

// TestLetters: rule B4. A row that was rejected is replayed from its letter, as it is
// when that did not help, and mended.
func TestLetters(t *testing.T) {
	t.Parallel()
	type row struct {
		ID   int32
		Text string
		At   time.Time
		File string `leat:"@file"`
		Line int64  `leat:"@line"`
	}
	type file struct {
		ID   int64     `parquet:"id"`
		Text string    `parquet:"text"`
		At   time.Time `parquet:"at,timestamp(microsecond)"`
	}
	dir, state := t.TempDir(), t.TempDir()
	at := time.Date(2025, 3, 4, 5, 6, 7, 8000, time.UTC)
	require.NoError(t, parquet.WriteFile(filepath.Join(dir, "a.parquet"), []file{{1, "uno", at}, {1 << 40, "dos\xff", at}, {1 << 41, "tres", at}}))
	sink := leattest.Collect[row]()
	build := func(sink *leattest.Collector[row]) *leat.Pipeline {
		p := leat.New("p", leat.Config{StateDir: state, Breaker: leat.Breaker{Share: -1}})
		leat.To(leat.From(p, New(Config[row]{Name: "in", Dir: dir})), sink)
		return p
	}
	require.NoError(t, build(sink).Run(t.Context()))
	require.Len(t, sink.Committed(), 1)
	var raws []string
	letters := func(yield func(leat.DeadLetter, error) bool) {
		for l, err := range leat.DeadLetters(filepath.Join(state, "dead-letters.jsonl")) {
			raws = append(raws, string(l.Raw))
			assert.Equal(t, "range", l.Rule)
			assert.Equal(t, "id", l.Column)
			if l.Line == 3 {
				l.Raw = []byte(strings.Replace(string(l.Raw), "2199023255552", "3", 1))
			}
			if !yield(l, err) {
				return
			}
		}
	}
	next := sink.Successor()
	stats, err := leat.Replay(t.Context(), build(next), letters)
	require.NoError(t, err)
	assert.Equal(t, []string{
		`{"id":1099511627776,"text":{"base64":"ZG9z/w=="},"at":"2025-03-04T05:06:07.000008Z"}`,
		`{"id":2199023255552,"text":"tres","at":"2025-03-04T05:06:07.000008Z"}`,
	}, raws)
	assert.Equal(t, []row{{1, "uno", at, "a.parquet", 1}, {3, "tres", at, "a.parquet", 3}}, next.Committed(), "%+v", stats)
}

// TestWithCSV: one folder with files of both kinds, merged into one sink.
func TestWithCSV(t *testing.T) {
	t.Parallel()
	type row struct {
		ID   int32
		Text string
	}
	w := newWorld(t)
	w.put("a.parquet", pq(t, 0, 50, 20, &parquet.Snappy))
	var csv strings.Builder
	csv.WriteString("text,id\n")
	for i := range 40 {
		fmt.Fprintf(&csv, "t,%d\n", 1000+i)
	}
	w.put("b.csv", []byte(csv.String()))
	sink := leattest.Collect[row]()
	for range 2 { // the second time there is nothing to do
		p := leat.New("p", leat.Config{StateDir: w.State})
		leat.To(leat.Merge(
			leat.From(p, csvsource.New(csvsource.Config[row]{Name: "csv", Dir: w.Dir})),
			leat.From(p, New(Config[row]{Name: "parquet", Dir: w.Dir})),
		), sink)
		require.NoError(t, p.Run(t.Context()))
		seen := map[int32]int{}
		for _, r := range sink.Committed() {
			seen[r.ID]++
		}
		require.Len(t, seen, len(good(0, 50))+40)
		require.Len(t, sink.Committed(), len(seen))
		sink = sink.Successor()
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	type mala struct {
		C   chan int
		M   map[string]int
		LL  [][]int
		Any any
	}
	err := New(Config[mala]{ChunkRows: -1, Missing: 9, Extra: 7, Limits: Limits{Page: -1}, Isolate: Isolate{Memory: 5, Timeout: -1}, After: 9}).Validate()
	for _, want := range []string{
		"neither Dir nor Files", "ChunkRows -1", "Missing 9", "Extra 7", "Limits {", "Isolate.Memory is 5", "Isolate.Timeout -1ns", "After 9",
		"column c: a chan int can't be read from Parquet", "column m:", "column ll:", "column any:",
	} {
		assert.ErrorContains(t, err, want, "all faults at once")
	}
	assert.NoError(t, New(Config[rec]{Dir: "x"}).Validate())
	assert.Equal(t, "x", New(Config[rec]{Dir: "a/x"}).Name())
	assert.Equal(t, "parquet", New(Config[rec]{Files: []string{"a.parquet"}}).Name())
	assert.ErrorContains(t, New(Config[int]{Dir: "x"}).Validate(), "not a struct")
	assert.False(t, errors.Is(err, os.ErrNotExist))
}

// TestLargeValuesThatRepeat: a batch has no more rows than there is place for what they
// repeat, and the rows are the same ones, also over a crash in the middle (rule D4).
func TestLargeValuesThatRepeat(t *testing.T) {
	t.Parallel()
	const rows, size = 300, 1 << 20
	var ids []byte
	var want []int64
	for i := range rows {
		ids = binary.LittleEndian.AppendUint64(ids, uint64(i))
		want = append(want, int64(i))
	}
	value := append(binary.LittleEndian.AppendUint32(nil, size), make([]byte, size)...)
	codes := append(binary.AppendUvarint([]byte{1}, rows<<1), 0)
	b := craft.File(rows, nil,
		craft.Chunk{Name: "id", Type: thriftformat.Int64, Values: rows, Pages: []craft.Page{craft.Data(rows, thriftformat.Plain, ids)}},
		craft.Chunk{Name: "text", Type: thriftformat.ByteArray, Codec: thriftformat.Zstd, Values: rows, Pages: []craft.Page{craft.Dictionary(1, value).Zstd(), craft.Data(rows, thriftformat.RLEDictionary, codes).Zstd()}})
	w := newWorld(t)
	w.put("a.parquet", b)
	require.ErrorIs(t, w.live(w.config(), life{StopAfter: 3, Commit: 2, Hear: true}), filetest.ErrKilled)
	w.must(w.config())
	require.Equal(t, want, w.IDs())
	require.Equal(t, []string{"a.parquet ok"}, w.Statuses())
}
