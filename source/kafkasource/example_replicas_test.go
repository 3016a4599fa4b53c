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

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/leattest"
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
	var got []*leattest.Collector[Event]
	err = leat.Run(context.Background(), leat.Replicas(2, func(member int) *leat.Pipeline {
		p := leat.New("eventos", leat.Config{
			StateDir: filepath.Join(dir, strconv.Itoa(member)), Logger: slog.New(slog.DiscardHandler),
		})
		events := leat.From(p, kafkasource.New(kafkasource.Config[Event]{
			Brokers: broker.ListenAddrs(), Topics: []string{"eventos"}, Group: "lake", Drain: true,
		}))
		rows := leattest.Collect[Event]()
		got = append(got, rows)
		leat.To(events, rows)
		return p
	})...)
	if err != nil {
		log.Fatal(err)
	}
	seen := map[int64]int{}
	for _, rows := range got {
		for _, e := range rows.Committed() {
			seen[e.ID]++
		}
	}
	once := 0
	for _, n := range seen {
		if n == 1 {
			once++
		}
	}
	fmt.Println("events, once each:", once)
	// Output:
	// events, once each: 100
}
