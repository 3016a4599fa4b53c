// Command ventas loads a folder of sales files into SQLite and a lake of Parquet
// files, exactly once, and says what became of every row. Without flags it makes
// its own data below ./ventas-data.
//
//	go run ./examples/ventas
//	go run ./examples/ventas -watch 5s
//
// Where to look: ventas.go has the pipeline, this file wires it to its ends,
// por_archivo.go is a sink of our own, the other files read flags, make data and print;
// internal/cli has what the examples share.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/examples/internal/cli"
	"github.com/leatgo/leat/metrics"
	"github.com/leatgo/leat/notify"
	"github.com/leatgo/leat/schedule"
	"github.com/leatgo/leat/sink/parquetsink"
	"github.com/leatgo/leat/sink/sqlitesink"
	"github.com/leatgo/leat/source/csvsource"
	"github.com/leatgo/leat/source/files"
)

// sourceName keys the ledger. It must be stable, and a folder may be renamed.
const sourceName = "archivos"

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
	chunkBytes int
	settle     time.Duration
}

// program is main with its surroundings as parameters. It returns the exit code:
// 0 done (rejected rows and refused files included), 1 stopped, 2 wrong flags.
func program(ctx context.Context, args []string, stdout, stderr *os.File, c tuning) int {
	o, err := parse(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		return 2
	}
	if err := run(ctx, o, stdout, stderr, c); err != nil {
		fmt.Fprintln(stderr, "ventas: stopped:", err)
		return 1
	}
	return 0
}

// run makes the folders and the data, and passes over them once, or as often as
// -every says.
func run(ctx context.Context, o options, stdout, stderr *os.File, c tuning) error {
	for _, dir := range append(o.all(), o.out) {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	line := newProgress(stderr)
	var logs io.Writer = line
	if o.log != "" {
		f, err := os.OpenFile(o.log, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
		if err != nil {
			return err
		}
		defer f.Close()
		logs = io.MultiWriter(line, f)
	}
	c.Logger = slog.New(slog.NewTextHandler(logs, nil))

	made, err := generate(ctx, o.folders, o.generate, o.rows)
	if err != nil && ctx.Err() == nil { // after a signal Run has nothing to do, and says so
		return err
	}
	if made > 0 {
		c.Logger.Info("data generated", "files", made, "rows_per_file", o.rows, "folder", o.incoming)
	}

	people := notify.New(notify.Config{URL: o.notify, Pipeline: "ventas", Logger: c.Logger})
	defer func() {
		if err := people.Close(context.WithoutCancel(ctx)); err != nil {
			c.Logger.Warn("not everything could be told", "error", err)
		}
	}()
	m := metrics.New(metrics.Config{})
	if o.metrics != "" {
		stop, err := cli.Serve(o.metrics, m, c.Logger)
		if err != nil {
			return fmt.Errorf("-metrics: %w", err)
		}
		defer stop()
	}
	c.Observe = func(e leat.Event) {
		people.Observe(e)
		m.Observe(e)
	}
	pass := func(ctx context.Context) error {
		defer func() { made = 0 }() // said once
		return load(ctx, o, made, stdout, line, c, people, m)
	}
	if o.every.IsZero() {
		return pass(ctx)
	}
	return schedule.Run(ctx, schedule.Config{Spec: o.every, OnWait: func(next time.Time) {
		c.Logger.Info("waiting for the next pass", "at", next.Format(time.RFC3339))
	}}, pass)
}

// replay sends dead letters through again, those that were not yet.
func replay(ctx context.Context, p *leat.Pipeline, file string, log *slog.Logger) error {
	s, err := leat.Replay(ctx, p, leat.DeadLetters(file))
	log.Info("replay", "letters", s.Letters, "taken_over", s.Journaled, "done_before", s.Already, "undecodable", s.Undecodable, "sent", s.Sent, "refused_again", s.Rejected)
	return err
}

// tell passes on what became of a file.
func tell(people *notify.Notifier, e files.Event) {
	f := notify.File{Name: e.Name, Status: e.Status, Rows: e.Rows, Unreadable: e.Rejected, Duration: e.Duration}
	if e.Reason != "" {
		f.Err = errors.New(e.Reason)
	}
	people.File(f)
}

// load runs the pipeline, to the end of the folder or until a signal comes, and
// prints its result.
func load(ctx context.Context, o options, made int, stdout io.Writer, line *progress, c tuning, people *notify.Notifier, m *metrics.Metrics) error {
	c.StateDir = o.state()
	c.DeadLetters = leat.DeadLetterFile(o.deadLetters())
	c.Require = leat.ExactlyOnce
	src := csvsource.New(csvsource.Config[Venta]{
		Name: sourceName, Dir: o.incoming, After: files.Move,
		Watch: o.watch, MaxScans: o.maxScans, Settle: c.settle,
		OnFile: func(e files.Event) { tell(people, e) }, ChunkBytes: c.chunkBytes,
	})
	table := sqlitesink.New(sqlitesink.Config[Rica]{Path: o.database(), Table: "ventas"})
	lake := parquetsink.Config[Rica]{Name: "lake", Dir: o.lake()}
	if o.partition {
		lake.PartitionBy = []parquetsink.Partition[Rica]{{Name: "mes", Value: func(r Rica) string { return r.Mes }}}
	}
	p := ventas(c.Config, src, table, parquetsink.New(lake), &porArchivo{})

	m.Watch(p)

	start := time.Now()
	stop := line.follow(p.Stats)
	var err error
	if o.replay == "" {
		err = p.Run(ctx)
	} else {
		err = replay(ctx, p, o.replay, c.Logger)
	}
	took := time.Since(start)
	stop()
	if err != nil {
		return err
	}
	r := result{options: o, made: made, took: took, interrupted: ctx.Err() != nil, stats: p.Stats(), files: src.Stats()}
	if r.ledger, err = files.Ledger(c.StateDir, sourceName); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	s := r.summary()
	c.Logger.Info("done", "files", s.Files, "in", s.In, "loaded", s.Loaded, "rejected", s.Rejected, "seconds", s.Seconds)
	return r.print(stdout)
}
