package csvtext

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"strings"
	"unsafe"
)

// Records walks the records of a piece of text, as a [Cutter] makes it. It
// allocates nothing but fields with doubled quotes.
//
//	r := csvtext.NewRecords(&dialect, data, line, want)
//	for r.Next() { … r.Fields … }
//
// A Records is not safe for concurrent use; several may walk the same data.
type Records struct {
	// Fields of the record, valid until the next call of Next; the strings are
	// parts of data and stay valid with it. At most as many as were wanted, plus
	// one; Count is how many there are. Empty when Fault is not Fine.
	Fields []string
	Count  int

	Start, End int   // of the record in data, line end included
	Line       int64 // its first physical line
	Fault      Fault

	d     *Dialect
	data  []byte
	text  string // the same bytes
	quote int    // the next quote at or after Start; len(data) when there is none
	next  int64  // the line of End
	want  int
	walk  bool
}

// NewRecords begins a walk over data, which must hold whole records and must not
// change as long as fields are in use. line is the number of data's first line.
// Of records with more than want fields the rest is only counted.
func NewRecords(d *Dialect, data []byte, line int64, want int) Records {
	return Records{
		Fields: make([]string, 0, want+1),
		d:      d, data: data, text: unsafe.String(unsafe.SliceData(data), len(data)),
		quote: -1, next: line, want: want,
	}
}

// NewWalk is NewRecords for those who need no fields.
func NewWalk(d *Dialect, data []byte, line int64) Records {
	r := NewRecords(d, data, line, 0)
	r.walk = true
	return r
}

// Offsets fills out with the offsets of records (ascending, they may repeat) of a piece of text that
// begins at base in the log. It copies nothing.
func (p *Piece) Offsets(d *Dialect, base int64, records []int, out []int64) {
	first := base + p.Start
	if p.Long {
		for k := range records {
			out[k] = first
		}
		return
	}
	r := NewWalk(d, p.Data, p.Line)
	at := -1
	for k, want := range records {
		for at < want && r.Next() {
			at++
		}
		out[k] = first + int64(r.Start)
	}
}

// Raw is the record without its line end.
func (r *Records) Raw() []byte { return TrimEnd(r.data[r.Start:r.End]) }

// Next goes to the next record and says whether there is one.
func (r *Records) Next() bool {
	d := r.d
	for r.End < len(r.data) {
		start := r.End
		if r.quote < start {
			r.findQuote(start)
		}
		r.Start, r.Line = start, r.next
		// Nearly all records are one line without a quote.
		nl := bytes.IndexByte(r.data[start:], '\n')
		end, last := len(r.data), len(r.data)
		if nl >= 0 {
			last = start + nl
			end = last + 1
		}
		if r.quote >= end && end-start <= d.MaxRecord {
			r.End = end
			r.next += int64(end - last)
			if last > start && r.data[last-1] == '\r' {
				last--
			}
			if last == start || d.Comment != 0 && r.data[start] == d.Comment {
				continue
			}
			r.Fault = Fine
			if !r.walk {
				r.split(start, last)
			}
			return true
		}
		s, _ := d.Scan(r.data[start:], true)
		if s.Len == 0 { // can't be: long records travel alone
			s.Len = len(r.data) - start
		}
		r.End = start + s.Len
		r.next += int64(bytes.Count(r.data[start:r.End], newline))
		if !s.Record {
			continue
		}
		r.Fault = s.Fault
		r.Fields, r.Count = r.Fields[:0], 0
		switch {
		case s.Fault != Fine || r.walk:
		case d.Lenient:
			r.splitLenient(start, r.End)
		default:
			r.splitQuoted(start, start+len(TrimEnd(r.data[start:r.End])))
		}
		return true
	}
	return false
}

// Pass goes to the record of n bytes that begins at End, which the caller has read for
// itself: a line without fault. It leaves Fields as they are.
func (r *Records) Pass(n int) {
	r.Start, r.Line = r.End, r.next
	r.End += n
	r.next++
}

var newline = []byte{'\n'}

func (r *Records) findQuote(from int) {
	r.quote = len(r.data)
	if r.d.Quote != 0 {
		if q := bytes.IndexByte(r.data[from:], r.d.Quote); q >= 0 {
			r.quote = from + q
		}
	}
}

const (
	low7  = 0x7f7f7f7f7f7f7f7f
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
)

// split cuts the line data[start:end], which holds no quote, at the delimiters:
// eight bytes at a time.
func (r *Records) split(start, end int) {
	fields := r.Fields[:0]
	room := r.want + 1
	count := 0
	pattern := uint64(r.d.Delimiter) * ones
	i, field := start, start
	for ; i+8 <= len(r.data) && i < end; i += 8 {
		x := binary.LittleEndian.Uint64(r.data[i:]) ^ pattern
		// The high bit of each byte that is zero, and of no other: the well-known
		// shorter form also marks neighbours.
		m := ^((x&low7 + low7) | x | low7)
		for m != 0 {
			at := i + bits.TrailingZeros64(m)>>3
			if at >= end {
				goto last
			}
			if count < room {
				fields = append(fields, r.text[field:at])
			}
			count++
			field = at + 1
			m &= m - 1
		}
	}
	for ; i < end; i++ {
		if r.data[i] == r.d.Delimiter {
			if count < room {
				fields = append(fields, r.text[field:i])
			}
			count++
			field = i + 1
		}
	}
last:
	if count < room {
		fields = append(fields, r.text[field:end])
	}
	r.Fields, r.Count = fields, count+1
}

// splitQuoted cuts a record that Scan found fine, so it need not look for faults.
func (r *Records) splitQuoted(start, end int) {
	fields, count := r.Fields[:0], 0
	for i := start; ; {
		var field string
		var next int // of the delimiter, or end
		if i < end && r.data[i] == r.d.Quote {
			i++
			from, doubled := i, false
			for {
				i += bytes.IndexByte(r.data[i:end], r.d.Quote) + 1
				if i < end && r.data[i] == r.d.Quote {
					doubled = true
					i++
					continue
				}
				break
			}
			field, next = r.text[from:i-1], i
			if doubled && count <= r.want {
				q := string(rune(r.d.Quote))
				field = strings.ReplaceAll(field, q+q, q)
			}
		} else {
			next = end
			if n := bytes.IndexByte(r.data[i:end], r.d.Delimiter); n >= 0 {
				next = i + n
			}
			field = r.text[i:next]
		}
		if count <= r.want {
			fields = append(fields, field)
		}
		count++
		if next >= end {
			break
		}
		i = next + 1
	}
	r.Fields, r.Count = fields, count
}
