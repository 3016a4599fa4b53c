package parquetsink

import (
	"unsafe"
)

// chunk gathers a column of a row group, page by page, in memory of its own.
type chunk struct {
	column *Column
	width  int // bytes of a value; 0: byte arrays
	bound  int // bytes of a page
	pages  []rawPage
	held   int64
	full   int // bytes that a page has when its row group is full; 0: not known
	hint   int // bytes that a page will have, by the row group before; 0: not known

	// Of strings.
	dict    *dictionary // nil until there is one
	plain   bool        // no more numbers of the dictionary
	batch   uint64      // that remap is for
	remap   []uint32    // from the codes of a batch to numbers of dict, plus 1
	scratch *gather
}

// rawPage is a run of whole rows of a column.
type rawPage struct {
	rows     int
	values   int    // that are not null
	data     []byte // the values as PLAIN has them, except that bools take a byte; or their numbers in the dictionary, 4 bytes each
	coded    bool
	def, rep []byte // levels, of columns that have them
}

// gather is the scratch of the chunks of a file's engine.
type gather struct {
	picks    []int32 // values to take
	def, rep []byte
}

func (c *Column) valueWidth() int {
	switch c.Physical() {
	case Boolean:
		return 1
	case Int32, Float32:
		return 4
	case Int64, Float64:
		return 8
	case FixedLenByteArray:
		return decimalLength
	}
	return 0
}

// gathered is what a value takes in a page that is gathered, with texts as numbers of a
// dictionary; 0: any size.
func (c *Column) gathered() int64 {
	if c.Type == String {
		return 4
	}
	return int64(c.valueWidth())
}

// room makes room in a page's buffer, and keeps count of the memory.
func (k *chunk) room(p *pool, b []byte, n int) []byte {
	const some = 64 << 10
	before, hint := cap(b), 0
	if before >= some {
		hint = k.full // in one step, because nobody could use what lies between
	}
	b = p.grow(b, n, hint)
	k.held += int64(cap(b) - before)
	return b
}

func (k *chunk) append(p *pool, b, more []byte) []byte {
	return append(k.room(p, b, len(more)), more...)
}

// page gives the page for the next rows.
func (k *chunk) page(p *pool, coded bool) *rawPage {
	expect := k.hint
	if n := len(k.pages); n > 0 && k.pages[n-1].coded == coded {
		last := &k.pages[n-1]
		if len(last.data) < k.bound && last.rows < maxPageRows {
			return last
		}
		if expect == 0 {
			expect = min(k.bound, manyPage) // one is full: there is much of it
		}
	}
	pg := rawPage{coded: coded}
	if expect > 0 {
		pg.data = k.room(p, nil, expect)
	}
	k.pages = append(k.pages, pg)
	return &k.pages[len(k.pages)-1]
}

// maxPageRows bounds pages of values that take next to nothing.
const maxPageRows = 1 << 20

// add takes rows of a vector: those that pick names, or all of n.
func (k *chunk) add(p *pool, v *Vector, n int, pick []int32) {
	coded := k.decide(p, v, n)
	if k.column.List || k.column.Null || k.width == 0 && !(coded && v.codes != nil) {
		k.addSlowly(p, v, n, pick)
		return
	}
	width := k.width
	if coded {
		width = 4
	}
	for at := 0; at < n; {
		pg := k.page(p, coded)
		m := min(n-at, max(1, (k.bound-len(pg.data))/width), maxPageRows-pg.rows)
		pg.data = k.room(p, pg.data, m*width)
		start := len(pg.data)
		pg.data = pg.data[:start+m*width]
		var rows []int32
		if pick != nil {
			rows = pick[at : at+m]
		}
		k.fill(pg.data[start:], v, at, rows, coded)
		pg.rows += m
		pg.values += m
		at += m
	}
	k.limit()
}

// fill puts values into dst: those that rows names, or those from row at.
func (k *chunk) fill(dst []byte, v *Vector, at int, rows []int32, coded bool) {
	if coded {
		if rows != nil {
			k.recode(numbers[uint32](dst), v, rows)
			return
		}
		out := numbers[uint32](dst)
		codes := v.codes[at : at+len(out)]
		for i, c := range codes {
			n := k.remap[c]
			if n == 0 {
				n = k.learn(v, c)
			}
			out[i] = n - 1
		}
		return
	}
	switch k.column.Physical() {
	case Boolean:
		take(dst, v.Bools, at, rows)
	case Int32:
		take(dst, v.Int32s, at, rows)
	case Int64:
		take(dst, v.Int64s, at, rows)
	case Float32:
		take(dst, v.Floats, at, rows)
	case Float64:
		take(dst, v.Doubles, at, rows)
	case FixedLenByteArray:
		for i := range len(dst) / decimalLength {
			r := at + i
			if rows != nil {
				r = int(rows[i])
			}
			copy(dst[i*decimalLength:], v.Strings[r])
		}
	}
}

// recode gives the numbers that some values of a coded vector have in the chunk's
// dictionary.
func (k *chunk) recode(out []uint32, v *Vector, rows []int32) {
	for i, r := range rows {
		c := v.codes[r]
		n := k.remap[c]
		if n == 0 {
			n = k.learn(v, c)
		}
		out[i] = n - 1
	}
}

func (k *chunk) learn(v *Vector, code uint32) uint32 {
	n, _ := k.dict.number(v.texts[code])
	k.remap[code] = n + 1
	return n + 1
}

// numbers sees bytes as numbers.
func numbers[E any](b []byte) []E {
	var e E
	return unsafe.Slice((*E)(unsafe.Pointer(unsafe.SliceData(b))), len(b)/int(unsafe.Sizeof(e)))
}

func take[E any](dst []byte, src []E, at int, rows []int32) {
	out := numbers[E](dst)
	if rows == nil {
		copy(out, src[at:])
		return
	}
	for i, r := range rows {
		out[i] = src[r]
	}
}

// decide tells whether the strings of a vector go in as numbers of a dictionary.
func (k *chunk) decide(p *pool, v *Vector, n int) bool {
	if k.column.Type != String || k.plain {
		return false
	}
	if k.dict == nil {
		// A column that does not repeat its texts at the start of a row group is
		// plain: a dictionary would cost time and give nothing.
		if v.codes == nil && !repeats(v, n) {
			k.plain = true
			return false
		}
		k.dict = p.dictionary()
	}
	if v.codes != nil && k.batch != v.batch {
		k.batch = v.batch
		k.remap = sized(k.remap, len(v.texts))
		clear(k.remap)
	}
	return true
}

// limit ends the use of a dictionary that has grown too large.
func (k *chunk) limit() {
	if k.dict != nil && len(k.dict.plain) > maxDictionary {
		k.plain = true
	}
}

// repeats looks at the first strings of a column: when most of them are new, a
// dictionary would cost time and give nothing.
func repeats(v *Vector, rows int) bool {
	const sample = 1024
	from, n := 0, rows
	if v.Ends != nil {
		from, n = int(v.Ends[0]), int(v.Ends[rows]-v.Ends[0])
	}
	n = min(n, sample)
	seen := make(map[string]struct{}, n)
	values := 0
	for i, s := range v.Strings[from : from+n] {
		if v.Ends == nil && v.Valid != nil && !v.Valid[i] {
			continue
		}
		values++
		seen[s] = struct{}{}
	}
	return 2*len(seen) <= values+16
}

// mostText is the size of a text beyond which it is not worth a dictionary.
const mostText = 1 << 10

// addSlowly is add for columns with nulls, lists or strings: the rows go in runs,
// each to one page.
func (k *chunk) addSlowly(p *pool, v *Vector, n int, pick []int32) {
	const run = 1024
	s := k.scratch
	for at := 0; at < n; {
		coded := k.column.Type == String && !k.plain
		pg := k.page(p, coded)
		room := k.bound - len(pg.data)
		s.picks, s.def, s.rep = s.picks[:0], s.def[:0], s.rep[:0]
		size, rows := 0, 0
		most := min(n-at, run, maxPageRows-pg.rows)
		for rows < most && size < room {
			r := at + rows
			if pick != nil {
				r = int(pick[r])
			}
			picks, levels := len(s.picks), len(s.def)
			bytes, long := k.addRow(s, v, r, coded)
			if long { // it goes into a page of its own kind
				s.picks, s.def, s.rep = s.picks[:picks], s.def[:min(levels, len(s.def))], s.rep[:min(levels, len(s.rep))]
				k.plain = true
				break
			}
			rows++
			size += bytes
		}
		if rows == 0 {
			if pg.rows == 0 {
				k.held -= int64(cap(pg.data))
				p.put(pg.data)
				k.pages = k.pages[:len(k.pages)-1]
			}
			continue
		}
		at += rows
		pg.rows += rows
		pg.values += len(s.picks)
		if k.column.Null || k.column.List {
			pg.def = k.append(p, pg.def, s.def)
		}
		if k.column.List {
			pg.rep = k.append(p, pg.rep, s.rep)
		}
		pg.data = k.room(p, pg.data, size)
		start := len(pg.data)
		switch {
		case coded:
			pg.data = pg.data[:start+size]
			k.number(numbers[uint32](pg.data[start:]), v, s.picks)
		case k.width == 0:
			for _, i := range s.picks {
				pg.data = appendPlain(pg.data, v.at(int(i)))
			}
		default:
			pg.data = pg.data[:start+size]
			if size > 0 {
				k.fill(pg.data[start:], v, 0, s.picks, false)
			}
		}
		k.limit()
	}
}

// number gives strings their numbers in the dictionary.
func (k *chunk) number(out []uint32, v *Vector, rows []int32) {
	if v.codes != nil {
		k.recode(out, v, rows)
		return
	}
	for i, r := range rows {
		out[i], _ = k.dict.number(v.Strings[r])
	}
}

// at gives a string, coded or not.
func (v *Vector) at(i int) string {
	if v.codes != nil {
		return v.texts[v.codes[i]]
	}
	return v.Strings[i]
}

// addRow notes which values a row has, and its levels. It gives how many bytes
// they take, and whether a text is too long for a dictionary.
func (k *chunk) addRow(s *gather, v *Vector, r int, coded bool) (size int, long bool) {
	if !k.column.List {
		if k.column.Null {
			if !v.Valid[r] {
				s.def = append(s.def, 0)
				return 0, false
			}
			s.def = append(s.def, 1)
		}
		s.picks = append(s.picks, int32(r))
		return k.size(v, r, coded)
	}
	level := byte(0) // of a list that is there
	if k.column.Null {
		level = 1
		if !v.Valid[r] {
			s.def, s.rep = append(s.def, 0), append(s.rep, 0)
			return 0, false
		}
	}
	from, to := int(v.Ends[r]), int(v.Ends[r+1])
	if from == to {
		s.def, s.rep = append(s.def, level), append(s.rep, 0)
		return 0, false
	}
	for i := from; i < to; i++ {
		s.def, s.rep = append(s.def, level+1), append(s.rep, byte(min(i-from, 1)))
		s.picks = append(s.picks, int32(i))
		n, l := k.size(v, i, coded)
		size, long = size+n, long || l
	}
	return size, long
}

func (k *chunk) size(v *Vector, i int, coded bool) (size int, long bool) {
	switch {
	case k.width > 0:
		return k.width, false
	case coded:
		return 4, len(v.at(i)) > mostText
	}
	return 4 + len(v.at(i)), false
}

// memory is what the chunk holds.
func (k *chunk) memory() int64 {
	n := k.held + 4*int64(cap(k.remap))
	if k.dict != nil {
		n += int64(k.dict.memory())
	}
	return n
}

// release gives all memory back.
func (k *chunk) release(p *pool) {
	for i := range k.pages {
		pg := &k.pages[i]
		p.put(pg.data)
		p.put(pg.def)
		p.put(pg.rep)
	}
	k.pages = nil
	k.held = 0
	if k.dict != nil {
		p.putDictionary(k.dict)
		k.dict = nil
	}
}
