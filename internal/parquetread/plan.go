package parquetread

import (
	"fmt"
	"math"
	"math/big"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"github.com/leatgo/leat/internal/row"
)

// Missing says what becomes of a column of the row type that a file has not.
type Missing uint8

// The policies.
const (
	RefuseMissing Missing = iota // the file
	NullMissing                  // the field is null; one that can't be refuses the file
	ZeroMissing                  // the field is zero
)

// Drift says how far the columns of a file may be others than those of the row type.
type Drift struct {
	Missing     Missing
	RefuseExtra bool // refuse a file with columns that the row type has not
}

// missing tells whether a file is refused that has no such column.
func (d *Drift) missing(c *row.Column) bool {
	return d.Missing == RefuseMissing || d.Missing == NullMissing && !c.Null && !isSlice(c)
}

// Plan is how a file's columns become the fields of a row type. It is immutable.
type Plan struct {
	Columns []int // of the file, to be read
	inputs  []*Column
	fields  []fieldPlan
	nulls   []string    // columns of nulls only, which need not be read
	extra   *row.Column // keeps the columns of these numbers in inputs; nil: nothing does
	extras  []int
}

// Plan finds the columns of t by their names. Its error is damage and names all columns
// at fault, with their types. The file is refused as well if those columns unfold to
// more than is allowed.
func (f *File) Plan(t *row.Type, drift Drift) (*Plan, error) {
	byName, times := make(map[string]int, len(f.Columns)), make(map[string]int, len(f.Columns))
	var faults, missing, twice []string
	for i := range f.Columns {
		name := f.Columns[i].Name
		if times[name]++; times[name] == 2 {
			twice = append(twice, quote(name))
		}
		byName[name] = i
	}
	p := new(Plan)
	for i := range t.Columns {
		c := &t.Columns[i]
		if c.Extra {
			continue
		}
		k, ok := byName[c.Name]
		if !ok {
			if drift.missing(c) {
				missing = append(missing, quote(c.Name))
			}
			continue
		}
		column := &f.Columns[k]
		delete(byName, c.Name)
		field, ok := planField(c, column)
		if !ok {
			faults = append(faults, fmt.Sprintf("column %s is %s, which can't be read into %v", quote(c.Name), column.Type, c.Type))
			continue
		}
		if field.set == nil { // a column of nulls only, into a field that can be null
			p.nulls = append(p.nulls, c.Name)
			continue
		}
		field.input = p.input(k, column)
		p.fields = append(p.fields, field)
	}
	if len(twice) > 0 {
		faults = append(faults, fmt.Sprintf("it has the column %s more than once", strings.Join(twice, ", ")))
	}
	if len(missing) > 0 {
		what := "misses the columns"
		if drift.Missing == NullMissing {
			what = "misses the columns, which can't be null,"
		}
		faults = append(faults, fmt.Sprintf("it %s %s (it has %s)", what, strings.Join(missing, ", "), f.names()))
	}
	if drift.RefuseExtra || t.Extra() != nil {
		p.extra = t.Extra()
		var refused []string
		for i := range f.Columns {
			column := &f.Columns[i]
			switch k, ok := byName[column.Name]; {
			case !ok || k != i:
			case drift.RefuseExtra:
				refused = append(refused, quote(column.Name))
			case column.shape == nested:
				faults = append(faults, fmt.Sprintf("column %s is %s, which column %s can't keep", quote(column.Name), column.Type, quote(p.extra.Name)))
			default:
				p.extras = append(p.extras, p.input(i, column))
			}
		}
		if len(refused) > 0 {
			faults = append(faults, "it has the columns "+strings.Join(refused, ", ")+", which the row type has not")
		}
	}
	if len(faults) > 0 {
		return nil, damagef("the file's columns are refused: %s", strings.Join(faults, "; "))
	}
	return p, f.checkSize(p.Columns)
}

// input adds a column to those that are read.
func (p *Plan) input(k int, column *Column) int {
	p.Columns, p.inputs = append(p.Columns, k), append(p.inputs, column)
	return len(p.Columns) - 1
}

// Fit is how many of the piece's rows, one at least, are to be filled at once, so that the
// texts that dictionaries give them are no more than most bytes or so: a file of few bytes
// may repeat a large one in all its rows, whose fields or letters get copies.
func (p *Piece) Fit(most int64) int {
	rows := p.Rows
	each := max(most/int64(max(len(p.Columns), 1)), 1<<20)
	for _, segments := range p.Columns {
		left, row := each, 0
		for i := range segments {
			n := segments[i].fit(&left)
			if row += n; n < segments[i].Rows {
				rows = min(rows, max(row, 1))
				break
			}
		}
	}
	return rows
}

// fit takes the bytes of texts from left, and gives the number of rows until there are not
// enough.
func (s *Segment) fit(left *int64) int {
	if s.Codes == nil { // they are as long as their page
		return s.Rows
	}
	if most := s.Dict.longest() * int64(len(s.Codes)); most <= *left {
		*left -= most
		return s.Rows
	}
	value, elem := 0, 0
	for i := range s.Rows {
		n := 0
		switch {
		case s.Lens == nil && (s.Valid == nil || s.Valid[i]):
			n = 1
		case s.Lens != nil:
			for range s.Lens[i] {
				if s.Elems == nil || s.Elems[elem] {
					n++
				}
				elem++
			}
		}
		for range n {
			*left -= int64(len(s.Bytes(value)))
			value++
		}
		if *left < 0 {
			return i
		}
	}
	return s.Rows
}

// longest is how many bytes its longest value has.
func (d *Dictionary) longest() int64 {
	d.measure.Do(func() {
		for i := range d.N {
			d.most = max(d.most, int64(len(d.Bytes(i))))
		}
	})
	return d.most
}

// names lists the file's columns, as far as people read.
func (f *File) names() string {
	const most = 50
	var out []string
	for i := range f.Columns {
		if i == most {
			out = append(out, fmt.Sprintf("and %d more", len(f.Columns)-most))
			break
		}
		out = append(out, quote(f.Columns[i].Name))
	}
	return strings.Join(out, ", ")
}

func isSlice(c *row.Column) bool { return c.Kind == row.Other && c.Elem().Kind() == reflect.Slice }

// planField finds the conversion.
func planField(c *row.Column, column *Column) (p fieldPlan, ok bool) {
	t := &column.typ
	p = fieldPlan{c: c, t: t}
	switch column.shape {
	case flat:
		if t.meaning == isNull {
			if c.Null || isSlice(c) {
				return p, true
			}
			// Every row is rejected.
			p.set = func(*filler, *Values, int, unsafe.Pointer) error {
				return &refusal{rule: row.RuleType, msg: "it is of the type of nulls, and not null"}
			}
			return p, true
		}
		p.set, p.block = conversion(t, c.Kind, c.Bits, c.Elem())
		if _, fixed := c.Fixed(); !fixed {
			p.block = nil
		}
		p.users = c.Kind == row.Text
		if p.users && !c.CanParse() {
			return p, false
		}
	case list:
		if !isSlice(c) {
			return p, false
		}
		p.list = true
		elem := c.Elem().Elem()
		if elem.Kind() == reflect.Pointer {
			elem = elem.Elem()
		}
		kind, bits := row.KindOf(elem)
		if kind == row.Other || kind == row.Text || t.meaning == isNull {
			return p, false
		}
		p.set, _ = conversion(t, kind, bits, elem)
	}
	return p, p.set != nil
}

// conversion gives the setters for a field of this kind; nil: there is no conversion.
func conversion(t *leafType, kind row.Kind, bits int, typ reflect.Type) (setter, blockSetter) {
	switch kind {
	case row.Bool:
		if t.meaning == isBool {
			return same(bools)
		}
	case row.Int, row.Uint:
		return toInteger(t, kind, bits, typ)
	case row.Float:
		return toFloat(t, bits, typ)
	case row.Duration:
		switch {
		case t.meaning == isInt && t.phys == physInt64: // nanoseconds
			return same(int64s)
		case t.meaning == isTime:
			return func(_ *filler, v *Values, i int, q unsafe.Pointer) (err error) {
				*(*int64)(q), err = sinceMidnight(t, v, i)
				return err
			}, nil
		}
	case row.String:
		switch t.meaning {
		case isString, isBytes:
			return setString, textBlock
		case isUUID, isDecimal:
			return func(f *filler, v *Values, i int, q unsafe.Pointer) error {
				text, err := appendText(f.buf[:0], t, v, i)
				f.buf = text[:0]
				*(*string)(q) = f.texts.text(text)
				return err
			}, nil
		}
	case row.Bytes:
		switch t.meaning {
		case isString, isBytes, isUUID:
			return setBytes, nil
		}
	case row.Time:
		return toTime(t)
	case row.Text:
		if t.meaning == isNull {
			return nil, nil
		}
		return setText(t, typ), nil
	}
	return nil, nil
}

func toInteger(t *leafType, kind row.Kind, bits int, typ reflect.Type) (setter, blockSetter) {
	switch {
	case t.meaning == isInt && t.phys == physInt32 && kind == row.Int && bits == 32:
		return same(int32s)
	case t.meaning == isInt && t.phys == physInt32 && kind == row.Int && bits == 64:
		return wider[int32, int64](int32s)
	case t.meaning == isInt && t.phys == physInt64 && kind == row.Int && bits == 64:
		return same(int64s)
	case t.meaning == isUint && t.phys == physInt32 && kind == row.Uint && bits == 32:
		return same(uint32s)
	case t.meaning == isUint && t.phys == physInt64 && kind == row.Uint && bits == 64:
		return same(uint64s)
	case t.meaning == isInt && t.phys == physInt32:
		return integers(int32s, kind, bits, typ)
	case t.meaning == isInt:
		return integers(int64s, kind, bits, typ)
	case t.meaning == isUint && t.phys == physInt32:
		return integers(uint32s, kind, bits, typ)
	case t.meaning == isUint:
		return integers(uint64s, kind, bits, typ)
	case t.meaning == isDouble: // pandas makes doubles of whole numbers, if some are null
		one, _ := integers(int64s, kind, bits, typ)
		return func(f *filler, v *Values, i int, q unsafe.Pointer) error {
			x := v.Doubles[i]
			if x != math.Trunc(x) || math.Abs(x) > 1<<53 {
				return outOfRange(x, typ)
			}
			return one(f, &Values{N: 1, Int64s: []int64{int64(x)}}, 0, q)
		}, nil
	case t.meaning == isDecimal && t.scale == 0:
		one, _ := integers(int64s, kind, bits, typ)
		unsigned, _ := integers(uint64s, kind, bits, typ)
		return func(f *filler, v *Values, i int, q unsafe.Pointer) error {
			if t.phys == physBytes || t.phys == physFixed {
				if n := len(v.Bytes(i)); n > maxDecimal { // nor is it shown: that takes time
					return tooLong(n)
				}
			}
			x, large := unscaled(t, v, i)
			set := one
			if large != nil {
				if !large.IsUint64() {
					return outOfRange(cutNumber(large.String()), typ)
				}
				set, x = unsigned, int64(large.Uint64())
			}
			return set(f, &Values{N: 1, Int64s: []int64{x}}, 0, q)
		}, nil
	}
	return nil, nil
}

func cutNumber(s string) string {
	if len(s) > 64 {
		return s[:64] + "…"
	}
	return s
}

func toFloat(t *leafType, bits int, typ reflect.Type) (setter, blockSetter) {
	var get func(f *filler, v *Values, i int) (float64, error)
	switch {
	case t.meaning == isFloat && bits == 32:
		return same(floats)
	case t.meaning == isFloat:
		return wider[float32, float64](floats)
	case t.meaning == isDouble && bits == 64:
		return same(doubles)
	case t.meaning == isInt && t.phys == physInt32 && bits == 64:
		return wider[int32, float64](int32s)
	case t.meaning == isDouble: // the nearest float32, if there is one
		get = func(_ *filler, v *Values, i int) (float64, error) { return v.Doubles[i], nil }
	case t.meaning == isFloat16:
		get = func(_ *filler, v *Values, i int) (float64, error) { return float16(v.Bytes(i)), nil }
	case t.meaning == isInt || t.meaning == isUint: // whole numbers stay exact
		get = func(_ *filler, v *Values, i int) (float64, error) {
			var n big.Int
			switch {
			case t.phys == physInt32 && t.meaning == isInt:
				n.SetInt64(int64(v.Int32s[i]))
			case t.phys == physInt32:
				n.SetUint64(uint64(uint32(v.Int32s[i])))
			case t.meaning == isInt:
				n.SetInt64(v.Int64s[i])
			default:
				n.SetUint64(uint64(v.Int64s[i]))
			}
			x, accuracy := new(big.Float).SetInt(&n).Float64()
			if accuracy != big.Exact || bits == 32 && float64(float32(x)) != x {
				return 0, outOfRange(n.String(), typ)
			}
			return x, nil
		}
	case t.meaning == isDecimal: // the nearest, as if it were read from text
		get = func(f *filler, v *Values, i int) (float64, error) {
			text, err := appendDecimal(f.buf[:0], t, v, i)
			f.buf = text[:0]
			if err != nil {
				return 0, err
			}
			return strconv.ParseFloat(string(text), bits)
		}
	default:
		return nil, nil
	}
	return func(f *filler, v *Values, i int, q unsafe.Pointer) error {
		x, err := get(f, v, i)
		switch {
		case err != nil:
			return err
		case bits == 64:
			*(*float64)(q) = x
		case math.Abs(x) > math.MaxFloat32 && !math.IsInf(x, 0) && math.IsInf(float64(float32(x)), 0):
			return outOfRange(x, typ)
		default:
			*(*float32)(q) = float32(x)
		}
		return nil
	}, nil
}

func toTime(t *leafType) (setter, blockSetter) {
	var get func(v *Values, i int) (time.Time, error)
	switch t.meaning {
	case isTimestamp:
		return instants(t.unit)
	case isDate:
		get = dateOf
	case isInt96:
		get = int96Of
	default:
		return nil, nil
	}
	return func(_ *filler, v *Values, i int, q unsafe.Pointer) error {
			at, err := get(v, i)
			*(*time.Time)(q) = at
			return err
		}, func(_ *filler, v *Values, from, to int, q unsafe.Pointer, stride uintptr) int {
			for i := from; i < to; i++ {
				at, err := get(v, i)
				if err != nil {
					return i
				}
				*(*time.Time)(unsafe.Add(q, uintptr(i-from)*stride)) = at
			}
			return to
		}
}

// Readable tells whether there is any type of Parquet that becomes a field of c's.
func Readable(c *row.Column) bool {
	if c.Extra {
		return true
	}
	if isSlice(c) {
		elem := c.Elem().Elem()
		if elem.Kind() == reflect.Pointer {
			elem = elem.Elem()
		}
		kind, _ := row.KindOf(elem)
		return kind != row.Other && kind != row.Text
	}
	return c.CanParse()
}
