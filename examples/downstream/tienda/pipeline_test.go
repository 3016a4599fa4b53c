package tienda_test

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"example.com/downstream/tienda"
	"github.com/leatgo/leat"
	"github.com/leatgo/leat/leattest"
	"github.com/leatgo/leat/source/csvsource"
)

const header = "id,producto,cantidad,precio\n"

func TestPipeline(t *testing.T) {
	for name, tc := range map[string]struct {
		files   map[string]string
		want    []tienda.Linea
		rejects map[string]int64 // by class/column/rule
	}{
		"a file": {
			files: map[string]string{"a.csv": header + "1,pan,2,1.25\n2,leche,1,0.99\n"},
			want:  []tienda.Linea{{1, "pan", 250}, {2, "leche", 99}},
		},
		"files in order of their names": {
			files: map[string]string{"b.csv": header + "2,leche,1,1\n", "a.csv": header + "1,pan,1,1\n"},
			want:  []tienda.Linea{{1, "pan", 100}, {2, "leche", 100}},
		},
		"bad rows are set aside, each with its reason": {
			files:   map[string]string{"a.csv": header + "1,,2,1\nx,pan,2,1\n3,pan,0,1\n4,pan,1,1\n5,oro,1,1e20\n"},
			want:    []tienda.Linea{{4, "pan", 100}},
			rejects: map[string]int64{"Contract/producto/required": 1, "Decode/id/syntax": 1, "Contract/cantidad/gt": 1, "Transform/-/-": 1},
		},
	} {
		t.Run(name, func(t *testing.T) {
			sink := leattest.Collect[tienda.Linea]()
			source := csvsource.New(csvsource.Config[tienda.Venta]{Dir: folder(t, tc.files)})
			report := leattest.Run(t, tienda.Pipeline(leat.Config{}, source, sink))
			if got := sink.Committed(); !reflect.DeepEqual(got, tc.want) {
				t.Errorf("got %v, want %v", got, tc.want)
			}
			if got := report.Stats.Rejected; len(got)+len(tc.rejects) > 0 && !reflect.DeepEqual(got, tc.rejects) {
				t.Errorf("rejected %v, want %v", got, tc.rejects)
			}
		})
	}
}

// Cut off anywhere and started again, the pipeline loses nothing and does nothing twice.
func TestPipelineRecovers(t *testing.T) {
	text, want := header, []tienda.Linea(nil)
	for i := range int64(30) {
		text += fmt.Sprintf("%d,pan,%d,1.50\n", i, i%5)
		if i%5 > 0 {
			want = append(want, tienda.Linea{ID: i, Producto: "pan", Centavos: i % 5 * 150})
		}
	}
	in := folder(t, map[string]string{"a.csv": text})
	leattest.TestRecovery(t, leattest.RecoveryHarness[tienda.Linea]{
		Build: func(_ *testing.T, dir string) *leat.Pipeline {
			source := csvsource.New(csvsource.Config[tienda.Venta]{Dir: in, ChunkBytes: 80})
			return tienda.Pipeline(leat.Config{}, source, leattest.Collect[tienda.Linea]().In(dir))
		},
		ReadBack: func(_ *testing.T, dir string) []tienda.Linea {
			return leattest.Collect[tienda.Linea]().In(dir).Committed()
		},
		Want: want,
	})
}

func folder(t *testing.T, files map[string]string) string {
	dir := filepath.Join(t.TempDir(), "in")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}
