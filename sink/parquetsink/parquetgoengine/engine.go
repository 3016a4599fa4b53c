package parquetgoengine

import (
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"unsafe"

	"github.com/klauspost/compress/s2"
	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/compress"
	"github.com/parquet-go/parquet-go/compress/zstd"
	thriftformat "github.com/parquet-go/parquet-go/format"

	"github.com/leatgo/leat/sink/parquetsink"
)

// New returns the engine, for parquetsink.Config.Engine.
func New() parquetsink.Engine { return engine{} }

// engine writes columns through the column writers of parquet-go, whose values are
// copied straight into a column's page.
type engine struct{}

func (engine) Name() string { return "parquet-go" }

// Check finds nothing: this engine writes all there is.
func (engine) Check([]parquetsink.Column, parquetsink.FileOptions) error { return nil }

const (
	// maxDictionary is the size of a dictionary beyond which the rest of a row
	// group is written plain.
	maxDictionary = 128 << 10

	// dictionaryRows is the number of rows in a page of a column with a
	// dictionary. parquet-go looks at the size of the dictionary only when a page
	// ends, and one of numbers would end late.
	dictionaryRows = 8 << 10
)

func (engine) Create(w io.Writer, columns []parquetsink.Column, o parquetsink.FileOptions) (parquetsink.FileWriter, error) {
	return &file{out: countingWriter{w: w}, columns: columns, options: o}, nil
}

// file is a file being written. The writer is made at the first rows: they
// show which columns repeat their strings and so deserve a dictionary.
type file struct {
	out     countingWriter
	columns []parquetsink.Column
	options parquetsink.FileOptions

	w       *parquet.GenericWriter[any]
	writers []*parquet.ColumnWriter
	values  []parquet.Value // scratch
	pending int64           // rows of the open row group
	dicts   []int           // columns with a dictionary
	inPage  int             // rows of their open page, at most
	nans    nanGroups
}

// countingWriter counts the bytes that have gone out.
type countingWriter struct {
	w io.Writer
	n int64
}

func (c *countingWriter) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	c.n += int64(n)
	return n, err
}

func (f *file) begin(vectors []parquetsink.Vector) error {
	options := []parquet.WriterOption{
		f.schema(vectors),
		parquet.Compression(codecOf(f.options.Compression)),
		// What is at the start of a page says nothing that the index at the end of
		// the file does not say.
		parquet.DataPageStatistics(false),
		// Version 1 is what every reader knows.
		parquet.DataPageVersion(1),
		parquet.PageBufferSize(f.options.PageBytes),
		parquet.WriteBufferSize(0), // the lake has a buffer
		parquet.ColumnPageBuffers(pageBuffers(f.options.PageBytes)),
		parquet.DictionaryMaxBytes(maxDictionary),
		parquet.CreatedBy("leat", "", ""),
	}
	for _, c := range f.columns {
		if !bounded(c) {
			options = append(options, parquet.SkipPageBounds(pathOf(c)...))
		}
	}
	if _, err := parquet.NewWriterConfig(options...); err != nil {
		return err
	}
	f.w = parquet.NewGenericWriter[any](&f.out, options...)
	f.writers = f.w.ColumnWriters()
	return nil
}

// pageBuffers gives the memory in which encoded pages wait for the end of their row
// group. It comes in pieces, of which each column has one that is not full: with
// those of parquet-go's default, many columns in many files take twice the memory
// that their pages do.
func pageBuffers(pageBytes int) parquet.BufferPool {
	const least = 2 << 10
	return parquet.NewChunkBufferPool(max(least, pageBytes/8))
}

// bounded tells whether a column has its smallest and largest value in the
// footer. Those of strings cost a quarter of the time of writing; and parquet-go
// compares decimals of 16 bytes as if they had no sign.
func bounded(c parquetsink.Column) bool {
	p := c.Physical()
	return p != parquetsink.ByteArray && p != parquetsink.FixedLenByteArray
}

func pathOf(c parquetsink.Column) []string {
	if c.List {
		return []string{c.Name, "list", "element"}
	}
	return []string{c.Name}
}

func (f *file) schema(vectors []parquetsink.Vector) *parquet.Schema {
	root := &group{}
	for i, c := range f.columns {
		node := leafOf(c)
		// Plain is what every reader knows; parquet-go would take a newer encoding
		// for byte arrays.
		node = parquet.Encoded(node, &parquet.Plain)
		if c.Type == parquetsink.String && repeats(&vectors[i]) {
			node = parquet.Encoded(node, &parquet.RLEDictionary)
			f.dicts = append(f.dicts, i)
		}
		if c.List {
			node = parquet.List(node)
		}
		if c.Null {
			node = parquet.Optional(node)
		}
		root.fields = append(root.fields, groupField{node, c.Name})
	}
	return parquet.NewSchema("schema", root)
}

// repeats looks at the first strings of a column: when most of them are new, a
// dictionary would cost time and give nothing.
func repeats(v *parquetsink.Vector) bool {
	seen := make(map[string]struct{}, len(v.Strings))
	values := 0
	for i, s := range v.Strings {
		if v.Ends == nil && v.Valid != nil && !v.Valid[i] {
			continue
		}
		values++
		seen[s] = struct{}{}
	}
	return 2*len(seen) <= values+16
}

func leafOf(c parquetsink.Column) parquet.Node {
	switch c.Type {
	case parquetsink.Bool:
		return parquet.Leaf(parquet.BooleanType)
	case parquetsink.Int:
		return parquet.Int(c.Bits)
	case parquetsink.Uint:
		return parquet.Uint(c.Bits)
	case parquetsink.Float:
		return parquet.Leaf(parquet.FloatType)
	case parquetsink.Double:
		return parquet.Leaf(parquet.DoubleType)
	case parquetsink.String:
		return parquet.String()
	case parquetsink.Timestamp:
		return parquet.Timestamp(parquet.Microsecond)
	case parquetsink.Decimal:
		switch c.Physical() {
		case parquetsink.Int32:
			return parquet.Decimal(c.Scale, c.Precision, parquet.Int32Type)
		case parquetsink.Int64:
			return parquet.Decimal(c.Scale, c.Precision, parquet.Int64Type)
		}
		return parquet.Decimal(c.Scale, c.Precision, parquet.FixedLenByteArrayType(16))
	}
	return parquet.Leaf(parquet.ByteArrayType)
}

// group is a parquet.Group that keeps the order of its fields.
type group struct {
	parquet.Group
	fields []parquet.Field
}

func (g *group) Fields() []parquet.Field { return g.fields }

// GoType is never used: no Go values are taken from these schemas.
func (g *group) GoType() reflect.Type { return reflect.TypeFor[map[string]any]() }

type groupField struct {
	parquet.Node
	name string
}

func (f groupField) Name() string { return f.name }

// Value is never used: no Go values are given to these schemas.
func (f groupField) Value(base reflect.Value) reflect.Value {
	return base.MapIndex(reflect.ValueOf(f.name))
}

func (f *file) Write(rows int, vectors []parquetsink.Vector) error {
	if f.w == nil {
		if err := f.begin(vectors); err != nil {
			return err
		}
	}
	for i, w := range f.writers {
		values := f.valuesOf(i, rows, &vectors[i])
		if n, err := w.WriteRowValues(values); err != nil {
			return err
		} else if n != rows {
			return fmt.Errorf("column %s: parquet-go took %d rows of %d", f.columns[i].Name, n, rows)
		}
	}
	f.pending += int64(rows)
	if f.inPage += rows; f.inPage < dictionaryRows {
		return nil
	}
	f.inPage = 0
	for _, i := range f.dicts {
		if err := f.writers[i].Flush(); err != nil {
			return err
		}
	}
	return nil
}

// valuesOf gives a vector in parquet-go's own form, in scratch memory.
func (f *file) valuesOf(column, rows int, v *parquetsink.Vector) []parquet.Value {
	c := &f.columns[column]
	n := rows
	if c.List {
		n = int(v.Ends[rows] - v.Ends[0])
		f.values = slices.Grow(f.values[:0], n+rows) // an empty list is a value too
	} else {
		f.values = slices.Grow(f.values[:0], n)
	}
	f.values = f.values[:cap(f.values)]
	out := f.values[:n]
	from := 0
	if c.List {
		from = int(v.Ends[0])
	}
	switch c.Physical() {
	case parquetsink.Boolean:
		for i, x := range v.Bools[from : from+n] {
			out[i] = parquet.BooleanValue(x)
		}
	case parquetsink.Int32:
		for i, x := range v.Int32s[from : from+n] {
			out[i] = parquet.Int32Value(x)
		}
	case parquetsink.Int64:
		for i, x := range v.Int64s[from : from+n] {
			out[i] = parquet.Int64Value(x)
		}
	case parquetsink.Float32:
		for i, x := range v.Floats[from : from+n] {
			out[i] = parquet.FloatValue(x)
		}
		f.noteNaN(column, hasNaN(v.Floats[from:from+n]))
	case parquetsink.Float64:
		for i, x := range v.Doubles[from : from+n] {
			out[i] = parquet.DoubleValue(x)
		}
		f.noteNaN(column, hasNaN(v.Doubles[from:from+n]))
	case parquetsink.ByteArray:
		for i, x := range v.Strings[from : from+n] {
			out[i] = parquet.ByteArrayValue(unsafe.Slice(unsafe.StringData(x), len(x)))
		}
	case parquetsink.FixedLenByteArray:
		for i, x := range v.Strings[from : from+n] {
			if c.List || v.Valid == nil || v.Valid[i] {
				out[i] = parquet.FixedLenByteArrayValue(unsafe.Slice(unsafe.StringData(x), len(x)))
			}
		}
	}
	switch {
	case c.List:
		return listLevels(f.values, out, rows, column, v)
	case c.Null:
		null := parquet.NullValue().Level(0, 0, column)
		for i := range out {
			if v.Valid[i] {
				out[i].SetDefinitionLevel(1)
			} else {
				out[i] = null
			}
		}
	}
	return out
}

func (f *file) noteNaN(column int, some bool) {
	if some {
		f.nans.add(column, len(f.columns))
	}
}

func hasNaN[E float32 | float64](values []E) bool {
	for _, x := range values {
		if x != x {
			return true
		}
	}
	return false
}

// listLevels sets the levels of the values of lists, and puts in a value for each
// list that is null or empty. It works from the back, where dst has room.
func listLevels(dst, values []parquet.Value, rows, column int, v *parquetsink.Vector) []parquet.Value {
	nullable := 0
	if v.Valid != nil {
		nullable = 1
	}
	missing := 0
	for i := range rows {
		if v.Ends[i] == v.Ends[i+1] {
			missing++
		}
	}
	to := len(values) + missing
	dst = dst[:to]
	from := len(values)
	for i := rows - 1; i >= 0; i-- {
		n := int(v.Ends[i+1] - v.Ends[i])
		if n == 0 {
			level := nullable // of an empty list
			if nullable == 1 && !v.Valid[i] {
				level = 0
			}
			to--
			dst[to] = parquet.NullValue().Level(0, level, column)
			continue
		}
		for k := n - 1; k >= 0; k-- {
			to--
			from--
			dst[to] = values[from].Level(min(k, 1), nullable+1, column)
		}
	}
	return dst
}

// Size is what was written and what is encoded; what is not encoded yet counts
// uncompressed, which is less than a page of each column.
func (f *file) Size() int64 {
	if f.w == nil {
		return 0
	}
	return f.w.Size() + footerBytes(len(f.columns))
}

// footerBytes is about what a footer of one row group takes.
func footerBytes(columns int) int64 { return 200 + 150*int64(columns) }

// Buffered counts pages that are encoded, the page that each column is filling,
// at its full size, and the tables of dictionaries.
func (f *file) Buffered() int64 {
	if f.pending == 0 {
		return 0
	}
	held := f.w.Size() - f.out.n
	return held + int64(len(f.columns)*f.options.PageBytes) + int64(len(f.dicts))*maxDictionary/4
}

func (f *file) Flush() error {
	if f.pending == 0 {
		return nil
	}
	f.pending, f.inPage = 0, 0
	f.nans.end()
	return f.w.Flush()
}

// Close writes the footer, without what it says about bounds that were not taken.
func (f *file) Close() error {
	if f.w == nil {
		// A file without rows: schema and footer only.
		if err := f.begin(make([]parquetsink.Vector, len(f.columns))); err != nil {
			return err
		}
	}
	if err := f.Flush(); err != nil {
		return err
	}
	return closeWithout(f.w, &f.out, func(group int, path []string) bool {
		i := slices.IndexFunc(f.columns, func(c parquetsink.Column) bool { return slices.Equal(pathOf(c), path) })
		return i < 0 || !bounded(f.columns[i]) || f.nans.has(group, i)
	})
}

// codecOf gives the codecs their parameters.
func codecOf(c parquetsink.Compression) compress.Codec {
	switch c {
	case parquetsink.Zstd:
		return zstdCodec
	case parquetsink.None:
		return &parquet.Uncompressed
	}
	return snappyCodec{}
}

// zstdCodec has the encoders of all files.
var zstdCodec = &zstd.Codec{Level: zstd.SpeedDefault}

// snappyCodec writes Snappy with the faster of s2's encoders; parquet-go's own
// takes the one that is 40 % slower for files 5 % smaller.
type snappyCodec struct{}

func (snappyCodec) String() string { return "SNAPPY" }

func (snappyCodec) CompressionCodec() thriftformat.CompressionCodec { return thriftformat.Snappy }

func (snappyCodec) Encode(dst, src []byte) ([]byte, error) {
	if s2.MaxEncodedLen(len(src)) < 0 {
		return dst, errors.New("the page is too large for Snappy")
	}
	return s2.EncodeSnappy(dst[:cap(dst)], src), nil
}

func (snappyCodec) Decode(dst, src []byte) ([]byte, error) { return parquet.Snappy.Decode(dst, src) }
