package row

import (
	"bytes"
	"fmt"
	"math/bits"
	"unicode/utf8"
	"unsafe"
)

// scanner walks one JSON text: RFC 8259, and of what that leaves to readers the strict
// choice. Strings must be UTF-8, and escaped surrogates must be pairs.
//
// Its methods take the place of what they read and return the place behind it, or -1
// when something is wrong; why is in fault.
type scanner struct {
	data  []byte
	lines bool // LF ends the text, wherever it is
	max   int  // arrays and objects in each other
	stack []bool
	fault fault

	escaped bool // the last string has escapes
	whole   bool // the last number has no point and no exponent
}

// fault is why a text was refused.
type fault struct {
	rule   string
	at     int    // in data
	msg    string // for people
	column *Column
	err    error // an *Error that has the words, or nil
}

// fail is kept out of line so that the scanners stay small.
//
//go:noinline
func (s *scanner) fail(rule string, at int, format string, args ...any) int {
	s.fault = fault{rule: rule, at: at, msg: fmt.Sprintf(format, args...)}
	return -1
}

// unexpected says what was wanted at i, and what is there.
//
//go:noinline
func (s *scanner) unexpected(i int, wanted string) int {
	if s.ended(i) {
		return s.fail(RuleSyntax, i, "it ends where there should be %s", wanted)
	}
	r, size := utf8.DecodeRune(s.data[i:])
	if r == utf8.RuneError && size == 1 {
		return s.fail(RuleSyntax, i, "there is byte 0x%02x where there should be %s", s.data[i], wanted)
	}
	return s.fail(RuleSyntax, i, "there is %q where there should be %s", r, wanted)
}

// ended tells whether the text ends at i.
func (s *scanner) ended(i int) bool {
	return i >= len(s.data) || s.lines && s.data[i] == '\n'
}

// space passes over white space. Data may end there.
func (s *scanner) space(i int) int {
	for i < len(s.data) {
		switch s.data[i] {
		case ' ', '\t', '\r':
		case '\n':
			if s.lines {
				return i
			}
		default:
			return i
		}
		i++
	}
	return i
}

// is tells whether the byte at i is c.
func (s *scanner) is(i int, c byte) bool { return i < len(s.data) && s.data[i] == c }

// value passes over any value at i, which lies in depth arrays and objects. It does not
// call itself, so that depth costs no stack.
func (s *scanner) value(i, depth int) int {
	stack := s.stack[:0] // what is open: true is an object
	for {
		i = s.space(i)
		if s.ended(i) {
			return s.unexpected(i, "a value")
		}
		switch c := s.data[i]; c {
		case '{', '[':
			if depth+len(stack) >= s.max {
				return s.fail(RuleDepth, i, "there are more than %d arrays and objects in each other", s.max)
			}
			stack = append(stack, c == '{')
			s.stack = stack
			i = s.space(i + 1)
			if s.is(i, c+2) { // } and ]
				stack = stack[:len(stack)-1]
				i++
				break
			}
			if c == '{' {
				if i = s.key(i); i < 0 {
					return -1
				}
			}
			continue
		case '"':
			i = s.str(i)
		case '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
			i = s.number(i)
		case 't':
			i = s.literal(i, "true")
		case 'f':
			i = s.literal(i, "false")
		case 'n':
			i = s.literal(i, "null")
		default:
			return s.unexpected(i, "a value")
		}
		if i < 0 {
			return -1
		}
		for more := false; !more; {
			if len(stack) == 0 {
				return i
			}
			i = s.space(i)
			object := stack[len(stack)-1]
			switch {
			case s.is(i, ','):
				i++
				if object {
					if i = s.key(s.space(i)); i < 0 {
						return -1
					}
				}
				more = true
			case object && s.is(i, '}'), !object && s.is(i, ']'):
				i++
				stack = stack[:len(stack)-1]
			case object:
				return s.unexpected(i, "',' or '}'")
			default:
				return s.unexpected(i, "',' or ']'")
			}
		}
	}
}

// key passes over a key and its colon.
func (s *scanner) key(i int) int {
	if !s.is(i, '"') {
		return s.unexpected(i, "a key in quotes")
	}
	if i = s.str(i); i < 0 {
		return -1
	}
	i = s.space(i)
	if !s.is(i, ':') {
		return s.unexpected(i, "':'")
	}
	return i + 1
}

func (s *scanner) literal(i int, word string) int {
	for k := range len(word) {
		if !s.is(i+k, word[k]) {
			return s.unexpected(i+k, "the rest of "+word)
		}
	}
	return i + len(word)
}

// number passes over a number. What follows is not looked at.
func (s *scanner) number(i int) int {
	if s.data[i] == '-' {
		i++
	}
	if s.is(i, '0') {
		i++
	} else if i = s.digits(i); i < 0 {
		return -1
	}
	s.whole = true
	if s.is(i, '.') {
		s.whole = false
		if i = s.digits(i + 1); i < 0 {
			return -1
		}
	}
	if i < len(s.data) && s.data[i]|32 == 'e' {
		s.whole = false
		i++
		if i < len(s.data) && (s.data[i] == '+' || s.data[i] == '-') {
			i++
		}
		return s.digits(i)
	}
	return i
}

func (s *scanner) digits(i int) int {
	start := i
	for i < len(s.data) && s.data[i]-'0' <= 9 {
		i++
	}
	if i == start {
		return s.unexpected(i, "a digit")
	}
	return i
}

// str passes over the string that begins with the quote at i.
func (s *scanner) str(i int) int {
	data := s.data
	i++
	start, high := i, uint64(0)
	s.escaped = false
	for {
		for len(data)-i >= 8 {
			w := load(unsafe.Pointer(unsafe.SliceData(data)), i)
			m := stringEnds(w)
			if m != 0 {
				high |= w & (m&-m - 1)
				i += bits.TrailingZeros64(m) >> 3
				break
			}
			high |= w
			i += 8
		}
		if i >= len(data) {
			return s.fail(RuleSyntax, i, "it ends inside a string")
		}
		switch c := data[i]; {
		case c == '"':
			if high&highs != 0 {
				if at := invalid(data[start:i]); at >= 0 {
					return s.fail(RuleUTF8, start+at, "byte 0x%02x is not UTF-8", data[start+at])
				}
			}
			return i + 1
		case c == '\\':
			s.escaped = true
			if i = s.escape(i); i < 0 {
				return -1
			}
		case c < ' ':
			if s.ended(i) {
				return s.fail(RuleSyntax, i, "it ends inside a string")
			}
			return s.fail(RuleSyntax, i, "there is the control character 0x%02x in a string; it must be written with a backslash", c)
		default: // of the last bytes of data
			high |= uint64(c)
			i++
		}
	}
}

// stringEnds marks the bytes of a word that end a run of plain characters: quote,
// backslash and control characters. The lowest mark is right; those above may be wrong.
func stringEnds(w uint64) uint64 {
	a, b := w^ones*'"', w^ones*'\\'
	return ((a-ones)&^a | (b-ones)&^b | (w-ones*' ')&^w) & highs
}

// invalid is the place of the first byte that is not UTF-8, or -1.
func invalid(b []byte) int {
	if utf8.Valid(b) {
		return -1
	}
	i := 0
	for {
		r, size := utf8.DecodeRune(b[i:])
		if r == utf8.RuneError && size == 1 {
			return i
		}
		i += size
	}
}

// escape passes over the escape that begins with the backslash at i; a pair of
// surrogates is one.
func (s *scanner) escape(i int) int {
	i++
	if s.ended(i) {
		return s.fail(RuleSyntax, i, "it ends inside a string")
	}
	switch s.data[i] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return i + 1
	case 'u':
	default:
		return s.unexpected(i, `one of "\/bfnrtu behind the backslash`)
	}
	u := hex4(s.data[i+1:])
	switch {
	case u < 0:
		return s.fail(RuleSyntax, i-1, `behind \u there should be four hexadecimal digits`)
	case u < 0xd800 || u > 0xdfff:
		return i + 5
	case u < 0xdc00 && s.is(i+5, '\\') && s.is(i+6, 'u'):
		if low := hex4(s.data[i+7:]); low >= 0xdc00 && low <= 0xdfff {
			return i + 11
		}
	}
	return s.fail(RuleUTF8, i-1, `\u%04x is half of a pair of surrogates, without the other half`, u)
}

// hex4 is the number that b begins with, or -1.
func hex4(b []byte) rune {
	if len(b) < 4 {
		return -1
	}
	var u rune
	for _, c := range b[:4] {
		switch {
		case c-'0' <= 9:
			c -= '0'
		case c|32 >= 'a' && c|32 <= 'f':
			c = c | 32 - 'a' + 10
		default:
			return -1
		}
		u = u<<4 | rune(c)
	}
	return u
}

// unescape appends what a string without faults, its quotes left out, stands for.
func unescape(dst, b []byte) []byte {
	for {
		i := bytes.IndexByte(b, '\\')
		if i < 0 {
			return append(dst, b...)
		}
		dst = append(dst, b[:i]...)
		c := b[i+1]
		b = b[i+2:]
		switch c {
		case 'b':
			c = '\b'
		case 'f':
			c = '\f'
		case 'n':
			c = '\n'
		case 'r':
			c = '\r'
		case 't':
			c = '\t'
		case 'u':
			r := hex4(b)
			b = b[4:]
			if r >= 0xd800 && r <= 0xdbff {
				r = 0x10000 + (r-0xd800)<<10 + hex4(b[2:]) - 0xdc00
				b = b[6:]
			}
			dst = utf8.AppendRune(dst, r)
			continue
		}
		dst = append(dst, c)
	}
}

// compact appends a value without faults, without its white space.
func compact(dst, b []byte) []byte {
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case ' ', '\t', '\r', '\n':
		case '"':
			start := i
			for i++; b[i] != '"'; i++ {
				if b[i] == '\\' {
					i++
				}
			}
			dst = append(dst, b[start:i+1]...)
		default:
			dst = append(dst, b[i])
		}
	}
	return dst
}
