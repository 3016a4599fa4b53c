package kafkasink_test

import (
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/sink/kafkasink"
)

type benchRow struct {
	ID     int64   `leat:"id"`
	Accion string  `leat:"accion"`
	Monto  float64 `leat:"monto"`
	Key    string  `leat:"@key"`
}

// BenchmarkWrite is rows to a broker that throws them away.
func BenchmarkWrite(b *testing.B) {
	_, brokers := fake(b, kfake.SeedTopics(4, "t"), kfake.BlackholeProduce())
	s := kafkasink.New(kafkasink.Config[benchRow]{Brokers: brokers, Topic: "t"})
	require.NoError(b, s.Open(b.Context(), env(b)))
	defer s.Close()
	var rows leat.Batch[benchRow]
	for i := range 1000 {
		rows.Append(benchRow{int64(i), "purchase", 12.5, "cliente-" + strconv.Itoa(i)}, i)
	}
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		require.NoError(b, s.Write(b.Context(), &rows))
		if n%50 == 49 {
			_, err := s.Commit(b.Context(), leat.Checkpoint{})
			require.NoError(b, err)
		}
	}
	b.ReportMetric(float64(b.N)*1000/b.Elapsed().Seconds(), "rows/s")
}
