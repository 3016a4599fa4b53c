package parquetread_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/parquetread"
	"github.com/leatgo/leat/internal/row"
	"github.com/leatgo/leat/leattest"
	"github.com/leatgo/leat/sink/parquetsink"
)

// venta is like the rows of examples/ventas.
type venta struct {
	VentaID        int64
	ClienteID      int64
	ProductoID     int64
	Cantidad       int64
	PrecioUnitario float64
	Total          float64
	FechaVenta     time.Time
	MetodoPago     string
	Estado         string
	Cliente        string
}

func ventas(n int) []venta {
	rows := make([]venta, n)
	r := rand.New(rand.NewPCG(1, 2))
	at := time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)
	for i := range rows {
		price, count := float64(r.IntN(50000))/100, int64(1+r.IntN(5))
		rows[i] = venta{int64(i), int64(1 + r.IntN(50000)), int64(1 + r.IntN(977)), count, price, math.Round(price*float64(count)*100) / 100,
			at.Add(time.Duration(i) * 20 * time.Second), []string{"tarjeta", "efectivo", "transferencia"}[r.IntN(3)], []string{"completada", "pendiente", "cancelada"}[r.IntN(3)],
			"cliente " + string(rune('a'+r.IntN(26))) + string(rune('a'+r.IntN(26))) + string(rune('a'+r.IntN(26))) + string(rune('a'+r.IntN(26)))}
	}
	return rows
}

// encode makes one file of rows.
func encode[T any](t testing.TB, c parquetsink.Config[T], rows ...T) []byte {
	t.Helper()
	c.Dir = t.TempDir()
	p := leat.New("p", leat.Config{StateDir: t.TempDir()})
	leat.To(leat.From(p, leattest.Rows(rows...)), parquetsink.New(c))
	require.NoError(t, p.Run(context.Background()))
	files, err := parquetsink.Files(c.Dir)
	require.NoError(t, err)
	require.Len(t, files, 1)
	b, err := os.ReadFile(filepath.Join(c.Dir, files[0].Path))
	require.NoError(t, err)
	return b
}

func BenchmarkRead(b *testing.B) {
	const n = 500_000
	rows := ventas(n)
	for _, c := range []parquetsink.Compression{parquetsink.Snappy, parquetsink.Zstd, parquetsink.None} {
		file := encode(b, parquetsink.Config[venta]{Compression: c}, rows...)
		f, err := parquetread.Open(bytes.NewReader(file), int64(len(file)), parquetread.Limits{})
		require.NoError(b, err)
		typ, err := row.Of[venta]()
		require.NoError(b, err)
		plan, err := f.Plan(typ, parquetread.Drift{})
		require.NoError(b, err)
		for name, fill := range map[string]bool{"pieces": false, "rows": true} {
			b.Run(c.String()+"/"+name, func(b *testing.B) {
				b.ReportAllocs()
				buf := make([]venta, 16<<10)
				for b.Loop() {
					r := f.Reader(plan.Columns, 0, 0)
					for {
						p, err := r.Next(b.Context())
						if errors.Is(err, io.EOF) {
							break
						}
						require.NoError(b, err)
						if fill {
							clear(buf)
							plan.Fill(p, unsafe.Pointer(&buf[0]), unsafe.Sizeof(buf[0]), func(i int, err error) { b.Fatal(err) })
						}
					}
				}
				b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds()/1e6, "Mrows/s")
			})
		}
	}
}
