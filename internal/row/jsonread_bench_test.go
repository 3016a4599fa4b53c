package row

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"
	"unsafe"

	"github.com/shopspring/decimal"
)

type evento struct {
	ID     int64     `json:"id"`
	User   string    `json:"user"`
	Amount float64   `json:"amount"`
	At     time.Time `json:"at"`
	OK     bool      `json:"ok"`
}

type ventaJSON struct {
	VentaID   int64
	Fecha     time.Time `leat:"fecha,time=2006-01-02 15:04:05"`
	Tienda    string
	Producto  string
	Categoria string
	Cantidad  int32
	Precio    float64
	Descuento *float64
	Nota      *string
	Total     float64
	Ciudad    string
	Pagado    bool
}

func benchLines(b *testing.B, n int, line func(i int) string) []byte {
	b.Helper()
	var data []byte
	for i := range n {
		data = append(append(data, line(i)...), '\n')
	}
	return data
}

func benchJSON[T any](b *testing.B, data []byte, rules JSONRules, rows int) {
	b.Helper()
	d := NewJSONPlan(mustOf[T](b), rules).Decoder()
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	out := make([]T, rows)
	start := cpuTime()
	for b.Loop() {
		at := 0
		clear(out)
		for i := range out {
			next, err := d.Line(data, at, unsafe.Pointer(&out[i]))
			if err != nil {
				b.Fatal(err)
			}
			at = next
		}
	}
	b.ReportMetric(float64(b.N)*float64(rows)/b.Elapsed().Seconds()/1e6, "Mrows/s")
	if cpu := cpuTime() - start; cpu > 0 { // what counts on a machine that others use too
		b.ReportMetric(float64(b.N)*float64(rows)/cpu.Seconds()/1e6, "Mrows/cpu-s")
	}
	b.ReportMetric(0, "ns/op")
}

const benchRows = 4000

func eventLine(i int) string {
	return fmt.Sprintf(`{"id":%d,"user":"user-%d","amount":%d.%02d,"at":"2025-03-%02dT10:%02d:%02dZ","ok":%v}`,
		1000000+i, i%5000, i%900, i%100, 1+i%28, i/60%60, i%60, i%3 == 0)
}

func ventaLine(i int) string {
	return fmt.Sprintf(`{"venta_id": %d, "fecha": "2025-03-%02d 10:%02d:%02d", "tienda": "Tienda %d", "producto": "Café Panamá %d", "categoria": "alimentos", "cantidad": %d, "precio": %d.%02d, "descuento": %s, "nota": null, "total": %d.5, "ciudad": "Chitré", "pagado": %v}`,
		1000000+i, 1+i%28, i/60%60, i%60, i%200, i%3000, i%50, i%90, i%100, []string{"null", "0.15"}[i%2], i, i%3 == 0)
}

func BenchmarkJSON(b *testing.B) {
	b.Run("event", func(b *testing.B) {
		benchJSON[evento](b, benchLines(b, benchRows, eventLine), JSONRules{}, benchRows)
	})
	b.Run("venta", func(b *testing.B) {
		benchJSON[ventaJSON](b, benchLines(b, benchRows, ventaLine), JSONRules{}, benchRows)
	})
	b.Run("unknown", func(b *testing.B) { // two of twelve
		type pocas struct {
			VentaID int64
			Total   float64
		}
		benchJSON[pocas](b, benchLines(b, benchRows, ventaLine), JSONRules{}, benchRows)
	})
	b.Run("escapes", func(b *testing.B) {
		benchJSON[evento](b, benchLines(b, benchRows, func(i int) string {
			return fmt.Sprintf(`{"id":%d,"user":"l\u00ednea %d\nde \"texto\"","amount":1e-3,"at":"2025-03-01T10:00:00.123456Z","ok":true}`, i, i)
		}), JSONRules{}, benchRows)
	})
	b.Run("decimal", func(b *testing.B) {
		type dinero struct {
			ID     int64
			Precio decimal.Decimal
		}
		benchJSON[dinero](b, benchLines(b, benchRows, func(i int) string { return fmt.Sprintf(`{"id":%d,"precio":"%d.25"}`, i, i) }), JSONRules{}, benchRows)
	})
	b.Run("encoding/json", func(b *testing.B) {
		line := []byte(eventLine(7))
		b.SetBytes(int64(len(line)))
		start := cpuTime()
		for b.Loop() {
			var e evento
			if err := json.Unmarshal(line, &e); err != nil {
				b.Fatal(err)
			}
		}
		if cpu := cpuTime() - start; cpu > 0 {
			b.ReportMetric(float64(b.N)/cpu.Seconds()/1e6, "Mrows/cpu-s")
		}
	})
}
