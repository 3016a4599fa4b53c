package csvsource

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/csvtext"
	"github.com/leatgo/leat/internal/filesource"
)

// decodeText decodes a whole text in chunks and gives rows, rejects and where
// those came from.
func decodeText[T any](t *testing.T, c Config[T], text string) (rows []T, rejects []*leat.FieldError, origins []leat.Origin) {
	t.Helper()
	f, err := newForm(&c)
	require.NoError(t, err)
	cut := csvtext.NewCutter(f.dialect, c.chunkBytes())
	cut.Reset(f.encoding.code().Reader(strings.NewReader(text)))
	_, h, err := f.header(cut)
	require.NoError(t, err)
	for {
		p, err := cut.Next()
		if err != nil {
			return rows, rejects, origins
		}
		ch := &chunk[T]{piece: p, header: h, base: 1000, file: "f.csv", arrived: time.Unix(5, 0)}
		out := new(leat.Batch[T])
		var bad []int
		n, nbad := ch.decode(out, func(i int, err error) {
			var fe *leat.FieldError
			require.ErrorAs(t, err, &fe)
			rejects = append(rejects, fe)
			bad = append(bad, i)
		})
		origins = append(origins, ch.Locate(bad)...)
		ch.Release()
		require.Equal(t, out.Len()+len(bad), n)
		require.Equal(t, len(bad), nbad)
		rows = append(rows, out.Rows()...)
	}
}

func TestDecode(t *testing.T) {
	t.Parallel()
	type Wide struct {
		ID    int32
		Price *float64
		Name  string
		Raw   []byte
		When  time.Time `leat:"when,time=2006-01-02"`
	}
	price := 1.5
	rows, rejects, _ := decodeText(t, Config[Wide]{}, "when,extra,name,id,raw,price\n2025-01-02,x,Ana,1,r,1.5\n2025-01-02,,\"\",2,,\n")
	require.Empty(t, rejects)
	day := time.Date(2025, 1, 2, 0, 0, 0, 0, time.UTC)
	require.Equal(t, []Wide{
		{ID: 1, Price: &price, Name: "Ana", Raw: []byte("r"), When: day},
		{ID: 2, Name: "", Raw: []byte{}, When: day},
	}, rows, "columns by name in any order, extra ones ignored, empty cells")
}

func TestRejectsAreAloneAndNamed(t *testing.T) {
	t.Parallel()
	type T struct {
		ID int8
		B  string
	}
	long := strings.Repeat("x", 100)
	text := "id,b\n" +
		"1,ok\n" +
		"x,not a number\n" +
		"300,too big\n" +
		",empty\n" +
		"2\n" +
		"3,a,b\n" +
		"4,a\"b\n" +
		"5,\"a\"b\n" +
		"6,\"never closed\n" +
		"7,\"two\nlines\"\r\n" +
		"8," + long + "\n" +
		"9,last"
	type bad struct {
		column, rule, raw string
		line              int64
	}
	want := []bad{
		{"id", "syntax", "x,not a number", 3},
		{"id", "range", "300,too big", 4},
		{"id", "empty", ",empty", 5},
		{"", "fields", "2", 6},
		{"", "fields", "3,a,b", 7},
		{"", "quote", `4,a"b`, 8},
		{"", "quote", `5,"a"b`, 9},
		{"", "quote", `6,"never closed`, 10},
		{"", "size", ("8," + long)[:64], 13},
	}
	for _, chunk := range []int{1, 10, 33, 1 << 20} {
		rows, rejects, origins := decodeText(t, Config[T]{MaxRecord: 64, ChunkBytes: chunk}, text)
		require.Equal(t, []T{{1, "ok"}, {7, "two\nlines"}, {9, "last"}}, rows)
		require.Len(t, rejects, len(want))
		for i, w := range want {
			got := bad{rejects[i].Column, rejects[i].Rule, string(origins[i].Raw), origins[i].Line}
			require.Equal(t, w, got)
			// rule B4: a dead letter keeps the bytes and where they stood.
			require.Equal(t, int64(1000+strings.Index(text, w.raw)), origins[i].Offset)
			require.Equal(t, "f.csv", origins[i].File)
			require.Equal(t, "id,b", origins[i].Header)
			require.Equal(t, time.Unix(5, 0), origins[i].Time)
			require.NotEmpty(t, rejects[i].Error())
		}
		require.Contains(t, rejects[8].Msg, "only its first 64 bytes are kept")
	}
}

// touchy is a column type with a fault of its own.
type touchy string

func (x *touchy) UnmarshalText(b []byte) error {
	if string(b) == "boom" {
		panic("boom")
	}
	*x = touchy(b)
	return nil
}

// rule A9: a panic in user code is one bad row.
func TestA9PanicOfAColumnType(t *testing.T) {
	t.Parallel()
	type T struct {
		A touchy
		B int
	}
	ch := textChunk[T](t, "a,b\nx,1\nboom,2\ny,3\nboom,4\n")
	out := new(leat.Batch[T])
	var bad []int
	ch.decode(out, func(i int, err error) {
		require.EqualError(t, err, "panic: boom")
		bad = append(bad, i)
	})
	require.Equal(t, []T{{"x", 1}, {"y", 3}}, out.Rows())
	require.Equal(t, []int{1, 3}, bad)
}

func textChunk[T any](t *testing.T, text string) *chunk[T] {
	t.Helper()
	f, err := newForm(new(Config[T]))
	require.NoError(t, err)
	cut := csvtext.NewCutter(f.dialect, len(text))
	cut.Reset(strings.NewReader(text))
	_, h, err := f.header(cut)
	require.NoError(t, err)
	p, err := cut.Next()
	require.NoError(t, err)
	return &chunk[T]{piece: p, header: h}
}

func TestOriginColumns(t *testing.T) {
	t.Parallel()
	type T struct {
		ID    string
		File  string    `leat:"@file"`
		Line  int       `leat:"@line"`
		At    int64     `leat:"@offset"`
		When  time.Time `leat:"@timestamp"`
		Topic string    `leat:"@topic"`
	}
	rows, rejects, _ := decodeText(t, Config[T]{}, "id\n\na\n\"b\nb\"\nc\n")
	require.Empty(t, rejects)
	require.Equal(t, []T{
		{"a", "f.csv", 3, 1004, time.Unix(5, 0), ""},
		{"b\nb", "f.csv", 4, 1006, time.Unix(5, 0), ""},
		{"c", "f.csv", 6, 1012, time.Unix(5, 0), ""},
	}, rows)

	type Small struct {
		ID   string
		Line int8 `leat:"@line"`
	}
	_, rejects, _ = decodeText(t, Config[Small]{}, "id"+strings.Repeat("\n", 130)+"a\n")
	require.Len(t, rejects, 1)
	require.Equal(t, "range", rejects[0].Rule)
}

func TestDialects(t *testing.T) {
	t.Parallel()
	type T struct{ A, B string }
	for name, tc := range map[string]struct {
		c    Config[T]
		text string
		want []T
	}{
		"semicolon":    {Config[T]{Delimiter: ';'}, "a;b\n1,2;3\n", []T{{"1,2", "3"}}},
		"tab":          {Config[T]{Delimiter: '\t'}, "a\tb\n1\t2\n", []T{{"1", "2"}}},
		"other quote":  {Config[T]{Quote: '\''}, "a,b\n'1,''',\"\n", []T{{"1,'", `"`}}},
		"no quote":     {Config[T]{Quote: -1}, "a,b\n\"1,2\"\n", []T{{`"1`, `2"`}}},
		"comment":      {Config[T]{Comment: '#'}, "#c\na,b\n#1,2\n1,#2\n", []T{{"1", "#2"}}},
		"no comment":   {Config[T]{}, "a,b\n#1,2\n", []T{{"#1", "2"}}},
		"BOM":          {Config[T]{}, "\xef\xbb\xbfa,b\n1,2\n", []T{{"1", "2"}}},
		"only headers": {Config[T]{}, "a,b", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rows, rejects, _ := decodeText(t, tc.c, tc.text)
			require.Empty(t, rejects)
			require.Equal(t, tc.want, rows)
		})
	}
}

func TestHeaderRefusals(t *testing.T) {
	t.Parallel()
	type T struct{ A, B, C string }
	f, err := newForm(new(Config[T]))
	require.NoError(t, err)
	for text, want := range map[string]string{
		"":               "the file has no header line: it is empty",
		"\n\n":           "the file has no header line: it is empty",
		"a,x\n":          `the header is refused: it misses the columns "b", "c" (header line: "a,x")`,
		"a,b,c,b\n":      `the header is refused: it names the columns "b" more than once (header line: "a,b,c,b")`,
		" a,b,c\n":       `the header is refused: it misses the columns "a" (header line: " a,b,c")`,
		"a,b,\"c\n":      `the header line "a,b,\"c" has a misplaced or missing quote`,
		"a,a,c\n1,2,3\n": `the header is refused: it misses the columns "b"; it names the columns "a" more than once (header line: "a,a,c")`,
	} {
		c := csvtext.NewCutter(new(Config[T]).dialect(), 100)
		c.Reset(strings.NewReader(text))
		_, _, err := f.header(c)
		require.EqualError(t, err, want)
		require.True(t, filesource.IsDamaged(err))
	}
	c := csvtext.NewCutter(new(Config[T]).dialect(), 100)
	c.Reset(strings.NewReader("x,x,a,b,c\n"))
	_, _, err = f.header(c)
	require.NoError(t, err, "a name that does not matter may come twice")
}

// rule A1: nothing is allocated per row.
func TestDecodeAllocations(t *testing.T) {
	c := benchChunk(t, ventasCSV(1000))
	got := testing.AllocsPerRun(20, func() {
		c.decode(new(leat.Batch[Venta]), func(int, error) {})
	})
	require.LessOrEqual(t, got, 10.0, "for 1,000 rows")
}
