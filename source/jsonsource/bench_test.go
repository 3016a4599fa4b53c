package jsonsource

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/leatgo/leat"
)

// venta is the row of bench/, as in csvsource's benchmarks.
type venta struct {
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

func ventas(rows int) string {
	pay := []string{"tarjeta", "efectivo", "transferencia"}
	state := []string{"completada", "pendiente", "cancelada"}
	base := time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)
	var b strings.Builder
	for j := range rows {
		q, p := j%5+1, float64(j*37%50000)/100+1
		fmt.Fprintf(&b, `{"venta_id":%d,"cliente_id":%d,"producto_id":%d,"cantidad":%d,"precio_unitario":%.2f,"total":%.2f,"fecha_venta":"%s","metodo_pago":"%s","estado":"%s"}`+"\n",
			j, j*7919%50000+1, j%977+1, q, p, p*float64(q), base.Add(time.Duration(20*j)*time.Second).Format("2006-01-02 15:04:05"), pay[j%3], state[j/3%3])
	}
	return b.String()
}

// One core, one chunk of about 512 KiB: bytes to typed rows.
func BenchmarkDecode(b *testing.B) {
	const rows = 2500
	c := pieces(b, Config[venta]{ChunkBytes: 1 << 20}, ventas(rows))[0]
	b.SetBytes(int64(len(c.piece.Data)))
	b.ReportAllocs()
	for b.Loop() {
		out := new(leat.Batch[venta])
		if n, bad, _ := c.Decode(context.Background(), out, nil); n != rows || bad != 0 {
			b.Fatal(n, bad)
		}
	}
	b.ReportMetric(float64(b.N)*rows/b.Elapsed().Seconds()/1e6, "Mrows/s")
}
