package csvtext

import (
	"bytes"
	"strings"
)

// form says how a lenient field that begins with a quote is to be read.
type form uint8

const (
	formQuoted form = iota // from the quote to the closing one; single quotes in between are text
	formTail               // the same, and text behind the closing quote up to the field's end
	formBare               // the quote is text: it was never closed as it must be
)

// loose reads the field that a quote opens at win[open], where win begins with its
// record: the closing quote's place, and the place behind the field, which is that of a delimiter,
// a line end, or the window's end. eof and over are as in scanRecord; without both, ok
// is false when the answer lies behind the window.
//
// rule D6: all is decided by the record's own bytes. What is behind the line on which a
// field opened matters only to a field that is closed there.
func (d *Dialect) loose(win []byte, open int, eof, over bool) (f form, closing, end int, ok bool) {
	for i := open + 1; ; {
		q := bytes.IndexByte(win[i:], d.Quote)
		if q < 0 {
			return d.looseBare(win, open, eof || over, eof || over)
		}
		i += q + 1
		switch d.behind(win, i, eof, over) {
		case behindMore:
			return 0, 0, 0, false
		case behindWindow:
			return d.looseBare(win, open, true, true)
		case behindQuote:
			i++
		case behindEnd:
			return formQuoted, i - 1, i, true
		case behindText:
			if bytes.IndexByte(win[open:i], '\n') >= 0 {
				return d.looseBare(win, open, true, true)
			}
			return d.looseLine(win, i-1, eof, over)
		}
	}
}

// looseLine goes on where a quote, the first one at win[stray], is followed by text on
// the line on which its field opened. If another quote of that line ends the field, and
// no field seems to open before it, all quotes up to that one are text: "5" disk",2.
// Else the stray one was the closing quote, and has text behind it: "a"b,2.
func (d *Dialect) looseLine(win []byte, stray int, eof, over bool) (form, int, int, bool) {
	delim := -1 // the first one behind the stray quote
	i := stray + 1
line:
	for ; i < len(win); i++ {
		switch win[i] {
		case '\n':
			break line
		case d.Delimiter:
			if delim < 0 {
				delim = i
			}
			if i+1 < len(win) && win[i+1] == d.Quote {
				break line
			}
		case d.Quote:
			switch d.behind(win, i+1, eof, over) {
			case behindMore:
				return 0, 0, 0, false
			case behindQuote:
				i++
			case behindEnd:
				return formQuoted, i, i + 1, true
			}
		}
	}
	switch {
	case i == len(win) && !eof && !over:
		return 0, 0, 0, false
	case delim < 0:
		delim = i
	}
	return formTail, stray, delim, true
}

// looseBare reads the field as if its quote were any other character; known says that
// it is, whatever is behind the window.
func (d *Dialect) looseBare(win []byte, open int, known, ended bool) (form, int, int, bool) {
	for i := open; i < len(win); i++ {
		if win[i] == d.Delimiter || win[i] == '\n' {
			return formBare, 0, i, known
		}
	}
	return formBare, 0, len(win), ended
}

// behind says what follows a quote in a quoted field.
type behind uint8

const (
	behindText   behind = iota
	behindEnd           // a delimiter, a line end or the text's end: the field is closed
	behindQuote         // the two are one
	behindWindow        // the record is longer than MaxRecord: it can't be known
	behindMore          // more has to be read
)

func (d *Dialect) behind(win []byte, i int, eof, over bool) behind {
	if i == len(win) {
		switch {
		case over:
			return behindWindow
		case eof:
			return behindEnd
		}
		return behindMore
	}
	switch win[i] {
	case d.Quote:
		return behindQuote
	case d.Delimiter, '\n':
		return behindEnd
	case '\r':
		switch {
		case i+1 < len(win) && win[i+1] != '\n':
			return behindText
		case i+1 == len(win) && over:
			return behindWindow
		case i+1 == len(win) && !eof:
			return behindMore
		}
		return behindEnd
	}
	return behindText
}

// scanLenient is scanRecord for a lenient dialect: no record is at fault but one that
// is too long.
func (d *Dialect) scanLenient(data []byte, eof bool) (Span, bool) {
	win, over := data, false
	if len(data) > d.MaxRecord {
		win, over = data[:d.MaxRecord], true
	}
	for i := 0; ; i++ {
		// At a field's start.
		if d.Quote != 0 && i < len(win) && win[i] == d.Quote {
			var ok bool
			if _, _, i, ok = d.loose(win, i, eof, over); !ok {
				return Span{}, false
			}
			if i < len(win) && win[i] == '\r' { // behind the closing quote, and LF or the end behind it
				i++
			}
		} else {
			for i < len(win) && win[i] != d.Delimiter && win[i] != '\n' {
				i++
			}
		}
		switch {
		case i < len(win) && win[i] == d.Delimiter:
		case i < len(win):
			return Span{Len: i + 1, Record: true}, true
		case over:
			return Span{Fault: FaultLong, Record: true}, true
		default:
			return Span{Len: i, Record: true}, eof
		}
	}
}

// splitLenient cuts a record of a lenient dialect, data[start:end] with its line end.
func (r *Records) splitLenient(start, end int) {
	d := r.d
	fields, count := r.Fields[:0], 0
	record := r.data[start:end]
	last := start + len(TrimEnd(record))
	q := string(rune(d.Quote))
	for i := start; ; i++ {
		from := i
		var field string
		if i < last && d.Quote != 0 && r.data[i] == d.Quote {
			f, closing, next, _ := d.loose(record, i-start, true, false)
			closing, i = start+closing, min(start+next, last)
			if field = r.text[from:i]; f != formBare {
				field = r.text[from+1 : closing]
				if count <= r.want && strings.Contains(field, q+q) {
					field = strings.ReplaceAll(field, q+q, q)
				}
				if f == formTail && count <= r.want {
					field += r.text[closing+1 : i]
				}
			}
		} else {
			i = last
			if n := bytes.IndexByte(r.data[from:last], d.Delimiter); n >= 0 {
				i = from + n
			}
			field = r.text[from:i]
		}
		if count <= r.want {
			fields = append(fields, field)
		}
		count++
		if i >= last {
			break
		}
	}
	r.Fields, r.Count = fields, count
}
