package parquetsink

import (
	"bytes"
	"database/sql"
	"errors"
	"math"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/parquet-go/parquet-go"
	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/sink/parquetsink/internal/typetest"
)

// encode makes a file of rows, in batches, dealt out as picks if asked.
func encode[T any](t testing.TB, c Config[T], batch int, picked bool, rows ...T) []byte {
	t.Helper()
	f := open(t, c)
	var b bytes.Buffer
	w, err := f.Create(&b)
	require.NoError(t, err)
	for part := range slices.Chunk(rows, batch) {
		require.Empty(t, f.Prepare(part))
		if !picked {
			require.NoError(t, w.Append(nil))
			continue
		}
		// Two picks, so that the second one meets the scratch of the first.
		half := len(part) / 2
		var picks [2][]int32
		for i := range part {
			picks[min(i/max(half, 1), 1)] = append(picks[min(i/max(half, 1), 1)], int32(i))
		}
		for _, p := range picks {
			if len(p) > 0 {
				require.NoError(t, w.Append(p))
			}
		}
	}
	require.NoError(t, w.Close())
	return b.Bytes()
}

func wants(rows []typetest.Row) [][]any {
	out := make([][]any, len(rows))
	for i, r := range rows {
		out[i] = r.Want()
	}
	return out
}

// same compares row by row, for failures that can be read.
func same(t testing.TB, want, got [][]any, what string) {
	t.Helper()
	require.Len(t, got, len(want), what)
	for i := range want {
		for j := range want[i] {
			require.Equal(t, want[i][j], got[i][j], "%s: row %d, column %s", what, i, typetest.Columns[j][0])
		}
	}
}

// TestRoundTrip writes random rows of every type and reads them back, over row
// groups, pieces and batches of many sizes.
func TestRoundTrip(t *testing.T) {
	t.Parallel()
	for seed := range uint64(20) {
		n := []int{0, 1, 7, 500, 3000}[seed%5]
		rows := typetest.Rows(n, seed)
		c := Config[typetest.Row]{Compression: Compression(seed % 3), RowGroupRows: []int{0, 1, 100, 1024}[seed%4]}
		if n > 500 {
			c.RowGroupRows = max(c.RowGroupRows, 100)
		}
		file := encode(t, c, int(1+seed*37%1500), seed%2 == 1, rows...)
		same(t, wants(rows), typetest.Read(t, file), "parquet-go")
	}
}

// TestReaders reads every type with DuckDB and pyarrow.
func TestReaders(t *testing.T) {
	t.Parallel()
	rows := typetest.Rows(2000, 99)
	for c := range None + 1 {
		path := filepath.Join(t.TempDir(), "a.parquet")
		file := encode(t, Config[typetest.Row]{Compression: c, RowGroupRows: 700}, 300, false, rows...)
		require.NoError(t, os.WriteFile(path, file, 0o600))
		for tool, table := range typetest.Python(t, path, "") {
			for i, want := range typetest.Columns {
				assert.Equal(t, want[0], table.Columns[i][0], "%s: the order of columns is the row type's", tool)
				k := 1
				if tool == "pyarrow" {
					k = 2
				}
				assert.Equal(t, want[k], table.Columns[i][1], "%s: %s", tool, want[0])
			}
			same(t, wants(rows), table.Rows, tool)
		}
	}
}

type grita string

func (g grita) MarshalText() ([]byte, error) {
	switch g {
	case "error":
		return nil, errors.New("no voice")
	case "panic":
		panic("aaah")
	}
	return []byte(g), nil
}

type delicada struct {
	ID  int64
	S   string
	T   time.Time
	G   grita
	GD  grita           `leat:"gd,decimal=38.0"`
	PG  *grita          `leat:"pg,decimal=9.0"`
	Dec decimal.Decimal `leat:"dec,decimal=4.2"`
	DS  string          `leat:"ds,decimal=18.0"`
	L   []string
	LT  []time.Time
	By  []byte
	LI  []int64
}

// TestRowsThatAreRefused: rule B5, each row at fault by its column and rule, and
// none of its neighbours.
func TestRowsThatAreRefused(t *testing.T) {
	t.Parallel()
	text, scream := grita("x"), grita("panic")
	for name, c := range map[string]struct {
		row  delicada
		want string
	}{
		"text that is not UTF-8":         {delicada{S: "a\xff"}, "s/syntax"},
		"not UTF-8 from MarshalText":     {delicada{G: "\xff"}, "g/syntax"},
		"not UTF-8 in a list":            {delicada{L: []string{"a", "\xff"}}, "l/syntax"},
		"the year 0":                     {delicada{T: time.Date(0, 12, 31, 23, 59, 59, 0, time.UTC)}, "t/range"},
		"the year 10000":                 {delicada{T: time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)}, "t/range"},
		"a time beyond int64":            {delicada{T: time.Unix(math.MaxInt64/2, 0)}, "t/range"},
		"a year of a list":               {delicada{LT: []time.Time{time.Unix(-1<<40, 0)}}, "lt/range"},
		"MarshalText fails":              {delicada{G: "error"}, "g/type"},
		"MarshalText of a decimal fails": {delicada{GD: "error"}, "gd/type"},
		"A9: MarshalText panics":         {delicada{G: "panic"}, "g/panic"},
		"A9: a decimal's panics":         {delicada{GD: "panic"}, "gd/panic"},
		"A9: a null decimal's panics":    {delicada{PG: &scream}, "pg/panic"},
		"a decimal that is no number":    {delicada{PG: &text}, "pg/syntax"},
		"a decimal with too many digits": {delicada{Dec: decimal.RequireFromString("100")}, "dec/range"},
		"a decimal that would lose one":  {delicada{Dec: decimal.RequireFromString("0.001")}, "dec/range"},
		"a text that is no decimal":      {delicada{DS: "mucho"}, "ds/syntax"},
		"an empty text":                  {delicada{DS: " "}, "ds/syntax"},
		"a text that is too long":        {delicada{S: strings.Repeat("x", 101)}, "s/size"},
		"bytes that are too long":        {delicada{By: make([]byte, 101)}, "by/size"},
		"a list that is too long":        {delicada{LI: make([]int64, 13)}, "li/size"},
		"texts of a list too long":       {delicada{L: []string{strings.Repeat("x", 50), strings.Repeat("y", 51)}}, "l/size"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			good := delicada{ID: 1, G: "a", GD: "7", DS: "5"}
			bad := c.row
			bad.ID = 2
			if bad.DS == "" {
				bad.DS = "0"
			}
			if bad.GD == "" {
				bad.GD = "0"
			}
			f := open(t, Config[delicada]{})
			f.limit = 100
			refused := f.Prepare([]delicada{good, bad, good, bad, bad})
			var rows []int
			for _, r := range refused {
				rows = append(rows, r.Row)
				var e interface{ Field() (string, string) }
				require.ErrorAs(t, r.Err, &e)
				column, rule := e.Field()
				assert.Equal(t, c.want, column+"/"+rule, r.Err.Error())
				assert.Less(t, len(r.Err.Error()), 300)
			}
			assert.Equal(t, []int{1, 3, 4}, rows, "B5: all rows at fault in one pass, and no others")
			assert.Empty(t, f.Prepare([]delicada{good, good}))
		})
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	type celdas struct{ A int }
	type mala struct {
		ID    int64
		M     map[string]int
		C     celdas
		L     []celdas
		LP    []*int64
		LL    [][]int64
		LD    []decimal.Decimal
		Any   any
		Chan  chan int
		Upper int `leat:"ID"`
		Dia   string
	}
	err := New(Config[mala]{
		PartitionBy: []Partition[mala]{{Name: "dia/x", Value: func(mala) string { return "" }}, {Name: "DIA"}},
		Roll:        Roll{Bytes: -2}, Compression: 9, RowGroupRows: maxGroup + 1, MaxOpen: -1,
	}).Validate()
	for _, want := range []string{
		"parquetsink: Dir is empty", "dia/x", "Value is nil", "Roll.Bytes is -2", "Compression 9", "RowGroupRows is 1048577", "MaxOpen is -1",
		"column m: a map[string]int has no Parquet type; give it a MarshalText", "column c: a parquetsink.celdas has no",
		"column l: a list of parquetsink.celdas has no", "column lp: a list of *int64", "column ll: a list of []int64", "column ld: a list of decimal.Decimal",
		"column any: a interface {} has no", "column chan:", "columns id and ID are the same name to DuckDB and Spark", "columns DIA and dia",
	} {
		assert.ErrorContains(t, err, want, "all faults at once")
	}
	for _, line := range strings.Split(err.Error(), "\n") {
		assert.True(t, strings.HasPrefix(line, "parquetsink: "), line)
	}
	type sola struct{ Dia string }
	level := []Partition[sola]{{"dia", func(s sola) string { return s.Dia }}}
	assert.ErrorContains(t, New(Config[sola]{Dir: "x", PartitionBy: level}).Validate(), "all columns of parquetsink.sola are in PartitionBy")
	assert.ErrorContains(t, New(Config[struct{}]{Dir: "x"}).Validate(), "has no columns")
	assert.ErrorContains(t, New(Config[int]{Dir: "x"}).Validate(), "not a struct")
	assert.NoError(t, New(Config[typetest.Row]{Dir: "x"}).Validate())
	assert.Equal(t, "ventas", New(Config[sola]{Dir: "a/b/ventas/"}).Name())
	assert.Equal(t, "otra", New(Config[sola]{Dir: "a/b", Name: "otra"}).Name())
	assert.Empty(t, New(Config[sola]{}).Name())
	assert.Equal(t, leat.ExactlyOnce, New(Config[sola]{}).Guarantee())
}

func TestSchema(t *testing.T) {
	t.Parallel()
	type fila struct {
		ID  int32
		Dia string
		P   *string
		D   decimal.Decimal `leat:"d,decimal=20.5"`
		L   sql.Null[[]uint8]
		LI  *[]uint16
		T   []time.Time
		N   netip.Addr
	}
	f := open(t, Config[fila]{PartitionBy: []Partition[fila]{{"dia", func(r fila) string { return r.Dia }}}})
	assert.Equal(t, "id int32\np string null\nd decimal(20,5)\nl bytes null\nli list of uint16 null\nt list of timestamp(us,UTC)\nn string\nwritten by leat", f.Schema())
	assert.Equal(t, ".parquet", f.Ext())
}

// TestRowGroups: rule F8, by rows and by what Flush is asked for.
func TestRowGroups(t *testing.T) {
	t.Parallel()
	groups := func(file []byte) (sizes []int64) {
		f, err := parquet.OpenFile(bytes.NewReader(file), int64(len(file)))
		require.NoError(t, err)
		for _, g := range f.RowGroups() {
			sizes = append(sizes, g.NumRows())
		}
		return sizes
	}
	rows := anchas(5000)
	for _, picked := range []bool{false, true} {
		assert.Equal(t, []int64{1500, 1500, 1500, 500}, groups(encode(t, Config[ancha]{RowGroupRows: 1500}, 1024, picked, rows...)), "F8: inside batches too")
	}
	assert.Equal(t, []int64{5000}, groups(encode(t, Config[ancha]{}, 1024, false, rows...)))

	f := open(t, Config[ancha]{RowGroupRows: 1500})
	var b bytes.Buffer
	w, err := f.Create(&b)
	require.NoError(t, err)
	for range 2 {
		require.NoError(t, w.Flush(), "nothing to flush")
		require.Empty(t, f.Prepare(rows[:1000]))
		require.NoError(t, w.Append(nil))
		require.Positive(t, w.Buffered())
		require.NoError(t, w.Flush())
		require.Zero(t, w.Buffered(), "F8: Flush gives all back")
	}
	require.NoError(t, w.Append(nil))
	require.NoError(t, w.Append(nil))
	require.NoError(t, w.Close())
	assert.Equal(t, []int64{1000, 1000, 1500, 500}, groups(b.Bytes()), "Flush begins a group anew")
}

// TestSizes: what Roll.Bytes and the lake's bound of memory go by.
func TestSizes(t *testing.T) {
	t.Parallel()
	for c := range None + 1 {
		f := open(t, Config[ancha]{Compression: c})
		var b bytes.Buffer
		w, err := f.Create(&b)
		require.NoError(t, err)
		assert.Zero(t, w.Buffered())
		rows := anchas(200_000)
		for at := 0; at < len(rows); at += 4000 {
			require.Empty(t, f.Prepare(rows[at:at+4000]))
			require.NoError(t, w.Append(nil))
			require.Less(t, w.Buffered(), int64(16<<20), "F8: memory is that of a row group")
		}
		size := w.Size()
		assert.GreaterOrEqual(t, size, int64(b.Len()))
		require.NoError(t, w.Close())
		assert.InEpsilon(t, b.Len(), size, 0.25, "%v: the estimate of %d bytes for a file of %d", c, size, b.Len())
	}
}

// TestHugeValues: pieces are cut by bytes, so that pages stay far below the
// format's limit and memory flat.
func TestHugeValues(t *testing.T) {
	t.Parallel()
	type fila struct {
		S  string
		L  []string
		By *[]byte
	}
	big := strings.Repeat("x", 700<<10)
	by := []byte(big)
	rows := make([]fila, 20)
	for i := range rows {
		rows[i] = fila{big, []string{big, "a"}, &by}
	}
	f := open(t, Config[fila]{Compression: None})
	require.Empty(t, f.Prepare(rows))
	assert.Equal(t, 1, f.step)
	file := encode(t, Config[fila]{}, 100, false, rows...)
	got := typetest.Read(t, file)
	require.Len(t, got, 20)
	assert.Equal(t, []any{big, []any{big, "a"}, typetest.Bytes(by)}, got[19])
}

// TestDictionaries: a column whose strings stop repeating is written plain from
// there on, in each row group anew.
func TestDictionaries(t *testing.T) {
	t.Parallel()
	type fila struct {
		Pais    string
		Codigo  string
		Nullo   *string
		Lista   []string
		Siempre string
	}
	rows := make([]fila, 40_000)
	for i := range rows {
		code := "uno"
		if i%20_000 > 3000 {
			code = strings.Repeat("x", 20) + time.Duration(i).String()
		}
		rows[i] = fila{Pais: "Uruguay", Codigo: code, Lista: []string{code, "a"}[:i%3], Siempre: strings.Repeat("y", 10) + time.Duration(i).String()}
		if i%2 == 0 {
			rows[i].Nullo = &code
		}
	}
	file := encode(t, Config[fila]{RowGroupRows: 20_000}, 1000, false, rows...)
	check := func(got [][]any, what string) {
		require.Len(t, got, len(rows), what)
		for i, r := range rows {
			list := []any{}
			for _, s := range r.Lista {
				list = append(list, s)
			}
			var null any
			if r.Nullo != nil {
				null = *r.Nullo
			}
			require.Equal(t, []any{r.Pais, r.Codigo, null, list, r.Siempre}, got[i], "%s: row %d", what, i)
		}
	}
	check(typetest.Read(t, file), "parquet-go")
	f, err := parquet.OpenFile(bytes.NewReader(file), int64(len(file)))
	require.NoError(t, err)
	for _, g := range f.Metadata().RowGroups {
		var encodings []string
		for _, c := range g.Columns {
			text := ""
			for _, s := range c.MetaData.EncodingStats {
				text += s.PageType.String() + "/" + s.Encoding.String() + " "
			}
			encodings = append(encodings, text)
		}
		assert.Equal(t, []string{
			"DATA_PAGE/RLE_DICTIONARY DICTIONARY_PAGE/PLAIN ",
			"DATA_PAGE/PLAIN DATA_PAGE/RLE_DICTIONARY DICTIONARY_PAGE/PLAIN ",
			"DATA_PAGE/PLAIN DATA_PAGE/RLE_DICTIONARY DICTIONARY_PAGE/PLAIN ",
			"DATA_PAGE/PLAIN DATA_PAGE/RLE_DICTIONARY DICTIONARY_PAGE/PLAIN ",
			"DATA_PAGE/PLAIN ",
		}, encodings)
	}
	path := filepath.Join(t.TempDir(), "a.parquet")
	require.NoError(t, os.WriteFile(path, file, 0o600))
	for tool, table := range typetest.Python(t, path, "") {
		check(table.Rows, tool)
	}
}

// TestManyRowGroups: a file has at most 32,767.
func TestManyRowGroups(t *testing.T) {
	t.Parallel()
	type fila struct{ ID int64 }
	rows := make([]fila, maxGroups+5000)
	assert.Len(t, typetest.Read(t, encode(t, Config[fila]{RowGroupRows: 1}, 10_000, false, rows...)), len(rows))
}

// TestWriteErrors: trouble of the disk comes out, whenever it comes.
func TestWriteErrors(t *testing.T) {
	t.Parallel()
	rows := typetest.Rows(20, 5)
	for room := 0; ; room++ {
		err := func() error {
			f := open(t, Config[typetest.Row]{RowGroupRows: 10})
			require.Empty(t, f.Prepare(rows))
			w, err := f.Create(&fullDisk{room})
			if err != nil {
				return err
			}
			if err := w.Append(nil); err != nil {
				return err
			}
			return w.Close()
		}()
		if err == nil {
			require.Greater(t, room, 10)
			return
		}
		require.ErrorIs(t, err, errFull)
	}
}

var errFull = errors.New("no space left")

// fullDisk takes so many writes.
type fullDisk struct{ room int }

func (d *fullDisk) Write(b []byte) (int, error) {
	if d.room == 0 {
		return 0, errFull
	}
	d.room--
	return len(b), nil
}
