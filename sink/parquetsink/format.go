package parquetsink

import (
	"cmp"
	"io"
	"slices"
	"strings"
	"unsafe"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/lake"
)

// The pieces in which rows are handed to an engine: small enough that a piece
// stays in the processor's cache, and that a page ends where it should.
const (
	pieceRows  = 1024
	pieceBytes = 1 << 20
)

// blockBytes is the size of a block of rows that all columns are read from before
// the next one: less than the nearest cache.
const blockBytes = 32 << 10

// format is the lake's view of Parquet (lake.Format).
type format[T any] struct {
	table   *table
	engine  Engine
	options FileOptions
	group   int64 // rows of a row group

	own     *ownEngine // engine, if it is the default one
	likely  int64      // rows of a row group of a file that is open alone; 0: there are others
	fillers []filler
	block   int // rows

	// Of the last Prepare.
	rows    int
	vectors []Vector
	arena   []byte
	step    int // rows of a piece

	piece   []Vector // scratch of Append
	limit   int      // of a value; tests set it
	refused []leat.RowError
}

func newFormat[T any](t *table, e Engine, o FileOptions, group int64) *format[T] {
	f := &format[T]{table: t, engine: e, options: o, group: group, limit: maxValue,
		vectors: make([]Vector, len(t.columns)), piece: make([]Vector, len(t.columns)), fillers: make([]filler, len(t.columns)),
		block: int(max(16, min(pieceRows, blockBytes/max(1, t.stride))))}
	f.own, _ = e.(*ownEngine)
	for i := range f.fillers {
		f.fillers[i] = filler{c: t.fields[i].c, column: &t.columns[i], stride: t.stride, out: &f.vectors[i], arena: &f.arena, refuse: f.refuse}
		if f.own != nil && t.columns[i].Type == String && t.fields[i].block != nil {
			f.fillers[i].codes = new(coder)
		}
	}
	return f
}

// Ext implements lake.Format.
func (f *format[T]) Ext() string { return extension }

const extension = ".parquet"

// Schema names the engine too: files are merged only with their like.
func (f *format[T]) Schema() string {
	var b strings.Builder
	for _, c := range f.table.columns {
		b.WriteString(c.String())
		b.WriteByte('\n')
	}
	b.WriteString("written by ")
	b.WriteString(f.engine.Name())
	return b.String()
}

// Prepare turns rows into columns, once for all files that they go to.
func (f *format[T]) Prepare(rows []T) []leat.RowError {
	f.rows, f.arena, f.refused = len(rows), f.arena[:0], f.refused[:0]
	if len(rows) == 0 {
		return nil
	}
	for i := range f.fillers {
		fl := &f.fillers[i]
		fl.base, fl.n, fl.longest, fl.limit = unsafe.Pointer(unsafe.SliceData(rows)), len(rows), 0, f.limit
	}
	for from := 0; from < len(rows); from += f.block {
		to := min(from+f.block, len(rows))
		for i := range f.table.fields {
			if read := f.table.fields[i].block; read != nil {
				read(&f.fillers[i], from, to)
			}
		}
	}
	longest := 0
	for i := range f.table.fields {
		if fill := f.table.fields[i].fill; fill != nil {
			fill(&f.fillers[i])
		}
		longest += f.fillers[i].longest
		f.fillers[i].base = nil
	}
	f.step = max(1, min(pieceRows, pieceBytes/max(longest, 1)))
	if len(f.refused) == 0 {
		return nil
	}
	// One fault of a row is enough.
	out := slices.Clone(f.refused)
	slices.SortStableFunc(out, func(a, b leat.RowError) int { return cmp.Compare(a.Row, b.Row) })
	return slices.CompactFunc(out, func(a, b leat.RowError) bool { return a.Row == b.Row })
}

func (f *format[T]) refuse(i int, err error) {
	f.refused = append(f.refused, leat.RowError{Row: i, Err: err})
}

// Create implements lake.Format.
func (f *format[T]) Create(w io.Writer) (lake.File, error) {
	if f.own != nil {
		return &ownFile[T]{f, f.own.create(w, f.table.columns, f.options, f.likely), counter{group: f.group}}, nil
	}
	fw, err := f.engine.Create(w, f.table.columns, f.options)
	if err != nil {
		return nil, err
	}
	return &file[T]{fw, f, counter{group: f.group}}, nil
}

// Close waits for what files that were given up have left to do.
func (f *format[T]) Close() {
	if f.own != nil {
		f.own.pool.close()
	}
}

// maxGroups is below the 32,767 row groups that a file can have, with room for
// those that the lake asks for. Only with groups of a few rows it is ever met.
const maxGroups = 30_000

// counter ends row groups at their bound, also inside a batch (rule F8).
type counter struct {
	group  int64
	in     int64 // rows of the open row group
	groups int   // ended by their bound
}

// room is how many of n rows go into the open row group.
func (c *counter) room(n int) int {
	if c.groups >= maxGroups {
		return n
	}
	return int(min(int64(n), max(1, c.group-c.in)))
}

// took notes n rows, and tells whether the row group is full.
func (c *counter) took(n int) bool {
	c.in += int64(n)
	if c.in < c.group || c.groups >= maxGroups {
		return false
	}
	c.in = 0
	c.groups++
	return true
}

// ownFile is a file of the default engine (lake.File): whole batches go in, and
// their picks are made where the values end up.
type ownFile[T any] struct {
	format *format[T]
	*fileWriter
	counter
}

// Append implements lake.File.
func (f *ownFile[T]) Append(pick []int32) error {
	fm := f.format
	n := fm.rows
	if pick != nil {
		n = len(pick)
	}
	for at := 0; at < n; {
		f.in = f.rows // which is 0 when memory has ended the row group
		m := f.room(n - at)
		from, rows := at, []int32(nil)
		if pick != nil {
			rows = pick[at : at+m]
			if from = int(rows[0]); int(rows[m-1])-from == m-1 {
				rows = nil // they lie side by side
			}
		}
		vectors := fm.vectors
		if rows == nil && m < fm.rows {
			vectors = fm.piece
			for i := range vectors {
				vectors[i] = fm.vectors[i].slice(from, from+m)
			}
		}
		if err := f.add(m, vectors, rows); err != nil {
			return err
		}
		at += m
		if f.took(m) {
			if err := f.endGroup(); err != nil {
				return err
			}
		}
	}
	return nil
}

// Flush implements lake.File.
func (f *ownFile[T]) Flush() error {
	f.in = 0
	return f.fileWriter.Flush()
}

// Rest implements lake.Resting.
func (f *ownFile[T]) Rest() error {
	if err := f.endGroup(); err != nil {
		return err
	}
	return f.settle(mostPending)
}

// file is a file of any other engine (lake.File).
type file[T any] struct {
	FileWriter
	format *format[T]
	counter
}

// Append implements lake.File.
func (f *file[T]) Append(pick []int32) error {
	fm := f.format
	n := fm.rows
	if pick != nil {
		n = len(pick)
	}
	for at := 0; at < n; {
		m := f.room(min(fm.step, n-at))
		for i := range fm.vectors {
			if pick == nil {
				fm.piece[i] = fm.vectors[i].slice(at, at+m)
			} else {
				fm.piece[i].pick(&fm.vectors[i], pick[at:at+m])
			}
		}
		if err := f.Write(m, fm.piece); err != nil {
			return err
		}
		at += m
		if f.took(m) {
			if err := f.FileWriter.Flush(); err != nil {
				return err
			}
		}
	}
	return nil
}

// Flush implements lake.File.
func (f *file[T]) Flush() error {
	f.in = 0
	return f.FileWriter.Flush()
}
