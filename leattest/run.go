package leattest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/engine"
	"github.com/leatgo/leat/internal/testhook"
)

// Report is what a run of a pipeline or stage came to.
type Report struct {
	Stats   leat.Stats
	Rejects []Reject          // rows that went to the dead letters in this run, each once, in order of node, partition and offset
	Letters []leat.DeadLetter // the same, whole
	Err     error             // of Pipeline.Run; only with Runner.WantErr it may be one
}

// Reject is a row that was refused. Its String is short, for tables of tests.
type Reject struct {
	Node      string // who refused it
	Partition string
	Offset    leat.Offset // of Rows: the number of the row, from 0
	Class     leat.Class
	Column    string // "" when the error names none
	Rule      string // "" when the error names none; "panic" for a panic (rule A9)
	Error     string
	Panicked  bool
}

// String is offset and reason, as in "3 Contract/total/gt"; "-" stands for no column or
// rule, as in leat.Stats.
func (r Reject) String() string {
	dash := func(s string) string {
		if s == "" {
			return "-"
		}
		return s
	}
	rule := r.Rule
	if rule == "" && r.Panicked {
		rule = "panic"
	}
	return fmt.Sprintf("%d %s/%s/%s", r.Offset, r.Class, dash(r.Column), dash(rule))
}

// Rejected lists the rejects as their Strings.
func (r Report) Rejected() []string {
	out := make([]string, len(r.Rejects))
	for i := range r.Rejects {
		out[i] = r.Rejects[i].String()
	}
	return out
}

// Node finds the counters of a source, stage or sink; all are zero if there is none of
// that name.
func (r Report) Node(name string) leat.NodeStats {
	for _, n := range r.Stats.Nodes {
		if n.Name == name {
			return n
		}
	}
	return leat.NodeStats{}
}

// Runner is how [Run] runs a pipeline. The zero value is what Run itself does.
type Runner struct {
	// RealTime runs in the caller's time instead of a bubble of its own: for ends that
	// wait for the network, and for tests that are in a bubble already.
	RealTime bool

	// Within is when a pipeline that has not ended by itself is stopped and fails the
	// test. Defaults to 1 h, or 1 min with RealTime.
	Within time.Duration

	// For stops the pipeline in an orderly way after this time: for sources that never
	// end. Defaults to 0, which waits for the end of the input.
	For time.Duration

	// WantErr is the error that the run must end with, as errors.Is finds it. Defaults to
	// nil: any error fails the test.
	WantErr error
}

// Run runs a pipeline to the end of its input, in virtual time, and reports what came of
// it. It fails the test when the pipeline ends with an error or not at all, when rows are
// not conserved (rule A8) and when a goroutine is left over (rule A7).
//
// Where the pipeline's Config leaves them out, StateDir becomes a folder of this test
// alone, and the Logger a silent one. A test that builds the pipeline again to see what a
// restart does sets StateDir, to a t.TempDir().
func Run(t *testing.T, p *leat.Pipeline) Report {
	t.Helper()
	return Runner{}.Run(t, p)
}

// Run is as the function of that name.
func (r Runner) Run(t *testing.T, p *leat.Pipeline) Report {
	t.Helper()
	keep := prepare(t, p)
	var report Report
	inTime(t, r.RealTime, func(t *testing.T) {
		t.Helper()
		report = r.run(t, p, keep, func(*engine.Plan) {})
	})
	return report
}

// prepare fills in what a test leaves out.
func prepare(t *testing.T, p *leat.Pipeline) *letterKeeper {
	c := testhook.Config(p).(*leat.Config)
	if c.StateDir == "" {
		c.StateDir = t.TempDir()
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	keep := &letterKeeper{DeadLetterLog: c.DeadLetters}
	if c.DeadLetters == nil {
		keep.DeadLetterLog = leat.DeadLetterFile(filepath.Join(c.StateDir, "dead-letters.jsonl"))
	}
	c.DeadLetters = keep
	return keep
}

func (r Runner) run(t *testing.T, p *leat.Pipeline, keep *letterKeeper, edit func(*engine.Plan)) Report {
	t.Helper()
	within := r.Within
	if within == 0 {
		within = time.Hour
		if r.RealTime {
			within = time.Minute
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	if r.For > 0 {
		ctx, cancel = context.WithTimeout(ctx, r.For)
		defer cancel()
	}
	start := time.Now()
	var err error
	leaked := labelled(func() { err = testhook.Run(ctx, p, edit) })
	took := time.Since(start)

	report := Report{Stats: p.Stats(), Letters: keep.all(), Err: err}
	for _, l := range report.Letters {
		report.Rejects = append(report.Rejects, Reject{Node: l.Node, Partition: l.Partition, Offset: l.Offset, Class: l.Class,
			Column: l.Column, Rule: l.Rule, Error: l.Error, Panicked: l.Stack != ""})
	}
	switch {
	case r.WantErr != nil && !errors.Is(err, r.WantErr):
		t.Errorf("pipeline %s ended with: %v; want: %v", p.Name(), err, r.WantErr)
	case r.WantErr == nil && err != nil:
		t.Errorf("pipeline %s: %v", p.Name(), err)
	}
	if took >= within {
		t.Errorf("pipeline %s had not ended after %v and was stopped; a source that never ends needs Runner.For", p.Name(), within)
	}
	if left := leaked(r.RealTime); left != "" {
		t.Errorf("rule A7: pipeline %s has ended and left goroutines behind:\n%s", p.Name(), left)
	}
	if err == nil {
		for _, fault := range unbalanced(report.Stats) {
			t.Error(fault)
		}
	}
	return report
}

// unbalanced lists the nodes whose rows do not balance (rule A8).
func unbalanced(s leat.Stats) (faults []string) {
	for _, n := range s.Nodes {
		if n.In+n.Added != n.Out+n.Rejected+n.Filtered || min(n.In, n.Added, n.Out, n.Rejected, n.Filtered) < 0 {
			faults = append(faults, fmt.Sprintf("rule A8: the rows of %s %q are not conserved: in %d + added %d, out %d + rejected %d + filtered %d",
				n.Kind, n.Name, n.In, n.Added, n.Out, n.Rejected, n.Filtered))
		}
	}
	return faults
}

// letterKeeper remembers the letters that pass.
type letterKeeper struct {
	leat.DeadLetterLog
	mu      sync.Mutex
	seen    map[string]bool
	letters []leat.DeadLetter
}

func (k *letterKeeper) Append(ctx context.Context, letters []leat.DeadLetter) error {
	k.mu.Lock()
	for _, l := range letters {
		if k.seen == nil {
			k.seen = map[string]bool{}
		}
		if !k.seen[l.ID] { // rule B3-2
			k.seen[l.ID] = true
			k.letters = append(k.letters, l)
		}
	}
	k.mu.Unlock()
	return k.DeadLetterLog.Append(ctx, letters)
}

// Has keeps what the log can do.
func (k *letterKeeper) Has(id string) bool {
	h, ok := k.DeadLetterLog.(interface{ Has(id string) bool })
	return ok && h.Has(id)
}

func (k *letterKeeper) all() []leat.DeadLetter {
	k.mu.Lock()
	defer k.mu.Unlock()
	out := slices.Clone(k.letters)
	slices.SortStableFunc(out, func(a, b leat.DeadLetter) int {
		switch {
		case a.Node != b.Node:
			return strings.Compare(a.Node, b.Node)
		case a.Partition != b.Partition:
			return strings.Compare(a.Partition, b.Partition)
		case a.Offset != b.Offset:
			if a.Offset < b.Offset {
				return -1
			}
			return 1
		}
		return a.Ordinal - b.Ordinal
	})
	return out
}

// memLetters is a log in memory.
type memLetters struct {
	mu  sync.Mutex
	ids map[string]bool
}

func (l *memLetters) Open(context.Context, leat.Env) error { return nil }
func (l *memLetters) Sync(context.Context) error           { return nil }
func (l *memLetters) Close() error                         { return nil }

func (l *memLetters) Append(_ context.Context, letters []leat.DeadLetter) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ids == nil {
		l.ids = map[string]bool{}
	}
	for _, d := range letters {
		l.ids[d.ID] = true
	}
	return nil
}

func (l *memLetters) Has(id string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ids[id]
}
