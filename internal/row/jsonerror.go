package row

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// The rules that a [JSONError] may name, beside those of an [Error].
const (
	RuleDepth     = "depth"     // too many arrays and objects in each other
	RuleDuplicate = "duplicate" // a key that came before
	RuleUnknown   = "unknown"   // a key without a column
	RuleMissing   = "missing"   // a column without a key
	RuleNull      = "null"      // null in a column that has none
)

// JSONError says why a JSON text is no row, in words for the people who mend the data:
//
//	column cantidad: "300" is out of range for int8 (byte 18, $.cantidad)
//
// It keeps no part of the text it was made from.
type JSONError struct {
	Column string // "" when it is about the whole text
	Byte   int    // where in the text, from 1
	Path   string // $.items[3].precio: in which value
	Msg    string
	Err    error // the cause, when a type's own form refused the value; else nil

	rule string
}

// Rule returns one of "syntax", "utf8", "depth", "duplicate", "unknown", "missing",
// "null", "type" and "range".
func (e *JSONError) Rule() string { return e.rule }

// Unwrap returns the cause.
func (e *JSONError) Unwrap() error { return e.Err }

// Field gives column and rule, as the engine's statistics ask for them.
func (e *JSONError) Field() (column, rule string) { return e.Column, e.rule }

// Error returns one line of printable text, whatever the text held.
func (e *JSONError) Error() string { return e.Msg }

// error makes the fault of a text, which begins at data[at], an error.
func (s *scanner) error(at int) error {
	f := &s.fault
	e := &JSONError{Byte: f.at - at + 1, Path: pathOf(s.data[at:min(f.at, len(s.data))]), rule: f.rule}
	if f.column != nil {
		e.Column = f.column.Name
	}
	if f.rule == RuleMissing {
		e.Path = "$" // not that of the last key
	}
	var cell *Error
	switch {
	case errors.As(f.err, &cell):
		e.Column, e.rule, e.Err = cell.Column, cell.Rule(), cell.Err
		e.Msg = cell.Error()
	case e.Column != "":
		e.Msg = "column " + e.Column + ": " + f.msg
	default:
		e.Msg = "the JSON text is refused: " + f.msg
	}
	e.Msg += fmt.Sprintf(" (byte %d, %s)", e.Byte, e.Path)
	return e
}

// longestPath is enough for people.
const longestPath = 200

// pathOf is the path of what begins behind text, which has no fault.
func pathOf(text []byte) string {
	type level struct {
		object bool
		index  int
		key    []byte
	}
	var open []level
	deeper := 0
	var last []byte // string
	for i := 0; i < len(text); i++ {
		top := len(open) - 1
		switch c := text[i]; c {
		case '{', '[':
			if deeper > 0 || len(open) == maxValue {
				deeper++ // nobody reads so long a path
				continue
			}
			open = append(open, level{object: c == '{'})
		case '}', ']':
			if deeper > 0 {
				deeper--
			} else if top >= 0 {
				open = open[:top]
			}
		case ',':
			if top >= 0 && deeper == 0 {
				open[top].index++
				open[top].key = nil
			}
		case ':':
			if top >= 0 && deeper == 0 {
				open[top].key = last
			}
		case '"':
			start := i + 1
			for i++; i < len(text) && text[i] != '"'; i++ {
				if text[i] == '\\' {
					i++
				}
			}
			last = text[start:min(i, len(text))]
		}
	}
	var b strings.Builder
	b.WriteByte('$')
	for _, l := range open {
		switch {
		case !l.object:
			fmt.Fprintf(&b, "[%d]", l.index)
		case l.key == nil: // between two keys
		case isName(l.key):
			b.WriteByte('.')
			b.Write(l.key)
		default:
			b.WriteString("[" + strconv.Quote(cut(string(l.key), maxValue)) + "]")
		}
		if b.Len() > longestPath {
			b.WriteString("…")
			break
		}
	}
	return b.String()
}

// isName tells whether a key needs no quotes.
func isName(key []byte) bool {
	for _, c := range key {
		if c != '_' && c-'0' > 9 && (c|32 < 'a' || c|32 > 'z') {
			return false
		}
	}
	return len(key) > 0 && len(key) <= maxValue
}
