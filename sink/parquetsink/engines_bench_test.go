package parquetsink_test

import (
	"bytes"
	"io"
	"math"
	"math/rand/v2"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/leattest"
	"github.com/leatgo/leat/sink/parquetsink"
	"github.com/leatgo/leat/sink/parquetsink/parquetgoengine"
	"github.com/leatgo/leat/sink/parquetsink/xitongsysengine"
)

// BenchmarkEngines gives the same vectors of 12 columns, 1,024 rows at a time, to all
// engines. Vectors with strings, that is: what the default engine saves by knowing
// equal texts by their address is in BenchmarkWrite.
func BenchmarkEngines(b *testing.B) {
	const rows = 64 << 10
	r := rand.New(rand.NewPCG(1, 1))
	var columns []parquetsink.Column
	var all []parquetsink.Vector
	add := func(c parquetsink.Column, v parquetsink.Vector) {
		c.Name = "c" + strconv.Itoa(len(columns))
		columns, all = append(columns, c), append(all, v)
	}
	for _, number := range []func(i int) int64{
		func(i int) int64 { return int64(i) }, func(int) int64 { return r.Int64N(50_000) }, func(int) int64 { return r.Int64N(977) },
		func(int) int64 { return r.Int64N(5) }, func(i int) int64 { return 1_735_689_600_000_000 + int64(i)*20_000_000 },
	} {
		v := parquetsink.Vector{Int64s: make([]int64, rows)}
		for i := range v.Int64s {
			v.Int64s[i] = number(i)
		}
		add(parquetsink.Column{Type: parquetsink.Int, Bits: 64}, v)
	}
	add(parquetsink.Column{Type: parquetsink.Int, Bits: 32}, parquetsink.Vector{Int32s: make([]int32, rows)})
	for range 3 {
		v := parquetsink.Vector{Doubles: make([]float64, rows)}
		for i := range v.Doubles {
			v.Doubles[i] = math.Round(r.Float64()*50_000) / 100
		}
		add(parquetsink.Column{Type: parquetsink.Double}, v)
	}
	for range 3 {
		v := parquetsink.Vector{Strings: make([]string, rows)}
		for i := range v.Strings {
			v.Strings[i] = []string{"tarjeta", "efectivo", "transferencia"}[r.IntN(3)]
		}
		add(parquetsink.Column{Type: parquetsink.String}, v)
	}
	for _, e := range []parquetsink.Engine{parquetsink.NewEngine(), parquetgoengine.New(), xitongsysengine.New()} {
		b.Run(e.Name(), func(b *testing.B) {
			var out bytes.Buffer
			before := parquetsink.CPUTime()
			for b.Loop() {
				out.Reset()
				w, err := e.Create(&out, columns, parquetsink.FileOptions{PageBytes: 128 << 10})
				require.NoError(b, err)
				part := make([]parquetsink.Vector, len(all))
				for at := 0; at < rows; at += 1024 {
					for i := range all {
						part[i] = cut(all[i], at, at+1024)
					}
					require.NoError(b, w.Write(1024, part))
				}
				require.NoError(b, w.Close())
			}
			done := float64(b.N) * rows
			cpu := (parquetsink.CPUTime() - before).Seconds()
			b.ReportMetric(done/b.Elapsed().Seconds()/1e6, "Mrows/s")
			b.ReportMetric(done/cpu/1e6, "Mrows/cpu-s")
			b.ReportMetric(float64(out.Len())/1e6, "MB")
		})
	}
}

// BenchmarkCompact makes one file of one with 200,000 rows; one op is all of it but
// the lake's part.
func BenchmarkCompact(b *testing.B) {
	const n = 200_000
	dir := b.TempDir()
	p := leat.New("p", leat.Config{StateDir: filepath.Join(dir, "state")})
	leat.To(leat.From(p, leattest.Rows(ventas(n)...).Batches(4096)), parquetsink.New(parquetsink.Config[venta]{Dir: filepath.Join(dir, "lake")}))
	runs(b, p)
	paths := inFolder(b, filepath.Join(dir, "lake"))
	before := parquetsink.CPUTime()
	for b.Loop() {
		rows, err := parquetsink.Merge(b.Context(), paths, io.Discard)
		require.NoError(b, err)
		require.EqualValues(b, n, rows)
	}
	b.ReportMetric(float64(b.N)*n/b.Elapsed().Seconds()/1e6, "Mrows/s")
	b.ReportMetric((parquetsink.CPUTime()-before).Seconds()*1e9/float64(b.N)/n, "cpu-ns/row")
}
