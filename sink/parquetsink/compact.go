package parquetsink

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/parquet-go/parquet-go"
	thriftformat "github.com/parquet-go/parquet-go/format"

	"github.com/leatgo/leat/internal/lake"
)

// FileInfo is a file that counts: its rows are committed.
type FileInfo struct {
	Path             string // relative to the lake's root, with slashes
	Bytes, Rows      int64
	MinTime, MaxTime time.Time // of the rows' event times; zero when Config.EventTime was not set
	Pipeline, Sink   string    // who wrote it; "" and "@compact" for a file that Compact made
}

// Files lists the files that count, oldest first: every committed row is in
// exactly one of them. It may be called while sinks and Compact work.
//
// A file can be deleted between Files and its opening, when Compact replaces it
// in that moment: then list again. A file that is open stays readable.
func Files(dir string) ([]FileInfo, error) {
	files, err := lake.Files(dir)
	if err != nil {
		return nil, fmt.Errorf("parquetsink: files: %w", err)
	}
	out := make([]FileInfo, len(files))
	for i, f := range files {
		out[i] = FileInfo{Path: f.Path, Bytes: f.Bytes, Rows: f.Rows, MinTime: f.MinTime, MaxTime: f.MaxTime, Pipeline: f.Pipeline, Sink: f.Sink}
	}
	return out, nil
}

// CompactConfig says which files Compact replaces. The zero value is safe.
type CompactConfig struct {
	Target       int64 // bytes that a replacing file should have, about. Defaults to 128 MiB
	Smaller      int64 // only files below this many bytes are replaced. Defaults to half of Target
	RowGroupRows int   // of the replacing files, at most. Defaults to 65,536; at most 1,048,576
}

// CompactStats is what Compact has done.
type CompactStats struct {
	Replaced int   // files that are no more
	Written  int   // files in their place
	Bytes    int64 // of those
	Rows     int64 // in those
}

// Compact replaces the small files of each folder of the lake by few large ones,
// with the same rows in the same order, all columns, and the same compression.
// Files of different columns are not mixed. It needs neither the row type nor
// the engine that wrote the files, little memory, and may run while sinks write,
// but not twice at a time. When it is killed, the next one finishes its work.
//
// Readers that go by Files see each row once at any time. Those that read the
// folder itself may see rows twice for the milliseconds between the coming of a
// replacing file and the going of the replaced ones.
func Compact(ctx context.Context, dir string, c CompactConfig) (CompactStats, error) {
	var faults []error
	if c.Target < 0 || c.Smaller < 0 {
		faults = append(faults, errors.New("the sizes Target and Smaller can't be negative; 0 is the default"))
	}
	if c.RowGroupRows < 0 || c.RowGroupRows > maxGroup {
		faults = append(faults, fmt.Errorf("RowGroupRows is %d: it is a number of rows up to %d, or 0 for %d", c.RowGroupRows, maxGroup, defaultGroup))
	}
	if err := errors.Join(faults...); err != nil {
		return CompactStats{}, fmt.Errorf("parquetsink: compact: %w", err)
	}
	group := int64(c.RowGroupRows)
	if group == 0 {
		group = defaultGroup
	}
	stats, err := lake.Compact(ctx, dir, lake.CompactOptions{
		Ext: extension, Target: c.Target, Smaller: c.Smaller,
		Merge: func(ctx context.Context, files []string, w io.Writer) (int64, error) {
			m := merger{w: w, counter: counter{group: group}}
			return m.merge(ctx, files)
		},
	})
	if err != nil {
		return CompactStats(stats), fmt.Errorf("parquetsink: %w", err)
	}
	return CompactStats(stats), nil
}

// merger makes one file of several: it reads them by columns, and writes these with
// the default engine.
type merger struct {
	w io.Writer
	counter

	engine   *ownEngine
	out      *fileWriter
	columns  []Column
	metadata map[string]string // that all files have
	readers  []columnReader
	vectors  []Vector
	rows     int64
}

// mergeRows is the number of rows that are copied at once.
const mergeRows = 2048

func (m *merger) merge(ctx context.Context, files []string) (rows int64, err error) {
	m.engine = newEngine()
	defer m.engine.pool.close()
	for _, path := range files {
		if err := m.add(ctx, path); err != nil {
			return m.rows, fmt.Errorf("%s: %w", path, err)
		}
	}
	for _, k := range slices.Sorted(maps.Keys(m.metadata)) {
		m.out.metadata = append(m.out.metadata, thriftformat.KeyValue{Key: k, Value: m.metadata[k]})
	}
	return m.rows, m.out.Close()
}

func (m *merger) add(ctx context.Context, path string) (err error) {
	in, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	f, err := parquet.OpenFile(in, info.Size(), parquet.SkipPageIndex(true), parquet.SkipBloomFilters(true), parquet.ReadBufferSize(64<<10))
	if err != nil {
		return err
	}
	metadata := map[string]string{}
	for _, kv := range f.Metadata().KeyValueMetadata {
		metadata[kv.Key] = kv.Value
	}
	columns, err := columnsOf(f.Metadata().Schema)
	if err != nil {
		return err
	}
	if m.out == nil {
		m.metadata = metadata
		m.begin(columns, f.Metadata())
	}
	maps.DeleteFunc(m.metadata, func(k, v string) bool { other, ok := metadata[k]; return !ok || other != v })
	if !slices.Equal(m.columns, columns) {
		return errors.New("the columns are not those of the files before it, although the manifest says so; nothing was replaced")
	}
	for _, g := range f.RowGroups() {
		if err := m.copy(ctx, g); err != nil {
			return err
		}
	}
	return nil
}

func (m *merger) begin(columns []Column, meta *thriftformat.FileMetaData) {
	o := FileOptions{PageBytes: mostPage}
	if len(meta.RowGroups) > 0 && len(meta.RowGroups[0].Columns) > 0 {
		o.Compression = Compression(max(0, slices.Index(codecs[:], meta.RowGroups[0].Columns[0].MetaData.Codec)))
	}
	m.columns = columns
	m.out = m.engine.create(m.w, columns, o, m.group)
	m.vectors = make([]Vector, len(columns))
	m.readers = make([]columnReader, len(columns))
}

func (m *merger) copy(ctx context.Context, g parquet.RowGroup) (err error) {
	for i, c := range g.ColumnChunks() {
		m.readers[i] = columnReader{column: &m.columns[i], pages: c.Pages()}
	}
	defer func() {
		for i := range m.readers {
			err = errors.Join(err, m.readers[i].close())
		}
	}()
	for left := g.NumRows(); left > 0; {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		m.in = m.out.rows
		n := m.room(int(min(left, mergeRows)))
		for i := range m.readers {
			if err := m.readers[i].read(&m.vectors[i], n); err != nil {
				return fmt.Errorf("column %s: %w", m.columns[i].Name, err)
			}
		}
		if err := m.out.add(n, m.vectors, nil); err != nil {
			return err
		}
		m.rows += int64(n)
		left -= int64(n)
		if m.took(n) {
			if err := m.out.endGroup(); err != nil {
				return err
			}
		}
	}
	return nil
}

// columnReader reads a column of a row group into vectors.
type columnReader struct {
	column *Column
	pages  parquet.Pages
	old    []parquet.Page // whose memory the vector of the last read shares

	// The page, and how far it is read.
	page     parquet.Page
	entries  int
	def, rep []byte
	at       int     // entry
	value    int     // of those that are not null
	numbers  []int32 // of the values in a dictionary; nil: they lie there themselves
	bits     []byte  // of bools
	int32s   []int32
	int64s   []int64
	floats   []float32
	doubles  []float64
	bytes    []byte
	ends     []uint32 // in bytes, one more than values
}

func (r *columnReader) close() error {
	r.release()
	if r.page != nil {
		parquet.Release(r.page)
		r.page = nil
	}
	if r.pages == nil {
		return nil
	}
	err := r.pages.Close()
	r.pages = nil
	return err
}

func (r *columnReader) release() {
	for _, p := range r.old {
		parquet.Release(p)
	}
	r.old = r.old[:0]
}

// more makes sure that there is an entry to read.
func (r *columnReader) more() error {
	for r.at == r.entries {
		if r.page != nil {
			r.old = append(r.old, r.page)
			r.page = nil
		}
		p, err := r.pages.ReadPage()
		if err != nil {
			return err
		}
		r.page, r.at, r.value, r.entries = p, 0, 0, int(p.NumValues())
		r.def, r.rep, r.numbers = p.DefinitionLevels(), p.RepetitionLevels(), nil
		data := p.Data()
		if d := p.Dictionary(); d != nil {
			r.numbers = data.Int32()
			data = d.Page().Data()
		}
		switch r.column.Physical() {
		case Boolean:
			r.bits = data.Boolean()
		case Int32:
			r.int32s = data.Int32()
		case Int64:
			r.int64s = data.Int64()
		case Float32:
			r.floats = data.Float()
		case Float64:
			r.doubles = data.Double()
		case ByteArray:
			r.bytes, r.ends = data.ByteArray()
		case FixedLenByteArray:
			r.bytes, _ = data.FixedLenByteArray()
		}
	}
	return nil
}

// read fills v with the next n rows.
func (r *columnReader) read(v *Vector, n int) error {
	r.release()
	*v = Vector{Bools: v.Bools[:0], Int32s: v.Int32s[:0], Int64s: v.Int64s[:0], Floats: v.Floats[:0], Doubles: v.Doubles[:0], Strings: v.Strings[:0],
		Valid: v.Valid[:0], Ends: v.Ends[:0]}
	if r.column.List {
		return r.readLists(v, n)
	}
	for n > 0 {
		if err := r.more(); err != nil {
			return unexpected(err)
		}
		m := min(n, r.entries-r.at)
		if r.column.Null {
			r.takeNullable(v, m)
		} else {
			r.take(v, m)
		}
		r.at += m
		n -= m
	}
	return nil
}

// unexpected is for a column that has fewer rows than its row group.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// takeNullable takes m entries. There is a value for each row, at nulls too.
func (r *columnReader) takeNullable(v *Vector, m int) {
	levels := r.def[r.at : r.at+m]
	for i := 0; i < m; {
		j := i + 1
		for j < m && levels[j] == levels[i] {
			j++
		}
		for range j - i {
			v.Valid = append(v.Valid, levels[i] == 1)
		}
		if levels[i] == 1 {
			r.take(v, j-i)
		} else {
			r.skip(v, j-i)
		}
		i = j
	}
}

// skip puts zeros in the place of nulls.
func (r *columnReader) skip(v *Vector, n int) {
	switch r.column.Physical() {
	case Boolean:
		v.Bools = append(v.Bools, make([]bool, n)...)
	case Int32:
		v.Int32s = append(v.Int32s, make([]int32, n)...)
	case Int64:
		v.Int64s = append(v.Int64s, make([]int64, n)...)
	case Float32:
		v.Floats = append(v.Floats, make([]float32, n)...)
	case Float64:
		v.Doubles = append(v.Doubles, make([]float64, n)...)
	default:
		v.Strings = append(v.Strings, make([]string, n)...)
	}
}

// readLists takes entries up to the one that begins the row behind the n.
func (r *columnReader) readLists(v *Vector, n int) error {
	level := byte(0) // of an empty list
	if r.column.Null {
		level = 1
	}
	v.Ends = append(v.Ends, 0)
	values := int32(0)
	for rows := 0; ; {
		if err := r.more(); errors.Is(err, io.EOF) && rows == n {
			break
		} else if err != nil {
			return unexpected(err)
		}
		if r.rep[r.at] == 0 {
			if rows == n {
				break
			}
			rows++
			v.Ends = append(v.Ends, values)
			if r.column.Null {
				v.Valid = append(v.Valid, r.def[r.at] > 0)
			}
		}
		if r.def[r.at] > level {
			r.take(v, 1)
			values++
			v.Ends[len(v.Ends)-1] = values
		}
		r.at++
	}
	return nil
}

// take appends the next n values.
func (r *columnReader) take(v *Vector, n int) {
	switch r.column.Physical() {
	case Boolean:
		for i := r.value; i < r.value+n; i++ {
			k := i
			if r.numbers != nil {
				k = int(r.numbers[i])
			}
			v.Bools = append(v.Bools, r.bits[k/8]>>(k%8)&1 == 1)
		}
	case Int32:
		v.Int32s = taken(v.Int32s, r.int32s, r.numbers, r.value, n)
	case Int64:
		v.Int64s = taken(v.Int64s, r.int64s, r.numbers, r.value, n)
	case Float32:
		v.Floats = taken(v.Floats, r.floats, r.numbers, r.value, n)
	case Float64:
		v.Doubles = taken(v.Doubles, r.doubles, r.numbers, r.value, n)
	default:
		for i := r.value; i < r.value+n; i++ {
			k := i
			if r.numbers != nil {
				k = int(r.numbers[i])
			}
			if r.column.Physical() == ByteArray {
				v.Strings = append(v.Strings, view(r.bytes[r.ends[k]:r.ends[k+1]]))
			} else {
				v.Strings = append(v.Strings, view(r.bytes[k*decimalLength:(k+1)*decimalLength]))
			}
		}
	}
	r.value += n
}

func taken[E any](dst, values []E, numbers []int32, at, n int) []E {
	if numbers == nil {
		return append(dst, values[at:at+n]...)
	}
	for _, k := range numbers[at : at+n] {
		dst = append(dst, values[k])
	}
	return dst
}
