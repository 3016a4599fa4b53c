package jsonsource

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/engine"
	"github.com/leatgo/leat/source/drift"
)

func TestDecode(t *testing.T) {
	t.Parallel()
	type Wide struct {
		ID    int32
		Price *float64
		Name  string
		Raw   []byte
		When  time.Time `leat:"when,time=2006-01-02"`
		Tags  []string
	}
	price := 1.5
	rows, rejects, _ := decodeText(t, Config[Wide]{},
		`{"when":"2025-01-02","extra":{"a":[1]},"name":"Ana","id":1,"raw":"cg==","price":1.5,"tags":["x"]}`+"\n"+
			`{"id":2,"name":"","raw":"","when":"2025-01-02"}`)
	require.Empty(t, rejects)
	day := time.Date(2025, 1, 2, 0, 0, 0, 0, time.UTC)
	require.Equal(t, []Wide{
		{ID: 1, Price: &price, Name: "Ana", Raw: []byte("r"), When: day, Tags: []string{"x"}},
		{ID: 2, Raw: []byte{}, When: day},
	}, rows, "keys in any order, unknown ones passed over, what can be null may be missing")
}

// rule B4: each bad record is rejected alone, with column and rule, its bytes and its
// place, whatever the size of the chunks.
func TestRejectsAreAloneAndNamed(t *testing.T) {
	t.Parallel()
	type T struct {
		ID int8
		B  string
	}
	long := strings.Repeat("x", 100)
	text := "\xef\xbb\xbf" + `{"id":1,"b":"ok"}` + "\n" +
		`{"id":"x","b":"a"}` + "\n" +
		`{"id":300,"b":"a"}` + "\r\n" +
		"\n\r\n" +
		`{"id":null,"b":"a"}` + "\n" +
		`{"id":2}` + "\n" +
		`{"id":3,"b":"a","id":3}` + "\n" +
		"{\"id\":4,\"b\":\"\xff\"}\n" +
		`{"id":5,"b":"a` + "\n" +
		`[1,2]` + "\n" +
		`{"id":6,"b":"a"} {"id":6,"b":"b"}` + "\n" +
		" \n" +
		`{"id":7,"b":"` + strings.Repeat("[", 3) + `","c":[[[[[[1]]]]]]}` + "\n" +
		`{"id":8,"b":"` + long + `"}` + "\n" +
		`{"id":9,"b":"last"}`
	type bad struct {
		column, rule, raw string
		line              int64
	}
	want := []bad{
		{"id", "type", `{"id":"x","b":"a"}`, 2},
		{"id", "range", `{"id":300,"b":"a"}`, 3},
		{"id", "null", `{"id":null,"b":"a"}`, 6},
		{"b", "missing", `{"id":2}`, 7},
		{"", "duplicate", `{"id":3,"b":"a","id":3}`, 8},
		{"", "utf8", "{\"id\":4,\"b\":\"\xff\"}", 9},
		{"", "syntax", `{"id":5,"b":"a`, 10},
		{"", "type", `[1,2]`, 11},
		{"", "syntax", `{"id":6,"b":"a"} {"id":6,"b":"b"}`, 12},
		{"", "syntax", ` `, 13},
		{"", "depth", `{"id":7,"b":"[[[","c":[[[[[[1]]]]]]}`, 14},
		{"", "size", (`{"id":8,"b":"` + long)[:64], 15},
	}
	for _, size := range []int{1, 10, 33, 1 << 20} {
		rows, rejects, origins := decodeText(t, Config[T]{MaxRecord: 64, MaxDepth: 6, ChunkBytes: size}, text)
		require.Equal(t, []T{{1, "ok"}, {9, "last"}}, rows)
		require.Len(t, rejects, len(want))
		for i, w := range want {
			e := new(leat.FieldError)
			require.ErrorAs(t, rejects[i], &e)
			require.Equal(t, w, bad{e.Column, e.Rule, string(origins[i].Raw), origins[i].Line})
			require.Equal(t, int64(1001+strings.Index(text, "\n"+w.raw)), origins[i].Offset, "%q", w.raw)
			require.Equal(t, "f.jsonl", origins[i].File)
			require.Equal(t, time.Unix(5, 0), origins[i].Time)
			require.NotEmpty(t, e.Error())
		}
		require.ErrorContains(t, rejects[11], "line 15: the record has 116 bytes, more than the limit of 64; only its first 64 bytes are kept")
	}
}

// touchy is a column type with a fault of its own.
type touchy string

func (x *touchy) UnmarshalJSON(b []byte) error {
	if string(b) == `"boom"` {
		panic("boom")
	}
	*x = touchy(b)
	return nil
}

// rule A9: a panic in user code is one bad row.
func TestA9PanicOfAColumnType(t *testing.T) {
	t.Parallel()
	type T struct {
		A    touchy
		B    int
		Line int `leat:"@line"`
	}
	rows, rejects, origins := decodeText(t, Config[T]{}, `{"a":1,"b":1}`+"\n\n"+`{"a":"boom","b":2}`+"\n"+`{"a":[3],"b":3}`+"\n"+`{"b":4,"a":"boom"}`)
	require.Equal(t, []T{{"1", 1, 1}, {"[3]", 3, 4}}, rows)
	require.Len(t, rejects, 2)
	for i, err := range rejects {
		p := new(engine.PanicError)
		require.ErrorAs(t, err, &p)
		require.Equal(t, "boom", p.Value)
		require.NotEmpty(t, p.Stack)
		require.Equal(t, int64(3+2*i), origins[i].Line)
	}
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
	rows, rejects, _ := decodeText(t, Config[T]{}, "\n{\"id\":\"a\"}\n\r\n\r\n{\"id\":\"b\",\"@line\":7}\r\n{\"id\":\"c\"}")
	require.Empty(t, rejects)
	require.Equal(t, []T{
		{"a", "f.jsonl", 2, 1001, time.Unix(5, 0), ""},
		{"b", "f.jsonl", 5, 1016, time.Unix(5, 0), ""},
		{"c", "f.jsonl", 6, 1038, time.Unix(5, 0), ""},
	}, rows, "a key of that name is not one of a column")

	type Small struct {
		ID   string
		Line int8 `leat:"@line"`
	}
	_, rejects, _ = decodeText(t, Config[Small]{}, strings.Repeat("\n", 130)+`{"id":"a"}`)
	require.Len(t, rejects, 1)
	e := new(leat.FieldError)
	require.ErrorAs(t, rejects[0], &e)
	require.Equal(t, "range", e.Rule)
}

func TestPolicies(t *testing.T) {
	t.Parallel()
	type T struct {
		A    int
		N    *int
		More map[string]any `leat:"more,extra"`
	}
	one := 1
	for _, c := range []struct {
		config Config[T]
		text   string
		rule   string
		want   T
	}{
		{Config[T]{}, `{"a":1,"b":2}`, "", T{A: 1, More: map[string]any{"b": json.Number("2")}}},
		{Config[T]{Extra: drift.RefuseExtra}, `{"a":1,"b":2}`, "unknown", T{}},
		{Config[T]{Extra: drift.RefuseExtra}, `{"a":1,"more":{"b":2}}`, "", T{A: 1, More: map[string]any{"b": json.Number("2")}}},
		{Config[T]{}, `{"n":1}`, "missing", T{}},
		{Config[T]{Missing: drift.NullMissing}, `{"n":1}`, "missing", T{}},
		{Config[T]{Missing: drift.NullMissing}, `{"a":1}`, "", T{A: 1}},
		{Config[T]{Missing: drift.RefuseMissing}, `{"a":1}`, "missing", T{}},
		{Config[T]{Missing: drift.RefuseMissing}, `{"a":1,"n":1}`, "", T{A: 1, N: &one}},
		{Config[T]{Missing: drift.ZeroMissing}, `{}`, "", T{}},
		{Config[T]{}, `{"a":1,"a":2}`, "duplicate", T{}},
		{Config[T]{}, `{"a":1,"\u0061":2}`, "duplicate", T{}},
		{Config[T]{RepeatedKeys: drift.RefuseRepeated}, `{"a":1,"b":2,"b":2}`, "duplicate", T{}},
		{Config[T]{RepeatedKeys: drift.LastRepeated}, `{"a":1,"\u0061":2}`, "", T{A: 2}},
		{Config[T]{RepeatedKeys: drift.FirstRepeated}, `{"a":1,"\u0061":2}`, "", T{A: 1}},
		{Config[T]{MaxDepth: 2}, `{"a":1,"b":[[]]}`, "depth", T{}},
		{Config[T]{MaxDepth: 2}, `{"a":1,"b":[]}`, "", T{A: 1, More: map[string]any{"b": []any{}}}},
	} {
		rows, rejects, _ := decodeText(t, c.config, c.text)
		if c.rule == "" {
			require.Empty(t, rejects, "%+v %s", c.config, c.text)
			require.Equal(t, []T{c.want}, rows, "%+v %s", c.config, c.text)
			continue
		}
		require.Len(t, rejects, 1, "%+v %s", c.config, c.text)
		e, is := errors.AsType[*leat.FieldError](rejects[0])
		require.True(t, is)
		require.Equal(t, c.rule, e.Rule, "%+v %s", c.config, c.text)
	}
}

// rule A1: nothing is allocated per row.
func TestDecodeAllocations(t *testing.T) {
	chunks := pieces(t, Config[venta]{ChunkBytes: 1 << 20}, ventas(1000))
	require.Len(t, chunks, 1)
	got := testing.AllocsPerRun(20, func() {
		n, bad, err := chunks[0].Decode(context.Background(), new(leat.Batch[venta]), nil)
		if n != 1000 || bad != 0 || err != nil {
			t.Fatal(n, bad, err)
		}
	})
	require.LessOrEqual(t, got, 10.0, "for 1,000 rows")
}

// rule A5: the budget is told of all that a chunk keeps, and lines that are no records
// take no room for rows.
func TestChunkBytes(t *testing.T) {
	t.Parallel()
	for _, c := range pieces(t, Config[venta]{ChunkBytes: 256 << 10}, ventas(10_000)) {
		out := new(leat.Batch[venta])
		rows, _, err := c.Decode(t.Context(), out, nil)
		require.NoError(t, err)
		require.GreaterOrEqual(t, c.Bytes(), int64(c.piece.Held()+rows*int(unsafe.Sizeof(venta{}))+len(c.piece.Data)))
		require.LessOrEqual(t, c.Bytes(), int64(4*len(c.piece.Data)+1000), "nor of much more")
		c.Release()
	}
	text := ventas(1) + strings.Repeat("\n", 256<<10) + ventas(1)
	for _, c := range pieces(t, Config[venta]{ChunkBytes: 1 << 20}, text) {
		out := new(leat.Batch[venta])
		_, _, err := c.Decode(t.Context(), out, nil)
		require.NoError(t, err)
		require.Equal(t, 2, out.Len())
		require.LessOrEqual(t, cap(out.Rows())*int(unsafe.Sizeof(venta{})), 10*len(text))
		require.LessOrEqual(t, c.Bytes(), int64(12*len(text)))
	}
}
