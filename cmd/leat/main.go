package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// command is one subcommand.
type command struct {
	name  string
	args  []string // names of the arguments
	about string
	do    func(c *call) error
	flags func(f *flag.FlagSet, o *options)
}

// options are the flags of all commands.
type options struct {
	json                      bool
	source, class, node, file string
	n                         int
	all                       bool
	out                       string
	sqlite, lake              []string
	partition, pipeline, to   string
	yes                       bool
	stage, state, pg, schema  string
}

// call is one use of a command.
type call struct {
	ctx  context.Context
	args []string
	o    options
	out  io.Writer
}

func (c *call) stateDir() string { return c.args[0] }

var commands = []command{
	{"ledger", []string{"STATEDIR"}, "files that sources of files have entered, and what became of them", ledger, func(f *flag.FlagSet, o *options) {
		f.StringVar(&o.source, "source", "", "only this source")
	}},
	{"positions", []string{"STATEDIR"}, "positions, counters and the last checkpoint", positions, func(f *flag.FlagSet, o *options) { holderFlags(f, o) }},
	{"letters", []string{"STATEDIR|FILE"}, "dead letters and their statistics", letters, func(f *flag.FlagSet, o *options) {
		filterFlags(f, o)
		f.IntVar(&o.n, "n", 20, "list so many, the newest; 0: statistics only")
	}},
	{"letter", []string{"STATEDIR|FILE", "ID"}, "one dead letter, with its bytes; the beginning of its id will do", letter, func(*flag.FlagSet, *options) {}},
	{"replay", []string{"STATEDIR|FILE"}, "write chosen letters to a file, for the pipeline's program to replay", export, func(f *flag.FlagSet, o *options) {
		filterFlags(f, o)
		f.StringVar(&o.out, "o", "", "the file; it must not be there yet")
	}},
	{"reprocess", []string{"STATEDIR", "SOURCE", "FILE"}, "make the next run read a file again", reprocess, func(*flag.FlagSet, *options) {}},
	{"reset", []string{"STATEDIR"}, "move a position; without -yes it only says what would happen", reset, func(f *flag.FlagSet, o *options) {
		holderFlags(f, o)
		f.StringVar(&o.partition, "partition", "", "the partition, as \"leat positions\" shows it")
		f.StringVar(&o.to, "to", "", "an offset, or \"forget\" to read as if for the first time")
		f.StringVar(&o.pipeline, "pipeline", "", "whose positions, when several pipelines write to one place")
		f.BoolVar(&o.yes, "yes", false, "do it")
	}},
	{"state", []string{"export|import"}, "positions and state of stages to a file, and from it into an empty place; the pipeline must be stopped", moveState, func(f *flag.FlagSet, o *options) {
		f.StringVar(&o.state, "state", "", "a state folder")
		f.StringVar(&o.pg, "pg", "", "instead: a PostgreSQL connection string; leave the password to PGPASSWORD or ~/.pgpass, as others see the command line")
		f.StringVar(&o.schema, "schema", "", "with -pg: the schema of the tables")
		f.StringVar(&o.pipeline, "pipeline", "", "with -pg: whose state; when importing, by default that of the file")
		f.StringVar(&o.stage, "stage", "", "export: the state of this stage only, to look at; it can't be imported")
		f.StringVar(&o.file, "i", "", "import: the file; default: standard input")
		f.StringVar(&o.out, "o", "", "export: the file; default: standard output")
	}},
}

func filterFlags(f *flag.FlagSet, o *options) {
	f.StringVar(&o.class, "class", "", "only this class: Decode, Contract, Transform, SinkReject, Late, FutureTime")
	f.StringVar(&o.node, "node", "", "only refused by this source, stage or sink")
	f.StringVar(&o.file, "file", "", "only from this file")
	f.StringVar(&o.source, "source", "", "only from this source")
	f.BoolVar(&o.all, "all", false, "also earlier letters of rows that were replayed and refused again")
}

func holderFlags(f *flag.FlagSet, o *options) {
	f.Func("sqlite", "a SQLite database with positions of sinks; may be repeated", func(v string) error { o.sqlite = append(o.sqlite, v); return nil })
	f.Func("lake", "the folder of a lake with positions of sinks; may be repeated", func(v string) error { o.lake = append(o.lake, v); return nil })
}

// errUsage is a mistake in the command line.
type errUsage struct{ error }

func run(ctx context.Context, args []string, out, errs io.Writer) int {
	err := dispatch(ctx, args, out, errs)
	var usage errUsage
	switch {
	case err == nil || errors.Is(err, flag.ErrHelp):
		return 0
	case errors.As(err, &usage):
		fmt.Fprintln(errs, "leat:", err)
		return 2
	}
	fmt.Fprintln(errs, "leat:", err)
	return 1
}

func dispatch(ctx context.Context, args []string, out, errs io.Writer) error {
	if len(args) == 0 {
		help(errs)
		return errUsage{errors.New("no command is given")}
	}
	for _, cmd := range commands {
		if cmd.name != args[0] {
			continue
		}
		c := &call{ctx: ctx, out: out}
		f := flag.NewFlagSet(cmd.name, flag.ContinueOnError)
		f.SetOutput(errs)
		f.Usage = func() {
			fmt.Fprintf(errs, "usage: leat %s", cmd.name)
			for _, a := range cmd.args {
				fmt.Fprintf(errs, " %s", a)
			}
			fmt.Fprintf(errs, " [flags]\n%s\n", cmd.about)
			f.PrintDefaults()
		}
		f.BoolVar(&c.o.json, "json", false, "print one JSON object")
		cmd.flags(f, &c.o)
		// Flags may come before, between and behind the arguments.
		for rest := args[1:]; ; {
			if err := f.Parse(rest); err != nil {
				if errors.Is(err, flag.ErrHelp) {
					return err
				}
				return errUsage{err}
			}
			if f.NArg() == 0 {
				break
			}
			c.args = append(c.args, f.Arg(0))
			rest = f.Args()[1:]
		}
		if len(c.args) != len(cmd.args) {
			f.Usage()
			return errUsage{fmt.Errorf("%s takes %d arguments, not %d", cmd.name, len(cmd.args), len(c.args))}
		}
		return cmd.do(c)
	}
	switch args[0] {
	case "help", "-h", "-help", "--help":
		help(out)
		return nil
	}
	help(errs)
	return errUsage{fmt.Errorf("there is no command %q", args[0])}
}

func help(w io.Writer) {
	fmt.Fprintln(w, "leat looks at what pipelines leave behind and mends it by hand.")
	for _, cmd := range commands {
		fmt.Fprintf(w, "  leat %-10s %s\n", cmd.name, cmd.about)
	}
	fmt.Fprintln(w, "leat COMMAND -h shows the flags of one; docs/operations.md shows all at work.")
}
