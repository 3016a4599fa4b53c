package parquetread_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"runtime"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/s2"
	"github.com/parquet-go/parquet-go/encoding/thrift"
	"github.com/parquet-go/parquet-go/format"
	"github.com/pierrec/lz4/v4"
	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat/internal/parquetread"
	"github.com/leatgo/leat/internal/parquetread/craft"
	"github.com/leatgo/leat/internal/row"
)

// fold compresses b by a codec.
func fold(codec format.CompressionCodec, b []byte) []byte {
	var out bytes.Buffer
	switch codec {
	case format.Snappy:
		return s2.EncodeSnappy(nil, b)
	case format.Gzip:
		w := gzip.NewWriter(&out)
		_, _ = w.Write(b)
		_ = w.Close()
	case format.Brotli:
		w := brotli.NewWriter(&out)
		_, _ = w.Write(b)
		_ = w.Close()
	case format.Lz4Raw:
		dst := make([]byte, lz4.CompressBlockBound(len(b)))
		var c lz4.Compressor
		n, err := c.CompressBlock(b, dst)
		if err != nil {
			panic(err)
		}
		return dst[:n]
	case format.Zstd:
		return craft.Page{Bytes: b}.Zstd().Bytes
	}
	return out.Bytes()
}

// TestBombs: small files that unfold to very much, or say so, are refused before the
// memory is taken; so are lies of every other kind. No case may cost more than a few MiB
// beyond what its one honest page has, or more than a second.
func TestBombs(t *testing.T) {
	ints := func(n int) []byte { return make([]byte, 8*n) }
	id := func(values int64, pages ...craft.Page) craft.Chunk {
		return craft.Chunk{Name: "id", Type: format.Int64, Values: values, Pages: pages}
	}
	with := func(c craft.Chunk, codec format.CompressionCodec, unfolded int64) craft.Chunk {
		c.Codec, c.Unfolded = codec, unfolded
		return c
	}
	declare := func(p craft.Page, unfolded int32) craft.Page {
		p.Header.UncompressedPageSize = unfolded
		return p
	}
	varint := func(v ...uint64) (b []byte) {
		for _, x := range v {
			b = binary.AppendUvarint(b, x)
		}
		return b
	}
	good := craft.Data(3, format.Plain, ints(3))
	text := func(values int64, encoding format.Encoding, b []byte) craft.Chunk {
		return craft.Chunk{Name: "text", Type: format.ByteArray, Values: values, Pages: []craft.Page{craft.Data(int(values), encoding, b)}}
	}
	deep := []byte{}
	for range 100_000 {
		deep = append(deep, 0xfc) // field 15, a structure
	}
	zeros := make([]byte, 64<<20)
	bomb := craft.Data(8<<20, format.Plain, zeros).Zstd()

	cases := map[string]struct {
		file []byte
		rows int
		want string
	}{
		"a good one": {craft.File(3, nil, id(3, good)), 3, ""},

		// Footers.
		"a footer longer than the file": {append([]byte("PAR1xxxx"), append(binary.LittleEndian.AppendUint32(nil, 1<<31), "PAR1"...)...), 0, "its footer claims 2147483648 bytes"},
		"two thousand million columns":  {craft.Footer([]byte("PAR1"), append([]byte{0x29, 0xfc}, varint(1<<31-1)...)), 0, "its footer is damaged"},
		"a text without end":            {craft.Footer([]byte("PAR1"), append([]byte{0x68}, varint(1<<31-1)...)), 0, "its footer is damaged"},
		"structures without end":        {craft.Footer([]byte("PAR1"), deep), 0, "nested too deep"},
		"lists without end":             {craft.Footer([]byte("PAR1"), append([]byte{0xf9}, bytes.Repeat([]byte{0x19}, 100_000)...)), 0, "nested too deep"},
		"a schema without end": {craft.File(3, func(m *format.FileMetaData) {
			for range 200 {
				m.Schema = append(m.Schema, format.SchemaElement{Name: "g", NumChildren: thrift.New(int32(1)), RepetitionType: thrift.New(format.Required)})
			}
			m.Schema[0].NumChildren = thrift.New(int32(2))
		}, id(3, good)), 0, "nested deeper"},
		"more children than there are": {craft.File(3, func(m *format.FileMetaData) { m.Schema[0].NumChildren = thrift.New(int32(1<<31 - 1)) }, id(3, good)), 0, "ends in the middle of a group"},
		"a row too many":               {craft.File(3, func(m *format.FileMetaData) { m.NumRows = 4 }, id(3, good)), 0, "claims 4 rows, its row groups have 3"},
		"rows below zero":              {craft.File(-3, nil, id(-3, good)), 0, "no number of rows"},
		"rows beyond counting": {craft.File(1<<63-1, func(m *format.FileMetaData) {
			m.RowGroups = append(m.RowGroups, m.RowGroups[0])
		}, id(1<<63-1, good)), 0, "more rows than there can be"},
		"pages behind the end":                      {craft.File(3, func(m *format.FileMetaData) { m.RowGroups[0].Columns[0].MetaData.DataPageOffset = 1 << 40 }, id(3, good)), 0, "outside the file"},
		"pages before the file":                     {craft.File(3, func(m *format.FileMetaData) { m.RowGroups[0].Columns[0].MetaData.DataPageOffset = -8 }, id(3, good)), 0, "outside the file"},
		"pages over all bounds":                     {craft.File(3, func(m *format.FileMetaData) { m.RowGroups[0].Columns[0].MetaData.TotalCompressedSize = 1<<63 - 1 }, id(3, good)), 0, "outside the file"},
		"a column of another type in the row group": {craft.File(3, func(m *format.FileMetaData) { m.RowGroups[0].Columns[0].MetaData.Type = format.Int32 }, id(3, good)), 0, "is INT64 in the schema, and INT32 in row group 0"},
		"another number of columns":                 {craft.File(3, func(m *format.FileMetaData) { m.RowGroups[0].Columns = nil }, id(3, good)), 0, "has 0 columns, the schema 1"},
		"values of no size":                         {craft.File(3, nil, craft.Chunk{Name: "by", Type: format.FixedLenByteArray, Length: 1 << 30, Values: 3, Pages: []craft.Page{good}}), 0, "values are of 1073741824 bytes"},

		// Sizes.
		"a billion rows in a run":       {craft.File(1e9, nil, id(1e9, craft.Dictionary(1, ints(1)), craft.Data(1e9, format.RLEDictionary, append([]byte{1}, append(varint(1e9<<1), 0)...)))), 0, "unfolds to more than"},
		"2 GiB, honestly":               {craft.File(256<<20, nil, with(id(256<<20, bomb, bomb, bomb, bomb), format.Zstd, 2<<30)), 0, "unfolds to more than"},
		"2 GiB, which the footer hides": {craft.File(3, nil, with(id(3, declare(bomb, 1<<31-1)), format.Zstd, 100)), 0, "more than the limit of"},
		"pages more than the footer says": {craft.File(3, nil, with(id(3, craft.Page{Header: func() format.PageHeader {
			h := declare(bomb, 64<<20).Header
			h.DataPageHeader.V.NumValues = 3
			return h
		}(), Bytes: bomb.Bytes}), format.Zstd, 100)), 0, "unfold to more than the footer says"},
		"a page below zero":           {craft.File(3, nil, id(3, declare(good, -5))), 0, "negative sizes"},
		"a page longer than the file": {craft.File(3, nil, id(3, func() craft.Page { p := good; p.Header.CompressedPageSize = 1 << 30; return p }())), 0, "beyond the end"},
		"more values than rows":       {craft.File(3, nil, id(3, craft.Data(1<<30, format.Plain, ints(3)))), 0, "more values than the footer says"},
		"fewer values than rows":      {craft.File(3, nil, id(3, craft.Data(3, format.Plain, ints(2)))), 2, "fewer values"},
		"fewer pages than rows":       {craft.File(5, nil, id(5, good)), 3, "its pages end before its 5 rows"},

		// Encodings.
		"deltas without end":              {craft.File(3, nil, id(3, craft.Data(3, format.DeltaBinaryPacked, varint(128, 4, 1<<31, 0)))), 0, "more numbers than its page says"},
		"deltas in blocks of all":         {craft.File(3, nil, id(3, craft.Data(3, format.DeltaBinaryPacked, varint(1<<62, 1, 3, 0)))), 0, "DELTA_BINARY_PACKED"},
		"a number that no dictionary has": {craft.File(3, nil, id(3, craft.Dictionary(1, ints(1)), craft.Data(3, format.RLEDictionary, []byte{8, 2 << 1, 0, 1 << 1, 7}))), 2, "out of its dictionary"},
		"no dictionary":                   {craft.File(3, nil, id(3, craft.Data(3, format.RLEDictionary, []byte{8, 3 << 1, 0}))), 0, "needs a dictionary"},
		"two dictionaries":                {craft.File(3, nil, id(3, craft.Dictionary(1, ints(1)), craft.Dictionary(1, ints(1)), good)), 0, "two dictionaries"},
		"a dictionary of fewer values":    {craft.File(3, nil, id(3, craft.Dictionary(1<<30, ints(1)), craft.Data(3, format.RLEDictionary, []byte{8, 3 << 1, 0}))), 0, "has 1 values instead of 1073741824"},
		"numbers of 255 bits":             {craft.File(3, nil, id(3, craft.Dictionary(1, ints(1)), craft.Data(3, format.RLEDictionary, []byte{255, 3 << 1, 0}))), 0, "numbers of 255 bits"},
		"a text longer than its page":     {craft.File(2, nil, text(2, format.Plain, []byte("\x01\x00\x00\x00a\xff\xff\xff\xffb"))), 1, "fewer values"},
		"texts of texts of texts":         {craft.File(4096, nil, text(4096, format.DeltaByteArray, prefixBomb(4096, 1<<20))), 0, "unfold to more than"},
		"an encoding of another type":     {craft.File(3, nil, id(3, craft.Data(3, format.DeltaByteArray, ints(3)))), 0, "does not fit"},
		"an encoding that no one knows":   {craft.File(3, nil, id(3, craft.Data(3, 99, ints(3)))), 0, "encoded by number 99"},
		"a codec that no one knows":       {craft.File(3, nil, with(id(3, good), 77, 0)), 0, "compressed by number 77"},
		"levels without end": {craft.File(3, nil, craft.Chunk{Name: "id", Type: format.Int64, Optional: true, Values: 3, Pages: []craft.Page{
			craft.Data(3, format.Plain, append([]byte("\xff\xff\xff\x7f"), ints(3)...)),
		}}), 0, "too short for its levels"},
		"no levels": {craft.File(3, nil, craft.Chunk{Name: "id", Type: format.Int64, Optional: true, Values: 3, Pages: []craft.Page{
			craft.Data(3, format.Plain, append([]byte("\x00\x00\x00\x00"), ints(3)...)),
		}}), 0, "fewer levels than values"},
	}
	for _, codec := range []format.CompressionCodec{format.Snappy, format.Gzip, format.Brotli, format.Lz4Raw, format.Zstd} {
		big := fold(codec, zeros)
		p := craft.Page{Header: good.Header, Bytes: big}
		p.Header.CompressedPageSize = int32(len(big))
		cases["a page of "+codec.String()+" that has more than it says"] = struct {
			file []byte
			rows int
			want string
		}{craft.File(3, nil, with(id(3, p), codec, 0)), 0, "page"}
		garbage := craft.Page{Header: good.Header, Bytes: bytes.Repeat([]byte{0xab, 0x17, 0xff}, 8)}
		cases["a page of "+codec.String()+" that is garbage"] = struct {
			file []byte
			rows int
			want string
		}{craft.File(3, nil, with(id(3, garbage), codec, 0)), 0, "page"}
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			began := time.Now()
			rows, err := readIDs(t, c.file)
			runtime.ReadMemStats(&after)
			if c.want == "" {
				require.NoError(t, err)
			} else {
				require.ErrorContains(t, err, c.want)
				require.True(t, parquetread.IsDamage(err))
			}
			require.Equal(t, c.rows, rows, "the rows before the damage")
			require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(16<<20), "memory")
			require.Less(t, time.Since(began), 5*time.Second)
		})
	}
}

// prefixBomb is values of DELTA_BYTE_ARRAY that all claim to begin with size bytes of the
// one before.
func prefixBomb(values, size int) []byte {
	all := func(v int64) []byte { // as many numbers, all the same
		b := binary.AppendUvarint(binary.AppendUvarint(binary.AppendUvarint(nil, 128), 4), uint64(values))
		b = binary.AppendVarint(b, v)
		for i := 1; i < values; i += 128 {
			b = append(binary.AppendVarint(b, 0), 0, 0, 0, 0)
		}
		return b
	}
	return append(append(all(int64(size)), all(0)...), strings.Repeat("x", 100)...)
}

func readIDs(t *testing.T, file []byte) (rows int, err error) {
	type fila struct {
		ID   *int64
		Text *string
		By   *[]byte
	}
	f, err := parquetread.Open(bytes.NewReader(file), int64(len(file)), parquetread.Limits{})
	if err != nil {
		return 0, err
	}
	typ, err := row.Of[fila]()
	require.NoError(t, err)
	plan, err := f.Plan(typ, parquetread.Drift{Missing: parquetread.NullMissing})
	if err != nil {
		return 0, err
	}
	r := f.Reader(plan.Columns, 0, 0)
	for {
		p, err := r.Next(t.Context())
		if errors.Is(err, io.EOF) {
			return rows, nil
		}
		if err != nil {
			return rows, err
		}
		part := make([]fila, p.Rows)
		plan.Fill(p, unsafe.Pointer(&part[0]), unsafe.Sizeof(part[0]), func(i int, err error) { require.NoError(t, err) })
		rows += p.Rows
	}
}
