package parquetread_test

import (
	"errors"
	"io"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat/internal/parquetread"
)

// readRows reads rows from one on, none of which may be refused.
func readRows[T any](t testing.TB, f *parquetread.File, plan *parquetread.Plan, from int64, step int) (rows []T) {
	t.Helper()
	r := f.Reader(plan.Columns, from, step)
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
