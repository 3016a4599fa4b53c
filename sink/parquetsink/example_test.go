package parquetsink_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/shopspring/decimal"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/leattest"
	"github.com/leatgo/leat/sink/parquetsink"
)

type Venta struct {
	VentaID int64
	Fecha   time.Time
	Precio  decimal.Decimal `leat:"precio,decimal=18.2"`
}

// Rows become files in folders by day. Running the same rows again adds none: the
// lake knows how far it has come.
func ExampleNew() {
	dir, err := os.MkdirTemp("", "leat")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	lake := filepath.Join(dir, "ventas")

	day := time.Date(2025, 3, 1, 9, 30, 0, 0, time.UTC)
	for range 2 {
		p := leat.New("tienda", leat.Config{StateDir: filepath.Join(dir, "state")})
		leat.To(leat.From(p, leattest.Rows(
			Venta{1, day, decimal.RequireFromString("1999.99")},
			Venta{2, day.AddDate(0, 0, 1), decimal.RequireFromString("0.30")},
			Venta{3, day, decimal.RequireFromString("15")})),
			parquetsink.New(parquetsink.Config[Venta]{
				Dir:         lake,
				PartitionBy: []parquetsink.Partition[Venta]{parquetsink.ByDay("dia", func(v Venta) time.Time { return v.Fecha })},
			}))
		if err := p.Run(context.Background()); err != nil {
			fmt.Println(err)
			return
		}
	}

	files, err := parquetsink.Files(lake)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, f := range files {
		fmt.Println(filepath.Dir(f.Path), f.Rows)
	}
	// Output:
	// dia=2025-03-01 2
	// dia=2025-03-02 1
}

// Many small files become few large ones, while sinks may go on writing.
func ExampleCompact() {
	dir, err := os.MkdirTemp("", "leat")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	lake := filepath.Join(dir, "ventas")
	day := time.Date(2025, 3, 1, 9, 30, 0, 0, time.UTC)
	for i := range 3 {
		p := leat.New(fmt.Sprintf("tienda-%d", i), leat.Config{StateDir: filepath.Join(dir, "state")})
		leat.To(leat.From(p, leattest.Rows(Venta{int64(i), day, decimal.NewFromInt(5)})),
			parquetsink.New(parquetsink.Config[Venta]{Dir: lake}))
		if err := p.Run(context.Background()); err != nil {
			fmt.Println(err)
			return
		}
	}

	stats, err := parquetsink.Compact(context.Background(), lake, parquetsink.CompactConfig{})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(stats.Replaced, "files became", stats.Written, "of", stats.Rows, "rows")
	// Output:
	// 3 files became 1 of 3 rows
}
