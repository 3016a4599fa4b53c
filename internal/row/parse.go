package row

import (
	"encoding"
	"errors"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unsafe"
)

// Parse sets the column's field of the row at p from text. It reads text as the
// value it spells; what an empty cell means is [Column.Empty]'s matter.
//
// A string field keeps text itself, so its bytes must not change afterwards; a
// []byte field gets a copy. The field is left as it was when Parse returns an
// error, except for a Text whose own UnmarshalText changed it. A pointer field
// gets a new value each time and never writes through the old pointer, which
// somebody may have kept.
//
// Errors are of type *[Error].
func (c *Column) Parse(p unsafe.Pointer, text string) error {
	if c.null == notNull {
		return c.parse(unsafe.Add(p, c.offset), text)
	}
	q := c.begin(p)
	if err := c.parse(q, text); err != nil {
		return err
	}
	c.commit(p, q)
	return nil
}

// Empty sets the field to what an empty cell means: null for pointers and
// sql.Null, "" for strings and bytes. Any other column cannot be empty, and the
// error (rule "empty") says so.
func (c *Column) Empty(p unsafe.Pointer) error {
	f := unsafe.Add(p, c.offset)
	switch {
	case c.null == nullPtr:
		*(*unsafe.Pointer)(f) = nil
	case c.null == nullSQL:
		*(*bool)(unsafe.Add(f, c.validOff)) = false
		c.zero(unsafe.Add(f, c.valueOff))
	case c.Kind == String:
		*(*string)(f) = ""
	case c.Kind == Bytes:
		*(*[]byte)(f) = []byte{}
	default:
		return c.failEmpty()
	}
	return nil
}

// SetString sets a String column, which keeps s.
func (c *Column) SetString(p unsafe.Pointer, s string) error {
	if c.Kind != String {
		return c.fail(RuleType, s, "is a string, but the column holds "+c.holds(), nil)
	}
	q := c.begin(p)
	*(*string)(q) = s
	c.commit(p, q)
	return nil
}

// SetInt sets an Int, Uint or Duration column, or writes v in decimal to a
// String column (a partition may be either).
func (c *Column) SetInt(p unsafe.Pointer, v int64) error {
	fits := true
	q := c.begin(p)
	switch c.Kind {
	case Int:
		if fits = fitsInt(v, c.Bits); fits {
			putInt(q, v, c.Bits)
		}
	case Uint:
		if fits = v >= 0 && fitsUint(uint64(v), c.Bits); fits {
			putUint(q, uint64(v), c.Bits)
		}
	case Duration:
		*(*int64)(q) = v
	case String:
		*(*string)(q) = strconv.FormatInt(v, 10)
	default:
		return c.fail(RuleType, strconv.FormatInt(v, 10), "is an integer, but the column holds "+c.holds(), nil)
	}
	if !fits {
		return c.failRange(strconv.FormatInt(v, 10))
	}
	c.commit(p, q)
	return nil
}

// SetTime sets a Time column.
func (c *Column) SetTime(p unsafe.Pointer, t time.Time) error {
	if c.Kind != Time {
		return c.fail(RuleType, t.String(), "is a time, but the column holds "+c.holds(), nil)
	}
	q := c.begin(p)
	*(*time.Time)(q) = t
	c.commit(p, q)
	return nil
}

// begin returns where a new value of the row's field is to be built. It becomes
// the field's with commit.
func (c *Column) begin(p unsafe.Pointer) unsafe.Pointer {
	switch c.null {
	case nullPtr:
		return c.alloc()
	case nullSQL:
		return unsafe.Add(p, c.offset+c.valueOff)
	}
	return unsafe.Add(p, c.offset)
}

func (c *Column) commit(p, q unsafe.Pointer) {
	switch c.null {
	case nullPtr:
		*(*unsafe.Pointer)(unsafe.Add(p, c.offset)) = q
	case nullSQL:
		*(*bool)(unsafe.Add(p, c.offset+c.validOff)) = true
	}
}

// alloc makes a zero value for a pointer field. Values without pointers only
// need the right size.
func (c *Column) alloc() unsafe.Pointer {
	switch c.Kind {
	case Bool:
		return unsafe.Pointer(new(bool))
	case Int, Uint, Float:
		switch c.Bits {
		case 8:
			return unsafe.Pointer(new(uint8))
		case 16:
			return unsafe.Pointer(new(uint16))
		case 32:
			return unsafe.Pointer(new(uint32))
		}
		return unsafe.Pointer(new(uint64))
	case Duration:
		return unsafe.Pointer(new(int64))
	case String:
		return unsafe.Pointer(new(string))
	case Bytes:
		return unsafe.Pointer(new([]byte))
	case Time:
		return unsafe.Pointer(new(time.Time))
	}
	return reflect.New(c.elem).UnsafePointer()
}

func (c *Column) zero(q unsafe.Pointer) {
	switch c.Kind {
	case Bool:
		*(*bool)(q) = false
	case Int, Uint, Float:
		putUint(q, 0, c.Bits)
	case Duration:
		*(*int64)(q) = 0
	case String:
		*(*string)(q) = ""
	case Bytes:
		*(*[]byte)(q) = nil
	case Time:
		*(*time.Time)(q) = time.Time{}
	default:
		reflect.NewAt(c.elem, q).Elem().SetZero()
	}
}

// parse sets the value at q, which is of c.elem.
func (c *Column) parse(q unsafe.Pointer, text string) error {
	switch c.Kind {
	case String:
		*(*string)(q) = text
		return nil
	case Int:
		v, st := parseInt(text)
		if st != fine {
			return c.failParse(text, st)
		}
		if !fitsInt(v, c.Bits) {
			return c.failRange(text)
		}
		putInt(q, v, c.Bits)
		return nil
	case Float:
		if c.Bits == 32 {
			v, st := parseFloat32(text)
			if st != fine {
				return c.failParse(text, st)
			}
			*(*float32)(q) = v
			return nil
		}
		v, st := parseFloat64(text)
		if st != fine {
			return c.failParse(text, st)
		}
		*(*float64)(q) = v
		return nil
	case Time:
		t, err := c.parseTime(text)
		if err != nil {
			return err
		}
		*(*time.Time)(q) = t
		return nil
	case Uint:
		v, st := parseUint(text)
		if st != fine {
			return c.failParse(text, st)
		}
		if !fitsUint(v, c.Bits) {
			return c.failRange(text)
		}
		putUint(q, v, c.Bits)
		return nil
	case Bool:
		v, valid := parseBool(text)
		if !valid {
			return c.failParse(text, syntax)
		}
		*(*bool)(q) = v
		return nil
	case Bytes:
		*(*[]byte)(q) = append(make([]byte, 0, len(text)), text...)
		return nil
	case Duration:
		v, st := parseDuration(text)
		if st != fine {
			return c.failParse(text, st)
		}
		*(*int64)(q) = v
		return nil
	case Text:
		return c.parseText(q, text)
	}
	return c.fail(RuleType, text, "cannot be read into "+c.Type.String()+", which has no text form", nil)
}

func (c *Column) parseText(q unsafe.Pointer, text string) error {
	// NewAt costs no allocation and no walk over the type.
	u, can := reflect.NewAt(c.elem, q).Interface().(encoding.TextUnmarshaler)
	if !can {
		return c.fail(RuleType, text, "cannot be read into "+c.Type.String()+", which has no UnmarshalText", nil)
	}
	// A copy, for UnmarshalText is free to scribble over its argument.
	if err := u.UnmarshalText([]byte(text)); err != nil {
		return c.fail(RuleSyntax, text, "is not a "+c.elem.String(), err)
	}
	return nil
}

// status is how a parse ended; errors are built only where they are returned.
type status uint8

const (
	fine status = iota
	syntax
	outOfRange
)

// parseInt accepts what strconv.ParseInt(s, 10, 64) accepts.
func parseInt(s string) (int64, status) {
	if len(s) == 0 {
		return 0, syntax
	}
	digits := s
	neg := s[0] == '-'
	if neg || s[0] == '+' {
		digits = s[1:]
	}
	// Up to 18 digits cannot overflow.
	if uint(len(digits)-1) >= 18 {
		v, err := strconv.ParseInt(s, 10, 64)
		return v, integerStatus(digits, err)
	}
	var v int64
	for i := range len(digits) {
		d := digits[i] - '0'
		if d > 9 {
			return 0, syntax
		}
		v = v*10 + int64(d)
	}
	if neg {
		v = -v
	}
	return v, fine
}

// parseUint accepts what strconv.ParseUint(s, 10, 64) accepts, and a sign as
// parseInt does: "-1" is a number, it only does not fit.
func parseUint(s string) (uint64, status) {
	if len(s) == 0 {
		return 0, syntax
	}
	digits := s
	neg := s[0] == '-'
	if neg || s[0] == '+' {
		digits = s[1:]
	}
	var v uint64
	if uint(len(digits)-1) >= 19 {
		var err error
		if v, err = strconv.ParseUint(digits, 10, 64); err != nil {
			return 0, integerStatus(digits, err)
		}
	} else {
		for i := range len(digits) {
			d := digits[i] - '0'
			if d > 9 {
				return 0, syntax
			}
			v = v*10 + uint64(d)
		}
	}
	if neg && v != 0 {
		return 0, outOfRange
	}
	return v, fine
}

func statusOf(err error) status {
	switch {
	case err == nil:
		return fine
	case errors.Is(err, strconv.ErrRange):
		return outOfRange
	}
	return syntax
}

// integerStatus looks at the rest of a long text, which strconv leaves unread as
// soon as the number is too big.
func integerStatus(digits string, err error) status {
	st := statusOf(err)
	if st == outOfRange && strings.IndexFunc(digits, func(r rune) bool { return r < '0' || r > '9' }) >= 0 {
		return syntax
	}
	return st
}

// Powers of ten that a float64 (float32) holds exactly.
var (
	pow10 = [...]float64{1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11,
		1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22}
	pow10f = [...]float32{1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10}
)

// parseFloat64 is strconv.ParseFloat for plain decimals: when the digits and the
// power of ten are both exact, one division is correctly rounded by IEEE 754.
func parseFloat64(s string) (float64, status) {
	m, frac, neg, plain := decimalOf(s)
	if !plain || m >= 1<<53 || frac >= len(pow10) {
		return slowFloat(s, 64)
	}
	f := float64(m) / pow10[frac]
	if neg {
		f = -f
	}
	return f, fine
}

// parseFloat32 does not round a float64: rounding twice can miss the nearest float32.
func parseFloat32(s string) (float32, status) {
	m, frac, neg, plain := decimalOf(s)
	if !plain || m >= 1<<24 || frac >= len(pow10f) {
		f, st := slowFloat(s, 32)
		return float32(f), st
	}
	f := float32(m) / pow10f[frac]
	if neg {
		f = -f
	}
	return f, fine
}

// decimalOf takes a number apart: s is ±m/10^frac. It gives up (plain is false) on
// exponents, on more than 19 digits, and on what is no number at all.
func decimalOf(s string) (m uint64, frac int, neg, plain bool) {
	if len(s) == 0 {
		return 0, 0, false, false
	}
	if s[0] == '-' || s[0] == '+' {
		neg = s[0] == '-'
		s = s[1:]
	}
	point := -1
	for i := range len(s) {
		if d := s[i] - '0'; d <= 9 {
			m = m*10 + uint64(d)
		} else if s[i] == '.' && point < 0 {
			point = i
		} else {
			return 0, 0, false, false
		}
	}
	digits := len(s)
	if point >= 0 {
		frac = len(s) - 1 - point
		digits--
	}
	return m, frac, neg, uint(digits-1) < 19
}

func slowFloat(s string, bits int) (float64, status) {
	// ParseFloat also knows NaN, infinities, hexadecimal and underscores: rule "syntax".
	for i := range len(s) {
		switch b := s[i]; {
		case '0' <= b && b <= '9', b == '+', b == '-', b == '.', b == 'e', b == 'E':
		default:
			return 0, syntax
		}
	}
	f, err := strconv.ParseFloat(s, bits)
	return f, statusOf(err)
}

func parseBool(s string) (v, valid bool) {
	switch len(s) {
	case 1:
		switch s[0] {
		case '1', 't', 'T':
			return true, true
		case '0', 'f', 'F':
			return false, true
		}
	case 4:
		// A letter's case is bit 5. (EqualFold would take ſ for s.)
		return true, s[0]|32 == 't' && s[1]|32 == 'r' && s[2]|32 == 'u' && s[3]|32 == 'e'
	case 5:
		return false, s[0]|32 == 'f' && s[1]|32 == 'a' && s[2]|32 == 'l' && s[3]|32 == 's' && s[4]|32 == 'e'
	}
	return false, false
}

// parseDuration takes whole nanoseconds and Go's syntax (1h30m).
func parseDuration(s string) (int64, status) {
	v, st := parseInt(s)
	if st != syntax {
		return v, st
	}
	d, err := time.ParseDuration(s)
	if err == nil {
		return int64(d), fine
	}
	// ParseDuration does not say whether the form or the size is wrong: try the
	// same form with small numbers.
	var small strings.Builder
	for i := range len(s) {
		isDigit := s[i]-'0' <= 9
		if !isDigit {
			small.WriteByte(s[i])
		} else if i == 0 || s[i-1]-'0' > 9 {
			small.WriteByte('1')
		}
	}
	if _, err := time.ParseDuration(small.String()); err == nil {
		return 0, outOfRange
	}
	return 0, syntax
}

func fitsInt(v int64, bits int) bool {
	shift := uint(64-bits) & 63
	return v<<shift>>shift == v
}

func fitsUint(v uint64, bits int) bool { return bits == 64 || v>>(uint(bits)&63) == 0 }

func putInt(q unsafe.Pointer, v int64, bits int) { putUint(q, uint64(v), bits) }

func putUint(q unsafe.Pointer, v uint64, bits int) {
	switch bits {
	case 64:
		*(*uint64)(q) = v
	case 32:
		*(*uint32)(q) = uint32(v)
	case 16:
		*(*uint16)(q) = uint16(v)
	case 8:
		*(*uint8)(q) = uint8(v)
	}
}

// failParse words a failure of a basic kind.
func (c *Column) failParse(text string, st status) error {
	if text == "" {
		return c.failEmpty()
	}
	if st == outOfRange {
		return c.failRange(text)
	}
	var msg string
	switch c.Kind {
	case Int, Uint:
		msg = "is not a whole number"
	case Float:
		msg = "is not a number"
	case Bool:
		msg = "is not a bool (true, false, t, f, 1 or 0)"
	case Duration:
		msg = "is not a duration such as 1h30m, or whole nanoseconds"
	}
	return c.fail(RuleSyntax, text, msg+hint(c.Kind, text), nil)
}

// hint names the two mistakes that are hardest to see in a file.
func hint(k Kind, text string) string {
	if strings.TrimSpace(text) != text {
		return " (it has spaces around it)"
	}
	if k == Float && strings.Contains(text, ",") {
		return " (write the decimal point as a point, and no thousands separators)"
	}
	return ""
}

func (c *Column) failRange(text string) error {
	return c.fail(RuleRange, text, "is out of range for "+c.holds(), nil)
}

func (c *Column) failEmpty() error {
	return c.fail(RuleEmpty, "", "the cell is empty, but the column must hold "+article(c.holds()), nil)
}

// holds names the column's values for people who do not know the Go program:
// the basic type, not the program's name for it.
func (c *Column) holds() string {
	switch c.Kind {
	case Bool, Int, Uint, Float, String:
		return c.elem.Kind().String()
	case Bytes:
		return "bytes"
	case Time:
		return "time"
	case Duration:
		return "duration"
	}
	return c.elem.String()
}

func article(noun string) string {
	if noun == "bytes" {
		return noun
	}
	if noun[0] == 'i' || noun[0] == 'u' && !strings.HasPrefix(noun, "uint") {
		return "an " + noun
	}
	return "a " + noun
}
