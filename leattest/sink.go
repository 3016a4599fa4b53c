package leattest

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/engine"
	"github.com/leatgo/leat/internal/testhook"
)

// SinkHarness tells [TestSink] about a sink. New, Row and ReadBack are needed.
type SinkHarness[T any] struct {
	// New makes the sink as a program that starts again, or a second one, would make it:
	// the same name, and the same storage for the same dir. dir is a folder, empty at
	// first, another one for each check; a sink of a server derives the name of a table or
	// topic from it. New is called often.
	New func(t *testing.T, dir string) leat.Sink[T]

	// Row makes row n, from 0: the same each time, and no two alike. ReadBack must give it
	// back as it was.
	Row func(n int) T

	// ReadBack reads what others can see of the rows now; none if there is nothing yet. A
	// sink may be open meanwhile.
	ReadBack func(t *testing.T, dir string) []T

	// Bad makes row n one that the sink refuses for ever. Defaults to nil: there are none.
	Bad func(n int) T

	// Unordered says that ReadBack does not give the rows of a partition in the order in
	// which they were written.
	Unordered bool

	// Trouble makes the storage fail in a way that goes away (a lock, a full disk), until
	// end is called. Defaults to nil: it can't be made.
	Trouble func(t *testing.T, dir string) (end func())

	// Ambiguous makes the sink's next Commit lose its answer, so that it can't know
	// whether it took effect; took says whether it does. Defaults to nil: there is no such
	// moment, or it can't be made.
	Ambiguous func(t *testing.T, dir string, s leat.Sink[T], took bool)

	// RealTime runs the sink in real time: it waits for the network.
	RealTime bool

	// Trials is how many faults are tried at most in the check of recovery; see
	// RecoveryHarness.
	Trials int

	// Skip names subtests that can't hold for this sink, and says why.
	Skip map[string]string
}

// TestSink holds a sink against the contract of leat.Sink, in subtests. What it asks for
// follows from what the sink declares: leat.Transactional, and its leat.Guarantee. Most
// checks call the sink themselves, so that they see each answer; the last ones run it by the
// real engine.
func TestSink[T any](t *testing.T, h SinkHarness[T]) {
	t.Helper()
	for _, c := range []struct {
		name string
		run  func(w *sinkWorld[T])
	}{
		{"commits rows in order", (*sinkWorld[T]).order},
		{"shows nothing before Commit", (*sinkWorld[T]).nothingBefore},
		{"discards at Close what is not committed", (*sinkWorld[T]).discard},
		{"copies what it keeps of a batch", (*sinkWorld[T]).copies},
		{"gives positions back", (*sinkWorld[T]).positions},
		{"moves positions without rows", (*sinkWorld[T]).emptyCommit},
		{"obeys Force", (*sinkWorld[T]).force},
		{"fences an older owner", (*sinkWorld[T]).fence},
		{"fences an older owner with open rows", (*sinkWorld[T]).fenceOpen},
		{"holds what was written through trouble", (*sinkWorld[T]).trouble},
		{"resolves an ambiguous Commit that took effect", func(w *sinkWorld[T]) { w.ambiguous(true) }},
		{"resolves an ambiguous Commit that did not", func(w *sinkWorld[T]) { w.ambiguous(false) }},
		{"takes a row twice", (*sinkWorld[T]).twice},
		{"names bad rows", (*sinkWorld[T]).bad},
	} {
		t.Run(c.name, func(t *testing.T) {
			if why := h.Skip[c.name]; why != "" {
				t.Skip(why)
			}
			r := draw(t)
			dir := tempDir(t)
			inTime(t, h.RealTime, func(t *testing.T) {
				w := &sinkWorld[T]{t: t, h: &h, r: r, dir: dir}
				w.guarantee, w.transactional = describe(h.New(t, dir))
				c.run(w)
			})
		})
	}
	t.Run("recovers", func(t *testing.T) {
		if why := h.Skip["recovers"]; why != "" {
			t.Skip(why)
		}
		guarantee, _ := describe(h.New(t, tempDir(t)))
		var rows []T
		for i := range 24 {
			rows = append(rows, h.Row(i))
		}
		trials := h.Trials
		if trials == 0 {
			trials = 60
		}
		TestRecovery(t, RecoveryHarness[T]{
			Build: func(t *testing.T, dir string) *leat.Pipeline {
				data := filepath.Join(dir, "data")
				if err := os.MkdirAll(data, 0o700); err != nil {
					t.Fatal(err)
				}
				p := leat.New("leattest", leat.Config{StateDir: filepath.Join(dir, "state")})
				leat.To(leat.From(p, Rows(rows...).Partitions(2).Batches(3).Gaps(2)), h.New(t, data))
				return p
			},
			ReadBack:   func(t *testing.T, dir string) []T { return h.ReadBack(t, filepath.Join(dir, "data")) },
			Want:       rows,
			Duplicates: guarantee == leat.AtLeastOnce,
			RealTime:   h.RealTime,
			Trials:     trials,
		})
	})
}

func describe[T any](s leat.Sink[T]) (g leat.Guarantee, transactional bool) {
	if d, ok := s.(leat.Guaranteed); ok {
		g = d.Guarantee()
	}
	_, transactional = s.(leat.Transactional)
	return g, transactional
}

// sinkWorld is one check of one sink.
type sinkWorld[T any] struct {
	t   *testing.T
	h   *SinkHarness[T]
	r   *rand.Rand
	dir string

	guarantee     leat.Guarantee
	transactional bool
}

// owner is one life of a sink, as the engine of one process would lead it.
type owner[T any] struct {
	w    *sinkWorld[T]
	sink leat.Sink[T]
	env  leat.Env
	at   map[string]leat.Position // what Restore gave
	seq  uint64
	sent map[string]int64 // rows written, by partition
}

// step is the distance of two offsets: there are gaps (rule A2).
const step = 3

func behind(rows int64) leat.Position {
	return leat.Position{Next: rows * step, Resume: fmt.Sprintf("row %d", rows), Log: "leattest"}
}

// open begins a life and takes over partitions.
func (w *sinkWorld[T]) open(s leat.Sink[T], partitions ...string) *owner[T] {
	w.t.Helper()
	o, err := w.tryOpen(s, partitions...)
	if err != nil {
		w.t.Fatal(err)
	}
	return o
}

func (w *sinkWorld[T]) tryOpen(s leat.Sink[T], partitions ...string) (*owner[T], error) {
	w.t.Helper()
	if s == nil {
		s = w.h.New(w.t, w.dir)
	}
	if v, ok := s.(leat.Validator); ok {
		if err := v.Validate(); err != nil {
			w.t.Fatalf("Validate: %v", err)
		}
	}
	name := "Sink"
	if n, ok := s.(leat.Named); ok {
		name = n.Name()
	}
	o := &owner[T]{w: w, sink: s, sent: map[string]int64{}}
	o.env = leat.Env{Pipeline: "leattest", Node: name, StateDir: filepath.Join(w.dir, "leattest-state"), Logger: slog.New(slog.DiscardHandler)}
	if err := os.MkdirAll(o.env.StateDir, 0o700); err != nil {
		w.t.Fatal(err)
	}
	if err := w.patiently(func() error { return s.Open(w.t.Context(), o.env) }); err != nil {
		return nil, fmt.Errorf("Open: %w", err)
	}
	if err := o.restore(partitions...); err != nil {
		return o, err
	}
	return o, nil
}

// restore takes partitions over; the rows that the sink holds count as sent.
func (o *owner[T]) restore(partitions ...string) error {
	tx, ok := o.sink.(leat.Transactional)
	if !ok {
		return nil
	}
	err := o.w.patiently(func() (err error) {
		o.at, err = tx.Restore(o.w.t.Context(), partitions)
		return err
	})
	if err != nil {
		return fmt.Errorf("Restore: %w", err)
	}
	for p, at := range o.at {
		o.sent[p] = at.Next / step
	}
	return nil
}

// patiently repeats what is transient a few times, as the engine does.
func (w *sinkWorld[T]) patiently(f func() error) (err error) {
	wait := time.Second
	if w.h.RealTime {
		wait = 20 * time.Millisecond
	}
	for range 5 {
		if err = f(); !leat.IsTransient(err) || errors.Is(err, leat.ErrAborted) || errors.Is(err, leat.ErrFenced) {
			return err
		}
		time.Sleep(wait)
	}
	return err
}

// number is that of row i of a partition: partitions share the rows of the harness.
func number(partition string, i int64) int { return int(2*i) + int(partition[len(partition)-1]-'0') }

// the partitions of all checks.
const (
	p0 = "leattest/0"
	p1 = "leattest/1"
)

func (w *sinkWorld[T]) rows(partition string, from, to int64) []T {
	out := make([]T, 0, to-from)
	for i := from; i < to; i++ {
		out = append(out, w.h.Row(number(partition, i)))
	}
	return out
}

// write sends n more rows of a partition as one batch, which is taken back afterwards.
func (o *owner[T]) write(partition string, n int64) error {
	from := o.sent[partition]
	err := o.writeRows(partition, from, o.w.rows(partition, from, from+n))
	if err == nil {
		o.sent[partition] += n
	}
	return err
}

func (o *owner[T]) writeRows(partition string, from int64, rows []T) error {
	t := o.w.t
	kept := false
	b := new(leat.Batch[T])
	for i, row := range rows {
		b.Append(row, i)
	}
	chunk := &engine.Chunk{Partition: partition, First: from * step, Next: (from + int64(len(rows))) * step}
	chunk.Locate = func(records []int) []engine.Origin {
		if kept {
			t.Error("a batch and its rows are valid only during the call: the sink asked for the origin of a row afterwards")
		}
		out := make([]engine.Origin, len(records))
		for k, i := range records {
			out[k] = engine.Origin{Offset: (from + int64(i)) * step, Raw: []byte("raw")}
		}
		return out
	}
	testhook.Batch(b).Trace().Chunk = chunk
	err := o.sink.Write(t.Context(), b)
	clear(b.Rows()) // who has kept the slice has zeros
	kept = true
	return err
}

// commit makes the engine's cut behind all rows sent.
func (o *owner[T]) commit(force bool) (done bool, err error) {
	cp := leat.Checkpoint{Force: force, Positions: map[string]leat.Position{}}
	for p, n := range o.sent {
		cp.Positions[p] = behind(n)
	}
	return o.commitAt(cp)
}

func (o *owner[T]) commitAt(cp leat.Checkpoint) (done bool, err error) {
	o.seq++
	cp.Seq = o.seq
	err = o.w.patiently(func() (err error) {
		done, err = o.sink.Commit(o.w.t.Context(), cp)
		return err
	})
	return done, err
}

func (o *owner[T]) mustWrite(partition string, n int64) {
	o.w.t.Helper()
	if err := o.w.patiently(func() error { return o.write(partition, n) }); err != nil {
		o.w.t.Fatalf("Write: %v", err)
	}
}

func (o *owner[T]) mustCommit() {
	o.w.t.Helper()
	done, err := o.commit(true)
	if err != nil {
		o.w.t.Fatalf("Commit: %v", err)
	}
	if !done {
		o.w.t.Fatal("rule E9: Commit answered \"not yet\" to a checkpoint with Force")
	}
}

func (o *owner[T]) close() {
	o.w.t.Helper()
	if err := o.sink.Close(); err != nil {
		o.w.t.Errorf("Close: %v", err)
	}
}

// holds checks what others see: the first rows of each partition, n0 and n1 of them.
func (w *sinkWorld[T]) holds(why string, n0, n1 int64) {
	w.t.Helper()
	got := dumps(w.h.ReadBack(w.t, w.dir))
	var want []string
	for p, n := range map[string]int64{p0: n0, p1: n1} {
		own := dumps(w.rows(p, 0, n))
		want = append(want, own...)
		if w.h.Unordered {
			continue
		}
		mine := map[string]bool{}
		for _, row := range own {
			mine[row] = true
		}
		var order []string
		for _, row := range got {
			if mine[row] {
				order = append(order, row)
			}
		}
		if lost, extra := compare(order, own); len(lost)+len(extra) > 0 {
			continue // told below
		}
		if d := differ(order, own); d != "" {
			w.t.Errorf("rule A4: %s: rows of one partition stay in order: %s", why, d)
		}
	}
	lost, extra := compare(got, want)
	if len(lost) > 0 {
		w.t.Errorf("%s: rows are missing: %s", why, few(lost))
	}
	if w.guarantee == leat.AtLeastOnce { // some may be there twice
		_, extra = compare(slices.Compact(sorted(extra)), want)
	}
	if len(extra) > 0 {
		w.t.Errorf("%s: rows are there that should not be, or are there twice: %s", why, few(extra))
	}
}

func (w *sinkWorld[T]) needs(g leat.Guarantee, transactional bool) {
	w.t.Helper()
	if w.guarantee < g {
		w.t.Skipf("the sink declares %q, and this is asked of %q (rule E5)", w.guarantee, g)
	}
	if transactional && !w.transactional {
		w.t.Skip("the sink is not leat.Transactional")
	}
}

func (w *sinkWorld[T]) order() {
	if w.guarantee == leat.ExactlyOnce && !w.transactional {
		w.t.Error("rule E1: the sink declares ExactlyOnce, but keeps no positions: implement leat.Transactional")
	}
	o := w.open(nil, p0, p1)
	o.mustWrite(p0, 5)
	o.mustWrite(p1, 1)
	o.mustWrite(p0, 3)
	o.mustCommit()
	w.holds("after the first Commit", 8, 1)
	o.mustWrite(p1, 7)
	o.mustWrite(p0, 1)
	o.mustCommit()
	o.close()
	w.holds("after the second Commit", 9, 8)
}

func (w *sinkWorld[T]) nothingBefore() {
	w.needs(leat.ExactlyOnce, false)
	o := w.open(nil, p0, p1)
	w.holds("rule E8: after Open", 0, 0)
	o.mustWrite(p0, 4)
	o.mustWrite(p1, 4)
	w.holds("rule E1: before Commit nothing is visible", 0, 0)
	o.mustCommit()
	o.mustWrite(p0, 4)
	w.holds("rule E1: before the second Commit its rows are not visible", 4, 4)
	o.mustCommit()
	o.close()
	w.holds("after Commit", 8, 4)
}

func (w *sinkWorld[T]) discard() {
	w.needs(leat.ExactlyOnce, false)
	s := w.h.New(w.t, w.dir)
	o := w.open(s, p0, p1)
	o.mustWrite(p0, 3)
	o.mustCommit()
	o.mustWrite(p0, 4)
	o.mustWrite(p1, 2)
	o.close()
	w.holds("rule E8: Close without Commit discards", 3, 0)
	for _, again := range []leat.Sink[T]{s, nil} { // a rewind opens the same value, a restart a new one
		o = w.open(again, p0, p1)
		w.heldAt(o, 3, -1)
		w.holds("rule E8: what Close has discarded does not come back", 3, 0)
		o.close()
	}
	o = w.open(s, p0, p1)
	if !w.transactional {
		o.sent[p0] = 3
	}
	o.mustWrite(p0, 2)
	o.mustCommit()
	o.close()
	w.holds("rule E8: after the next life's Commit", 5, 0)
}

// heldAt checks what Restore gave: rows by partition, -1 for nothing.
func (w *sinkWorld[T]) heldAt(o *owner[T], n0, n1 int64) {
	w.t.Helper()
	if !w.transactional {
		return
	}
	for p, n := range map[string]int64{p0: n0, p1: n1} {
		at, ok := o.at[p]
		switch {
		case n < 0 && ok:
			w.t.Errorf("rule E7: the sink holds nothing of partition %s: it must be missing from what Restore gives, which is %+v", p, at)
		case n >= 0 && at != behind(n):
			w.t.Errorf("rule E1: Restore gives %+v for partition %s, and %+v was committed", at, p, behind(n))
		}
	}
}

func (w *sinkWorld[T]) copies() {
	o := w.open(nil, p0)
	for range 5 {
		o.mustWrite(p0, 3) // each batch is cleared after the call
	}
	o.mustCommit()
	o.close()
	w.holds("a batch is valid only during Write", 15, 0)
}

func (w *sinkWorld[T]) positions() {
	if !w.transactional {
		w.t.Skip("the sink is not leat.Transactional")
	}
	o := w.open(nil, p0, p1)
	w.heldAt(o, -1, -1)
	o.mustWrite(p0, 4)
	o.mustCommit()
	o.close()
	o = w.open(nil, p0, p1)
	w.heldAt(o, 4, -1)
	o.close()
	o = w.open(nil, p0) // the other one is not asked for
	if at, ok := o.at[p1]; ok {
		w.t.Errorf("Restore was not asked for partition %s and gives %+v", p1, at)
	}
	if err := o.restore(p1); err != nil { // a partition that comes later (rule H5)
		w.t.Fatal(err)
	}
	o.mustWrite(p1, 2)
	o.mustCommit()
	o.close()
	o = w.open(nil, p0, p1)
	w.heldAt(o, 4, 2)
	o.close()
	w.holds("after four lives", 4, 2)
}

func (w *sinkWorld[T]) emptyCommit() {
	if !w.transactional {
		w.t.Skip("the sink is not leat.Transactional")
	}
	o := w.open(nil, p0, p1)
	o.mustCommit() // nothing at all
	o.mustWrite(p0, 2)
	o.mustCommit()
	o.mustCommit() // nothing new
	cp := leat.Checkpoint{Force: true, Positions: map[string]leat.Position{p0: behind(7), p1: behind(3)}}
	if done, err := o.commitAt(cp); err != nil || !done {
		w.t.Fatalf("Commit of positions that moved without rows (they were all filtered): %v, %v", done, err)
	}
	o.close()
	o = w.open(nil, p0, p1)
	if o.at[p0] != behind(7) || o.at[p1] != behind(3) {
		w.t.Errorf("rule E1: positions move also when no row came: Restore gives %+v", o.at)
	}
	o.close()
	w.holds("after commits without rows", 2, 0)
}

func (w *sinkWorld[T]) force() {
	o := w.open(nil, p0, p1)
	later := int64(0)
	for i := range 6 {
		o.mustWrite(p0, 2)
		done, err := o.commit(i%3 == 2)
		if err != nil {
			w.t.Fatalf("Commit: %v", err)
		}
		if !done && i%3 == 2 {
			w.t.Fatal("rule E9: Commit answered \"not yet\" to a checkpoint with Force")
		}
		if done {
			w.holds("rule E9: Commit says done, so everything written before is visible", o.sent[p0], 0)
			later = 0
		} else {
			later += 2
			if w.guarantee == leat.ExactlyOnce {
				w.holds("rule E9: Commit says \"not yet\", so nothing is visible", o.sent[p0]-later, 0)
			}
		}
	}
	o.close()
}

func (w *sinkWorld[T]) fence() {
	if !w.transactional {
		w.t.Skip("the sink is not leat.Transactional")
	}
	old := w.open(nil, p0, p1)
	old.mustWrite(p0, 3)
	old.mustCommit()
	now, err := w.tryOpen(nil, p0, p1)
	if leat.IsTransient(err) {
		old.mustWrite(p0, 2)
		w.keptOut(old, now)
		return
	}
	if err != nil {
		w.t.Fatal(err)
	}
	w.heldAt(now, 3, -1)

	err = old.write(p0, 2)
	if err == nil {
		_, err = old.commit(true)
	}
	w.isFenced(err)
	w.holds("rule E3: nothing of the fenced owner's is visible", 3, 0)
	now.mustWrite(p0, 4)
	now.mustCommit()
	w.holds("rule E3: the new owner goes on", 7, 0)
	_ = old.sink.Close()
	w.holds("rule E3: the fenced owner's Close changes nothing", 7, 0)
	now.mustWrite(p1, 1)
	now.mustCommit()
	now.close()
	w.holds("rule E3: after the new owner's second Commit", 7, 1)
}

// keptOut is for sinks that keep a second owner out, with a lock, as long as the first one
// lives or has open rows: then that one must be able to commit them.
func (w *sinkWorld[T]) keptOut(old, now *owner[T]) {
	w.t.Helper()
	if now != nil {
		_ = now.sink.Close()
	}
	old.mustCommit()
	old.close()
	now = w.open(nil, p0)
	w.heldAt(now, 5, -1)
	now.close()
	w.holds("rule E2: the older owner kept the new one out until it was done", 5, 0)
}

// isFenced demands the answer of an owner that has lost its partitions.
func (w *sinkWorld[T]) isFenced(err error) {
	w.t.Helper()
	switch {
	case err == nil:
		w.t.Fatal("rule E3: another owner had taken the partition over (rule E2), and a commit of the fenced owner was accepted")
	case !errors.Is(err, leat.ErrFenced):
		w.t.Fatalf("rule E3: another owner has taken the partition over: the answer must be leat.ErrFenced or leat.Fenced, and is: %v", err)
	}
	var named *engine.FencedError
	if errors.As(err, &named) && !slices.Contains(named.Partitions, p0) {
		w.t.Errorf("rule E3: leat.Fenced names %q, and not %s, which was taken over", named.Partitions, p0)
	}
}

func (w *sinkWorld[T]) fenceOpen() {
	if !w.transactional {
		w.t.Skip("the sink is not leat.Transactional")
	}
	old := w.open(nil, p0)
	old.mustWrite(p0, 3)
	old.mustCommit()
	old.mustWrite(p0, 2)
	now, err := w.tryOpen(nil, p0)
	if leat.IsTransient(err) {
		w.keptOut(old, now)
		return
	}
	if err != nil {
		w.t.Fatal(err)
	}
	w.heldAt(now, 3, -1)
	_, err = old.commit(true)
	w.isFenced(err)
	w.holds("rule E3: a commit of the fenced owner became visible", 3, 0)
	_ = old.sink.Close()
	now.mustWrite(p0, 4)
	now.mustCommit()
	now.close()
	w.holds("rule E3: the new owner goes on", 7, 0)
}

func (w *sinkWorld[T]) trouble() {
	if w.h.Trouble == nil {
		w.t.Skip("SinkHarness.Trouble is not set")
	}
	o := w.open(nil, p0)
	o.mustWrite(p0, 3)
	o.mustCommit()
	first, o := w.through(o, 0)
	second, o := w.through(o, 2)
	o.close()
	if !first && !second {
		w.t.Error("SinkHarness.Trouble had no effect on Write and Commit, so nothing was tested")
	}
}

// through leads the sink through trouble: rows are written before it and 2 during it.
func (w *sinkWorld[T]) through(o *owner[T], before int64) (met bool, _ *owner[T]) {
	t := w.t
	t.Helper()
	base := o.sent[p0]
	if before > 0 {
		o.mustWrite(p0, before)
	}
	end := w.h.Trouble(t, w.dir)
	aborted := false
	judge := func(call string, err error) {
		t.Helper()
		met = met || err != nil
		switch {
		case errors.Is(err, leat.ErrAborted): // rule E8: the open rows are gone, and it says so
			aborted = true
		case err != nil && !leat.IsTransient(err):
			end()
			t.Fatalf("rule B8: trouble that goes away must be marked with leat.Transient, or rows are condemned for it; %s gave: %v", call, err)
		}
	}
	errWrite := o.write(p0, 2)
	judge("Write", errWrite)
	if errWrite == nil {
		_, err := o.sink.Commit(t.Context(), leat.Checkpoint{Seq: 99, Force: true, Positions: map[string]leat.Position{p0: behind(o.sent[p0])}})
		judge("Commit", err)
	}
	end()
	switch {
	case aborted:
		o.close()
		o = w.open(o.sink, p0)
		if !w.transactional {
			o.sent[p0] = base
		}
		w.heldAt(o, base, -1)
		o.mustWrite(p0, before+2)
	case errWrite != nil:
		o.mustWrite(p0, 2)
	}
	o.mustCommit()
	w.holds(fmt.Sprintf("rule B8: once the trouble is over, what was written before (%d rows) and during it is there", before), base+before+2, 0)
	return met, o
}

func (w *sinkWorld[T]) ambiguous(took bool) {
	if w.h.Ambiguous == nil {
		w.t.Skip("SinkHarness.Ambiguous is not set")
	}
	w.needs(leat.Idempotent, false)
	t := w.t
	s := w.h.New(t, w.dir)
	o := w.open(s, p0)
	o.mustWrite(p0, 3)
	o.mustCommit()
	o.mustWrite(p0, 2)
	w.h.Ambiguous(t, w.dir, s, took)
	done, err := o.commit(true)
	switch {
	case err == nil && done:
		if !took {
			w.holds("rule E4: the commit did not take effect at first, but Commit said done", 5, 0)
		}
	case errors.Is(err, leat.ErrFenced):
		t.Error("rule E4: nobody else has the partition, but the ambiguous commit was taken for a fence")
	case err == nil:
		t.Error("rule E4: an ambiguous commit is resolved by reading the sink's own position; the answer is \"not yet\"")
	case leat.IsTransient(err) && !errors.Is(err, leat.ErrAborted):
		t.Errorf("rule E4: an ambiguous commit is resolved by reading the sink's own position; it was repeated 5 times, and the answer is still: %v", err)
	default:
		// The pipeline rewinds and opens the same sink, or it ends, and another program
		// opens another one.
		o.close()
		if !errors.Is(err, leat.ErrAborted) {
			s = nil
		}
		o = w.open(s, p0)
		at := o.at[p0]
		if !w.transactional { // it does not know, and gets the rows again
			at, o.sent[p0] = behind(3), 3
		}
		switch at {
		case behind(3):
			if took && w.transactional {
				t.Error("rule E4: the commit took effect, and after the rewind Restore gives the position before it")
			}
			o.mustWrite(p0, 2)
			o.mustCommit()
		case behind(5): // also when it had not taken effect: rule F1, recovery may roll forward
		default:
			t.Errorf("rule E4: after the rewind Restore gives %+v, which was never committed", at)
		}
	}
	o.close()
	w.holds("rule E4: after an ambiguous commit each row is there once", 5, 0)
	o = w.open(nil, p0)
	w.heldAt(o, 5, -1)
	o.close()
}

func (w *sinkWorld[T]) twice() {
	if w.guarantee != leat.Idempotent {
		w.t.Skip("asked of sinks that declare Idempotent")
	}
	o := w.open(nil, p0)
	o.mustWrite(p0, 4)
	o.mustCommit()
	o.close()
	o = w.open(nil, p0)
	o.sent[p0] = 1
	o.mustWrite(p0, 5)
	o.mustCommit()
	o.close()
	w.holds("rule E6: rows that are delivered twice are there once", 6, 0)
}

// bad runs the engine: it is the one that knows what to do with each answer.
func (w *sinkWorld[T]) bad() {
	t, h := w.t, w.h
	if h.Bad == nil {
		t.Skip("SinkHarness.Bad is not set: the sink refuses no row")
	}
	for _, size := range []int{1, 5, 40} {
		dir := filepath.Join(w.dir, fmt.Sprint(size))
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		bad := map[int]bool{0: true, 39: true}
		for range 6 {
			bad[w.r.IntN(40)] = true
		}
		var rows, good []T
		var want []string
		for i := range 40 {
			if bad[i] {
				rows = append(rows, h.Bad(i))
				want = append(want, fmt.Sprintf("%d %s", i, leat.SinkReject))
			} else {
				rows = append(rows, h.Row(i))
				good = append(good, h.Row(i))
			}
		}
		p := leat.New("leattest", leat.Config{StateDir: filepath.Join(w.dir, fmt.Sprint("state-", size)), Breaker: leat.Breaker{Share: -1},
			Retry: leat.Retry{First: time.Millisecond, Max: 10 * time.Millisecond}})
		leat.To(leat.From(p, Rows(rows...).Batches(size)), h.New(t, dir))
		report := Runner{RealTime: h.RealTime}.run(t, p, prepare(t, p), func(*engine.Plan) {})
		var got []string
		for _, r := range report.Rejects {
			got = append(got, fmt.Sprintf("%d %s", r.Offset, r.Class))
		}
		if d := differ(got, want); d != "" {
			t.Errorf("rule B5: a bad row is rejected alone, with class SinkReject; in batches of %d: %s", size, d)
		}
		lost, extra := compare(dumps(h.ReadBack(t, dir)), dumps(good))
		if len(lost) > 0 {
			t.Errorf("rule B5: one bad row never costs its neighbours; in batches of %d these good rows are missing: %s", size, few(lost))
		}
		if len(extra) > 0 && w.guarantee > leat.AtLeastOnce {
			t.Errorf("rule B5: when Write names bad rows nothing of the batch is written; in batches of %d these rows are there twice, or should not be there: %s", size, few(extra))
		}
	}
}
