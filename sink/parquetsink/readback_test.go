package parquetsink_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/parquetread"
	"github.com/leatgo/leat/internal/row"
	"github.com/leatgo/leat/leattest"
	"github.com/leatgo/leat/sink/parquetsink"
	"github.com/leatgo/leat/sink/parquetsink/internal/typetest"
	"github.com/leatgo/leat/sink/parquetsink/parquetgoengine"
	"github.com/leatgo/leat/sink/parquetsink/xitongsysengine"
)

// readBack reads a file with the reader that parquetsource uses, in pieces of step rows.
func readBack[T any](t testing.TB, file []byte, step int) (rows []T) {
	t.Helper()
	f, err := parquetread.Open(bytes.NewReader(file), int64(len(file)), parquetread.Limits{})
	require.NoError(t, err)
	typ, err := row.Of[T]()
	require.NoError(t, err)
	plan, err := f.Plan(typ, parquetread.Drift{})
	require.NoError(t, err)
	r := f.Reader(plan.Columns, 0, step)
	for {
		p, err := r.Next(t.Context())
		if errors.Is(err, io.EOF) {
			return rows
		}
		require.NoError(t, err)
		part := make([]T, p.Rows)
		plan.Fill(p, unsafe.Pointer(&part[0]), unsafe.Sizeof(part[0]), func(i int, err error) { require.NoError(t, err, "row %d", i) })
		rows = append(rows, part...)
	}
}

// TestReadBack: what any engine writes, this project reads back identical.
func TestReadBack(t *testing.T) {
	t.Parallel()
	for name, engine := range map[string]parquetsink.Engine{
		"leat": nil, "parquet-go": parquetgoengine.New(), "xitongsys": xitongsysengine.New(),
	} {
		for c := range parquetsink.None + 1 {
			rows := typetest.Rows(1500, uint64(c)+7)
			dir := t.TempDir()
			p := leat.New("tipos", leat.Config{StateDir: t.TempDir()})
			leat.To(leat.From(p, leattest.Rows(rows...)), parquetsink.New(parquetsink.Config[typetest.Row]{
				Dir: dir, Engine: engine, Compression: c, RowGroupRows: 600,
			}))
			require.NoError(t, p.Run(context.Background()))
			files, err := parquetsink.Files(dir)
			require.NoError(t, err)
			require.Len(t, files, 1)
			b, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(files[0].Path)))
			require.NoError(t, err)
			for _, step := range []int{0, 7, 999} {
				got := readBack[typetest.Row](t, b, step)
				require.Len(t, got, len(rows), name)
				for i := range rows {
					want, have := rows[i].Want(), got[i].Want()
					for k := range want {
						require.Equal(t, want[k], have[k], "%s, compression %d, pieces of %d: row %d, column %s", name, c, step, i, typetest.Columns[k][0])
					}
				}
			}
		}
	}
}
