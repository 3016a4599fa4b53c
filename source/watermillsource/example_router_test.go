package watermillsource_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/message/router/middleware"
	"github.com/ThreeDotsLabs/watermill/pubsub/gochannel"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/leattest"
	"github.com/leatgo/leat/sink/watermillsink"
	"github.com/leatgo/leat/source/watermillsource"
	"github.com/leatgo/leat/stage"
)

// A router that has a handler of its own, with retries and a poison queue, gets a pipeline
// beside it: what the handler publishes is stored, and announced on another topic.
func Example_router() {
	type Charge struct {
		Order  string
		Amount float64
	}
	state, err := os.MkdirTemp("", "leat")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(state)
	logger := watermill.NopLogger{}
	channel := gochannel.NewGoChannel(gochannel.Config{Persistent: true}, logger)

	// What was there before.
	router := message.NewDefaultRouter(logger)
	router.AddMiddleware(middleware.Recoverer) // around the pipeline's handler too: that is fine
	charge := router.AddHandler("charge", "orders", channel, "charges", channel,
		func(m *message.Message) ([]*message.Message, error) {
			if m.UUID == "o2" {
				return nil, errors.New("the card was refused")
			}
			return message.Messages{message.NewMessage("charge-of-"+m.UUID, fmt.Appendf(nil, `{"order":%q,"amount":%s}`, m.UUID, m.Payload))}, nil
		})
	// A poison queue answers for its handler, so it belongs to the handlers that need one
	// (rule K2): a pipeline has dead letters instead.
	poison, err := middleware.PoisonQueue(channel, "poison")
	if err != nil {
		panic(err)
	}
	charge.AddMiddleware(poison, middleware.Retry{MaxRetries: 2, InitialInterval: time.Millisecond, Logger: logger}.Middleware)

	// What is new.
	p := leat.New("ledger", leat.Config{StateDir: state, Logger: slog.New(slog.DiscardHandler)})
	charges := leat.From(p, watermillsource.New(watermillsource.Config[Charge]{Subscriber: channel, Topic: "charges"}))
	known := leat.Via(charges, "known", stage.Filter(func(c Charge) bool { return c.Amount > 0 }))
	ledger := leattest.Collect[Charge]() // a database
	leat.To(known, ledger, watermillsink.New(watermillsink.Config[Charge]{
		Publisher: channel, Topic: "booked",
		Metadata: func(c *Charge) message.Metadata { return message.Metadata{"order": c.Order} },
	}))
	pipeline, err := p.Mount(router)
	if err != nil {
		panic(err)
	}

	// Both run.
	go func() { _ = router.Run(context.Background()) }()
	<-router.Running()
	for order, amount := range map[string]string{"o1": "10", "o2": "20", "o3": "30"} {
		if err := channel.Publish("orders", message.NewMessage(order, []byte(amount))); err != nil {
			panic(err)
		}
	}
	show := func(topic string, n int) {
		messages, err := channel.Subscribe(context.Background(), topic)
		if err != nil {
			panic(err)
		}
		var got []string
		for range n {
			m := <-messages
			m.Ack()
			got = append(got, m.Metadata.Get("order")+m.Metadata.Get(middleware.ReasonForPoisonedKey))
		}
		slices.Sort(got)
		fmt.Println(topic+":", strings.Join(got, ", "))
	}
	show("booked", 2)
	show("poison", 1)

	// The router closes the Pub/Subs of its handlers when it stops. A pipeline that shares
	// them is stopped before, so that it can drain.
	pipeline.Stop()
	if err := pipeline.Wait(); err != nil {
		panic(err)
	}
	if err := router.Close(); err != nil {
		panic(err)
	}
	fmt.Println("in the ledger:", len(ledger.Committed()))
	// Output:
	// booked: o1, o3
	// poison: the card was refused
	// in the ledger: 2
}
