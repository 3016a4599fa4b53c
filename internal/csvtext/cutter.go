package csvtext

import (
	"bytes"
	"fmt"
	"io"
	"sync"
)

// Piece is a run of whole records, with the lines to pass over between them.
type Piece struct {
	Data       []byte // the caller's own until Release; begins with a record
	Start, End int64  // place in the text of Data[0], and of what follows the piece
	Line       int64  // of Data[0], from 1
	EndLine    int64  // of what follows the piece
	Last       bool   // the text (or the part up to Stop) ends here

	// Long says that the piece is one record longer than MaxRecord; Data is its
	// first KeepOfLong bytes.
	Long bool

	buffer []byte // what Data is a part of, when that can be used again
}

// Release lets the memory of Data be used for other pieces. It is optional; after it
// Data must not be looked at.
func (p *Piece) Release() {
	if b := p.buffer; b != nil {
		p.Data, p.buffer = nil, nil
		buffers.Put(&b)
	}
}

// Held is how many bytes of memory the piece keeps.
func (p *Piece) Held() int { return max(cap(p.buffer), len(p.Data)) }

// buffers are *[]byte, of pieces that were released.
var buffers sync.Pool

// smallBuffer is below what is worth pooling.
const smallBuffer = 64 << 10

func newBuffer(size int) []byte {
	if size >= smallBuffer {
		if b, _ := buffers.Get().(*[]byte); b != nil && cap(*b) >= size && cap(*b) <= 2*size {
			return (*b)[:size]
		}
	}
	return make([]byte, size)
}

// KeepOfLong is how much is kept of a record that is longer than MaxRecord.
const KeepOfLong = 64 << 10

// Cutter reads a text and cuts it into pieces at record boundaries. It holds a
// piece and at most MaxRecord bytes more. Reading in pieces of another size gives
// other pieces but the same records.
//
// A Cutter is not safe for concurrent use.
type Cutter struct {
	d     Dialect
	chunk int
	r     io.Reader
	buf   []byte // buf[lo:hi] has been read and not yet given out
	lo    int
	hi    int
	off   int64 // of buf[lo] in the text
	line  int64 // of buf[lo]
	stop  int64 // where the text is taken to end; -1: where it does
	err   error // what reading ended with; io.EOF included
}

// NewCutter makes a Cutter; Reset gives it a text. Pieces get about chunk bytes;
// only a longer record makes a longer piece.
func NewCutter(d Dialect, chunk int) *Cutter { return &Cutter{d: d, chunk: chunk} }

// Reset begins another text, keeping the buffer.
func (c *Cutter) Reset(r io.Reader) {
	if cap(c.buf) > 4*c.chunk { // grown for one monster
		c.buf = nil
	}
	c.r, c.lo, c.hi, c.off, c.line, c.stop, c.err = r, 0, 0, 0, 1, -1, nil
}

// Offset is the place in the text of what the next piece begins with, or of the
// blank lines and comments before it.
func (c *Cutter) Offset() int64 { return c.off }

// Line is the line at Offset.
func (c *Cutter) Line() int64 { return c.line }

// Stop makes the text end at off, a record boundary not before Offset, as far as
// pieces are concerned; -1 lifts it again.
func (c *Cutter) Stop(off int64) { c.stop = off }

// Rest is how many bytes were read that belong to no whole record; to be asked
// after Next has failed.
func (c *Cutter) Rest() int { return c.hi - c.lo }

// window is what has been read and may be given out, and whether the text ends
// there.
func (c *Cutter) window() (data []byte, eof bool) {
	data = c.buf[c.lo:c.hi]
	if c.stop >= 0 && c.off+int64(len(data)) >= c.stop {
		return data[:c.stop-c.off], true
	}
	return data, c.err == io.EOF
}

// FormatError says that a header line is none. Any other error is one of reading.
type FormatError string

func (e FormatError) Error() string { return string(e) }

// Peek gives up to n bytes of what comes next, valid until the next call; fewer when reading ends
// before, for whatever reason.
func (c *Cutter) Peek(n int) []byte {
	for c.hi-c.lo < n && c.err == nil {
		c.fill(4 << 10)
	}
	return c.buf[c.lo:min(c.hi, c.lo+n)]
}

// SkipLines passes over a byte order mark and the first n physical lines of a text, whatever
// is on them; of a text that has fewer, over all. It is for the start of a text.
func (c *Cutter) SkipLines(n int) error {
	if c.off == 0 && bytes.HasPrefix(c.Peek(len(bom)), bom) {
		c.advance(len(bom))
	}
	for range n {
		if err := c.skipLine(0); err != nil {
			if err == io.EOF {
				err = nil
			}
			return err
		}
	}
	return nil
}

// Header reads the first record, without a byte order mark before it. io.EOF
// means that there is none.
func (c *Cutter) Header() (raw []byte, fields []string, err error) {
	if err := c.SkipLines(0); err != nil {
		return nil, nil, err
	}
	for {
		data, eof := c.window()
		if len(data) == 0 && eof {
			return nil, nil, io.EOF
		}
		var s Span
		ok := false
		if len(data) > 0 {
			s, ok = c.d.Scan(data, eof)
		}
		switch {
		case !ok && c.err != nil:
			return nil, nil, c.err
		case !ok:
			c.fill(min(max(4<<10, 2*len(data)), c.d.MaxRecord+1))
		case s.Fault == FaultLong && s.Record:
			return nil, nil, FormatError(fmt.Sprintf("the header line is longer than %d bytes", c.d.MaxRecord))
		case s.Fault == FaultLong:
			if err := c.skipLine(c.d.MaxRecord); err != nil && err != io.EOF {
				return nil, nil, err
			}
		case !s.Record:
			c.advance(s.Len)
		default:
			whole := bytes.Clone(data[:s.Len])
			raw = TrimEnd(whole)
			if s.Fault != Fine {
				return raw, nil, FormatError(fmt.Sprintf("the header line %q has a misplaced or missing quote", cutText(raw)))
			}
			c.advance(s.Len)
			r := NewRecords(&c.d, whole, 1, len(whole))
			r.Next()
			return raw, r.Fields, nil
		}
	}
}

var bom = []byte("\xef\xbb\xbf")

func cutText(b []byte) []byte {
	if len(b) > 200 {
		return append(b[:200:200], "…"...)
	}
	return b
}

// SkipTo goes forward to off, a record boundary, which is known to be on the given
// line. With line 0 the lines are counted on the way. If line is known and the
// text is an io.Seeker, nothing in between is read. io.ErrUnexpectedEOF means that
// the text ends before off.
func (c *Cutter) SkipTo(off, line int64) error {
	if s, ok := c.r.(io.Seeker); ok && line > 0 && off > c.off+int64(c.hi-c.lo) {
		if _, err := s.Seek(off, io.SeekStart); err != nil {
			return err
		}
		c.lo, c.hi, c.err, c.off, c.line = 0, 0, nil, off, line
		return nil
	}
	for c.off < off {
		switch {
		case c.lo < c.hi:
			c.advance(int(min(off-c.off, int64(c.hi-c.lo))))
		case c.err == io.EOF:
			return io.ErrUnexpectedEOF
		case c.err != nil:
			return c.err
		default:
			c.fill(c.chunk)
		}
	}
	if line > 0 {
		c.line = line
	}
	return nil
}

// Next returns the next piece, or what reading ended with: io.EOF at the end of
// the text. When reading fails, the records before the damage come first; one
// that is not known to be whole is never given out.
func (c *Cutter) Next() (Piece, error) {
	want := c.chunk
	for {
		data, eof := c.window()
		if len(data) < want && !eof && c.err == nil {
			c.fill(want)
			continue
		}
		if lead := c.lead(data, eof); lead > 0 {
			c.advance(lead)
			continue
		}
		if len(data) == 0 && eof {
			return Piece{}, io.EOF
		}
		n, long, comment := c.whole(data, eof)
		switch {
		case n > 0:
			return c.give(n), nil
		case long && comment:
			if err := c.skipLine(c.d.MaxRecord); err != nil && err != io.EOF {
				return Piece{}, err
			}
		case long:
			return c.giveLong()
		case c.err != nil: // a part of a record before the damage, or nothing
			return Piece{}, c.err
		default:
			want = max(min(2*max(want, len(data)), c.d.MaxRecord+1), len(data)+1)
		}
	}
}

// lead is the length of the blank lines and comments at the start of data.
func (c *Cutter) lead(data []byte, eof bool) int {
	n := 0
	for n < len(data) {
		s, ok := c.d.Scan(data[n:], eof)
		if !ok || s.Record || s.Len == 0 {
			break
		}
		n += s.Len
	}
	return n
}

// whole is the length of the whole records (and lines to pass over) that data
// begins with, up to a boundary near the chunk size. If it is 0 and long is set,
// data begins with a record, or a comment, longer than MaxRecord.
func (c *Cutter) whole(data []byte, eof bool) (n int, long, comment bool) {
	if len(data) > c.d.MaxRecord { // something may be too long: look at each line
		for n < len(data) && n < c.chunk {
			s, ok := c.d.Scan(data[n:], eof)
			if !ok {
				break
			}
			if s.Fault == FaultLong {
				return n, true, !s.Record
			}
			n += s.Len
		}
		return n, false, false
	}
	// A line without a quote needs no look at all, so jump from quote to quote.
	quote := -1
	for n < len(data) && n < c.chunk {
		if quote < n {
			quote = len(data)
			if c.d.Quote != 0 {
				if q := bytes.IndexByte(data[n:], c.d.Quote); q >= 0 {
					quote = n + q
				}
			}
		}
		if nl := bytes.LastIndexByte(data[n:min(quote, max(c.chunk, n))], '\n'); nl >= 0 {
			n += nl + 1
			continue
		}
		// One physical line, with a quote or reaching beyond the chunk.
		if size := c.d.plainLine(data[n:]); size > 0 {
			n += size
			continue
		}
		s, ok := c.d.Scan(data[n:], eof)
		if !ok {
			break
		}
		n += s.Len
	}
	return n, false, false
}

func (c *Cutter) give(n int) Piece {
	p := Piece{Start: c.off, Line: c.line}
	data := c.buf[c.lo : c.lo+n : c.lo+n]
	c.advance(n)
	if n >= len(c.buf)/2 && len(c.buf) >= smallBuffer {
		// The piece takes the buffer, and what follows moves to another one.
		p.Data, p.buffer = data, c.buf
		rest := c.buf[c.lo:c.hi]
		c.buf = newBuffer(max(c.chunk, len(rest)))
		c.lo, c.hi = 0, copy(c.buf, rest)
	} else {
		p.Data = bytes.Clone(data)
	}
	c.finish(&p)
	return p
}

// giveLong gives out the start of a record that is too long and passes over the
// rest, in flat memory.
func (c *Cutter) giveLong() (Piece, error) {
	p := Piece{
		Data:  bytes.Clone(c.buf[c.lo : c.lo+min(KeepOfLong, c.d.MaxRecord)]),
		Start: c.off, Line: c.line, Long: true,
	}
	if err := c.skipLine(c.d.MaxRecord); err != nil && err != io.EOF {
		return Piece{}, err // its end is not known, so it is not whole
	}
	c.finish(&p)
	return p, nil
}

func (c *Cutter) finish(p *Piece) {
	p.End, p.EndLine = c.off, c.line
	data, eof := c.window()
	p.Last = eof && len(data) == 0
}

// skipLine passes over n bytes, which have been read, and then to the next line end.
func (c *Cutter) skipLine(n int) error {
	c.advance(n)
	for {
		if nl := bytes.IndexByte(c.buf[c.lo:c.hi], '\n'); nl >= 0 {
			c.advance(nl + 1)
			return nil
		}
		c.advance(c.hi - c.lo)
		if c.err != nil {
			return c.err
		}
		c.fill(c.chunk)
	}
}

func (c *Cutter) advance(n int) {
	c.line += int64(bytes.Count(c.buf[c.lo:c.lo+n], newline))
	c.lo += n
	c.off += int64(n)
}

// fill reads until want bytes are there or reading has ended.
func (c *Cutter) fill(want int) {
	if c.lo == c.hi {
		c.lo, c.hi = 0, 0
	}
	if c.lo+want > len(c.buf) {
		data := c.buf[c.lo:c.hi]
		if want > len(c.buf) {
			c.buf = newBuffer(max(want, c.chunk))
		}
		c.lo, c.hi = 0, copy(c.buf, data)
	}
	for idle := 0; c.hi-c.lo < want && c.err == nil; {
		n, err := c.r.Read(c.buf[c.hi : c.lo+want])
		c.hi += n
		c.err = err
		if n > 0 {
			idle = 0
		} else if idle++; idle > 100 && err == nil {
			c.err = io.ErrNoProgress
		}
	}
}
