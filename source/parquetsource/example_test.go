package parquetsource_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/parquet-go/parquet-go"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/leattest"
	"github.com/leatgo/leat/source/files"
	"github.com/leatgo/leat/source/parquetsource"
)

func ExampleNew() {
	type Sale struct {
		ID     int32
		Amount float64
		Note   *string // null in the file
	}
	work, err := os.MkdirTemp("", "leat")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(work)
	incoming, state := filepath.Join(work, "incoming"), filepath.Join(work, "state")
	_ = os.Mkdir(incoming, 0o755)

	type monday struct { // what somebody's program writes: other types, another order
		Day    string  `parquet:"day"`
		ID     int64   `parquet:"id"`
		Note   *string `parquet:"note,optional"`
		Amount float64 `parquet:"amount"`
	}
	gift := "gift"
	_ = parquet.WriteFile(filepath.Join(incoming, "monday.parquet"), []monday{{"mon", 1, nil, 9.5}, {"mon", 1 << 40, nil, 2}, {"mon", 3, &gift, 1.25}})
	type tuesday struct {
		ID     string  `parquet:"id"`
		Amount float64 `parquet:"amount"`
	}
	_ = parquet.WriteFile(filepath.Join(incoming, "tuesday.parquet"), []tuesday{{"4", 7}})

	sink := leattest.Collect[Sale]()
	p := leat.New("sales", leat.Config{StateDir: state, Logger: slog.New(slog.DiscardHandler)})
	sales := leat.From(p, parquetsource.New(parquetsource.Config[Sale]{Dir: incoming}))
	leat.To(sales, sink)
	if err := p.Run(context.Background()); err != nil {
		fmt.Println(err)
	}

	for _, s := range sink.Committed() {
		fmt.Println(s.ID, s.Amount, s.Note != nil)
	}
	history, err := files.Ledger(state, "incoming")
	if err != nil {
		fmt.Println(err)
	}
	for _, f := range history {
		fmt.Printf("%s: %s, %d rows, %d rejected\n", f.Name, f.Status, f.Rows, f.Rejected)
		if f.Error != "" {
			fmt.Println("  " + f.Error)
		}
	}
	// Output:
	// 1 9.5 false
	// 3 1.25 true
	// monday.parquet: ok, 3 rows, 1 rejected
	// tuesday.parquet: failed, 0 rows, 0 rejected
	//   the file's columns are refused: column "id" is STRING, which can't be read into int32; it misses the columns "note" (it has "id", "amount")
}
