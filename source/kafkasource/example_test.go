package kafkasource_test

import (
	"context"
	"fmt"
	"log"
	"log/slog"
	"os"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/leattest"
	"github.com/leatgo/leat/source/kafkasource"
)

type Event struct {
	ID     int64   `json:"event_id"`
	Action string  `json:"accion"`
	Amount *string `json:"monto" leat:"monto,decimal=18.2"`
	Offset int64   `leat:"@offset"`
	Trace  string  `leat:"@header.trace"`
}

// A topic is read to its end; kfake is a broker in this process.
func ExampleNew() {
	broker, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "eventos"))
	if err != nil {
		log.Fatal(err)
	}
	defer broker.Close()
	produce(broker.ListenAddrs(), `{"event_id":1,"accion":"click"}`, `{"event_id":2,"accion":"purchase","monto":12.50}`, `{"event_id":"x"}`)

	dir, err := os.MkdirTemp("", "leat")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	p := leat.New("eventos", leat.Config{StateDir: dir, Logger: slog.New(slog.DiscardHandler)})
	events := leat.From(p, kafkasource.New(kafkasource.Config[Event]{
		Brokers: broker.ListenAddrs(), Topics: []string{"eventos"}, Group: "lake", Drain: true,
	}))
	rows := leattest.Collect[Event]()
	leat.To(events, rows)
	if err := p.Run(context.Background()); err != nil {
		log.Fatal(err)
	}
	for _, e := range rows.Committed() {
		amount := "none"
		if e.Amount != nil {
			amount = *e.Amount
		}
		fmt.Println(e.Offset, e.ID, e.Action, amount, e.Trace)
	}
	fmt.Println("rejected:", p.Stats().Nodes[0].Rejected)
	// Output:
	// 0 1 click none t0
	// 1 2 purchase 12.50 t1
	// rejected: 1
}

func produce(brokers []string, values ...string) {
	cl, err := kgo.NewClient(kgo.SeedBrokers(brokers...))
	if err != nil {
		log.Fatal(err)
	}
	defer cl.Close()
	for i, v := range values {
		rec := &kgo.Record{Topic: "eventos", Value: []byte(v), Headers: []kgo.RecordHeader{{Key: "trace", Value: fmt.Append(nil, "t", i)}}}
		if err := cl.ProduceSync(context.Background(), rec).FirstErr(); err != nil {
			log.Fatal(err)
		}
	}
}
