package parquetsource_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/parquet-go/parquet-go"
	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/leattest"
	"github.com/leatgo/leat/source/parquetsource"
)

// TestConformance holds the source against the contract of leat.Source, in this process
// and with files decoded in another one.
func TestConformance(t *testing.T) {
	type row struct {
		ID   int32
		Text string
	}
	type stored struct {
		Text string `parquet:"text"`
		ID   int64  `parquet:"id"`
	}
	dir := t.TempDir()
	var want []row
	rejects := 0
	for i, name := range []string{"a.parquet", "b.parquet", "c.parquet"} {
		var rows []stored
		for k := range 40 * i {
			s := stored{"texto", int64(100*i + k)}
			if k%20 == 7 {
				s.ID = 1 << 40
				rejects++
			} else {
				want = append(want, row{int32(s.ID), s.Text})
			}
			rows = append(rows, s)
		}
		f, err := os.Create(filepath.Join(dir, name))
		require.NoError(t, err)
		w := parquet.NewGenericWriter[stored](f, parquet.MaxRowsPerRowGroup(33))
		_, err = w.Write(rows)
		require.NoError(t, err)
		require.NoError(t, w.Close())
		require.NoError(t, f.Close())
	}
	for name, isolate := range map[string]parquetsource.Isolate{"here": {}, "isolated": {Memory: 512 << 20}} {
		t.Run(name, func(t *testing.T) {
			if name == "isolated" && os.Getenv("LEAT_LONG") != "1" {
				t.Skip("LEAT_LONG=1 starts some hundred processes")
			}
			leattest.TestSource(t, leattest.SourceHarness[row]{
				New: func(_ *testing.T, size int) leat.Source[row] {
					return parquetsource.New(parquetsource.Config[row]{Name: "in", Dir: dir, ChunkRows: size, Isolate: isolate})
				},
				Want: want, WantRejects: rejects,
				RealTime: name == "isolated",
			})
		})
	}
}
