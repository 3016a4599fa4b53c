//go:build unix

package watermillsource_test

import (
	"bytes"
	"fmt"
	"syscall"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
)

// BenchmarkClients is about watermill-kafka and the client of kafkasource and kafkasink, both without leat, on a real
// broker; the table is in docs/watermill.md.
func BenchmarkClients(b *testing.B) {
	servers := brokers(b)
	value := bytes.Repeat([]byte("x"), 178)
	franz := func(b *testing.B, opts ...kgo.Opt) *kgo.Client {
		cl, err := kgo.NewClient(append(opts, kgo.SeedBrokers(servers...))...)
		require.NoError(b, err)
		b.Cleanup(cl.Close)
		return cl
	}
	fill := func(b *testing.B, name string) {
		cl := franz(b, kgo.DefaultProduceTopic(name))
		for range b.N {
			cl.Produce(b.Context(), &kgo.Record{Value: value}, nil)
		}
		require.NoError(b, cl.Flush(b.Context()))
	}
	for _, c := range []struct {
		name string
		run  func(b *testing.B, topic string, start func())
	}{
		{"watermill-kafka publishes", func(b *testing.B, name string, start func()) {
			pub, all := publisher(b, servers), make([]*message.Message, b.N)
			for i := range all {
				all[i] = message.NewMessage(fmt.Sprint(i), value)
			}
			start()
			require.NoError(b, pub.Publish(name, all...))
		}},
		{"watermill-kafka reads", func(b *testing.B, name string, start func()) {
			fill(b, name)
			sub := subscriber(b, servers, name)
			defer sub.Close()
			out, err := sub.Subscribe(b.Context(), name)
			require.NoError(b, err)
			(<-out).Ack() // the group has come together
			start()
			for range b.N - 1 {
				(<-out).Ack()
			}
		}},
		{"franz-go produces", func(b *testing.B, name string, start func()) {
			start()
			fill(b, name)
		}},
		{"franz-go polls", func(b *testing.B, name string, start func()) {
			fill(b, name)
			cl := franz(b, kgo.ConsumeTopics(name))
			start()
			for n := 0; n < b.N; {
				n += cl.PollFetches(b.Context()).NumRecords()
			}
		}},
	} {
		b.Run(c.name, func(b *testing.B) {
			name, _ := topic(b, 4)
			var before int64
			c.run(b, name, func() { before = cpuMicros(); b.ResetTimer() })
			b.StopTimer()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
			b.ReportMetric(float64(cpuMicros()-before)/float64(b.N), "cpu-µs/msg")
		})
	}
}

func cpuMicros() int64 {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return (u.Utime.Nano() + u.Stime.Nano()) / 1e3
}
