package csvsink

import (
	"math"
	"strconv"
	"time"
	"unicode/utf8"
	"unsafe"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/row"
)

// encoder writes rows as records of RFC 4180.
type encoder struct {
	columns []row.Column
	delim   byte
	end     string
	guard   bool
	special [256]bool // bytes that a field without quotes can't hold
}

func newEncoder(t *row.Type, delim rune, crlf, guard bool) *encoder {
	e := &encoder{columns: t.Columns, delim: byte(delim), end: "\n", guard: guard}
	if crlf {
		e.end = "\r\n"
	}
	for _, b := range []byte{e.delim, '"', '\r', '\n'} {
		e.special[b] = true
	}
	return e
}

// header is the first line of each file.
func (e *encoder) header() (line []byte) {
	for i := range e.columns {
		if i > 0 {
			line = append(line, e.delim)
		}
		line = e.text(line, e.columns[i].Name, i == 0)
	}
	return append(line, e.end...)
}

// row appends the record of the row at p. On error, which is the row's own fault,
// dst is returned as it was.
func (e *encoder) row(dst []byte, p unsafe.Pointer) ([]byte, error) {
	out := dst
	for i := range e.columns {
		c := &e.columns[i]
		if i > 0 {
			out = append(out, e.delim)
		}
		v, err := c.Value(p)
		if err != nil {
			return dst, err
		}
		if v.Null {
			if len(e.columns) == 1 {
				out = append(out, `""`...) // an empty line would be no record
			}
			continue
		}
		switch v.Kind {
		case row.String:
			if e.guard && formula(v.Str) && (c.Kind != row.Text || !number(v.Str)) {
				out = e.quoted(append(out, `"'`...), v.Str)
				continue
			}
			out = e.text(out, v.Str, i == 0)
		case row.Bytes:
			s := unsafe.String(unsafe.SliceData(v.Bytes), len(v.Bytes))
			if e.guard && formula(s) {
				out = e.quoted(append(out, `"'`...), s)
				continue
			}
			out = e.text(out, s, i == 0)
		case row.Int, row.Duration:
			out = strconv.AppendInt(out, v.Int, 10)
		case row.Uint:
			out = strconv.AppendUint(out, v.Uint, 10)
		case row.Bool:
			out = strconv.AppendBool(out, v.Int != 0)
		case row.Float:
			if math.IsNaN(v.Float) || math.IsInf(v.Float, 0) {
				return dst, &leat.FieldError{Column: c.Name, Rule: row.RuleRange, Msg: "column " + c.Name + ": " + strconv.FormatFloat(v.Float, 'g', -1, 64) + " has no form in CSV that readers agree on"}
			}
			out = appendFloat(out, v.Float, c.Bits)
		case row.Time:
			if out, err = e.time(out, c, v.Time, i == 0); err != nil {
				return dst, err
			}
		}
	}
	return append(out, e.end...), nil
}

// text appends a field, in quotes when it needs them: for what would end it, and
// for what some reader would take for something else: nothing at all (null),
// spaces at the ends, a comment, the end of data in PostgreSQL.
func (e *encoder) text(dst []byte, s string, first bool) []byte {
	if s == "" || s[0] == ' ' || s[0] == '\t' || s[len(s)-1] == ' ' || s[len(s)-1] == '\t' || first && s[0] == '#' || s == `\.` {
		return e.quoted(append(dst, '"'), s)
	}
	for i := range len(s) {
		if e.special[s[i]] {
			return e.quoted(append(dst, '"'), s)
		}
	}
	return append(dst, s...)
}

// quoted appends the rest of a field whose first quote is there.
func (e *encoder) quoted(dst []byte, s string) []byte {
	from := 0
	for i := range len(s) {
		if s[i] == '"' {
			dst = append(append(dst, s[from:i+1]...), '"')
			from = i + 1
		}
	}
	return append(append(dst, s[from:]...), '"')
}

func (e *encoder) time(dst []byte, c *row.Column, t time.Time, first bool) ([]byte, error) {
	if y := t.UTC().Year(); y < 0 || y > 9999 {
		return dst, &leat.FieldError{Column: c.Name, Rule: row.RuleRange, Msg: "column " + c.Name + ": " + t.String() + " cannot be written: its year is outside 0 to 9999"}
	}
	start := len(dst)
	dst = c.AppendTime(dst, t)
	plain := len(dst) > start && dst[start] != ' ' && dst[len(dst)-1] != ' ' && dst[start] != '#'
	for _, b := range dst[start:] {
		plain = plain && !e.special[b]
	}
	if !plain { // a layout with letters of its own
		return e.text(dst[:start], string(dst[start:]), first), nil
	}
	return dst, nil
}

// appendFloat writes a number as JSON does, with digits for all but the very large
// and the very small.
func appendFloat(dst []byte, f float64, bits int) []byte {
	format := byte('f')
	if abs := math.Abs(f); abs != 0 && (abs < 1e-6 || abs >= 1e21) {
		format = 'e'
	}
	return strconv.AppendFloat(dst, f, format, -1, bits)
}

// formula tells whether a spreadsheet would calculate what s says.
func formula(s string) bool {
	if s == "" {
		return false
	}
	switch s[0] {
	case '=', '+', '-', '@', '\t', '\r':
		return true
	}
	// Full-width forms, which some spreadsheets take for the plain ones.
	r, _ := utf8.DecodeRuneInString(s)
	return r == '＝' || r == '＋' || r == '－' || r == '＠'
}

// number tells whether s, the text of a value that is no string, is just a number.
func number(s string) bool {
	digits := false
	for i := range len(s) {
		switch b := s[i]; {
		case '0' <= b && b <= '9':
			digits = true
		case b == '+' || b == '-':
			if i > 0 && s[i-1] != 'e' && s[i-1] != 'E' {
				return false
			}
		case b == '.':
		case b == 'e' || b == 'E':
			if !digits {
				return false
			}
		default:
			return false
		}
	}
	return digits
}
