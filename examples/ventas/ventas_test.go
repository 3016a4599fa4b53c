package main

import (
	"bytes"
	"context"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/examples/internal/cli"
	"github.com/leatgo/leat/leattest"
)

// venta is a good row.
func venta(change func(*Venta)) Venta {
	v := Venta{VentaID: 0, ClienteID: 1, ProductoID: 2, Cantidad: 4, PrecioUnitario: 2.5, Total: 10,
		FechaVenta: time.Date(2025, 1, 31, 23, 59, 59, 0, time.UTC), MetodoPago: "tarjeta", Estado: "completada", Archivo: "a.csv"}
	if change != nil {
		change(&v)
	}
	return v
}

func config(t *testing.T) leat.Config {
	return leat.Config{StateDir: t.TempDir(), Logger: slog.New(slog.DiscardHandler), Require: leat.ExactlyOnce}
}

func TestContractAndEnrichment(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name     string
		row      Venta
		want     Rica
		rejected string
	}{
		{name: "good", row: venta(nil), want: Rica{Venta: venta(nil), Anio: 2025, Mes: "2025-01", TicketUnitario: 2.5}},
		{name: "gift", row: venta(func(v *Venta) { v.PrecioUnitario, v.Total = 0, 0 }),
			want: Rica{Venta: venta(func(v *Venta) { v.PrecioUnitario, v.Total = 0, 0 }), Anio: 2025, Mes: "2025-01"}},
		{name: "negative id", row: venta(func(v *Venta) { v.VentaID = -1 }), rejected: "Contract/venta_id/gte"},
		{name: "no customer", row: venta(func(v *Venta) { v.ClienteID = 0 }), rejected: "Contract/cliente_id/gt"},
		{name: "no product", row: venta(func(v *Venta) { v.ProductoID = 0 }), rejected: "Contract/producto_id/gt"},
		{name: "nothing bought", row: venta(func(v *Venta) { v.Cantidad = 0 }), rejected: "Contract/cantidad/gte"},
		{name: "negative quantity", row: venta(func(v *Venta) { v.Cantidad = -3 }), rejected: "Contract/cantidad/gte"},
		{name: "negative price", row: venta(func(v *Venta) { v.PrecioUnitario = -0.01 }), rejected: "Contract/precio_unitario/gte"},
		{name: "negative total", row: venta(func(v *Venta) { v.Total = -0.01 }), rejected: "Contract/total/gte"},
		{name: "unknown method", row: venta(func(v *Venta) { v.MetodoPago = "cheque" }), rejected: "Contract/metodo_pago/oneof"},
		{name: "no method", row: venta(func(v *Venta) { v.MetodoPago = "" }), rejected: "Contract/metodo_pago/oneof"},
		{name: "unknown state", row: venta(func(v *Venta) { v.Estado = "Completada" }), rejected: "Contract/estado/oneof"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			sink := leattest.Collect[Rica]()
			p := ventas(config(t), leattest.Rows(tt.row), sink)
			require.NoError(t, p.Run(t.Context()))
			if tt.rejected == "" {
				require.Equal(t, []Rica{tt.want}, sink.Committed())
				require.Empty(t, p.Stats().Rejected)
				return
			}
			require.Empty(t, sink.Committed())
			require.Equal(t, map[string]int64{tt.rejected: 1}, p.Stats().Rejected)
		})
	}
}

func TestSumsPerFile(t *testing.T) {
	t.Parallel()
	row := func(file string, customer int64, total float64) Venta {
		return venta(func(v *Venta) { v.Archivo, v.ClienteID, v.Total = file, customer, total })
	}
	rows := []Venta{
		row("a.csv", 1, 10), row("a.csv", 2, 20), row("a.csv", 1, 30), row("b.csv", 1, 1),
		row("b.csv", 0, 100),                   // refused
		row("b.csv", 1, 2), row("a.csv", 3, 5), // a new version of a.csv
	}
	want := []Resumen{{"a.csv", 3, 60, 2}, {"b.csv", 2, 3, 1}, {"a.csv", 1, 5, 1}}
	for stop := range rows { // rule E1: where it stops and goes on makes no difference
		c := config(t)
		for _, part := range [][]Venta{rows[:stop], rows} {
			src := leattest.Rows(part...).Batches(2)
			require.NoError(t, ventas(c, src, &porArchivo{}).Run(t.Context()))
		}
		s, err := readSums(filepath.Join(c.StateDir, sumsFile))
		require.NoError(t, err)
		require.Equal(t, want, s.Archivos)
	}
}

func TestSumsOfABrokenFile(t *testing.T) {
	t.Parallel()
	c := config(t)
	require.NoError(t, os.WriteFile(filepath.Join(c.StateDir, sumsFile), []byte("{"), 0o600))
	err := ventas(c, leattest.Rows(venta(nil)), &porArchivo{}).Run(t.Context())
	require.ErrorContains(t, err, sumsFile)
}

func TestGenerate(t *testing.T) {
	t.Parallel()
	make := func() (folders, map[string]string) {
		d := foldersOf(filepath.Join(t.TempDir(), "incoming"))
		require.NoError(t, os.MkdirAll(d.incoming, 0o755))
		made, err := generate(t.Context(), d, 3, 1000)
		require.NoError(t, err)
		require.Equal(t, 3, made)
		return d, read(t, d.incoming)
	}
	d, one := make()
	_, two := make()
	require.Equal(t, one, two, "the seed is fixed")
	require.Len(t, one, 3)
	require.NotEqual(t, one[fileName(1)], one[fileName(2)])

	// What was processed is not made again, and nothing is overwritten.
	require.NoError(t, os.MkdirAll(d.processed, 0o755))
	require.NoError(t, os.Rename(filepath.Join(d.incoming, fileName(1)), filepath.Join(d.processed, fileName(1))))
	made, err := generate(t.Context(), d, 4, 10)
	require.NoError(t, err)
	require.Equal(t, 1, made)
	require.Equal(t, one[fileName(2)], read(t, d.incoming)[fileName(2)])
	require.NoFileExists(t, filepath.Join(d.incoming, fileName(1)))

	kinds := map[string]int{}
	for n := 1; n <= 3; n++ {
		for _, fault := range lines(n, 1000) {
			kinds[fault]++
		}
	}
	require.Equal(t, map[string]int{noFault: 3 + 2700, negativeQuantity: 75, unknownState: 75, brokenDate: 75, raggedLine: 75}, kinds)
}

func TestGenerateStops(t *testing.T) {
	t.Parallel()
	d := foldersOf(filepath.Join(t.TempDir(), "incoming"))
	require.NoError(t, os.MkdirAll(d.incoming, 0o755))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := generate(ctx, d, 1, 1000)
	require.ErrorIs(t, err, context.Canceled)
	require.Empty(t, read(t, d.incoming), "half a file is no file")

	// What a kill leaves goes away, unless another process may be writing it.
	for name, age := range map[string]time.Duration{".ventas-0001.csv.1.tmp": time.Hour, ".ventas-0001.csv.2.tmp": 0} {
		path := filepath.Join(d.incoming, name)
		require.NoError(t, os.WriteFile(path, nil, 0o600))
		require.NoError(t, os.Chtimes(path, time.Time{}, time.Now().Add(-age)))
	}
	_, err = generate(t.Context(), d, 0, 1000)
	require.NoError(t, err)
	require.Equal(t, map[string]string{".ventas-0001.csv.2.tmp": ""}, read(t, d.incoming))
}

func read(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	require.NoError(t, filepath.WalkDir(dir, func(path string, f fs.DirEntry, err error) error {
		if err != nil || f.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		out[f.Name()] = string(text)
		return err
	}))
	return out
}

func TestNumbers(t *testing.T) {
	t.Parallel()
	for n, want := range map[int64]string{0: "0", 7: "7", 999: "999", 1000: "1,000", -1000: "-1,000", 1234567: "1,234,567", 100000: "100,000"} {
		assert.Equal(t, want, cli.Count(n))
	}
	for f, want := range map[float64]string{0: "0.00", 1234.5: "1,234.50", -0.126: "-0.13", 999999.999: "1,000,000.00"} {
		assert.Equal(t, want, cli.Money(f))
	}
	var b bytes.Buffer
	table := cli.NewTable(&b, "-name", "rows")
	table.Row("Electrónica", "1")
	table.Row("b", "1,000")
	table.Flush()
	assert.Equal(t, "  name          rows\n  Electrónica      1\n  b            1,000\n", b.String())
}

func TestProgress(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	p := &progress{w: &b}
	p.follow(func() leat.Stats { panic("nobody looks") })()
	require.Empty(t, b.String(), "no progress where there is no terminal")

	p.terminal = true
	seen := make(chan struct{}, 100)
	stop := p.follow(func() leat.Stats {
		seen <- struct{}{}
		return leat.Stats{Run: leat.RunStats{In: 1234, Out: map[string]int64{"ventas": 1000}, Rejected: map[string]int64{"x": 234}}}
	})
	<-seen
	<-seen // the first one stands
	_, err := p.Write([]byte("log line\n"))
	require.NoError(t, err)
	stop()
	require.Contains(t, b.String(), clearLine+"rows in 1,234, loaded 1,000, rejected 234")
	require.Contains(t, b.String(), clearLine+"log line\nrows in 1,234")
	require.Regexp(t, "\r\x1b\\[K$", b.String(), "the line is wiped at the end")
}
