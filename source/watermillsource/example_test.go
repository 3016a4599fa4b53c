package watermillsource_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/gochannel"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/leattest"
	"github.com/leatgo/leat/source/watermillsource"
)

// Messages of a Pub/Sub as rows. One that is no JSON of the row type goes to the dead
// letters, with its bytes, UUID and metadata.
func ExampleNew() {
	type Order struct {
		ID     int64
		Amount float64
		UUID   string `leat:"@header._watermill_message_uuid"`
		Shop   string `leat:"@header.shop"` // from the metadata
	}
	state, err := os.MkdirTemp("", "leat")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(state)

	channel := gochannel.NewGoChannel(gochannel.Config{Persistent: true}, nil) // or any other Pub/Sub
	for i, text := range []string{`{"id":1,"amount":9.5}`, `{"id":2,"amount":"much"}`, `{"id":3,"amount":1.25}`} {
		m := message.NewMessage(fmt.Sprint("m", i), []byte(text))
		m.Metadata.Set("shop", "Lima")
		if err := channel.Publish("orders", m); err != nil {
			panic(err)
		}
	}

	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	orders := leattest.Collect[Order]()
	var p *leat.Pipeline
	p = leat.New("orders", leat.Config{StateDir: state, Logger: slog.New(slog.DiscardHandler), Observe: func(e leat.Event) {
		if e.Kind == leat.EventCheckpoint && p.Stats().Nodes[0].In == 3 {
			stop() // a real one runs until it is told to stop
		}
	}})
	leat.To(leat.From(p, watermillsource.New(watermillsource.Config[Order]{Subscriber: channel, Topic: "orders"})), orders)
	if err := p.Run(ctx); err != nil {
		panic(err)
	}

	got := orders.Committed()
	slices.SortFunc(got, func(a, b Order) int { return int(a.ID - b.ID) }) // this Pub/Sub keeps no order
	for _, o := range got {
		fmt.Println(o.ID, o.Amount, o.UUID, o.Shop)
	}
	_ = leat.ReadDeadLetters(filepath.Join(state, "dead-letters.jsonl"), func(l leat.DeadLetter) error {
		fmt.Println("rejected:", string(l.Raw), l.Column, l.Rule, l.Headers["shop"])
		return nil
	})
	// Output:
	// 1 9.5 m0 Lima
	// 3 1.25 m2 Lima
	// rejected: {"id":2,"amount":"much"} amount type Lima
}
