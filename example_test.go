package leat_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/leattest"
	"github.com/leatgo/leat/stage"
)

// order and invoice are the row types of the examples.
type order struct {
	ID    int
	Units int
	Price float64
}

type invoice struct {
	ID    int
	Total float64
}

func toInvoice(o order) (invoice, error) {
	if o.Units <= 0 {
		return invoice{}, fmt.Errorf("order %d has %d units", o.ID, o.Units)
	}
	return invoice{o.ID, float64(o.Units) * o.Price}, nil
}

// quiet keeps the examples' output to what they print, and their state out of
// the working folder.
func quiet() leat.Config {
	dir, err := os.MkdirTemp("", "leat-example")
	if err != nil {
		panic(err)
	}
	return leat.Config{StateDir: dir, Logger: slog.New(slog.DiscardHandler)}
}

// A pipeline: rows in, a stage that rejects one of them, a sink.
func Example() {
	c := quiet()
	defer os.RemoveAll(c.StateDir)
	sink := leattest.Collect[invoice]()

	p := leat.New("invoices", c)
	orders := leat.From(p, leattest.Rows(order{1, 2, 10}, order{2, 0, 5}, order{3, 1, 7.5}))
	invoices := leat.Via(orders, "invoice", stage.Map(toInvoice))
	leat.To(invoices, sink)

	if err := p.Run(context.Background()); err != nil {
		fmt.Println(err)
	}
	fmt.Println(sink.Committed())
	fmt.Println(p.Stats().Rejected)
	// Output:
	// [{1 20} {3 7.5}]
	// map[Transform/-/-:1]
}

// New only remembers; Check tells everything that is wrong, at once.
func ExampleNew() {
	p := leat.New("half/built", leat.Config{})
	orders := leat.From(p, leattest.Rows(order{}))
	leat.Via(orders, "invoice", stage.Map(toInvoice))
	fmt.Println(p.Check())
	// Output:
	// pipeline half/built: pipeline name "half/built": it names a folder, so it can't hold / or \, or be . or ..
	// nothing reads "invoice": end the flow with To
}

// A flow that is used twice is a branch: each reader sees every row.
func ExampleVia() {
	c := quiet()
	defer os.RemoveAll(c.StateDir)
	all, big := leattest.Collect[order]().Named("all"), leattest.Collect[order]().Named("big")

	p := leat.New("branches", c)
	orders := leat.From(p, leattest.Rows(order{1, 2, 10}, order{2, 9, 5}))
	leat.To(orders, all)
	leat.To(leat.Via(orders, "only big", stage.Filter(func(o order) bool { return o.Units > 5 })), big)

	fmt.Println(p.Run(context.Background()))
	fmt.Println(len(all.Committed()), len(big.Committed()))
	// Output:
	// <nil>
	// 2 1
}

// From may be used more than once; Merge joins flows of one row type.
func ExampleMerge() {
	c := quiet()
	defer os.RemoveAll(c.StateDir)
	sink := leattest.Collect[order]()

	p := leat.New("merged", c)
	shop := leat.From(p, leattest.Rows(order{1, 2, 10}).Named("shop"))
	phone := leat.From(p, leattest.Rows(order{7, 9, 5}).Named("phone"))
	leat.To(leat.Merge(shop, phone), sink)

	fmt.Println(p.Run(context.Background()), len(sink.Committed()))
	// Output: <nil> 2
}

// Each sink given to To gets every row; the guarantee of each path is known
// before anything runs.
func ExampleTo() {
	p := leat.New("guarantees", leat.Config{Require: leat.ExactlyOnce})
	orders := leat.From(p, leattest.Rows(order{1, 2, 10}))
	leat.To(orders, leattest.Collect[order]().Named("a"), leattest.Collect[order]().Named("b"))
	for _, path := range p.Guarantees() {
		fmt.Println(path.Source, "→", path.Sink+":", path.Guarantee)
	}
	// Output:
	// rows → a: exactly once
	// rows → b: exactly once
}

// Several pipelines on one router; when one fails the others are drained.
func ExampleRun() {
	build := func(name string, sink *leattest.Collector[order]) (*leat.Pipeline, string) {
		c := quiet()
		p := leat.New(name, c)
		leat.To(leat.From(p, leattest.Rows(order{1, 2, 10})), sink)
		return p, c.StateDir
	}
	one, two := leattest.Collect[order](), leattest.Collect[order]()
	p1, dir1 := build("one", one)
	p2, dir2 := build("two", two)
	defer os.RemoveAll(dir1)
	defer os.RemoveAll(dir2)

	fmt.Println(leat.Run(context.Background(), p1, p2))
	fmt.Println(len(one.Committed()), len(two.Committed()))
	// Output:
	// <nil>
	// 1 1
}

// Mount adds a pipeline to a Watermill router that the program already has.
func ExamplePipeline_Mount() {
	c := quiet()
	defer os.RemoveAll(c.StateDir)
	sink := leattest.Collect[order]()
	p := leat.New("mounted", c)
	leat.To(leat.From(p, leattest.Rows(order{1, 2, 10})), sink)

	router := message.NewDefaultRouter(watermill.NopLogger{})
	h, err := p.Mount(router)
	if err != nil {
		fmt.Println(err)
		return
	}
	go func() { _ = router.Run(context.Background()) }()
	fmt.Println(h.Wait(), len(sink.Committed()))
	_ = router.Close()
	// Output: <nil> 1
}

// Rejected rows are kept with their bytes and the reason.
func ExampleDeadLetterFile() {
	c := quiet()
	defer os.RemoveAll(c.StateDir)
	path := filepath.Join(c.StateDir, "refused.jsonl")
	c.DeadLetters = leat.DeadLetterFile(path)

	p := leat.New("refusing", c)
	orders := leat.From(p, leattest.Rows(order{1, 2, 10}, order{2, -4, 5}))
	leat.To(leat.Via(orders, "invoice", stage.Map(toInvoice)), leattest.Collect[invoice]())
	fmt.Println(p.Run(context.Background()))

	_ = leat.ReadDeadLetters(path, func(l leat.DeadLetter) error {
		fmt.Println(l.Node, l.Class, l.Offset, l.Error, string(l.Row))
		return nil
	})
	// Output:
	// <nil>
	// invoice Transform 1 order 2 has -4 units {"id":2,"units":-4,"price":5}
}

// Transient marks what may go away. The engine waits and tries again; the row is
// never dead-lettered for it.
func ExampleTransient() {
	c := quiet()
	defer os.RemoveAll(c.StateDir)
	c.Retry = leat.Retry{First: 1, Max: 1} // at once, for the example
	sink := leattest.Collect[order]().FailWrite(1, leat.Transient(errors.New("the database is restarting")))

	p := leat.New("patient", c)
	leat.To(leat.From(p, leattest.Rows(order{1, 2, 10})), sink)
	fmt.Println(p.Run(context.Background()), sink.Committed(), sink.Calls("Write"))
	// Output: <nil> [{1 2 10}] 2
}

// Fenced is what a sink returns when another process has taken a partition over.
func ExampleFenced() {
	err := leat.Fenced("orders/3")
	fmt.Println(errors.Is(err, leat.ErrFenced), err)
	// Output: true fenced: another owner has the partition: ["orders/3"]
}

// From takes any leat.Source; the row type is the source's.
func ExampleFrom() {
	c := quiet()
	defer os.RemoveAll(c.StateDir)
	sink := leattest.Collect[string]()
	p := leat.New("words", c)
	words := leat.From(p, leattest.Rows("a", "b", "c").Partitions(2))
	leat.To(words, sink)
	fmt.Println(p.Run(context.Background()), len(sink.Committed()))
	// Output: <nil> 3
}
