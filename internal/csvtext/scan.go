package csvtext

import (
	"bytes"
	"encoding/binary"
	"math/bits"
)

// Scan finds the end of what begins at data[0], which must be the start of a
// physical line outside of any record. data is not empty. eof says that the text
// ends with data; without it the answer may be that more is needed (ok is false),
// but never once data is longer than MaxRecord.
//
// A text that is cut after any record gives, with eof set, the same records up to
// the cut: a field that is open at the end of data is treated like one whose end
// is missing in the whole text.
func (d *Dialect) Scan(data []byte, eof bool) (s Span, ok bool) {
	switch c := data[0]; {
	case c == '\n':
		return Span{Len: 1}, true
	case c == '\r':
		if len(data) == 1 {
			return Span{Len: 1}, eof
		}
		if data[1] == '\n' {
			return Span{Len: 2}, true
		}
	case c == d.Comment && c != 0:
		if i := bytes.IndexByte(data, '\n'); i >= 0 && i < d.MaxRecord {
			return Span{Len: i + 1}, true
		}
		if len(data) > d.MaxRecord {
			return Span{Fault: FaultLong}, true
		}
		return Span{Len: len(data)}, eof
	}
	if d.Lenient {
		return d.scanLenient(data, eof)
	}
	return d.scanRecord(data, eof)
}

func (d *Dialect) scanRecord(data []byte, eof bool) (Span, bool) {
	// Everything is decided inside the window; what lies behind it must not
	// matter, or the answer would depend on how much was read.
	win, over := data, false
	if len(data) > d.MaxRecord {
		win, over = data[:d.MaxRecord], true
	}
	i, fault := 0, Fine
	for {
		// At a field's start.
		if d.Quote != 0 && i < len(win) && win[i] == d.Quote {
			open := i
			i++
			closed := false
			for {
				q := bytes.IndexByte(win[i:], d.Quote)
				if q < 0 {
					break
				}
				i += q + 1
				if i < len(win) && win[i] == d.Quote {
					i++
					continue
				}
				closed = i < len(win) || eof && !over // the very last quote may be half of a doubled one
				break
			}
			if !closed {
				return d.unclosed(win, open, eof, over)
			}
			if i == len(win) {
				return Span{Len: i, Fault: fault, Record: true}, true
			}
			switch win[i] {
			case d.Delimiter:
				i++
				continue
			case '\n':
				return Span{Len: i + 1, Fault: fault, Record: true}, true
			case '\r':
				if i+1 < len(win) && win[i+1] == '\n' {
					return Span{Len: i + 2, Fault: fault, Record: true}, true
				}
				if i+1 == len(win) {
					if over {
						return Span{Fault: FaultLong, Record: true}, true
					}
					return Span{Len: i + 1, Fault: fault, Record: true}, eof
				}
			}
			// Text after the closing quote.
			if nl := bytes.IndexByte(win[open:i], '\n'); nl >= 0 {
				return Span{Len: open + nl + 1, Fault: FaultQuote, Record: true}, true
			}
			fault = FaultQuote
		}
		var end byte
		i, end, fault = d.bare(win, i, fault)
		switch end {
		case '\n':
			return Span{Len: i, Fault: fault, Record: true}, true
		case 0:
			if over {
				return Span{Fault: FaultLong, Record: true}, true
			}
			return Span{Len: i, Fault: fault, Record: true}, eof
		}
	}
}

// bare passes over unquoted text from i. It returns the place after what ended
// it, and that: LF, the delimiter (as any other value), or 0 for the window's end.
func (d *Dialect) bare(win []byte, i int, fault Fault) (int, byte, Fault) {
	for ; i < len(win); i++ {
		switch c := win[i]; {
		case c == d.Delimiter:
			return i + 1, 1, fault
		case c == '\n':
			return i + 1, '\n', fault
		case c == d.Quote && c != 0:
			fault = FaultQuote
		}
	}
	return i, 0, fault
}

// unclosed decides about a quoted field, opened at open, that has no end in the
// window.
func (d *Dialect) unclosed(win []byte, open int, eof, over bool) (Span, bool) {
	if !eof && !over {
		return Span{}, false
	}
	if nl := bytes.IndexByte(win[open:], '\n'); nl >= 0 {
		return Span{Len: open + nl + 1, Fault: FaultQuote, Record: true}, true
	}
	if over {
		return Span{Fault: FaultLong, Record: true}, true
	}
	return Span{Len: len(win), Fault: FaultQuote, Record: true}, true
}

// plainLine is Scan for most records: the length of one without fault that is a single
// line and holds no doubled quote, or 0 when there is another, or too little text to be
// quick. data is at most MaxRecord bytes and begins as Scan's does.
func (d *Dialect) plainLine(data []byte) int {
	if len(data) == 0 || d.Quote == 0 || data[0] == '\n' || data[0] == '\r' || data[0] == d.Comment {
		return 0
	}
	quotes := ones * uint64(d.Quote)
	const ends = ones * '\n'
	for i, start := 0, true; ; {
		// At a field's start, or behind one.
		quoted := start && data[i] == d.Quote
		if quoted {
			i++
		}
		for {
			if len(data)-i < 8 {
				return 0
			}
			w := binary.LittleEndian.Uint64(data[i:])
			a, b := w^quotes, w^ends
			// The lowest bit is that of the first quote or line end.
			if m := ((a-ones)&^a | (b-ones)&^b) & highs; m != 0 {
				i += bits.TrailingZeros64(m) >> 3
				break
			}
			i += 8
		}
		switch {
		case !quoted && data[i] == '\n':
			return i + 1
		case !quoted:
			if start = data[i-1] == d.Delimiter; !start {
				return 0
			}
			continue
		case data[i] == '\n' || len(data)-i < 4:
			return 0
		}
		i++
		switch data[i] {
		case d.Delimiter:
			i++
		case '\n':
			return i + 1
		case '\r':
			if data[i+1] == '\n' {
				return i + 2
			}
			return 0
		default:
			return 0
		}
	}
}

// Lead is the length of the blank lines and comments that data begins with; data
// holds whole lines. It is len(data) when there is no record at all.
func (d *Dialect) Lead(data []byte) int {
	n := 0
	for n < len(data) {
		s, _ := d.Scan(data[n:], true)
		if s.Record || s.Len == 0 {
			break
		}
		n += s.Len
	}
	return n
}

// TrimEnd is record without its line end.
func TrimEnd(record []byte) []byte {
	if n := len(record); n > 0 && record[n-1] == '\n' {
		record = record[:n-1]
	}
	if n := len(record); n > 0 && record[n-1] == '\r' {
		record = record[:n-1]
	}
	return record
}
