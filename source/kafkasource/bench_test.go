package kafkasource

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/leatgo/leat"
)

type event struct {
	ID      int64 `leat:"event_id"`
	TS      time.Time
	Usuario int64 `leat:"usuario_id"`
	Accion  string
	Monto   *float64
}

func eventJSON(i int) []byte {
	return fmt.Appendf(nil, `{"event_id": %d, "ts": "2025-01-02T03:04:%02d.123Z", "usuario_id": %d, "accion": "%s", "monto": %d.%02d}`,
		1_000_000+i, i%60, i%5000, []string{"click", "view", "purchase"}[i%3], i%1000, i%100)
}

// BenchmarkDecode makes rows of 4,096 records; ns/op is of one record.
func BenchmarkDecode(b *testing.B) {
	c := Config[event]{}
	f, err := c.format()
	require.NoError(b, err)
	records := make([]*kgo.Record, 4096)
	size := 0
	for i := range records {
		records[i] = &kgo.Record{Topic: "in", Value: eventJSON(i)}
		size += len(records[i].Value)
	}
	out := new(leat.Batch[event])
	b.SetBytes(int64(size / len(records)))
	b.ReportAllocs()
	for i := 0; i < b.N; i += len(records) {
		n := min(len(records), b.N-i)
		for out.Len() > 0 {
			out.Drop()
		}
		if err := f.decode(context.Background(), records[:n], out, 0); err != nil || out.Len() != n {
			b.Fatal(err, out.Len())
		}
	}
}

// BenchmarkRun reads a topic of a broker in this process to its end, into nothing.
func BenchmarkRun(b *testing.B) {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(4, "in"))
	require.NoError(b, err)
	defer cluster.Close()
	cl, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...), kgo.RecordPartitioner(kgo.RoundRobinPartitioner()))
	require.NoError(b, err)
	defer cl.Close()
	for i := range b.N {
		cl.Produce(context.Background(), &kgo.Record{Topic: "in", Value: eventJSON(i)}, nil)
	}
	require.NoError(b, cl.Flush(context.Background()))
	p := leat.New("bench", leat.Config{StateDir: b.TempDir()})
	leat.To(leat.From(p, New(Config[event]{Brokers: cluster.ListenAddrs(), Topics: []string{"in"}, Drain: true})), &nothing{})
	b.SetBytes(int64(len(eventJSON(0))))
	b.ReportAllocs()
	b.ResetTimer()
	require.NoError(b, p.Run(context.Background()))
	require.EqualValues(b, b.N, p.Stats().Nodes[0].In)
}

type nothing struct{}

func (nothing) Open(context.Context, leat.Env) error                  { return nil }
func (nothing) Write(context.Context, *leat.Batch[event]) error       { return nil }
func (nothing) Commit(context.Context, leat.Checkpoint) (bool, error) { return true, nil }
func (nothing) Close() error                                          { return nil }
