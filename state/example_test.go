package state_test

import (
	"context"
	"fmt"
	"os"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/leattest"
	"github.com/leatgo/leat/operate"
	"github.com/leatgo/leat/stage"
	"github.com/leatgo/leat/state"
)

// Processes that share the work of one pipeline keep its positions and state in PostgreSQL.
func ExamplePostgres() {
	p := leat.New("orders", leat.Config{
		StateDir: "leat-state/orders-" + "host-1", // a process's own: dead letters, ledgers
		State:    state.Postgres(state.PostgresConfig{DSN: "postgres://leat@db.example:5432/leat?sslmode=verify-full"}),
	})
	rows := leat.From(p, leattest.Rows(1, 2, 3))
	leat.To(leat.Via(rows, "double", stage.Map(func(n int) (int, error) { return 2 * n, nil })), leattest.Collect[int]())
	fmt.Println(p.Check())
	// Output: <nil>
}

// What leat state export does: a copy of what PostgreSQL keeps of a pipeline.
func ExamplePostgresArchive() {
	place := state.PostgresArchive(state.PostgresConfig{DSN: "postgres://leat@db.example:5432/leat?sslmode=verify-full"}, "orders")
	f, err := os.Create("orders.state.jsonl")
	if err != nil {
		panic(err)
	}
	defer f.Close()
	if _, err := operate.ExportState(context.Background(), place, f, ""); err != nil {
		panic(err)
	}
}
