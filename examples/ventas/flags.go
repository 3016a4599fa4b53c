package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// options are what the flags say.
type options struct {
	folders
	out            string
	ownData        bool // no -in: the data are our own
	generate, rows int
	log            string
	json           bool
}

func (o options) database() string    { return filepath.Join(o.out, "ventas.db") }
func (o options) state() string       { return filepath.Join(o.out, "state") }
func (o options) sums() string        { return filepath.Join(o.state(), sumsFile) }
func (o options) deadLetters() string { return filepath.Join(o.out, "dead-letters.jsonl") }

// parse tells what is wrong with the flags on stderr, as the flag package does.
func parse(args []string, stderr io.Writer) (options, error) {
	var o options
	fs := flag.NewFlagSet("ventas", flag.ContinueOnError)
	fs.SetOutput(stderr)
	in := fs.String("in", "", "`folder` of sales files; processed/ and failed/ lie beside it (default ventas-data/incoming, filled with 3 files)")
	fs.StringVar(&o.out, "out", "", "`folder` for ventas.db, dead-letters.jsonl and state/ (default out/ beside the -in folder)")
	fs.IntVar(&o.generate, "generate", 0, "write so many `files` first; those that exist or were processed are left as they are")
	fs.IntVar(&o.rows, "rows", 1000, "`rows` of each generated file, one in ten of them bad")
	fs.StringVar(&o.log, "log", "", "append the log to this `file` too")
	fs.BoolVar(&o.json, "json", false, "end with one line of JSON about this run")
	if err := fs.Parse(args); err != nil {
		return o, err
	}
	generate := false
	fs.Visit(func(f *flag.Flag) { generate = generate || f.Name == "generate" })

	wrong := ""
	switch {
	case fs.NArg() > 0:
		wrong = fmt.Sprintf("unexpected argument %q", fs.Arg(0))
	case o.generate < 0:
		wrong = fmt.Sprintf("-generate %d: it is a number of files", o.generate)
	case o.rows < 1:
		wrong = fmt.Sprintf("-rows %d: it is a number of rows, at least 1", o.rows)
	case *in == "":
		*in, o.ownData = filepath.Join("ventas-data", "incoming"), true
		if !generate {
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
