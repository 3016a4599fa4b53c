package kafkasink_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log"
	"os"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/leattest"
	"github.com/leatgo/leat/sink/kafkasink"
	"github.com/leatgo/leat/source/kafkasource"
)

// Rows become records of JSON, those of one customer in one partition, in order.
func ExampleNew() {
	cluster, dir := embedded("ventas")
	defer cluster.Close()
	defer os.RemoveAll(dir)

	type Venta struct {
		Cliente string  `leat:"cliente"`
		Total   float64 `leat:"total"`
	}
	p := leat.New("ventas", leat.Config{StateDir: dir})
	leat.To(leat.From(p, leattest.Rows(Venta{"ana", 10}, Venta{"luis", 20}, Venta{"ana", 30.5})),
		kafkasink.New(kafkasink.Config[Venta]{
			Brokers: cluster.ListenAddrs(), Topic: "ventas",
			Key: func(v *Venta) []byte { return []byte(v.Cliente) },
		}))
	if err := p.Run(context.Background()); err != nil {
		fmt.Println(err)
		return
	}
	show(cluster, "ventas")
	// Output:
	// ana {"cliente":"ana","total":10}
	// luis {"cliente":"luis","total":20}
	// ana {"cliente":"ana","total":30.5}
}

// From topic to topic exactly once: the rows, the letters of those that were refused and the
// group's offsets are committed together, or not at all.
func ExampleNewTransaction() {
	cluster, dir := embedded("pedidos", "pagados", "malos")
	defer cluster.Close()
	defer os.RemoveAll(dir)
	brokers := cluster.ListenAddrs()
	fill(cluster, "pedidos", `{"id":1,"pagado":true}`, `{"id":2,"pagado":false}`, `{"id":`)

	type Pedido struct {
		ID     int    `leat:"id"`
		Pagado bool   `leat:"pagado"`
		Key    string `leat:"@key"` // the record's, read and written
	}
	src := kafkasource.New(kafkasource.Config[Pedido]{Brokers: brokers, Topics: []string{"pedidos"}, Group: "cobros", Drain: true})
	tx := kafkasink.NewTransaction(kafkasink.TransactionConfig{Source: src, Brokers: brokers})
	p := leat.New("cobros", leat.Config{StateDir: dir, DeadLetters: tx.DeadLetters("malos"), Breaker: leat.Breaker{Share: -1}})
	leat.To(leat.From(p, src), kafkasink.New(kafkasink.Config[Pedido]{Transaction: tx, Topic: "pagados"}))
	if err := p.Run(context.Background()); err != nil {
		fmt.Println(err)
		return
	}
	show(cluster, "pagados")
	show(cluster, "malos")
	// Output:
	// k1 {"id":1,"pagado":true}
	// k2 {"id":2,"pagado":false}
	// k3 {"id":
}

// A letter is a record with the original key, headers and bytes, and the reason in headers
// of its own.
func ExampleDeadLetters() {
	cluster, dir := embedded("ventas", "buenas", "malas")
	defer cluster.Close()
	defer os.RemoveAll(dir)
	brokers := cluster.ListenAddrs()
	letters := kafkasink.LettersConfig{Brokers: brokers, Topic: "malas"}
	fill(cluster, "ventas", `{"total":10}`, `{"total":"diez"}`)

	type Venta struct {
		Total float64 `leat:"total"`
	}
	p := leat.New("ventas", leat.Config{StateDir: dir, DeadLetters: kafkasink.DeadLetters(letters), Breaker: leat.Breaker{Share: -1}})
	src := kafkasource.New(kafkasource.Config[Venta]{Brokers: brokers, Topics: []string{"ventas"}, Drain: true})
	leat.To(leat.From(p, src), kafkasink.New(kafkasink.Config[Venta]{Brokers: brokers, Topic: "buenas"}))
	if err := p.Run(context.Background()); err != nil {
		fmt.Println(err)
		return
	}
	for l, err := range kafkasink.ReadDeadLetters(context.Background(), letters) {
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Printf("%s, offset %d, column %s: %s\n", l.Partition, l.Offset, l.Column, l.Raw)
	}
	// Output:
	// ventas/ventas/0, offset 1, column total: {"total":"diez"}
}

// Letters are read from their topic, mended, and replayed; a sink of its own, without a
// transaction, writes what they have become.
func ExampleReadDeadLetters() {
	cluster, dir := embedded("ventas", "buenas", "malas")
	defer cluster.Close()
	defer os.RemoveAll(dir)
	brokers := cluster.ListenAddrs()
	fill(cluster, "ventas", `{"total":10}`, `{"total":"diez"}`)

	type Venta struct {
		Total float64 `leat:"total"`
		Clave string  `leat:"@key"`
	}
	letters := kafkasink.LettersConfig{Brokers: brokers, Topic: "malas"}
	build := func(replay bool) *leat.Pipeline {
		src := kafkasource.New(kafkasource.Config[Venta]{Brokers: brokers, Topics: []string{"ventas"}, Group: "ventas", Drain: true})
		tx := kafkasink.NewTransaction(kafkasink.TransactionConfig{Source: src, Brokers: brokers})
		sink, bad := kafkasink.Config[Venta]{Topic: "buenas", Transaction: tx}, tx.DeadLetters("malas")
		if replay {
			sink.Transaction, sink.Brokers, bad = nil, brokers, kafkasink.DeadLetters(letters)
		}
		p := leat.New("ventas", leat.Config{StateDir: dir, DeadLetters: bad, Breaker: leat.Breaker{Share: -1}})
		leat.To(leat.From(p, src), kafkasink.New(sink))
		return p
	}
	ctx := context.Background()
	if err := build(false).Run(ctx); err != nil {
		fmt.Println(err)
		return
	}
	stats, err := leat.Replay(ctx, build(true), func(yield func(leat.DeadLetter, error) bool) {
		for l, err := range kafkasink.ReadDeadLetters(ctx, letters) {
			l.Raw = bytes.Replace(l.Raw, []byte(`"diez"`), []byte("10"), 1)
			if !yield(l, err) {
				return
			}
		}
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(stats.Sent, "replayed,", stats.Rejected, "rejected")
	show(cluster, "buenas")
	// Output:
	// 1 replayed, 0 rejected
	// k1 {"total":10}
	// k2 {"total":10}
}

// A cluster that asks for TLS and a password: Opts of the source and of the transaction say both.
func ExampleNewTransaction_secure() {
	type Pedido struct {
		ID int `leat:"id"`
	}
	brokers := []string{"kafka-1:9093", "kafka-2:9093"}

	ca, err := os.ReadFile("ca.pem")
	if err != nil {
		log.Fatal(err)
	}
	trusted := x509.NewCertPool()
	trusted.AppendCertsFromPEM(ca)
	login := scram.Auth{User: "pedidos", Pass: os.Getenv("KAFKA_PASSWORD")}
	opts := []kgo.Opt{
		kgo.DialTLSConfig(&tls.Config{RootCAs: trusted}),
		kgo.SASL(login.AsSha256Mechanism()),
	}

	src := kafkasource.New(kafkasource.Config[Pedido]{Brokers: brokers, Topics: []string{"pedidos"}, Group: "cobros", Opts: opts})
	tx := kafkasink.NewTransaction(kafkasink.TransactionConfig{Source: src, Brokers: brokers, Opts: opts})

	p := leat.New("cobros", leat.Config{DeadLetters: tx.DeadLetters("malos")})
	leat.To(leat.From(p, src), kafkasink.New(kafkasink.Config[Pedido]{Transaction: tx, Topic: "pagados"}))
	if err := p.Run(context.Background()); err != nil {
		log.Fatal(err)
	}
}

// embedded is a broker within the process, with topics of one partition, and a state folder.
func embedded(topics ...string) (*kfake.Cluster, string) {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, topics...))
	if err != nil {
		panic(err)
	}
	dir, err := os.MkdirTemp("", "leat")
	if err != nil {
		panic(err)
	}
	return cluster, dir
}

func fill(cluster *kfake.Cluster, topic string, values ...string) {
	cl, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...))
	if err != nil {
		panic(err)
	}
	defer cl.Close()
	for i, v := range values {
		r := &kgo.Record{Topic: topic, Key: fmt.Appendf(nil, "k%d", i+1), Value: []byte(v)}
		if err := cl.ProduceSync(context.Background(), r).FirstErr(); err != nil {
			panic(err)
		}
	}
}

// show prints what readers of committed records see.
func show(cluster *kfake.Cluster, topic string) {
	cl, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...), kgo.ConsumeTopics(topic), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords())
	if err != nil {
		panic(err)
	}
	defer cl.Close()
	end, err := kadm.NewClient(cl).ListCommittedOffsets(context.Background(), topic)
	if err != nil {
		panic(err)
	}
	last, _ := end.Lookup(topic, 0)
	for at := int64(0); at < last.Offset; {
		for it := cl.PollFetches(context.Background()).RecordIter(); !it.Done(); {
			r := it.Next()
			if !r.Attrs.IsControl() {
				fmt.Println(string(r.Key), string(r.Value))
			}
			at = r.Offset + 1
		}
	}
}
