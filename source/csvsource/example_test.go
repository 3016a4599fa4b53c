package csvsource_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/leattest"
	"github.com/leatgo/leat/source/csvsource"
)

func ExampleNew() {
	type Sale struct {
		ID     int64
		Amount float64
		Note   *string // null when the cell is empty
	}
	work, err := os.MkdirTemp("", "leat")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(work)
	incoming, state := filepath.Join(work, "incoming"), filepath.Join(work, "state")
	_ = os.Mkdir(incoming, 0o755)
	_ = os.WriteFile(filepath.Join(incoming, "monday.csv"), []byte("id,amount,note\n1,9.50,\n2,oops,\n3,1.25,\"gift, wrapped\"\n"), 0o644)
	_ = os.WriteFile(filepath.Join(incoming, "tuesday.csv"), []byte("amount,day,id\n7,tue,4\n"), 0o644)

	sink := leattest.Collect[Sale]()
	p := leat.New("sales", leat.Config{StateDir: state, Logger: slog.New(slog.DiscardHandler)})
	sales := leat.From(p, csvsource.New(csvsource.Config[Sale]{Dir: incoming}))
	leat.To(sales, sink)
	if err := p.Run(context.Background()); err != nil {
		fmt.Println(err)
	}

	for _, s := range sink.Committed() {
		fmt.Println(s.ID, s.Amount, s.Note != nil)
	}
	history, err := csvsource.Ledger(state, "incoming")
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
	// monday.csv: ok, 3 rows, 1 rejected
	// tuesday.csv: failed, 0 rows, 0 rejected
	//   the header is refused: it misses the columns "note" (header line: "amount,day,id")
}
