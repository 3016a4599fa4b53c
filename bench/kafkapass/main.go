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
	"path/filepath"
	"runtime"
	"runtime/pprof"
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
	profile := flag.String("profile", "", "write cpu.prof and, of the moment with most of it in use, heap.prof to this folder")
	flag.Parse()
	if *profile != "" {
		defer profiles(*profile)()
	}
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

// profiles writes two profiles until stop is called.
func profiles(dir string) (stop func()) {
	f, err := os.Create(filepath.Join(dir, "cpu.prof"))
	if err != nil {
		panic(err)
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		panic(err)
	}
	go func() {
		var m runtime.MemStats
		for most := uint64(0); ; time.Sleep(100 * time.Millisecond) {
			if runtime.ReadMemStats(&m); m.HeapInuse < most+most/20 {
				continue
			}
			most = m.HeapInuse
			if h, err := os.Create(filepath.Join(dir, "heap.prof")); err == nil {
				_ = pprof.WriteHeapProfile(h)
				h.Close()
			}
		}
	}()
	return func() { pprof.StopCPUProfile(); f.Close() }
}
