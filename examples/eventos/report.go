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
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/sink/parquetsink"
)

// result is what a run leaves to tell.
type result struct {
	options
	took        time.Duration
	interrupted bool
	stats       leat.Stats
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

// report leaves metrics.txt and prints. before is what the lake had when the run began.
func (r *result) report(before []parquetsink.FileInfo, to io.Writer) (err error) {
	if r.files, err = files(r.out); err != nil {
		return err
	}
	had := map[string]bool{}
	for _, f := range before {
		had[f.Path] = true
	}
	for _, f := range r.files {
		if !had[f.Path] {
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
		fmt.Fprintf(w, "Done: %s dead letters went through again in %.2f s.\n", count(s.In), s.Seconds)
	default:
		fmt.Fprintf(w, "Done: %s events in %.2f s, %s events/s.\n", count(s.In), s.Seconds, count(int64(s.RowsPerS)))
	}
	title(w, "Events")
	t := newTable(w, "-", "this run")
	t.row("in", count(s.In))
	t.row("valid", count(s.In-s.Rejected))
	t.row("duplicates", count(s.Duplicates))
	t.row("out", count(s.Out))
	t.row("rejected", count(s.Rejected))
	t.flush()

	if len(s.RejectedBy) > 0 {
		title(w, "Rejected by reason")
		t = newTable(w, "-class", "-column", "-rule", "this run", "in all")
		for _, why := range slices.Sorted(maps.Keys(r.stats.Rejected)) {
			class, rest, _ := strings.Cut(why, "/")
			column, rule, _ := strings.Cut(rest, "/")
			t.row(class, column, rule, count(s.RejectedBy[why]), count(r.stats.Rejected[why]))
		}
		t.flush()
	}

	if len(r.files) > 0 {
		r.printDates(w)
	}

	title(w, "Outputs")
	t = newTable(w, "-", "-")
	t.row("lake", r.out)
	t.row("metrics", filepath.Join(r.out, "metrics.txt"))
	t.row("dead letters", r.deadLetters())
	t.row("state", r.state())
	t.flush()
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
	title(w, "Files by date")
	t := newTable(w, "-date", "files", "events", "bytes")
	for _, name := range slices.Sorted(maps.Keys(days)) {
		d := days[name]
		t.row(strings.TrimPrefix(name, "date="), count(int64(d.files)), count(d.rows), count(d.bytes))
	}
	t.flush()
}

func title(w io.Writer, s string) { fmt.Fprintf(w, "\n%s\n", s) }

// table aligns its columns: text to the left, numbers to the right.
type table struct {
	w     io.Writer
	left  []bool
	width []int
	rows  [][]string
}

// newTable begins with the titles of the columns. A - marks a column of text; without any
// title there is no line of titles.
func newTable(w io.Writer, titles ...string) *table {
	t := &table{w: w, left: make([]bool, len(titles)), width: make([]int, len(titles))}
	for i, s := range titles {
		titles[i], t.left[i] = strings.CutPrefix(s, "-")
	}
	if strings.Join(titles, "") != "" {
		t.row(titles...)
	}
	return t
}

func (t *table) row(cells ...string) {
	for i, c := range cells {
		t.width[i] = max(t.width[i], utf8.RuneCountInString(c))
	}
	t.rows = append(t.rows, cells)
}

func (t *table) flush() {
	var b strings.Builder
	for _, cells := range t.rows {
		b.Reset()
		for i, c := range cells {
			pad := strings.Repeat(" ", t.width[i]-utf8.RuneCountInString(c))
			if t.left[i] {
				b.WriteString("  " + c + pad)
			} else {
				b.WriteString("  " + pad + c)
			}
		}
		fmt.Fprintln(t.w, strings.TrimRight(b.String(), " "))
	}
}

// count writes 1234567 as 1,234,567.
func count(n int64) string {
	digits, minus := strings.CutPrefix(strconv.FormatInt(n, 10), "-")
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	if minus {
		return "-" + digits
	}
	return digits
}
