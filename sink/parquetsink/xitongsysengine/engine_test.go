package xitongsysengine_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	pg "github.com/parquet-go/parquet-go"
	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/xitongsys/parquet-go/parquet"
	"github.com/xitongsys/parquet-go/reader"
	"github.com/xitongsys/parquet-go/source"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/leattest"
	"github.com/leatgo/leat/sink/parquetsink"
	"github.com/leatgo/leat/sink/parquetsink/internal/typetest"
	"github.com/leatgo/leat/sink/parquetsink/xitongsysengine"
)

// write runs a pipeline and gives the path of the one file it makes.
func write[T any](t testing.TB, c parquetsink.Config[T], rows ...T) string {
	t.Helper()
	dir := t.TempDir()
	c.Dir = filepath.Join(dir, "lake")
	p := leat.New("p", leat.Config{StateDir: filepath.Join(dir, "state")})
	leat.To(leat.From(p, leattest.Rows(rows...).Batches(333)), parquetsink.New(c))
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	require.NoError(t, p.Run(ctx))
	files, err := parquetsink.Files(c.Dir)
	require.NoError(t, err)
	require.Len(t, files, 1)
	return filepath.Join(c.Dir, files[0].Path)
}

func load(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	return b
}

// same compares row by row, for failures that can be read.
func same(t testing.TB, rows []typetest.Row, got [][]any, what string) {
	t.Helper()
	require.Len(t, got, len(rows), what)
	for i, r := range rows {
		for j, want := range r.Want() {
			require.Equal(t, want, got[i][j], "%s: row %d, column %s", what, i, typetest.Columns[j][0])
		}
	}
}

// memory is a file as the library wants one to read.
type memory struct {
	*bytes.Reader
	b []byte
}

func (m memory) Open(string) (source.ParquetFile, error) {
	return memory{bytes.NewReader(m.b), m.b}, nil
}
func (m memory) Create(string) (source.ParquetFile, error) { return nil, io.ErrClosedPipe }
func (m memory) Write([]byte) (int, error)                 { return 0, io.ErrClosedPipe }
func (m memory) Close() error                              { return nil }

// read reads a file with xitongsys, in the form of typetest.Row.Want.
func read(t testing.TB, file []byte) [][]any {
	t.Helper()
	r, err := reader.NewParquetColumnReader(memory{bytes.NewReader(file), file}, 1)
	require.NoError(t, err)
	defer r.ReadStop()
	n := r.GetNumRows()
	rows := make([][]any, n)
	for i := range rows {
		rows[i] = make([]any, len(r.SchemaHandler.ValueColumns))
	}
	for i, path := range r.SchemaHandler.ValueColumns {
		e := r.SchemaHandler.SchemaElements[r.SchemaHandler.MapIndex[path]]
		rep, err := r.SchemaHandler.MaxRepetitionLevel(splitPath(path))
		require.NoError(t, err)
		most, err := r.SchemaHandler.MaxDefinitionLevel(splitPath(path))
		require.NoError(t, err)
		values, rls, dls, err := r.ReadColumnByIndex(int64(i), n)
		require.NoError(t, err)
		at := -1
		for k, v := range values {
			if rls[k] == 0 {
				at++
			}
			switch {
			case rep == 0 && dls[k] < most:
			case rep == 0:
				rows[at][i] = text(e, v)
			case dls[k] < most-1: // a null list
			case dls[k] == most-1:
				rows[at][i] = []any{}
			default:
				list, _ := rows[at][i].([]any)
				rows[at][i] = append(list, text(e, v))
			}
		}
		require.EqualValues(t, n-1, at, path)
	}
	return rows
}

func splitPath(path string) []string {
	var out []string
	for _, p := range bytes.Split([]byte(path), []byte{1}) {
		out = append(out, string(p))
	}
	return out
}

func text(e *parquet.SchemaElement, v any) string {
	if e.ConvertedType != nil && *e.ConvertedType == parquet.ConvertedType_DECIMAL {
		switch v := v.(type) {
		case int32:
			return decimal.New(int64(v), -e.GetScale()).StringFixed(e.GetScale())
		case int64:
			return decimal.New(v, -e.GetScale()).StringFixed(e.GetScale())
		}
		return typetest.BigEndian([]byte(v.(string)), e.GetScale())
	}
	unsigned := e.LogicalType != nil && e.LogicalType.INTEGER != nil && !e.LogicalType.INTEGER.IsSigned
	switch v := v.(type) {
	case bool:
		return typetest.Bool(v)
	case int32:
		if unsigned {
			return strconv.FormatUint(uint64(uint32(v)), 10)
		}
		return typetest.Int(v)
	case int64:
		if unsigned {
			return strconv.FormatUint(uint64(v), 10)
		}
		return typetest.Int(v)
	case float32:
		return typetest.Float(v)
	case float64:
		return typetest.Float(v)
	case string:
		if e.ConvertedType == nil {
			return typetest.Bytes([]byte(v))
		}
		return v
	}
	return fmt.Sprintf("%T", v)
}

// TestEnginesReadEachOther: every type, null and list, by each library from each
// engine's files.
func TestEnginesReadEachOther(t *testing.T) {
	t.Parallel()
	rows := typetest.Rows(2500, 11)
	for compression := range parquetsink.None + 1 {
		for _, engine := range []parquetsink.Engine{nil, xitongsysengine.New()} {
			c := parquetsink.Config[typetest.Row]{Engine: engine, Compression: compression, RowGroupRows: 800}
			file := load(t, write(t, c, rows...))
			what := "parquet-go's"
			if engine != nil {
				what = "xitongsys'"
			}
			same(t, rows, typetest.Read(t, file), "parquet-go reads "+what)
			same(t, rows, read(t, file), "xitongsys reads "+what)
		}
	}
}

// TestReaders: DuckDB and pyarrow read this engine's files, too.
func TestReaders(t *testing.T) {
	t.Parallel()
	rows := typetest.Rows(1500, 12)
	for compression := range parquetsink.None + 1 {
		path := write(t, parquetsink.Config[typetest.Row]{Engine: xitongsysengine.New(), Compression: compression, RowGroupRows: 400}, rows...)
		for tool, table := range typetest.Python(t, path, "") {
			for i, want := range typetest.Columns {
				assert.Equal(t, want[0], table.Columns[i][0], tool)
				k := 1
				if tool == "pyarrow" {
					k = 2
				}
				assert.Equal(t, want[k], table.Columns[i][1], "%s: %s", tool, want[0])
			}
			same(t, rows, table.Rows, tool)
		}
	}
}

func TestRowGroupsAndStatistics(t *testing.T) {
	t.Parallel()
	rows := typetest.Rows(1500, 13)
	file := load(t, write(t, parquetsink.Config[typetest.Row]{Engine: xitongsysengine.New(), RowGroupRows: 400}, rows...))
	f, err := pg.OpenFile(bytes.NewReader(file), int64(len(file)))
	require.NoError(t, err)
	var sizes []int64
	for _, g := range f.Metadata().RowGroups {
		sizes = append(sizes, g.NumRows)
		for _, c := range g.Columns {
			assert.Zero(t, c.ColumnIndexOffset, "an index of pages that is wrong loses rows")
			assert.Nil(t, c.MetaData.Statistics.MinValue)
		}
	}
	assert.Equal(t, []int64{400, 400, 400, 300}, sizes, "F8: row groups are bounded")
}

// TestCompact mends files of this engine, with the other one.
func TestCompact(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	rows := typetest.Rows(600, 14)
	for i := range 4 {
		p := leat.New(fmt.Sprint("p", i), leat.Config{StateDir: filepath.Join(dir, "state")})
		leat.To(leat.From(p, leattest.Rows(rows[i*150:i*150+150]...)),
			parquetsink.New(parquetsink.Config[typetest.Row]{Dir: filepath.Join(dir, "lake"), Engine: xitongsysengine.New()}))
		require.NoError(t, p.Run(t.Context()))
	}
	stats, err := parquetsink.Compact(t.Context(), filepath.Join(dir, "lake"), parquetsink.CompactConfig{})
	require.NoError(t, err)
	assert.Equal(t, 4, stats.Replaced)
	files, err := parquetsink.Files(filepath.Join(dir, "lake"))
	require.NoError(t, err)
	require.Len(t, files, 1)
	file := load(t, filepath.Join(dir, "lake", files[0].Path))
	same(t, rows, typetest.Read(t, file), "parquet-go")
	same(t, rows, read(t, file), "xitongsys")
}

// TestSizes: what Roll.Bytes and the lake's bound of memory go by.
func TestSizes(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	columns := []parquetsink.Column{{Name: "id", Type: parquetsink.Int, Bits: 64}, {Name: "s", Type: parquetsink.String, Null: true}}
	require.NoError(t, xitongsysengine.New().Check(columns, parquetsink.FileOptions{}))
	w, err := xitongsysengine.New().Create(&out, columns, parquetsink.FileOptions{})
	require.NoError(t, err)
	vectors := []parquetsink.Vector{{Int64s: make([]int64, 1000)}, {Strings: make([]string, 1000), Valid: make([]bool, 1000)}}
	for i := range 1000 {
		vectors[0].Int64s[i] = int64(i * 7919 % 1_000_003)
		vectors[1].Strings[i], vectors[1].Valid[i] = fmt.Sprint(i*i), i%3 > 0
	}
	for range 100 {
		require.NoError(t, w.Write(1000, vectors))
	}
	require.Greater(t, w.Buffered(), int64(200_000))
	size := w.Size()
	require.NoError(t, w.Flush())
	require.Zero(t, w.Buffered())
	require.NoError(t, w.Close())
	assert.InEpsilon(t, out.Len(), size, 0.05)

	// A file without rows is a file all the same.
	out.Reset()
	w, err = xitongsysengine.New().Create(&out, columns, parquetsink.FileOptions{})
	require.NoError(t, err)
	require.NoError(t, w.Close())
	assert.Empty(t, typetest.Read(t, out.Bytes()))
}

// TestWriteErrors: trouble of the disk comes out, whenever it comes.
func TestWriteErrors(t *testing.T) {
	t.Parallel()
	columns := []parquetsink.Column{{Name: "id", Type: parquetsink.Int, Bits: 64}}
	for room := 0; ; room++ {
		err := func() error {
			w, err := xitongsysengine.New().Create(&fullDisk{room}, columns, parquetsink.FileOptions{})
			if err != nil {
				return err
			}
			if err := w.Write(3, []parquetsink.Vector{{Int64s: []int64{1, 2, 3}}}); err != nil {
				return err
			}
			return w.Close()
		}()
		if err == nil {
			require.Greater(t, room, 2)
			return
		}
		require.ErrorIs(t, err, errFull)
	}
}

var errFull = fmt.Errorf("no space left")

// fullDisk takes so many writes.
type fullDisk struct{ room int }

func (d *fullDisk) Write(b []byte) (int, error) {
	if d.room == 0 {
		return 0, errFull
	}
	d.room--
	return len(b), nil
}
