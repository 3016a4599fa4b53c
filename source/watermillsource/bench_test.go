package watermillsource_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/sink/watermillsink"
	"github.com/leatgo/leat/source/watermillsource"
)

// nowhere takes messages.
type nowhere struct{}

func (nowhere) Publish(string, ...*message.Message) error { return nil }
func (nowhere) Close() error                              { return nil }

func pump(b *testing.B, sub message.Subscriber) {
	b.Helper()
	p := leat.New("p", leat.Config{StateDir: b.TempDir(), Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	leat.To(leat.From(p, watermillsource.New(watermillsource.Config[fila]{Subscriber: sub, Topic: "filas"})),
		watermillsink.New(watermillsink.Config[fila]{Publisher: nowhere{}, Topic: "out"}))
	require.NoError(b, p.Run(b.Context()))
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
}

// One message in flight for each partition, as watermill-kafka has: how many come by
// between two checkpoints is what counts. With the store's fsyncs.
func BenchmarkInFlight(b *testing.B) {
	for _, partitions := range []int{1, 4, 16, 64} {
		b.Run(fmt.Sprint(partitions), func(b *testing.B) {
			broker := newBroker(partitions, payloads(b.N)...)
			broker.bounded = true
			b.ResetTimer()
			pump(b, broker)
		})
	}
}

// A Pub/Sub that does not wait for acknowledgements.
func BenchmarkUnlimited(b *testing.B) {
	texts := payloads(b.N)
	messages := make(chan *message.Message, 100)
	b.ResetTimer()
	go func() {
		defer close(messages)
		for i := range texts {
			messages <- message.NewMessage("", []byte(texts[i]))
		}
	}()
	pump(b, ready(messages))
}

// ready has one subscription, whose channel is closed at the end.
type ready chan *message.Message

func (r ready) Subscribe(context.Context, string) (<-chan *message.Message, error) { return r, nil }
func (r ready) Close() error                                                       { return nil }
