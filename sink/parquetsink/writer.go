package parquetsink

import (
	"encoding/binary"
	"io"
	"slices"

	"github.com/parquet-go/parquet-go/encoding/thrift"
	thriftformat "github.com/parquet-go/parquet-go/format"
)

// ownEngine is the default engine. It gathers a row group in memory, column by
// column, and has its columns encoded on all processors while the next one is
// gathered.
type ownEngine struct{ pool *pool }

func newEngine() *ownEngine { return &ownEngine{newPool()} }

func (*ownEngine) Name() string { return "leat" }

// Check finds nothing: this engine writes all there is.
func (*ownEngine) Check([]Column, FileOptions) error { return nil }

func (e *ownEngine) Create(w io.Writer, columns []Column, o FileOptions) (FileWriter, error) {
	return e.create(w, columns, o, 0), nil
}

// create is Create for a file whose row groups have so many rows, if no other file is
// open at the same time; else likely is 0.
func (e *ownEngine) create(w io.Writer, columns []Column, o FileOptions, likely int64) *fileWriter {
	return &fileWriter{out: countingWriter{w: w}, columns: columns, options: o, likely: likely, pool: e.pool, hints: make([]int, len(columns))}
}

const (
	// groupBytes ends a row group of many columns before its rows do (rule F8).
	groupBytes = 12 << 20

	// mostPending is the number of row groups of a file that may be complete, but not
	// written yet.
	mostPending = 1
)

// fileWriter is a file being written.
type fileWriter struct {
	out     countingWriter
	columns []Column
	options FileOptions
	likely  int64 // rows of a row group; 0: not known
	pool    *pool

	rows    int64    // of the open row group
	raw     int64    // bytes of its values
	open    []*chunk // nil: no row group is open
	hints   []int    // bytes of a page of the row group before, by column
	scratch gather
	pending []*rowGroup // complete, in order

	written  []thriftformat.RowGroup
	indexes  [][]byte // column index and offset index of each chunk, in order
	all      int64    // rows in written
	metadata []thriftformat.KeyValue
	ratio    float64 // of encoded to raw bytes; 0: not known
}

// countingWriter counts the bytes that have gone out.
type countingWriter struct {
	w io.Writer
	n int64
}

func (c *countingWriter) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	c.n += int64(n)
	return n, err
}

// Write implements FileWriter.
func (f *fileWriter) Write(rows int, vectors []Vector) error { return f.add(rows, vectors, nil) }

// add takes n rows of the vectors: those that pick names, or the first n.
func (f *fileWriter) add(n int, vectors []Vector, pick []int32) error {
	if n == 0 {
		return nil
	}
	if f.open == nil {
		f.begin()
	}
	f.raw = 0
	for i, k := range f.open {
		k.add(f.pool, &vectors[i], n, pick)
		for j := range k.pages {
			f.raw += int64(len(k.pages[j].data) + len(k.pages[j].def) + len(k.pages[j].rep))
		}
	}
	f.rows += int64(n)
	if f.raw >= groupBytes {
		return f.endGroup()
	}
	return f.settle(mostPending)
}

func (f *fileWriter) begin() {
	f.open = make([]*chunk, len(f.columns))
	chunks := make([]chunk, len(f.columns))
	all := int64(0) // bytes of a row, at least
	for i := range f.columns {
		all += f.columns[i].gathered()
	}
	likely := min(f.likely, groupBytes/max(1, all))
	for i := range f.columns {
		c := &f.columns[i]
		chunks[i] = chunk{
			column: c, width: c.valueWidth(), bound: f.options.PageBytes, scratch: &f.scratch,
			full: int(min(likely*c.gathered(), int64(f.options.PageBytes))), hint: f.hints[i],
		}
		f.open[i] = &chunks[i]
	}
}

// endGroup ends the row group, which is encoded and written some time later.
func (f *fileWriter) endGroup() error {
	if f.rows == 0 {
		return nil
	}
	if err := f.settle(mostPending - 1); err != nil {
		return err
	}
	g := &rowGroup{rows: f.rows, raw: f.raw, chunks: f.open, out: make([]encoded, len(f.open)), o: f.options}
	for i, k := range f.open {
		if f.likely > 0 {
			f.hints[i] = 0
			for j := range k.pages {
				f.hints[i] = max(f.hints[i], len(k.pages[j].data))
			}
		}
		g.held.Add(k.memory())
	}
	g.left.Store(int64(len(g.chunks)))
	f.open, f.rows, f.raw = nil, 0, 0
	f.pending = append(f.pending, g)
	f.pool.submit(g)
	return nil
}

// settle writes the row groups that are encoded, and waits until no more than most
// are left.
func (f *fileWriter) settle(most int) error {
	for len(f.pending) > 0 {
		g := f.pending[0]
		if len(f.pending) <= most && g.left.Load() > 0 {
			return nil
		}
		if err := f.pool.wait(g); err != nil {
			return err
		}
		if err := f.write(g); err != nil {
			return err
		}
		f.pending = slices.Delete(f.pending, 0, 1)
	}
	return nil
}

// write puts an encoded row group into the file.
func (f *fileWriter) write(g *rowGroup) error {
	if err := f.magic(); err != nil {
		return err
	}
	begin := f.out.n
	rg := thriftformat.RowGroup{
		Columns: make([]thriftformat.ColumnChunk, len(g.out)), NumRows: g.rows, FileOffset: begin, Ordinal: int16(len(f.written)),
	}
	for i := range g.out {
		e := &g.out[i]
		rg.Columns[i] = f.chunk(&f.columns[i], e)
		rg.TotalByteSize += e.uncompressed
		if err := f.index(&f.columns[i], e); err != nil {
			return err
		}
		if _, err := f.out.Write(e.bytes); err != nil {
			return err
		}
		f.pool.put(e.bytes)
		e.bytes = nil
	}
	rg.TotalCompressedSize = f.out.n - begin
	f.ratio = float64(rg.TotalCompressedSize) / float64(max(1, g.raw))
	f.written = append(f.written, rg)
	f.all += g.rows
	return nil
}

// magic begins the file.
func (f *fileWriter) magic() error {
	if f.out.n > 0 {
		return nil
	}
	_, err := f.out.Write([]byte("PAR1"))
	return err
}

// chunk describes a column chunk that begins where the file ends now.
func (f *fileWriter) chunk(c *Column, e *encoded) thriftformat.ColumnChunk {
	m := thriftformat.ColumnMetaData{
		Type: physicalTypes[c.Physical()], PathInSchema: c.path(), Codec: codecs[f.options.Compression],
		NumValues: e.values, TotalUncompressedSize: e.uncompressed, TotalCompressedSize: int64(len(e.bytes)),
		DataPageOffset: f.out.n + e.dictionary,
		Statistics:     thriftformat.Statistics{NullCount: e.nulls},
	}
	if e.dictionary > 0 {
		m.DictionaryPageOffset = f.out.n
	}
	if e.bounded && e.min <= e.max {
		m.Statistics.MinValue, m.Statistics.MaxValue = c.bound(e.min, false), c.bound(e.max, true)
	}
	for form, n := range e.counts {
		if n > 0 {
			m.EncodingStats = append(m.EncodingStats, thriftformat.PageEncodingStats{PageType: thriftformat.DataPage, Encoding: formEncoding[form], Count: n})
		}
		if n > 0 || form == int(formPlain) && e.dictionary > 0 {
			m.Encoding = append(m.Encoding, formEncoding[form])
		}
	}
	if c.Null || c.List {
		m.Encoding = append(m.Encoding, thriftformat.RLE)
	}
	slices.Sort(m.Encoding)
	if e.dictionary > 0 {
		m.EncodingStats = append(m.EncodingStats, thriftformat.PageEncodingStats{PageType: thriftformat.DictionaryPage, Encoding: thriftformat.Plain, Count: 1})
	}
	return thriftformat.ColumnChunk{MetaData: m}
}

var codecs = [...]thriftformat.CompressionCodec{Snappy: thriftformat.Snappy, Zstd: thriftformat.Zstd, None: thriftformat.Uncompressed}

// index keeps the indexes of a column chunk that begins where the file ends now,
// for Close. Columns without bounds have no column index: one that says "" to ""
// would make readers skip their rows.
func (f *fileWriter) index(c *Column, e *encoded) error {
	protocol := new(thrift.CompactProtocol)
	var column []byte
	if e.bounded && c.bounded() {
		ci := thriftformat.ColumnIndex{BoundaryOrder: e.order()}
		for i := range e.pages {
			p := &e.pages[i]
			var lo, hi []byte
			if !p.none {
				lo, hi = c.bound(p.min, false), c.bound(p.max, true)
			}
			ci.NullPages = append(ci.NullPages, p.none)
			ci.MinValues = append(ci.MinValues, lo)
			ci.MaxValues = append(ci.MaxValues, hi)
			ci.NullCounts = append(ci.NullCounts, p.nulls)
		}
		var err error
		if column, err = thrift.Marshal(protocol, &ci); err != nil {
			return err
		}
	}
	oi := thriftformat.OffsetIndex{PageLocations: make([]thriftformat.PageLocation, len(e.pages))}
	for i := range e.pages {
		p := &e.pages[i]
		oi.PageLocations[i] = thriftformat.PageLocation{Offset: f.out.n + p.offset, CompressedPageSize: p.size, FirstRowIndex: p.first}
	}
	offset, err := thrift.Marshal(protocol, &oi)
	f.indexes = append(f.indexes, column, offset)
	return err
}

// order tells whether the bounds of the pages go up or down.
func (e *encoded) order() thriftformat.BoundaryOrder {
	up, down := true, true
	var last *pageInfo
	for i := range e.pages {
		p := &e.pages[i]
		if p.none {
			continue
		}
		if last != nil {
			up = up && last.min <= p.min && last.max <= p.max
			down = down && last.min >= p.min && last.max >= p.max
		}
		last = p
	}
	switch {
	case up:
		return thriftformat.Ascending
	case down:
		return thriftformat.Descending
	}
	return thriftformat.Unordered
}

// Size implements FileWriter: what is not encoded yet counts as what came before it
// turned out.
func (f *fileWriter) Size() int64 {
	raw := f.raw
	for _, g := range f.pending {
		raw += g.raw
	}
	if f.ratio > 0 {
		raw = int64(float64(raw) * f.ratio)
	}
	n := f.out.n + raw
	if n == 0 {
		return 0
	}
	return n + footerBytes(len(f.columns))
}

// footerBytes is about what a footer of one row group takes.
func footerBytes(columns int) int64 { return 200 + 150*int64(columns) }

// Buffered implements FileWriter.
func (f *fileWriter) Buffered() int64 {
	n := int64(0)
	for _, k := range f.open {
		n += k.memory()
	}
	for _, g := range f.pending {
		n += g.held.Load()
	}
	return n
}

// Flush implements FileWriter: unlike endGroup, it waits until all is written.
func (f *fileWriter) Flush() error {
	if err := f.endGroup(); err != nil {
		return err
	}
	return f.settle(0)
}

// Close implements FileWriter.
func (f *fileWriter) Close() error {
	if err := f.Flush(); err != nil {
		return err
	}
	if err := f.magic(); err != nil {
		return err
	}
	// Column indexes come first, then offset indexes: parquet-go's reader takes each
	// of the two to have no gaps.
	var tail []byte
	i := 0
	for section := range 2 {
		i = 0
		for g := range f.written {
			for j := range f.written[g].Columns {
				c, index := &f.written[g].Columns[j], f.indexes[2*i+section]
				i++
				if len(index) == 0 {
					continue
				}
				at, n := f.out.n+int64(len(tail)), int32(len(index))
				if section == 0 {
					c.ColumnIndexOffset, c.ColumnIndexLength = at, n
				} else {
					c.OffsetIndexOffset, c.OffsetIndexLength = at, n
				}
				tail = append(tail, index...)
			}
		}
	}
	footer, err := thrift.Marshal(new(thrift.CompactProtocol), &thriftformat.FileMetaData{
		Version: 2, Schema: schemaOf(f.columns), NumRows: f.all, RowGroups: f.written,
		KeyValueMetadata: f.metadata, CreatedBy: "leat version (build )", ColumnOrders: slices.Repeat([]thriftformat.ColumnOrder{{Value: new(thriftformat.TypeDefinedOrder)}}, len(f.columns)),
	})
	if err != nil {
		return err
	}
	tail = append(tail, footer...)
	tail = binary.LittleEndian.AppendUint32(tail, uint32(len(footer)))
	_, err = f.out.Write(append(tail, "PAR1"...))
	return err
}
