package leat_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/leattest"
	"github.com/leatgo/leat/source/kafkasource"
)

// Two members of one consumer group in one process. Processes on several machines do the same, each with one pipeline.
func ExampleReplicas() {
	broker, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(4, "orders")) // a broker in this process
	if err != nil {
		panic(err)
	}
	defer broker.Close()
	cl, err := kgo.NewClient(kgo.SeedBrokers(broker.ListenAddrs()...))
	if err != nil {
		panic(err)
	}
	defer cl.Close()
	for i := range 100 {
		r := &kgo.Record{Topic: "orders", Key: fmt.Append(nil, i), Value: fmt.Appendf(nil, `{"id":%d,"units":1,"price":2.5}`, i)}
		if err := cl.ProduceSync(context.Background(), r).FirstErr(); err != nil {
			panic(err)
		}
	}
	dir, err := os.MkdirTemp("", "leat-example")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	table := func() *leattest.Collector[order] { return leattest.Collect[order]().In(dir) } // a database that all members see

	build := func(member int) *leat.Pipeline {
		p := leat.New("orders", leat.Config{
			StateDir: filepath.Join(dir, fmt.Sprint("member-", member)), // its own
			Logger:   slog.New(slog.DiscardHandler),
		})
		src := kafkasource.New(kafkasource.Config[order]{Brokers: broker.ListenAddrs(), Topics: []string{"orders"}, Group: "orders", Drain: true})
		leat.To(leat.From(p, src), table())
		return p
	}
	if err := leat.Run(context.Background(), leat.Replicas(2, build)...); err != nil {
		fmt.Println(err)
	}
	orders := map[int]bool{}
	for _, o := range table().Committed() {
		orders[o.ID] = true
	}
	fmt.Println(len(table().Committed()), "rows,", len(orders), "orders")
	// Output:
	// 100 rows, 100 orders
}
