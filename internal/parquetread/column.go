package parquetread

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
	"sync"
)

// Segment is a column of some consecutive rows, as one page holds it.
type Segment struct {
	Rows  int
	Valid []bool  // by row; nil: all values are there. Values holds those that are
	Lens  []int32 // of a list: its elements by row, -1 for null
	Elems []bool  // of a list: which elements are not null; nil: all. Valid is nil
	Values
}

// Dictionary holds the byte arrays that a column of a row group repeats.
type Dictionary struct {
	Values

	once    sync.Once
	strings []string
	valid   []bool // UTF-8

	measure sync.Once
	most    int64 // bytes of a value
}

// The encodings, with the format's numbers.
const (
	encPlain          = 0
	encPlainDict      = 2
	encRLE            = 3
	encBitPacked      = 4
	encDelta          = 5
	encDeltaLength    = 6
	encDeltaByteArray = 7
	encRLEDict        = 8
	encSplit          = 9
)

// pageHeader is what stands before a page.
type pageHeader struct {
	typ          int32
	folded       int32 // its bytes in the file
	unfolded     int32
	crc          uint32
	hasCRC       bool
	values       int32
	encoding     int32
	defEncoding  int32
	repEncoding  int32
	v2           bool
	rows         int32 // of a v2 page
	defBytes     int32 // of a v2 page
	repBytes     int32 //
	uncompressed bool  // of a v2 page: whatever the codec
	at           int64 // where its bytes are
}

const (
	dataPage       = 0
	indexPage      = 1
	dictionaryPage = 2
	dataPageV2     = 3
)

// columnReader reads one column of the row groups, in order.
type columnReader struct {
	f      *File
	column *Column
	t      *leafType

	group    int
	rows     int64 // of the group that are still to come
	values   int64 // of the group that no page has held so far
	at, end  int64 // of the next page in the file, and of all
	unfolded int64 // bytes of the pages so far
	budget   int64 // and how many there may be

	dictAt *pageHeader // the group's dictionary, if it is not read yet
	dict   *Dictionary

	page page
	head []byte // a page's header, for the next one
}

// page is the data page at hand. Its values are read a few at a time.
type page struct {
	left   int // rows; of a list, levels
	def    *hybrid
	defBuf []uint8

	encoding int32
	data     []byte // of the values
	bools    hybrid
	boolBit  int // of PLAIN bools
	codes    hybrid
	pre      *Values // values that were decoded all at once
	preAt    int

	// Of a list: all levels of the page.
	reps, defs []uint8
	levelAt    int
	lastRow    int // where it begins; it may go on in the next page
}

// open goes to row (counted in the group) of a group.
func (r *columnReader) open(group int) {
	g := &r.f.groups[group]
	m := &g.chunks[r.column.leaf]
	// Footers are a little off now and then.
	*r = columnReader{f: r.f, column: r.column, t: r.t, head: r.head, group: group, rows: g.rows, values: m.values,
		at: m.start, end: m.start + m.size, budget: m.unfolded + m.unfolded/4 + 1<<20}
}

func (r *columnReader) damagef(format string, args ...any) error {
	return damagef("column %s, row group %d: %s", quote(r.column.Name), r.group, fmt.Sprintf(format, args...))
}

// in gives an error its place.
func (r *columnReader) in(err error) error {
	if IsDamage(err) {
		return r.damagef("%v", err)
	}
	return err
}

// header reads the next page's header.
func (r *columnReader) header() (h pageHeader, err error) {
	for size := int64(256); ; size *= 8 {
		size = min(size, r.end-r.at)
		if size <= 0 {
			return h, r.damagef("its pages end before its %d rows are complete", r.f.groups[r.group].rows)
		}
		if int64(cap(r.head)) < size {
			r.head = make([]byte, size)
		}
		b := r.head[:size]
		if err := r.f.read(b, r.at); err != nil {
			return h, r.in(err)
		}
		t := &thrift{b: b}
		h = parsePageHeader(t)
		if t.err == errThrift && size < r.end-r.at && size < 16<<20 {
			continue
		}
		if t.err != nil {
			return h, r.damagef("the header of a page is damaged: %v", t.err)
		}
		h.at = r.at + int64(t.at)
		break
	}
	switch {
	case h.folded < 0 || h.unfolded < 0 || h.values < 0:
		return h, r.damagef("the header of a page has negative sizes")
	case int64(h.folded) > r.end-h.at:
		return h, r.damagef("a page of %d bytes goes beyond the end of the column's pages", h.folded)
	case int64(h.unfolded) > r.f.limits.Page:
		return h, r.damagef("a page claims to unfold to %d bytes, more than the limit of %d", h.unfolded, r.f.limits.Page)
	case h.v2 && (h.defBytes < 0 || h.repBytes < 0 || int64(h.defBytes)+int64(h.repBytes) > int64(min(h.folded, h.unfolded))):
		return h, r.damagef("the header of a page has levels of more bytes than the page")
	}
	r.unfolded += int64(h.unfolded)
	if r.unfolded > r.budget {
		return h, r.damagef("its pages unfold to more than the footer says")
	}
	r.at = h.at + int64(h.folded)
	return h, nil
}

func parsePageHeader(t *thrift) pageHeader {
	h := pageHeader{typ: -1, folded: -1, unfolded: -1}
	t.fields(func(id int16, typ byte) {
		switch {
		case id == 1 && typ == thriftI32:
			h.typ = t.int32()
		case id == 2 && typ == thriftI32:
			h.unfolded = t.int32()
		case id == 3 && typ == thriftI32:
			h.folded = t.int32()
		case id == 4 && typ == thriftI32:
			h.crc, h.hasCRC = uint32(t.int32()), true
		case (id == 5 || id == 7) && typ == thriftStruct:
			t.fields(func(id int16, typ byte) {
				switch {
				case id == 1 && typ == thriftI32:
					h.values = t.int32()
				case id == 2 && typ == thriftI32:
					h.encoding = t.int32()
				case id == 3 && typ == thriftI32:
					h.defEncoding = t.int32()
				case id == 4 && typ == thriftI32:
					h.repEncoding = t.int32()
				default:
					t.skip(typ)
				}
			})
		case id == 8 && typ == thriftStruct:
			h.v2 = true
			t.fields(func(id int16, typ byte) {
				switch {
				case id == 1 && typ == thriftI32:
					h.values = t.int32()
				case id == 3 && typ == thriftI32:
					h.rows = t.int32()
				case id == 4 && typ == thriftI32:
					h.encoding = t.int32()
				case id == 5 && typ == thriftI32:
					h.defBytes = t.int32()
				case id == 6 && typ == thriftI32:
					h.repBytes = t.int32()
				case id == 7:
					h.uncompressed = typ == thriftFalse
					t.skip(typ)
				default:
					t.skip(typ)
				}
			})
		default:
			t.skip(typ)
		}
	})
	return h
}

// nextPage goes to the next data page. If it has no more than skip rows it is passed
// over, unread, and skipped is their number.
func (r *columnReader) nextPage(skip int64) (skipped int64, err error) {
	h, err := r.header()
	if err != nil {
		return 0, err
	}
	switch h.typ {
	case dictionaryPage:
		if r.dictAt != nil || r.dict != nil {
			return 0, r.damagef("it has two dictionaries")
		}
		r.dictAt = &h
		return 0, nil
	case dataPage, dataPageV2:
	default: // an index, or what a later version of the format brings
		return 0, nil
	}
	if (h.typ == dataPageV2) != h.v2 {
		return 0, r.damagef("the header of a page is damaged: its type is another")
	}
	if int64(h.values) > r.values {
		return 0, r.damagef("its pages have more values than the footer says")
	}
	r.values -= int64(h.values)
	switch {
	case r.column.shape == flat && int64(h.values) <= skip:
		return int64(h.values), nil
	case r.column.shape == list && h.v2 && h.rows > 0 && int64(h.rows) <= skip: // v2 pages begin with a row
		return int64(h.rows), nil
	}
	return 0, r.in(r.load(&h))
}

// bytes reads a page's bytes and compares them with their checksum.
func (r *columnReader) bytes(h *pageHeader) ([]byte, error) {
	b := make([]byte, h.folded)
	if err := r.f.read(b, h.at); err != nil {
		return nil, err
	}
	if h.hasCRC && crc32.ChecksumIEEE(b) != h.crc {
		return nil, damagef("a page's bytes do not have its checksum")
	}
	return b, nil
}

// load reads a data page and begins with it.
func (r *columnReader) load(h *pageHeader) error {
	b, err := r.bytes(h)
	if err != nil {
		return err
	}
	t := r.t
	codec := r.f.groups[r.group].chunks[r.column.leaf].codec
	var reps, defs []byte
	if h.v2 {
		levels := int(h.repBytes) + int(h.defBytes)
		reps, defs = b[:h.repBytes], b[h.repBytes:levels]
		if h.uncompressed {
			codec = codecNone
		}
		if b, err = unfold(codec, b[levels:], int(h.unfolded)-levels); err != nil {
			return err
		}
	} else {
		if b, err = unfold(codec, b, int(h.unfolded)); err != nil {
			return err
		}
		if reps, b, err = levelsOf(b, t.maxRep, h.repEncoding); err != nil {
			return err
		}
		if defs, b, err = levelsOf(b, t.maxDef, h.defEncoding); err != nil {
			return err
		}
	}
	p := page{left: int(h.values), encoding: h.encoding, data: b, defBuf: r.page.defBuf}
	if t.maxDef > 0 {
		p.def = &hybrid{b: defs, width: levelWidth(t.maxDef)}
	}
	if t.maxRep > 0 {
		if int64(h.values)*4 > r.f.limits.Page {
			return damagef("a page of lists has %d values, more than fit the limit of %d bytes", h.values, r.f.limits.Page)
		}
		p.reps, p.defs = make([]uint8, h.values), make([]uint8, h.values)
		rows := int32(0)
		rep := hybrid{b: reps, width: levelWidth(t.maxRep)}
		if fillHybrid(&rep, p.reps) < len(p.reps) || fillHybrid(p.def, p.defs) < len(p.defs) {
			return damagef("a page has fewer levels than values")
		}
		for i, d := range p.defs {
			if d > t.maxDef || p.reps[i] > t.maxRep {
				return damagef("a page has a level that its column has not")
			}
			if p.reps[i] == 0 {
				rows++
				p.lastRow = i
			}
		}
		if h.v2 && rows != h.rows {
			return damagef("a page has %d rows instead of the %d that its header says", rows, h.rows)
		}
	}
	if err := r.encoding(&p, int(h.values)); err != nil {
		return err
	}
	r.page = p
	return nil
}

// levelsOf takes the levels of a v1 page from the front of its bytes.
func levelsOf(b []byte, most uint8, encoding int32) (levels, rest []byte, err error) {
	if most == 0 {
		return nil, b, nil
	}
	if encoding != encRLE {
		return nil, nil, damagef("the levels of a page are encoded by number %d, which is not supported", encoding)
	}
	if len(b) < 4 {
		return nil, nil, damagef("a page is too short for its levels")
	}
	n := binary.LittleEndian.Uint32(b)
	if int64(n) > int64(len(b)-4) {
		return nil, nil, damagef("a page is too short for its levels")
	}
	return b[4 : 4+n], b[4+n:], nil
}

// encoding prepares to read a page's values, of which there are at most most.
func (r *columnReader) encoding(p *page, most int) error {
	t := r.t
	misfit := func() error {
		return damagef("a page of %s values is encoded by number %d, which does not fit or is not supported", physName(t.phys), p.encoding)
	}
	all := func(v Values, err error) error {
		p.pre, p.data = &v, nil
		return err
	}
	room := int(r.f.limits.Page / 8)
	switch p.encoding {
	case encPlain:
	case encPlainDict, encRLEDict:
		if err := r.dictionary(); err != nil {
			return err
		}
		if t.phys == physBool {
			return misfit()
		}
		if len(p.data) == 0 { // of a page that has only nulls
			return nil
		}
		if p.data[0] > 32 {
			return damagef("a page has numbers of %d bits", p.data[0])
		}
		p.codes = hybrid{b: p.data[1:], width: uint(p.data[0])}
	case encRLE:
		if t.phys != physBool {
			return misfit()
		}
		if len(p.data) >= 4 {
			n := binary.LittleEndian.Uint32(p.data)
			p.bools = hybrid{b: p.data[4:min(4+int(n), len(p.data))], width: 1}
		}
	case encDelta:
		if most > room {
			return damagef("a page has %d values, more than fit the limit of %d bytes", most, r.f.limits.Page)
		}
		switch t.phys {
		case physInt32:
			out, _, err := deltas[int32](p.data, most)
			return all(Values{N: len(out), Int32s: out}, err)
		case physInt64:
			out, _, err := deltas[int64](p.data, most)
			return all(Values{N: len(out), Int64s: out}, err)
		}
		return misfit()
	case encDeltaLength, encDeltaByteArray:
		if most > room {
			return damagef("a page has %d values, more than fit the limit of %d bytes", most, r.f.limits.Page)
		}
		if t.phys == physBytes && p.encoding == encDeltaLength {
			return all(deltaLengths(p.data, most))
		}
		if t.phys != physBytes && t.phys != physFixed || p.encoding == encDeltaLength {
			return misfit()
		}
		v, err := deltaArrays(p.data, most, r.f.limits.Page)
		if err == nil && t.phys == physFixed {
			for _, s := range v.Spans {
				if uint32(s) != uint32(t.length) {
					return damagef("a value has %d bytes instead of %d", uint32(s), t.length)
				}
			}
			v.Spans, v.Width = nil, int(t.length)
		}
		return all(v, err)
	case encSplit:
		return all(unsplit(t, p.data))
	default:
		return misfit()
	}
	return nil
}

// dictionary reads the group's dictionary, if there is one that was not read yet.
func (r *columnReader) dictionary() error {
	if r.dict != nil {
		return nil
	}
	h := r.dictAt
	if h == nil {
		return damagef("a page needs a dictionary, and there is none")
	}
	if h.encoding != encPlain && h.encoding != encPlainDict {
		return damagef("a dictionary is encoded by number %d, which is not supported", h.encoding)
	}
	b, err := r.bytes(h)
	if err != nil {
		return err
	}
	if b, err = unfold(r.f.groups[r.group].chunks[r.column.leaf].codec, b, int(h.unfolded)); err != nil {
		return err
	}
	if r.t.phys == physBool {
		return damagef("BOOLEAN values have a dictionary")
	}
	v, _ := plain(r.t, b, int(h.values))
	if v.N != int(h.values) {
		return damagef("a dictionary has %d values instead of %d", v.N, h.values)
	}
	r.dict, r.dictAt = &Dictionary{Values: v}, nil
	return nil
}

// take reads up to n values that are not null, and fewer only where they are damaged.
func (r *columnReader) take(n int) Values {
	p := &r.page
	switch {
	case n == 0:
		return Values{}
	case p.pre != nil:
		n = min(n, p.pre.N-p.preAt)
		v := p.pre.slice(p.preAt, p.preAt+n)
		p.preAt += n
		return v
	case p.encoding == encPlainDict || p.encoding == encRLEDict:
		codes := make([]uint32, n)
		codes = codes[:fillHybrid(&p.codes, codes)]
		size := uint32(r.dict.N)
		for i, c := range codes {
			if c >= size {
				codes = codes[:i]
				break
			}
		}
		return r.dict.gather(codes)
	case r.t.phys == physBool:
		out := make([]bool, n)
		if p.encoding == encRLE {
			var buf [256]uint8
			k := 0
			for k < n {
				got := fillHybrid(&p.bools, buf[:min(n-k, len(buf))])
				for i, b := range buf[:got] {
					out[k+i] = b != 0
				}
				k += got
				if got == 0 {
					break
				}
			}
			return Values{N: k, Bools: out[:k]}
		}
		n = min(n, len(p.data)*8-p.boolBit)
		for i := range n {
			bit := p.boolBit + i
			out[i] = p.data[bit>>3]>>(bit&7)&1 != 0
		}
		p.boolBit += n
		return Values{N: n, Bools: out[:n]}
	}
	v, used := plain(r.t, p.data, n)
	p.data = p.data[used:]
	return v
}

// smallWidth is of values that are as well copied.
const smallWidth = 16

// gather gives the values of some numbers: copies where these are about as small. Large
// values stay in the dictionary: a page of few bytes may repeat one for ever.
func (d *Dictionary) gather(codes []uint32) Values {
	v := Values{N: len(codes)}
	switch {
	case d.Int32s != nil:
		v.Int32s = pick(d.Int32s, codes)
	case d.Int64s != nil:
		v.Int64s = pick(d.Int64s, codes)
	case d.Floats != nil:
		v.Floats = pick(d.Floats, codes)
	case d.Doubles != nil:
		v.Doubles = pick(d.Doubles, codes)
	case d.Width > 0 && d.Width <= smallWidth:
		v.Width, v.Data = d.Width, make([]byte, 0, len(codes)*d.Width)
		for _, c := range codes {
			v.Data = append(v.Data, d.Bytes(int(c))...)
		}
	default:
		v.Codes, v.Dict = codes, d
	}
	return v
}

func pick[E any](from []E, codes []uint32) []E {
	out := make([]E, len(codes))
	for i, c := range codes {
		out[i] = from[c]
	}
	return out
}

// skip passes over n rows of the group.
func (r *columnReader) skip(n int64) error {
	for n > 0 {
		if r.page.left == 0 {
			skipped, err := r.nextPage(n)
			if err != nil {
				return err
			}
			n -= skipped
			r.rows -= skipped
			continue
		}
		s, err := r.segment(int(min(n, 4096)))
		if err != nil {
			return err
		}
		n -= int64(s.Rows)
	}
	return nil
}

// read gives segments of n rows, of this group. With an error they are fewer, up to the
// row where the damage begins.
func (r *columnReader) read(n int, out []Segment) ([]Segment, error) {
	for n > 0 {
		if r.page.left == 0 {
			if _, err := r.nextPage(0); err != nil {
				return out, err
			}
			continue
		}
		s, err := r.segment(n)
		if s.Rows > 0 {
			out = append(out, s)
			n -= s.Rows
		}
		if err != nil {
			return out, err
		}
	}
	return out, nil
}

// segment reads up to n rows of the page at hand.
func (r *columnReader) segment(n int) (s Segment, err error) {
	if r.t.maxRep > 0 {
		s, err = r.lists(n)
	} else {
		s, err = r.flat(n)
	}
	r.rows -= int64(s.Rows)
	return s, err
}

func (r *columnReader) flat(n int) (s Segment, err error) {
	p := &r.page
	n = min(n, p.left)
	there := n
	if p.def != nil {
		if cap(p.defBuf) < n {
			p.defBuf = make([]uint8, n)
		}
		defs := p.defBuf[:n]
		if got := fillHybrid(p.def, defs); got < n {
			n, err = got, r.damagef("a page has fewer levels than values")
			defs = defs[:n]
		}
		there = 0
		for _, d := range defs {
			there += int(d) // it is 0 or 1
		}
		if there < n {
			s.Valid = make([]bool, n)
			for i, d := range defs {
				s.Valid[i] = d != 0
			}
		}
	}
	s.Rows = n
	s.Values = r.take(there)
	if got := s.Values.N; got < there {
		err = r.damagef("a page has fewer values than it should, or one that is out of its dictionary")
		s.Rows = got
		if s.Valid != nil { // up to the first value that is missing
			for i, ok := range s.Valid {
				if ok {
					if got == 0 {
						s.Rows = i
						break
					}
					got--
				}
			}
			s.Valid = s.Valid[:s.Rows]
		}
	}
	p.left -= s.Rows
	return s, err
}

// lists reads rows of a list column.
func (r *columnReader) lists(n int) (s Segment, err error) {
	l := r.elements(n)
	if s, err = r.bounded(&l.Segment); l.damage != nil && err == nil {
		err = l.damage
	}
	if err != nil || r.page.left > 0 || r.values == 0 || s.Rows == 0 {
		return s, err
	}
	// The last row may go on in the next pages.
	owned := false // whether the values are in memory that nothing else looks at
	for whole := false; !whole; {
		if r.page.left == 0 {
			if r.values == 0 {
				break
			}
			if _, err := r.nextPage(0); err != nil {
				return s.first(s.Rows - 1), err
			}
			continue
		}
		p := &r.page
		end := p.levelAt
		for end < len(p.reps) && p.reps[end] != 0 {
			end++
		}
		whole = end < len(p.reps)
		if end == p.levelAt {
			break
		}
		more := r.part(end)
		if more.damage != nil {
			return s.first(s.Rows - 1), more.damage
		}
		if s.Lens[s.Rows-1] < 1 {
			return s.first(s.Rows - 1), r.damagef("a list that is empty goes on in the next page")
		}
		if int64(len(s.Data))+int64(len(more.Data)) > math.MaxUint32 {
			return s.first(s.Rows - 1), r.damagef("a list has more than %d bytes", uint32(math.MaxUint32))
		}
		owned = s.grow(&more, owned)
		if s, err = r.bounded(&s); err != nil {
			return s, err
		}
	}
	return s, nil
}

// bounded refuses a list that repeats large values of its dictionary: no batch is so small
// that it fits. It gives the rows before it.
func (r *columnReader) bounded(s *Segment) (Segment, error) {
	limit := r.f.limits.Page
	if s.Codes == nil || s.Dict.longest()*int64(len(s.Codes)) <= limit {
		return *s, nil
	}
	value, elem := 0, 0
	for i, size := range s.Lens {
		total := int64(0)
		for range size {
			if s.Elems == nil || s.Elems[elem] {
				total += int64(len(s.Bytes(value)))
				value++
			}
			elem++
		}
		if total > limit {
			return s.first(i), r.damagef("a list has %d bytes, more than the limit of %d", total, limit)
		}
	}
	return *s, nil
}

// listPart is what some levels of a page make: rows, the last of which may go on, or
// elements (count) of a row that began before.
type listPart struct {
	Segment
	count  int32
	damage error
}

// elements reads up to n rows of the page at hand. A last one that may go on in the next
// page is read alone.
func (r *columnReader) elements(n int) listPart {
	p := &r.page
	end := p.levelAt
	if p.reps[end] != 0 {
		return listPart{damage: r.damagef("a page begins in the middle of a list that never began")}
	}
	for ; end < len(p.reps); end++ {
		if p.reps[end] == 0 {
			if n == 0 || end == p.lastRow && end > p.levelAt && r.values > 0 {
				break
			}
			n--
		}
	}
	return r.part(end)
}

// part reads the levels up to end, and their values.
func (r *columnReader) part(end int) (l listPart) {
	p, t := &r.page, r.t
	from := p.levelAt
	p.levelAt, p.left = end, len(p.reps)-end
	count, there := 0, 0
	for _, d := range p.defs[from:end] {
		if d >= t.defElem {
			count++
		}
		if d == t.maxDef {
			there++
		}
	}
	if there < count {
		l.Elems = make([]bool, 0, count)
	}
	l.Values = r.take(there)
	left := l.Values.N
	for i := from; i < end; i++ {
		d := p.defs[i]
		begins := p.reps[i] == 0
		if begins {
			l.Lens = append(l.Lens, 0)
		}
		switch {
		case !begins && (d < t.defElem || len(l.Lens) > 0 && l.Lens[len(l.Lens)-1] < 1):
			l.damage = r.damagef("an element of a list is no element")
		case d < t.defList:
			l.Lens[len(l.Lens)-1] = -1
		case d < t.defElem:
		case d == t.maxDef && left == 0:
			l.damage = r.damagef("a page has fewer values than it should, or one that is out of its dictionary")
		default:
			if d == t.maxDef {
				left--
			}
			if l.Elems != nil {
				l.Elems = append(l.Elems, d == t.maxDef)
			}
			if len(l.Lens) > 0 {
				l.Lens[len(l.Lens)-1]++
			} else {
				l.count++
			}
		}
		if l.damage != nil {
			l.Rows = len(l.Lens)
			l.Segment = l.first(max(l.Rows-1, 0)) // the row at hand is not whole
			return l
		}
	}
	l.Rows = len(l.Lens)
	return l
}

// first gives the first n rows of a list segment.
func (s *Segment) first(n int) Segment {
	out := Segment{Rows: n, Lens: s.Lens[:n]}
	count := 0
	for _, k := range out.Lens {
		count += max(int(k), 0)
	}
	there := count
	if s.Elems != nil {
		out.Elems = s.Elems[:count]
		there = 0
		for _, ok := range out.Elems {
			if ok {
				there++
			}
		}
	}
	out.Values = s.Values.slice(0, there)
	return out
}

// grow adds elements to the last row; see join.
func (s *Segment) grow(more *listPart, owned bool) bool {
	if more.Elems != nil || s.Elems != nil {
		s.Elems = append(s.allElems(), more.allElems()...)
	}
	s.Lens[s.Rows-1] += more.count
	s.Values, owned = join(&s.Values, &more.Values, owned)
	return owned
}

func (s *Segment) allElems() []bool {
	if s.Elems != nil {
		return s.Elems
	}
	out := make([]bool, s.Values.N)
	for i := range out {
		out[i] = true
	}
	return out
}

// join gives the values of both. owned tells whether a has memory of its own: then b is
// appended to it, so that a list of very many pages is not copied with each of them. The
// result's is told in turn.
func join(a, b *Values, owned bool) (Values, bool) {
	switch {
	case b.N == 0:
		return *a, owned
	case a.N == 0:
		return *b, false
	}
	out := Values{
		N: a.N + b.N, Width: a.Width,
		Bools: concat(a.Bools, b.Bools, owned), Int32s: concat(a.Int32s, b.Int32s, owned), Int64s: concat(a.Int64s, b.Int64s, owned),
		Floats: concat(a.Floats, b.Floats, owned), Doubles: concat(a.Doubles, b.Doubles, owned),
	}
	switch {
	case a.Width > 0 && b.Width > 0:
		out.Data = concat(a.Data, b.Data, owned)
	case a.Codes != nil && b.Codes != nil && a.Dict == b.Dict:
		out.Codes, out.Dict = concat(a.Codes, b.Codes, owned), a.Dict
	case a.Codes != nil || a.Spans != nil || a.Width > 0:
		both := []*Values{a, b}
		if owned && a.Codes == nil {
			out.Spans, out.Data, both = a.Spans, a.Data, both[1:]
		}
		out.Width = max(a.Width, b.Width) // of a fixed length if one is
		for _, v := range both {
			for i := range v.N {
				text := v.Bytes(i)
				if out.Width == 0 {
					out.Spans = append(out.Spans, uint64(len(out.Data))<<32|uint64(len(text)))
				}
				out.Data = append(out.Data, text...)
			}
		}
	}
	return out, true
}

func concat[E any](a, b []E, owned bool) []E {
	switch {
	case a == nil && b == nil:
		return nil
	case owned:
		return append(a, b...)
	}
	return append(a[:len(a):len(a)], b...)
}
