package kafkasink_test

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/kafkatest"
	"github.com/leatgo/leat/operate"
	"github.com/leatgo/leat/operate/sqliteholder"
	"github.com/leatgo/leat/sink/kafkasink"
	"github.com/leatgo/leat/sink/sqlitesink"
	"github.com/leatgo/leat/source/kafkasource"
)

// Rules E2, E7-1: what has to be moved so that a partition is read, and delivered, again. docs/kafka.md has the same table.
func TestReset(t *testing.T) {
	const plain, transaction, table = "plain", "transaction", "table"
	type move struct{ folder, group, sink bool }
	for kind, whole := range map[string]move{
		plain:       {folder: true, group: true},
		transaction: {group: true},
		table:       {folder: true, sink: true},
	} {
		for _, m := range []move{{folder: true}, {group: true}, {folder: true, group: true}, {folder: true, sink: true}} {
			if m.sink && kind != table {
				continue
			}
			_, brokers := fake(t, kfake.SeedTopics(1, "in", "out"))
			cl := client(t, brokers)
			for range 5 {
				require.NoError(t, cl.ProduceSync(t.Context(), &kgo.Record{Topic: "in", Value: []byte(`{"id":1}`)}).FirstErr())
			}
			type row struct {
				ID int `leat:"id"`
			}
			dir := t.TempDir()
			state, db := filepath.Join(dir, "state"), filepath.Join(dir, "a.db")
			run := func() (there int) {
				src := kafkasource.New(kafkasource.Config[row]{Name: "src", Brokers: brokers, Topics: []string{"in"}, Group: "g", Drain: true})
				var to leat.Sink[row]
				switch kind {
				case plain:
					to = kafkasink.New(kafkasink.Config[row]{Name: "to", Topic: "out", Brokers: brokers})
				case transaction:
					tx := kafkasink.NewTransaction(kafkasink.TransactionConfig{Source: src, Brokers: brokers})
					to = kafkasink.New(kafkasink.Config[row]{Name: "to", Topic: "out", Transaction: tx})
				case table:
					to = sqlitesink.New(sqlitesink.Config[row]{Name: "to", Path: db, Table: "filas"})
				}
				p := leat.New("p", leat.Config{StateDir: state, Logger: kafkatest.Logger(t)})
				leat.To(leat.From(p, src), to)
				require.NoError(t, p.Run(t.Context()))
				if kind != table {
					return len(readAll(t, brokers, "out"))
				}
				conn, err := sqlite.OpenConn(db)
				require.NoError(t, err)
				defer conn.Close()
				require.NoError(t, sqlitex.Execute(conn, "SELECT count(*) FROM filas", &sqlitex.ExecOptions{ResultFunc: func(q *sqlite.Stmt) error {
					there = q.ColumnInt(0)
					return nil
				}}))
				return there
			}
			require.Equal(t, 5, run())

			if m.folder {
				c := operate.ResetConfig{StateDir: state, Partition: "src/in/0", To: 2}
				if m.sink {
					c.Holders = []operate.Holder{sqliteholder.New(db)}
				}
				_, err := operate.Reset(t.Context(), c)
				require.NoError(t, err)
			}
			if m.group { // as kafka-consumer-groups --reset-offsets does
				at := kadm.Offsets{"in": {0: {Topic: "in", At: 2, LeaderEpoch: -1}}}
				require.NoError(t, kadm.NewClient(cl).CommitAllOffsets(t.Context(), "g", at))
			}
			want := 5
			if (m.folder || !whole.folder) && (m.group || !whole.group) && (m.sink || !whole.sink) {
				want += 3
			}
			assert.Equal(t, want, run(), "%s: rows after %+v", kind, m)
		}
	}
}
