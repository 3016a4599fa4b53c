package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/leatgo/leat/examples/internal/cli"
	"github.com/leatgo/leat/notify"
	"github.com/leatgo/leat/schedule"
)

// options are what the flags say.
type options struct {
	folders
	out            string
	ownData        bool // no -in: the data are our own
	generate, rows int
	watch          time.Duration
	maxScans       int
	every          schedule.Spec
	partition      bool
	notify         string
	replay         string
	log            string
	metrics        string
	json           bool
}

func (o options) database() string    { return filepath.Join(o.out, "ventas.db") }
func (o options) lake() string        { return filepath.Join(o.out, "lake") }
func (o options) state() string       { return filepath.Join(o.out, "state") }
func (o options) sums() string        { return filepath.Join(o.state(), sumsFile) }
func (o options) deadLetters() string { return filepath.Join(o.out, "dead-letters.jsonl") }

// parse tells what is wrong with the flags on stderr, as the flag package does.
func parse(args []string, stderr io.Writer) (options, error) {
	var o options
	fs := flag.NewFlagSet("ventas", flag.ContinueOnError)
	fs.SetOutput(stderr)
	in := fs.String("in", "", "`folder` of sales files; processed/ and failed/ lie beside it (default ventas-data/incoming, filled with 3 files)")
	fs.StringVar(&o.out, "out", "", "`folder` for ventas.db, lake/, dead-letters.jsonl and state/ (default out/ beside the -in folder)")
	fs.IntVar(&o.generate, "generate", 0, "write so many `files` first; those that exist or were processed are left as they are")
	fs.IntVar(&o.rows, "rows", 1000, "`rows` of each generated file, one in ten of them bad")
	fs.DurationVar(&o.watch, "watch", 0, "go on and look for new files at this `interval`, until a signal comes; 0 is one pass")
	fs.IntVar(&o.maxScans, "max-scans", 0, "with -watch, end after so many `scans` of the folder; 0 is never")
	fs.TextVar(&o.every, "every", schedule.Spec{}, "make a pass at these `times` until a signal comes: a cron line (\"0 6 * * 1-5\") or a duration (\"15m\")")
	fs.BoolVar(&o.partition, "partition", false, "write the lake by month: lake/mes=2025-01/")
	fs.StringVar(&o.notify, "notify", "", "tell failures to this `URL`: http(s) gets {\"text\":…}; smtp://, slack:// and other forms of shoutrrr (default the log)")
	fs.StringVar(&o.replay, "replay", "", "read no files, but send the dead letters in this `file` through again")
	fs.StringVar(&o.log, "log", "", "append the log to this `file` too")
	fs.StringVar(&o.metrics, "metrics", "", "while running, serve /metrics, /metrics.json and /healthz at this `address`, such as 127.0.0.1:9100; port 0 takes a free one, see the log")
	fs.BoolVar(&o.json, "json", false, "end with one line of JSON about this run")
	if err := fs.Parse(args); err != nil {
		return o, err
	}
	generate := false
	fs.Visit(func(f *flag.Flag) { generate = generate || f.Name == "generate" })

	receiver := notify.New(notify.Config{URL: o.notify}).Validate()
	wrong := ""
	switch {
	case fs.NArg() > 0:
		wrong = fmt.Sprintf("unexpected argument %q", fs.Arg(0))
	case o.generate < 0:
		wrong = fmt.Sprintf("-generate %d: it is a number of files", o.generate)
	case o.rows < 1:
		wrong = fmt.Sprintf("-rows %d: it is a number of rows, at least 1", o.rows)
	case o.watch < 0:
		wrong = fmt.Sprintf("-watch %v: it is the time between two scans", o.watch)
	case o.maxScans < 0 || o.maxScans > 0 && o.watch == 0:
		wrong = fmt.Sprintf("-max-scans %d: it is a number of scans, and needs -watch", o.maxScans)
	case !o.every.IsZero() && o.watch > 0:
		wrong = "-every and -watch: choose one"
	case o.replay != "" && (o.watch > 0 || !o.every.IsZero() || generate):
		wrong = "-replay reads no files: leave -watch, -every and -generate out"
	case o.replay != "" && !cli.IsFile(o.replay):
		wrong = fmt.Sprintf("-replay %s: there is no such file", o.replay)
	case o.metrics != "" && !cli.IsAddress(o.metrics):
		wrong = fmt.Sprintf("-metrics %s: it is a host and a port, such as 127.0.0.1:9100 or :9100", o.metrics)
	case receiver != nil:
		wrong = fmt.Sprintf("-notify: %v", receiver)
	case *in == "":
		*in, o.ownData = filepath.Join("ventas-data", "incoming"), true
		if !generate && o.replay == "" {
			o.generate = 3
		}
	case !generate:
		if info, err := os.Stat(*in); err != nil || !info.IsDir() {
			wrong = fmt.Sprintf("-in %s: there is no such folder", *in)
		}
	}
	dir := filepath.Clean(*in)
	if base := filepath.Base(dir); wrong == "" && (base == "." || base == "..") { // what lies beside it?
		var err error
		if dir, err = filepath.Abs(dir); err != nil {
			wrong = err.Error()
		}
	}
	if wrong != "" {
		fmt.Fprintln(stderr, wrong)
		fs.Usage()
		return o, errors.New(wrong)
	}
	o.folders = foldersOf(dir)
	if o.out == "" {
		o.out = filepath.Join(filepath.Dir(dir), "out")
	}
	return o, nil
}
