package parquetread

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"unicode/utf8"
)

// Limits bound what a file may make its reader allocate, in bytes. Zero is the default.
type Limits struct {
	Footer int64 // of the footer. Defaults to 64 MiB
	Page   int64 // of a page, unfolded, and of what its values are decoded to at once. Defaults to 128 MiB

	// Ratio is how many bytes a file may unfold to for each byte it has, over all: a
	// file of a few KiB can claim to hold gigabytes. Free bytes are always allowed,
	// because small files of columns that repeat do unfold so. -1 is no limit. Default
	// to 1,000 and 256 MiB.
	Ratio int64
	Free  int64
}

// Filled gives the limits with the defaults filled in.
func (l Limits) Filled() Limits {
	if l.Footer == 0 {
		l.Footer = 64 << 20
	}
	if l.Page == 0 {
		l.Page = 128 << 20
	}
	l.Page = min(l.Page, math.MaxInt32)
	if l.Ratio == 0 {
		l.Ratio = 1000
	}
	if l.Free == 0 {
		l.Free = 256 << 20
	}
	return l
}

// Damage is what is wrong with a file, the same at each reading: not with the disk, nor
// with single values.
type Damage struct{ msg string }

func (d *Damage) Error() string { return d.msg }

func damagef(format string, args ...any) error { return &Damage{fmt.Sprintf(format, args...)} }

// IsDamage tells faults of the file from those of the disk.
func IsDamage(err error) bool {
	var d *Damage
	return errors.As(err, &d)
}

// The physical types, with the format's numbers.
const (
	physBool   = 0
	physInt32  = 1
	physInt64  = 2
	physInt96  = 3
	physFloat  = 4
	physDouble = 5
	physBytes  = 6
	physFixed  = 7
)

var physNames = [...]string{"BOOLEAN", "INT32", "INT64", "INT96", "FLOAT", "DOUBLE", "BYTE_ARRAY", "FIXED_LEN_BYTE_ARRAY"}

const (
	required = 0
	optional = 1
	repeated = 2
)

// element is one of the schema, as the footer has it.
type element struct {
	name       string
	phys       int32 // -1: a group
	length     int32
	repetition int32
	children   int32
	converted  int32 // -1: none
	scale      int32
	precision  int32
	logical    logical
}

// logical is a LogicalType.
type logical struct {
	kind      int16 // the union's field; 0: none
	scale     int32
	precision int32
	utc       bool
	unit      int16 // 1 ms, 2 µs, 3 ns
	bits      int8
	signed    bool
}

// chunkMeta is a column of a row group.
type chunkMeta struct {
	phys     int32
	codec    int32
	values   int64
	start    int64 // of its first page
	size     int64 // of all its pages in the file
	unfolded int64 // as the footer claims
}

type group struct {
	rows   int64
	first  int64 // number of its first row in the file
	chunks []chunkMeta
}

// File is an open file: its footer, checked.
type File struct {
	Rows    int64
	Columns []Column

	r      io.ReaderAt
	size   int64
	limits Limits
	groups []group
	leaves int
}

// Column is a column of the file, at the top of its schema.
type Column struct {
	Name string
	Type string // in the words of Parquet

	leaf     int // the first one
	shape    shape
	typ      leafType
	optional bool // can be null
}

type shape uint8

const (
	flat shape = iota
	list
	nested // structs, maps, lists of these: not read
)

// leafType is how a leaf's values are stored and what they mean.
type leafType struct {
	phys    int32
	length  int32 // of a FIXED_LEN_BYTE_ARRAY
	meaning meaning
	scale   int32
	digits  int32
	unit    int16
	utc     bool
	signed  bool
	bits    int8

	maxDef, maxRep uint8
	// Of a list: the definition levels from which on it is there, has an element, has
	// an element that is not null.
	defList, defElem uint8
}

const tail = 8 // the footer's length, and PAR1

// Open reads the footer and checks it.
func Open(r io.ReaderAt, size int64, limits Limits) (*File, error) {
	f := &File{r: r, size: size, limits: limits.Filled()}
	if size < 4+tail {
		return nil, damagef("it is no Parquet file: it has %d bytes", size)
	}
	var head [4]byte
	if err := f.read(head[:], 0); err != nil {
		return nil, err
	}
	var end [tail]byte
	if err := f.read(end[:], size-tail); err != nil {
		return nil, err
	}
	switch magic := string(end[4:]); {
	case magic == "PARE" || string(head[:]) == "PARE":
		return nil, damagef("it is encrypted, which is not supported")
	case magic != "PAR1" && string(head[:]) == "PAR1":
		return nil, damagef("it is cut off: a Parquet file ends with PAR1, this one does not")
	case magic != "PAR1" || string(head[:]) != "PAR1":
		return nil, damagef("it is no Parquet file: it does not begin and end with PAR1")
	}
	n := int64(binary.LittleEndian.Uint32(end[:]))
	switch {
	case n > size-4-tail:
		return nil, damagef("its footer claims %d bytes, the file has %d", n, size)
	case n > f.limits.Footer:
		return nil, damagef("its footer has %d bytes, more than the limit of %d", n, f.limits.Footer)
	}
	footer := make([]byte, n)
	if err := f.read(footer, size-tail-n); err != nil {
		return nil, err
	}
	if err := f.parse(footer); err != nil {
		return nil, err
	}
	return f, f.check(size - tail - n)
}

// read fills b from the file.
func (f *File) read(b []byte, at int64) error {
	n, err := f.r.ReadAt(b, at)
	if n == len(b) {
		return nil
	}
	if err == io.EOF {
		return damagef("it ends at byte %d, in the middle of something", at+int64(n))
	}
	return err
}

func (f *File) parse(footer []byte) error {
	t := &thrift{b: footer}
	var elements []element
	encrypted, rows, hasRows := false, int64(0), false
	t.fields(func(id int16, typ byte) {
		switch {
		case id == 2 && typ == thriftList:
			t.list(thriftStruct, func() {
				if len(elements) > maxColumns { // each takes many times its bytes in the footer
					t.fail(fmt.Errorf("its schema has more than %d elements", maxColumns))
					return
				}
				elements = append(elements, parseElement(t))
			})
		case id == 3 && typ == thriftI64:
			rows, hasRows = t.int(), true
		case id == 4 && typ == thriftList:
			t.list(thriftStruct, func() { f.groups = append(f.groups, parseGroup(t)) })
		case id == 8:
			encrypted = true
			t.skip(typ)
		default:
			t.skip(typ)
		}
	})
	switch {
	case t.err != nil:
		return damagef("its footer is damaged: %v", t.err)
	case encrypted:
		return damagef("it is encrypted, which is not supported")
	case !hasRows || len(elements) == 0:
		return damagef("its footer is damaged: it has no schema, or no number of rows")
	}
	f.Rows = rows
	return f.schema(elements)
}

func parseElement(t *thrift) element {
	e := element{phys: -1, converted: -1}
	t.fields(func(id int16, typ byte) {
		switch {
		case id == 1 && typ == thriftI32:
			e.phys = t.int32()
		case id == 2 && typ == thriftI32:
			e.length = t.int32()
		case id == 3 && typ == thriftI32:
			e.repetition = t.int32()
		case id == 4 && typ == thriftBinary:
			e.name = t.text()
		case id == 5 && typ == thriftI32:
			e.children = t.int32()
		case id == 6 && typ == thriftI32:
			e.converted = t.int32()
		case id == 7 && typ == thriftI32:
			e.scale = t.int32()
		case id == 8 && typ == thriftI32:
			e.precision = t.int32()
		case id == 10 && typ == thriftStruct:
			e.logical = parseLogical(t)
		default:
			t.skip(typ)
		}
	})
	return e
}

func parseLogical(t *thrift) (l logical) {
	t.fields(func(id int16, typ byte) {
		l.kind = id
		if typ != thriftStruct {
			t.skip(typ)
			return
		}
		t.fields(func(sub int16, typ byte) {
			switch {
			case id == logicalDecimal && sub == 1 && typ == thriftI32:
				l.scale = t.int32()
			case id == logicalDecimal && sub == 2 && typ == thriftI32:
				l.precision = t.int32()
			case (id == logicalTime || id == logicalTimestamp) && sub == 1:
				l.utc = typ == thriftTrue
				t.skip(typ)
			case (id == logicalTime || id == logicalTimestamp) && sub == 2 && typ == thriftStruct:
				t.fields(func(unit int16, typ byte) { l.unit = unit; t.skip(typ) })
			case id == logicalInt && sub == 1 && typ == thriftByte:
				l.bits = int8(t.byte())
			case id == logicalInt && sub == 2:
				l.signed = typ == thriftTrue
				t.skip(typ)
			default:
				t.skip(typ)
			}
		})
	})
	return l
}

func parseGroup(t *thrift) group {
	g := group{rows: -1}
	t.fields(func(id int16, typ byte) {
		switch {
		case id == 1 && typ == thriftList:
			t.list(thriftStruct, func() { g.chunks = append(g.chunks, parseChunk(t)) })
		case id == 3 && typ == thriftI64:
			g.rows = t.int()
		default:
			t.skip(typ)
		}
	})
	if g.rows < 0 {
		t.fail(errors.New("a row group has no number of rows"))
	}
	return g
}

func parseChunk(t *thrift) chunkMeta {
	c := chunkMeta{phys: -1}
	hasMeta := false
	var dictionary, data int64
	t.fields(func(id int16, typ byte) {
		switch {
		case id == 1 && typ == thriftBinary:
			if len(t.bytes()) > 0 {
				t.fail(errors.New("a column lies in another file"))
			}
		case id == 3 && typ == thriftStruct:
			hasMeta = true
			t.fields(func(id int16, typ byte) {
				switch {
				case id == 1 && typ == thriftI32:
					c.phys = t.int32()
				case id == 4 && typ == thriftI32:
					c.codec = t.int32()
				case id == 5 && typ == thriftI64:
					c.values = t.int()
				case id == 6 && typ == thriftI64:
					c.unfolded = t.int()
				case id == 7 && typ == thriftI64:
					c.size = t.int()
				case id == 9 && typ == thriftI64:
					data = t.int()
				case id == 11 && typ == thriftI64:
					dictionary = t.int()
				default:
					t.skip(typ)
				}
			})
		case id == 8 || id == 9:
			t.fail(errors.New("a column is encrypted"))
		default:
			t.skip(typ)
		}
	})
	if !hasMeta || c.phys < 0 {
		t.fail(errors.New("a column of a row group is not described"))
	}
	c.start = data
	if dictionary > 0 && dictionary < data { // some writers give 0, or one behind it, for none
		c.start = dictionary
	}
	return c
}

// maxColumns is far beyond what any file for rows has.
const maxColumns = 100_000

// schema makes the columns of the list of elements, which is a tree in preorder.
func (f *File) schema(elements []element) error {
	root := &elements[0]
	if root.children < 1 {
		return damagef("it has no columns")
	}
	at := 1
	for range root.children {
		c, next, err := f.column(elements, at)
		if err != nil {
			return err
		}
		f.Columns = append(f.Columns, c)
		at = next
	}
	if at != len(elements) {
		return damagef("its schema is damaged: %d elements are under no column", len(elements)-at)
	}
	return nil
}

func (f *File) column(elements []element, at int) (Column, int, error) {
	w := walk{elements: elements}
	c := Column{leaf: f.leaves}
	next, err := w.pass(at, 1)
	if err != nil {
		return c, 0, err
	}
	f.leaves += w.leaves
	e := elements[at:next]
	c.Name, c.optional = e[0].name, e[0].repetition == optional
	if !utf8.ValidString(c.Name) {
		return c, next, damagef("the name of column %s is not valid UTF-8", quote(c.Name))
	}
	c.shape = nested
	c.Type = "a structure"
	var leaf *element
	var levels leafType
	switch {
	case len(e) == 1 && e[0].repetition != repeated:
		c.shape, leaf = flat, &e[0]
		levels.maxDef = uint8(e[0].repetition)
	case len(e) == 1: // the oldest form of a list
		c.shape, leaf = list, &e[0]
		levels.maxDef, levels.maxRep, levels.defElem = 1, 1, 1
	case e[0].repetition != repeated && e[0].isMap():
		c.Type = "a map"
	case e[0].repetition != repeated && e[0].children == 1 && e[1].repetition == repeated && len(e) <= 3 && e[0].isList():
		def := uint8(e[0].repetition)
		levels.defList = def
		def++
		levels.defElem, levels.maxRep = def, 1
		c.Type = "a list of structures"
		switch {
		case len(e) == 2: // the second oldest
			c.shape, leaf = list, &e[1]
		case e[2].children == 0 && e[2].repetition != repeated:
			c.shape, leaf = list, &e[2]
			def += uint8(e[2].repetition)
		}
		levels.maxDef = def
	}
	if leaf == nil {
		return c, next, nil
	}
	typ, name, err := meaningOf(leaf)
	if err != nil {
		return c, next, fmt.Errorf("column %s: %w", quote(c.Name), err)
	}
	typ.maxDef, typ.maxRep, typ.defList, typ.defElem = levels.maxDef, levels.maxRep, levels.defList, levels.defElem
	c.typ, c.Type = typ, name
	if c.shape == list {
		c.Type = "a list of " + name
	}
	return c, next, nil
}

func (e *element) isMap() bool {
	return e.logical.kind == logicalMap || e.converted == convertedMap || e.converted == convertedMapKeyValue
}
func (e *element) isList() bool { return e.logical.kind == logicalList || e.converted == convertedList }

// walk passes over a subtree and counts its leaves.
type walk struct {
	elements []element
	leaves   int
}

func (w *walk) pass(at, depth int) (next int, err error) {
	switch {
	case at >= len(w.elements):
		return 0, damagef("its schema is damaged: it ends in the middle of a group")
	case depth > maxNesting:
		return 0, damagef("its schema is nested deeper than %d", maxNesting)
	}
	e := &w.elements[at]
	switch {
	case e.repetition < required || e.repetition > repeated:
		return 0, damagef("its schema is damaged: column %s has the repetition %d", quote(e.name), e.repetition)
	case e.children < 0:
		return 0, damagef("its schema is damaged: column %s has %d children", quote(e.name), e.children)
	case e.children == 0:
		if e.phys < physBool || e.phys > physFixed {
			return 0, damagef("its schema is damaged: column %s has no type", quote(e.name))
		}
		w.leaves++
		return at + 1, nil
	}
	next = at + 1
	for range e.children {
		if next, err = w.pass(next, depth+1); err != nil {
			return 0, err
		}
	}
	return next, nil
}

// check compares what the footer says with itself and with the file, whose pages end
// at end.
func (f *File) check(end int64) error {
	rows := int64(0)
	for i := range f.groups {
		g := &f.groups[i]
		g.first = rows
		if g.rows > math.MaxInt64-rows {
			return damagef("its row groups claim more rows than there can be")
		}
		rows += g.rows
		if len(g.chunks) != f.leaves {
			return damagef("row group %d has %d columns, the schema %d", i, len(g.chunks), f.leaves)
		}
		for k := range g.chunks {
			c := &g.chunks[k]
			if g.rows > 0 && (c.start < 4 || c.size < 0 || c.start > end || c.size > end-c.start) {
				return damagef("row group %d, column %d: its pages are said to lie at %d (%d bytes), outside the file of %d bytes", i, k, c.start, c.size, f.size)
			}
			if c.values < 0 || c.unfolded < 0 {
				return damagef("row group %d, column %d: it has %d values in %d bytes", i, k, c.values, c.unfolded)
			}
		}
	}
	if rows != f.Rows {
		return damagef("its footer claims %d rows, its row groups have %d", f.Rows, rows)
	}
	if err := f.checkRows(); err != nil {
		return err
	}
	for i := range f.Columns {
		c := &f.Columns[i]
		if c.shape == nested {
			continue
		}
		for k := range f.groups {
			m := &f.groups[k].chunks[c.leaf]
			if m.phys != c.typ.phys {
				return damagef("column %s is %s in the schema, and %s in row group %d", quote(c.Name), physNames[c.typ.phys], physName(m.phys), k)
			}
			if c.shape == flat && m.values != f.groups[k].rows {
				return damagef("column %s has %d values in row group %d of %d rows", quote(c.Name), m.values, k, f.groups[k].rows)
			}
		}
	}
	return nil
}

// allowance is how many bytes the file may unfold to.
func (f *File) allowance() int64 {
	if f.limits.Ratio < 0 {
		return math.MaxInt64
	}
	if f.size > math.MaxInt64/f.limits.Ratio {
		return math.MaxInt64
	}
	return max(f.limits.Free, f.size*f.limits.Ratio)
}

// maxRows is what no file has; a folder's log has place for many such files.
const maxRows = 1 << 40

// checkRows refuses a file of more rows than bytes may come of it. Columns that are read
// are limited by checkSize, but there may be none.
func (f *File) checkRows() error {
	if f.Rows > min(f.allowance(), maxRows) {
		return damagef("it has %d bytes and claims %d rows: it unfolds to more than %d bytes, which is the limit", f.size, f.Rows, min(f.allowance(), maxRows))
	}
	return nil
}

// checkSize refuses a file whose columns, by its own words, unfold to more than is
// allowed.
func (f *File) checkSize(columns []int) error {
	allowed := f.allowance()
	total := int64(0)
	add := func(n int64) bool {
		if n > allowed-total {
			return false
		}
		total += n
		return true
	}
	for i := range f.groups {
		for _, k := range columns {
			c := &f.groups[i].chunks[f.Columns[k].leaf]
			width := int64(valueWidth(c.phys))
			if c.values > math.MaxInt64/32 || !add(max(c.unfolded, c.values*width)) {
				return f.tooLarge()
			}
		}
	}
	return nil
}

func (f *File) tooLarge() error {
	return damagef("it has %d bytes and unfolds to more than %d, which is the limit (a decompression bomb looks like this; see the source's limits)", f.size, f.allowance())
}

// valueWidth is about what a value takes in memory.
func valueWidth(phys int32) int {
	switch phys {
	case physBool:
		return 1
	case physInt32, physFloat:
		return 4
	case physInt96, physBytes, physFixed:
		return 16
	}
	return 8
}

func physName(p int32) string {
	if p >= 0 && int(p) < len(physNames) {
		return physNames[p]
	}
	return fmt.Sprintf("of type %d", p)
}

// quote keeps names from files printable and short.
func quote(name string) string {
	const most = 64
	if len(name) > most {
		name = strings.ToValidUTF8(name[:most], "") + "…"
	}
	return fmt.Sprintf("%q", name)
}
