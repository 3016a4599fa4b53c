package sqlitesink

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

type ancha struct {
	ID       int64     `leat:"id"`
	Fecha    time.Time `leat:"fecha,time=2006-01-02 15:04:05"`
	Cliente  string
	Producto string
	Ciudad   string
	Pais     string
	Canal    string
	Cantidad int32
	Precio   float64
	Total    float64
	Pagada   bool
	Nota     *string
}

func anchas(n int) []ancha {
	rows := make([]ancha, n)
	at := time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)
	for i := range rows {
		rows[i] = ancha{int64(i), at.Add(time.Duration(i) * time.Second), fmt.Sprintf("cliente %d", i%5000), fmt.Sprintf("producto %d", i%300),
			"Montevideo", "Uruguay", "web", int32(i % 9), 12.5, float64(i) * 1.5, i%2 == 0, nil}
	}
	return rows
}

// BenchmarkWrite loads transactions of 10,000 rows of 12 columns in batches of
// 4,096 at most; one op is one transaction.
func BenchmarkWrite(b *testing.B) {
	modes := map[string]Synchronous{"normal": Normal, "full": Full}
	for _, way := range []string{"short", "long"} {
		for name, mode := range modes {
			b.Run(way+"/"+name, func(b *testing.B) {
				s := open(b, Config[ancha]{Path: dbPath(b), Synchronous: mode})
				s.bulk.broken = way == "long"
				rows := anchas(10_000)
				next := int64(0)
				b.ReportAllocs()
				for b.Loop() {
					for at := 0; at < len(rows); at += 4096 {
						require.NoError(b, s.write(b.Context(), rows[at:min(at+4096, len(rows))]))
					}
					next += int64(len(rows))
					commit(b, s, upTo(next))
				}
				require.Equal(b, way == "short", short(s))
				b.ReportMetric(float64(b.N)*float64(len(rows))/b.Elapsed().Seconds()/1e6, "Mrows/s")
			})
		}
	}
}

// A1: nothing is allocated per row, text forms aside.
func TestAllocs(t *testing.T) {
	for way, most := range map[string]float64{"short": 20, "long": 100} {
		s := open(t, Config[ancha]{Path: dbPath(t)})
		s.bulk.broken = way == "long"
		rows := anchas(2000)
		require.NoError(t, s.write(t.Context(), rows))
		per := testing.AllocsPerRun(5, func() {
			if err := s.write(t.Context(), rows); err != nil {
				t.Error(err)
			}
		})
		require.Equal(t, way == "short", short(s))
		require.Less(t, per, most, "A1: allocations for %d rows, the %s way", len(rows), way)
		commit(t, s, upTo(1))
		require.NoError(t, s.Close())
	}
}
