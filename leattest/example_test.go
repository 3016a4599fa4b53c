package leattest_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/leattest"
)

func config() leat.Config {
	dir, err := os.MkdirTemp("", "leattest-example")
	if err != nil {
		panic(err)
	}
	return leat.Config{StateDir: dir, Logger: slog.New(slog.DiscardHandler), Retry: leat.Retry{First: 1, Max: 1}}
}

// Rows and Collect are the ends of a pipeline under test.
func ExampleRows() {
	c := config()
	defer os.RemoveAll(c.StateDir)
	sink := leattest.Collect[string]()
	p := leat.New("test", c)
	leat.To(leat.From(p, leattest.Rows("a", "b", "c")), sink)
	fmt.Println(p.Run(context.Background()), sink.Committed())
	// Output: <nil> [a b c]
}

// A commit that is aborted makes the pipeline rewind; the rows are there once.
func ExampleCollect() {
	c := config()
	defer os.RemoveAll(c.StateDir)
	sink := leattest.Collect[string]().
		FailCommit(1, leat.ErrAborted).
		RejectIf(func(s string) error {
			if s == "b" {
				return errors.New("no b here")
			}
			return nil
		})
	p := leat.New("test", c)
	leat.To(leat.From(p, leattest.Rows("a", "b", "c")), sink)
	fmt.Println(p.Run(context.Background()), sink.Committed(), p.Stats().Run.Rewinds)
	// Output: <nil> [a c] 1
}
