package csvtext

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
)

// Piece is a run of whole records, with the lines to pass over between them.
type Piece struct {
	Data       []byte // the caller's own; begins with a record
	Start, End int64  // place in the text of Data[0], and of what follows the piece
	Line       int64  // of Data[0], from 1
	EndLine    int64  // of what follows the piece
	Last       bool   // the text (or the part up to Stop) ends here

	// Long says that the piece is one record longer than MaxRecord; Data is its
	// first KeepOfLong bytes.
	Long bool
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

// NewCutter reads from the start of a text. Pieces get about chunk bytes; only a
// longer record makes a longer piece.
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

// Stop makes the text end at off, a record boundary, as far as pieces are
// concerned; -1 lifts it again.
func (c *Cutter) Stop(off int64) {
	c.stop = off
	if c.err == errStop {
		c.err = nil
	}
}

var errStop = errors.New("stopped")

// Header reads the first record, without a byte order mark before it. io.EOF
// means that there is none.
func (c *Cutter) Header() (raw []byte, fields []string, err error) {
	for c.hi-c.lo < len(bom) && c.err == nil {
		c.fill(c.chunk)
	}
	if bytes.HasPrefix(c.buf[c.lo:c.hi], bom) {
		c.advance(len(bom))
	}
	size := 4 << 10
	for {
		data := c.buf[c.lo:c.hi]
		for len(data) > 0 {
			s, ok := c.d.Scan(data, c.err == io.EOF || c.err == errStop)
			switch {
			case !ok:
			case s.Fault == FaultLong && s.Record:
				return nil, nil, fmt.Errorf("the header line is longer than %d bytes", c.d.MaxRecord)
			case s.Fault == FaultLong:
				if err := c.skipLine(); err != nil && !c.ended() {
					return nil, nil, err
				}
				data = c.buf[c.lo:c.hi]
				continue
			case !s.Record:
				c.advance(s.Len)
				data = c.buf[c.lo:c.hi]
				continue
			default:
				raw = bytes.Clone(data[:s.Len])
				c.advance(s.Len)
				if s.Fault != Fine {
					return TrimEnd(raw), nil, fmt.Errorf("the header line %q has a misplaced quote", cutText(TrimEnd(raw)))
				}
				r := NewRecords(&c.d, raw, 1, len(raw))
				r.Next()
				return TrimEnd(raw), r.Fields, nil
			}
			break
		}
		if c.err != nil {
			if c.ended() {
				return nil, nil, io.EOF
			}
			return nil, nil, c.err
		}
		size = max(size, 2*(c.hi-c.lo))
		c.fill(min(size, c.d.MaxRecord+1))
	}
}

var bom = []byte("\xef\xbb\xbf")

func cutText(b []byte) []byte {
	if len(b) > 200 {
		return append(b[:200:200], "…"...)
	}
	return b
}

// Seek goes forward to off, a record boundary that is known to be on the given
// line. With line 0 the lines are counted on the way. If the text is an
// io.Seeker, nothing in between is read.
func (c *Cutter) Seek(off, line int64) error {
	if s, ok := c.r.(io.Seeker); ok && line > 0 && off > c.off+int64(c.hi-c.lo) {
		if _, err := s.Seek(off, io.SeekStart); err != nil {
			return err
		}
		c.lo, c.hi, c.err, c.off, c.line = 0, 0, nil, off, line
		return nil
	}
	for c.off < off {
		if c.lo == c.hi {
			if c.err != nil {
				return c.err
			}
			c.fill(c.chunk)
			continue
		}
		c.advance(int(min(off-c.off, int64(c.hi-c.lo))))
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
		if c.hi-c.lo < want && c.err == nil {
			c.fill(want)
			continue
		}
		data := c.buf[c.lo:c.hi]
		if lead := c.lead(data); lead > 0 { // comments and blank lines
			c.advance(lead)
			continue
		}
		if len(data) == 0 {
			if c.ended() {
				return Piece{}, io.EOF
			}
			return Piece{}, c.err
		}
		n, long, comment := c.whole(data)
		switch {
		case n > 0:
			return c.give(n), nil
		case long && comment:
			if err := c.skipLine(); err != nil && !c.ended() {
				return Piece{}, err
			}
		case long:
			return c.giveLong()
		case c.err != nil: // a piece of a record before the damage
			return Piece{}, c.err
		default:
			want = min(2*max(want, len(data)), c.d.MaxRecord+1)
			want = max(want, len(data)+1)
		}
	}
}

// Rest is how many bytes were read and belong to no whole record; after Next has
// failed.
func (c *Cutter) Rest() int { return c.hi - c.lo }

func (c *Cutter) ended() bool { return c.err == io.EOF || c.err == errStop }

// lead is the length of what is to be passed over at the start of data.
func (c *Cutter) lead(data []byte) int {
	n := 0
	for n < len(data) {
		s, ok := c.d.Scan(data[n:], c.ended())
		if !ok || s.Record || s.Len == 0 {
			break
		}
		n += s.Len
	}
	return n
}

// whole is the length of the whole records (and lines to pass over) that data
// begins with, up to a boundary near the chunk size. If it is 0 and long is set,
// data begins with a record, or comment, longer than MaxRecord.
func (c *Cutter) whole(data []byte) (n int, long, comment bool) {
	eof := c.ended()
	if len(data) > c.d.MaxRecord { // something may be too long: look at each line
		for n < len(data) && n < c.chunk {
			s, ok := c.d.Scan(data[n:], eof)
			if !ok {
				return n, false, false
			}
			if s.Fault == FaultLong {
				return n, n == 0, n == 0 && !s.Record
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
		limit := min(quote, max(c.chunk, n))
		if nl := bytes.LastIndexByte(data[n:limit], '\n'); nl >= 0 {
			n += nl + 1
			continue
		}
		// One physical line, with a quote or longer than what is left of the chunk.
		s, ok := c.d.Scan(data[n:], eof)
		if !ok {
			break
		}
		n += s.Len
	}
	return n, false, false
}

func (c *Cutter) give(n int) Piece {
	p := Piece{Data: slices.Clip(bytes.Clone(c.buf[c.lo : c.lo+n])), Start: c.off, Line: c.line}
	c.advance(n)
	p.End, p.EndLine = c.off, c.line
	p.Last = c.lo == c.hi && c.ended()
	return p
}

// giveLong gives out the start of a record that is too long and passes over the
// rest, in flat memory.
func (c *Cutter) giveLong() (Piece, error) {
	p := Piece{
		Data:  bytes.Clone(c.buf[c.lo : c.lo+min(KeepOfLong, c.d.MaxRecord)]),
		Start: c.off, Line: c.line, Long: true,
	}
	if err := c.skipLine(); err != nil && !c.ended() {
		return Piece{}, err // its end is not known, so it is not whole
	}
	p.End, p.EndLine = c.off, c.line
	p.Last = c.lo == c.hi && c.ended()
	return p, nil
}

// skipLine passes over MaxRecord bytes and then to the next line end.
func (c *Cutter) skipLine() error {
	c.advance(c.d.MaxRecord)
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
		n := copy(c.buf, c.buf[c.lo:c.hi])
		c.lo, c.hi = 0, n
		if want > len(c.buf) {
			grown := make([]byte, want)
			copy(grown, c.buf[:n])
			c.buf = grown
		}
	}
	idle := 0
	for c.hi-c.lo < want && c.err == nil {
		room := c.buf[c.hi : c.lo+want]
		if c.stop >= 0 {
			left := c.stop - c.off - int64(c.hi-c.lo)
			if left <= 0 {
				c.err = errStop
				return
			}
			room = room[:min(int64(len(room)), left)]
		}
		n, err := c.r.Read(room)
		c.hi += n
		c.err = err
		if n == 0 && err == nil {
			if idle++; idle > 100 {
				c.err = io.ErrNoProgress
			}
		} else {
			idle = 0
		}
	}
}
