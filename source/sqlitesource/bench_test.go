package sqlitesource

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/sink/sqlitesink"
)

// ancha is the row of sqlitesink's benchmark.
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

const anchas = 1_000_000

func wide(b *testing.B) string {
	b.Helper()
	path := dbPath(b)
	conn := connect(b, path)
	for _, q := range []string{
		"PRAGMA journal_mode=WAL",
		"CREATE TABLE v (id INTEGER PRIMARY KEY, fecha TEXT, cliente TEXT, producto TEXT, ciudad TEXT, pais TEXT, canal TEXT, cantidad INTEGER, precio REAL, total REAL, pagada INTEGER, nota TEXT)",
		`INSERT INTO v WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000000)
		 SELECT i, datetime(1735689600 + i, 'unixepoch'), 'cliente ' || (i % 5000), 'producto ' || (i % 300), 'Montevideo', 'Uruguay', 'web', i % 9, 12.5, i * 1.5, i % 2, NULL FROM n`,
		"CREATE INDEX v_fecha ON v (fecha)",
	} {
		require.NoError(b, sqlitex.ExecuteTransient(conn, q, nil))
	}
	return path
}

// counted is an engine that counts rows.
type counted struct{ rows int }

func (c *counted) Send(ch leat.Chunk[ancha]) error {
	out := new(leat.Batch[ancha])
	if err := ch.Decode(context.Background(), out); err != nil {
		return err
	}
	c.rows += out.Len()
	ch.Release()
	return nil
}
func (c *counted) CaughtUp()                {}
func (c *counted) Ahead(string) leat.Offset { return 0 }
func (c *counted) Env() leat.Env            { return quietEnv() }
func (c *counted) Assign(ps ...leat.Partition) (map[string]leat.Position, error) {
	return map[string]leat.Position{ps[0].Name: {}}, nil
}

// BenchmarkRead reads and decodes 1 M rows of 12 columns on one goroutine; one op is all.
func BenchmarkRead(b *testing.B) {
	path := wide(b)
	for name, c := range map[string]Config[ancha]{
		"by key":  {Path: path, Table: "v", Cursor: "id"},
		"by time": {Path: path, Table: "v", Cursor: "fecha"},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				in := &counted{}
				require.NoError(b, New(c).run(b.Context(), in))
				require.Equal(b, anchas, in.rows)
			}
			b.ReportMetric(float64(b.N)*anchas/b.Elapsed().Seconds()/1e6, "Mrows/s")
		})
	}
}

// BenchmarkCopy copies 1 M rows into another database, by a pipeline.
func BenchmarkCopy(b *testing.B) {
	path := wide(b)
	for b.Loop() {
		dir := b.TempDir()
		p := leat.New("copy", quiet(dir))
		leat.To(leat.From(p, New(Config[ancha]{Path: path, Name: "in", Table: "v", Cursor: "id"})),
			sqlitesink.New(sqlitesink.Config[ancha]{Path: filepath.Join(dir, "out.db"), Table: "v"}))
		require.NoError(b, p.Run(b.Context()))
	}
	b.ReportMetric(float64(b.N)*anchas/b.Elapsed().Seconds()/1e6, "Mrows/s")
}
