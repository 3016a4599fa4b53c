package row

import (
	"encoding/binary"
	"math/bits"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
	"unsafe"
)

// Form is how the lines of a text hold their cells. Quote and Comment may be 0: there
// are none.
type Form struct {
	Delimiter, Quote, Comment byte
	Max                       int // bytes of a line, its end included

	Spelling *Spelling // nil: as Column.Parse reads, and any bytes
}

// Plan says how lines of one form become rows. It is immutable and safe for concurrent
// use; [Plan.Decoder] gives what does the work.
type Plan struct {
	steps  []step
	states int // how many a decoder has
	max    int

	spelling *Spelling
	checked  bool // strings must be valid UTF-8

	quote, comment       uint16 // never: there is none
	delims, quotes, ends uint64 // each byte of a word the delimiter, the quote, LF

	decoders sync.Pool
}

// never is no byte.
const never = 0x100

// step is one cell of a line.
type step struct {
	code   code
	end    byte // behind the cell: the delimiter, or LF
	shift  uint8
	bits   int
	offset uintptr
	column *Column
	state  int // which of the decoder's states is this step's
}

type code uint8

const (
	stepSkip   code = iota // the cell is of no column
	stepCell               // cut out, then as Column.Parse has it
	stepString             // not null
	stepInt                // not null, and so on
	stepUint
	stepFloat64
	stepFloat32
	stepTime
)

// NewPlan makes a plan for lines of len(cells) cells. A cell that is nil belongs to no
// column.
func NewPlan(f Form, cells []*Column) *Plan {
	p := &Plan{max: f.Max, quote: never, comment: never, delims: ones * uint64(f.Delimiter), ends: ones * '\n', quotes: ones * '\n', spelling: f.Spelling}
	if p.spelling == nil {
		p.spelling = new(Spelling)
	}
	p.checked = p.spelling.Text != ""
	if f.Quote != 0 {
		p.quote, p.quotes = uint16(f.Quote), ones*uint64(f.Quote)
	}
	if f.Comment != 0 {
		p.comment = uint16(f.Comment)
	}
	if inValues(f.Delimiter) || inValues(f.Quote) {
		return p // without steps: no line is plain
	}
	p.steps = make([]step, len(cells))
	for i, c := range cells {
		s := &p.steps[i]
		s.end = f.Delimiter
		if i == len(cells)-1 {
			s.end = '\n'
		}
		if c == nil {
			continue
		}
		s.column, s.offset, s.bits, s.shift = c, c.offset, c.Bits, uint8(64-c.Bits)&63
		if s.code = codeOf(c); !p.spelling.quick(s.code, c) {
			s.code = stepCell
		}
		s.state = p.states
		p.states++
	}
	return p
}

// inValues tells the bytes that a number or a time may hold: a text in which such a
// byte ends a cell can't be read without looking for that end first.
func inValues(b byte) bool {
	return '0' <= b && b <= '9' || b == '+' || b == '-' || b == '.' || b == ':' || b == ' ' || b|32 >= 'a' && b|32 <= 'z'
}

func codeOf(c *Column) code {
	if c.null != notNull {
		return stepCell
	}
	switch c.Kind {
	case String:
		return stepString
	case Int:
		return stepInt
	case Uint:
		return stepUint
	case Float:
		if c.Bits == 32 {
			return stepFloat32
		}
		return stepFloat64
	case Time:
		if c.layout != layoutOther {
			return stepTime
		}
	}
	return stepCell
}

// Decoder reads lines into rows. It remembers what repeats from line to line, so it is
// worth keeping; it is for one goroutine at a time.
type Decoder struct {
	plan   *Plan
	states []state
	keeper keeper
	number []byte // of a Spelling
}

// state is what a decoder remembers of one column.
type state struct {
	words *words // of strings

	date date // of a time
}

// date is one that was read: its ten bytes, and its first second.
type date struct {
	lo  uint64
	hi  uint16
	day int64
}

// aDate is any: bytes of zero are none.
var aDate = func() (d date) {
	const text = "1970-01-01"
	p := unsafe.Pointer(unsafe.StringData(text))
	d.lo, d.hi = load(p, 0), uint16(text[8])|uint16(text[9])<<8
	return d
}()

// Decoder gives a decoder, perhaps a used one; Release gives it back.
func (p *Plan) Decoder() *Decoder {
	d, _ := p.decoders.Get().(*Decoder)
	if d == nil {
		d = &Decoder{plan: p, states: make([]state, p.states)}
		for i := range d.states {
			d.states[i].date = aDate
		}
	}
	for i := range d.states {
		if w := d.states[i].words; w != nil {
			w.score = trial // the next text may repeat what the last did not
		}
	}
	return d
}

// Release gives the decoder back to its plan. The strings it made stay.
func (d *Decoder) Release() { d.plan.decoders.Put(d) }

// Keep is a copy of text that stays valid, whatever becomes of text.
func (d *Decoder) Keep(text string) string { return d.keeper.keep(text) }

const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
	zeros = ones * '0'

	// room is more than any value is long that is read in one go, with its quotes and
	// its end: as long as so much is left, nothing reads beyond the text.
	room = 64
)

// Line reads the record that begins at data[at] into the row at p, which must be zero,
// and returns where the next one begins. It returns 0 when the record is not plain: a
// blank line, a comment, more than one line, a doubled quote, an empty cell where there
// is a number, a form of a number that few use, any fault at all. Then the row holds
// anything, and the record is to be read in the careful way, cell by cell with
// [Column.Parse], which also knows what is wrong with it. What is plain gives the same
// row either way.
//
// No string of the row shares memory with data.
func (d *Decoder) Line(data []byte, at int, p unsafe.Pointer) (next int) {
	plan := d.plan
	n := len(data)
	if n-at < room || len(plan.steps) == 0 {
		return 0
	}
	base := unsafe.Pointer(unsafe.SliceData(data))
	if c := byteAt(base, at); c == '\n' || c == '\r' || uint16(c) == plan.comment {
		return 0
	}
	i := at
	for k := range plan.steps {
		s := &plan.steps[k]
		if n-i < room {
			return 0
		}
		quoted := uint16(byteAt(base, i)) == plan.quote
		if quoted {
			i++
		}
		switch s.code {
		case stepInt:
			neg := byteAt(base, i) == '-'
			if neg {
				i++
			}
			x := load(base, i) ^ zeros // as digits does, which is too long to be inlined
			size := bits.TrailingZeros64(nonDigits(x)) >> 3
			m := number(x << ((64 - 8*uint(size)) & 63))
			if uint(size-1) >= 7 { // none, or more than a word has
				if m, size = digits(base, i); uint(size-1) >= maxDigits {
					return 0
				}
			}
			i += size
			v := int64(m)
			if neg {
				v = -v
			}
			if s.bits == 64 {
				*(*int64)(unsafe.Add(p, s.offset)) = v
				break
			}
			if v<<s.shift>>s.shift != v {
				return 0
			}
			putInt(unsafe.Add(p, s.offset), v, s.bits)

		case stepFloat64:
			m, frac, neg, size := plainDecimal(base, i)
			if size == 0 || m >= 1<<53 {
				return 0
			}
			i += size
			f := float64(m) / pow10[frac]
			if neg {
				f = -f
			}
			*(*float64)(unsafe.Add(p, s.offset)) = f

		case stepTime:
			t, size := d.time(s, base, i)
			if size == 0 {
				return 0
			}
			i += size
			*(*time.Time)(unsafe.Add(p, s.offset)) = t

		case stepUint:
			m, size := digits(base, i)
			if uint(size-1) >= maxDigits || !fitsUint(m, s.bits) {
				return 0
			}
			i += size
			putUint(unsafe.Add(p, s.offset), m, s.bits)

		case stepFloat32:
			m, frac, neg, size := plainDecimal(base, i)
			if size == 0 || m >= 1<<24 || frac >= len(pow10f) {
				return 0
			}
			i += size
			f := float32(m) / pow10f[frac]
			if neg {
				f = -f
			}
			*(*float32)(unsafe.Add(p, s.offset)) = f

		default:
			start := i
			first := plan.delims
			if quoted {
				first = plan.quotes
			}
			for {
				if n-i < 8 {
					return 0
				}
				w := load(base, i)
				a, b, c := w^first, w^plan.quotes, w^plan.ends
				// The lowest bit is that of the first byte that is one of the three; bits
				// above it may be wrong.
				if m := ((a-ones)&^a | (b-ones)&^b | (c-ones)&^c) & highs; m != 0 {
					i += bits.TrailingZeros64(m) >> 3
					break
				}
				i += 8
			}
			if n-i < 8 { // keepWord, of a cell that is trimmed
				return 0
			}
			size := i - start
			if !quoted && s.end == '\n' && size > 0 && byteAt(base, i-1) == '\r' {
				size--
			}
			switch s.code {
			case stepString:
				if size > 0 {
					word := d.keepWord(s.state, unsafe.Add(base, start), size)
					if word == "" {
						return 0
					}
					*(*string)(unsafe.Add(p, s.offset)) = word
				}
			case stepCell:
				if !d.cell(s, p, unsafe.String((*byte)(unsafe.Add(base, start)), size)) {
					return 0
				}
			}
		}
		c := byteAt(base, i)
		if quoted {
			if uint16(c) != plan.quote {
				return 0
			}
			i++
			c = byteAt(base, i)
		}
		if c != s.end {
			if s.end != '\n' || c != '\r' || byteAt(base, i+1) != '\n' {
				return 0
			}
			i++
		}
		i++
	}
	if i-at > plan.max {
		return 0
	}
	return i
}

// cell sets the column from a cell that was cut out.
func (d *Decoder) cell(s *step, p unsafe.Pointer, text string) bool {
	sp := d.plan.spelling
	text, empty := sp.read(text)
	switch c := s.column; {
	case empty:
		return c.Empty(p) == nil
	case c.Kind == String && !sp.numeric(c):
		text = d.keepWord(s.state, unsafe.Pointer(unsafe.StringData(text)), len(text))
		return text != "" && c.Parse(p, text) == nil
	default:
		return sp.Set(c, p, text, d) == nil
	}
}

func byteAt(base unsafe.Pointer, i int) byte { return *(*byte)(unsafe.Add(base, i)) }

// load reads eight bytes, the first of them the lowest.
func load(base unsafe.Pointer, i int) uint64 {
	return binary.LittleEndian.Uint64((*[8]byte)(unsafe.Add(base, i))[:])
}

// maxDigits cannot overflow.
const maxDigits = 18

// nonDigits marks, of a word xored with zeros, the bytes that are no digits. What is
// above a byte that is not ASCII may be marked wrongly.
func nonDigits(x uint64) uint64 { return (x + ones*(0x80-10) | x) & highs }

// number is the value of eight digits, the first of them the lowest byte: pairs, then
// fours, then all.
func number(x uint64) uint64 {
	x = x*10 + x>>8
	return ((x&0x000000ff000000ff)*(100+1000000<<32) + (x>>16&0x000000ff000000ff)*(1+10000<<32)) >> 32
}

// digits reads as many digits as there are. The value is wrong of more than maxDigits,
// when size may be less than their number, but more than maxDigits.
func digits(base unsafe.Pointer, i int) (v uint64, size int) {
	for {
		x := load(base, i+size) ^ zeros
		more := bits.TrailingZeros64(nonDigits(x)) >> 3
		if more > 0 {
			v = v*wholePow10[more] + number(x<<((64-8*uint(more))&63))
		}
		if size += more; more < 8 || size > maxDigits {
			return v, size
		}
	}
}

var wholePow10 = [...]uint64{1, 10, 100, 1000, 10000, 100000, 1000000, 10000000, 100000000, 1000000000}

// plainDecimal reads ±m/10^frac, of at most maxDigits digits; size is 0 if there is none.
func plainDecimal(base unsafe.Pointer, i int) (m uint64, frac int, neg bool, size int) {
	sign := 0
	if byteAt(base, i) == '-' {
		neg, sign = true, 1
		i++
	}
	x := load(base, i) ^ zeros
	marks := nonDigits(x)
	point := uint(bits.TrailingZeros64(marks)) &^ 7 // in bits
	if x>>point&0xff != '.'^'0' {
		if size = int(point >> 3); size == 0 {
			return 0, 0, false, 0
		}
		if size < 8 {
			return number(x << (-point & 63)), 0, neg, size + sign
		}
		return longDecimal(base, i, neg, sign)
	}
	end := uint(bits.TrailingZeros64(marks&(marks-1))) &^ 7
	if end == 64 {
		return longDecimal(base, i, neg, sign)
	}
	if end == 8 { // a point alone
		return 0, 0, false, 0
	}
	// The digits before the point move up to those behind it.
	x = x&(1<<point-1) | x>>8&^(1<<point-1)
	return number(x << ((72 - end) & 63)), int(end-point)>>3 - 1, neg, int(end>>3) + sign
}

// longDecimal is plainDecimal for what fills more than a word; i is behind the sign.
func longDecimal(base unsafe.Pointer, i int, neg bool, sign int) (m uint64, frac int, _ bool, size int) {
	m, size = digits(base, i)
	if size > maxDigits {
		return 0, 0, false, 0
	}
	if byteAt(base, i+size) != '.' {
		return m, 0, neg, size + sign
	}
	f, frac := digits(base, i+size+1)
	if n := size + frac; n == 0 || n > maxDigits {
		return 0, 0, false, 0
	}
	for more := frac; more > 0; more -= 9 {
		m *= wholePow10[min(more, 9)]
	}
	return m + f, frac, neg, size + 1 + frac + sign
}

// time reads what is at i as Column.parseTime does, but for zones; size is 0 for
// anything else. What follows is not looked at.
func (d *Decoder) time(s *step, base unsafe.Pointer, i int) (t time.Time, size int) {
	last := &d.states[s.state].date
	lo, hi := load(base, i), uint16(byteAt(base, i+8))|uint16(byteAt(base, i+9))<<8
	if lo != last.lo || hi != last.hi {
		day, valid := fastDate(unsafe.String((*byte)(unsafe.Add(base, i)), len(time.DateOnly)))
		if !valid {
			return t, 0
		}
		*last = date{lo, hi, day}
	}
	sep := byteAt(base, i+10)
	layout := s.column.layout
	if layout == layoutDateOnly || layout == layoutDefault && sep != ' ' && sep != 'T' {
		return time.Unix(last.day, 0).UTC(), len(time.DateOnly)
	}
	if sep != ' ' && layout == layoutDateTime {
		return t, 0
	}
	// 15:04:05 is one word: digits are below ten, colons nothing.
	const clock = '0'<<56 | '0'<<48 | ':'<<40 | '0'<<32 | '0'<<24 | ':'<<16 | '0'<<8 | '0'
	const above = 0x76<<56 | 0x76<<48 | 0x7f<<40 | 0x76<<32 | 0x76<<24 | 0x7f<<16 | 0x76<<8 | 0x76
	x := load(base, i+11) ^ clock
	if (x+above|x)&highs != 0 {
		return t, 0
	}
	x = x*10 + x>>8
	hour, minute, sec := x&0xff, x>>24&0xff, x>>48&0xff
	if hour > 23 || minute > 59 || sec > 59 {
		return t, 0
	}
	at := last.day + int64(hour*3600+minute*60+sec)
	size = len(time.DateTime)
	if layout == layoutDateTime {
		return time.Unix(at, 0).UTC(), size
	}
	var nano uint64
	if byteAt(base, i+size) == '.' {
		f, n := digits(base, i+size+1)
		if uint(n-1) >= 9 {
			return t, 0
		}
		nano = f * wholePow10[9-n]
		size += 1 + n
	}
	if sep == 'T' && byteAt(base, i+size) == 'Z' {
		size++
	}
	return time.Unix(at, int64(nano)).UTC(), size
}

// keepWord keeps text of a column, which probably came before: the same memory then
// serves again. Behind the text, which is not empty, are at least eight bytes more. It gives "" for
// a text that is not what strings must be.
func (d *Decoder) keepWord(state int, p unsafe.Pointer, size int) string {
	st := &d.states[state]
	w := st.words
	if w == nil {
		w = &words{score: trial}
		st.words = w
	}
	if size > longestWord || w.score <= 0 {
		if d.plan.checked && !utf8.ValidString(unsafe.String((*byte)(p), size)) {
			return ""
		}
		return d.keeper.keep(unsafe.String((*byte)(p), size))
	}
	lo, hi := load(p, 0), uint64(0)
	if size <= 8 {
		lo &= 1<<(8*uint(size)) - 1
	} else {
		hi = load(p, size-8)
	}
	slot := &w.slots[(lo^hi*0x9e3779b97f4a7c15)*0xff51afd7ed558ccd>>(64-wordBits)]
	if slot.lo == lo && slot.hi == hi && len(slot.text) == size && (size <= 16 || slot.text == unsafe.String((*byte)(p), size)) {
		w.score++
		return slot.text
	}
	if d.plan.checked && !utf8.ValidString(unsafe.String((*byte)(p), size)) {
		return ""
	}
	w.score--
	slot.lo, slot.hi, slot.text = lo, hi, w.keeper.keepIn(unsafe.String((*byte)(p), size), wordBlock)
	return slot.text
}

const (
	wordBits    = 8
	longestWord = 32
	trial       = 64 // words that a column may miss before it stops asking
)

// words are the strings that a column held lately, each where its bytes say: a later
// one takes the place of an older one. A column whose strings do not repeat stops
// asking, until the decoder is used again.
type words struct {
	slots  [1 << wordBits]word
	score  int // hits less misses
	keeper keeper
}

type word struct {
	lo, hi uint64 // the first eight bytes, and the last eight of a longer text
	text   string
}

// keeper copies strings into blocks of memory, which are never used again: a string
// that is kept for long keeps its block.
type keeper struct{ block strings.Builder }

const (
	keepBlock = 32 << 10 // the largest that Go gives out quickly
	wordBlock = 2 << 10  // of strings that may be kept as long as the decoder
)

func (k *keeper) keep(text string) string { return k.keepIn(text, keepBlock) }

func (k *keeper) keepIn(text string, size int) string {
	if k.block.Cap()-k.block.Len() < len(text) {
		if len(text) > size/4 {
			return strings.Clone(text)
		}
		k.block.Reset()
		k.block.Grow(size)
	}
	at := k.block.Len()
	k.block.WriteString(text)
	return k.block.String()[at:]
}
