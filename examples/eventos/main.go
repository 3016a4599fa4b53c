// Command eventos reads user events from a Kafka topic, checks them, drops duplicates by event_id and
// writes the rest to a lake of Parquet files by date, exactly once; it says what became of every
// event. Without flags it needs no server: the broker is embedded, and 20,000 events are made.
//
//	go run ./examples/eventos
//	go run ./examples/eventos -brokers localhost:9092 -topic pi2_events -drain -out eventos/
//
// Exactly once: positions and files become valid in one step, and which event_ids were seen is saved
// with them. Kill it at any time; the same command goes on, and no event is lost or there twice. For that
// OUT must stay as it is, OUT/_state included, and each broker needs its own.
//
// A duplicate is found in the partition where the first one was, so producers must key messages by
// event_id. What was seen is in memory and in OUT/_state, 37 MB and 24 MB per million ids, for
// ever or for as long as -remember says. Only one process can know it, so only one can read: a second one
// waits (same OUT) or is refused (same group, another OUT), while the first one pauses.
//
// processing_ts is when this program saw an event. It is the one column that does not follow from the input: an
// event that is read again after a crash, before its file was committed, has a later one (rule G12).
//
// Where to look: eventos.go has the pipeline, this file wires it to its ends, the other files read
// flags, run the embedded broker, make events and print; internal/cli has what the examples share.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/examples/internal/cli"
	"github.com/leatgo/leat/metrics"
	"github.com/leatgo/leat/sink/parquetsink"
	"github.com/leatgo/leat/source/drift"
	"github.com/leatgo/leat/source/kafkasource"
)

// Names of the ends; they key positions, so they must not change.
const (
	sourceName = "kafka"
	lakeName   = "lake"
)

func main() {
	// A second signal changes nothing: timeout(1) sends two at once, and the drain
	// has a deadline.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := program(ctx, os.Args[1:], os.Stdout, os.Stderr, tuning{})
	stop()
	os.Exit(code)
}

// tuning is what tests make small. The zero value means the defaults.
type tuning struct {
	leat.Config
	session time.Duration
}

// program is main with its surroundings as parameters. It returns the exit code: 0 done (rejected
// events included), 1 stopped, 2 wrong flags.
func program(ctx context.Context, args []string, stdout, stderr io.Writer, c tuning) int {
	o, err := parse(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		return 2
	}
	if err := run(ctx, o, stdout, stderr, c); err != nil {
		fmt.Fprintln(stderr, "eventos: stopped:", err)
		return 1
	}
	return 0
}

// run starts what the pipeline needs, and the pipeline.
func run(ctx context.Context, o options, stdout, stderr io.Writer, c tuning) error {
	level := slog.LevelInfo
	if o.debug {
		level = slog.LevelDebug
	}
	c.Logger = slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: level}))
	if err := os.MkdirAll(o.out, 0o755); err != nil {
		return err
	}
	m := metrics.New(metrics.Config{})
	c.Observe = m.Observe
	if o.metrics != "" {
		stop, err := cli.Serve(o.metrics, m, c.Logger)
		if err != nil {
			return fmt.Errorf("-metrics: %w", err)
		}
		defer stop()
	}

	if o.embedded {
		broker, err := embed(ctx, o.broker(), o.topic, c.Logger)
		if err != nil && ctx.Err() != nil {
			return stopped(o, stdout)
		}
		if err != nil {
			return fmt.Errorf("the embedded broker: %w", err)
		}
		defer broker.Close()
		o.brokers = broker.ListenAddrs()
		c.Logger.Info("no -brokers: an embedded broker (franz-go's kfake) runs in this process", "data", o.broker())
	}
	if o.events > 0 {
		err := produce(ctx, o.brokers, o.topic, o.events)
		if err != nil && ctx.Err() != nil {
			return stopped(o, stdout)
		}
		if err != nil {
			return fmt.Errorf("producing events to %s: %w", o.topic, err)
		}
		c.Logger.Info("events produced", "events", o.events, "topic", o.topic)
	}
	r, err := load(ctx, o, c, m)
	if err != nil && strings.Contains(err.Error(), "rule A2-1") {
		return fmt.Errorf("%w; or, as %s has what another broker or an older topic of that name had: give this one an -out of its own", err, o.out)
	}
	if err != nil {
		return err
	}
	return r.report(stdout)
}

// stopped is about a run that ended before it could read anything.
func stopped(o options, stdout io.Writer) error {
	r := result{options: o, interrupted: true}
	return r.report(stdout)
}

// load runs the pipeline until the topic's end or a signal.
func load(ctx context.Context, o options, c tuning, m *metrics.Metrics) (result, error) {
	c.StateDir = o.state()
	c.DeadLetters = leat.DeadLetterFile(o.deadLetters())
	c.Require = leat.ExactlyOnce
	// An event is visible when its file is closed, which a checkpoint does once the file is old
	// enough. A quarter of the time is left for decoding and for closing the files.
	c.CheckpointEvery = cmp.Or(c.CheckpointEvery, min(time.Second, o.maxLatency/8))
	c.BudgetBytes = cmp.Or(c.BudgetBytes, 16<<20) // half the default: the ids need the memory
	age := max(o.maxLatency*3/4-c.CheckpointEvery, o.maxLatency/4)
	var member joined
	defer leave(o, &member, c.Logger)
	src := kafkasource.New(kafkasource.Config[Evento]{
		Name: sourceName, Brokers: o.brokers, Topics: []string{o.topic}, Group: o.group,
		InstanceID: o.instance(), SessionTimeout: c.session,
		Drain: o.drain, MaxMessages: o.maxMessages, ChunkRows: o.batch,
		Missing: drift.ZeroMissing, // the contract tells what is missing
		Idle:    age, Opts: []kgo.Opt{kgo.ClientID("eventos"), kgo.WithHooks(&member)},
	})
	lake := parquetsink.New(parquetsink.Config[Limpio]{
		Name: lakeName, Dir: o.out,
		PartitionBy: []parquetsink.Partition[Limpio]{parquetsink.ByDay("date", when)},
		Roll:        parquetsink.Roll{Age: age, Idle: -1}, // a topic with an event now and then makes no file of each
		EventTime:   when,
	})
	mem := memory{ttl: o.remember}
	if o.debug {
		mem.seen = func(id string) { c.Logger.Debug("duplicate skipped", "event_id", id) }
	}
	r := result{options: o}
	var listed error
	observe, small := c.Observe, func(leat.Event) {}
	c.Observe = func(e leat.Event) {
		if e.Kind == leat.EventStarted && !r.began { // until then the folder may be another process's
			r.began = true
			r.before, listed = files(o.out)
		}
		observe(e)
		small(e)
	}
	p := eventos(c.Config, mem, src, lake)
	small = bound(p)
	m.Watch(p)

	start := time.Now()
	var err error
	if o.replay {
		err = replay(ctx, p, o.deadLetters(), c.Logger)
	} else {
		err = p.Run(ctx)
	}
	r.took, r.interrupted, r.stats = time.Since(start), ctx.Err() != nil, p.Stats()
	if err == nil {
		err = listed
	}
	if err == nil {
		s := r.summary()
		c.Logger.Info("done", "in", s.In, "out", s.Out, "duplicates", s.Duplicates, "rejected", s.Rejected, "seconds", s.Seconds)
	}
	return r, err
}

// replay sends dead letters through again, those that were not yet.
func replay(ctx context.Context, p *leat.Pipeline, file string, log *slog.Logger) error {
	s, err := leat.Replay(ctx, p, leat.DeadLetters(file))
	log.Info("replay", "letters", s.Letters, "taken_over", s.Journaled, "done_before", s.Already, "undecodable", s.Undecodable, "sent", s.Sent, "refused_again", s.Rejected)
	return err
}
