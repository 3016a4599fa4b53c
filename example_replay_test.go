package leat_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/leattest"
	"github.com/leatgo/leat/stage"
)

// A row was refused for a mistake in its text. It is mended in its letter and replayed;
// repeating that changes nothing.
func ExampleReplay() {
	dir, err := os.MkdirTemp("", "leat")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	sink := leattest.Collect[int]()
	build := func() *leat.Pipeline {
		p := leat.New("prices", leat.Config{StateDir: dir, Logger: slog.New(slog.DiscardHandler)})
		texts := leattest.Rows("1", "2", "3 EUR").Parse(func(raw []byte) (string, error) { return string(raw), nil })
		leat.To(leat.Via(leat.From(p, texts), "number", stage.Map(strconv.Atoi)), sink)
		return p
	}
	ctx := context.Background()
	if err := build().Run(ctx); err != nil {
		panic(err)
	}
	fmt.Println(sink.Committed())

	mended := func(yield func(leat.DeadLetter, error) bool) {
		for l, err := range leat.DeadLetters(filepath.Join(dir, "dead-letters.jsonl")) {
			l.Raw = []byte(strings.TrimSuffix(string(l.Raw), " EUR"))
			if !yield(l, err) {
				return
			}
		}
	}
	for range 2 {
		s, err := leat.Replay(ctx, build(), mended)
		if err != nil {
			panic(err)
		}
		fmt.Printf("%v: %d sent, %d already, %d rejected\n", sink.Committed(), s.Sent, s.Already, s.Rejected)
	}
	// Output:
	// [1 2]
	// [1 2 3]: 1 sent, 0 already, 0 rejected
	// [1 2 3]: 0 sent, 1 already, 0 rejected
}
