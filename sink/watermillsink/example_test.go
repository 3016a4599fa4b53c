package watermillsink_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/leattest"
	"github.com/leatgo/leat/sink/watermillsink"
)

// printer is a Publisher, as Kafka's, RabbitMQ's or any other is.
type printer struct{}

func (printer) Publish(topic string, messages ...*message.Message) error {
	for _, m := range messages {
		fmt.Println(topic, m.UUID, m.Metadata.Get("shop"), string(m.Payload))
	}
	return nil
}

func (printer) Close() error { return nil }

// Rows as messages. A row that comes again has the same UUID again.
func ExampleNew() {
	type Order struct {
		ID     int64
		Amount float64
		Shop   string `leat:"-"`
	}
	state, err := os.MkdirTemp("", "leat")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(state)
	p := leat.New("orders", leat.Config{StateDir: state, Logger: slog.New(slog.DiscardHandler)})
	leat.To(leat.From(p, leattest.Rows(Order{1, 9.5, "Lima"}, Order{2, 20, "Cusco"})), watermillsink.New(watermillsink.Config[Order]{
		Publisher: printer{},
		Topic:     "orders",
		Metadata:  func(o *Order) message.Metadata { return message.Metadata{"shop": o.Shop} },
	}))
	if err := p.Run(context.Background()); err != nil {
		panic(err)
	}
	// Output:
	// orders ee7549fa-5942-8a34-918c-97255c5a2776 Lima {"id":1,"amount":9.5}
	// orders 73ff763d-3204-8a6a-ba3b-8f85b8c451c3 Cusco {"id":2,"amount":20}
}
