package parquetsink

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"math/bits"
	"slices"

	"github.com/klauspost/compress/s2"
	"github.com/parquet-go/parquet-go/compress/zstd"
	"github.com/parquet-go/parquet-go/encoding/delta"
	"github.com/parquet-go/parquet-go/encoding/rle"
	"github.com/parquet-go/parquet-go/encoding/thrift"
	thriftformat "github.com/parquet-go/parquet-go/format"
)

// maxDictionary is the size of a dictionary beyond which the rest of a row group is
// written plain.
const maxDictionary = 128 << 10

// encoded is a column chunk as it goes into the file.
type encoded struct {
	bytes        []byte // dictionary page and data pages, with their headers
	uncompressed int64  // what they would have without compression
	dictionary   int64  // bytes of the dictionary page, with its header
	values       int64  // nulls and empty lists included
	nulls        int64
	bounded      bool // by min and max
	min, max     int64
	pages        []pageInfo
	counts       [3]int32 // data pages: plain, dictionary, delta
}

// pageInfo is a data page, for the indexes.
type pageInfo struct {
	offset   int64 // in encoded.bytes
	size     int32
	first    int64 // row of the row group
	nulls    int64
	none     bool // all are null
	min, max int64
}

// form is how values lie in a data page.
type form uint8

const (
	formPlain form = iota
	formDictionary
	formDelta
)

var formEncoding = [...]thriftformat.Encoding{thriftformat.Plain, thriftformat.RLEDictionary, thriftformat.DeltaBinaryPacked}

// bench is the scratch memory of a worker.
type bench struct {
	payload    []byte // of a page
	packed     []byte
	levels     []byte
	compressed []byte
	numbers    []int32 // of a dictionary
	table      []int32 // for dictionaries of integers
	entries    []byte
	protocol   thrift.CompactProtocol
	header     sliceWriter
	writer     thrift.Writer
	out        encoded
	o          FileOptions
}

type sliceWriter []byte

func (w *sliceWriter) Write(b []byte) (int, error) {
	*w = append(*w, b...)
	return len(b), nil
}

// encode makes the pages of a column chunk, and gives the memory of its values
// back.
func (b *bench) encode(p *pool, k *chunk, o FileOptions) (encoded, error) {
	b.out, b.o = encoded{pages: make([]pageInfo, 0, len(k.pages))}, o
	b.out.bytes = p.get(leastBuffer)
	b.bounds(k)
	how, err := b.choose(p, k)
	if err != nil {
		return encoded{}, err
	}
	row := int64(0)
	for i := range k.pages {
		pg := &k.pages[i]
		if err := b.page(p, k, pg, how, row, &b.out.pages[i]); err != nil {
			return encoded{}, err
		}
		row += int64(pg.rows)
		p.put(pg.data)
		pg.data = nil
	}
	k.release(p)
	out := b.out
	b.out = encoded{}
	if cap(b.compressed)+cap(b.payload)+cap(b.packed)+cap(b.levels) > 2*mostBuffer { // of a huge value, once
		b.compressed, b.payload, b.packed, b.levels = nil, nil, nil, nil
	}
	return out, nil
}

// choose says how the values that are not coded are written, and writes the
// dictionary if there is one.
func (b *bench) choose(p *pool, k *chunk) (form, error) {
	if k.dict != nil && k.dict.len() > 0 {
		return formPlain, b.dictionaryPage(p, k.dict.plain, k.dict.len())
	}
	if k.column.Type == Bool || k.column.Type == Float || k.column.Type == Double || k.width != 4 && k.width != 8 {
		return formPlain, nil
	}
	values := 0
	for i := range k.pages {
		values += k.pages[i].values
	}
	// A handful of different numbers close to each other: their numbers in a
	// dictionary are found by a look into a table.
	if span := uint64(b.out.max - b.out.min); values > 0 && span < mostSpan && uint64(values) >= 4*span {
		if k.width == 8 {
			tabulate[int64](b, k, b.origin(k), int(span)+1)
		} else {
			tabulate[int32](b, k, int32(b.origin(k)), int(span)+1)
		}
		return formDictionary, b.dictionaryPage(p, b.entries, len(b.entries)/k.width)
	}
	if narrow(k) {
		return formDelta, nil
	}
	return formPlain, nil
}

// mostSpan is the distance of the largest from the smallest number of a column that
// gets a dictionary.
const mostSpan = 4096

// origin is the smallest number of a chunk of integers, as it lies in memory.
func (b *bench) origin(k *chunk) int64 {
	if k.column.Type != Uint {
		return b.out.min
	}
	if k.width == 4 {
		return int64(int32(b.out.min) ^ math.MinInt32)
	}
	return b.out.min ^ math.MinInt64
}

// tabulate makes a dictionary of integers, all at most span-1 above first, and
// the table that finds their numbers.
func tabulate[E int32 | int64](b *bench, k *chunk, first E, span int) {
	b.table = sized(b.table, span)
	clear(b.table)
	for i := range k.pages {
		for _, x := range numbers[E](k.pages[i].data) {
			b.table[x-first] = 1
		}
	}
	b.entries = b.entries[:0]
	n := int32(0)
	for i, used := range b.table {
		if used == 0 {
			continue
		}
		b.table[i] = n
		n++
		x := first + E(i)
		if k.width == 8 {
			b.entries = binary.LittleEndian.AppendUint64(b.entries, uint64(x))
		} else {
			b.entries = binary.LittleEndian.AppendUint32(b.entries, uint32(x))
		}
	}
	b.numbers = b.numbers[:0]
}

func lookUp[E int32 | int64](out []int32, table []int32, first E, values []E) {
	for i, x := range values {
		out[i] = table[x-first]
	}
}

// narrow looks at samples of a column of integers: whether the differences of
// neighbours, taken in blocks as the encoding does, are of few bits.
func narrow(k *chunk) bool {
	for i := range k.pages {
		data := k.pages[i].data
		if len(data) < 64*k.width {
			continue
		}
		if k.width == 8 {
			return deltaBits(numbers[int64](data)) <= 28
		}
		return deltaBits(numbers[int32](data)) <= 14
	}
	return false
}

// deltaBits gives the mean width of packed differences, of a few blocks.
func deltaBits[E int32 | int64](values []E) int {
	const block, samples = 32, 8
	total, n := 0, 0
	step := max(block, (len(values)-block)/samples)
	for at := 0; at+block < len(values) && n < samples; at += step {
		least, most := int64(math.MaxInt64), int64(math.MinInt64)
		for i := at; i < at+block; i++ {
			d := int64(values[i+1] - values[i])
			least, most = min(least, d), max(most, d)
		}
		total += bits.Len64(uint64(most - least))
		n++
	}
	return total / max(n, 1)
}

func (b *bench) dictionaryPage(p *pool, entries []byte, n int) error {
	h := thriftformat.PageHeader{
		Type:                 thriftformat.DictionaryPage,
		DictionaryPageHeader: thrift.New(thriftformat.DictionaryPageHeader{NumValues: int32(n), Encoding: thriftformat.Plain}),
	}
	_, err := b.write(p, &h, entries)
	b.out.dictionary = int64(len(b.out.bytes))
	return err
}

// page encodes and writes a data page.
func (b *bench) page(p *pool, k *chunk, pg *rawPage, how form, row int64, info *pageInfo) error {
	entries := pg.values
	b.payload = b.payload[:0]
	if k.column.List {
		if err := b.appendLevels(pg.rep, 1); err != nil {
			return err
		}
	}
	if k.column.List || k.column.Null {
		entries = len(pg.def)
		width := 1
		if k.column.List && k.column.Null {
			width = 2
		}
		if err := b.appendLevels(pg.def, width); err != nil {
			return err
		}
	}
	if pg.coded {
		how = formDictionary
	}
	if pg.values == 0 {
		how = formPlain // of nothing
	}
	values, err := b.values(k, pg, how)
	if err != nil {
		return err
	}
	if len(b.payload) > 0 {
		b.payload = append(b.payload, values...)
		values = b.payload
	}
	h := thriftformat.PageHeader{
		Type: thriftformat.DataPage,
		DataPageHeader: thrift.New(thriftformat.DataPageHeader{
			NumValues: int32(entries), Encoding: formEncoding[how],
			DefinitionLevelEncoding: thriftformat.RLE, RepetitionLevelEncoding: thriftformat.RLE,
		}),
	}
	info.offset, info.first, info.nulls = int64(len(b.out.bytes)), row, int64(entries-pg.values)
	if info.size, err = b.write(p, &h, values); err != nil {
		return err
	}
	b.out.counts[how]++
	b.out.values += int64(entries)
	b.out.nulls += info.nulls
	return nil
}

func (b *bench) appendLevels(levels []byte, width int) error {
	e := rle.Encoding{BitWidth: width}
	var err error
	if b.levels, err = e.EncodeLevels(b.levels, levels); err != nil {
		return err
	}
	b.payload = binary.LittleEndian.AppendUint32(b.payload, uint32(len(b.levels)))
	b.payload = append(b.payload, b.levels...)
	return nil
}

// values gives the values of a page in their form.
func (b *bench) values(k *chunk, pg *rawPage, how form) ([]byte, error) {
	var err error
	switch {
	case how == formDictionary && pg.coded:
		return b.pack(numbers[int32](pg.data), k.dict.len())
	case how == formDictionary:
		b.numbers = sized(b.numbers, pg.values)
		if k.width == 8 {
			lookUp(b.numbers, b.table, b.origin(k), numbers[int64](pg.data))
		} else {
			lookUp(b.numbers, b.table, int32(b.origin(k)), numbers[int32](pg.data))
		}
		return b.pack(b.numbers, len(b.entries)/k.width)
	case how == formDelta && k.width == 8:
		b.packed, err = new(delta.BinaryPackedEncoding).EncodeInt64(b.packed, numbers[int64](pg.data))
		return b.packed, err
	case how == formDelta:
		b.packed, err = new(delta.BinaryPackedEncoding).EncodeInt32(b.packed, numbers[int32](pg.data))
		return b.packed, err
	case k.column.Type == Bool:
		b.packed = packBools(b.packed[:0], pg.data)
		return b.packed, nil
	}
	return pg.data, nil
}

// pack writes numbers of a dictionary of n entries.
func (b *bench) pack(numbers []int32, n int) ([]byte, error) {
	e := rle.Encoding{BitWidth: max(1, bits.Len(uint(n-1)))}
	var err error
	if b.packed, err = e.EncodeInt32(b.packed, numbers); err != nil {
		return nil, err
	}
	// The width stands in front of them. They are a small part of what they stand
	// for, so moving them costs little.
	b.packed = slices.Insert(b.packed, 0, byte(e.BitWidth))
	return b.packed, nil
}

// packBools makes bits of bools, the first one lowest.
func packBools(dst, bools []byte) []byte {
	for len(bools) >= 8 {
		// Each byte is 0 or 1; the product gathers them in the highest one.
		dst = append(dst, byte(binary.LittleEndian.Uint64(bools)*0x0102040810204080>>56))
		bools = bools[8:]
	}
	if len(bools) > 0 {
		var last byte
		for i, x := range bools {
			last |= x << i
		}
		dst = append(dst, last)
	}
	return dst
}

// errTooLarge is for a page beyond what a header can tell.
var errTooLarge = errors.New("a page of more than 2 GiB")

// write compresses a page and writes it behind its header. It gives their size.
func (b *bench) write(p *pool, h *thriftformat.PageHeader, payload []byte) (int32, error) {
	if len(payload) > math.MaxInt32-64<<10 {
		return 0, errTooLarge
	}
	body := payload
	switch b.o.Compression {
	case Snappy:
		b.compressed = slices.Grow(b.compressed[:0], s2.MaxEncodedLen(len(payload)))
		body = s2.EncodeSnappy(b.compressed[:cap(b.compressed)], payload)
	case Zstd:
		var err error
		if b.compressed, err = zstdCodec.Encode(b.compressed, payload); err != nil {
			return 0, fmt.Errorf("zstd: %w", err)
		}
		body = b.compressed
	}
	h.UncompressedPageSize = int32(len(payload))
	h.CompressedPageSize = int32(len(body))
	h.CRC = int32(crc32.ChecksumIEEE(body))
	if b.writer == nil {
		b.writer = b.protocol.NewWriter(&b.header)
	}
	b.header = b.header[:0]
	if err := thrift.NewEncoder(b.writer).Encode(h); err != nil {
		return 0, err
	}
	b.out.bytes = p.grow(b.out.bytes, len(b.header)+len(body), 0)
	b.out.bytes = append(append(b.out.bytes, b.header...), body...)
	b.out.uncompressed += int64(len(b.header) + len(payload))
	return int32(len(b.header) + len(body)), nil
}

// zstdCodec has the encoders of all files.
var zstdCodec = &zstd.Codec{Level: zstd.SpeedDefault}
