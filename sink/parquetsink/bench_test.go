package parquetsink

import (
	"fmt"
	"io"
	"runtime"
	"testing"
	"time"

	"github.com/parquet-go/parquet-go"
	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat/internal/lake"
)

// ancha has the 12 columns of the measurements that the design rests on: three
// strings that repeat, one that does not. The parquet tags are for the comparison
// with parquet-go's own GenericWriter.
type ancha struct {
	ID       int64     `parquet:"id"`
	Fecha    time.Time `parquet:"fecha,timestamp(microsecond)"`
	Cliente  string    `parquet:"cliente"`
	Producto string    `parquet:"producto,dict"`
	Ciudad   string    `parquet:"ciudad,dict"`
	Canal    string    `parquet:"canal,dict"`
	Cantidad int32     `parquet:"cantidad"`
	Tienda   int32     `parquet:"tienda"`
	Precio   float64   `parquet:"precio"`
	Total    float64   `parquet:"total"`
	Pagada   bool      `parquet:"pagada"`
	Nota     *float64  `parquet:"nota,optional"`
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

// BenchmarkWrite encodes 512k rows in batches of 4,096 into one file; one op is
// one file. "generic" is parquet-go's GenericWriter, which needs the row type at
// compile time and its own tags.
func BenchmarkWrite(b *testing.B) {
	const n = 512 << 10
	rows := anchas(n)
	run := func(name string, write func(b *testing.B, w io.Writer)) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			var out countingWriter
			for b.Loop() {
				out = countingWriter{w: io.Discard}
				write(b, &out)
			}
			b.ReportMetric(float64(b.N)*n/b.Elapsed().Seconds()/1e6, "Mrows/s")
			b.ReportMetric(float64(out.n)/1e6, "MB")
		})
	}
	for _, c := range []Compression{Snappy, Zstd, None} {
		run(c.String(), func(b *testing.B, w io.Writer) {
			f := open(b, Config[ancha]{Compression: c})
			file, err := f.Create(w)
			require.NoError(b, err)
			for at := 0; at < n; at += 4096 {
				require.Empty(b, f.Prepare(rows[at:at+4096]))
				require.NoError(b, file.Append(nil))
			}
			require.NoError(b, file.Close())
		})
	}
	run("partitioned", func(b *testing.B, w io.Writer) {
		f := open(b, Config[ancha]{PartitionBy: []Partition[ancha]{{"canal", func(r ancha) string { return r.Canal }}}})
		var files [3]lake.File
		var picks [3][]int32
		for i := range files {
			var err error
			files[i], err = f.Create(w)
			require.NoError(b, err)
		}
		for i := range 4096 {
			picks[i%3] = append(picks[i%3], int32(i))
		}
		for at := 0; at < n; at += 4096 {
			require.Empty(b, f.Prepare(rows[at:at+4096]))
			for i, file := range files {
				require.NoError(b, file.Append(picks[i]))
			}
		}
		for _, file := range files {
			require.NoError(b, file.Close())
		}
	})
	run("generic", func(b *testing.B, out io.Writer) {
		options := []parquet.WriterOption{parquet.Compression(snappyCodec{}), parquet.DataPageStatistics(false), parquet.DataPageVersion(1)}
		for _, c := range []string{"cliente", "producto", "ciudad", "canal"} {
			options = append(options, parquet.SkipPageBounds(c))
		}
		w := parquet.NewGenericWriter[ancha](out, options...)
		for at := 0; at < n; at += 4096 {
			_, err := w.Write(rows[at : at+4096])
			require.NoError(b, err)
			if (at+4096)%defaultGroup == 0 {
				require.NoError(b, w.Flush())
			}
		}
		require.NoError(b, w.Close())
	})
}

// A1: nothing is allocated per row.
func TestAllocs(t *testing.T) {
	f := open(t, Config[ancha]{})
	file, err := f.Create(io.Discard)
	require.NoError(t, err)
	rows := anchas(4096)
	write := func() {
		require.Empty(t, f.Prepare(rows))
		require.NoError(t, file.Append(nil))
	}
	write()
	require.Less(t, testing.AllocsPerRun(20, write), float64(len(rows))/20, "A1: allocations for %d rows", len(rows))
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
	for range files {
		w, err := parquetGo{}.Create(io.Discard, all, o)
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
