package parquetgoengine_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/leattest"
	"github.com/leatgo/leat/sink/parquetsink"
	"github.com/leatgo/leat/sink/parquetsink/parquetgoengine"
)

// The same sink, with files encoded by github.com/parquet-go/parquet-go.
func ExampleNew() {
	type Venta struct {
		VentaID int64
		Ciudad  *string
	}
	dir, err := os.MkdirTemp("", "leat")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	lake := filepath.Join(dir, "ventas")

	p := leat.New("tienda", leat.Config{StateDir: filepath.Join(dir, "state")})
	leat.To(leat.From(p, leattest.Rows(Venta{1, nil}, Venta{2, new(string)})),
		parquetsink.New(parquetsink.Config[Venta]{Dir: lake, Engine: parquetgoengine.New()}))
	if err := p.Run(context.Background()); err != nil {
		fmt.Println(err)
		return
	}
	files, err := parquetsink.Files(lake)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(len(files), "file of", files[0].Rows, "rows")
	// Output:
	// 1 file of 2 rows
}
