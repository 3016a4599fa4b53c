package leattest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/engine"
	"github.com/leatgo/leat/internal/testhook"
)

// TestStage holds a stage against the contract of leat.Stage, in subtests: whatever the
// splits into batches, the interleaving of partitions, rewinds and restarts, the same rows
// give the same output (rule G12). The rows are dealt out to partitions, so there should be
// a few dozen of them; rows that the stage rejects, drops and multiplies should be among
// them. newStage makes the stage as a program that starts again would.
func TestStage[In, Out any, S leat.Stage[In, Out]](t *testing.T, newStage func() S, rows ...In) {
	t.Helper()
	st := newStage()
	_, stateful := any(st).(leat.Stateful)
	if v, ok := any(st).(leat.Validator); ok {
		if err := v.Validate(); err != nil {
			t.Fatalf("Validate: %v", err)
		}
	}
	const partitions = 3
	w := &stageWorld[In, Out]{parts: make([][]In, partitions), make: func() leat.Stage[In, Out] { return newStage() }, stateful: stateful}
	for i, r := range rows {
		w.parts[i%partitions] = append(w.parts[i%partitions], r)
	}
	for _, c := range []struct {
		name     string
		stateful bool // asked of stages with state only
		run      func(w *stageWorld[In, Out])
	}{
		{"one batch", false, (*stageWorld[In, Out]).whole},
		{"any split into batches", false, (*stageWorld[In, Out]).splits},
		{"any interleaving of partitions", false, (*stageWorld[In, Out]).interleave},
		{"rewinds", false, (*stageWorld[In, Out]).rewinds},
		{"restored at every cut", true, (*stageWorld[In, Out]).restored},
	} {
		if c.stateful && !stateful {
			continue
		}
		if !t.Run(c.name, func(t *testing.T) {
			r := draw(t)
			dir := tempDir(t)
			inTime(t, false, func(t *testing.T) {
				own := *w
				own.t, own.r, own.dir = t, r, dir
				c.run(&own)
				w.want = own.want
			})
		}) && w.want == nil {
			return
		}
	}
}

// stageWorld is one check of one stage.
type stageWorld[In, Out any] struct {
	t        *testing.T
	r        *rand.Rand
	dir      string
	parts    [][]In
	make     func() leat.Stage[In, Out]
	stateful bool
	want     []string // of one batch per partition
}

// stageLife is one run.
type stageLife[In, Out any] struct {
	stage  leat.Stage[In, Out]
	source *splitSource[In]
	sink   *Collector[Out]
	state  string // the state folder
	pieces int
}

// run lives once and gives the error of the pipeline.
func (w *stageWorld[In, Out]) run(l *stageLife[In, Out], keep *letterKeeper) error {
	w.t.Helper()
	p := leat.New("leattest", leat.Config{StateDir: l.state, Logger: slog.New(slog.DiscardHandler), DeadLetters: keep, Breaker: leat.Breaker{Share: -1},
		CheckpointEvery: 2 * time.Millisecond, Retry: leat.Retry{First: time.Millisecond, Max: 5 * time.Millisecond}})
	leat.To(leat.Via(leat.From(p, l.source), "stage", l.stage), l.sink)
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Hour)
	defer cancel()
	var err error
	leaked := labelled(func() {
		err = testhook.Run(ctx, p, func(plan *engine.Plan) { plan.Config.StatePieces = l.pieces })
	})
	if ctx.Err() != nil {
		w.t.Fatal("the pipeline had not ended after 1 h: the stage hangs")
	}
	if left := leaked(false); left != "" {
		w.t.Fatalf("rule A7: the pipeline has ended and left goroutines behind:\n%s", left)
	}
	if err == nil {
		for _, fault := range unbalanced(p.Stats()) {
			w.t.Error(fault)
		}
	}
	return err
}

// output shows what came of all rows, by partition.
func output[Out any](sink *Collector[Out], keep *letterKeeper) []string {
	rows := sink.Committed()
	by := map[string][]string{}
	var parts []string
	add := func(partition, line string) {
		if _, ok := by[partition]; !ok {
			parts = append(parts, partition)
		}
		by[partition] = append(by[partition], line)
	}
	for i, at := range sink.Origins() {
		add(at.Partition, fmt.Sprintf("%s, row %d gives %s", at.Partition, at.Offset/step, dump(rows[i])))
	}
	for _, l := range keep.all() {
		add(l.Partition, fmt.Sprintf("%s, row %d is rejected: %s %s/%s %s", l.Partition, l.Offset/step, l.Class, l.Column, l.Rule, l.Error))
	}
	slices.Sort(parts)
	out := []string{}
	for _, p := range parts {
		out = append(out, by[p]...)
	}
	return out
}

func (w *stageWorld[In, Out]) letters() *letterKeeper {
	return &letterKeeper{DeadLetterLog: &memLetters{}}
}

// alone runs once, from the start to the end.
func (w *stageWorld[In, Out]) alone(src *splitSource[In], sink *Collector[Out], pieces int) []string {
	w.t.Helper()
	if err := os.RemoveAll(filepath.Join(w.dir, "state")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		w.t.Fatal(err)
	}
	keep := w.letters()
	if err := w.run(&stageLife[In, Out]{stage: w.make(), source: src, sink: sink, state: filepath.Join(w.dir, "state"), pieces: pieces}, keep); err != nil {
		w.t.Fatal(err)
	}
	return output(sink, keep)
}

// same compares with the output of one batch.
func (w *stageWorld[In, Out]) same(got []string, how string) {
	w.t.Helper()
	d := differ(got, w.want)
	switch {
	case d == "":
	case w.stateful:
		w.t.Fatalf("rule G12: the same rows must give the same output, however they are cut and whatever happens; %s: %s", how, d)
	default:
		w.t.Fatalf("a stage that keeps no state must be a pure function of each row: the engine calls it for any part of the rows, again, and concurrently (rule A4); %s: %s", how, d)
	}
}

func (w *stageWorld[In, Out]) whole() {
	one := func() []string { return w.alone(w.source(1<<30, false), Collect[Out](), 0) }
	w.want = one()
	if len(w.want) == 0 {
		w.t.Error("the rows give no output and no reject: nothing is tested")
	}
	w.same(one(), "the same batches again, by another stage")
}

func (w *stageWorld[In, Out]) splits() {
	for _, most := range []int{1, 2, 3, 7, 20} {
		w.same(w.alone(w.source(most, false), Collect[Out](), 1+w.r.IntN(4)), fmt.Sprintf("in batches of up to %d rows", most))
	}
}

func (w *stageWorld[In, Out]) interleave() {
	n := 25
	if testing.Short() {
		n = 5
	}
	for range n {
		most := 1 + w.r.IntN(10)
		w.same(w.alone(w.source(most, true), Collect[Out](), 1+w.r.IntN(4)), fmt.Sprintf("in batches of up to %d rows, partitions in turns that were drawn", most))
	}
}

func (w *stageWorld[In, Out]) rewinds() {
	n := 15
	if testing.Short() {
		n = 3
	}
	for range n {
		sink := Collect[Out]()
		at := []int{1 + w.r.IntN(3), 1 + w.r.IntN(6)}
		sink.FailCommit(at[0], leat.ErrAborted).FailWrite(at[1], leat.ErrAborted)
		w.same(w.alone(w.source(1+w.r.IntN(5), true), sink, 1+w.r.IntN(4)), fmt.Sprintf("rewound at commit %d and write %d (rule E8: Restore on the same stage)", at[0], at[1]))
	}
}

// restored restarts again and again: each life gets a little further than what is
// committed, and crashes.
func (w *stageWorld[In, Out]) restored() {
	total := 0
	for _, p := range w.parts {
		total += len(p)
	}
	for _, pieces := range []int{1, 3, 1000} { // snapshots each time; some; deltas alone
		if err := os.RemoveAll(filepath.Join(w.dir, "state")); err != nil {
			w.t.Fatal(err)
		}
		sink, keep := Collect[Out](), w.letters()
		for lives := 0; ; lives++ {
			src := w.source(1, true)
			src.stopAfter = 1 + w.r.IntN(3)
			src.ahead = w.r.IntN(4)
			own := sink.Successor()
			var crash atomic.Bool
			own.OnCall(func(call string) error {
				if call == "Commit" && crash.Load() {
					return ErrCrash
				}
				return nil
			})
			src.crash = func() { crash.Store(true) }
			if lives > total {
				src.stopAfter = 0 // to the end
			}
			err := w.run(&stageLife[In, Out]{stage: w.make(), source: src, sink: own, state: filepath.Join(w.dir, "state"), pieces: pieces}, keep)
			if err == nil {
				break
			}
			if !errors.Is(err, ErrCrash) {
				w.t.Fatalf("life %d: %v", lives+1, err)
			}
		}
		w.same(output(sink, keep), fmt.Sprintf("restored after every few rows (rule H1), %d pieces of state before a Snapshot", pieces))
	}
}

// splitSource sends rows in batches and turns that are drawn.
type splitSource[T any] struct {
	parts [][]T
	most  int
	r     *rand.Rand // nil: partition after partition

	stopAfter int // batches to commit, if not 0; then some more are sent, and the crash comes
	ahead     int
	crash     func()

	mu    sync.Mutex
	heard map[string]leat.Position
}

func (w *stageWorld[In, Out]) source(most int, turns bool) *splitSource[In] {
	s := &splitSource[In]{parts: w.parts, most: most, heard: map[string]leat.Position{}}
	if turns {
		s.r = rand.New(rand.NewPCG(w.r.Uint64(), w.r.Uint64()))
	}
	return s
}

func (s *splitSource[T]) Name() string            { return "rows" }
func (s *splitSource[T]) Replay() leat.ReplayKind { return leat.ReplayExact }

func (s *splitSource[T]) Commit(_ context.Context, cp leat.Checkpoint) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for p, at := range cp.Positions {
		s.heard[p] = at
	}
	return nil
}

func (s *splitSource[T]) Run(ctx context.Context, in leat.Intake[T]) error {
	var ask []leat.Partition
	for i := range s.parts {
		ask = append(ask, leat.Partition{Name: fmt.Sprint(i), Log: "leattest"})
	}
	at, err := in.Assign(ask...)
	if err != nil {
		return err
	}
	next := make([]int, len(s.parts))
	var left []int
	for i := range s.parts {
		next[i] = int(at[fmt.Sprint(i)].Next+step-1) / step
		if next[i] < len(s.parts[i]) {
			left = append(left, i)
		}
	}
	send := func() error {
		turn, n := 0, s.most
		if s.r != nil {
			turn, n = s.r.IntN(len(left)), 1+s.r.IntN(s.most)
			time.Sleep(time.Duration(s.r.IntN(int(3 * time.Millisecond))))
		}
		i := left[turn]
		end := min(next[i]+n, len(s.parts[i]))
		if err := in.Send(s.chunk(i, next[i], end)); err != nil {
			return err
		}
		if next[i] = end; end == len(s.parts[i]) {
			left = slices.Delete(left, turn, turn+1)
		}
		return nil
	}
	for sent := 0; len(left) > 0; sent++ {
		if s.stopAfter > 0 && sent == s.stopAfter {
			return s.fall(ctx, in, next, &left, send)
		}
		if err := send(); err != nil {
			return err
		}
	}
	in.CaughtUp()
	return nil
}

// fall waits until what was sent is committed, sends a little more and crashes.
func (s *splitSource[T]) fall(ctx context.Context, in leat.Intake[T], next []int, left *[]int, send func() error) error {
	in.CaughtUp()
	for {
		s.mu.Lock()
		behind := false
		for i, n := range next {
			behind = behind || n > 0 && s.heard[fmt.Sprint(i)].Next < int64(n-1)*step+1
		}
		s.mu.Unlock()
		if !behind {
			break
		}
		select {
		case <-time.After(time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	s.crash()
	for range s.ahead {
		if len(*left) == 0 {
			break
		}
		if err := send(); err != nil {
			return err
		}
	}
	return nil
}

func (s *splitSource[T]) chunk(part, from, to int) leat.Chunk[T] {
	rows := s.parts[part][from:to]
	var nap time.Duration
	if s.r != nil {
		nap = time.Duration(s.r.IntN(int(2 * time.Millisecond)))
	}
	return leat.Chunk[T]{
		Partition: fmt.Sprint(part), First: int64(from) * step, Next: int64(to-1)*step + 1, Bytes: int64(64 * len(rows)),
		Decode: func(_ context.Context, out *leat.Batch[T]) error {
			time.Sleep(nap) // batches overtake each other before they come to stages with state
			for i, r := range rows {
				out.Append(r, i)
			}
			return nil
		},
		Locate: func(records []int) []leat.Origin {
			out := make([]leat.Origin, len(records))
			for k, i := range records {
				out[k] = leat.Origin{Offset: int64(from+i) * step, Raw: fmt.Appendf(nil, "%v", rows[i])}
			}
			return out
		},
	}
}
