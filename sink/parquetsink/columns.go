package parquetsink

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"reflect"
	"runtime/debug"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
	"unsafe"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/engine"
	"github.com/leatgo/leat/internal/row"
)

// maxValue is the size of a text or of bytes that a row may hold; a page holds
// at least one value, so it bounds memory (rule F8).
const maxValue = 256 << 20

// table is a row type compiled to the columns of its files.
type table struct {
	columns []Column
	fields  []field // of the same numbers
	stride  uintptr // size of a row
}

// field reads a column of many rows. What lies in the rows themselves is read in
// blocks of rows that fit the processor's nearest cache, all such columns in turn.
type field struct {
	c     *row.Column
	block func(f *filler, from, to int) // nil: there is only fill
	fill  func(f *filler)               // all rows at once; nil: block is enough
}

// compile finds the columns of t that go into files: all but those that are
// levels of folders. The error joins all faults, each with its remedy.
func compile(t *row.Type, size uintptr, levels []string) (*table, error) {
	out := &table{stride: size}
	var faults []error
	// To DuckDB and Spark, names differ by more than the case of letters.
	seen := make(map[string]string, len(t.Columns))
	for _, l := range levels {
		seen[strings.ToLower(l)] = l
	}
	for i := range t.Columns {
		c := &t.Columns[i]
		if slices.Contains(levels, c.Name) {
			continue
		}
		folded := strings.ToLower(c.Name)
		if first, ok := seen[folded]; ok {
			faults = append(faults, fmt.Errorf("columns %s and %s are the same name to DuckDB and Spark; rename one with a `leat` tag, or the level of PartitionBy", first, c.Name))
		}
		seen[folded] = c.Name
		column, fill, err := compileColumn(c)
		if err != nil {
			faults = append(faults, fmt.Errorf("column %s: %w", c.Name, err))
			continue
		}
		out.columns = append(out.columns, column)
		block := blockFill(c, column)
		if block != nil && column.Type != String {
			fill = nil // the blocks are all there is to it
		}
		out.fields = append(out.fields, field{c, block, fill})
	}
	if len(t.Columns) == 0 {
		faults = append(faults, fmt.Errorf("row type %v has no columns", t))
	} else if len(faults)+len(out.columns) == 0 {
		faults = append(faults, fmt.Errorf("all columns of %v are in PartitionBy, so the files would have none; keep at least one out of it", t))
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	return out, nil
}

func compileColumn(c *row.Column) (Column, func(*filler), error) {
	column := Column{Name: c.Name, Null: c.Null}
	if c.Kind == row.Other {
		elem := c.Elem()
		if elem.Kind() != reflect.Slice {
			return column, nil, fmt.Errorf("a %v has no Parquet type; give it a MarshalText to store it as text, or leave the field out with `leat:\"-\"`", c.Type)
		}
		kind, width := row.KindOf(elem.Elem())
		column.List = true
		var ok bool
		if column.Type, column.Bits, ok = plainType(kind, width); !ok {
			return column, nil, fmt.Errorf("a list of %v has no Parquet type; lists hold bools, numbers, strings, bytes, times or durations, none of them null: use such a list, or leave the field out with `leat:\"-\"`", elem.Elem())
		}
		return column, listFill(kind, width), nil
	}
	if !c.CanValue() {
		return column, nil, fmt.Errorf("a %v cannot be written, it has no MarshalText", c.Type)
	}
	if c.Precision > 0 {
		column.Type, column.Precision, column.Scale = Decimal, c.Precision, c.Scale
		return column, fillDecimal, nil
	}
	if c.Kind == row.Text {
		column.Type = String
		return column, fillText, nil
	}
	column.Type, column.Bits, _ = plainType(c.Kind, c.Bits)
	return column, valueFill(c.Kind, c.Bits), nil
}

// plainType gives the type of a column of this kind.
func plainType(k row.Kind, bits int) (t Type, width int, ok bool) {
	switch k {
	case row.Bool:
		return Bool, 0, true
	case row.Int:
		return Int, bits, true
	case row.Uint:
		return Uint, bits, true
	case row.Float:
		if bits == 32 {
			return Float, 0, true
		}
		return Double, 0, true
	case row.String:
		return String, 0, true
	case row.Bytes:
		return Bytes, 0, true
	case row.Time:
		return Timestamp, 0, true
	case row.Duration:
		return Int, 64, true
	}
	return 0, 0, false
}

// filler reads one column of a batch into a vector.
type filler struct {
	c      *row.Column
	column *Column
	base   unsafe.Pointer // the first row
	stride uintptr
	n      int
	out    *Vector
	arena  *[]byte // of texts that no row holds; grows for the whole batch

	longest int // bytes of a value; for lists, of all of a row's
	limit   int
	refuse  func(i int, err error)

	codes  *coder // of a string column, for the default engine; nil: none
	coding bool   // in this batch, so far
}

// row gives the address of row i.
func (f *filler) row(i int) unsafe.Pointer { return unsafe.Add(f.base, uintptr(i)*f.stride) }

func (f *filler) refusef(i int, rule, format string, args ...any) {
	f.refuse(i, &leat.FieldError{Column: f.c.Name, Rule: rule, Msg: fmt.Sprintf("column %s: %s", f.c.Name, fmt.Sprintf(format, args...))})
}

// number is what Parquet stores as it is, up to its width.
type number interface {
	~int8 | ~int16 | ~int32 | ~int64 | ~uint8 | ~uint16 | ~uint32 | ~uint64 | ~float32 | ~float64
}

// blockFill reads the columns that lie in the rows themselves; it is nil for others.
func blockFill(c *row.Column, column Column) func(f *filler, from, to int) {
	offset, fixed := c.Fixed()
	if column.Type == Decimal || column.List {
		return nil
	}
	if c.Kind == row.String {
		return (*filler).codeBlock
	}
	if !fixed {
		return nil
	}
	switch column.Physical() {
	case Boolean:
		return func(f *filler, from, to int) { f.out.Bools = block[bool](f, f.out.Bools, offset, from, to) }
	case Int32:
		switch {
		case column.Bits == 32:
			return func(f *filler, from, to int) { f.out.Int32s = block[int32](f, f.out.Int32s, offset, from, to) }
		case column.Bits == 16 && column.Type == Int:
			return func(f *filler, from, to int) { f.out.Int32s = widenBlock[int16](f, f.out.Int32s, offset, from, to) }
		case column.Bits == 16:
			return func(f *filler, from, to int) { f.out.Int32s = widenBlock[uint16](f, f.out.Int32s, offset, from, to) }
		case column.Type == Int:
			return func(f *filler, from, to int) { f.out.Int32s = widenBlock[int8](f, f.out.Int32s, offset, from, to) }
		}
		return func(f *filler, from, to int) { f.out.Int32s = widenBlock[uint8](f, f.out.Int32s, offset, from, to) }
	case Int64:
		if column.Type == Timestamp {
			return func(f *filler, from, to int) { f.timeBlock(offset, from, to) }
		}
		return func(f *filler, from, to int) { f.out.Int64s = block[int64](f, f.out.Int64s, offset, from, to) }
	case Float32:
		return func(f *filler, from, to int) { f.out.Floats = block[float32](f, f.out.Floats, offset, from, to) }
	case Float64:
		return func(f *filler, from, to int) { f.out.Doubles = block[float64](f, f.out.Doubles, offset, from, to) }
	}
	return nil
}

// block copies values that lie in the rows as they do in a vector.
func block[E any](f *filler, out []E, offset uintptr, from, to int) []E {
	if from == 0 {
		out = sized(out, f.n)
	}
	q, stride := unsafe.Add(f.base, uintptr(from)*f.stride+offset), f.stride
	dst := out[from:to]
	for i := range dst {
		dst[i] = *(*E)(unsafe.Add(q, uintptr(i)*stride))
	}
	return out
}

func widenBlock[S, D number](f *filler, out []D, offset uintptr, from, to int) []D {
	if from == 0 {
		out = sized(out, f.n)
	}
	q, stride := unsafe.Add(f.base, uintptr(from)*f.stride+offset), f.stride
	dst := out[from:to]
	for i := range dst {
		dst[i] = D(*(*S)(unsafe.Add(q, uintptr(i)*stride)))
	}
	return out
}

func (f *filler) timeBlock(offset uintptr, from, to int) {
	if from == 0 {
		f.out.Int64s = sized(f.out.Int64s, f.n)
	}
	q, stride := unsafe.Add(f.base, uintptr(from)*f.stride+offset), f.stride
	dst := f.out.Int64s[from:to]
	for i := range dst {
		t := (*time.Time)(unsafe.Add(q, uintptr(i)*stride))
		sec := t.Unix()
		if uint64(sec-firstSecond) >= uint64(endSecond-firstSecond) {
			dst[i] = f.micros(from+i, *t)
			continue
		}
		dst[i] = sec*1e6 + int64(uint32(t.Nanosecond())/1e3)
	}
}

// codeBlock gives the texts of a string column numbers, unless too many of them are
// different.
func (f *filler) codeBlock(from, to int) {
	if from == 0 {
		f.coding = f.codes != nil && f.codes.begin()
		f.out.codes = nil
		if f.coding {
			f.codes.codes = sized(f.codes.codes, f.n)
			if f.column.Null {
				f.out.Valid = sized(f.out.Valid, f.n)
			}
		}
	}
	if !f.coding {
		return
	}
	c := f.codes
	dst := c.codes[from:to]
	offset, fixed := f.c.Fixed()
	if fixed {
		q, stride := unsafe.Add(f.base, uintptr(from)*f.stride+offset), f.stride
		slots := &c.slots
		for i := range dst {
			s := *(*string)(unsafe.Add(q, uintptr(i)*stride))
			at := addressOf(s)
			if slot := &slots[slotOf(at, len(s))]; slot.at == at && slot.n == uint32(len(s)) {
				dst[i] = slot.code
				continue
			}
			dst[i] = c.code(s, at)
		}
	} else {
		for i := range dst {
			q := f.c.At(f.row(from + i))
			f.out.Valid[from+i] = q != nil
			dst[i] = 0
			if q != nil {
				s := *(*string)(q)
				dst[i] = c.code(s, addressOf(s))
			}
		}
	}
	f.coding = !c.giveUp(to)
}

// fillStrings ends a string column: with the numbers of its texts, or with the
// texts.
func (f *filler) fillStrings() {
	if f.coding && f.checkTexts() {
		f.codes.batch++
		f.out.codes, f.out.texts, f.out.batch = f.codes.codes, f.codes.texts, f.codes.batch
		clear(f.out.Strings) // of an earlier batch, which they would keep
		f.out.Strings = f.out.Strings[:0]
		return
	}
	f.out.Strings = load(f, f.out.Strings)
	f.checkStrings()
}

// checkTexts tells whether all texts of the batch can be written. If not, their rows
// have to be found.
func (f *filler) checkTexts() bool {
	for _, s := range f.codes.texts {
		if len(s) > f.limit || !isASCII(s) && !utf8.ValidString(s) {
			return false
		}
		f.longest = max(f.longest, len(s))
	}
	return true
}

func valueFill(k row.Kind, width int) func(*filler) {
	switch k {
	case row.Bool:
		return func(f *filler) { f.out.Bools = load(f, f.out.Bools) }
	case row.Int:
		switch width {
		case 8:
			return func(f *filler) { f.out.Int32s = widen[int8](f, f.out.Int32s) }
		case 16:
			return func(f *filler) { f.out.Int32s = widen[int16](f, f.out.Int32s) }
		case 32:
			return func(f *filler) { f.out.Int32s = load(f, f.out.Int32s) }
		}
		return func(f *filler) { f.out.Int64s = load(f, f.out.Int64s) }
	case row.Uint:
		switch width {
		case 8:
			return func(f *filler) { f.out.Int32s = widen[uint8](f, f.out.Int32s) }
		case 16:
			return func(f *filler) { f.out.Int32s = widen[uint16](f, f.out.Int32s) }
		case 32:
			return func(f *filler) { f.out.Int32s = load(f, f.out.Int32s) }
		}
		return func(f *filler) { f.out.Int64s = load(f, f.out.Int64s) }
	case row.Float:
		if width == 32 {
			return func(f *filler) { f.out.Floats = load(f, f.out.Floats) }
		}
		return func(f *filler) { f.out.Doubles = load(f, f.out.Doubles) }
	case row.String:
		return (*filler).fillStrings
	case row.Bytes:
		return func(f *filler) {
			f.out.Strings = each(f, f.out.Strings, func(_ int, q unsafe.Pointer) string { return view(*(*[]byte)(q)) })
			f.checkSizes()
		}
	case row.Time:
		return func(f *filler) {
			f.out.Int64s = each(f, f.out.Int64s, func(i int, q unsafe.Pointer) int64 { return f.micros(i, *(*time.Time)(q)) })
		}
	}
	return func(f *filler) { f.out.Int64s = load(f, f.out.Int64s) } // row.Duration
}

// grow gives a slice of n values, and makes out.Valid for a column that can be null.
func grow[E any](f *filler, old []E) []E {
	if f.column.Null {
		f.out.Valid = sized(f.out.Valid, f.n)
	}
	return sized(old, f.n)
}

// sized never gives nil: which slice of a vector is used, its being there tells.
func sized[E any](old []E, n int) []E {
	if old == nil || cap(old) < n {
		return make([]E, n)
	}
	return old[:n]
}

// load copies values that lie in the rows as they do in a vector.
func load[E any](f *filler, old []E) []E {
	out := grow(f, old)
	offset, fixed := f.c.Fixed()
	if fixed {
		first, stride := unsafe.Add(f.base, offset), f.stride
		for i := range out {
			out[i] = *(*E)(unsafe.Add(first, uintptr(i)*stride))
		}
		return out
	}
	var zero E
	for i := range out {
		q := f.c.At(f.row(i))
		f.out.Valid[i] = q != nil
		out[i] = zero
		if q != nil {
			out[i] = *(*E)(q)
		}
	}
	return out
}

func widen[S number, D number](f *filler, old []D) []D {
	return each(f, old, func(_ int, q unsafe.Pointer) D { return D(*(*S)(q)) })
}

// each is load with a conversion.
func each[E any](f *filler, old []E, convert func(i int, q unsafe.Pointer) E) []E {
	out := grow(f, old)
	offset, fixed := f.c.Fixed()
	if fixed {
		first, stride := unsafe.Add(f.base, offset), f.stride
		for i := range out {
			out[i] = convert(i, unsafe.Add(first, uintptr(i)*stride))
		}
		return out
	}
	var zero E
	for i := range out {
		q := f.c.At(f.row(i))
		f.out.Valid[i] = q != nil
		out[i] = zero
		if q != nil {
			out[i] = convert(i, q)
		}
	}
	return out
}

// view gives bytes as a string that shares their memory.
func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// checkStrings refuses what no reader would take as a string: one of them makes
// DuckDB and pyarrow refuse the whole file.
func (f *filler) checkStrings() {
	for i, s := range f.out.Strings {
		if !isASCII(s) && !utf8.ValidString(s) {
			f.refusef(i, row.RuleSyntax, "the text is not valid UTF-8, as a Parquet string must be; []byte keeps any bytes")
		}
		f.measure(i, len(s))
	}
}

// isASCII is the quick half of utf8.ValidString, eight bytes at a time.
func isASCII(s string) bool {
	const high = 0x8080808080808080
	n := len(s)
	if n < 8 {
		var all byte
		for i := range n {
			all |= s[i]
		}
		return all < utf8.RuneSelf
	}
	b := unsafe.Slice(unsafe.StringData(s), n)
	all := binary.LittleEndian.Uint64(b[n-8:])
	for i := 0; i < n-8; i += 8 {
		all |= binary.LittleEndian.Uint64(b[i:])
	}
	return all&high == 0
}

func (f *filler) checkSizes() {
	for i, s := range f.out.Strings {
		f.measure(i, len(s))
	}
}

func (f *filler) measure(i, size int) {
	if size > f.longest {
		if size > f.limit {
			f.refusef(i, "size", "%d bytes are more than the %d that fit a page", size, f.limit)
			return
		}
		f.longest = size
	}
}

// micros refuses years that readers can't show: Python's and Spark's times end
// at 9999 and begin at 1.
func (f *filler) micros(i int, t time.Time) int64 {
	sec := t.Unix()
	if sec < firstSecond || sec >= endSecond {
		f.refusef(i, row.RuleRange, "the year %d is outside 1 to 9999, and few readers take such a timestamp", t.UTC().Year())
		return 0
	}
	return sec*1e6 + int64(t.Nanosecond())/1e3 // rounds down, before 1970 too
}

var (
	firstSecond = time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC).Unix()
	endSecond   = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC).Unix()
)

// fillText stores what MarshalText gives.
func fillText(f *filler) {
	f.out.Strings = grow(f, f.out.Strings)
	f.texts(func(i int, s string) { f.out.Strings[i] = s })
	f.checkStrings()
}

// texts calls do for each row with the column's text, "" at a null.
func (f *filler) texts(do func(i int, s string)) {
	for i := 0; i < f.n; i++ {
		i = f.textsFrom(i, do)
	}
}

// textsFrom goes on until a row panics, and gives that one's number.
func (f *filler) textsFrom(from int, do func(i int, s string)) (i int) {
	defer func() {
		if v := recover(); v != nil { // rule A9: a user's MarshalText costs its row
			f.refuse(i, &row.Refusal{Column: f.c.Name, Rule: "panic", Err: &engine.PanicError{Value: v, Stack: debug.Stack()}})
			do(i, "")
		}
	}()
	for i = from; i < f.n; i++ {
		v, err := f.c.Value(f.row(i))
		if f.out.Valid != nil {
			f.out.Valid[i] = !v.Null
		}
		if err != nil {
			rule := row.RuleType
			if e, ok := errors.AsType[*row.Error](err); ok {
				rule = e.Rule()
			}
			f.refuse(i, &row.Refusal{Column: f.c.Name, Rule: rule, Err: err})
		}
		do(i, v.Str)
	}
	return i
}

// fillDecimal stores the number that a text spells.
func fillDecimal(f *filler) {
	c := f.column
	physical := c.Physical()
	switch physical {
	case Int32:
		f.out.Int32s = grow(f, f.out.Int32s)
	case Int64:
		f.out.Int64s = grow(f, f.out.Int64s)
	default:
		f.out.Strings = grow(f, f.out.Strings)
		// All at once: growing would move what the strings point to.
		*f.arena = slices.Grow(*f.arena, f.n*decimalLength)
	}
	bad := -1 // the row that texts refused already
	refuse := f.refuse
	f.refuse = func(i int, err error) { bad = i; refuse(i, err) }
	f.texts(func(i int, s string) {
		var x int128
		if (f.out.Valid == nil || f.out.Valid[i]) && bad != i {
			var rule, msg string
			if x, rule, msg = parseDecimal(s, c.Precision, c.Scale); rule != "" {
				f.refusef(i, rule, "%q %s (decimal=%d.%d)", cut(s), msg, c.Precision, c.Scale)
			}
		}
		switch physical {
		case Int32:
			f.out.Int32s[i] = int32(x.lo)
		case Int64:
			f.out.Int64s[i] = int64(x.lo)
		default:
			start := len(*f.arena)
			*f.arena = x.appendBytes(*f.arena)
			f.out.Strings[i] = view((*f.arena)[start:])
		}
	})
}

// cut keeps errors short whatever the value.
func cut(s string) string {
	const most = 64
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}

func listFill(k row.Kind, width int) func(*filler) {
	switch k {
	case row.Bool:
		return func(f *filler) { f.out.Bools = list(f, f.out.Bools, func(_ int, v bool) bool { return v }) }
	case row.Int:
		switch width {
		case 8:
			return func(f *filler) { f.out.Int32s = list(f, f.out.Int32s, as[int8, int32]) }
		case 16:
			return func(f *filler) { f.out.Int32s = list(f, f.out.Int32s, as[int16, int32]) }
		case 32:
			return func(f *filler) { f.out.Int32s = list(f, f.out.Int32s, as[int32, int32]) }
		}
		return func(f *filler) { f.out.Int64s = list(f, f.out.Int64s, as[int64, int64]) }
	case row.Uint:
		switch width {
		case 8:
			return func(f *filler) { f.out.Int32s = list(f, f.out.Int32s, as[uint8, int32]) }
		case 16:
			return func(f *filler) { f.out.Int32s = list(f, f.out.Int32s, as[uint16, int32]) }
		case 32:
			return func(f *filler) { f.out.Int32s = list(f, f.out.Int32s, as[uint32, int32]) }
		}
		return func(f *filler) { f.out.Int64s = list(f, f.out.Int64s, as[uint64, int64]) }
	case row.Float:
		if width == 32 {
			return func(f *filler) { f.out.Floats = list(f, f.out.Floats, as[float32, float32]) }
		}
		return func(f *filler) { f.out.Doubles = list(f, f.out.Doubles, as[float64, float64]) }
	case row.String:
		return func(f *filler) {
			f.out.Strings = list(f, f.out.Strings, func(i int, s string) string {
				if !utf8.ValidString(s) {
					f.refusef(i, row.RuleSyntax, "a text of the list is not valid UTF-8, as a Parquet string must be; [][]byte keeps any bytes")
				}
				return s
			})
			f.checkLists()
		}
	case row.Bytes:
		return func(f *filler) {
			f.out.Strings = list(f, f.out.Strings, func(_ int, b []byte) string { return view(b) })
			f.checkLists()
		}
	case row.Time:
		return func(f *filler) { f.out.Int64s = list(f, f.out.Int64s, f.micros) }
	}
	return func(f *filler) { f.out.Int64s = list(f, f.out.Int64s, as[int64, int64]) } // row.Duration
}

func as[S, D number](_ int, v S) D { return D(v) }

// list reads slices of S.
func list[S, D any](f *filler, old []D, convert func(i int, v S) D) []D {
	if f.column.Null {
		f.out.Valid = sized(f.out.Valid, f.n)
	}
	f.out.Ends = append(f.out.Ends[:0], 0)
	out := sized(old, 0)
	width := int(unsafe.Sizeof(*new(S)))
	for i := range f.n {
		q := f.c.At(f.row(i))
		if f.out.Valid != nil {
			f.out.Valid[i] = q != nil
		}
		if q != nil {
			values := *(*[]S)(q)
			if len(values)*width > f.limit || len(out)+len(values) > math.MaxInt32 {
				f.refusef(i, "size", "a list of %d values is more than fits a page", len(values))
				values = nil
			}
			f.longest = max(f.longest, len(values)*width)
			for _, v := range values {
				out = append(out, convert(i, v))
			}
		}
		f.out.Ends = append(f.out.Ends, int32(len(out)))
	}
	return out
}

// checkLists measures all texts of a row's list together.
func (f *filler) checkLists() {
	for i := range f.n {
		size := 0
		for _, s := range f.out.Strings[f.out.Ends[i]:f.out.Ends[i+1]] {
			size += len(s)
		}
		f.measure(i, size)
	}
}
