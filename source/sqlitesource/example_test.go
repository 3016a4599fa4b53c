package sqlitesource_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/leattest"
	"github.com/leatgo/leat/source/sqlitesource"
)

// execute runs statements on a database.
func execute(path string, statements ...string) {
	conn, err := sqlite.OpenConn(path, sqlite.OpenReadWrite, sqlite.OpenCreate)
	if err != nil {
		panic(err)
	}
	defer conn.Close()
	for _, s := range statements {
		if err := sqlitex.ExecuteTransient(conn, s, nil); err != nil {
			panic(err)
		}
	}
}

// Two runs: the second one reads what has come since.
func ExampleNew() {
	type Sale struct {
		ID     int64
		Amount float64
		Note   *string // may be NULL
	}
	work, err := os.MkdirTemp("", "leat")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(work)
	database := filepath.Join(work, "shop.db")
	execute(database, "CREATE TABLE sales (id INTEGER PRIMARY KEY, amount REAL, note TEXT)",
		"INSERT INTO sales VALUES (1, 9.5, NULL), (2, 'oops', NULL), (3, 1.25, 'gift')")

	sink := leattest.Collect[Sale]()
	run := func(sink *leattest.Collector[Sale]) {
		p := leat.New("sales", leat.Config{StateDir: filepath.Join(work, "state"), Logger: slog.New(slog.DiscardHandler)})
		leat.To(leat.From(p, sqlitesource.New(sqlitesource.Config[Sale]{Path: database, Table: "sales", Cursor: "id"})), sink)
		if err := p.Run(context.Background()); err != nil {
			fmt.Println(err)
		}
	}
	run(sink)
	execute(database, "INSERT INTO sales VALUES (4, 7, NULL)")
	next := sink.Successor()
	run(next)

	for _, s := range next.Committed() {
		fmt.Println(s.ID, s.Amount, s.Note != nil)
	}
	letters := filepath.Join(work, "state", "dead-letters.jsonl")
	_ = leat.ReadDeadLetters(letters, func(l leat.DeadLetter) error {
		fmt.Println("rejected:", string(l.Raw), l.Column, l.Rule)
		return nil
	})
	// Output:
	// 1 9.5 false
	// 3 1.25 true
	// 4 7 false
	// rejected: {"id":2,"amount":"oops","note":null} amount syntax
}

// A range is read once more, beside the live reading, whose cursor it does not touch.
func ExampleNew_backfill() {
	type Sale struct {
		ID  int64
		Day string
	}
	work, err := os.MkdirTemp("", "leat")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(work)
	database := filepath.Join(work, "shop.db")
	execute(database, "CREATE TABLE sales (id INTEGER PRIMARY KEY, day TEXT)", "CREATE INDEX sales_day ON sales (day)",
		"INSERT INTO sales VALUES (1, '2025-01-01'), (2, '2025-01-02'), (3, '2025-01-03')")

	live := sqlitesource.Config[Sale]{Path: database, Table: "sales", Cursor: "day"}
	once := live
	once.Backfill = sqlitesource.Range{From: "2025-01-01", To: "2025-01-03"}
	run := func(sink *leattest.Collector[Sale], sources ...leat.Source[Sale]) {
		p := leat.New("sales", leat.Config{StateDir: filepath.Join(work, "state"), Logger: slog.New(slog.DiscardHandler)})
		var flows []leat.Flow[Sale]
		for _, s := range sources {
			flows = append(flows, leat.From(p, s))
		}
		leat.To(leat.Merge(flows...), sink)
		if err := p.Run(context.Background()); err != nil {
			fmt.Println(err)
		}
	}
	sink := leattest.Collect[Sale]()
	run(sink, sqlitesource.New(live))
	execute(database, "INSERT INTO sales VALUES (4, '2025-01-04')")
	next := sink.Successor()
	run(next, sqlitesource.New(live), sqlitesource.New(once))

	times := map[int64]int{}
	for _, s := range next.Committed() {
		times[s.ID]++
	}
	fmt.Println(times)
	// Output:
	// map[1:2 2:2 3:1 4:1]
}
