package parquetsink

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/parquet-go/parquet-go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat/sink/parquetsink/internal/typetest"
)

// TestBounds: a reader that leaves out row groups and pages by their smallest and
// largest value must not miss a row. So where a file has such bounds all values
// are within; and strings and large decimals have none.
func TestBounds(t *testing.T) {
	t.Parallel()
	file := encode(t, Config[typetest.Row]{RowGroupRows: 900}, 250, false, typetest.Rows(4000, 7)...)
	checkBounds(t, file)
}

// TestPruning: what DuckDB and pyarrow leave out by the bounds in a file holds no row
// that a condition finds, NaN and -0 included; nor in one that Compact has made.
func TestPruning(t *testing.T) {
	t.Parallel()
	var paths []string
	for seed := range uint64(2) {
		rows := typetest.Close(600, seed)
		path := filepath.Join(t.TempDir(), "a.parquet")
		file := encode(t, Config[typetest.Numbered]{RowGroupRows: 40}, 333, seed == 1, rows...)
		checkBounds(t, file)
		require.NoError(t, os.WriteFile(path, file, 0o600))

		var merged bytes.Buffer
		m := merger{w: &merged, counter: counter{group: 55}}
		n, err := m.merge(t.Context(), []string{path})
		require.NoError(t, err)
		require.EqualValues(t, len(rows), n)
		checkBounds(t, merged.Bytes())
		require.NoError(t, os.WriteFile(path+".merged", merged.Bytes(), 0o600))
		paths = append(paths, path, path+".merged")
	}
	for i, path := range paths {
		typetest.Prune(t, path, uint64(i))
	}
}

func checkBounds(t *testing.T, file []byte) {
	t.Helper()
	f, err := parquet.OpenFile(bytes.NewReader(file), int64(len(file)))
	require.NoError(t, err)
	leaves := f.Schema().Columns()
	none := []string{"s", "by", "txt", "d38", "dt", "ps", "p_by", "p_txt", "p_d38", "ñ.s", "ls", "l_by", "pls"}
	for i, g := range f.Metadata().RowGroups {
		for j, c := range g.Columns {
			name := c.MetaData.PathInSchema[0]
			if slices.Contains(none, name) {
				assert.Zero(t, c.ColumnIndexOffset, name)
				assert.Nil(t, c.MetaData.Statistics.MinValue, name)
				assert.Nil(t, c.MetaData.Statistics.MaxValue, name)
				continue
			}
			if c.ColumnIndexOffset == 0 {
				require.Contains(t, []string{"f32", "f64", "pf32", "pf64", "lf32", "lf64", "nlf"}, name)
				assert.Nil(t, c.MetaData.Statistics.MinValue, name)
				assert.Nil(t, c.MetaData.Statistics.MaxValue, name)
				continue
			}
			if c.MetaData.Statistics.NullCount == c.MetaData.NumValues {
				assert.Nil(t, c.MetaData.Statistics.MinValue, name)
				assert.Nil(t, c.MetaData.Statistics.MaxValue, name)
				continue
			}
			leaf, ok := f.Schema().Lookup(leaves[j]...)
			require.True(t, ok)
			typ := leaf.Node.Type()
			min, max := typ.Kind().Value(c.MetaData.Statistics.MinValue), typ.Kind().Value(c.MetaData.Statistics.MaxValue)
			chunk := f.RowGroups()[i].ColumnChunks()[j]
			index, err := chunk.ColumnIndex()
			require.NoError(t, err)
			pages := chunk.Pages()
			for k := 0; ; k++ {
				p, err := pages.ReadPage()
				if err != nil {
					break
				}
				values := make([]parquet.Value, p.NumValues())
				_, _ = p.Values().ReadValues(values)
				for _, v := range values {
					if v.IsNull() {
						continue
					}
					require.NotEqual(t, "nan", typetest.Text(typ, v), "%s: no bounds where a NaN is", name)
					require.False(t, index.NullPage(k), name)
					require.LessOrEqual(t, typ.Compare(min, v), 0, "%s: %v < %v", name, v, min)
					require.GreaterOrEqual(t, typ.Compare(max, v), 0, "%s: %v > %v", name, v, max)
					require.LessOrEqual(t, typ.Compare(index.MinValue(k), v), 0, name)
					require.GreaterOrEqual(t, typ.Compare(index.MaxValue(k), v), 0, name)
				}
			}
			require.NoError(t, pages.Close())
		}
	}
}
