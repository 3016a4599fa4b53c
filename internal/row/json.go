package row

import (
	"encoding/base64"
	"encoding/json"
	"math"
	"reflect"
	"strconv"
	"time"
	"unicode/utf8"
	"unsafe"
)

// AppendJSON appends the row at p to dst as one JSON object, with all columns in
// order and nothing else: no newline, and no origins.
//
// Null is null; integers have all their digits; a time is a string in the
// column's layout, a duration is whole nanoseconds, bytes are base64 ("" when
// nil). A type with a MarshalJSON of its own (time.Time apart) and a column of
// kind Other are written by encoding/json, any other Text as a string. Bytes that
// are not UTF-8 become U+FFFD, as in encoding/json; <, > and & stay as they are.
// The options of json tags (omitempty, string) are not looked at.
//
// On error, which is an *[Error] naming the column, dst is returned as it was:
// NaN and infinities have no JSON form, nor has a time outside the years 0 to
// 9999, and what MarshalJSON and MarshalText return is passed on.
func (t *Type) AppendJSON(dst []byte, p unsafe.Pointer) ([]byte, error) {
	out := append(dst, '{')
	for i := range t.Columns {
		c := &t.Columns[i]
		if i > 0 {
			out = append(out, ',')
		}
		out = append(out, c.jsonKey...)
		var err error
		if out, err = c.appendJSON(out, p); err != nil {
			return dst, err
		}
	}
	return append(out, '}'), nil
}

func (c *Column) appendJSON(dst []byte, p unsafe.Pointer) ([]byte, error) {
	q := c.At(p)
	if q == nil {
		return append(dst, "null"...), nil
	}
	if c.ownJSON {
		return c.appendAny(dst, q)
	}
	switch c.Kind {
	case String:
		return appendString(dst, *(*string)(q)), nil
	case Int:
		return strconv.AppendInt(dst, getInt(q, c.Bits), 10), nil
	case Float:
		f := getFloat(q, c.Bits)
		if !finite(f) {
			return dst, c.fail(RuleRange, strconv.FormatFloat(f, 'g', -1, 64), "cannot be written as JSON", nil)
		}
		return appendFloat(dst, f, c.Bits), nil
	case Time:
		return c.appendJSONTime(dst, *(*time.Time)(q))
	case Uint:
		return strconv.AppendUint(dst, getUint(q, c.Bits), 10), nil
	case Bool:
		return strconv.AppendBool(dst, *(*bool)(q)), nil
	case Duration:
		return strconv.AppendInt(dst, *(*int64)(q), 10), nil
	case Bytes:
		dst = append(dst, '"')
		dst = base64.StdEncoding.AppendEncode(dst, *(*[]byte)(q))
		return append(dst, '"'), nil
	}
	b, err := c.marshalText(q)
	if err != nil {
		return dst, err
	}
	return appendString(dst, string(b)), nil
}

func (c *Column) appendJSONTime(dst []byte, t time.Time) ([]byte, error) {
	if y := t.UTC().Year(); y < 0 || y > 9999 {
		return dst, c.fail(RuleRange, t.String(), "cannot be written: its year is outside 0 to 9999", nil)
	}
	start := len(dst)
	dst = append(dst, '"')
	dst = c.AppendTime(dst, t)
	if c.layout == layoutOther {
		// The layout's own letters may need escapes.
		return appendString(dst[:start], string(dst[start+1:])), nil
	}
	return append(dst, '"'), nil
}

// noneExtra tells that q is a nil map of extra fields, as it is in most rows.
func (c *Column) noneExtra(q unsafe.Pointer) bool { return c.Extra && *(*unsafe.Pointer)(q) == nil }

// appendAny leaves the value at q to encoding/json.
func (c *Column) appendAny(dst []byte, q unsafe.Pointer) ([]byte, error) {
	if c.noneExtra(q) {
		return append(dst, "{}"...), nil
	}
	w := writer{dst}
	enc := json.NewEncoder(&w)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(reflect.NewAt(c.elem, q).Interface()); err != nil {
		return dst, c.fail(RuleType, "", "the "+c.elem.String()+" cannot be written as JSON", err)
	}
	return w.b[:len(w.b)-1], nil // without the newline of Encode
}

type writer struct{ b []byte }

func (w *writer) Write(p []byte) (int, error) {
	w.b = append(w.b, p...)
	return len(p), nil
}

// appendFloat writes a number as encoding/json does (and so as JavaScript does).
func appendFloat(dst []byte, f float64, bits int) []byte {
	abs := math.Abs(f)
	format := byte('f')
	if abs != 0 && (bits == 64 && (abs < 1e-6 || abs >= 1e21) ||
		bits == 32 && (float32(abs) < 1e-6 || float32(abs) >= 1e21)) {
		format = 'e'
	}
	dst = strconv.AppendFloat(dst, f, format, -1, bits)
	if format == 'e' {
		// e-09 to e-9
		if n := len(dst); n >= 4 && dst[n-4] == 'e' && (dst[n-3] == '-' || dst[n-3] == '+') && dst[n-2] == '0' {
			dst[n-2] = dst[n-1]
			dst = dst[:n-1]
		}
	}
	return dst
}

const hex = "0123456789abcdef"

// plain marks the ASCII bytes that stand for themselves inside a JSON string.
var plain = func() (t [utf8.RuneSelf]bool) {
	for b := byte(' '); b < utf8.RuneSelf; b++ {
		t[b] = b != '"' && b != '\\'
	}
	return t
}()

// appendString writes what encoding/json writes without HTML escapes, byte for byte.
func appendString(dst []byte, s string) []byte {
	dst = append(dst, '"')
	start := 0
	for i := 0; i < len(s); {
		if b := s[i]; b < utf8.RuneSelf {
			if plain[b] {
				i++
				continue
			}
			dst = append(dst, s[start:i]...)
			switch b {
			case '\\', '"':
				dst = append(dst, '\\', b)
			case '\b':
				dst = append(dst, '\\', 'b')
			case '\f':
				dst = append(dst, '\\', 'f')
			case '\n':
				dst = append(dst, '\\', 'n')
			case '\r':
				dst = append(dst, '\\', 'r')
			case '\t':
				dst = append(dst, '\\', 't')
			default:
				dst = append(dst, '\\', 'u', '0', '0', hex[b>>4], hex[b&0xF])
			}
			i++
			start = i
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			dst = append(dst, s[start:i]...)
			dst = append(dst, `\ufffd`...)
			start = i + size
		case r == '\u2028' || r == '\u2029':
			// Legal JSON, but line ends to JavaScript.
			dst = append(dst, s[start:i]...)
			dst = append(dst, '\\', 'u', '2', '0', '2', hex[r&0xF])
			start = i + size
		}
		i += size
	}
	dst = append(dst, s[start:]...)
	return append(dst, '"')
}
