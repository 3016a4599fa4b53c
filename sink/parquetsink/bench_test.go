package parquetsink

import (
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat/internal/lake"
)

// ancha has three strings that repeat and one that does not.
type ancha struct {
	ID       int64
	Fecha    time.Time
	Cliente  string
	Producto string
	Ciudad   string
	Canal    string
	Cantidad int32
	Tienda   int32
	Precio   float64
	Total    float64
	Pagada   bool
	Nota     *float64
}

func anchas(n int) []ancha {
	rows := make([]ancha, n)
	at := time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)
	for i := range rows {
		rows[i] = ancha{int64(i), at.Add(time.Duration(i) * time.Second), fmt.Sprintf("cliente-%07d", (i*7919)%1000003), fmt.Sprintf("producto %d", i*31%300),
			fmt.Sprintf("ciudad %d", i*17%50), []string{"web", "tienda", "telefono"}[i%3], int32(i % 9), int32(i * 7 % 120),
			float64(i%1000) / 100, float64(i*31%100000) / 100, i%2 == 0, nil}
		if i%3 == 0 {
			rows[i].Nota = &rows[i].Precio
		}
	}
	return rows
}

// venta12 has the 12 columns of bench/ventas.
type venta12 struct {
	VentaID        int64
	ClienteID      int64
	ProductoID     int64
	Cantidad       int64
	PrecioUnitario float64
	Total          float64
	FechaVenta     time.Time
	MetodoPago     string
	Estado         string
	Anio           int32
	Mes            string
	TicketUnitario float64
}

func ventas12(n int) []venta12 {
	rows := make([]venta12, n)
	r := rand.New(rand.NewPCG(1, 2))
	at := time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)
	months := map[string]string{}
	for i := range rows {
		v := &rows[i]
		when := at.Add(time.Duration(i) * 20 * time.Second)
		price, count := float64(r.IntN(50000))/100, int64(1+r.IntN(5))
		month := when.Format("2006-01")
		if months[month] == "" {
			months[month] = month
		}
		*v = venta12{int64(i), int64(1 + r.IntN(50000)), int64(1 + r.IntN(977)), count, price, math.Round(price*float64(count)*100) / 100, when,
			[]string{"tarjeta", "efectivo", "transferencia"}[r.IntN(3)], []string{"completada", "pendiente", "cancelada"}[r.IntN(3)],
			int32(when.Year()), months[month], price}
	}
	return rows
}

// BenchmarkWrite encodes 512k rows in batches of 4,096 into one file; one op is
// one file. CPU is that of all goroutines. The batches come again after 64k rows, so
// that they are near the processor, as they are behind a source.
func BenchmarkWrite(b *testing.B) {
	const n, distinct = 512 << 10, 64 << 10
	rows := ventas12(distinct)
	run := func(name string, c Config[venta12], files int) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			f := open(b, c)
			picks := make([][]int32, files)
			for i := range 4096 {
				picks[i%files] = append(picks[i%files], int32(i))
			}
			if files == 1 {
				picks[0] = nil
			}
			var out countingWriter
			before := cpuTime()
			for b.Loop() {
				out = countingWriter{w: io.Discard}
				var all []lake.File
				for range files {
					file, err := f.Create(&out)
					require.NoError(b, err)
					all = append(all, file)
				}
				for at := 0; at < n; at += 4096 {
					if len(f.Prepare(rows[at%distinct:at%distinct+4096])) > 0 {
						b.Fatal("rows were refused")
					}
					for i, file := range all {
						require.NoError(b, file.Append(picks[i]))
					}
				}
				for _, file := range all {
					require.NoError(b, file.Close())
				}
			}
			done := float64(b.N) * n
			b.ReportMetric(done/b.Elapsed().Seconds()/1e6, "Mrows/s")
			b.ReportMetric(float64((cpuTime()-before).Nanoseconds())/done, "cpu-ns/row")
			b.ReportMetric(float64(out.n)/1e6, "MB")
			f.Close()
		})
	}
	for _, c := range []Compression{Snappy, Zstd, None} {
		run(c.String(), Config[venta12]{Compression: c}, 1)
	}
	month := []Partition[venta12]{{"mes", func(v venta12) string { return v.Mes }}}
	run("partitioned/3", Config[venta12]{PartitionBy: month}, 3)
	run("partitioned/60", Config[venta12]{PartitionBy: month}, 60)
	for _, group := range []int{32 << 10, 64 << 10, 256 << 10} {
		run(fmt.Sprintf("group/%dk", group>>10), Config[venta12]{RowGroupRows: group}, 1)
	}
}

// BenchmarkPrepare is the part of Write that turns rows into columns.
func BenchmarkPrepare(b *testing.B) {
	rows := ventas12(32 << 10)
	f := open(b, Config[venta12]{})
	at := 0
	for b.Loop() {
		f.Prepare(rows[at : at+4096])
		at = (at + 4096) % len(rows)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/4096, "ns/row")
}

// A1: nothing is allocated per row, and next to nothing per batch; what the row
// groups that end meanwhile take is in it.
func TestAllocs(t *testing.T) {
	f := open(t, Config[ancha]{})
	defer f.Close()
	rows := anchas(4096)
	file, err := f.Create(io.Discard)
	require.NoError(t, err)
	for name, picks := range map[string][]int32{"all rows": nil, "picked rows": {1, 7, 4000}} {
		write := func() {
			require.Empty(t, f.Prepare(rows))
			require.NoError(t, file.Append(picks))
		}
		for range 40 {
			write()
		}
		require.Less(t, testing.AllocsPerRun(64, write), 64.0, "A1: %s: allocations for %d", name, len(rows))
	}
}

// F8: what Buffered says of many files of many columns is what they take. Not
// parallel: it looks at the heap.
func TestBufferedIsMemory(t *testing.T) {
	const files, columns, rows, writes = 64, 20, 16, 200
	o := FileOptions{PageBytes: 8 << 10}
	var all []Column
	vectors := make([]Vector, columns)
	for i := range vectors {
		if i%2 == 0 {
			all = append(all, Column{Name: fmt.Sprint("c", i), Type: Double})
			vectors[i].Doubles = make([]float64, rows)
			continue
		}
		all = append(all, Column{Name: fmt.Sprint("c", i), Type: String})
		for k := range rows {
			vectors[i].Strings = append(vectors[i].Strings, fmt.Sprint(i*7919, k))
		}
	}
	heap := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := heap()
	var open []FileWriter
	engine := newEngine()
	for range files {
		w, err := engine.Create(io.Discard, all, o)
		require.NoError(t, err)
		for range writes {
			require.NoError(t, w.Write(rows, vectors))
		}
		open = append(open, w)
	}
	said := int64(0)
	for _, w := range open {
		said += w.Buffered()
	}
	require.Less(t, heap()-before, said+said/4)
	runtime.KeepAlive(open)
}
