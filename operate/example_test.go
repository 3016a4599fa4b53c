package operate_test

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/leattest"
	"github.com/leatgo/leat/operate"
	"github.com/leatgo/leat/operate/sqliteholder"
	"github.com/leatgo/leat/sink/sqlitesink"
	"github.com/leatgo/leat/stage"
)

// A program that can replay: with -replay FILE it sends the letters of that file (from
// "leat replay", or a pipeline's own dead-letters.jsonl) instead of reading its input.
func Example_replay() {
	dir, err := os.MkdirTemp("", "leat")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	sink := leattest.Collect[int]()
	broken := true

	program := func(args ...string) error {
		flags := flag.NewFlagSet("program", flag.ContinueOnError)
		file := flags.String("replay", "", "replay the dead letters of this file")
		if err := flags.Parse(args); err != nil {
			return err
		}
		p := leat.New("numbers", leat.Config{StateDir: dir, Logger: slog.New(slog.DiscardHandler)})
		src := leattest.Rows(1, 2, 3).Parse(func(raw []byte) (int, error) { return strconv.Atoi(string(raw)) })
		leat.To(leat.Via(leat.From(p, src), "even", stage.Map(func(n int) (int, error) {
			if broken && n%2 == 1 {
				return 0, fmt.Errorf("%d is odd", n)
			}
			return n, nil
		})), sink)

		if *file == "" {
			return p.Run(context.Background())
		}
		s, err := leat.Replay(context.Background(), p, leat.DeadLetters(*file))
		fmt.Printf("replayed %d of %d, refused again %d\n", s.Sent, s.Letters, s.Rejected)
		return err
	}

	fmt.Println(program(), sink.Committed())
	chosen := filepath.Join(dir, "chosen.jsonl")
	n, err := operate.Export(operate.Letters(operate.LettersFile(dir), operate.Filter{Node: "even"}), chosen)
	fmt.Println(n, "letters", err)
	broken = false
	fmt.Println(program("-replay", chosen), sink.Committed())
	// Output:
	// <nil> [2]
	// 2 letters <nil>
	// replayed 2 of 2, refused again 0
	// <nil> [2 1 3]
}

// All positions of a pipeline: those of its state folder and those of its sinks.
func ExampleHolder() {
	dir, err := os.MkdirTemp("", "leat")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	db := filepath.Join(dir, "n.db")
	type row struct{ N int64 }
	p := leat.New("numbers", leat.Config{StateDir: filepath.Join(dir, "state"), Logger: slog.New(slog.DiscardHandler)})
	leat.To(leat.From(p, leattest.Rows(row{1}, row{2})), sqlitesink.New(sqlitesink.Config[row]{Path: db, Table: "n"}))
	if err := p.Run(context.Background()); err != nil {
		panic(err)
	}
	state, err := operate.ReadState(p.StateDir())
	if err != nil {
		panic(err)
	}
	held, err := sqliteholder.New(db).Positions(context.Background())
	if err != nil {
		panic(err)
	}
	for _, h := range append(state.Positions, held...) {
		fmt.Printf("%s at %d in %q\n", h.Partition, h.Position.Next, h.Sink)
	}
	// Output:
	// rows at 2 in ""
	// rows at 2 in "n"
}
