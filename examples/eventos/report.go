package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/examples/internal/cli"
	"github.com/leatgo/leat/sink/parquetsink"
)

// result is what a run leaves to tell.
type result struct {
	options
	took        time.Duration
	interrupted bool
	stats       leat.Stats
	began       bool                   // to read
	before      []parquetsink.FileInfo // of the lake, then
	files       []parquetsink.FileInfo // all of the lake
	made        int                    // of them, in this run
}

// summary is the line of -json: this run alone.
type summary struct {
	In         int64            `json:"in"` // = Out + Duplicates + Rejected
	Out        int64            `json:"out"`
	Duplicates int64            `json:"duplicates"`
	Rejected   int64            `json:"rejected"`
	RejectedBy map[string]int64 `json:"rejected_by"` // class/column/rule
	Files      int              `json:"files"`
	Seconds    float64          `json:"seconds"`
	RowsPerS   float64          `json:"rows_per_s"`
}

func (r *result) summary() summary {
	run := r.stats.Run
	s := summary{
		In: run.In, Out: run.Out[lakeName], RejectedBy: run.Rejected, Files: r.made,
		Seconds: float64(r.took.Microseconds()) / 1e6,
	}
	for _, n := range run.Nodes {
		if n.Name == duplicates {
			s.Duplicates = n.Filtered
		}
	}
	for _, n := range run.Rejected {
		s.Rejected += n
	}
	if s.RejectedBy == nil {
		s.RejectedBy = map[string]int64{}
	}
	if s.Seconds > 0 {
		s.RowsPerS = math.Round(float64(s.In) / s.Seconds)
	}
	return s
}

// report leaves metrics.txt and prints.
func (r *result) report(to io.Writer) (err error) {
	if r.files, err = files(r.out); err != nil {
		return err
	}
	had := map[string]bool{}
	for _, f := range r.before {
		had[f.Path] = true
	}
	for _, f := range r.files {
		if r.began && !had[f.Path] {
			r.made++
		}
	}
	if err := r.writeMetrics(); err != nil {
		return err
	}
	return r.print(to)
}

// files are those of the lake, none where there is no lake yet.
func files(out string) ([]parquetsink.FileInfo, error) {
	found, err := parquetsink.Files(out)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return found, err
}

// writeMetrics leaves the three counts of this run in a file, which is replaced as a whole.
func (r *result) writeMetrics() error {
	s := r.summary()
	to := filepath.Join(r.out, "metrics.txt")
	tmp := fmt.Sprintf("%s.%d.tmp", to, os.Getpid())
	text := fmt.Sprintf("total %d\nvalidos %d\ninvalidos %d\n", s.In, s.Out, s.Rejected)
	if err := os.WriteFile(tmp, []byte(text), 0o644); err != nil {
		return err
	}
	return os.Rename(tmp, to)
}

// print writes the report, and with -json the summary as its last line.
func (r *result) print(to io.Writer) error {
	w := bufio.NewWriter(to)
	s := r.summary()
	switch {
	case r.interrupted:
		fmt.Fprintln(w, "Stopped by a signal: what was read is in the lake. The same command goes on from here.")
	case r.replay:
		fmt.Fprintf(w, "Done: %s dead letters went through again in %.2f s.\n", cli.Count(s.In), s.Seconds)
	default:
		fmt.Fprintf(w, "Done: %s events in %.2f s, %s events/s.\n", cli.Count(s.In), s.Seconds, cli.Count(int64(s.RowsPerS)))
	}
	cli.Title(w, "Events")
	t := cli.NewTable(w, "-", "this run")
	t.Row("in", cli.Count(s.In))
	t.Row("valid", cli.Count(s.In-s.Rejected))
	t.Row("duplicates", cli.Count(s.Duplicates))
	t.Row("out", cli.Count(s.Out))
	t.Row("rejected", cli.Count(s.Rejected))
	t.Flush()

	if len(s.RejectedBy) > 0 {
		cli.Title(w, "Rejected by reason")
		t = cli.NewTable(w, "-class", "-column", "-rule", "this run", "in all")
		for _, why := range slices.Sorted(maps.Keys(r.stats.Rejected)) {
			class, rest, _ := strings.Cut(why, "/")
			column, rule, _ := strings.Cut(rest, "/")
			t.Row(class, column, rule, cli.Count(s.RejectedBy[why]), cli.Count(r.stats.Rejected[why]))
		}
		t.Flush()
	}

	if len(r.files) > 0 {
		r.printDates(w)
	}

	cli.Title(w, "Outputs")
	t = cli.NewTable(w, "-", "-")
	t.Row("lake", r.out)
	t.Row("metrics", filepath.Join(r.out, "metrics.txt"))
	t.Row("dead letters", r.deadLetters())
	t.Row("state", r.state())
	t.Flush()
	if r.json {
		if err := json.NewEncoder(w).Encode(s); err != nil {
			return err
		}
	}
	return w.Flush()
}

func (r *result) printDates(w io.Writer) {
	type day struct {
		files       int
		rows, bytes int64
	}
	days := map[string]*day{}
	for _, f := range r.files {
		name := path.Dir(f.Path)
		d := days[name]
		if d == nil {
			d = &day{}
			days[name] = d
		}
		d.files, d.rows, d.bytes = d.files+1, d.rows+f.Rows, d.bytes+f.Bytes
	}
	cli.Title(w, "Files by date")
	t := cli.NewTable(w, "-date", "files", "events", "bytes")
	for _, name := range slices.Sorted(maps.Keys(days)) {
		d := days[name]
		t.Row(strings.TrimPrefix(name, "date="), cli.Count(int64(d.files)), cli.Count(d.rows), cli.Count(d.bytes))
	}
	t.Flush()
}
