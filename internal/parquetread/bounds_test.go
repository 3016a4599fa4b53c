package parquetread_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/deprecated"
	"github.com/parquet-go/parquet-go/encoding/thrift"
	"github.com/parquet-go/parquet-go/format"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat/internal/parquetread"
	"github.com/leatgo/leat/internal/parquetread/craft"
	"github.com/leatgo/leat/internal/row"
)

// planOf opens a file for rows of T.
func planOf[T any](t testing.TB, file []byte) (*parquetread.File, *parquetread.Plan) {
	t.Helper()
	f, err := parquetread.Open(bytes.NewReader(file), int64(len(file)), parquetread.Limits{})
	require.NoError(t, err)
	typ, err := row.Of[T]()
	require.NoError(t, err)
	plan, err := f.Plan(typ, parquetread.Drift{})
	require.NoError(t, err)
	return f, plan
}

// repeats is a column of one large value in a dictionary, in all rows.
func repeats(typ format.Type, rows, size int) craft.Chunk {
	value := make([]byte, size)
	c := craft.Chunk{Name: "a", Type: typ, Codec: format.Zstd, Values: int64(rows)}
	if typ == format.FixedLenByteArray {
		c.Length = int32(size)
	} else {
		value = append(binary.LittleEndian.AppendUint32(nil, uint32(size)), value...)
	}
	codes := append(binary.AppendUvarint([]byte{1}, uint64(rows)<<1), 0)
	c.Pages = []craft.Page{craft.Dictionary(1, value).Zstd(), craft.Data(rows, format.RLEDictionary, codes).Zstd()}
	return c
}

func allocated(do func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	do()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// TestLargeValuesRepeat: 16,384 rows of the same MiB are no 16 GiB.
func TestLargeValuesRepeat(t *testing.T) {
	type fila struct{ A []byte }
	for _, typ := range []format.Type{format.ByteArray, format.FixedLenByteArray} {
		file := craft.File(16384, nil, repeats(typ, 16384, 1<<20))
		require.Less(t, len(file), 4<<10)
		f, plan := planOf[fila](t, file)
		require.Less(t, allocated(func() {
			p, err := f.Reader(plan.Columns, 0, 0).Next(t.Context())
			require.NoError(t, err)
			require.Equal(t, 16384, p.Rows)
			n := p.Fit(8 << 20)
			require.Equal(t, 8, n, "rows that are filled at once")
			p, rest := p.Split(n)
			require.Equal(t, 16384-8, rest.Rows)
			rows := make([]fila, n)
			plan.Fill(p, unsafe.Pointer(&rows[0]), unsafe.Sizeof(rows[0]), func(_ int, err error) { require.NoError(t, err) })
			require.Len(t, rows[7].A, 1<<20)
		}), uint64(64<<20), "%v", typ)
	}
}

// TestLargeDecimals: a number of a million digits is refused, and not written out first.
func TestLargeDecimals(t *testing.T) {
	type fila struct{ A int64 }
	file := craft.File(100, func(m *format.FileMetaData) {
		m.Schema[1].ConvertedType = thrift.New(deprecated.Decimal)
		m.Schema[1].Precision, m.Schema[1].Scale = thrift.New(int32(38)), thrift.New(int32(0))
	}, func() craft.Chunk {
		c := repeats(format.ByteArray, 100, 1<<20)
		value := append(binary.LittleEndian.AppendUint32(nil, 1<<20), bytes.Repeat([]byte{0x17}, 1<<20)...)
		c.Pages[0] = craft.Dictionary(1, value).Zstd()
		return c
	}())
	f, plan := planOf[fila](t, file)
	p, err := f.Reader(plan.Columns, 0, 0).Next(t.Context())
	require.NoError(t, err)
	rows, refused := make([]fila, p.Rows), 0
	began := time.Now()
	plan.Fill(p, unsafe.Pointer(&rows[0]), unsafe.Sizeof(rows[0]), func(_ int, err error) {
		refused++
		require.ErrorContains(t, err, "a decimal of 1048576 bytes is out of range")
	})
	require.Equal(t, 100, refused)
	require.Less(t, time.Since(began), 2*time.Second)
}

// nulls makes a column one of the type of nulls.
func nulls(m *format.FileMetaData) {
	m.Schema[1].LogicalType = format.LogicalType{Value: new(format.NullType)}
}

// TestRowsOutOfNothing: a file none of whose columns is read has no more rows than others.
func TestRowsOutOfNothing(t *testing.T) {
	for _, rows := range []int64{1<<63 - 1, 1 << 62, 1 << 41} {
		file := craft.File(rows, nulls, craft.Chunk{Name: "a", Type: format.Int64, Values: rows})
		for _, limits := range []parquetread.Limits{{}, {Ratio: -1}} {
			_, err := parquetread.Open(bytes.NewReader(file), int64(len(file)), limits)
			require.ErrorContains(t, err, "rows: it unfolds to more than")
			require.True(t, parquetread.IsDamage(err))
		}
	}
}

// TestNullsThatAreNone: a value in a column of the type of nulls refuses its row, and can
// be written into its letter.
func TestNullsThatAreNone(t *testing.T) {
	type fila struct{ A int64 }
	f, plan := planOf[fila](t, craft.File(1, nulls, craft.Chunk{Name: "a", Type: format.Int64, Values: 1, Pages: []craft.Page{craft.Data(1, format.Plain, make([]byte, 8))}}))
	p, err := f.Reader(plan.Columns, 0, 0).Next(t.Context())
	require.NoError(t, err)
	refused := 0
	var one fila
	plan.Fill(p, unsafe.Pointer(&one), unsafe.Sizeof(one), func(int, error) { refused++ })
	require.Equal(t, 1, refused)
	require.Equal(t, `{"a":null}`, string(plan.AppendJSON(nil, p, 0)))
}

// TestListOverManyPages: its time grows with the pages, not with their square.
func TestListOverManyPages(t *testing.T) {
	type fila struct{ A []int64 }
	const pages = 40_000
	c := craft.Chunk{Name: "a", Type: format.Int64, Values: pages}
	for i := range pages {
		rep := byte(1)
		if i == 0 {
			rep = 0
		}
		b := append([]byte{2, 0, 0, 0, 1 << 1, rep, 2, 0, 0, 0, 1 << 1, 1}, make([]byte, 8)...)
		c.Pages = append(c.Pages, craft.Data(1, format.Plain, b))
	}
	file := craft.File(1, func(m *format.FileMetaData) { m.Schema[1].RepetitionType = thrift.New(format.Repeated) }, c)
	f, plan := planOf[fila](t, file)
	require.Less(t, allocated(func() {
		rows := readRows[fila](t, f, plan, 0, 0)
		require.Len(t, rows, 1)
		require.Len(t, rows[0].A, pages)
	}), uint64(256<<20))
}

// TestDictionariesAreForgotten: neither end of the pipes keeps those of row groups that
// are done with.
func TestDictionariesAreForgotten(t *testing.T) {
	type fila struct {
		A string `parquet:"a,dict"`
	}
	const groups, size = 24, 1 << 20
	var b bytes.Buffer
	w := parquet.NewGenericWriter[fila](&b)
	rnd := rand.New(rand.NewPCG(1, 2))
	for range groups {
		for range 16 {
			_, err := w.Write([]fila{{strings.Repeat(string(rune('a'+rnd.IntN(26))), size/16-8) + string(rune('a'+rnd.IntN(26)))}})
			require.NoError(t, err)
		}
		require.NoError(t, w.Flush())
	}
	require.NoError(t, w.Close())

	fromParent, toChild := io.Pipe()
	fromChild, toParent := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		assert.NoError(t, parquetread.ServeChild(t.Context(), fromParent, toParent))
		_ = toParent.Close()
	}()
	d, err := parquetread.OpenDistant(bytes.NewReader(b.Bytes()), int64(b.Len()), parquetread.Limits{}, fromChild, toChild, 64<<20)
	require.NoError(t, err)
	require.NoError(t, d.Begin([]int{0}, 0, 0))
	heap := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before, pieces := heap(), 0
	for {
		_, err := d.Next()
		if err == io.EOF {
			break
		}
		require.NoError(t, err)
		if pieces++; pieces == groups-2 {
			require.Less(t, heap()-before, int64(groups*size/2))
		}
	}
	require.GreaterOrEqual(t, pieces, groups)
	<-done
	runtime.KeepAlive(d)
}

// TestManyLetters: a piece all of whose rows are refused is walked once, not once for each.
func TestManyLetters(t *testing.T) {
	type fila struct{ A []int64 }
	const rows, elems = 4000, 4000
	// Each row has as many nulls as it may: they are a few bytes in the file.
	var reps []byte
	for range rows {
		reps = append(append(binary.AppendUvarint(reps, 1<<1), 0), append(binary.AppendUvarint(nil, (elems-1)<<1), 1)...)
	}
	defs := append(binary.AppendUvarint(nil, rows*elems<<1), 1)
	b := append(binary.LittleEndian.AppendUint32(nil, uint32(len(reps))), reps...)
	b = append(append(binary.LittleEndian.AppendUint32(b, uint32(len(defs))), defs...), 0)
	file := craft.File(rows, func(m *format.FileMetaData) {
		list := m.Schema[1]
		list.Type, list.NumChildren, list.ConvertedType = thrift.Null[format.Type]{}, thrift.New(int32(1)), thrift.New(deprecated.List)
		middle := list
		middle.Name, middle.ConvertedType, middle.RepetitionType = "list", thrift.Null[deprecated.ConvertedType]{}, thrift.New(format.Repeated)
		leaf := m.Schema[1]
		leaf.Name, leaf.RepetitionType = "element", thrift.New(format.Optional)
		m.Schema = append(m.Schema[:1], list, middle, leaf)
	}, craft.Chunk{Name: "a", Type: format.Int64, Values: rows * elems, Pages: []craft.Page{craft.Data(rows*elems, format.Plain, b)}})
	f, plan := planOf[fila](t, file)
	p, err := f.Reader(plan.Columns, 0, 0).Next(t.Context())
	require.NoError(t, err)
	require.Equal(t, rows, p.Rows)
	letters := plan.Letters(p)
	began := time.Now()
	var buf []byte
	for i := range rows {
		buf = letters.AppendJSON(buf[:0], i)
		require.Len(t, buf, len(`{"a":[]}`)+5*elems-1)
	}
	require.Less(t, time.Since(began), 10*time.Second) // 8 thousand million nulls the other way
	require.Equal(t, string(buf), string(letters.AppendJSON(nil, 3)), "backwards too")
}

// TestLettersOfNulls: a letter has the columns of nulls too, which were not read.
func TestLettersOfNulls(t *testing.T) {
	type fila struct {
		A *int64
		B int64
	}
	f, plan := planOf[fila](t, craft.File(1, func(m *format.FileMetaData) {
		nulls(m)
		m.Schema[1].RepetitionType = thrift.New(format.Optional)
	},
		craft.Chunk{Name: "a", Type: format.Int64, Values: 1, Pages: []craft.Page{craft.Data(1, format.Plain, []byte{2, 0, 0, 0, 2, 0})}},
		craft.Chunk{Name: "b", Type: format.Int64, Values: 1, Pages: []craft.Page{craft.Data(1, format.Plain, make([]byte, 8))}}))
	p, err := f.Reader(plan.Columns, 0, 0).Next(t.Context())
	require.NoError(t, err)
	letter := plan.AppendJSON(nil, p, 0)
	typ, err := row.Of[fila]()
	require.NoError(t, err)
	var again fila
	require.NoError(t, parquetread.SetJSON(typ, parquetread.Drift{}, letter, unsafe.Pointer(&again)), "%s", letter)
}

// TestSchemaOfNothing: a footer of bytes that each claim to be a column is given up early.
func TestSchemaOfNothing(t *testing.T) {
	const n = 8 << 20
	footer := append(binary.AppendUvarint([]byte{0x29, 0xfc}, n), make([]byte, n+1)...)
	file := craft.Footer([]byte("PAR1"), footer)
	require.Less(t, allocated(func() {
		_, err := parquetread.Open(bytes.NewReader(file), int64(len(file)), parquetread.Limits{})
		require.ErrorContains(t, err, "its schema has more than 100000 elements")
		require.True(t, parquetread.IsDamage(err))
	}), uint64(64<<20))
}

// TestManyColumnsTwice: the time does not grow with the square of their number.
func TestManyColumnsTwice(t *testing.T) {
	type fila struct{ A *int64 }
	const n = 90_000
	file := craft.File(0, func(m *format.FileMetaData) {
		e := m.Schema[1]
		m.Schema[0].NumChildren = thrift.New(int32(n))
		m.Schema, m.RowGroups = m.Schema[:1], nil
		for i := range n {
			e.Name = fmt.Sprintf("%06d", i/2)
			m.Schema = append(m.Schema, e)
		}
	}, craft.Chunk{Name: "a", Type: format.Int64})
	f, err := parquetread.Open(bytes.NewReader(file), int64(len(file)), parquetread.Limits{})
	require.NoError(t, err)
	typ, err := row.Of[fila]()
	require.NoError(t, err)
	began := time.Now()
	_, err = f.Plan(typ, parquetread.Drift{Missing: parquetread.NullMissing})
	require.ErrorContains(t, err, "more than once")
	require.Less(t, time.Since(began), 2*time.Second)
}

// listOf makes the column a list of required elements in the oldest form.
func listOf(m *format.FileMetaData) { m.Schema[1].RepetitionType = thrift.New(format.Repeated) }

// levels are those of a page of the first or the next elements of one list.
func levels(rep byte, n int) []byte {
	run := func(v ...byte) []byte { return append(binary.LittleEndian.AppendUint32(nil, uint32(len(v))), v...) }
	one := func(rep byte, n int) []byte { return append(binary.AppendUvarint(nil, uint64(n)<<1), rep) }
	reps := append(one(rep, 1), one(1, n-1)...)
	return append(run(reps...), run(one(1, n)...)...)
}

// TestListOfOneLargeValue: a row alone may be too large too, also when its list goes on in
// a page of another encoding. The rows before it are read, wherever reading begins.
func TestListOfOneLargeValue(t *testing.T) {
	type fila struct{ A [][]byte }
	for _, typ := range []format.Type{format.ByteArray, format.FixedLenByteArray} {
		c := repeats(typ, 0, 1<<20)
		page := func(rep byte, n int) craft.Page {
			return craft.Data(n, format.RLEDictionary, append(levels(rep, n), append(binary.AppendUvarint([]byte{1}, uint64(n)<<1), 0)...)).Zstd()
		}
		plain := bytes.Clone(make([]byte, 1<<20))
		if typ == format.ByteArray {
			plain = append(binary.LittleEndian.AppendUint32(nil, 1<<20), plain...)
		}
		more := craft.Data(1, format.Plain, append([]byte{2, 0, 0, 0, 2, 1, 2, 0, 0, 0, 2, 1}, plain...)).Zstd()
		c.Pages = append(c.Pages[:1], page(0, 3), more, page(0, 200_000), more)
		c.Values = 3 + 1 + 200_000 + 1
		f, plan := planOf[fila](t, craft.File(2, listOf, c))
		require.Less(t, allocated(func() {
			r := f.Reader(plan.Columns, 0, 0)
			p, err := r.Next(t.Context())
			require.NoError(t, err)
			require.Equal(t, 1, p.Rows)
			rows := make([]fila, 1)
			plan.Fill(p, unsafe.Pointer(&rows[0]), unsafe.Sizeof(rows[0]), func(_ int, err error) { require.NoError(t, err) })
			require.Len(t, rows[0].A, 4)
			require.Len(t, rows[0].A[3], 1<<20)
			_, err = r.Next(t.Context())
			require.ErrorContains(t, err, "a list has ")
			_, err = f.Reader(plan.Columns, 1, 0).Next(t.Context())
			require.ErrorContains(t, err, "a list has ")
		}), uint64(64<<20), "%v", typ)
	}
}

// TestWideDictionaries: large values of a fixed length go through pipes as well, also in
// lists that change their encoding in the middle.
func TestWideDictionaries(t *testing.T) {
	for _, typ := range []format.Type{format.ByteArray, format.FixedLenByteArray} {
		plain := []byte("una clave de treinta y dos bytes")
		if typ == format.ByteArray {
			plain = append(binary.LittleEndian.AppendUint32(nil, uint32(len(plain))), plain...)
		}
		c := repeats(typ, 50, 32)
		file := craft.File(50, nil, c)
		want := readAll(t, file, 0, 0)
		got, _, err := throughPipes(t, file, 7)
		require.NoError(t, err)
		require.Equal(t, want, got)
		require.Len(t, got.rows, 50)

		c.Pages = append(c.Pages[:1], craft.Data(2, format.RLEDictionary, append(levels(0, 2), 1, 4, 0)).Zstd(),
			craft.Data(1, format.Plain, append([]byte{2, 0, 0, 0, 2, 1, 2, 0, 0, 0, 2, 1}, plain...)).Zstd(),
			craft.Data(1, format.Plain, append([]byte{2, 0, 0, 0, 2, 1, 2, 0, 0, 0, 2, 1}, plain...)).Zstd())
		c.Values = 4
		file = craft.File(1, listOf, c)
		want = checkFile(t, file)
		require.Empty(t, want.err)
		got, _, err = throughPipes(t, file, 0)
		require.NoError(t, err)
		require.Equal(t, want, got)
		require.Equal(t, 2, strings.Count(got.rows[0], "dW5hIGNsYXZlIGRlIHRyZWludGEgeSBkb3MgYnl0ZXM")+strings.Count(got.rows[0], "una clave de treinta y dos bytes"), "%s", got.rows[0])
	}
}

// TestDamageIsNotPassedOn: a damaged page does no harm to those that are read after it, of
// whatever file.
func TestDamageIsNotPassedOn(t *testing.T) {
	for _, codec := range []format.CompressionCodec{format.Snappy, format.Gzip, format.Brotli, format.Lz4Raw, format.Zstd} {
		file := func(change func(b []byte) []byte) []byte {
			p := craft.Data(300, format.Plain, make([]byte, 8*300))
			p.Bytes = change(fold(codec, p.Bytes))
			p.Header.CompressedPageSize = int32(len(p.Bytes))
			return craft.File(300, nil, craft.Chunk{Name: "id", Type: format.Int64, Codec: codec, Values: 300, Pages: []craft.Page{p}})
		}
		good := file(func(b []byte) []byte { return b })
		longer := file(func(b []byte) []byte { return append(b, "what comes behind the end"...) })
		shorter := file(func(b []byte) []byte { return b[:len(b)-1] })
		for range 100 {
			for _, bad := range [][]byte{longer, shorter} {
				_, err := readIDs(t, bad)
				require.Error(t, err)
				rows, err := readIDs(t, good)
				require.NoError(t, err, "%v", codec)
				require.Equal(t, 300, rows)
			}
		}
	}
}
