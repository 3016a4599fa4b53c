package leattest

import (
	"context"
	"errors"
	"fmt"
	"io"
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

// SourceHarness tells [TestSource] about a source. Only New is needed.
type SourceHarness[T any] struct {
	// New makes the source as a program that starts again would make it: the same input,
	// which exists and does not change, the same name. It is called often. size is how
	// much one chunk should hold, in the source's own unit (bytes, rows): 0 for its
	// default, 1 for as little as it can; a source that has no such setting ignores it. Rows and
	// offsets must not depend on it.
	New func(t *testing.T, size int) leat.Source[T]

	// Want are the rows of the input, partition after partition in order of their names,
	// each in order. Defaults to nil: what the first reading gives is taken to be right.
	Want []T

	// WantRejects is how many records can't be decoded; looked at if Want is set.
	WantRejects int

	// Endless says that the source waits for more when it has sent everything there is.
	// It must then call CaughtUp.
	Endless bool

	// RealTime runs the source in real time: it waits for the network, or for
	// notifications of the file system.
	RealTime bool

	// Skip names subtests that can't hold for this source, and says why.
	Skip map[string]string
}

// TestSource holds a source against the contract of leat.Source, in subtests. It runs the
// real engine, with a state folder of its own for each of them, which a source is given in
// Intake.Env. What it asks for follows from the ReplayKind that the source declares.
func TestSource[T any](t *testing.T, h SourceHarness[T]) {
	t.Helper()
	for _, c := range []struct {
		name string
		run  func(w *sourceWorld[T])
	}{
		{"reads everything in order", (*sourceWorld[T]).order},
		{"decodes and locates", (*sourceWorld[T]).decode},
		{"reads dead letters again", (*sourceWorld[T]).letters},
		{"rows outlive their chunk", (*sourceWorld[T]).outlive},
		{"replays from every position", (*sourceWorld[T]).replay},
		{"is cancelled at any moment", (*sourceWorld[T]).cancel},
		{"is cancelled while Send waits", (*sourceWorld[T]).cancelInSend},
		{"is run again after a rewind", (*sourceWorld[T]).rewind},
		{"hears commits during Run and repeated", (*sourceWorld[T]).commits},
		{"goes on without a commit that was lost", (*sourceWorld[T]).lostCommit},
		{"refuses the position of another log", (*sourceWorld[T]).foreign},
		{"refuses a position beyond the end", (*sourceWorld[T]).beyond},
		{"is closed without Run and twice", (*sourceWorld[T]).closing},
	} {
		t.Run(c.name, func(t *testing.T) {
			if why := h.Skip[c.name]; why != "" {
				t.Skip(why)
			}
			r := draw(t)
			dir := tempDir(t)
			inTime(t, h.RealTime, func(t *testing.T) {
				w := &sourceWorld[T]{t: t, h: &h, r: r, root: dir}
				w.fresh()
				c.run(w)
			})
		})
	}
}

// sourceWorld is one check of one source.
type sourceWorld[T any] struct {
	t   *testing.T
	h   *SourceHarness[T]
	r   *rand.Rand
	dir string // the state folder

	root string
	dirs int
}

// reading is one run of the source: what came out of it.
type reading[T any] struct {
	src      leat.Source[T]
	rows     map[string][]sourceRow[T] // by partition, qualified
	rejects  []leat.DeadLetter
	chunks   []chunkAt
	held     map[string]leat.Position // what the sink committed
	err      error
	returned time.Duration // from the end of its context to the end of Run
}

type sourceRow[T any] struct {
	row    T
	offset leat.Offset
	text   string // the row as it was when it came
}

type chunkAt struct {
	partition   string // not qualified
	first, next leat.Offset
	resume      string
}

// lines shows the rows of all partitions, each with its place.
func (r *reading[T]) lines(from map[string]leat.Position) (out []string) {
	for _, p := range slices.Sorted(maps.Keys(r.rows)) {
		for _, row := range r.rows[p] {
			if row.offset >= from[p].Next {
				out = append(out, fmt.Sprintf("%s@%d %s", p, row.offset, row.text))
			}
		}
	}
	return out
}

// texts shows the rows without their places.
func (r *reading[T]) texts(from map[string]leat.Position) (out []string) {
	for _, p := range slices.Sorted(maps.Keys(r.rows)) {
		for _, row := range r.rows[p] {
			if row.offset >= from[p].Next {
				out = append(out, row.text)
			}
		}
	}
	return out
}

func (r *reading[T]) refused(from map[string]leat.Position) (out []string) {
	for _, l := range r.rejects {
		if l.Offset >= from[l.Partition].Next {
			out = append(out, fmt.Sprintf("%s@%d %s: %s", l.Partition, l.Offset, l.Class, l.Error))
		}
	}
	return out
}

// life is how one run goes.
type life[T any] struct {
	size  int
	src   leat.Source[T]                              // instead of a new one
	start map[string]leat.Position                    // what the sink says it holds; qualified
	tap   func(ctx context.Context, c *leat.Chunk[T]) // sees each chunk before it is sent
	write func(ctx context.Context) error             // before each Write
	edit  func(plan *engine.Plan)
	sink  func(call string, n int) error // before the n-th Write or Commit
	every time.Duration
	keep  bool // the engine's store of the life before
	ctx   context.Context
	batch int
}

// read runs the source once.
func (w *sourceWorld[T]) read(l life[T]) *reading[T] {
	t := w.t
	t.Helper()
	if !l.keep { // where reading starts is then what the sink says (rule E7-1)
		for _, name := range []string{"checkpoints.db", "dead-letters.jsonl"} {
			if err := os.Remove(filepath.Join(w.dir, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
				t.Fatal(err)
			}
		}
	}
	out := &reading[T]{src: l.src, rows: map[string][]sourceRow[T]{}, held: maps.Clone(l.start)}
	if out.src == nil {
		out.src = w.h.New(t, l.size)
	}
	if out.held == nil {
		out.held = map[string]leat.Position{}
	}
	ctx := l.ctx
	if ctx == nil {
		ctx = t.Context()
	}
	limit := time.Hour
	if w.h.RealTime {
		limit = 30 * time.Second
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	sink := &sourceSink[T]{out: out, life: &l}
	letters := &letterKeeper{DeadLetterLog: &memLetters{}}
	p := leat.New("leattest", leat.Config{StateDir: w.dir, Logger: slog.New(slog.DiscardHandler), DeadLetters: letters, Breaker: leat.Breaker{Share: -1},
		CheckpointEvery: l.every, BudgetBatches: l.batch, DrainTimeout: 10 * time.Second, Retry: leat.Retry{First: time.Millisecond, Max: 10 * time.Millisecond}})
	leat.To(leat.From(p, out.src), sink)
	var mu sync.Mutex
	var quiet *time.Timer // runs while a source that never ends has nothing to send
	calm := func(on bool) {
		mu.Lock()
		defer mu.Unlock()
		if quiet != nil {
			quiet.Stop()
		}
		if on && w.h.Endless {
			quiet = time.AfterFunc(10*time.Second/time.Duration(w.hurry()), cancel)
		}
	}
	start := time.Now()
	leaked := labelled(func() {
		out.err = testhook.Run(ctx, p, func(plan *engine.Plan) {
			src := plan.Nodes[0].Source
			run := src.Run
			src.Run = func(ctx context.Context, in *engine.Intake) error {
				calm(false)
				src.Tap = func(chunk any) {
					calm(chunk == nil)
					if chunk == nil {
						return
					}
					c := chunk.(*leat.Chunk[T])
					mu.Lock()
					out.chunks = append(out.chunks, chunkAt{c.Partition, c.First, c.Next, c.Resume})
					mu.Unlock()
					if l.tap != nil {
						l.tap(ctx, c)
					}
				}
				var ended time.Time
				stop := context.AfterFunc(ctx, func() {
					mu.Lock()
					ended = time.Now()
					mu.Unlock()
				})
				err := run(ctx, in)
				stop()
				mu.Lock()
				if !ended.IsZero() {
					out.returned = max(out.returned, time.Since(ended))
				}
				mu.Unlock()
				return err
			}
			if l.edit != nil {
				l.edit(plan)
			}
		})
	})
	out.rejects = letters.all()
	if time.Since(start) >= limit {
		t.Fatalf("the source had not ended after %v; one that waits for more sets Endless, and calls CaughtUp (rule A6)", limit)
	}
	if left := leaked(w.h.RealTime); left != "" {
		t.Fatalf("rule A7: the source's Run has returned and left goroutines behind:\n%s", left)
	}
	if out.err == nil {
		for _, fault := range unbalanced(p.Stats()) {
			t.Error(fault)
		}
	}
	return out
}

// fresh begins with an empty state folder, as at the very first start.
func (w *sourceWorld[T]) fresh() {
	w.dirs++
	w.dir = filepath.Join(w.root, fmt.Sprint(w.dirs))
}

// whole reads everything and demands that it works.
func (w *sourceWorld[T]) whole(l life[T]) *reading[T] {
	w.t.Helper()
	out := w.read(l)
	if out.err != nil {
		w.t.Fatalf("reading everything: %v", out.err)
	}
	return out
}

func (w *sourceWorld[T]) replayKind() leat.ReplayKind {
	if r, ok := w.h.New(w.t, 0).(leat.Replayer); ok {
		return r.Replay()
	}
	return leat.ReplayNone
}

// needs skips the check for sources that promise less.
func (w *sourceWorld[T]) needs(kind leat.ReplayKind) leat.ReplayKind {
	own := w.replayKind()
	if own < kind {
		w.t.Skipf("the source declares less than this asks for: leat.ReplayKind %d (rule A2-2)", own)
	}
	return own
}

// size draws how much one chunk holds.
func (w *sourceWorld[T]) size() int { return []int{0, 1, 2 + w.r.IntN(200)}[w.r.IntN(3)] }

// positions are those behind each chunk of a reading, qualified.
func (w *sourceWorld[T]) positions(r *reading[T]) []map[string]leat.Position {
	out := []map[string]leat.Position{nil}
	for _, c := range r.chunks {
		name := w.qualified(r.src, c.partition)
		out = append(out, map[string]leat.Position{name: {Next: c.next, Resume: c.resume, Log: r.held[name].Log}})
	}
	return out
}

func (w *sourceWorld[T]) qualified(src leat.Source[T], partition string) string {
	name := "Source"
	if n, ok := src.(leat.Named); ok && n.Name() != "" {
		name = n.Name()
	}
	if partition == "" {
		return name
	}
	return name + "/" + partition
}

func (w *sourceWorld[T]) order() {
	t, h := w.t, w.h
	src := h.New(t, 0)
	if n, ok := src.(leat.Named); !ok || n.Name() == "" {
		t.Error("the source has no Name: a name that is stable keys positions, metrics and dead letters; implement leat.Named")
	} else if again, ok := h.New(t, 1).(leat.Named); ok && again.Name() != n.Name() {
		t.Errorf("the source's name changes from %q to %q when it is made again: it keys positions, so it must be stable", n.Name(), again.Name())
	}
	if v, ok := src.(leat.Validator); ok {
		if err := v.Validate(); err != nil {
			t.Fatalf("Validate: %v", err)
		}
	}
	var first *reading[T]
	for _, size := range []int{0, 1, 2 + w.r.IntN(100)} {
		r := w.whole(life[T]{size: size})
		end := map[string]leat.Offset{}
		for _, c := range r.chunks {
			if at, ok := end[c.partition]; ok && c.first < at {
				t.Errorf("rule A2: offsets grow: a chunk of partition %q begins at %d, and the one before ended at %d", c.partition, c.first, at)
			}
			end[c.partition] = c.next
		}
		for p, rows := range r.rows {
			if at := r.held[p]; at.Log == "" {
				t.Errorf("rule A2-1: partition %s has no Log: it names the offset space, so that a replaced input is found out", p)
			}
			for i, row := range rows {
				if i > 0 && row.offset < rows[i-1].offset {
					t.Fatalf("rule A2: offsets grow: row %d of partition %s is at %d, behind one at %d", i, p, row.offset, rows[i-1].offset)
				}
			}
		}
		if first == nil {
			first = r
			continue
		}
		if w.replayKind() != leat.ReplayExact {
			continue
		}
		if d := differ(r.lines(nil), first.lines(nil)); d != "" {
			t.Errorf("rule D6: rows and their offsets depend on the size of chunks (%d, and the default): %s", size, d)
		}
		if d := differ(r.refused(nil), first.refused(nil)); d != "" {
			t.Errorf("rule D6: rejected records depend on the size of chunks (%d, and the default): %s", size, d)
		}
	}
	if h.Want == nil {
		if len(first.texts(nil))+len(first.rejects) == 0 {
			t.Error("the input has no rows: nothing is tested")
		}
		return
	}
	if d := differ(first.texts(nil), dumps(h.Want)); d != "" {
		t.Errorf("the rows are not those that are wanted: %s", d)
	}
	if len(first.rejects) != h.WantRejects {
		t.Errorf("%d records were rejected, want %d: %s", len(first.rejects), h.WantRejects, few(first.refused(nil)))
	}
}

func (w *sourceWorld[T]) decode() {
	w.decodeWith(0)
	w.decodeWith(w.size())
}

func (w *sourceWorld[T]) decodeWith(size int) {
	t := w.t
	w.whole(life[T]{size: size, tap: func(ctx context.Context, c *leat.Chunk[T]) {
		type pass struct {
			rows, rejects []string
			batch         *leat.Batch[T]
			records       []int // of the rows
			bad           []int
		}
		decoded := func() (p pass, err error) {
			p.batch = new(leat.Batch[T])
			if err := c.Decode(ctx, p.batch); err != nil {
				return p, err
			}
			b := testhook.Batch(p.batch)
			for i, row := range p.batch.Rows() {
				p.records = append(p.records, b.Trace().Record(i))
				p.rows = append(p.rows, fmt.Sprintf("record %d: %s", p.records[i], dump(row)))
			}
			for _, r := range b.Rejects() {
				p.bad = append(p.bad, r.Record)
				p.rejects = append(p.rejects, fmt.Sprintf("record %d: %s: %v", r.Record, r.Class, r.Err))
			}
			return p, nil
		}
		if t.Failed() {
			return
		}
		place := fmt.Sprintf("chunk %d to %d", c.First, c.Next)
		a, errA := decoded()
		records := append(slices.Clone(a.records), a.bad...)
		slices.Sort(records)
		located := make(chan []leat.Origin) // concurrently with Decode
		go func() { located <- c.Locate(records) }()
		b, errB := decoded()
		origins := <-located
		if (errA == nil) != (errB == nil) {
			t.Errorf("%s: Decode must give the same each time: first %v, then %v", place, errA, errB)
		}
		if errA != nil || errB != nil {
			return // the engine decodes it again, and tells
		}
		if d := differ(append(b.rows, b.rejects...), append(a.rows, a.rejects...)); d != "" {
			t.Errorf("%s: Decode must give the same rows each time (the engine repeats it): %s", place, d)
			return
		}
		if len(records) == 0 {
			return
		}
		if len(origins) != len(records) {
			t.Errorf("%s: Locate was asked for %d records and found %d", place, len(records), len(origins))
			return
		}
		offsets := make([]leat.Offset, len(records))
		if c.Offsets != nil {
			c.Offsets(records, offsets)
		}
		at := map[int]leat.Origin{}
		for i, o := range origins {
			if c.Offsets != nil && offsets[i] != o.Offset {
				t.Errorf("%s: record %d is at offset %d by Locate, at %d by Offsets", place, records[i], o.Offset, offsets[i])
			}
			at[records[i]] = o
			if o.Offset < c.First || o.Offset >= c.Next {
				t.Errorf("rule A2: %s: record %d is at offset %d, which is outside of it", place, records[i], o.Offset)
			}
			if i > 0 && records[i] != records[i-1] && o.Offset <= origins[i-1].Offset {
				t.Errorf("rule A2: %s: record %d is at offset %d, the one before it at %d; offsets grow", place, records[i], o.Offset, origins[i-1].Offset)
			}
			if i > 0 && records[i] == records[i-1] && o.Offset != origins[i-1].Offset {
				t.Errorf("%s: Locate gave two offsets for record %d", place, records[i])
			}
		}
		// One of them; a number may come twice.
		for _, n := range []int{records[len(records)-1], records[w.r.IntN(len(records))]} {
			one := c.Locate([]int{n, n})
			if len(one) != 2 || dump(one[0]) != dump(at[n]) || dump(one[1]) != dump(at[n]) {
				t.Errorf("%s: Locate of record %d alone and of all records disagree", place, n)
			}
		}
	}})
}

// letters reads records again from what a dead letter would keep of them.
func (w *sourceWorld[T]) letters() {
	t := w.t
	source, ok := w.h.New(t, 0).(leat.LetterDecoder[T])
	if !ok {
		t.Skip("the source is no leat.LetterDecoder: its dead letters can't be replayed")
	}
	left := 100
	w.whole(life[T]{size: w.size(), tap: func(ctx context.Context, c *leat.Chunk[T]) {
		b := new(leat.Batch[T])
		if c.Decode(ctx, b) != nil {
			return
		}
		trace := testhook.Batch(b).Trace()
		for i, row := range b.Rows() {
			n := trace.Record(i)
			if i > 0 && trace.Record(i-1) == n || i+1 < b.Len() && trace.Record(i+1) == n {
				continue // one of several of its record
			}
			if left--; left < 0 || t.Failed() {
				return
			}
			o, again := c.Locate([]int{n})[0], new(leat.Batch[T])
			err := source.DecodeLetter(leat.DeadLetter{ID: "leattest", Class: leat.Transform, Offset: o.Offset, File: o.File, Line: o.Line, Topic: o.Topic,
				Key: o.Key, Headers: o.Headers, Header: o.Header, Raw: o.Raw, Arrived: o.Time}, again, 0)
			if err != nil {
				t.Errorf("rule B4: what Locate gives for offset %d is not enough to read the record again: %v", o.Offset, err)
			} else if again.Len() != 1 || dump(again.Rows()[0]) != dump(row) {
				t.Errorf("rule B4: the record at offset %d, read again from what Locate gives, is another row:\n got %s\nwant %s", o.Offset, dump(again.Rows()), dump(row))
			}
		}
	}})
}

func (w *sourceWorld[T]) outlive() {
	for _, size := range []int{1, 0} {
		r := w.whole(life[T]{size: size, batch: 2})
		for p, rows := range r.rows {
			for i := range rows {
				if now := dump(rows[i].row); now != rows[i].text {
					w.t.Fatalf("a row must not point into memory that is reused after Release: the row at offset %d of %s was\n%s\nand has become\n%s", rows[i].offset, p, rows[i].text, now)
				}
			}
		}
	}
}

func (w *sourceWorld[T]) replay() {
	t := w.t
	kind := w.needs(leat.ReplaySimilar)
	for _, ref := range []*reading[T]{w.whole(life[T]{size: 1}), w.whole(life[T]{size: 0})} {
		positions := w.positions(ref)
		for _, i := range some(w.r, len(positions), 30) {
			start := positions[i]
			size := w.size()
			r := w.read(life[T]{size: size, start: start})
			if r.err != nil {
				t.Errorf("rule A2: reading from %s: %v", dump(start), r.err)
				return
			}
			switch kind {
			case leat.ReplayExact:
				if d := differ(r.lines(start), ref.lines(start)); d != "" {
					t.Errorf("rule A2-2: leat.ReplayExact is the same rows at the same offsets; read again from %s with chunks of size %d: %s", dump(start), size, d)
					return
				}
				if d := differ(r.refused(start), ref.refused(start)); d != "" {
					t.Errorf("rule A2-2: the same records are rejected each time; read again from %s with chunks of size %d: %s", dump(start), size, d)
					return
				}
			case leat.ReplaySimilar:
				if lost, _ := compare(r.texts(nil), ref.texts(start)); len(lost) > 0 {
					t.Errorf("rule A2-2: leat.ReplaySimilar may give rows again, but none is lost; read again from %s with chunks of size %d, these are missing: %s", dump(start), size, few(lost))
					return
				}
			}
		}
	}
}

func (w *sourceWorld[T]) cancel() {
	t := w.t
	kind := w.replayKind()
	ref := w.whole(life[T]{size: 1})
	for _, k := range some(w.r, len(ref.chunks), 20) {
		for _, late := range []bool{false, true} {
			w.fresh()
			ctx, cancel := context.WithCancel(t.Context())
			n := 0
			r := w.read(life[T]{size: 1, ctx: ctx, tap: func(_ context.Context, c *leat.Chunk[T]) {
				if n++; n != k+1 {
					return
				}
				if !late {
					cancel()
					return
				}
				decode := c.Decode
				c.Decode = func(ctx context.Context, out *leat.Batch[T]) error {
					cancel()
					return decode(ctx, out)
				}
			}})
			cancel()
			if r.err != nil {
				t.Fatalf("rule A7: cancelled at chunk %d of %d: Run must return nil or the context's error, and what was sent be delivered: %v", k+1, len(ref.chunks), r.err)
			}
			w.promptly(r)
			if kind == leat.ReplayNone {
				continue
			}
			rest := w.read(life[T]{size: w.size(), start: r.held, keep: true})
			if rest.err != nil {
				t.Fatalf("the next run, after one that was cancelled at chunk %d: %v", k+1, rest.err)
			}
			w.together(ref, fmt.Sprintf("cancelled at chunk %d of %d, and run again", k+1, len(ref.chunks)), r, rest)
		}
	}
}

// promptly checks that Run returned soon after its context had ended.
func (w *sourceWorld[T]) promptly(r *reading[T]) {
	if most := 2 * time.Second; r.returned > most {
		w.t.Errorf("rule A7: the source's Run took %v to return after its context had ended; %v is the most that this kit allows", r.returned, most)
	}
}

// together checks that several lives have delivered what one does.
func (w *sourceWorld[T]) together(ref *reading[T], what string, lives ...*reading[T]) {
	w.t.Helper()
	var got, places, refused []string
	for _, l := range lives {
		got, places, refused = append(got, l.texts(nil)...), append(places, l.lines(nil)...), append(refused, l.refused(nil)...)
	}
	lost, extra := compare(got, ref.texts(nil))
	if w.replayKind() == leat.ReplayExact {
		lost, extra = compare(places, ref.lines(nil))
	}
	if len(lost) > 0 {
		w.t.Fatalf("%s: lost: %s", what, few(lost))
	}
	if w.replayKind() != leat.ReplayExact {
		return
	}
	if len(extra) > 0 {
		w.t.Fatalf("%s: delivered twice, or at other offsets (rule A2-2): %s", what, few(extra))
	}
	slices.Sort(refused)
	want := ref.refused(nil)
	slices.Sort(want)
	if d := differ(slices.Compact(refused), want); d != "" {
		w.t.Fatalf("%s: the rejected records differ: %s", what, d)
	}
}

func (w *sourceWorld[T]) cancelInSend() {
	ctx, cancel := context.WithCancel(w.t.Context())
	defer cancel()
	r := w.read(life[T]{size: 1, ctx: ctx, batch: 1, write: func(ctx context.Context) error {
		// The source has come to its next Send meanwhile, and waits for the budget.
		time.AfterFunc(50*time.Millisecond, cancel)
		select {
		case <-time.After(5 * time.Second / time.Duration(w.hurry())):
		case <-ctx.Done():
		}
		return nil
	}})
	if r.err != nil {
		w.t.Errorf("rule A7: cancelled while Send was waiting: Run must return Send's error: %v", r.err)
	}
	w.promptly(r)
}

// hurry divides waits in real time.
func (w *sourceWorld[T]) hurry() int {
	if w.h.RealTime {
		return 20
	}
	return 1
}

func (w *sourceWorld[T]) rewind() {
	t := w.t
	ref := w.whole(life[T]{size: 1})
	writes := len(ref.chunks)
	aborts := map[string]int{"Commit": 1, "Write": 1 + w.r.IntN(max(writes, 1))}
	aborted := map[string]bool{}
	w.fresh()
	r := w.read(life[T]{size: 1, every: time.Millisecond, tap: w.tick, sink: func(call string, n int) error {
		if n >= aborts[call] && !aborted[call] {
			aborted[call] = true
			return leat.ErrAborted
		}
		return nil
	}})
	if r.err != nil {
		t.Fatalf("rule E8: the source is run again, on the same value, after each rewind: %v", r.err)
	}
	if w.replayKind() != leat.ReplayNone {
		w.together(ref, fmt.Sprintf("rule E8: rewound at the first commit and at write %d", aborts["Write"]), r)
	}
}

// tick lets time pass between chunks, so that checkpoints come while the source runs.
func (w *sourceWorld[T]) tick(context.Context, *leat.Chunk[T]) { time.Sleep(2 * time.Millisecond) }

func (w *sourceWorld[T]) commits() {
	t := w.t
	ref := w.whole(life[T]{size: 1})
	n := 0
	w.fresh()
	r := w.read(life[T]{size: 1, every: time.Millisecond, tap: w.tick, edit: func(plan *engine.Plan) {
		src := plan.Nodes[0].Source
		commit := src.Commit
		src.Commit = func(ctx context.Context, cp engine.Checkpoint) error {
			for i := range 2 {
				n++
				if err := commit(ctx, cp); err != nil {
					return fmt.Errorf("call %d for checkpoint %d: %w", i+1, cp.Seq, err)
				}
			}
			return nil
		}
	}})
	if r.err != nil {
		t.Fatalf("rule A3: Commit is called during Run, and must be safe to repeat: %v", r.err)
	}
	if n == 0 {
		t.Error("Commit was never called")
	}
	if d := differ(r.texts(nil), ref.texts(nil)); d != "" && w.replayKind() == leat.ReplayExact {
		t.Errorf("with commits during Run the rows are others: %s", d)
	}
}

func (w *sourceWorld[T]) lostCommit() {
	w.needs(leat.ReplaySimilar)
	ref := w.whole(life[T]{size: 1})
	for _, k := range some(w.r, len(ref.chunks), 8) {
		w.fresh()
		ctx, cancel := context.WithCancel(w.t.Context())
		n := 0
		r := w.read(life[T]{size: 1, ctx: ctx, every: time.Millisecond, tap: func(_ context.Context, c *leat.Chunk[T]) {
			if n++; n == k+1 {
				cancel()
			}
		}, edit: func(plan *engine.Plan) {
			plan.Nodes[0].Source.Commit = func(context.Context, engine.Checkpoint) error { return nil } // a crash before each
		}})
		cancel()
		if r.err != nil {
			w.t.Fatal(r.err)
		}
		rest := w.read(life[T]{size: w.size(), start: r.held, keep: true})
		if rest.err != nil {
			w.t.Fatalf("rule A3: after a crash between the checkpoint and Commit, the next start may not hear of that checkpoint again: %v", rest.err)
		}
		w.together(ref, "rule A3: after a life whose commits the source did not hear of", r, rest)
	}
}

func (w *sourceWorld[T]) foreign() {
	w.needs(leat.ReplaySimilar)
	ref := w.whole(life[T]{})
	for name, at := range ref.held {
		at.Log = "leattest/another log"
		r := w.read(life[T]{start: map[string]leat.Position{name: at}})
		switch {
		case r.err == nil:
			w.t.Errorf("rule A2-1: the sink holds a position of another log for %s, and the source read on as if nothing was wrong", name)
		case len(r.lines(nil)) > 0:
			w.t.Errorf("rule A2-1: rows were sent after a position of another log: %s", few(r.lines(nil)))
		}
	}
}

func (w *sourceWorld[T]) beyond() {
	w.needs(leat.ReplayExact)
	ref := w.whole(life[T]{})
	for name, at := range ref.held {
		at.Next += 1 << 30
		// A program that reads by Resume alone may not see it; so it stays as it is.
		r := w.read(life[T]{start: map[string]leat.Position{name: at}})
		if r.err == nil {
			w.t.Errorf("rule A2-1: the sink holds %s up to %d, which is beyond the log's end, and the source did not refuse: an input that was cut off would be skipped in silence", name, at.Next)
		}
	}
}

func (w *sourceWorld[T]) closing() {
	src := w.h.New(w.t, 0)
	c, ok := src.(io.Closer)
	if !ok {
		w.t.Skip("the source is no io.Closer")
	}
	if err := c.Close(); err != nil {
		w.t.Errorf("Close is called also when Run never was: %v", err)
	}
	_ = c.Close() // it may say that it was closed, but not panic or hang
	src = w.h.New(w.t, 0)
	if err := w.read(life[T]{src: src}).err; err != nil {
		w.t.Fatal(err)
	}
	_ = src.(io.Closer).Close() // the engine has called it
	if err := w.read(life[T]{}).err; err != nil {
		w.t.Errorf("after Close another source must be able to read the same input: %v", err)
	}
}

// sourceSink collects what a source gives.
type sourceSink[T any] struct {
	out  *reading[T]
	life *life[T]

	open            []sourceRow[T]
	parts           []string
	writes, commits int
}

func (s *sourceSink[T]) Name() string                         { return "leattest-sink" }
func (s *sourceSink[T]) Guarantee() leat.Guarantee            { return leat.ExactlyOnce }
func (s *sourceSink[T]) Open(context.Context, leat.Env) error { s.open, s.parts = nil, nil; return nil }
func (s *sourceSink[T]) Close() error                         { s.open, s.parts = nil, nil; return nil }
func (s *sourceSink[T]) Restore(_ context.Context, partitions []string) (map[string]leat.Position, error) {
	at := map[string]leat.Position{}
	for _, p := range partitions {
		if held := s.out.held[p]; held.Known() {
			at[p] = held
		}
	}
	return at, nil
}

func (s *sourceSink[T]) Write(ctx context.Context, b *leat.Batch[T]) error {
	s.writes++
	if s.life.write != nil {
		if err := s.life.write(ctx); err != nil {
			return err
		}
	}
	if s.life.sink != nil {
		if err := s.life.sink("Write", s.writes); err != nil {
			s.open, s.parts = nil, nil
			return err
		}
	}
	numbers := make([]int, b.Len())
	for i := range numbers {
		numbers[i] = i
	}
	for i, o := range b.Origins(numbers) {
		row := b.Rows()[i]
		// The text is a copy; the row keeps whatever memory it points to.
		s.open = append(s.open, sourceRow[T]{row, o.Offset, strings.Clone(dump(row))})
		s.parts = append(s.parts, b.Partition())
	}
	return nil
}

func (s *sourceSink[T]) Commit(_ context.Context, cp leat.Checkpoint) (bool, error) {
	s.commits++
	if s.life.sink != nil {
		if err := s.life.sink("Commit", s.commits); err != nil {
			s.open, s.parts = nil, nil
			return false, err
		}
	}
	for i, row := range s.open {
		s.out.rows[s.parts[i]] = append(s.out.rows[s.parts[i]], row)
	}
	s.open, s.parts = nil, nil
	maps.Copy(s.out.held, cp.Positions)
	return true, nil
}
