package sqlitesource_test

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/leattest"
	"github.com/leatgo/leat/source/sqlitesource"
)

// The contract of leat.Source, by every kind of cursor.
func TestConformance(t *testing.T) {
	t.Parallel()
	type fila struct {
		ID    int64
		Name  string
		At    time.Time `leat:"at,time=2006-01-02 15:04:05"`
		Blob  []byte
		Other *float64
	}
	database := filepath.Join(t.TempDir(), "v.db")
	execute(database, "PRAGMA journal_mode=WAL", "CREATE TABLE t (id INTEGER PRIMARY KEY, name, at TEXT, blob BLOB, other REAL)",
		`INSERT INTO t WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 60)
		 SELECT i * 7, CASE i % 10 WHEN 3 THEN NULL WHEN 4 THEN x'00' ELSE 'n' || i END, datetime(1735689600 + i / 7, 'unixepoch'), zeroblob(i), i / 4.0 FROM n`)
	for name, c := range map[string]sqlitesource.Config[fila]{
		"append only":  {AppendOnly: true},
		"by key":       {},
		"by time":      {Cursor: "at"},
		"with overlap": {Cursor: "at", Overlap: 3 * time.Second},
		"few are seen": {Cursor: "at", MaxSeen: 2},
		"a query":      {Query: "SELECT id, name, at, blob, other, id % 5 AS k FROM t", Cursor: "k", Key: "id"},
		"polling":      {AppendOnly: true, Every: time.Second},
		"backfill":     {AppendOnly: true, Backfill: sqlitesource.Range{To: 1000}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.Path, c.Name = database, "source"
			if c.Cursor == "" {
				c.Cursor = "id"
			}
			if c.Query == "" {
				c.Table = "t"
			}
			leattest.TestSource(t, leattest.SourceHarness[fila]{
				New: func(_ *testing.T, size int) leat.Source[fila] {
					c := c
					c.PageRows = size
					return sqlitesource.New(c)
				},
				Endless: c.Every > 0,
			})
		})
	}
}
