package parquetread

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"sync"
	"unsafe"
)

// A file can be decoded by another process, which gets nothing but two pipes: it asks for
// the file's bytes, and answers with the footer and with pieces. It is no more trusted
// than the file: what it sends is checked, so that Fill can't be led astray.
//
// Frames have a kind, a length of four bytes, and so many bytes. To the child go
// frameOpen, then frameRead once; frameBytes and frameFault answer frameWant. From it
// come frameFile, framePiece …, and frameDamage or frameEnd.
const (
	frameOpen   = 'O' // gob of openRequest
	frameRead   = 'R' // gob of readRequest
	frameWant   = 'W' // offset and length
	frameBytes  = 'B' // bytes of the file
	frameFault  = 'X' // they can't be read; the parent knows why
	frameFile   = 'F' // gob of fileAnswer
	framePiece  = 'P'
	frameDamage = 'D' // the words
	frameEnd    = 'E'
)

type openRequest struct {
	Size   int64
	Limits Limits
}

type readRequest struct {
	Columns []int
	From    int64
	Rows    int
}

// fileAnswer is what the parent needs of a footer.
type fileAnswer struct {
	Rows    int64
	Columns []columnAnswer
	Sizes   []sizeAnswer // by row group and leaf
	Groups  int
	Leaves  int
}

type columnAnswer struct {
	Name, Type       string
	Leaf, Shape      int
	Optional         bool
	Phys, Length     int32
	Meaning          uint8
	Scale, Digits    int32
	Unit             int16
	UTC, Signed      bool
	Bits             int8
	MaxDef, MaxRep   uint8
	DefList, DefElem uint8
}

type sizeAnswer struct {
	Phys             int32
	Values, Unfolded int64
}

// wire is one end of the pipes.
type wire struct {
	r   *bufio.Reader
	w   *bufio.Writer
	max int // bytes of a frame that is read
}

func newWire(r io.Reader, w io.Writer, max int) *wire {
	return &wire{bufio.NewReaderSize(r, 64<<10), bufio.NewWriterSize(w, 64<<10), max}
}

func (w *wire) send(kind byte, parts ...[]byte) error {
	n := 0
	for _, p := range parts {
		n += len(p)
	}
	if n > 1<<31-1 {
		return fmt.Errorf("a frame of %d bytes", n)
	}
	var head [5]byte
	head[0] = kind
	binary.LittleEndian.PutUint32(head[1:], uint32(n))
	if _, err := w.w.Write(head[:]); err != nil {
		return err
	}
	for _, p := range parts {
		if _, err := w.w.Write(p); err != nil {
			return err
		}
	}
	return w.w.Flush()
}

func (w *wire) sendGob(kind byte, v any) error {
	var b bytes.Buffer
	if err := gob.NewEncoder(&b).Encode(v); err != nil {
		return err
	}
	return w.send(kind, b.Bytes())
}

func (w *wire) receive() (kind byte, body []byte, err error) {
	var head [5]byte
	if _, err := io.ReadFull(w.r, head[:]); err != nil {
		return 0, nil, err
	}
	n := int64(binary.LittleEndian.Uint32(head[1:]))
	if n > int64(w.max) {
		return 0, nil, fmt.Errorf("a frame of %d bytes, more than %d", n, w.max)
	}
	body = make([]byte, n)
	_, err = io.ReadFull(w.r, body)
	return head[0], body, err
}

// distant is the file as the child reads it: through the parent.
type distant struct {
	mu sync.Mutex
	w  *wire
}

var errDistant = errors.New("the parent can't read the file")

// ReadAt implements io.ReaderAt.
func (d *distant) ReadAt(p []byte, at int64) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var want [12]byte
	binary.LittleEndian.PutUint64(want[:], uint64(at))
	binary.LittleEndian.PutUint32(want[8:], uint32(len(p)))
	if err := d.w.send(frameWant, want[:]); err != nil {
		return 0, err
	}
	kind, body, err := d.w.receive()
	switch {
	case err != nil:
		return 0, err
	case kind != frameBytes:
		return 0, errDistant
	}
	n := copy(p, body)
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// ServeChild decodes one file for a parent process at the other end of the pipes.
func ServeChild(ctx context.Context, r io.Reader, w io.Writer) error {
	c := newWire(r, w, 1<<31-1)
	kind, body, err := c.receive()
	var open openRequest
	if err == nil {
		err = decodeGob(kind, frameOpen, body, &open)
	}
	if err != nil {
		return err
	}
	f, err := Open(&distant{w: c}, open.Size, open.Limits)
	if err != nil {
		return c.sendError(err)
	}
	if err := c.sendGob(frameFile, f.answer()); err != nil {
		return err
	}
	kind, body, err = c.receive()
	if err == io.EOF { // the footer was enough
		return nil
	}
	var read readRequest
	if err == nil {
		err = decodeGob(kind, frameRead, body, &read)
	}
	if err != nil {
		return err
	}
	rd := f.Reader(read.Columns, read.From, read.Rows)
	dicts := &dictionaries{last: make([]*Dictionary, len(read.Columns))}
	for {
		p, err := rd.Next(ctx)
		if err == io.EOF {
			return c.send(frameEnd)
		}
		if err != nil {
			return c.sendError(err)
		}
		if err := c.send(framePiece, dicts.encode(p)); err != nil {
			return err
		}
	}
}

func (w *wire) sendError(err error) error {
	if IsDamage(err) {
		return w.send(frameDamage, []byte(err.Error()))
	}
	return err
}

func decodeGob(kind, want byte, body []byte, v any) error {
	if kind != want {
		return fmt.Errorf("a frame %q instead of %q", kind, want)
	}
	return gob.NewDecoder(bytes.NewReader(body)).Decode(v)
}

func (f *File) answer() *fileAnswer {
	a := &fileAnswer{Rows: f.Rows, Groups: len(f.groups), Leaves: f.leaves}
	for i := range f.Columns {
		c := &f.Columns[i]
		t := &c.typ
		a.Columns = append(a.Columns, columnAnswer{
			Name: c.Name, Type: c.Type, Leaf: c.leaf, Shape: int(c.shape), Optional: c.optional,
			Phys: t.phys, Length: t.length, Meaning: uint8(t.meaning), Scale: t.scale, Digits: t.digits, Unit: t.unit, UTC: t.utc,
			Signed: t.signed, Bits: t.bits, MaxDef: t.maxDef, MaxRep: t.maxRep, DefList: t.defList, DefElem: t.defElem,
		})
	}
	for i := range f.groups {
		for k := range f.groups[i].chunks {
			m := &f.groups[i].chunks[k]
			a.Sizes = append(a.Sizes, sizeAnswer{m.phys, m.values, m.unfolded})
		}
	}
	return a
}

// file is a File without a footer to read by: for Plan.
func (a *fileAnswer) file(size int64, limits Limits) (*File, error) {
	f := &File{Rows: a.Rows, size: size, limits: limits.Filled(), leaves: a.Leaves}
	bad := damagef("the process that decodes it answers nonsense")
	if a.Rows < 0 || a.Groups < 0 || a.Groups > len(a.Sizes) || a.Leaves < 1 || a.Leaves > maxColumns || len(a.Sizes) != a.Groups*a.Leaves {
		return nil, bad
	}
	if err := f.checkRows(); err != nil {
		return nil, err
	}
	for i := range a.Groups {
		g := group{}
		for _, s := range a.Sizes[i*a.Leaves : (i+1)*a.Leaves] {
			g.chunks = append(g.chunks, chunkMeta{phys: s.Phys, values: s.Values, unfolded: s.Unfolded})
		}
		f.groups = append(f.groups, g)
	}
	for _, c := range a.Columns {
		col := Column{Name: c.Name, Type: c.Type, leaf: c.Leaf, shape: shape(c.Shape), optional: c.Optional, typ: leafType{
			phys: c.Phys, length: c.Length, meaning: meaning(c.Meaning), scale: c.Scale, digits: c.Digits, unit: c.Unit, utc: c.UTC,
			signed: c.Signed, bits: c.Bits, maxDef: c.MaxDef, maxRep: c.MaxRep, defList: c.DefList, defElem: c.DefElem,
		}}
		t := &col.typ
		if c.Shape < 0 || c.Shape > int(nested) || c.Leaf < 0 || c.Leaf >= a.Leaves || t.meaning > isNull || col.shape != nested && !t.consistent() {
			return nil, bad
		}
		f.Columns = append(f.Columns, col)
	}
	return f, nil
}

// consistent tells whether the conversions may rely on a type.
func (t *leafType) consistent() bool {
	in := func(kinds ...int32) bool {
		for _, k := range kinds {
			if k == t.phys {
				return true
			}
		}
		return false
	}
	switch t.meaning {
	case isBool:
		return in(physBool)
	case isInt, isUint:
		return in(physInt32, physInt64)
	case isFloat16:
		return in(physFixed) && t.length == 2
	case isFloat:
		return in(physFloat)
	case isDouble:
		return in(physDouble)
	case isString:
		return in(physBytes)
	case isBytes:
		return in(physBytes) || in(physFixed) && t.length > 0
	case isUUID:
		return in(physFixed) && t.length == 16
	case isDate:
		return in(physInt32)
	case isTimestamp:
		return in(physInt64) && t.unit >= millis && t.unit <= nanos
	case isTime:
		return in(physInt32, physInt64) && t.unit >= millis && t.unit <= nanos
	case isDecimal:
		return (in(physInt32, physInt64, physBytes) || in(physFixed) && t.length > 0) && t.scale >= 0 && t.scale <= 1000
	case isInt96:
		return in(physInt96)
	}
	return t.phys >= physBool && t.phys <= physFixed
}

// Distant is a file that a child process decodes.
type Distant struct {
	File *File // its columns, for Plan; it can't be read itself

	w    *wire
	r    io.ReaderAt
	size int64

	began bool
	plan  []*Column
	rows  int // of a piece, at most
	next  int64
	dicts []*Dictionary // by column: the last one
	fault error         // of reading the file
}

// OpenDistant opens a file through a child process at the other end of the pipes. An error
// that is neither damage nor one of r is the child's: it died, or talks nonsense. max is
// how many bytes a piece may have.
func OpenDistant(r io.ReaderAt, size int64, limits Limits, from io.Reader, to io.Writer, max int) (*Distant, error) {
	d := &Distant{w: newWire(from, to, max), r: r, size: size}
	if err := d.w.sendGob(frameOpen, openRequest{size, limits}); err != nil {
		return nil, err
	}
	kind, body, err := d.answer()
	if err != nil {
		return nil, err
	}
	var a fileAnswer
	if err := decodeGob(kind, frameFile, body, &a); err != nil {
		return nil, err
	}
	d.File, err = a.file(size, limits)
	return d, err
}

// answer serves the child until it answers.
func (d *Distant) answer() (kind byte, body []byte, err error) {
	for {
		kind, body, err = d.w.receive()
		switch {
		case d.fault != nil:
			return 0, nil, d.fault
		case err == io.EOF: // the pipe's: the file has not ended
			return 0, nil, io.ErrUnexpectedEOF
		case err != nil:
			return 0, nil, err
		}
		switch kind {
		case frameWant:
			if err := d.serve(body); err != nil {
				return 0, nil, err
			}
		case frameDamage:
			return 0, nil, &Damage{quoteLong(string(body))}
		default:
			return kind, body, nil
		}
	}
}

func quoteLong(s string) string {
	const most = 4 << 10
	if len(s) > most {
		s = s[:most]
	}
	out := []rune{}
	for _, r := range s {
		if r < ' ' {
			r = ' '
		}
		out = append(out, r)
	}
	return string(out)
}

func (d *Distant) serve(want []byte) error {
	if len(want) != 12 {
		return errors.New("a request of the wrong size")
	}
	at, n := int64(binary.LittleEndian.Uint64(want)), int64(binary.LittleEndian.Uint32(want[8:]))
	if at < 0 || n > d.size || n > int64(d.w.max) { // the child has place for it, and more
		return errors.New("a request outside the file")
	}
	b := make([]byte, n)
	got, err := d.r.ReadAt(b, at)
	if err != nil && err != io.EOF {
		d.fault = err
		return err
	}
	return d.w.send(frameBytes, b[:got])
}

// Begin asks for columns from a row on; once.
func (d *Distant) Begin(columns []int, from int64, rows int) error {
	d.began, d.next, d.plan, d.rows = true, from, nil, pieceSize(rows)
	d.dicts = make([]*Dictionary, len(columns))
	for _, k := range columns {
		d.plan = append(d.plan, &d.File.Columns[k])
	}
	return d.w.sendGob(frameRead, readRequest{columns, from, rows})
}

// Began tells whether Begin was called.
func (d *Distant) Began() bool { return d.began }

// Next gives the next piece, as Reader.Next does, but for errors of the child.
func (d *Distant) Next() (*Piece, error) {
	kind, body, err := d.answer()
	switch {
	case err != nil:
		return nil, err
	case kind == frameEnd:
		if d.next != d.File.Rows {
			return nil, fmt.Errorf("it ends at row %d of %d", d.next, d.File.Rows)
		}
		return nil, io.EOF
	case kind != framePiece:
		return nil, fmt.Errorf("a frame %q instead of a piece", kind)
	}
	c := decoder{b: body, dicts: d.dicts}
	p := c.piece(d.plan)
	if c.bad || len(c.b) > 0 || p.First != d.next || p.Rows < 1 || p.Rows > d.rows || int64(p.Rows) > d.File.Rows-d.next {
		return nil, errors.New("a piece that makes no sense")
	}
	d.next += int64(p.Rows)
	// The file must be the same still: what the child has read of it was there before.
	var one [1]byte
	if _, err := d.r.ReadAt(one[:], 0); err != nil && err != io.EOF {
		return nil, err
	}
	return p, nil
}

// dictionaries remembers those that were sent. A column has one at a time: neither end
// keeps those of row groups that are done with.
type dictionaries struct {
	last []*Dictionary // by column
	b    []byte
}

func (e *dictionaries) u32(n int) { e.b = binary.LittleEndian.AppendUint32(e.b, uint32(n)) }
func (e *dictionaries) bools(v []bool) {
	e.u32(len(v))
	e.b = append(e.b, unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(v))), len(v))...)
}

// raw appends numbers as this machine has them: both ends are one program.
func raw[E any](e *dictionaries, v []E) {
	e.u32(len(v))
	e.b = append(e.b, unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(v))), len(v)*int(unsafe.Sizeof(*new(E))))...)
}

func (e *dictionaries) encode(p *Piece) []byte {
	e.b = e.b[:0]
	e.b = binary.LittleEndian.AppendUint64(e.b, uint64(p.First))
	e.u32(p.Rows)
	for column, segments := range p.Columns {
		e.u32(len(segments))
		for i := range segments {
			s := &segments[i]
			e.u32(s.Rows)
			e.bools(s.Valid)
			raw(e, s.Lens)
			e.bools(s.Elems)
			e.values(&s.Values, &e.last[column])
		}
	}
	return e.b
}

// values appends them; last is their column's dictionary, nil for the values of one.
func (e *dictionaries) values(v *Values, last **Dictionary) {
	e.u32(v.N)
	switch {
	case v.N == 0:
		e.b = append(e.b, 0)
	case v.Bools != nil:
		e.b = append(e.b, 1)
		e.bools(v.Bools)
	case v.Int32s != nil:
		e.b = append(e.b, 2)
		raw(e, v.Int32s)
	case v.Int64s != nil:
		e.b = append(e.b, 3)
		raw(e, v.Int64s)
	case v.Floats != nil:
		e.b = append(e.b, 4)
		raw(e, v.Floats)
	case v.Doubles != nil:
		e.b = append(e.b, 5)
		raw(e, v.Doubles)
	case v.Width > 0:
		e.b = append(e.b, 6)
		e.u32(v.Width)
		raw(e, v.Data)
	case v.Codes != nil:
		e.b = append(e.b, 8)
		if v.Dict == *last {
			e.b = append(e.b, 0)
		} else {
			*last = v.Dict
			e.b = append(e.b, 1)
			e.values(&v.Dict.Values, nil)
		}
		raw(e, v.Codes)
	default: // byte arrays: those of the values only, not the whole page
		e.b = append(e.b, 7)
		for i := range v.N {
			e.u32(len(v.Bytes(i)))
		}
		for i := range v.N {
			e.b = append(e.b, v.Bytes(i)...)
		}
	}
}

// decoder reads a piece, and believes nothing. What it gives shares memory with b.
type decoder struct {
	b     []byte
	bad   bool
	dicts []*Dictionary // by column: the last one
}

func (c *decoder) take(n int) []byte {
	if n < 0 || n > len(c.b) {
		c.bad, c.b = true, nil
		return nil
	}
	out := c.b[:n:n]
	c.b = c.b[n:]
	return out
}

func (c *decoder) u32() int {
	if b := c.take(4); b != nil {
		return int(binary.LittleEndian.Uint32(b))
	}
	return 0
}

// flags reads bools, which must be 0 or 1 in memory. nil: there are none.
func (c *decoder) flags() []bool {
	b := c.take(c.u32())
	if len(b) == 0 {
		return nil
	}
	out := make([]bool, len(b))
	for i, x := range b {
		out[i] = x != 0
	}
	return out
}

func numbers[E any](c *decoder) []E {
	size := int(unsafe.Sizeof(*new(E)))
	n := c.u32()
	if n > len(c.b)/size {
		c.bad, c.b = true, nil
		return nil
	}
	b := c.take(n * size)
	if n == 0 {
		return []E{}
	}
	out := make([]E, n)
	copy(unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(out))), n*size), b)
	return out
}

func (c *decoder) piece(columns []*Column) *Piece {
	p := &Piece{}
	if b := c.take(8); b != nil {
		p.First = int64(binary.LittleEndian.Uint64(b))
	}
	p.Rows = c.u32()
	for i, column := range columns {
		n := c.u32()
		if c.bad || n > len(c.b) {
			c.bad = true
			return p
		}
		var segments []Segment
		rows := 0
		for range n {
			s := c.segment(column, &c.dicts[i])
			if c.bad || s.Rows < 1 || s.Rows > p.Rows-rows {
				c.bad = true
				return p
			}
			rows += s.Rows
			segments = append(segments, s)
		}
		if rows != p.Rows {
			c.bad = true
		}
		p.Columns = append(p.Columns, segments)
	}
	return p
}

func (c *decoder) segment(column *Column, last **Dictionary) (s Segment) {
	s.Rows = c.u32()
	s.Valid = c.flags()
	lens := numbers[int32](c)
	s.Elems = c.flags()
	s.Values = c.values(&column.typ, last)
	there := s.Rows
	if column.shape == list {
		s.Lens = lens
		total := int64(0)
		for _, n := range lens {
			if n < -1 {
				c.bad = true
			}
			total += int64(max(n, 0))
		}
		if len(lens) != s.Rows || s.Valid != nil || s.Elems != nil && int64(len(s.Elems)) != total || total > 1<<31-1 {
			c.bad = true
			return s
		}
		there = int(total)
		if s.Elems != nil {
			there = count(s.Elems)
		}
	} else {
		if len(lens) > 0 || s.Elems != nil || s.Valid != nil && len(s.Valid) != s.Rows {
			c.bad = true
			return s
		}
		if s.Valid != nil {
			there = count(s.Valid)
		}
	}
	if s.Values.N != there {
		c.bad = true
	}
	return s
}

func count(flags []bool) int {
	n := 0
	for _, ok := range flags {
		if ok {
			n++
		}
	}
	return n
}

// values reads them; last is their column's dictionary, nil for the values of one.
func (c *decoder) values(t *leafType, last **Dictionary) (v Values) {
	v.N = c.u32()
	kind := byte(0xff)
	if b := c.take(1); b != nil {
		kind = b[0]
	}
	n := 0
	fits := false
	switch kind {
	case 0:
		fits = true
	case 1:
		v.Bools = c.flags()
		n, fits = len(v.Bools), t.phys == physBool
	case 2:
		v.Int32s = numbers[int32](c)
		n, fits = len(v.Int32s), t.phys == physInt32
	case 3:
		v.Int64s = numbers[int64](c)
		n, fits = len(v.Int64s), t.phys == physInt64
	case 4:
		v.Floats = numbers[float32](c)
		n, fits = len(v.Floats), t.phys == physFloat
	case 5:
		v.Doubles = numbers[float64](c)
		n, fits = len(v.Doubles), t.phys == physDouble
	case 6:
		v.Width = c.u32()
		v.Data = numbers[byte](c)
		width := int(t.length)
		if t.phys == physInt96 {
			width = 12
		}
		if v.Width == width && width > 0 && len(v.Data)%width == 0 {
			n, fits = len(v.Data)/width, t.phys == physFixed || t.phys == physInt96
		}
	case 7:
		if v.N > len(c.b)/4 {
			c.bad = true
			return v
		}
		sizes := c.take(4 * v.N)
		v.Data, v.Spans = c.b, make([]uint64, v.N)
		at := 0
		for i := range v.Spans {
			size := int(binary.LittleEndian.Uint32(sizes[4*i:]))
			if size > len(c.b)-at {
				c.bad = true
				return v
			}
			v.Spans[i] = uint64(at)<<32 | uint64(size)
			at += size
		}
		v.Data = c.take(at)
		n, fits = v.N, t.phys == physBytes
	case 8:
		isNew := c.take(1)
		if c.bad || last == nil {
			c.bad = true
			return v
		}
		if isNew[0] == 1 {
			*last = &Dictionary{Values: c.values(t, nil)}
		}
		if v.Dict = *last; c.bad || v.Dict == nil {
			c.bad = true
			return v
		}
		v.Codes = numbers[uint32](c)
		for _, code := range v.Codes {
			if int(code) >= v.Dict.N {
				c.bad = true
			}
		}
		n, fits = len(v.Codes), t.phys == physBytes || t.phys == physFixed
	}
	if !fits || n != v.N {
		c.bad = true
	}
	return v
}
