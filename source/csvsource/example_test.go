package csvsource_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/leattest"
	"github.com/leatgo/leat/source/csvsource"
	"github.com/leatgo/leat/source/files"
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
	// monday.csv: ok, 3 rows, 1 rejected
	// tuesday.csv: failed, 0 rows, 0 rejected
	//   the header is refused: it misses the columns "note" (header line: "amount,day,id")
}

// A run that watches: the files come while it runs, and OnFile tells when the rows
// of each are durable in every sink.
func ExampleNew_watch() {
	type Sale struct {
		ID     int64
		Amount float64
	}
	work, err := os.MkdirTemp("", "leat")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(work)
	incoming := filepath.Join(work, "incoming")
	_ = os.Mkdir(incoming, 0o755)
	drop := func(name, text string) { // complete when it appears
		_ = os.WriteFile(filepath.Join(work, name), []byte(text), 0o644)
		_ = os.Rename(filepath.Join(work, name), filepath.Join(incoming, name))
	}
	drop("monday.csv", "id,amount\n1,9.50\n2,oops\n")

	ctx, stop := context.WithCancel(context.Background())
	p := leat.New("sales", leat.Config{StateDir: filepath.Join(work, "state"), Logger: slog.New(slog.DiscardHandler)})
	sales := leat.From(p, csvsource.New(csvsource.Config[Sale]{
		Dir: incoming, After: files.Move,
		Watch: 20 * time.Millisecond, Settle: 5 * time.Millisecond,
		OnFile: func(f files.Event) {
			fmt.Printf("%s: %s, %d rows, %d rejected\n", f.Name, f.Status, f.Rows, f.Rejected)
			switch f.Name {
			case "monday.csv":
				drop("tuesday.csv", "id,amount\n3,7\n")
			case "tuesday.csv":
				stop()
			}
		},
	}))
	leat.To(sales, leattest.Collect[Sale]())
	if err := p.Run(ctx); err != nil {
		fmt.Println(err)
	}
	// Output:
	// monday.csv: ok, 2 rows, 1 rejected
	// tuesday.csv: ok, 1 rows, 0 rejected
}
