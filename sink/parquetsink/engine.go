package parquetsink

import (
	"fmt"
	"io"
	"strings"
)

// Engine encodes the files. The default is this package's own; packages
// parquetgoengine and xitongsysengine have others, built on libraries. An engine
// knows no row types: it gets columns. It is used by one goroutine at a time, but
// several files of one engine may be open.
type Engine interface {
	// Name is what errors call it.
	Name() string

	// Check reports what of these columns and options the engine can't write,
	// joined, each fault with its column and the remedy. It does no I/O.
	Check(columns []Column, o FileOptions) error

	// Create begins a file of columns that have passed Check. It is written to
	// w, in order.
	Create(w io.Writer, columns []Column, o FileOptions) (FileWriter, error)
}

// FileWriter is a file being written by an Engine. After an error it is given
// up.
type FileWriter interface {
	// Write adds rows: one Vector for each column, in order, all of that many
	// rows. It is called with up to about a thousand rows. The vectors, and what
	// their strings point to, are valid only during the call.
	Write(rows int, columns []Vector) error

	// Size is how large the file would be if it were closed now, estimated.
	Size() int64

	// Buffered is the memory that rows hold which are not written yet, and that
	// Flush gives back.
	Buffered() int64

	// Flush ends the row group.
	Flush() error

	// Close writes the rest and the footer.
	Close() error
}

// FileOptions are the properties of files that engines share.
type FileOptions struct {
	Compression Compression
	PageBytes   int // about how large the pages of a column become, before compression
}

// Type is the kind of values in a column, as readers see it.
type Type uint8

// The types of columns, each with the slice of Vector that holds its values.
const (
	Bool      Type = iota // Bools; BOOLEAN
	Int                   // Int32s up to 32 bits, else Int64s; INT(Bits, signed)
	Uint                  // as Int, the same bits; INT(Bits, unsigned)
	Float                 // Floats; FLOAT
	Double                // Doubles; DOUBLE
	String                // Strings, valid UTF-8; BYTE_ARRAY with STRING
	Bytes                 // Strings; BYTE_ARRAY
	Timestamp             // Int64s, microseconds since 1970 in UTC; TIMESTAMP(MICROS, UTC)
	Decimal               // by Precision: up to 9 Int32s, up to 18 Int64s, else Strings of 16 bytes, big-endian; DECIMAL
)

// Column is a column of a file.
type Column struct {
	Name             string
	Type             Type
	Bits             int  // of Int and Uint: 8, 16, 32 or 64
	Precision, Scale int  // of Decimal
	Null             bool // the value, or the list as a whole, may be null
	List             bool // of values that are never null
}

// Physical is the form in which the values of a column lie in a file, and so
// which slice of a Vector holds them.
type Physical uint8

// The physical types.
const (
	Boolean Physical = iota
	Int32
	Int64
	Float32
	Float64
	ByteArray
	FixedLenByteArray // of 16 bytes
)

// Physical gives the column's physical type.
func (c Column) Physical() Physical {
	switch c.Type {
	case Bool:
		return Boolean
	case Int, Uint:
		if c.Bits <= 32 {
			return Int32
		}
		return Int64
	case Float:
		return Float32
	case Double:
		return Float64
	case Timestamp:
		return Int64
	case Decimal:
		switch {
		case c.Precision <= 9:
			return Int32
		case c.Precision <= 18:
			return Int64
		}
		return FixedLenByteArray
	}
	return ByteArray
}

// String gives the column as the manifest's schema and errors show it:
// "precio decimal(18,2) null".
func (c Column) String() string {
	var b strings.Builder
	b.WriteString(c.Name)
	b.WriteByte(' ')
	if c.List {
		b.WriteString("list of ")
	}
	switch c.Type {
	case Bool:
		b.WriteString("bool")
	case Int:
		fmt.Fprintf(&b, "int%d", c.Bits)
	case Uint:
		fmt.Fprintf(&b, "uint%d", c.Bits)
	case Float:
		b.WriteString("float")
	case Double:
		b.WriteString("double")
	case String:
		b.WriteString("string")
	case Bytes:
		b.WriteString("bytes")
	case Timestamp:
		b.WriteString("timestamp(us,UTC)")
	case Decimal:
		fmt.Fprintf(&b, "decimal(%d,%d)", c.Precision, c.Scale)
	}
	if c.Null {
		b.WriteString(" null")
	}
	return b.String()
}

// Vector holds a column of a run of rows. One of the slices of values is used,
// the one that the column's Physical names (byte arrays of both kinds are
// Strings): with an element for each row or, for lists, for each element. At a
// null the value is anything.
type Vector struct {
	Bools   []bool
	Int32s  []int32
	Int64s  []int64
	Floats  []float32
	Doubles []float64
	Strings []string

	Valid []bool  // by row: not null; nil for a column without null
	Ends  []int32 // of lists, one more than rows: the list of row i is Ends[i] to Ends[i+1] of the values

	// For the default engine, in the place of Strings where texts repeat: by row a
	// number of a text of this batch. At a null the code is anything below the
	// number of texts, or 0.
	codes []uint32
	texts []string
	batch uint64 // changes with texts; never 0
}

// slice gives rows i to j, sharing memory.
func (v *Vector) slice(i, j int) Vector {
	out := Vector{}
	if v.Valid != nil {
		out.Valid = v.Valid[i:j]
	}
	if v.Ends != nil {
		// The values stay whole: Ends counts from their start.
		whole := *v
		whole.Valid, whole.Ends = out.Valid, v.Ends[i:j+1]
		return whole
	}
	switch {
	case v.codes != nil:
		out.codes, out.texts, out.batch = v.codes[i:j], v.texts, v.batch
	case v.Int64s != nil:
		out.Int64s = v.Int64s[i:j]
	case v.Strings != nil:
		out.Strings = v.Strings[i:j]
	case v.Doubles != nil:
		out.Doubles = v.Doubles[i:j]
	case v.Int32s != nil:
		out.Int32s = v.Int32s[i:j]
	case v.Bools != nil:
		out.Bools = v.Bools[i:j]
	case v.Floats != nil:
		out.Floats = v.Floats[i:j]
	}
	return out
}

// pick fills v with some rows of from.
func (v *Vector) pick(from *Vector, rows []int32) {
	if from.Valid != nil {
		v.Valid = pick(v.Valid[:0], from.Valid, rows)
	}
	if from.Ends != nil {
		v.pickLists(from, rows)
		return
	}
	switch {
	case from.Int64s != nil:
		v.Int64s = pick(v.Int64s[:0], from.Int64s, rows)
	case from.Strings != nil:
		v.Strings = pick(v.Strings[:0], from.Strings, rows)
	case from.Doubles != nil:
		v.Doubles = pick(v.Doubles[:0], from.Doubles, rows)
	case from.Int32s != nil:
		v.Int32s = pick(v.Int32s[:0], from.Int32s, rows)
	case from.Bools != nil:
		v.Bools = pick(v.Bools[:0], from.Bools, rows)
	case from.Floats != nil:
		v.Floats = pick(v.Floats[:0], from.Floats, rows)
	}
}

func pick[E any](dst, src []E, rows []int32) []E {
	for _, i := range rows {
		dst = append(dst, src[i])
	}
	return dst
}

func (v *Vector) pickLists(from *Vector, rows []int32) {
	*v = Vector{Bools: v.Bools[:0], Int32s: v.Int32s[:0], Int64s: v.Int64s[:0], Floats: v.Floats[:0], Doubles: v.Doubles[:0], Strings: v.Strings[:0], Valid: v.Valid, Ends: append(v.Ends[:0], 0)}
	end := int32(0)
	for _, r := range rows {
		i, j := from.Ends[r], from.Ends[r+1]
		end += j - i
		v.Ends = append(v.Ends, end)
		switch {
		case from.Int64s != nil:
			v.Int64s = append(v.Int64s, from.Int64s[i:j]...)
		case from.Strings != nil:
			v.Strings = append(v.Strings, from.Strings[i:j]...)
		case from.Doubles != nil:
			v.Doubles = append(v.Doubles, from.Doubles[i:j]...)
		case from.Int32s != nil:
			v.Int32s = append(v.Int32s, from.Int32s[i:j]...)
		case from.Bools != nil:
			v.Bools = append(v.Bools, from.Bools[i:j]...)
		case from.Floats != nil:
			v.Floats = append(v.Floats, from.Floats[i:j]...)
		}
	}
}
