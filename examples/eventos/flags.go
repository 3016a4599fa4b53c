package main

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/leatgo/leat/examples/internal/cli"
)

// options are what the flags and the environment say.
type options struct {
	brokers     []string // none: a broker in this process
	embedded    bool
	topic       string
	group       string
	events      int
	out         string
	drain       bool
	maxMessages int64
	batch       int
	maxLatency  time.Duration
	remember    time.Duration
	replay      bool
	metrics     string
	debug       bool
	json        bool
}

func (o options) state() string       { return filepath.Join(o.out, "_state") }
func (o options) deadLetters() string { return filepath.Join(o.state(), "dead-letters.jsonl") }

func (o options) broker() string { return filepath.Join(o.state(), "broker") } // of the embedded one

// parse tells what is wrong with the flags on stderr, as the flag package does. A flag goes over
// the environment, and that over the default.
func parse(args []string, stderr io.Writer) (options, error) {
	var o options
	fs := flag.NewFlagSet("eventos", flag.ContinueOnError)
	fs.SetOutput(stderr)
	brokers := fs.String("brokers", os.Getenv("KAFKA_BOOTSTRAP_SERVERS"), "`host:port,…` of Kafka ($KAFKA_BOOTSTRAP_SERVERS); empty: an embedded broker, whose data are kept below -out")
	fs.StringVar(&o.topic, "topic", cmp.Or(os.Getenv("KAFKA_TOPIC"), "pi2_events"), "the `topic` to read ($KAFKA_TOPIC)")
	fs.StringVar(&o.group, "group", "eventos", "consumer `group`")
	fs.IntVar(&o.events, "events", 0, "produce so many `events` first (default 20000 with the embedded broker, else 0)")
	fs.StringVar(&o.out, "out", cmp.Or(os.Getenv("OUT_DIR"), filepath.FromSlash("datasets/processed/pi2/")), "`folder` for date=YYYY-MM-DD/*.parquet and metrics.txt ($OUT_DIR)")
	fs.BoolVar(&o.drain, "drain", false, "stop at the end offsets seen at the start; otherwise run until a signal comes (the embedded broker is always drained)")
	fs.Int64Var(&o.maxMessages, "max-messages", 0, "stop after so many `messages`; 0 is no limit")
	fs.IntVar(&o.batch, "batch", 4096, "`messages` in a batch, at most")
	fs.DurationVar(&o.maxLatency, "max-latency", time.Minute, "`time` from reading an event to its file being visible, at most; short times make small files")
	fs.DurationVar(&o.remember, "remember", 0, "`time`, by the events' own clock, after which an event_id may come again; events that come so late are then rejected; 0 is for ever: 37 MB per million ids. What is known depends on it, so it stays as it is for all runs with one -out")
	fs.BoolVar(&o.replay, "replay-dead-letters", false, "read no topic, but send the dead letters of -out through again")
	fs.StringVar(&o.metrics, "metrics", "", "while running, serve /metrics, /metrics.json and /healthz at this `address`, such as 127.0.0.1:9100; port 0 takes a free one, see the log")
	fs.BoolVar(&o.debug, "debug", false, "log skipped duplicates, by event_id")
	fs.BoolVar(&o.json, "json", false, "end with one line of JSON about this run")
	if err := fs.Parse(args); err != nil {
		return o, err
	}
	given := map[string]bool{}
	fs.Visit(func(f *flag.Flag) { given[f.Name] = true })
	o.brokers = strings.FieldsFunc(*brokers, func(r rune) bool { return r == ',' || r == ' ' })

	wrong := ""
	switch {
	case fs.NArg() > 0:
		wrong = fmt.Sprintf("unexpected argument %q", fs.Arg(0))
	case o.topic == "":
		wrong = "-topic: it must not be empty"
	case o.group == "":
		wrong = "-group: it must not be empty"
	case o.out == "":
		wrong = "-out: it must not be empty"
	case o.events < 0:
		wrong = fmt.Sprintf("-events %d: it is a number of events", o.events)
	case o.maxMessages < 0:
		wrong = fmt.Sprintf("-max-messages %d: it is a number of messages", o.maxMessages)
	case o.batch < 1 || o.batch > 1<<20:
		wrong = fmt.Sprintf("-batch %d: it is a number of messages from 1 to 1048576", o.batch)
	case o.maxLatency < 10*time.Millisecond:
		wrong = fmt.Sprintf("-max-latency %v: it is a time of 10ms at least", o.maxLatency)
	case o.metrics != "" && !cli.IsAddress(o.metrics):
		wrong = fmt.Sprintf("-metrics %s: it is a host and a port, such as 127.0.0.1:9100 or :9100", o.metrics)
	case o.remember < 0:
		wrong = fmt.Sprintf("-remember %v: it is a time", o.remember)
	case o.replay && (o.drain || given["events"] || o.maxMessages > 0):
		wrong = "-replay-dead-letters reads no topic: leave -events, -drain and -max-messages out"
	case o.replay && !cli.IsFile(o.deadLetters()):
		wrong = fmt.Sprintf("-replay-dead-letters: there is no file %s", o.deadLetters())
	}
	if wrong != "" {
		fmt.Fprintln(stderr, wrong)
		fs.Usage()
		return o, errors.New(wrong)
	}
	if len(o.brokers) == 0 {
		o.embedded, o.drain = true, true
		if !given["events"] && !o.replay {
			o.events = 20_000
		}
	}
	return o, nil
}
