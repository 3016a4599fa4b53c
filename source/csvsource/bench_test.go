package csvsource

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/csvtext"
)

// Venta is the row of ../../../shared/rivals/gen/ventas.py.
type Venta struct {
	VentaID        int64
	ClienteID      int64
	ProductoID     int64
	Cantidad       int32
	PrecioUnitario float64
	Total          float64
	FechaVenta     time.Time `leat:"fecha_venta,time=2006-01-02 15:04:05"`
	MetodoPago     string
	Estado         string
}

// ventasCSV is what ventas.py writes.
func ventasCSV(rows int) []byte {
	pay := []string{"tarjeta", "efectivo", "transferencia"}
	state := []string{"completada", "pendiente", "cancelada"}
	base := time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)
	var b bytes.Buffer
	b.WriteString("venta_id,cliente_id,producto_id,cantidad,precio_unitario,total,fecha_venta,metodo_pago,estado\n")
	for j := range rows {
		q, p := j%5+1, float64(j*37%50000)/100+1
		fmt.Fprintf(&b, "%d,%d,%d,%d,%.2f,%.2f,%s,%s,%s\n", j, j*7919%50000+1, j%977+1, q, p, p*float64(q),
			base.Add(time.Duration(20*j)*time.Second).Format("2006-01-02 15:04:05"), pay[j%3], state[j/3%3])
	}
	return b.Bytes()
}

func quoteAll(text []byte) []byte {
	text = bytes.ReplaceAll(text, []byte(","), []byte(`","`))
	text = bytes.ReplaceAll(text, []byte("\n"), []byte("\"\n\""))
	return append([]byte{'"'}, bytes.TrimSuffix(text, []byte{'"'})...)
}

func benchChunk(tb testing.TB, text []byte) *chunk[Venta] {
	f, err := newForm(new(Config[Venta]))
	require.NoError(tb, err)
	c := csvtext.NewCutter(f.dialect, len(text))
	c.Reset(bytes.NewReader(text))
	_, h, err := f.header(c)
	require.NoError(tb, err)
	p, err := c.Next()
	require.NoError(tb, err)
	return &chunk[Venta]{piece: p, header: h, file: "ventas.csv"}
}

// One core, one chunk of about 512 KiB: bytes to typed rows, the quick way, and the
// careful way that it is tested against.
func BenchmarkDecode(b *testing.B) {
	const rows = 7000
	for name, text := range map[string][]byte{"bare": ventasCSV(rows), "quoted": quoteAll(ventasCSV(rows))} {
		c := benchChunk(b, text)
		run := func(b *testing.B, decode func(out *leat.Batch[Venta])) {
			b.SetBytes(int64(len(c.piece.Data)))
			b.ReportAllocs()
			for b.Loop() {
				out := new(leat.Batch[Venta])
				decode(out)
				if out.Len() != rows {
					b.Fatal(out.Len())
				}
			}
			b.ReportMetric(float64(b.N)*rows/b.Elapsed().Seconds()/1e6, "Mrows/s")
		}
		fail := func(_ int, err error) { b.Fatal(err) }
		b.Run("quick/"+name, func(b *testing.B) {
			run(b, func(out *leat.Batch[Venta]) { c.decode(out, fail) })
		})
		b.Run("careful/"+name, func(b *testing.B) {
			run(b, func(out *leat.Batch[Venta]) {
				out.Grow(rows + 1)
				w := walk[Venta]{
					chunk: c, out: out, reject: fail,
					records: csvtext.NewRecords(&c.header.form.dialect, c.piece.Data, c.piece.Line, c.header.fields),
				}
				for !w.run() {
				}
			})
		})
	}
}

func BenchmarkLocate(b *testing.B) {
	c := benchChunk(b, ventasCSV(7000))
	for b.Loop() {
		c.Locate([]int{6999})
	}
}
