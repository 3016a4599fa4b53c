package row

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"math/bits"
	"reflect"
	"sync"
	"time"
	"unicode/utf8"
	"unsafe"
)

// JSONRules say how objects become rows where JSON leaves it open. The zero value
// passes over unknown keys and is strict in all else.
type JSONRules struct {
	Unknown  JSONUnknown
	Missing  JSONMissing
	Repeated JSONRepeated

	// MaxDepth is how many arrays and objects may lie in each other, the row's own
	// object included. Defaults to DefaultDepth.
	MaxDepth int
}

// DefaultDepth is far more than data has.
const DefaultDepth = 64

// JSONUnknown is a policy for keys without a column.
type JSONUnknown uint8

const (
	// IgnoreUnknown keeps them in the row type's extra column. Without one it checks
	// their values and passes over them; then they may come twice.
	IgnoreUnknown JSONUnknown = iota
	// RefuseUnknown refuses the row.
	RefuseUnknown
)

// JSONMissing is a policy for columns without a key.
type JSONMissing uint8

const (
	// NullMissing is null, where the column has one; else the row is refused.
	NullMissing JSONMissing = iota
	// RefuseMissing refuses the row.
	RefuseMissing
	// ZeroMissing leaves the field zero: null, if it has one.
	ZeroMissing
)

// JSONRepeated is a policy for a key of a column that came before.
type JSONRepeated uint8

const (
	// RefuseRepeated refuses the row.
	RefuseRepeated JSONRepeated = iota
	// LastRepeated takes the last value. All must be right.
	LastRepeated
	// FirstRepeated takes the first value. Of the others only the syntax is looked at.
	FirstRepeated
)

// JSONPlan says how JSON objects become rows of one type: the inverse of
// [Type.AppendJSON]. It is immutable and safe for concurrent use; [JSONPlan.Decoder]
// gives what does the work.
//
// Names are exact: upper and lower case differ. Of each kind of column,
//
//	Bool      takes true and false
//	Int       a number without point and exponent, as encoding/json does; Uint and Duration too
//	Float     a number, rounded to the nearest
//	String    a string; json.Number, and with decimal=, also a number, whose text it keeps
//	Bytes     a string in base64
//	Time      a string in the column's layout
//	Text      a string or a number: UnmarshalText gets its text
//
// and what has an UnmarshalJSON of its own, and Other, are left to encoding/json, with
// numbers in interfaces as json.Number, so that none loses digits. null is null in a
// column that has one (also in a map, a slice, and what writes its zero value as null);
// elsewhere it is refused.
type JSONPlan struct {
	rules JSONRules
	steps []jsonStep
	keys  []jsonKey        // of none, of the steps, of strangers
	names map[string]int32 // → key

	required  int     // steps
	extra     *Column // keeps what has no column; nil: there is none
	extraKind extraKind

	decoders sync.Pool
}

// jsonStep is one column. Of the codes of lines it has those of numbers, times and
// strings, whether or not the column can be null; stepCell is the careful way.
type jsonStep struct {
	step
	own      own
	required int // 1: it must not be missing
}

const (
	stepBool  code = 0x40 + iota
	stepOwn        // left to encoding/json, or to the type itself
	stepExtra      // the extra column itself
)

// jsonKey is a key that a decoder knows.
type jsonKey struct {
	lo, mask, hi uint64 // of text
	size         int    // of text
	text         string // "name":
	name         string
	next         int32 // the key that came behind this one last
}

// NewJSONPlan makes a plan for rows of type t.
func NewJSONPlan(t *Type, rules JSONRules) *JSONPlan {
	if rules.MaxDepth == 0 {
		rules.MaxDepth = DefaultDepth
	}
	p := &JSONPlan{rules: rules, names: make(map[string]int32, len(t.Columns)), extra: t.extra, extraKind: extraKindOf(t.extra)}
	p.keys = append(p.keys, noKey)
	for i := range t.Columns {
		c := &t.Columns[i]
		s := jsonStep{step: step{column: c, offset: c.offset, bits: c.Bits, shift: uint8(64-c.Bits) & 63, state: i}}
		s.code, s.own = jsonCodeOf(c)
		if c.Extra {
			s.code = stepExtra
		}
		switch {
		case c.Extra, rules.Missing == ZeroMissing, rules.Missing == NullMissing && (c.Null || s.own.null):
		default:
			s.required = 1
			p.required++
		}
		p.steps = append(p.steps, s)
		p.names[c.Name] = int32(len(p.keys))
		p.keys[i].next = int32(len(p.keys))
		p.keys = append(p.keys, newJSONKey(string(c.jsonKey), c.Name))
	}
	p.keys = append(p.keys, noKey)
	return p
}

// Least is not more bytes than the shortest text that becomes a row.
func (p *JSONPlan) Least() int {
	n := len("{}")
	for i := range p.steps {
		if s := &p.steps[i]; s.required > 0 {
			n += len(s.column.Name) + len(`"":0`)
		}
	}
	return n
}

// noKey is nowhere.
var noKey = jsonKey{size: 1 << 30}

func newJSONKey(text, name string) jsonKey {
	k := jsonKey{size: len(text), text: text, name: name}
	var word [16]byte
	copy(word[:], text)
	base := unsafe.Pointer(&word)
	k.lo, k.mask = load(base, 0), ^uint64(0)
	switch {
	case k.size < 8:
		k.mask = 1<<(8*uint(k.size)) - 1
	case k.size <= 16:
		k.hi = load(base, k.size-8)
	}
	return k
}

// at tells whether the key is at i. Behind i are at least size+8 bytes.
func (k *jsonKey) at(base unsafe.Pointer, i int) bool {
	switch {
	case load(base, i)&k.mask != k.lo:
		return false
	case k.size <= 8:
		return true
	case k.size <= 16:
		return load(base, i+k.size-8) == k.hi
	}
	return unsafe.String((*byte)(unsafe.Add(base, i)), k.size) == k.text
}

func jsonCodeOf(c *Column) (code, own) {
	if own, is := ownOf(c); is {
		return stepOwn, own
	}
	switch c.Kind {
	case String:
		return stepString, own{}
	case Int:
		return stepInt, own{}
	case Uint:
		return stepUint, own{}
	case Duration:
		return stepInt, own{}
	case Bool:
		return stepBool, own{}
	case Float:
		if c.Bits == 32 {
			return stepFloat32, own{}
		}
		return stepFloat64, own{}
	case Time:
		if c.layout != layoutOther {
			return stepTime, own{}
		}
	}
	return stepCell, own{}
}

// JSONDecoder reads JSON objects into rows. It remembers what repeats from row to row,
// above all the order of the keys, so it is worth keeping; it is for one goroutine at a
// time.
type JSONDecoder struct {
	scanner
	plan  *JSONPlan
	cells Decoder // for its strings and dates

	keys    []jsonKey        // the plan's, and others that rows had
	learned map[string]int32 // the others
	seen    []uint32         // by column: the last row that had it
	row     uint32
	name    []byte // of the last key, when it is none of keys
	scratch []byte
}

// Keys that are no column are learned up to these bounds, which no honest file needs.
const (
	mostKeys   = 512
	longestKey = 128
)

// Decoder gives a decoder, perhaps a used one; Release gives it back.
func (p *JSONPlan) Decoder() *JSONDecoder {
	d, _ := p.decoders.Get().(*JSONDecoder)
	if d == nil {
		n := len(p.steps)
		d = &JSONDecoder{plan: p, learned: map[string]int32{}, seen: make([]uint32, n)}
		d.max, d.cells.plan = p.rules.MaxDepth, new(Plan)
		d.keys = append(make([]jsonKey, 0, len(p.keys)+8), p.keys...)
		d.cells.states = make([]state, n)
		for i := range d.cells.states {
			d.cells.states[i].date = aDate
		}
	}
	for i := range d.cells.states {
		if w := d.cells.states[i].words; w != nil {
			w.score = trial // the next text may repeat what the last did not
		}
	}
	return d
}

// Release gives the decoder back to its plan. The strings it made stay.
func (d *JSONDecoder) Release() {
	d.data = nil
	if cap(d.scratch) > keepBlock { // grown for one monster
		d.scratch = nil
	}
	d.plan.decoders.Put(d)
}

// Text reads the JSON text data, which must be one object, into the row at p, which
// must be zero. Nothing of the row shares memory with data. The error is a *[JSONError];
// then the row holds anything.
func (d *JSONDecoder) Text(data []byte, p unsafe.Pointer) error {
	d.data, d.lines = data, false
	if d.object(0, p) < 0 {
		return d.error(0)
	}
	return nil
}

// Line is Text for the line that begins at data[at], which is not empty. It returns
// where the next line begins, also when there is an error.
func (d *JSONDecoder) Line(data []byte, at int, p unsafe.Pointer) (next int, err error) {
	d.data, d.lines = data, true
	if next = d.object(at, p); next >= 0 {
		return next, nil
	}
	if nl := bytes.IndexByte(data[at:], '\n'); nl >= 0 {
		return at + nl + 1, d.error(at)
	}
	return len(data), d.error(at)
}

// object reads the object at i and what ends the text behind it.
func (d *JSONDecoder) object(i int, p unsafe.Pointer) int {
	plan := d.plan
	data := d.data
	n := len(data)
	base := unsafe.Pointer(unsafe.SliceData(data))
	if !d.is(i, '{') {
		if i = d.space(i); !d.is(i, '{') {
			return d.noObject(i)
		}
	}
	if d.row++; d.row == 0 {
		clear(d.seen)
		d.row = 1
	}
	left := plan.required
	i++
	if !d.is(i, '"') {
		i = d.space(i)
	}
	if d.is(i, '}') {
		i++
	} else {
		for key := int32(0); ; {
			// Most rows have the keys of the row before, in the same order.
			guess := &d.keys[d.keys[key].next]
			if n-i >= room+guess.size && guess.at(base, i) {
				key = d.keys[key].next
				i += guess.size
			} else if i, key = d.findKey(i, key); i < 0 {
				return -1
			}
			if i < n && data[i] <= ' ' {
				i = d.space(i)
			}

			if uint(key-1) >= uint(len(plan.steps)) {
				if i = d.unknown(i, key, p); i < 0 {
					return -1
				}
			} else {
				s := &plan.steps[key-1]
				if d.seen[key-1] != d.row {
					d.seen[key-1] = d.row
					left -= s.required
				} else {
					var again bool
					if i, again = d.repeated(s, i, p); !again {
						if i < 0 {
							return -1
						}
						goto separator
					}
				}
				q := unsafe.Add(p, s.offset)
				if s.column.null != notNull {
					if d.isNull(i) {
						i += len("null")
						goto separator
					}
					q = s.column.begin(p)
				}
				next := 0 // 0: the value is not plain
				if n-i >= room {
					next = d.plain(s, base, i, q)
				}
				if next == 0 {
					if next = d.careful(s, i, q); next < 0 {
						return -1
					}
				}
				i = next
				if s.column.null != notNull {
					s.column.commit(p, q)
				}
			}

		separator:
			if i >= n || data[i] != ',' && data[i] != '}' {
				if i = d.space(i); !d.is(i, ',') && !d.is(i, '}') {
					return d.unexpected(i, "',' or '}'")
				}
			}
			i++
			if data[i-1] == '}' {
				break
			}
			if i < n && data[i] == ' ' {
				i++
			}
		}
	}

	if left > 0 && !d.missing(i-1) {
		return -1
	}
	if !d.lines || i >= n || data[i] != '\n' {
		if i = d.space(i); !d.ended(i) {
			return d.unexpected(i, "the end of the text")
		}
	}
	return min(i+1, n)
}

// noObject says what is at i instead.
func (d *JSONDecoder) noObject(i int) int {
	end := d.value(i, 0)
	if end < 0 {
		return -1
	}
	if at := d.space(end); !d.ended(at) {
		return d.unexpected(at, "the end of the text")
	}
	return d.fail(RuleType, i, "it is %s, and no object", what(d.data[i]))
}

// what names a value by its first byte.
func what(c byte) string {
	switch c {
	case '{':
		return "an object"
	case '[':
		return "an array"
	case '"':
		return "a string"
	case 't', 'f':
		return "a bool"
	case 'n':
		return "null"
	}
	return "a number"
}

// findKey reads a key that is not the one that came behind last the last time.
func (d *JSONDecoder) findKey(i int, last int32) (_ int, key int32) {
	i = d.space(i)
	n := len(d.data)
	skipped := d.keys[last].next
	// A row that misses one key has the one behind it.
	key = d.keys[skipped].next
	for _, k := range [...]int32{skipped, key} {
		if guess := &d.keys[k]; n-i >= room+guess.size && guess.at(unsafe.Pointer(unsafe.SliceData(d.data)), i) {
			return i + guess.size, k
		}
	}
	if !d.is(i, '"') {
		return d.unexpected(i, "a key in quotes"), 0
	}
	end := d.str(i)
	if end < 0 {
		return -1, 0
	}
	name := d.data[i+1 : end-1]
	if d.escaped {
		d.name = unescape(d.name[:0], name)
		name = d.name
	}
	if i = d.space(end); !d.is(i, ':') {
		return d.unexpected(i, "':'"), 0
	}
	key, known := d.plan.names[string(name)]
	if !known {
		key, known = d.learned[string(name)]
	}
	if !known {
		if len(d.learned) >= mostKeys || len(name) > longestKey {
			d.name = append(d.name[:0], name...)
			key = int32(len(d.plan.steps) + 1)
		} else {
			key = int32(len(d.keys))
			own := string(name)
			d.learned[own] = key
			d.keys = append(d.keys, newJSONKey(string(appendString(nil, own))+":", own))
		}
	}
	d.keys[last].next = key
	return i + 1, key
}

// repeated decides about the value of a column that the row had before: more tells
// whether it is to be read.
func (d *JSONDecoder) repeated(s *jsonStep, i int, p unsafe.Pointer) (_ int, more bool) {
	switch d.plan.rules.Repeated {
	case LastRepeated:
		if s.code == stepExtra {
			return i, true // what it holds comes to the rest
		}
		reflect.NewAt(s.column.Type, unsafe.Add(p, s.offset)).Elem().SetZero()
		return i, true
	case FirstRepeated:
		return d.value(i, 1), false
	}
	return d.fail(RuleDuplicate, i, "the key %q comes twice", cut(s.column.Name, maxValue)), false
}

// missing decides about the columns that the row does not have.
func (d *JSONDecoder) missing(i int) bool {
	for k := range d.plan.steps {
		if s := &d.plan.steps[k]; s.required > 0 && d.seen[k] != d.row {
			d.fail(RuleMissing, i, "the object has no such key")
			d.fault.column = s.column
			return false
		}
	}
	return true
}

func (d *JSONDecoder) isNull(i int) bool {
	return len(d.data)-i >= len("null") && string(d.data[i:i+len("null")]) == "null"
}

// plain reads a value the quick way into q. It returns 0 when it is not plain: then
// nothing is said about it. Behind i there are at least room bytes.
func (d *JSONDecoder) plain(s *jsonStep, base unsafe.Pointer, i int, q unsafe.Pointer) (next int) {
	switch s.code {
	case stepString:
		if byteAt(base, i) != '"' {
			return 0
		}
		i++
		start, high := i, uint64(0)
		for n := len(d.data); ; i += 8 {
			if n-i < 16 {
				return 0
			}
			w := load(base, i)
			if m := stringEnds(w); m != 0 {
				high |= w & (m&-m - 1)
				i += bits.TrailingZeros64(m) >> 3
				break
			}
			high |= w
		}
		if byteAt(base, i) != '"' {
			return 0
		}
		if size := i - start; size > 0 {
			if high&highs != 0 && !utf8.Valid(unsafe.Slice((*byte)(unsafe.Add(base, start)), size)) {
				return 0
			}
			*(*string)(q) = d.cells.keepWord(s.state, unsafe.Add(base, start), size)
		}
		return i + 1

	case stepInt:
		neg := byteAt(base, i) == '-'
		if neg {
			i++
		}
		m, size := digits(base, i)
		if uint(size-1) >= maxDigits || !endsNumber(base, i, size) {
			return 0
		}
		v := int64(m)
		if neg {
			v = -v
		}
		if v<<s.shift>>s.shift != v {
			return 0
		}
		if s.shift == 0 {
			*(*int64)(q) = v
		} else {
			putInt(q, v, s.bits)
		}
		return i + size

	case stepFloat64:
		m, frac, neg, size := plainDecimal(base, i)
		if size == 0 || m >= 1<<53 || !endsDecimal(base, i, size, neg) {
			return 0
		}
		f := float64(m) / pow10[frac]
		if neg {
			f = -f
		}
		*(*float64)(q) = f
		return i + size

	case stepTime:
		if byteAt(base, i) != '"' {
			return 0
		}
		t, size := d.cells.time(&s.step, base, i+1)
		if size == 0 || byteAt(base, i+1+size) != '"' {
			return 0
		}
		*(*time.Time)(q) = t
		return i + size + 2

	case stepBool:
		switch w := load(base, i); {
		case uint32(w) == wordTrue:
			*(*bool)(q) = true
			return i + len("true")
		case w&(1<<40-1) == wordFalse:
			*(*bool)(q) = false
			return i + len("false")
		}

	case stepUint:
		m, size := digits(base, i)
		if uint(size-1) >= maxDigits || !fitsUint(m, s.bits) || !endsNumber(base, i, size) {
			return 0
		}
		putUint(q, m, s.bits)
		return i + size

	case stepFloat32:
		m, frac, neg, size := plainDecimal(base, i)
		if size == 0 || m >= 1<<24 || frac >= len(pow10f) || !endsDecimal(base, i, size, neg) {
			return 0
		}
		f := float32(m) / pow10f[frac]
		if neg {
			f = -f
		}
		*(*float32)(q) = f
		return i + size
	}
	return 0
}

const (
	wordTrue  = 'e'<<24 | 'u'<<16 | 'r'<<8 | 't'
	wordFalse = 'e'<<32 | 's'<<24 | 'l'<<16 | 'a'<<8 | 'f'
)

// endsNumber tells whether the size digits at i are a whole number: without zeros in
// front, and with nothing behind that belongs to a number.
func endsNumber(base unsafe.Pointer, i, size int) bool {
	if size > 1 && byteAt(base, i) == '0' {
		return false
	}
	c := byteAt(base, i+size)
	return c == ',' || c == '}' || c <= ' '
}

// endsDecimal is endsNumber for the decimal of size bytes at i.
func endsDecimal(base unsafe.Pointer, i, size int, neg bool) bool {
	c := byteAt(base, i+size)
	if c != ',' && c != '}' && c > ' ' || byteAt(base, i+size-1) == '.' {
		return false
	}
	if neg {
		i++
		size--
	}
	c = byteAt(base, i)
	return c != '.' && (c != '0' || size == 1 || byteAt(base, i+1) == '.')
}

// careful reads any value into q, and knows what is wrong with it.
func (d *JSONDecoder) careful(s *jsonStep, i int, q unsafe.Pointer) int {
	switch s.code {
	case stepOwn:
		return d.own(s, i, q)
	case stepExtra:
		return d.extra(s, i, q)
	}
	if d.ended(i) {
		return d.unexpected(i, "a value")
	}
	c := s.column
	var end int
	var err error
	switch b := d.data[i]; {
	case b == '"':
		if end = d.str(i); end < 0 {
			return -1
		}
		text := d.text(i, end)
		switch {
		case c.Kind == String:
			*(*string)(q) = d.cells.keeper.keep(text)
		case text == "" && c.Kind == Time:
			err = c.fail(RuleSyntax, "", "the text is empty, but the column must hold a time", nil)
		case c.Kind == Time, c.Kind == Text:
			err = c.parse(q, text)
		case c.Kind == Bytes:
			var out []byte
			if out, err = base64.StdEncoding.DecodeString(text); err != nil {
				err = c.fail(RuleSyntax, text, "is not base64", nil)
			} else {
				*(*[]byte)(q) = out
			}
		default:
			return d.wrongType(c, i)
		}
	case b == '-' || b-'0' <= 9:
		if end = d.number(i); end < 0 {
			return -1
		}
		text := unsafe.String(&d.data[i], end-i)
		switch c.Kind {
		case Int, Uint, Duration:
			err = c.parseWhole(q, text, d.whole)
		case Float, Text:
			err = c.parse(q, text)
		case String:
			if c.Precision == 0 && c.elem != numberType {
				return d.wrongType(c, i)
			}
			*(*string)(q) = d.cells.keeper.keep(text)
		default:
			return d.wrongType(c, i)
		}
	case d.isNull(i):
		d.fail(RuleNull, i, "null, but the column must hold %s", article(c.holds()))
		d.fault.column = c
		return -1
	default:
		if end = d.value(i, 1); end < 0 {
			return -1
		}
		if c.Kind != Bool || b != 't' && b != 'f' {
			return d.wrongType(c, i)
		}
		*(*bool)(q) = b == 't'
	}
	if err != nil {
		d.fault = fault{at: i, column: c, err: err}
		return -1
	}
	return end
}

// text is what a string without faults stands for; valid until the next one is read.
func (d *JSONDecoder) text(start, end int) string {
	b := d.data[start+1 : end-1]
	if d.escaped {
		d.scratch = unescape(d.scratch[:0], b)
		b = d.scratch
	}
	return unsafe.String(unsafe.SliceData(b), len(b))
}

func (d *JSONDecoder) wrongType(c *Column, i int) int {
	d.fail(RuleType, i, "there is %s, but the column must hold %s", what(d.data[i]), article(c.holds()))
	d.fault.column = c
	return -1
}

// parseWhole sets a whole number as encoding/json does: 1.0 and 1e3 are none.
func (c *Column) parseWhole(q unsafe.Pointer, text string, whole bool) error {
	switch {
	case !whole:
		return c.fail(RuleType, text, "has a point or an exponent, but the column must hold "+article(c.holds()), nil)
	case c.Kind == Uint && text[0] == '-':
		return c.failRange(text)
	}
	return c.parse(q, text)
}

// own is how a value is read that is not ours.
type own struct {
	unmarshaler bool
	numbers     bool // it has interfaces, whose numbers must not lose digits
	null        bool // it takes null, for that is how its zero value is written
}

var (
	jsonUnmarshalerType = reflect.TypeFor[json.Unmarshaler]()
	numberType          = reflect.TypeFor[json.Number]()
)

// ownOf tells whether a column's values are left to their type or to encoding/json.
// A time with a layout is ours, whatever methods its type has.
func ownOf(c *Column) (o own, is bool) {
	o.unmarshaler = c.unmarshalsJSON()
	if !o.unmarshaler && c.Kind != Other && (c.Kind != Text || c.canParse) {
		return own{}, false
	}
	o.numbers = hasInterface(c.elem, nil)
	o.null = writesNull(c.elem)
	return o, true
}

func (c *Column) unmarshalsJSON() bool {
	return reflect.PointerTo(c.elem).Implements(jsonUnmarshalerType) && c.elem != timeType && c.layout == layoutDefault
}

// CanReadJSON says whether a [JSONPlan] can ever read the column: it is false for what
// encoding/json can't, and for a Text that can only be written.
func (c *Column) CanReadJSON() bool {
	if c.Extra || c.unmarshalsJSON() {
		return true
	}
	switch c.Kind {
	case Text:
		return c.canParse
	case Other:
		switch c.elem.Kind() {
		case reflect.Func, reflect.Chan, reflect.Complex64, reflect.Complex128, reflect.UnsafePointer:
			return false
		case reflect.Interface:
			return c.elem.NumMethod() == 0
		}
	}
	return true
}

// writesNull tells whether the zero value of a type is written as null.
func writesNull(t reflect.Type) (yes bool) {
	defer func() {
		if recover() != nil { // a user's MarshalJSON
			yes = false
		}
	}()
	b, err := json.Marshal(reflect.New(t).Interface())
	return err == nil && string(b) == "null"
}

// hasInterface tells whether encoding/json may have to choose a type for a number.
func hasInterface(t reflect.Type, seen []reflect.Type) bool {
	for _, s := range seen {
		if s == t {
			return false
		}
	}
	seen = append(seen, t)
	switch t.Kind() {
	case reflect.Interface:
		return true
	case reflect.Pointer, reflect.Slice, reflect.Array, reflect.Map:
		return hasInterface(t.Elem(), seen)
	case reflect.Struct:
		for i := range t.NumField() {
			if hasInterface(t.Field(i).Type, seen) {
				return true
			}
		}
	}
	return false
}

// own reads a value that is left to encoding/json, once it is known to be right.
func (d *JSONDecoder) own(s *jsonStep, i int, q unsafe.Pointer) int {
	end := d.value(i, 1)
	if end < 0 {
		return -1
	}
	c := s.column
	if d.isNull(i) && !s.own.null {
		d.fail(RuleNull, i, "null, but the column must hold %s", article(c.holds()))
		d.fault.column = c
		return -1
	}
	// A copy, for UnmarshalJSON may scribble over its argument.
	d.scratch = append(d.scratch[:0], d.data[i:end]...)
	target := reflect.NewAt(c.elem, q).Interface()
	var err error
	if u, is := target.(json.Unmarshaler); is && s.own.unmarshaler {
		err = u.UnmarshalJSON(d.scratch)
	} else {
		err = unmarshal(d.scratch, target, s.own.numbers)
	}
	if err != nil {
		rule := RuleSyntax
		if _, wrong := errors.AsType[*json.UnmarshalTypeError](err); wrong {
			rule = RuleType
		}
		d.fault = fault{at: i, column: c, err: c.fail(rule, string(d.data[i:min(end, i+maxValue)]), "cannot be read into "+c.elem.String(), err)}
		return -1
	}
	return end
}

func unmarshal(b []byte, target any, numbers bool) error {
	if !numbers {
		return json.Unmarshal(b, target)
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	return dec.Decode(target)
}
