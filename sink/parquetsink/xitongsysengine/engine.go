package xitongsysengine

import (
	"context"
	"encoding/binary"
	"io"
	"math"
	"strconv"

	"github.com/apache/thrift/lib/go/thrift"
	"github.com/xitongsys/parquet-go/common"
	"github.com/xitongsys/parquet-go/layout"
	"github.com/xitongsys/parquet-go/parquet"
	"github.com/xitongsys/parquet-go/schema"
	"github.com/xitongsys/parquet-go/writer"

	"github.com/leatgo/leat/sink/parquetsink"
)

// New returns the engine, for parquetsink.Config.Engine.
func New() parquetsink.Engine { return engine{} }

type engine struct{}

func (engine) Name() string { return "xitongsys" }

// Check finds nothing: this engine writes all types that parquetsink has.
func (engine) Check([]parquetsink.Column, parquetsink.FileOptions) error { return nil }

func (engine) Create(w io.Writer, columns []parquetsink.Column, o parquetsink.FileOptions) (parquetsink.FileWriter, error) {
	codec := parquet.CompressionCodec_SNAPPY
	switch o.Compression {
	case parquetsink.Zstd:
		codec = parquet.CompressionCodec_ZSTD
	case parquetsink.None:
		codec = parquet.CompressionCodec_UNCOMPRESSED
	}
	f := &file{columns: columns, schema: schemaOf(columns, func(i int) string { return columns[i].Name })}
	// The library makes Go names of column names, and two of those may be the
	// same. So inside it the columns have numbers.
	inner := schemaOf(columns, func(i int) string { return "C" + strconv.Itoa(i) })
	var err error
	if f.w, err = writer.NewParquetWriter(forward{Writer: w}, inner, 1); err != nil {
		return nil, err
	}
	f.w.CompressionType = codec
	f.w.RowGroupSize = math.MaxInt64 // Flush ends a row group, and nothing else
	f.w.PageSize = math.MaxInt32     // a page is what one Write brings, so rows are never cut
	f.w.MarshalFunc = f.tables
	for i, c := range columns {
		f.leaves = append(f.leaves, leaf(f.w.SchemaHandler, i, c))
	}
	return f, nil
}

// file is a Parquet file being written.
type file struct {
	w       *writer.ParquetWriter
	columns []parquetsink.Column
	schema  []*parquet.SchemaElement
	leaves  []layout.Table // without values

	rows    int // of the Write that is going on
	vectors []parquetsink.Vector
	pages   int64 // of the open row group
}

// leaf is the table of a column before it has values.
func leaf(h *schema.SchemaHandler, number int, c parquetsink.Column) layout.Table {
	t := layout.Table{Path: []string{c.Name}, Info: common.NewTag(), RepetitionType: parquet.FieldRepetitionType_REQUIRED}
	// Statistics of the library compare wrongly or not at all.
	t.Info.OmitStats = true
	if c.Null {
		t.MaxDefinitionLevel = 1
		t.RepetitionType = parquet.FieldRepetitionType_OPTIONAL
	}
	if c.List {
		t.MaxDefinitionLevel++
		t.MaxRepetitionLevel = 1
		t.Path = []string{c.Name, "list", "element"}
		t.RepetitionType = parquet.FieldRepetitionType_REQUIRED
	}
	t.Schema = h.SchemaElements[h.MapIndex[h.ValueColumns[number]]]
	return t
}

// Write hands the library as many objects as there are rows; tables makes its
// columns of them.
func (f *file) Write(rows int, vectors []parquetsink.Vector) error {
	f.rows, f.vectors = rows, vectors
	defer func() { f.vectors = nil }()
	f.w.Objs = make([]any, rows)
	f.pages += int64(len(f.columns))
	return f.w.Flush(false)
}

// tables stands in for the library's walk over Go values.
func (f *file) tables([]any, *schema.SchemaHandler) (*map[string]*layout.Table, error) {
	out := make(map[string]*layout.Table, len(f.columns))
	for i, c := range f.columns {
		t := f.leaves[i]
		v := &f.vectors[i]
		for r := range f.rows {
			null := v.Valid != nil && !v.Valid[r]
			if !c.List {
				if null {
					add(&t, nil, 0, 0)
				} else {
					add(&t, value(c, v, r), t.MaxDefinitionLevel, 0)
				}
				continue
			}
			from, to := int(v.Ends[r]), int(v.Ends[r+1])
			switch {
			case null:
				add(&t, nil, 0, 0)
			case from == to:
				add(&t, nil, t.MaxDefinitionLevel-1, 0)
			}
			for k := from; k < to; k++ {
				add(&t, value(c, v, k), t.MaxDefinitionLevel, int32(min(k-from, 1)))
			}
		}
		out[f.w.SchemaHandler.ValueColumns[i]] = &t
	}
	return &out, nil
}

func add(t *layout.Table, v any, definition, repetition int32) {
	t.Values = append(t.Values, v)
	t.DefinitionLevels = append(t.DefinitionLevels, definition)
	t.RepetitionLevels = append(t.RepetitionLevels, repetition)
}

func value(c parquetsink.Column, v *parquetsink.Vector, i int) any {
	switch c.Physical() {
	case parquetsink.Boolean:
		return v.Bools[i]
	case parquetsink.Int32:
		return v.Int32s[i]
	case parquetsink.Int64:
		return v.Int64s[i]
	case parquetsink.Float32:
		return v.Floats[i]
	case parquetsink.Float64:
		return v.Doubles[i]
	}
	return v.Strings[i]
}

// Size is what was written and what is encoded, with a guess at the footer.
func (f *file) Size() int64 { return f.w.Offset + f.w.Size + 200 + 150*int64(len(f.columns)) }

// Buffered counts the encoded pages, with what each takes besides its bytes.
func (f *file) Buffered() int64 {
	const page = 1 << 10
	return f.w.Size + f.pages*page
}

func (f *file) Flush() error {
	f.pages = 0
	return f.w.Flush(true)
}

// Close writes the footer itself: the library's WriteStop adds indexes of pages
// in which nulls and lists are wrong, and readers that use them lose rows.
func (f *file) Close() error {
	if err := f.Flush(); err != nil {
		return err
	}
	f.w.Footer.Schema = f.schema
	s := thrift.NewTSerializer()
	s.Protocol = thrift.NewTCompactProtocolFactoryConf(nil).GetProtocol(s.Transport)
	footer, err := s.Write(context.Background(), f.w.Footer)
	if err != nil {
		return err
	}
	end := binary.LittleEndian.AppendUint32(footer, uint32(len(footer)))
	_, err = f.w.PFile.Write(append(end, "PAR1"...))
	return err
}

// schemaOf gives the columns in the library's words, under the names that name
// gives them.
func schemaOf(columns []parquetsink.Column, name func(i int) string) []*parquet.SchemaElement {
	required := parquet.FieldRepetitionType_REQUIRED
	optional := parquet.FieldRepetitionType_OPTIONAL
	repeated := parquet.FieldRepetitionType_REPEATED
	n := int32(len(columns))
	out := []*parquet.SchemaElement{{Name: "schema", NumChildren: &n}}
	for i, c := range columns {
		repetition := &required
		if c.Null {
			repetition = &optional
		}
		e := element(c)
		e.Name, e.RepetitionType = name(i), repetition
		if c.List {
			one, kind := int32(1), parquet.ConvertedType_LIST
			out = append(out,
				&parquet.SchemaElement{Name: e.Name, RepetitionType: repetition, NumChildren: &one, ConvertedType: &kind,
					LogicalType: &parquet.LogicalType{LIST: parquet.NewListType()}},
				&parquet.SchemaElement{Name: "list", RepetitionType: &repeated, NumChildren: &one})
			e.Name, e.RepetitionType = "element", &required
		}
		out = append(out, e)
	}
	return out
}

// element gives the types of a column's values, old (ConvertedType) and new.
func element(c parquetsink.Column) *parquet.SchemaElement {
	e := &parquet.SchemaElement{}
	physical := map[parquetsink.Physical]parquet.Type{
		parquetsink.Boolean: parquet.Type_BOOLEAN, parquetsink.Int32: parquet.Type_INT32, parquetsink.Int64: parquet.Type_INT64,
		parquetsink.Float32: parquet.Type_FLOAT, parquetsink.Float64: parquet.Type_DOUBLE,
		parquetsink.ByteArray: parquet.Type_BYTE_ARRAY, parquetsink.FixedLenByteArray: parquet.Type_FIXED_LEN_BYTE_ARRAY,
	}[c.Physical()]
	e.Type = &physical
	if physical == parquet.Type_FIXED_LEN_BYTE_ARRAY {
		e.TypeLength = ptr[int32](16)
	}
	switch c.Type {
	case parquetsink.Int:
		e.ConvertedType = ptr(map[int]parquet.ConvertedType{8: parquet.ConvertedType_INT_8, 16: parquet.ConvertedType_INT_16,
			32: parquet.ConvertedType_INT_32, 64: parquet.ConvertedType_INT_64}[c.Bits])
		e.LogicalType = &parquet.LogicalType{INTEGER: &parquet.IntType{BitWidth: int8(c.Bits), IsSigned: true}}
	case parquetsink.Uint:
		e.ConvertedType = ptr(map[int]parquet.ConvertedType{8: parquet.ConvertedType_UINT_8, 16: parquet.ConvertedType_UINT_16,
			32: parquet.ConvertedType_UINT_32, 64: parquet.ConvertedType_UINT_64}[c.Bits])
		e.LogicalType = &parquet.LogicalType{INTEGER: &parquet.IntType{BitWidth: int8(c.Bits)}}
	case parquetsink.String:
		e.ConvertedType = ptr(parquet.ConvertedType_UTF8)
		e.LogicalType = &parquet.LogicalType{STRING: parquet.NewStringType()}
	case parquetsink.Timestamp:
		e.ConvertedType = ptr(parquet.ConvertedType_TIMESTAMP_MICROS)
		e.LogicalType = &parquet.LogicalType{TIMESTAMP: &parquet.TimestampType{IsAdjustedToUTC: true, Unit: &parquet.TimeUnit{MICROS: parquet.NewMicroSeconds()}}}
	case parquetsink.Decimal:
		e.ConvertedType = ptr(parquet.ConvertedType_DECIMAL)
		e.Precision, e.Scale = ptr(int32(c.Precision)), ptr(int32(c.Scale))
		e.LogicalType = &parquet.LogicalType{DECIMAL: &parquet.DecimalType{Precision: int32(c.Precision), Scale: int32(c.Scale)}}
	}
	return e
}

func ptr[E any](v E) *E { return &v }
