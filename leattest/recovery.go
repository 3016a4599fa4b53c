package leattest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
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

// RecoveryHarness tells [TestRecovery] about a pipeline.
type RecoveryHarness[T any] struct {
	// Build makes the pipeline, as a program that starts again would. What must survive a
	// crash lies in dir, or in values outside that dir is the key of: see Collector.In. dir
	// is another one, and empty, for each trial; the input may lie elsewhere if nothing
	// changes it. Config.StateDir defaults to a folder in dir. A pipeline of few rows should
	// have small batches, so that there is something between two checkpoints.
	Build func(t *testing.T, dir string) *leat.Pipeline

	// ReadBack reads what others can see of the sink's rows, in any order. It is called
	// when no pipeline runs.
	ReadBack func(t *testing.T, dir string) []T

	// Want is what ReadBack must give in the end, whatever has happened.
	Want []T

	// Duplicates allows rows to be there more than once: for sinks that promise no more
	// than leat.AtLeastOnce.
	Duplicates bool

	// RealTime runs the pipeline in real time, with short waits.
	RealTime bool

	// Trials is how many faults are tried at most; of more than that some are drawn.
	// Defaults to 300. -short takes a quarter.
	Trials int
}

// TestRecovery runs a pipeline again and again, each time with a fault at another call that
// the engine makes to the outside (sinks, dead letters, checkpoint store, commits of the
// source), restarts it until it ends well, and compares what is there then: nothing lost,
// nothing twice, the same dead letters, the same counters. The faults are a crash before the
// call, a crash after it has taken effect, a transient failure and, for sinks, an abort that
// makes the pipeline rewind. Some of the restarts crash too.
//
// A crash is one within the process: from then on nothing is called any more but Close,
// which discards what is not committed. What a killed process leaves half written, and
// what a power cut takes, is for tests of the sink itself.
func TestRecovery[T any](t *testing.T, h RecoveryHarness[T]) {
	t.Helper()
	if h.Trials == 0 {
		h.Trials = 300
	}
	w := &recovery[T]{h: &h, want: dumps(h.Want), root: tempDir(t)}
	if !t.Run("without a fault", func(t *testing.T) { w.reference(t) }) {
		return
	}
	r := draw(t)
	var all []fault
	for i, c := range w.calls {
		for _, kind := range faultsOf(c) {
			all = append(all, fault{i + 1, c, kind})
		}
	}
	groups := map[string][]fault{}
	for _, i := range some(r, len(all), h.Trials) {
		name := all[i].kind + " " + all[i].name
		groups[name] = append(groups[name], all[i])
	}
	for _, name := range slices.Sorted(maps.Keys(groups)) {
		t.Run(name, func(t *testing.T) {
			r := draw(t)
			for _, f := range groups[name] {
				if w.trial(t, r, f); t.Failed() {
					return
				}
			}
		})
	}
	t.Logf("%d calls to the outside, %d faults", len(w.calls), min(len(all), h.Trials))
}

// fault is one thing that goes wrong in a life.
type fault struct {
	call int // by number, from 1
	name string
	kind string
}

func (f fault) String() string { return fmt.Sprintf("%s %s (call %d)", f.kind, f.name, f.call) }

const (
	crashBefore = "crash before"
	crashAfter  = "crash after"
	transient   = "transient failure of"
	abort       = "abort before"
	abortAfter  = "abort after"
)

// faultsOf lists what can happen at a call.
func faultsOf(call string) []string {
	switch {
	case strings.HasPrefix(call, "store"):
		return []string{crashBefore}
	case strings.HasSuffix(call, ".Write"):
		return []string{crashBefore, crashAfter, transient, abort}
	case strings.HasSuffix(call, ".Commit") && !strings.HasPrefix(call, "source "):
		return []string{crashBefore, crashAfter, transient, abort, abortAfter}
	default:
		return []string{crashBefore, crashAfter, transient}
	}
}

// gate is between the engine and the outside in one life.
type gate struct {
	mu      sync.Mutex
	faults  map[int]string // kind, by number of the call
	calls   []string
	fired   []string
	crashed bool
}

var errGone = errors.New("leattest: the process is gone")

func (g *gate) call(name string, do func() error) error {
	g.mu.Lock()
	if g.crashed {
		g.mu.Unlock()
		return errGone
	}
	g.calls = append(g.calls, name)
	kind := g.faults[len(g.calls)]
	if kind != "" && !slices.Contains(faultsOf(name), kind) { // this life goes another way
		kind = crashBefore
	}
	if kind != "" {
		g.fired = append(g.fired, fault{len(g.calls), name, kind}.String())
	}
	g.crashed = kind == crashBefore
	g.mu.Unlock()
	switch kind {
	case crashBefore:
		return errGone
	case transient:
		return leat.Transient(errors.New("leattest: a transient failure"))
	case abort:
		return leat.ErrAborted
	}
	err := do()
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.crashed: // meanwhile
		return errGone
	case kind == crashAfter:
		g.crashed = true
		return errGone
	case kind == abortAfter && err == nil:
		return leat.ErrAborted
	}
	return err
}

// put places the gate into a plan.
func (g *gate) put(plan *engine.Plan, real bool) {
	c := &plan.Config
	if real {
		c.CheckpointEvery = min(c.CheckpointEvery, 2*time.Millisecond)
		c.Retry.First, c.Retry.Max = min(c.Retry.First, time.Millisecond), min(c.Retry.Max, 5*time.Millisecond)
	}
	pace := c.CheckpointEvery * 3 / 5
	c.Hook = func(point string) error {
		return g.call("store ("+strings.TrimPrefix(point, "engine/")+")", func() error { return nil })
	}
	c.Letters = gatedLetters{c.Letters, g}
	for _, n := range plan.Nodes {
		switch n.Kind {
		case engine.KindSource:
			commit, name := n.Source.Commit, "source "+n.Name+".Commit"
			n.Source.Commit = func(ctx context.Context, cp engine.Checkpoint) error {
				return g.call(name, func() error { return commit(ctx, cp) })
			}
			n.Source.Tap = func(chunk any) {
				if chunk != nil {
					time.Sleep(pace) // so that checkpoints fall between the chunks
				}
			}
		case engine.KindSink:
			s, name := *n.Sink, "sink "+n.Name
			n.Sink.Open = func(ctx context.Context, env engine.Env) error {
				opened := false
				err := g.call(name+".Open", func() error {
					err := s.Open(ctx, env)
					opened = err == nil
					return err
				})
				if err != nil && opened { // the engine does not know; a process that is gone holds no lock
					_ = s.Close()
				}
				return err
			}
			n.Sink.Write = func(ctx context.Context, b engine.Batch) (refused []engine.RowError, err error) {
				err = g.call(name+".Write", func() (err error) {
					refused, err = s.Write(ctx, b)
					return err
				})
				return refused, err
			}
			n.Sink.Commit = func(ctx context.Context, cp engine.Checkpoint) (done bool, err error) {
				err = g.call(name+".Commit", func() (err error) {
					done, err = s.Commit(ctx, cp)
					return err
				})
				return done, err
			}
			if s.Restore != nil {
				n.Sink.Restore = func(ctx context.Context, partitions []string) (at map[string]engine.Position, err error) {
					err = g.call(name+".Restore", func() (err error) {
						at, err = s.Restore(ctx, partitions)
						return err
					})
					return at, err
				}
			}
		}
	}
}

type gatedLetters struct {
	engine.Letters
	g *gate
}

func (l gatedLetters) Open(ctx context.Context, env engine.Env) error {
	return l.g.call("dead letters.Open", func() error { return l.Letters.Open(ctx, env) })
}

func (l gatedLetters) Append(ctx context.Context, letters []engine.Letter) error {
	return l.g.call("dead letters.Append", func() error { return l.Letters.Append(ctx, letters) })
}

func (l gatedLetters) Sync(ctx context.Context) error {
	return l.g.call("dead letters.Sync", func() error { return l.Letters.Sync(ctx) })
}

// recovery is what all trials of one pipeline share.
type recovery[T any] struct {
	h     *RecoveryHarness[T]
	want  []string
	root  string
	dirs  int
	calls []string // of a life without a fault

	letters []string // of it
	stats   leat.Stats
}

func (w *recovery[T]) dir(t *testing.T) string {
	w.dirs++
	dir := filepath.Join(w.root, fmt.Sprint(w.dirs))
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

// life runs the pipeline once.
func (w *recovery[T]) life(t *testing.T, dir string, faults map[int]string) (g *gate, s leat.Stats, letters string, err error) {
	t.Helper()
	p := w.h.Build(t, dir)
	c := testhook.Config(p).(*leat.Config)
	if c.StateDir == "" {
		c.StateDir = filepath.Join(dir, "state")
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.DeadLetters == nil {
		letters = filepath.Join(c.StateDir, "dead-letters.jsonl")
	}
	limit := time.Hour
	if w.h.RealTime {
		limit = time.Minute
	}
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	start := time.Now()
	g = &gate{faults: faults}
	leaked := labelled(func() {
		err = testhook.Run(ctx, p, func(plan *engine.Plan) { g.put(plan, w.h.RealTime) })
	})
	if time.Since(start) >= limit {
		t.Fatalf("a life had not ended after %v; faults: %v", limit, g.fired)
	}
	if left := leaked(w.h.RealTime); left != "" {
		t.Fatalf("rule A7: the pipeline has ended and left goroutines behind; faults: %v\n%s", g.fired, left)
	}
	return g, p.Stats(), letters, err
}

func (w *recovery[T]) reference(t *testing.T) {
	dir := w.dir(t)
	inTime(t, w.h.RealTime, func(t *testing.T) {
		g, s, path, err := w.life(t, dir, nil)
		if err != nil {
			t.Fatalf("the pipeline does not even run without a fault: %v", err)
		}
		w.calls, w.stats, w.letters = g.calls, s, w.read(t, path)
		for _, fault := range unbalanced(s) {
			t.Error(fault)
		}
		lost, extra := compare(dumps(w.h.ReadBack(t, dir)), w.want)
		if len(lost)+len(extra) > 0 {
			t.Fatalf("without a fault ReadBack gives something else than Want: %d missing: %s; %d too many: %s", len(lost), few(lost), len(extra), few(extra))
		}
	})
}

// read gives the letters of the default log, as text.
func (w *recovery[T]) read(t *testing.T, path string) (out []string) {
	if path == "" {
		return nil
	}
	if err := leat.ReadDeadLetters(path, func(l leat.DeadLetter) error {
		out = append(out, fmt.Sprintf("%s refused %s@%d/%d (%s)", l.Node, l.Partition, l.Offset, l.Ordinal, l.Class))
		return nil
	}); err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	slices.Sort(out)
	return out
}

// trial is one pipeline with one fault, and what follows.
func (w *recovery[T]) trial(t *testing.T, r *rand.Rand, f fault) {
	dir := w.dir(t)
	defer os.RemoveAll(dir)
	inTime(t, w.h.RealTime, func(t *testing.T) {
		var story []string
		faults := map[int]string{f.call: f.kind}
		var s leat.Stats
		var path string
		for n := 1; ; n++ {
			g, stats, letters, err := w.life(t, dir, faults)
			s, path = stats, letters
			story = append(story, fmt.Sprintf("life %d: %s; it ended with: %v", n, strings.Join(append(g.fired, fmt.Sprint(len(g.calls), " calls")), ", "), err))
			if err != nil && !g.crashed {
				t.Fatalf("a life that did not crash ended with an error:\n%s", strings.Join(story, "\n"))
			}
			if err == nil && n > 1 { // once more than needed: a restart after the end changes nothing
				break
			}
			faults = nil
			if n < 5 && r.IntN(3) == 0 { // recovery crashes too
				faults = map[int]string{1 + r.IntN(len(w.calls)): []string{crashBefore, crashAfter}[r.IntN(2)]}
			}
		}
		fail := func(format string, args ...any) {
			t.Helper()
			t.Errorf("%s\nafter:\n%s", fmt.Sprintf(format, args...), strings.Join(story, "\n"))
		}
		lost, extra := compare(dumps(w.h.ReadBack(t, dir)), w.want)
		if len(lost) > 0 {
			fail("rule A3: %d of %d rows are lost: %s", len(lost), len(w.want), few(lost))
		}
		if len(extra) > 0 && !w.h.Duplicates {
			fail("rule E1: %d rows are there twice, or should not be there: %s", len(extra), few(extra))
		}
		if w.h.Duplicates {
			if _, foreign := compare(slices.Compact(sorted(extra)), w.want); len(foreign) > 0 {
				fail("rows are there that nobody has sent: %s", few(foreign))
			}
		}
		if d := differ(w.read(t, path), w.letters); d != "" {
			fail("rule B3: the dead letters differ from those of a run without a fault: %s", d)
		}
		for _, fault := range unbalanced(s) {
			fail("%s", fault)
		}
		if d := differ(nodeLines(s), nodeLines(w.stats)); d != "" && !w.h.Duplicates {
			fail("rule A8: the counters differ from those of a run without a fault: %s", d)
		}
	})
}

func sorted(s []string) []string {
	slices.Sort(s)
	return s
}

func nodeLines(s leat.Stats) []string {
	out := make([]string, len(s.Nodes))
	for i, n := range s.Nodes {
		out[i] = fmt.Sprintf("%+v", n)
	}
	return out
}
