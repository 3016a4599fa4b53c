package parquetsource

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/parquet-go/parquet-go"
	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat"
)

type benchRow struct {
	VentaID    int64     `parquet:"venta_id"`
	ClienteID  int64     `parquet:"cliente_id"`
	ProductoID int64     `parquet:"producto_id"`
	Cantidad   int64     `parquet:"cantidad"`
	Precio     float64   `parquet:"precio"`
	Total      float64   `parquet:"total"`
	Fecha      time.Time `parquet:"fecha,timestamp(microsecond)"`
	Metodo     string    `parquet:"metodo,dict"`
	Estado     string    `parquet:"estado,dict"`
	Nota       *string   `parquet:"nota,optional"`
}

// BenchmarkPipeline reads a file of a million rows through the engine into a sink that
// counts.
func BenchmarkPipeline(b *testing.B) {
	const n = 1_000_000
	var buf bytes.Buffer
	w := parquet.NewGenericWriter[benchRow](&buf, parquet.Compression(&parquet.Snappy), parquet.MaxRowsPerRowGroup(128<<10))
	rows := make([]benchRow, 1000)
	at := time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)
	for i := range n {
		r := &rows[i%1000]
		*r = benchRow{int64(i), int64(i * 7919 % 50000), int64(i % 977), int64(i % 5), float64(i%5000) / 100, float64(i%70000) / 100,
			at.Add(time.Duration(i) * time.Second), []string{"tarjeta", "efectivo", "otro"}[i%3], []string{"completada", "pendiente"}[i%2], nil}
		if i%3 == 0 {
			s := fmt.Sprintf("nota %d", i%5000)
			r.Nota = &s
		}
		if i%1000 == 999 {
			_, err := w.Write(rows)
			require.NoError(b, err)
		}
	}
	require.NoError(b, w.Close())
	dir := b.TempDir()
	require.NoError(b, os.WriteFile(filepath.Join(dir, "a.parquet"), buf.Bytes(), 0o644))
	for name, isolate := range map[string]Isolate{"here": {}, "isolated": {Memory: 1 << 30}} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				p := leat.New("p", leat.Config{StateDir: b.TempDir(), Logger: slog.New(slog.DiscardHandler)})
				leat.To(leat.From(p, New(Config[benchRow]{Name: "in", Dir: dir, Isolate: isolate})), &counting[benchRow]{})
				require.NoError(b, p.Run(b.Context()))
			}
			b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds()/1e6, "Mrows/s")
		})
	}
}

// counting is a sink that only counts.
type counting[T any] struct{ rows int }

func (c *counting[T]) Open(context.Context, leat.Env) error { return nil }
func (c *counting[T]) Close() error                         { return nil }

func (c *counting[T]) Write(_ context.Context, b *leat.Batch[T]) error {
	c.rows += b.Len()
	return nil
}

func (c *counting[T]) Commit(context.Context, leat.Checkpoint) (bool, error) { return true, nil }
