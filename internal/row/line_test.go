package row

import (
	"bytes"
	"fmt"
	"testing"
	"time"
	"unsafe"
)

type venta struct {
	VentaID        int64
	ClienteID      int64
	ProductoID     int64
	Cantidad       int64
	PrecioUnitario float64
	Total          float64
	FechaVenta     time.Time `leat:"fecha_venta,time=2006-01-02 15:04:05"`
	MetodoPago     string
	Estado         string
}

// ventas are lines of the comparisons' file; quote is "" or what is around each cell.
func ventas(rows int, quote string) []byte {
	pay := []string{"tarjeta", "efectivo", "transferencia"}
	state := []string{"completada", "pendiente", "cancelada"}
	base := time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)
	var b bytes.Buffer
	for j := range rows {
		q, p := j%5+1, float64(j*37%50000)/100+1
		for i, cell := range []string{
			fmt.Sprint(j), fmt.Sprint(j*7919%50000 + 1), fmt.Sprint(j%977 + 1), fmt.Sprint(q), fmt.Sprintf("%.2f", p), fmt.Sprintf("%.2f", p*float64(q)),
			base.Add(time.Duration(20*j) * time.Second).Format(time.DateTime), pay[j%3], state[j/3%3],
		} {
			if i > 0 {
				b.WriteByte(',')
			}
			b.WriteString(quote + cell + quote)
		}
		b.WriteByte('\n')
	}
	return b.Bytes()
}

func planOf[T any](tb testing.TB, f Form) *Plan {
	rt := mustOf[T](tb)
	cells := make([]*Column, len(rt.Columns))
	for i := range cells {
		cells[i] = &rt.Columns[i]
	}
	return NewPlan(f, cells)
}

func BenchmarkLine(b *testing.B) {
	for name, quote := range map[string]string{"bare": "", "quoted": `"`} {
		b.Run(name, func(b *testing.B) {
			const rows = 7000
			data := ventas(rows, quote)
			d := planOf[venta](b, Form{Delimiter: ',', Quote: '"', Max: 1 << 20}).Decoder()
			out := make([]venta, rows)
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			for b.Loop() {
				at := 0
				for i := 0; i < rows-1; i++ {
					if at = d.Line(data, at, unsafe.Pointer(&out[i])); at == 0 {
						b.Fatal(i)
					}
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/rows, "ns/row")
		})
	}
}
