package files_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/leattest"
	"github.com/leatgo/leat/source/csvsource"
	"github.com/leatgo/leat/source/files"
)

// A file that the program has read wrongly is read once more.
func ExampleReprocess() {
	type Sale struct{ ID int64 }
	work, err := os.MkdirTemp("", "leat")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(work)
	incoming, state := filepath.Join(work, "incoming"), filepath.Join(work, "state")
	_ = os.Mkdir(incoming, 0o755)
	_ = os.WriteFile(filepath.Join(incoming, "monday.csv"), []byte("id\n1\n"), 0o644)

	sink := leattest.Collect[Sale]()
	run := func(sink *leattest.Collector[Sale]) {
		p := leat.New("sales", leat.Config{StateDir: state, Logger: slog.New(slog.DiscardHandler)})
		leat.To(leat.From(p, csvsource.New(csvsource.Config[Sale]{Dir: incoming})), sink)
		if err := p.Run(context.Background()); err != nil {
			fmt.Println(err)
		}
	}
	run(sink)
	if err := files.Reprocess(state, "incoming", "monday.csv"); err != nil {
		fmt.Println(err)
	}
	next := sink.Successor()
	run(next)

	fmt.Println(len(next.Committed()), "rows: this sink has no key, so it holds the row twice")
	history, err := files.Ledger(state, "incoming")
	if err != nil {
		fmt.Println(err)
	}
	for _, f := range history {
		fmt.Println(f.Name, f.Status, f.Again)
	}
	// Output:
	// 2 rows: this sink has no key, so it holds the row twice
	// monday.csv ok 0
	// monday.csv ok 1
}
