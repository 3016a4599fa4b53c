package row

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// The rules an [Error] may name: short and few, because statistics count by them.
const (
	RuleRange  = "range"  // well formed, but the column cannot hold it
	RuleSyntax = "syntax" // not the text of such a value
	RuleEmpty  = "empty"  // an empty cell in a column without null
	RuleUTF8   = "utf8"   // not text, in the encoding that the source has
	RuleType   = "type"   // this column never takes or gives such a value
)

// Error says why one cell was refused, in words for the people who mend the data:
//
//	column cantidad: "300" is out of range for int8
//
// It keeps no part of the text it was made from.
type Error struct {
	Column string
	Value  string // the cell as it came, cut to 64 bytes; quote it before printing
	Msg    string // what is wrong, to be read after the value
	Err    error  // the cause, when a type's own text form refused the value; else nil

	rule string
	size int // of the whole cell
}

const maxValue = 64

// fail is kept out of line so that the parsers stay small.
//
//go:noinline
func (c *Column) fail(rule, value, msg string, cause error) error {
	// A copy: the text is a piece of a read buffer that is used again.
	return &Error{Column: c.Name, Value: strings.Clone(cut(value, maxValue)), Msg: msg, Err: cause, rule: rule, size: len(value)}
}

// Rule returns one of "range", "syntax", "empty", "utf8" and "type".
func (e *Error) Rule() string { return e.rule }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Error returns one line of printable text, whatever the cell held.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString("column ")
	b.WriteString(e.Column)
	b.WriteString(": ")
	if e.Value != "" {
		b.WriteString(strconv.Quote(e.Value))
		if e.size > len(e.Value) {
			fmt.Fprintf(&b, "… (%d bytes)", e.size)
		}
		b.WriteByte(' ')
	}
	b.WriteString(e.Msg)
	if e.Err != nil {
		b.WriteString(": ")
		b.WriteString(oneLine(e.Err.Error()))
	}
	return b.String()
}

// cut shortens s to at most n bytes without splitting a character.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	end := n
	for end > n-utf8.UTFMax && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end]
}

// oneLine makes somebody else's error text fit for a log line: it often repeats the cell.
func oneLine(s string) string {
	const most = 200
	short := cut(s, most)
	if q := strconv.Quote(short); len(q) != len(short)+2 {
		short = q[1 : len(q)-1]
		short = strings.ReplaceAll(short, `\"`, `"`)
	}
	if len(s) > most {
		short += "…"
	}
	return short
}

// Field gives column and rule, as the engine's statistics ask for them.
func (e *Error) Field() (column, rule string) { return e.Column, e.Rule() }
