// Command kafkapass is leat's contender in the jobs from Kafka to Kafka: decode, keep what is approved,
// encode. Its rivals are kstreams/KS.java and flink/FL.java in the mode pass.
package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/sink/kafkasink"
	"github.com/leatgo/leat/source/kafkasource"
	"github.com/leatgo/leat/stage"
)

// Tx is a transaction.
type Tx struct {
	Key      string  `leat:"@key"`
	TxID     string  `leat:"tx_id"`
	Account  string  `leat:"account"`
	Category string  `leat:"category"`
	Amount   float64 `leat:"amount"`
	Currency string  `leat:"currency"`
	Merchant string  `leat:"merchant"`
	TS       int64   `leat:"ts"`
	Status   string  `leat:"status"`
	Country  string  `leat:"country"`
}

func main() {
	brokers := flag.String("brokers", os.Getenv("LEAT_KAFKA"), "")
	in := flag.String("in", "", "topic")
	out := flag.String("out", "", "topic")
	group := flag.String("group", "", "")
	once := flag.Bool("once", false, "exactly once")
	every := flag.Duration("every", time.Second, "time between checkpoints")
	drain := flag.Bool("drain", false, "stop at the end")
	state := flag.String("state", "", "folder")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	addrs := strings.Split(*brokers, ",")
	src := kafkasource.New(kafkasource.Config[Tx]{Brokers: addrs, Topics: []string{*in}, Group: *group, Drain: *drain})
	sink := kafkasink.Config[Tx]{Name: "out", Topic: *out, Opts: []kgo.Opt{kgo.ProducerBatchCompression(kgo.NoCompression())}}
	if *once {
		sink.Transaction = kafkasink.NewTransaction(kafkasink.TransactionConfig{Source: src, Brokers: addrs, Opts: sink.Opts})
		sink.Opts = nil
	} else {
		sink.Brokers = addrs
	}
	p := leat.New("pass", leat.Config{StateDir: *state, CheckpointEvery: *every, Logger: slog.New(slog.NewTextHandler(os.Stderr, nil))})
	rows := leat.From(p, src)
	leat.To(leat.Via(rows, "approved", stage.Filter(func(t Tx) bool { return t.Status == "approved" })), kafkasink.New(sink))
	start := time.Now()
	if err := p.Run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	s := p.Stats()
	fmt.Printf("in=%d out=%d seconds=%.3f\n", s.Run.In, s.Run.Out["out"], time.Since(start).Seconds())
}
