package watermillsource_test

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/gochannel"
	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/leattest"
	"github.com/leatgo/leat/source/watermillsource"
)

type pedido struct {
	ID    int64
	Name  string
	Total *float64
	UUID  string `leat:"@header._watermill_message_uuid"`
	Trace string `leat:"@header.trace"`
	Topic string `leat:"@topic"`
}

func pedidos(n int) (payloads []string, want []pedido) {
	for i := range n {
		p := pedido{ID: int64(i), Name: fmt.Sprint("n", i), UUID: fmt.Sprint(i), Topic: "pedidos"}
		payloads = append(payloads, fmt.Sprintf(`{"id":%d,"name":"n%d"}`, i, i))
		want = append(want, p)
	}
	return payloads, want
}

// The contract of leat.Source, by a Pub/Sub in order with one message in flight, by one
// with several partitions, and by GoChannel.
func TestConformance(t *testing.T) {
	t.Parallel()
	t.Run("one in flight", func(t *testing.T) {
		t.Parallel()
		payloads, want := pedidos(40)
		leattest.TestSource(t, leattest.SourceHarness[pedido]{
			New: func(*testing.T, int) leat.Source[pedido] {
				return watermillsource.New(watermillsource.Config[pedido]{Subscriber: newBroker(1, append(payloads, "no JSON")...), Topic: "pedidos"})
			},
			Want: want, WantRejects: 1, Endless: true,
		})
	})
	t.Run("small window", func(t *testing.T) {
		t.Parallel()
		payloads, _ := pedidos(40)
		leattest.TestSource(t, leattest.SourceHarness[pedido]{
			New: func(*testing.T, int) leat.Source[pedido] {
				return watermillsource.New(watermillsource.Config[pedido]{Subscriber: newBroker(7, payloads...), Topic: "pedidos", MaxUncommitted: 3})
			},
			Endless: true,
		})
	})
	t.Run("own decoder", func(t *testing.T) {
		t.Parallel()
		payloads, _ := pedidos(40)
		leattest.TestSource(t, leattest.SourceHarness[pedido]{
			New: func(*testing.T, int) leat.Source[pedido] {
				return watermillsource.New(watermillsource.Config[pedido]{Subscriber: newBroker(7, payloads...), Topic: "pedidos",
					Decode: func(m *message.Message) (p pedido, err error) {
						err = json.Unmarshal(m.Payload, &p)
						if p.ID == 13 {
							panic("13")
						}
						return p, err
					}})
			},
			Endless: true,
		})
	})
	t.Run("GoChannel", func(t *testing.T) {
		t.Parallel()
		payloads, _ := pedidos(40)
		leattest.TestSource(t, leattest.SourceHarness[pedido]{
			New: func(t *testing.T, _ int) leat.Source[pedido] {
				// With a buffer: it holds a mutex while it waits for who reads, and who waits for a
				// mutex holds the bubble's clock.
				channel := gochannel.NewGoChannel(gochannel.Config{Persistent: true, OutputChannelBuffer: 1000}, nil)
				for i, p := range payloads {
					m := message.NewMessage(fmt.Sprint(i), []byte(p))
					m.Metadata.Set("trace", fmt.Sprint("t", i))
					require.NoError(t, channel.Publish("pedidos", m))
				}
				return watermillsource.New(watermillsource.Config[pedido]{Subscriber: channel, Topic: "pedidos"})
			},
			Endless: true,
		})
	})
}
