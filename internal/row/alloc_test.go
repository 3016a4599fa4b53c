package row

import (
	"math/rand/v2"
	"testing"
	"time"
	"unsafe"
)

type rapida struct {
	ID       int64     `leat:"venta_id,key"`
	Fecha    time.Time `leat:"fecha_venta,time=2006-01-02 15:04:05"`
	Dia      time.Time `leat:"dia,time=2006-01-02"`
	Creada   time.Time
	Tienda   string
	Cantidad int8
	Unidades uint16
	Precio   float64
	Peso     float32
	Activa   bool
	Espera   time.Duration
	Extra    []byte
}

var rapidaText = []string{"1234567890", "2025-03-09 10:11:12", "2025-03-09", "2025-03-09T10:11:12.123456Z", "Bogotá norte",
	"12", "40000", "1234.56", "0.75", "true", "1500", ""}

// TestNoAllocations, rule: nothing per row on the hot path. Not parallel, for AllocsPerRun counts the whole program.
func TestNoAllocations(t *testing.T) {
	rt := mustOf[rapida](t)
	var r rapida
	p := unsafe.Pointer(&r)
	for i := range rt.Columns {
		c := &rt.Columns[i]
		if n := testing.AllocsPerRun(100, func() {
			if err := c.Parse(p, rapidaText[i]); err != nil {
				t.Fatal(err)
			}
		}); n != 0 {
			t.Errorf("Parse of %s allocates %v times", c.Name, n)
		}
		if n := testing.AllocsPerRun(100, func() {
			if _, err := c.Value(p); err != nil {
				t.Fatal(err)
			}
		}); n != 0 {
			t.Errorf("Value of %s allocates %v times", c.Name, n)
		}
	}
	buf := make([]byte, 0, 1024)
	if n := testing.AllocsPerRun(100, func() {
		if _, err := rt.AppendJSON(buf, p); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("AppendJSON allocates %v times", n)
	}
	if n := testing.AllocsPerRun(100, func() { _, _ = Of[rapida]() }); n != 0 {
		t.Errorf("Of allocates %v times on a type it knows", n)
	}
}

func BenchmarkParse(b *testing.B) {
	rt := mustOf[rapida](b)
	rows := make([]rapida, 512)
	for i := range rt.Columns {
		c := &rt.Columns[i]
		b.Run(c.Name, func(b *testing.B) {
			for n := 0; b.Loop(); n++ {
				if err := c.Parse(unsafe.Pointer(&rows[n%len(rows)]), rapidaText[i]); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkValue(b *testing.B) {
	rt := mustOf[rapida](b)
	rows := make([]rapida, 512)
	b.Run("row of 12", func(b *testing.B) {
		var sum int64
		for n := 0; b.Loop(); n++ {
			for i := range rt.Columns {
				v, err := rt.Columns[i].Value(unsafe.Pointer(&rows[n%len(rows)]))
				if err != nil {
					b.Fatal(err)
				}
				sum += v.Int
			}
		}
	})
}

func BenchmarkAppendJSON(b *testing.B) {
	rt := mustOf[rapida](b)
	var r rapida
	for i := range rt.Columns {
		if err := rt.Columns[i].Parse(unsafe.Pointer(&r), rapidaText[i]); err != nil {
			b.Fatal(err)
		}
	}
	var buf []byte
	for b.Loop() {
		buf, _ = rt.AppendJSON(buf[:0], unsafe.Pointer(&r))
	}
	b.SetBytes(int64(len(buf)))
}

func BenchmarkAppendTime(b *testing.B) {
	rt := mustOf[rapida](b)
	at := time.Unix(rand.Int64N(1<<31), 0)
	buf := make([]byte, 0, 64)
	for _, name := range []string{"fecha_venta", "dia", "creada"} {
		c := rt.Column(name)
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				c.AppendTime(buf, at)
			}
		})
	}
}
