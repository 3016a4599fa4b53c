package kafkasource_test

import (
	"context"
	"fmt"
	"log"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"

	"github.com/twmb/franz-go/pkg/kfake"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/sink/sqlitesink"
	"github.com/leatgo/leat/source/kafkasource"
)

// Two members of one group in one process share a topic's partitions. Processes on several
// machines do the same: each runs one such pipeline, with a state folder of its own.
func ExampleConfig_replicas() {
	broker, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(4, "eventos"))
	if err != nil {
		log.Fatal(err)
	}
	defer broker.Close()
	values := make([]string, 100)
	for i := range values {
		values[i] = `{"event_id":` + strconv.Itoa(i) + `,"accion":"click"}`
	}
	produce(broker.ListenAddrs(), values...)

	dir, err := os.MkdirTemp("", "leat")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	db := filepath.Join(dir, "eventos.db") // of all members: positions are beside the rows
	err = leat.Run(context.Background(), leat.Replicas(2, func(member int) *leat.Pipeline {
		p := leat.New("eventos", leat.Config{
			StateDir: filepath.Join(dir, strconv.Itoa(member)), Logger: slog.New(slog.DiscardHandler),
		})
		events := leat.From(p, kafkasource.New(kafkasource.Config[Event]{
			Brokers: broker.ListenAddrs(), Topics: []string{"eventos"}, Group: "lake", Drain: true,
		}))
		leat.To(events, sqlitesink.New(sqlitesink.Config[Event]{Path: db, Table: "eventos"}))
		return p
	})...)
	if err != nil {
		log.Fatal(err)
	}
	conn, err := sqlite.OpenConn(db)
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	err = sqlitex.Execute(conn, "SELECT count(*), count(DISTINCT event_id) FROM eventos", &sqlitex.ExecOptions{ResultFunc: func(q *sqlite.Stmt) error {
		fmt.Println("rows:", q.ColumnInt(0), "events:", q.ColumnInt(1))
		return nil
	}})
	if err != nil {
		log.Fatal(err)
	}
	// Output:
	// rows: 100 events: 100
}
