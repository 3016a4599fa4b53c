package parquetread

import (
	"context"
	"errors"
	"io"
	"runtime"
	"sync"
	"sync/atomic"
)

// Piece is some consecutive rows of a file. It is immutable, and shares no memory that
// is used again.
type Piece struct {
	First   int64 // the number of its first row in the file, from 0
	Rows    int
	Columns [][]Segment // of the columns that were asked for, in that order
}

// Bytes is about how much memory the piece takes, the texts of its dictionaries left out.
func (p *Piece) Bytes() int64 {
	n := 0
	for _, segments := range p.Columns {
		for i := range segments {
			n += segments[i].bytes()
		}
	}
	return int64(n)
}

func (s *Segment) bytes() int {
	n := len(s.Valid) + 4*len(s.Lens) + len(s.Elems) + len(s.Bools) + 4*len(s.Int32s) + 8*len(s.Int64s) + 4*len(s.Floats) + 8*len(s.Doubles) +
		4*len(s.Codes) + 8*len(s.Spans)
	if s.Width > 0 {
		n += len(s.Data)
	}
	for _, span := range s.Spans { // the data may be a whole page
		n += int(uint32(span))
	}
	return n
}

const (
	pieceRows  = 16 << 10
	pieceBytes = 4 << 20
)

// Reader reads columns of a file from a row on, in pieces. It is for one goroutine; it
// uses others itself, which are gone when Next returns.
type Reader struct {
	f       *File
	columns []*columnReader
	rows    int // of a piece, at most

	next  int64 // row
	group int   // of which the columns are open; -1: none
	left  int64 // rows of it
	size  int   // of a piece in it
	err   error
}

// pieceSize fills in the default.
func pieceSize(rows int) int {
	if rows <= 0 {
		return pieceRows
	}
	return rows
}

// Reader begins at row from with the columns of these numbers. rows is how many a piece
// has at most; 0 is the default.
func (f *File) Reader(columns []int, from int64, rows int) *Reader {
	r := &Reader{f: f, rows: pieceSize(rows), next: from, group: -1}
	for _, k := range columns {
		c := &f.Columns[k]
		r.columns = append(r.columns, &columnReader{f: f, column: c, t: &c.typ})
	}
	return r
}

// Row is the number of the next row.
func (r *Reader) Row() int64 { return r.next }

// Next reads the next piece; the error is io.EOF behind the last one. Damage comes after
// the rows before it. Other errors are the disk's, or ctx's.
func (r *Reader) Next(ctx context.Context) (*Piece, error) {
	if r.err != nil {
		return nil, r.err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if r.left == 0 {
		if err := r.open(); err != nil {
			r.err = err
			return nil, err
		}
	}
	n := int(min(r.left, int64(r.size)))
	p := &Piece{First: r.next, Rows: n, Columns: make([][]Segment, len(r.columns))}
	errs := make([]error, len(r.columns))
	r.each(func(i int) {
		p.Columns[i], errs[i] = r.columns[i].safely(func(c *columnReader) ([]Segment, error) { return c.read(n, make([]Segment, 0, 2)) })
	})
	for i, err := range errs {
		if err == nil {
			continue
		}
		if !IsDamage(err) {
			r.err = err
			return nil, err
		}
		rows := 0
		for k := range p.Columns[i] {
			rows += p.Columns[i][k].Rows
		}
		if rows < p.Rows || r.err == nil {
			p.Rows, r.err = rows, err
		}
	}
	if r.err != nil {
		if p.Rows == 0 {
			return nil, r.err
		}
		for i := range p.Columns {
			p.Columns[i] = cut(p.Columns[i], p.Rows)
		}
	}
	r.next += int64(p.Rows)
	r.left -= int64(p.Rows)
	return p, nil
}

// open goes to the row group that has the next row.
func (r *Reader) open() error {
	for {
		r.group++
		if r.group == len(r.f.groups) {
			if r.next > r.f.Rows {
				return io.ErrUnexpectedEOF
			}
			return io.EOF
		}
		g := &r.f.groups[r.group]
		skip := r.next - g.first
		if skip >= g.rows {
			continue
		}
		r.left = g.rows - skip
		errs := make([]error, len(r.columns))
		bytes := int64(1)
		for _, c := range r.columns {
			bytes += min(g.chunks[c.column.leaf].unfolded/g.rows, pieceBytes)
		}
		r.size = int(min(int64(r.rows), max(1, pieceBytes/bytes)))
		r.each(func(i int) {
			r.columns[i].open(r.group)
			if skip > 0 {
				_, errs[i] = r.columns[i].safely(func(c *columnReader) ([]Segment, error) { return nil, c.skip(skip) })
			}
		})
		return errors.Join(errs...)
	}
}

// safely makes a panic damage: it can only come of bytes that no one has thought of.
func (c *columnReader) safely(do func(c *columnReader) ([]Segment, error)) (s []Segment, err error) {
	defer func() {
		if v := recover(); v != nil {
			s, err = nil, c.damagef("reading it panics: %v", v)
		}
	}()
	return do(c)
}

// each calls do for all columns, on as many goroutines as can run.
func (r *Reader) each(do func(i int)) {
	n := len(r.columns)
	workers := min(runtime.GOMAXPROCS(0), n)
	if workers < 2 {
		for i := range n {
			do(i)
		}
		return
	}
	var next atomic.Int64
	work := func() {
		for {
			i := int(next.Add(1)) - 1
			if i >= n {
				return
			}
			do(i)
		}
	}
	var wg sync.WaitGroup
	for range workers - 1 {
		wg.Go(work)
	}
	work()
	wg.Wait()
}

// cut gives the first n rows.
func cut(segments []Segment, n int) []Segment {
	out := segments[:0:0]
	for i := range segments {
		s := &segments[i]
		if n == 0 {
			break
		}
		if s.Rows > n {
			out = append(out, s.cut(n))
			break
		}
		out = append(out, *s)
		n -= s.Rows
	}
	return out
}

func (s *Segment) cut(n int) Segment {
	if s.Lens != nil {
		return s.first(n)
	}
	there := n
	out := Segment{Rows: n}
	if s.Valid != nil {
		out.Valid = s.Valid[:n]
		there = 0
		for _, ok := range out.Valid {
			if ok {
				there++
			}
		}
	}
	out.Values = s.Values.slice(0, there)
	return out
}

// Split gives the first n rows, and the others.
func (p *Piece) Split(n int) (first, rest *Piece) {
	first = &Piece{First: p.First, Rows: n, Columns: make([][]Segment, len(p.Columns))}
	rest = &Piece{First: p.First + int64(n), Rows: p.Rows - n, Columns: make([][]Segment, len(p.Columns))}
	for i, segments := range p.Columns {
		first.Columns[i] = cut(segments, n)
		for left := n; len(segments) > 0; segments = segments[1:] {
			s := &segments[0]
			if left >= s.Rows {
				left -= s.Rows
				continue
			}
			rest.Columns[i] = append(rest.Columns[i], s.behind(left))
			left = 0
		}
	}
	return first, rest
}

// behind gives the rows from n on.
func (s *Segment) behind(n int) Segment {
	if n == 0 {
		return *s
	}
	first := s.cut(n)
	out := Segment{Rows: s.Rows - n}
	if s.Lens != nil {
		out.Lens = s.Lens[n:]
		if s.Elems != nil {
			out.Elems = s.Elems[len(first.Elems):]
		}
	} else if s.Valid != nil {
		out.Valid = s.Valid[n:]
	}
	out.Values = s.Values.slice(first.Values.N, s.Values.N)
	return out
}
