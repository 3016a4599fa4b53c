// Command eventos reads user events from a Kafka topic, checks them, drops duplicates by event_id and
// writes the rest to a lake of Parquet files by date, exactly once; it says what became of every
// event. Without flags it needs no server: the broker is embedded, and 20,000 events are made.
//
//	go run ./examples/eventos
//	go run ./examples/eventos -brokers localhost:9092 -topic pi2_events -drain
//
// Where to look: eventos.go has the pipeline, this file wires it to its ends, the other files read
// flags, make events and print.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/metrics"
	"github.com/leatgo/leat/sink/parquetsink"
	"github.com/leatgo/leat/source/drift"
	"github.com/leatgo/leat/source/kafkasource"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := program(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// program is main with its surroundings as parameters. It returns the exit code: 0 done (rejected
// events included), 1 stopped, 2 wrong flags.
func program(ctx context.Context, args []string, stdout, stderr *os.File) int {
	o, err := parse(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		return 2
	}
	if err := run(ctx, o, stdout, stderr); err != nil {
		fmt.Fprintln(stderr, "eventos: stopped:", err)
		return 1
	}
	return 0
}

func run(ctx context.Context, o options, stdout, stderr *os.File) error {
	level := slog.LevelInfo
	if o.verbose {
		level = slog.LevelDebug
	}
	log := slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: level}))
	if len(o.brokers) == 0 {
		broker, err := embed(o.broker(), o.topic)
		if err != nil {
			return fmt.Errorf("the embedded broker: %w", err)
		}
		defer broker.Close()
		o.brokers = broker.ListenAddrs()
		log.Info("no -brokers: an embedded broker (franz-go's kfake) runs in this process", "data", o.broker())
	}
	if o.events > 0 {
		if err := produce(ctx, o.brokers, o.topic, o.events); err != nil {
			return err
		}
		log.Info("events produced", "events", o.events, "topic", o.topic)
	}
	return load(ctx, o, log, stdout)
}

// load runs the pipeline until the topic's end or a signal, and prints its result.
func load(ctx context.Context, o options, log *slog.Logger, stdout *os.File) error {
	if err := os.MkdirAll(o.out, 0o755); err != nil {
		return err
	}
	before, err := parquetsink.Files(o.out)
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // there is no lake yet
		return err
	}
	src := kafkasource.New(kafkasource.Config[Evento]{
		Name: "kafka", Brokers: o.brokers, Topics: []string{o.topic}, Group: o.group,
		Drain: o.drain, MaxMessages: o.maxMessages, ChunkRows: o.batch,
		Missing: drift.ZeroMissing, // the contract tells what is missing
	})
	lake := parquetsink.New(parquetsink.Config[Limpio]{
		Name: "lake", Dir: o.out,
		PartitionBy: []parquetsink.Partition[Limpio]{{Name: "date", Value: fecha}},
		Roll:        parquetsink.Roll{Age: o.maxLatency},
		EventTime:   func(l Limpio) time.Time { return l.TS },
	})
	m := memory{ttl: o.remember}
	if o.verbose {
		m.seen = func(id string) { log.Debug("duplicate skipped", "event_id", id) }
	}
	numbers := metrics.New(metrics.Config{})
	p := eventos(leat.Config{
		StateDir: o.state(), DeadLetters: leat.DeadLetterFile(o.deadLetters()), Require: leat.ExactlyOnce,
		CheckpointEvery: min(time.Second, o.maxLatency), Logger: log, Observe: numbers.Observe,
	}, m, src, lake)
	if o.metrics != "" {
		numbers.Watch(p)
		stop, err := serve(o.metrics, numbers.Handler(), log)
		if err != nil {
			return err
		}
		defer stop()
	}

	start := time.Now()
	if o.replay {
		var s leat.ReplayStats
		s, err = leat.Replay(ctx, p, leat.DeadLetters(o.deadLetters()))
		log.Info("replay", "letters", s.Letters, "done_before", s.Already, "sent", s.Sent, "refused_again", s.Rejected)
	} else {
		err = p.Run(ctx)
	}
	took := time.Since(start)
	if err != nil {
		return err
	}
	r := result{options: o, took: took, interrupted: ctx.Err() != nil, stats: p.Stats()}
	if err := r.count(before); err != nil {
		return err
	}
	if err := r.writeMetrics(); err != nil {
		return err
	}
	return r.print(stdout)
}

// serve answers at an address until stop is called.
func serve(address string, h http.Handler, log *slog.Logger) (stop func(), err error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("-metrics: %w", err)
	}
	s := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = s.Serve(l) }()
	log.Info("metrics", "url", "http://"+l.Addr().String()+"/metrics")
	return func() { _ = s.Close() }, nil
}
