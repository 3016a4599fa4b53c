package parquetread

import (
	"encoding"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/big"
	"reflect"
	"runtime/debug"
	"strconv"
	"time"
	"unicode/utf8"
	"unsafe"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/engine"
	"github.com/leatgo/leat/internal/row"
)

// The rules of rejected rows, beside those of package row.
const (
	RuleNull = "null" // a null in a column that can't be null
)

// setter writes value i at q. It does not keep v.
type setter func(f *filler, v *Values, i int, q unsafe.Pointer) error

// blockSetter writes values from to to-1 into consecutive rows, the first at q. It
// stops at a value that needs the setter, and gives its number; to: it wrote all.
type blockSetter func(f *filler, v *Values, from, to int, q unsafe.Pointer, stride uintptr) int

// fieldPlan is how a column of the file becomes a field.
type fieldPlan struct {
	c     *row.Column
	input int // number in Piece.Columns
	t     *leafType
	list  bool
	set   setter
	block blockSetter // nil: there is only set
	users bool        // set runs the users' code
}

// filler is the memory of one Fill.
type filler struct {
	texts arena
	buf   []byte // scratch
}

// cursor is where a column of a piece has been read to.
type cursor struct {
	segments []Segment
	row      int // of the first segment
	value    int
	elem     int
}

// blockRows are filled column by column: they fit a processor's nearest caches.
const blockRows = 128

// Fill writes the rows of a piece to rows in memory that are zero, the first at base.
// refuse is called for rows that can't be, once for each, in order.
func (p *Plan) Fill(piece *Piece, base unsafe.Pointer, stride uintptr, refuse func(i int, err error)) {
	if len(p.extras) > 0 {
		p.fillExtra(piece, base, stride)
	}
	var f filler
	cursors := make([]cursor, len(p.fields))
	for i := range cursors {
		cursors[i].segments = piece.Columns[p.fields[i].input]
	}
	errs := make([]error, min(blockRows, piece.Rows))
	for from := 0; from < piece.Rows; from += blockRows {
		n := min(blockRows, piece.Rows-from)
		first := unsafe.Add(base, uintptr(from)*stride)
		bad := false
		for i := range p.fields {
			if p.fields[i].fill(&f, &cursors[i], first, stride, n, errs) {
				bad = true
			}
		}
		if !bad {
			continue
		}
		for i, err := range errs[:n] {
			if err != nil {
				refuse(from+i, err)
				errs[i] = nil
			}
		}
	}
}

// fill writes n rows of a column. The first error of a row is kept.
func (p *fieldPlan) fill(f *filler, c *cursor, base unsafe.Pointer, stride uintptr, n int, errs []error) (bad bool) {
	refuse := func(i int, err error) {
		bad = true
		if errs[i] == nil {
			errs[i] = err
		}
	}
	for done := 0; done < n; {
		s := &c.segments[0]
		k := min(s.Rows-c.row, n-done)
		rows := unsafe.Add(base, uintptr(done)*stride)
		switch {
		case p.list:
			p.lists(f, c, rows, stride, k, func(i int, err error) { refuse(done+i, err) })
		case s.Valid == nil && p.block != nil:
			offset, _ := p.c.Fixed()
			q := unsafe.Add(rows, offset)
			for at := c.value; at < c.value+k; {
				// q stays within the rows: a pointer behind them would not be valid.
				stop := p.block(f, &s.Values, at, c.value+k, unsafe.Add(q, uintptr(at-c.value)*stride), stride)
				if stop < c.value+k {
					if err := p.set(f, &s.Values, stop, unsafe.Add(q, uintptr(stop-c.value)*stride)); err != nil {
						refuse(done+stop-c.value, p.fault(err))
					}
					stop++
				}
				at = stop
			}
			c.value += k
		default:
			for i := range k {
				if s.Valid != nil && !s.Valid[c.row+i] {
					if !p.c.Null {
						refuse(done+i, p.null())
					}
					continue
				}
				r := unsafe.Add(rows, uintptr(i)*stride)
				var err error
				if p.users {
					err = p.setSafely(f, &s.Values, c.value, r)
				} else {
					err = p.set(f, &s.Values, c.value, p.c.Make(r))
				}
				if err != nil {
					refuse(done+i, p.fault(err))
				}
				c.value++
			}
		}
		done += k
		if c.row += k; c.row == s.Rows {
			*c = cursor{segments: c.segments[1:]}
		}
	}
	return bad
}

// setSafely rejects a row on which a user's code panics (rule A9).
func (p *fieldPlan) setSafely(f *filler, v *Values, i int, r unsafe.Pointer) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &row.Refusal{Column: p.c.Name, Rule: "panic", Err: &engine.PanicError{Value: v, Stack: debug.Stack()}}
		}
	}()
	return p.set(f, v, i, p.c.Make(r))
}

// lists writes n rows of a list column. A null is no list (nil), an empty one is empty.
func (p *fieldPlan) lists(f *filler, c *cursor, base unsafe.Pointer, stride uintptr, n int, refuse func(i int, err error)) {
	s := &c.segments[0]
	typ := p.c.Elem()
	elem := typ.Elem()
	pointers := elem.Kind() == reflect.Pointer
	for i, size := range s.Lens[c.row : c.row+n] {
		if size < 0 {
			continue
		}
		list := reflect.MakeSlice(typ, int(size), int(size))
		at := list.UnsafePointer()
		var fault error
		for k := range int(size) {
			there := s.Elems == nil || s.Elems[c.elem]
			c.elem++
			q := unsafe.Add(at, uintptr(k)*elem.Size())
			switch {
			case !there && !pointers:
				if fault == nil {
					fault = p.faultf(RuleNull, "an element of the list is null, and %v can't be", elem)
				}
				continue
			case !there:
				continue
			case pointers:
				v := reflect.New(elem.Elem()).UnsafePointer()
				*(*unsafe.Pointer)(q) = v
				q = v
			}
			err := p.set(f, &s.Values, c.value, q)
			c.value++
			if err != nil && fault == nil {
				fault = p.fault(err)
			}
		}
		if fault != nil {
			refuse(i, fault)
			continue
		}
		reflect.NewAt(typ, p.c.Make(unsafe.Add(base, uintptr(i)*stride))).Elem().Set(list)
	}
}

func (p *fieldPlan) faultf(rule, format string, args ...any) error {
	return &leat.FieldError{Column: p.c.Name, Rule: rule, Msg: fmt.Sprintf("column %s: %s", p.c.Name, fmt.Sprintf(format, args...))}
}

func (p *fieldPlan) null() error {
	return p.faultf(RuleNull, "it is null, and a %v can't be", p.c.Type)
}

// refusal is why a value can't be the field's.
type refusal struct {
	rule string
	msg  string
	err  error
}

func (r *refusal) Error() string { return r.msg }

func (p *fieldPlan) fault(err error) error {
	if r, ok := errors.AsType[*refusal](err); ok {
		if r.err != nil {
			return p.faultf(r.rule, "%s: %v", r.msg, r.err)
		}
		return p.faultf(r.rule, "%s", r.msg)
	}
	if _, ok := errors.AsType[*row.Refusal](err); ok {
		return err
	}
	return p.faultf(row.RuleSyntax, "%v", err)
}

func outOfRange(value any, typ reflect.Type) error {
	return &refusal{rule: row.RuleRange, msg: fmt.Sprintf("%v is out of range for %v", value, typ)}
}

var errNotUTF8 = &refusal{rule: row.RuleSyntax, msg: "the text is not valid UTF-8"}

// arena keeps texts together, in blocks of at most 32 KiB: a text that is kept for long
// keeps no more than its block.
type arena struct{ block []byte }

const (
	firstBlock = 1 << 10
	lastBlock  = 32 << 10
)

func (a *arena) bytes(b []byte) []byte {
	n := len(b)
	switch {
	case n == 0:
		return []byte{}
	case n > lastBlock/8:
		return append(make([]byte, 0, n), b...)
	case n > cap(a.block)-len(a.block):
		a.block = make([]byte, 0, max(n, firstBlock, min(2*cap(a.block), lastBlock)))
	}
	at := len(a.block)
	a.block = append(a.block, b...)
	return a.block[at : at+n : at+n]
}

func (a *arena) text(b []byte) string {
	if len(b) == 0 {
		return ""
	}
	b = a.bytes(b)
	return unsafe.String(unsafe.SliceData(b), len(b))
}

// texts gives a dictionary's values as strings, which all rows share.
func (d *Dictionary) texts() ([]string, []bool) {
	d.once.Do(func() {
		var a arena
		d.strings, d.valid = make([]string, d.N), make([]bool, d.N)
		for i := range d.strings {
			b := d.Bytes(i)
			d.valid[i] = validText(b)
			d.strings[i] = a.text(b)
		}
	})
	return d.strings, d.valid
}

// validText is utf8.Valid with a quick way for ASCII, eight bytes at a time.
func validText(b []byte) bool {
	const high = 0x8080808080808080
	n := len(b)
	var all uint64
	if n < 8 {
		for _, c := range b {
			all |= uint64(c)
		}
		return all < utf8.RuneSelf || utf8.Valid(b)
	}
	all = binary.LittleEndian.Uint64(b[n-8:])
	for i := 0; i < n-8; i += 8 {
		all |= binary.LittleEndian.Uint64(b[i:])
	}
	return all&high == 0 || utf8.Valid(b)
}

// textBlock writes strings.
func textBlock(f *filler, v *Values, from, to int, q unsafe.Pointer, stride uintptr) int {
	if v.Codes != nil {
		texts, valid := v.Dict.texts()
		for i, code := range v.Codes[from:to] {
			if !valid[code] {
				return from + i
			}
			*(*string)(unsafe.Add(q, uintptr(i)*stride)) = texts[code]
		}
		return to
	}
	for i := from; i < to; i++ {
		b := v.Bytes(i)
		if !validText(b) {
			return i
		}
		*(*string)(unsafe.Add(q, uintptr(i-from)*stride)) = f.texts.text(b)
	}
	return to
}

func setString(f *filler, v *Values, i int, q unsafe.Pointer) error {
	if v.Codes != nil {
		texts, valid := v.Dict.texts()
		if !valid[v.Codes[i]] {
			return errNotUTF8
		}
		*(*string)(q) = texts[v.Codes[i]]
		return nil
	}
	b := v.Bytes(i)
	if !validText(b) {
		return errNotUTF8
	}
	*(*string)(q) = f.texts.text(b)
	return nil
}

func setBytes(f *filler, v *Values, i int, q unsafe.Pointer) error {
	*(*[]byte)(q) = f.texts.bytes(v.Bytes(i))
	return nil
}

// number is what is stored as it is, or wider.
type number interface {
	~int8 | ~int16 | ~int32 | ~int64 | ~uint8 | ~uint16 | ~uint32 | ~uint64 | ~float32 | ~float64
}

// storage finds the values of one type.
type storage[S any] func(v *Values) []S

func int32s(v *Values) []int32    { return v.Int32s }
func int64s(v *Values) []int64    { return v.Int64s }
func floats(v *Values) []float32  { return v.Floats }
func doubles(v *Values) []float64 { return v.Doubles }
func bools(v *Values) []bool      { return v.Bools }

func uint32s(v *Values) []uint32 {
	return unsafe.Slice((*uint32)(unsafe.Pointer(unsafe.SliceData(v.Int32s))), len(v.Int32s))
}
func uint64s(v *Values) []uint64 {
	return unsafe.Slice((*uint64)(unsafe.Pointer(unsafe.SliceData(v.Int64s))), len(v.Int64s))
}

// same writes values as they are stored.
func same[E any](of storage[E]) (setter, blockSetter) {
	return func(_ *filler, v *Values, i int, q unsafe.Pointer) error {
			*(*E)(q) = of(v)[i]
			return nil
		}, func(_ *filler, v *Values, from, to int, q unsafe.Pointer, stride uintptr) int {
			for i, x := range of(v)[from:to] {
				*(*E)(unsafe.Add(q, uintptr(i)*stride)) = x
			}
			return to
		}
}

// wider writes values to a type that has them all.
func wider[S, D number](of storage[S]) (setter, blockSetter) {
	return func(_ *filler, v *Values, i int, q unsafe.Pointer) error {
			*(*D)(q) = D(of(v)[i])
			return nil
		}, func(_ *filler, v *Values, from, to int, q unsafe.Pointer, stride uintptr) int {
			for i, x := range of(v)[from:to] {
				*(*D)(unsafe.Add(q, uintptr(i)*stride)) = D(x)
			}
			return to
		}
}

// integers that may be too large for where they go.
func checked[S, D ~int8 | ~int16 | ~int32 | ~int64 | ~uint8 | ~uint16 | ~uint32 | ~uint64](of storage[S], typ reflect.Type) (setter, blockSetter) {
	fits := func(x S) bool { d := D(x); return S(d) == x && (d < 0) == (x < 0) }
	return func(_ *filler, v *Values, i int, q unsafe.Pointer) error {
			x := of(v)[i]
			if !fits(x) {
				return outOfRange(x, typ)
			}
			*(*D)(q) = D(x)
			return nil
		}, func(_ *filler, v *Values, from, to int, q unsafe.Pointer, stride uintptr) int {
			for i, x := range of(v)[from:to] {
				d := D(x)
				if S(d) != x || (d < 0) != (x < 0) {
					return from + i
				}
				*(*D)(unsafe.Add(q, uintptr(i)*stride)) = d
			}
			return to
		}
}

// integers gives the setters of an integer field of this kind and size.
func integers[S ~int32 | ~int64 | ~uint32 | ~uint64](of storage[S], kind row.Kind, bits int, typ reflect.Type) (setter, blockSetter) {
	if kind == row.Uint {
		switch bits {
		case 8:
			return checked[S, uint8](of, typ)
		case 16:
			return checked[S, uint16](of, typ)
		case 32:
			return checked[S, uint32](of, typ)
		}
		return checked[S, uint64](of, typ)
	}
	switch bits {
	case 8:
		return checked[S, int8](of, typ)
	case 16:
		return checked[S, int16](of, typ)
	case 32:
		return checked[S, int32](of, typ)
	}
	return checked[S, int64](of, typ)
}

// The first and the last second of the years 1 to 9999, which are what text and most
// readers can show.
var (
	firstSecond = time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC).Unix()
	endSecond   = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC).Unix()
)

// timeOf makes a time of seconds and nanoseconds.
func timeOf(sec, nsec int64) (time.Time, error) {
	if sec < firstSecond || sec >= endSecond {
		return time.Time{}, &refusal{rule: row.RuleRange, msg: "its year is outside 1 to 9999"}
	}
	return time.Unix(sec, nsec).UTC(), nil
}

// perSecond are the parts of a second in each unit.
var perSecond = [...]int64{millis: 1e3, micros: 1e6, nanos: 1e9}

// instants gives times of integers since 1970.
func instants(unit int16) (setter, blockSetter) {
	per := perSecond[unit]
	scale := int64(1e9) / per
	least, end := int64(math.MinInt64), int64(math.MaxInt64)
	if unit != nanos { // int64 nanoseconds are all within the years
		least, end = firstSecond*per, endSecond*per
	}
	make := func(x int64) time.Time {
		sec, part := x/per, x%per
		if part < 0 {
			sec, part = sec-1, part+per
		}
		return time.Unix(sec, part*scale).UTC()
	}
	return func(_ *filler, v *Values, i int, q unsafe.Pointer) error {
			x := v.Int64s[i]
			if x < least || x >= end && unit != nanos {
				return &refusal{rule: row.RuleRange, msg: "its year is outside 1 to 9999"}
			}
			*(*time.Time)(q) = make(x)
			return nil
		}, func(_ *filler, v *Values, from, to int, q unsafe.Pointer, stride uintptr) int {
			for i, x := range v.Int64s[from:to] {
				if x < least || x >= end {
					return from + i
				}
				*(*time.Time)(unsafe.Add(q, uintptr(i)*stride)) = make(x)
			}
			return to
		}
}

func dateOf(v *Values, i int) (time.Time, error) { return timeOf(int64(v.Int32s[i])*86400, 0) }

// int96Of reads Impala's and Spark's timestamps: nanoseconds of the day, and the day.
func int96Of(v *Values, i int) (time.Time, error) {
	const epoch = 2440588 // the Julian day of 1970-01-01
	b := v.Bytes(i)
	nsec, day := int64(binary.LittleEndian.Uint64(b)), int64(int32(binary.LittleEndian.Uint32(b[8:])))
	return timeOf((day-epoch)*86400+nsec/1e9, nsec%1e9)
}

// instantOf reads a timestamp.
func instantOf(t *leafType, v *Values, i int) (time.Time, error) {
	per := perSecond[t.unit]
	x := v.Int64s[i]
	sec, part := x/per, x%per
	if part < 0 {
		sec, part = sec-1, part+per
	}
	return timeOf(sec, part*(1e9/per))
}

// sinceMidnight reads a TIME.
func sinceMidnight(t *leafType, v *Values, i int) (int64, error) {
	var x int64
	if t.phys == physInt32 {
		x = int64(v.Int32s[i])
	} else {
		x = v.Int64s[i]
	}
	scale := int64(1e9) / perSecond[t.unit]
	if x < 0 || x > 86400*perSecond[t.unit] {
		return 0, &refusal{rule: row.RuleRange, msg: fmt.Sprintf("%d%s is no time of day", x, unitNames[t.unit])}
	}
	return x * scale, nil
}

// endOfDay is a TIME that no time of Go's is.
const endOfDay = "24:00:00"

func float16(b []byte) float64 {
	bits := binary.LittleEndian.Uint16(b)
	sign, exp, frac := bits>>15, int(bits>>10&31), float64(bits&0x3ff)
	var f float64
	switch exp {
	case 0:
		f = math.Ldexp(frac, -24)
	case 31:
		if frac != 0 {
			return math.NaN()
		}
		f = math.Inf(1)
	default:
		f = math.Ldexp(1024+frac, exp-25)
	}
	if sign != 0 {
		f = -f
	}
	return f
}

// unscaled gives a decimal's whole number.
func unscaled(t *leafType, v *Values, i int) (small int64, large *big.Int) {
	switch t.phys {
	case physInt32:
		return int64(v.Int32s[i]), nil
	case physInt64:
		return v.Int64s[i], nil
	}
	b := v.Bytes(i)
	for len(b) > 8 && (b[0] == 0 && b[1]&0x80 == 0 || b[0] == 0xff && b[1]&0x80 != 0) {
		b = b[1:]
	}
	if len(b) <= 8 {
		var x int64
		if len(b) > 0 {
			x = int64(int8(b[0]))
			for _, c := range b[1:] {
				x = x<<8 | int64(c)
			}
		}
		return x, nil
	}
	n := new(big.Int).SetBytes(b)
	if b[0]&0x80 != 0 {
		n.Sub(n, new(big.Int).Lsh(big.NewInt(1), uint(8*len(b))))
	}
	return 0, n
}

// maxDecimal is how many bytes a decimal may have: the format's are of 16, Arrow's
// largest of 32.
const maxDecimal = 64

func tooLong(n int) error {
	return &refusal{rule: row.RuleRange, msg: fmt.Sprintf("a decimal of %d bytes is out of range", n)}
}

// appendDecimal writes a decimal with all digits of its scale.
func appendDecimal(dst []byte, t *leafType, v *Values, i int) ([]byte, error) {
	if t.phys == physBytes || t.phys == physFixed {
		if n := len(v.Bytes(i)); n > maxDecimal {
			return dst, tooLong(n)
		}
	}
	small, large := unscaled(t, v, i)
	start := len(dst)
	if large != nil {
		dst = large.Append(dst, 10)
	} else {
		dst = strconv.AppendInt(dst, small, 10)
	}
	scale := int(t.scale)
	if scale == 0 {
		return dst, nil
	}
	if dst[start] == '-' {
		start++
	}
	for len(dst)-start <= scale { // a digit before the point
		dst = append(dst, 0)
		copy(dst[start+1:], dst[start:])
		dst[start] = '0'
	}
	point := len(dst) - scale
	dst = append(dst, 0)
	copy(dst[point+1:], dst[point:])
	dst[point] = '.'
	return dst, nil
}

func appendUUID(dst []byte, b []byte) []byte {
	const hex = "0123456789abcdef"
	for i, c := range b {
		if i == 4 || i == 6 || i == 8 || i == 10 {
			dst = append(dst, '-')
		}
		dst = append(dst, hex[c>>4], hex[c&15])
	}
	return dst
}

// appendText writes a value as text: what a field with UnmarshalText gets.
func appendText(dst []byte, t *leafType, v *Values, i int) ([]byte, error) {
	stamp := func(at time.Time, err error) ([]byte, error) { return at.AppendFormat(dst, time.RFC3339Nano), err }
	switch t.meaning {
	case isBool:
		return strconv.AppendBool(dst, v.Bools[i]), nil
	case isInt:
		if t.phys == physInt32 {
			return strconv.AppendInt(dst, int64(v.Int32s[i]), 10), nil
		}
		return strconv.AppendInt(dst, v.Int64s[i], 10), nil
	case isUint:
		if t.phys == physInt32 {
			return strconv.AppendUint(dst, uint64(uint32(v.Int32s[i])), 10), nil
		}
		return strconv.AppendUint(dst, uint64(v.Int64s[i]), 10), nil
	case isFloat:
		return strconv.AppendFloat(dst, float64(v.Floats[i]), 'g', -1, 32), nil
	case isFloat16:
		return strconv.AppendFloat(dst, float16(v.Bytes(i)), 'g', -1, 32), nil
	case isDouble:
		return strconv.AppendFloat(dst, v.Doubles[i], 'g', -1, 64), nil
	case isUUID:
		return appendUUID(dst, v.Bytes(i)), nil
	case isDecimal:
		return appendDecimal(dst, t, v, i)
	case isDate:
		at, err := dateOf(v, i)
		return at.AppendFormat(dst, time.DateOnly), err
	case isTimestamp:
		return stamp(instantOf(t, v, i))
	case isInt96:
		return stamp(int96Of(v, i))
	case isTime:
		n, err := sinceMidnight(t, v, i)
		if n == 24*int64(time.Hour) {
			return append(dst, endOfDay...), nil
		}
		return time.Unix(0, n).UTC().AppendFormat(dst, "15:04:05.999999999"), err
	case isString:
		b := v.Bytes(i)
		if !validText(b) {
			return dst, errNotUTF8
		}
		return append(dst, b...), nil
	case isNull: // whatever its storage holds
		return append(dst, "null"...), nil
	}
	return append(dst, v.Bytes(i)...), nil
}

// setText hands a value's text to UnmarshalText.
func setText(t *leafType, typ reflect.Type) setter {
	return func(f *filler, v *Values, i int, q unsafe.Pointer) error {
		text, err := appendText(f.buf[:0], t, v, i)
		f.buf = text[:0]
		if err != nil {
			return err
		}
		// UnmarshalText may keep parts of the text's memory, or scribble over it.
		if err := reflect.NewAt(typ, q).Interface().(encoding.TextUnmarshaler).UnmarshalText(append([]byte(nil), text...)); err != nil {
			return &refusal{rule: row.RuleSyntax, msg: fmt.Sprintf("%s is not a %v", quote(string(text)), typ), err: err}
		}
		return nil
	}
}
