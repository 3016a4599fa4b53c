package jsonsource_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/leattest"
	"github.com/leatgo/leat/source/files"
	"github.com/leatgo/leat/source/jsonsource"
)

func ExampleNew() {
	type Sale struct {
		ID     int64
		Amount float64
		Note   *string           // null, or missing
		Rest   map[string]string `leat:"rest,extra"` // keys without a column
	}
	work, err := os.MkdirTemp("", "leat")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(work)
	incoming, state := filepath.Join(work, "incoming"), filepath.Join(work, "state")
	_ = os.Mkdir(incoming, 0o755)
	_ = os.WriteFile(filepath.Join(incoming, "monday.jsonl"), []byte(strings.Join([]string{
		`{"id": 9007199254740993, "amount": 9.50, "note": null}`,
		`{"id": 2, "amount": "oops"}`,
		`{"id": 3, "amount": 1.25, "note": "gift", "tags": ["a", "b"]}`,
	}, "\n")), 0o644)
	_ = os.WriteFile(filepath.Join(incoming, "tuesday.jsonl"), []byte(`[{"id": 4}, {"id": 5}]`), 0o644)

	sink := leattest.Collect[Sale]()
	p := leat.New("sales", leat.Config{StateDir: state, Logger: slog.New(slog.DiscardHandler)})
	sales := leat.From(p, jsonsource.New(jsonsource.Config[Sale]{Dir: incoming}))
	leat.To(sales, sink)
	if err := p.Run(context.Background()); err != nil {
		fmt.Println(err)
	}

	for _, s := range sink.Committed() {
		fmt.Println(s.ID, s.Amount, s.Note != nil, s.Rest)
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
	letters := filepath.Join(state, "dead-letters.jsonl")
	_ = leat.ReadDeadLetters(letters, func(l leat.DeadLetter) error {
		fmt.Printf("%s, line %d: %s\n", l.File, l.Line, l.Error)
		return nil
	})
	// Output:
	// 9007199254740993 9.5 false map[]
	// 3 1.25 true map[tags:["a","b"]]
	// monday.jsonl: ok, 3 rows, 1 rejected
	// tuesday.jsonl: failed, 0 rows, 0 rejected
	//   its text is one JSON array, not one object on each line: make lines of it, for instance with jq -c '.[]'
	// monday.jsonl, line 2: column amount: there is a string, but the column must hold a float64 (byte 21, $.amount)
}
