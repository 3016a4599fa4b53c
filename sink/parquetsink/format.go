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

// format is the lake's view of Parquet (lake.Format).
type format[T any] struct {
	table   *table
	engine  Engine
	options FileOptions
	group   int64 // rows of a row group

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
	return &format[T]{table: t, engine: e, options: o, group: group, limit: maxValue,
		vectors: make([]Vector, len(t.columns)), piece: make([]Vector, len(t.columns))}
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
	longest := 0
	for i := range f.table.fields {
		fd := &f.table.fields[i]
		fl := filler{
			c: fd.c, column: &f.table.columns[i], base: unsafe.Pointer(unsafe.SliceData(rows)), stride: f.table.stride,
			n: len(rows), out: &f.vectors[i], arena: &f.arena, limit: f.limit, refuse: f.refuse,
		}
		fd.fill(&fl)
		longest += fl.longest
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
	fw, err := f.engine.Create(w, f.table.columns, f.options)
	if err != nil {
		return nil, err
	}
	return &file[T]{format: f, w: fw}, nil
}

// file is a Parquet file being written (lake.File).
type file[T any] struct {
	format  *format[T]
	w       FileWriter
	inGroup int64 // rows of the open row group
	groups  int   // ended by its bound
}

// maxGroups is below the 32,767 row groups that a file can have, with room for
// those that the lake asks for. Only with groups of a few rows it is ever met.
const maxGroups = 30_000

// Append implements lake.File.
func (f *file[T]) Append(pick []int32) error {
	fm := f.format
	n := fm.rows
	if pick != nil {
		n = len(pick)
	}
	for at := 0; at < n; {
		// Rule F8: a row group ends at its bound, also inside a batch.
		end := min(at+fm.step, n, at+int(max(1, min(fm.group-f.inGroup, int64(n)))))
		for i := range fm.vectors {
			if pick == nil {
				fm.piece[i] = fm.vectors[i].slice(at, end)
			} else {
				fm.piece[i].pick(&fm.vectors[i], pick[at:end])
			}
		}
		if err := f.w.Write(end-at, fm.piece); err != nil {
			return err
		}
		f.inGroup += int64(end - at)
		at = end
		if f.inGroup >= fm.group && f.groups < maxGroups {
			f.groups++
			if err := f.Flush(); err != nil {
				return err
			}
		}
	}
	return nil
}

// Size implements lake.File.
func (f *file[T]) Size() int64 { return f.w.Size() }

// Buffered implements lake.File.
func (f *file[T]) Buffered() int64 { return f.w.Buffered() }

// Flush implements lake.File.
func (f *file[T]) Flush() error {
	f.inGroup = 0
	return f.w.Flush()
}

// Close implements lake.File.
func (f *file[T]) Close() error { return f.w.Close() }
