package leat_test

import (
	"cmp"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"hash/fnv"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/failpoint"
)

// The model checker: 2 partitions, 3 sinks (transactional, deferring,
// idempotent), a stateless and a stateful stage, and state in the folder or in a shared store. A life of the pipeline is cut
// off between any two calls to the outside (sinks, dead letters, store, source),
// or one of these calls fails; then the next life goes on from what is durable,
// with other batch sizes and another interleaving. In the end everything must
// be as if nothing had happened (rule G12).
//
//	go test -run TestModel -model.seeds 100000        any number of seeds
//	go test -run TestModel -model.seed 4711 -v         one seed, with its steps

var (
	modelSeeds = flag.Int("model.seeds", 0, "number of seeds (default 2000; 20000 with LEAT_LONG=1)")
	modelSeed  = flag.Int64("model.seed", -1, "run this seed only and print its steps")
)

func TestModel(t *testing.T) { // not parallel: failpoints are global
	first, n := int64(0), 2000
	if os.Getenv("LEAT_LONG") != "" {
		n = 20000
	}
	if testing.Short() {
		n = 200
	}
	if *modelSeeds > 0 {
		n = *modelSeeds
	}
	if *modelSeed >= 0 {
		first, n = *modelSeed, 1
	}
	tmp := t.TempDir()
	if d, err := os.MkdirTemp("/dev/shm", "leat-model"); err == nil { // fsync costs nothing there
		t.Cleanup(func() { os.RemoveAll(d) })
		tmp = d
	}
	crashes, faults, lives := 0, 0, 0
	for seed := first; seed < first+int64(n); seed++ {
		w := newWorld(seed, fmt.Sprintf("%s/%d", tmp, seed))
		synctest.Test(t, func(t *testing.T) { w.live() })
		os.RemoveAll(w.dir)
		crashes, faults, lives = crashes+w.crashes, faults+w.faults, lives+w.lives
		if *modelSeed >= 0 {
			t.Log(strings.Join(w.steps, "\n"))
		}
		if len(w.wrong) > 0 {
			t.Fatalf("seed %d:\n%s\n\nsteps:\n%s\n\nreplay: go test -run TestModel -model.seed %d -v .",
				seed, strings.Join(w.wrong, "\n"), strings.Join(w.steps, "\n"), seed)
		}
	}
	t.Logf("%d seeds from %d: %d lives, %d crashes, %d failing calls; nothing lost, nothing twice", n, first, lives, crashes, faults)
	if n >= 100 && (crashes < n/4 || faults < n/4) {
		t.Fatalf("the checker has gone blind: only %d crashes and %d faults in %d seeds", crashes, faults, n)
	}
}

var errCrash = errors.New("model: the process is gone")

// event is an input row. What happens to it is a pure function of its fields.
type mrow struct{ Part, N, Kind int }

// made is a row behind the stateless stage.
type mmade struct{ Part, N, Copy, Kind int }

// summed is a row behind the stateful stage.
type msum struct{ Part, N, Copy, Sum int }

const (
	kindPlain = iota
	kindFiltered
	kindTwice     // the stateless stage makes two rows
	kindBad       // the stateless stage rejects it
	kindPanic     // it panics there
	kindRefused   // the transactional sink names it in RowErrors
	kindPermanent // the transactional sink fails the whole batch for it
	kindCostly    // naming it costs the deferring sink its open work (rule B5)
	kindStateBad  // the stateful stage rejects it
	kindStatePanic
	kinds
)

// world is what survives a crash, and the fate of one seed.
type world struct {
	seed  uint64
	dir   string
	input [][]mrow

	mu                     sync.Mutex
	steps                  []string
	wrong                  []string
	life                   int
	call                   int            // calls to the outside in this life
	crashAt                int            // the call before which this life ends; 0: never
	failAt                 map[int]string // calls that fail, and how
	crashed                bool
	lives, crashes, faults int

	letters, unsynced []leat.DeadLetter
	lettersSeen       map[string]bool
	tx                *memTable[mmade]
	late              *memTable[msum]
	keyed             map[string]int
	source            map[string]leat.Position
	shared            *memShared // a state store that outlives processes; nil: the state folder
}

type memTable[T any] struct {
	rows      []T
	positions map[string]leat.Position
}

func newWorld(seed int64, dir string) *world {
	w := &world{seed: uint64(seed), dir: dir, lettersSeen: map[string]bool{}, keyed: map[string]int{}, source: map[string]leat.Position{},
		tx: &memTable[mmade]{positions: map[string]leat.Position{}}, late: &memTable[msum]{positions: map[string]leat.Position{}}}
	if w.pick(3, "shared") == 0 {
		w.shared = newMemShared()
	}
	for p := range 2 {
		n := 10 + w.pick(60, "rows", p)
		rows := make([]mrow, n)
		for i := range rows {
			rows[i] = mrow{p, i, kindPlain}
			if w.pick(4, "special", p, i) == 0 {
				rows[i].Kind = w.pick(kinds, "kind", p, i)
			}
			if k := rows[i].Kind; (k == kindStatePanic || k == kindCostly) && w.pick(4, "rare", p, i) != 0 {
				rows[i].Kind = kindPlain // each costs rewinds
			}
		}
		w.input = append(w.input, rows)
	}
	return w
}

// pick is a number below n that depends on the seed and the arguments only, not
// on who asks first: so a seed replays.
func (w *world) pick(n int, what string, args ...int) int {
	h := fnv.New64a()
	b := binary.LittleEndian.AppendUint64(nil, w.seed)
	for _, a := range args {
		b = binary.LittleEndian.AppendUint64(b, uint64(a))
	}
	h.Write(append(b, what...))
	x := h.Sum64()
	x ^= x >> 31
	x *= 0x9e3779b97f4a7c15
	x ^= x >> 29
	return int(x % uint64(n))
}

// nap makes the interleaving: a wait in virtual time that the seed decides.
func (w *world) nap(what string, args ...int) {
	time.Sleep(time.Duration(w.pick(3_000_000, "nap "+what, append(args, w.life)...)))
}

// outside is called at the start of every call to the outside: the places
// between two calls are the places where a crash is possible.
func (w *world) outside(name string) error {
	w.mu.Lock()
	if w.crashed {
		w.mu.Unlock()
		return errCrash
	}
	w.call++
	call := w.call
	if call == w.crashAt {
		w.crashed = true
		w.crashes++
		w.steps = append(w.steps, fmt.Sprintf("%d.%d CRASH before %s", w.life, call, name))
		w.mu.Unlock()
		return errCrash
	}
	fault := w.failAt[call]
	w.steps = append(w.steps, strings.TrimSpace(fmt.Sprintf("%d.%d %s %s", w.life, call, name, fault)))
	w.mu.Unlock()
	w.nap(name, call)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.crashed {
		return errCrash
	}
	switch {
	case fault == "":
		return nil
	case fault == "abort" && (strings.HasSuffix(name, "Write") || strings.HasSuffix(name, "Commit")) && !strings.HasPrefix(name, "source"):
		w.faults++
		return leat.ErrAborted
	case strings.HasPrefix(name, "engine/"): // the store: an error ends the run, as a crash would
		w.faults++
		return errors.New("model: store failure")
	default:
		w.faults++
		return leat.Transient(errors.New("model: transient failure"))
	}
}

func (w *world) live() {
	failpoint.Set(func(name string) error {
		if !strings.HasSuffix(name, "-store") {
			return nil
		}
		return w.outside(name)
	})
	defer failpoint.Set(nil)
	for w.life = 1; ; w.life++ {
		w.lives++
		w.call, w.crashed, w.crashAt, w.failAt = 0, false, 0, map[int]string{}
		if w.life <= 6 {
			if w.pick(5, "crash?", w.life) > 0 {
				w.crashAt = 1 + w.pick(60, "crash", w.life)
			}
			for k := range w.pick(4, "faults", w.life) {
				w.failAt[1+w.pick(60, "fault", w.life, k)] = []string{"transient", "abort"}[w.pick(2, "how", w.life, k)]
			}
		}
		p := w.pipeline()
		ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
		err := p.Run(ctx)
		cancel()
		// What a log has not synced may or may not be on disk after a crash.
		kept := w.unsynced
		if w.crashed {
			kept = kept[:w.pick(len(kept)+1, "kept", w.life)]
		}
		w.letters, w.unsynced = append(w.letters, kept...), nil
		w.lettersSeen = map[string]bool{}
		for _, l := range w.letters {
			w.lettersSeen[l.ID] = true
		}
		w.steps = append(w.steps, fmt.Sprintf("%d ends: %v", w.life, err))
		switch {
		case err == nil:
			w.check(p)
			return
		case w.life > 6 && !errors.Is(err, errCrash):
			w.wrong = append(w.wrong, fmt.Sprintf("life %d without faults ended with: %v", w.life, err))
			return
		}
	}
}

func (w *world) pipeline() *leat.Pipeline {
	var shared leat.StateStore
	if w.shared != nil {
		c := w.shared.client()
		c.call = func(name string) (bool, error) {
			// Now and then it is carried out, and only the answer is lost (rule E4).
			w.mu.Lock()
			gone, call := w.crashed, w.call
			w.mu.Unlock()
			err := w.outside(name)
			return err != nil && !gone && w.pick(2, "done all the same", call, w.life) == 0, err
		}
		shared = c
	}
	p := leat.New("model", leat.Config{
		State:    shared,
		StateDir: w.dir, CheckpointEvery: 10 * time.Millisecond,
		DeadLetters: worldLetters{w}, Logger: slog.New(slog.DiscardHandler),
		Breaker: leat.Breaker{Share: -1},
		Retry:   leat.Retry{First: time.Millisecond, Max: 5 * time.Millisecond},
	})
	rows := leat.From(p, &worldSource{w})
	made := leat.Via(rows, "make", &worldMake{w})
	leat.To(made, &worldTx{w: w})
	if w.hasKeyed() {
		leat.To(made, &worldKeyed{w: w})
	}
	if !w.hasLate() {
		return p
	}
	sums := leat.Via(made, "sum", &worldSum{w: w, sums: map[string]int{}})
	leat.To(sums, &worldLate{w: w})
	return p
}

// Where every sink keeps positions and no stage has state, recovery may begin
// elsewhere (rule E7-1), so some worlds have no other sink or stage.
func (w *world) hasKeyed() bool { return w.pick(4, "keyed") > 0 }
func (w *world) hasLate() bool  { return w.pick(4, "late") > 0 }

// --- source ---

type worldSource struct{ w *world }

func (s *worldSource) Name() string            { return "src" }
func (s *worldSource) Replay() leat.ReplayKind { return leat.ReplayExact }

// Offsets have gaps: row i is at offset 3i+1 (rule A2).
func offsetOf(i int) int64 { return int64(3*i + 1) }

func (s *worldSource) Run(ctx context.Context, in leat.Intake[mrow]) error {
	at, err := in.Assign(leat.Partition{Name: "0", Log: "m"}, leat.Partition{Name: "1", Log: "m"})
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	errs := make([]error, 2)
	for part := range 2 {
		wg.Go(func() {
			next := 0
			if p := at[fmt.Sprint(part)]; p.Known() {
				next = int(p.Next+1) / 3
				if p.Resume != fmt.Sprint(next) {
					errs[part] = fmt.Errorf("resume %q does not fit next %d", p.Resume, p.Next)
					return
				}
			}
			rows := s.w.input[part]
			for next < len(rows) && ctx.Err() == nil {
				from, to := next, min(len(rows), next+1+s.w.pick(12, "batch", part, next, s.w.life))
				s.w.nap("read", part, from)
				if errs[part] = in.Send(s.chunk(part, from, to)); errs[part] != nil {
					return
				}
				if s.w.pick(10, "caught up", part, to, s.w.life) == 0 {
					in.CaughtUp()
				}
				next = to
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

func (s *worldSource) chunk(part, from, to int) leat.Chunk[mrow] {
	rows := s.w.input[part][from:to]
	return leat.Chunk[mrow]{
		Partition: fmt.Sprint(part), First: offsetOf(from), Next: offsetOf(to), Resume: fmt.Sprint(to), Bytes: 1,
		Decode: func(_ context.Context, out *leat.Batch[mrow]) error {
			s.w.nap("decode", part, from)
			for i, r := range rows {
				out.Append(r, i)
			}
			return nil
		},
		Locate: func(records []int) []leat.Origin {
			out := make([]leat.Origin, len(records))
			for k, i := range records {
				out[k] = leat.Origin{Offset: offsetOf(from + i), Raw: fmt.Appendf(nil, "%v", rows[i])}
			}
			return out
		},
	}
}

func (s *worldSource) Commit(_ context.Context, cp leat.Checkpoint) error {
	if err := s.w.outside("source.Commit"); err != nil {
		return err
	}
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	for name, p := range cp.Positions {
		if old := s.w.source[name]; p.Next < old.Next {
			s.w.wrong = append(s.w.wrong, fmt.Sprintf("rule A3: the source was told %d after %d", p.Next, old.Next))
		}
		s.w.source[name] = p
		// Complete means durable in every sink.
		held := []leat.Position{s.w.tx.positions["src/"+name]}
		if s.w.hasLate() {
			held = append(held, s.w.late.positions["src/"+name])
		}
		for _, held := range held {
			if held.Next < p.Next {
				s.w.wrong = append(s.w.wrong, fmt.Sprintf("rule A3: the source was told %d while a sink holds %d", p.Next, held.Next))
			}
		}
	}
	return nil
}

// --- stages ---

type worldMake struct{ w *world }

func (m *worldMake) Process(_ context.Context, in *leat.Batch[mrow], out *leat.Batch[mmade]) error {
	if in.Len() > 0 {
		m.w.nap("make", in.Rows()[0].Part, in.Rows()[0].N)
	}
	for i, r := range in.Rows() {
		switch r.Kind {
		case kindFiltered:
		case kindBad:
			out.Reject(i, leat.Transform, errors.New("bad"))
		case kindPanic:
			panic("bad row")
		case kindTwice:
			out.Append(mmade{r.Part, r.N, 0, r.Kind}, i)
			out.Append(mmade{r.Part, r.N, 1, r.Kind}, i)
		default:
			out.Append(mmade{r.Part, r.N, 0, r.Kind}, i)
		}
	}
	return nil
}

// worldSum is the running sum per partition.
type worldSum struct {
	w    *world
	mu   sync.Mutex
	sums map[string]int
}

func (s *worldSum) Process(_ context.Context, in *leat.Batch[mmade], out *leat.Batch[msum]) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, r := range in.Rows() {
		switch r.Kind {
		case kindStateBad:
			out.Reject(i, leat.Transform, errors.New("bad for state"))
			continue
		case kindStatePanic:
			s.sums[in.Partition()] += 1000 // what a broken stage leaves behind must not count
			panic("state")
		}
		s.sums[in.Partition()] += r.N + 1
		out.Append(msum{r.Part, r.N, r.Copy, s.sums[in.Partition()]}, i)
	}
	return nil
}

func (s *worldSum) Restore(partition string, saved [][]byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sums[partition] = 0
	for _, b := range saved {
		if err := json.Unmarshal(b, new(int)); err != nil {
			return err
		}
		var v int
		_ = json.Unmarshal(b, &v)
		s.sums[partition] = v
	}
	return nil
}

func (s *worldSum) Delta(partition string) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return json.Marshal(s.sums[partition])
}

func (s *worldSum) Snapshot(partition string) ([]byte, error) { return s.Delta(partition) }

// --- sinks ---

// worldTx commits rows and positions together.
type worldTx struct {
	w    *world
	open []mmade
}

func (s *worldTx) Name() string              { return "tx" }
func (s *worldTx) Guarantee() leat.Guarantee { return leat.ExactlyOnce }
func (s *worldTx) Open(context.Context, leat.Env) error {
	s.open = nil
	return s.w.outside("tx.Open")
}
func (s *worldTx) Restore(context.Context, []string) (map[string]leat.Position, error) {
	if err := s.w.outside("tx.Restore"); err != nil {
		return nil, err
	}
	return maps.Clone(s.w.tx.positions), nil
}
func (s *worldTx) Write(_ context.Context, b *leat.Batch[mmade]) error {
	if err := s.w.outside("tx.Write"); err != nil {
		if errors.Is(err, leat.ErrAborted) {
			s.open = nil
		}
		return err
	}
	var refused leat.RowErrors
	for i, r := range b.Rows() {
		if r.Kind == kindRefused {
			refused.Rows = append(refused.Rows, leat.RowError{Row: i, Err: errors.New("refused")})
		}
	}
	if len(refused.Rows) > 0 {
		return &refused
	}
	for _, r := range b.Rows() {
		if r.Kind == kindPermanent {
			return errors.New("somewhere in here is a bad row")
		}
	}
	s.open = append(s.open, b.Rows()...)
	return nil
}
func (s *worldTx) Commit(_ context.Context, cp leat.Checkpoint) (bool, error) {
	if err := s.w.outside("tx.Commit"); err != nil {
		if errors.Is(err, leat.ErrAborted) {
			s.open = nil
		}
		return false, err
	}
	commitTable(s.w, "tx", s.w.tx, s.open, cp)
	s.open = nil
	return true, nil
}
func (s *worldTx) Close() error {
	s.open = nil
	return nil
}

func commitTable[T any](w *world, name string, t *memTable[T], open []T, cp leat.Checkpoint) {
	w.mu.Lock()
	defer w.mu.Unlock()
	t.rows = append(t.rows, open...)
	for part, p := range cp.Positions {
		if old := t.positions[part]; p.Next < old.Next {
			w.wrong = append(w.wrong, fmt.Sprintf("rule E7: sink %s went back from %d to %d", name, old.Next, p.Next))
		}
		t.positions[part] = p
	}
}

// worldLate commits together too, but answers "not yet" to most barriers.
type worldLate struct {
	w     *world
	open  []msum
	asked int
}

func (s *worldLate) Name() string              { return "late" }
func (s *worldLate) Guarantee() leat.Guarantee { return leat.ExactlyOnce }
func (s *worldLate) Open(context.Context, leat.Env) error {
	s.open = nil
	return s.w.outside("late.Open")
}
func (s *worldLate) Restore(context.Context, []string) (map[string]leat.Position, error) {
	if err := s.w.outside("late.Restore"); err != nil {
		return nil, err
	}
	return maps.Clone(s.w.late.positions), nil
}
func (s *worldLate) Write(_ context.Context, b *leat.Batch[msum]) error {
	if err := s.w.outside("late.Write"); err != nil {
		if errors.Is(err, leat.ErrAborted) {
			s.open = nil
		}
		return err
	}
	var refused leat.RowErrors
	for i, r := range b.Rows() {
		if s.w.input[r.Part][r.N].Kind == kindCostly {
			refused.Rows = append(refused.Rows, leat.RowError{Row: i, Err: errors.New("costly")})
		}
	}
	if len(refused.Rows) > 0 {
		s.open = nil // rule B5: the open work is lost
		return errors.Join(&refused, leat.ErrAborted)
	}
	s.open = append(s.open, b.Rows()...)
	return nil
}
func (s *worldLate) Commit(_ context.Context, cp leat.Checkpoint) (bool, error) {
	if err := s.w.outside("late.Commit"); err != nil {
		if errors.Is(err, leat.ErrAborted) {
			s.open = nil
		}
		return false, err
	}
	s.asked++
	if !cp.Force && s.w.pick(3, "not yet", s.asked, s.w.life) > 0 {
		return false, nil
	}
	commitTable(s.w, "late", s.w.late, s.open, cp)
	s.open = nil
	return true, nil
}
func (s *worldLate) Close() error {
	s.open = nil
	return nil
}

// worldKeyed keeps no positions; writing a row twice changes nothing. Its writes
// are durable at once, some of them.
type worldKeyed struct {
	w    *world
	open map[string]int
}

func (s *worldKeyed) Name() string              { return "keyed" }
func (s *worldKeyed) Guarantee() leat.Guarantee { return leat.Idempotent }
func (s *worldKeyed) Open(context.Context, leat.Env) error {
	s.open = map[string]int{}
	return s.w.outside("keyed.Open")
}
func (s *worldKeyed) Write(_ context.Context, b *leat.Batch[mmade]) error {
	if err := s.w.outside("keyed.Write"); err != nil {
		return err
	}
	for _, r := range b.Rows() {
		key := fmt.Sprintf("%d/%d/%d", r.Part, r.N, r.Copy)
		if s.w.pick(2, "at once", r.Part, r.N, s.w.life) == 0 {
			s.w.mu.Lock()
			s.w.keyed[key] = r.Kind
			s.w.mu.Unlock()
		} else {
			s.open[key] = r.Kind
		}
	}
	return nil
}
func (s *worldKeyed) Commit(context.Context, leat.Checkpoint) (bool, error) {
	if err := s.w.outside("keyed.Commit"); err != nil {
		return false, err
	}
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	maps.Copy(s.w.keyed, s.open)
	clear(s.open)
	return true, nil
}
func (s *worldKeyed) Close() error { return nil }

// --- dead letters ---

type worldLetters struct{ w *world }

func (l worldLetters) Open(context.Context, leat.Env) error { return nil }
func (l worldLetters) Close() error                         { return nil }
func (l worldLetters) Has(id string) bool {
	l.w.mu.Lock()
	defer l.w.mu.Unlock()
	return l.w.lettersSeen[id]
}
func (l worldLetters) Append(_ context.Context, letters []leat.DeadLetter) error {
	if err := l.w.outside("letters.Append"); err != nil {
		return err
	}
	l.w.mu.Lock()
	defer l.w.mu.Unlock()
	for _, d := range letters {
		if !l.w.lettersSeen[d.ID] {
			l.w.lettersSeen[d.ID] = true
			l.w.unsynced = append(l.w.unsynced, d)
		}
	}
	return nil
}
func (l worldLetters) Sync(context.Context) error {
	if err := l.w.outside("letters.Sync"); err != nil {
		return err
	}
	l.w.mu.Lock()
	defer l.w.mu.Unlock()
	l.w.letters = append(l.w.letters, l.w.unsynced...)
	l.w.unsynced = nil
	return nil
}

// --- the oracle ---

// check compares what is durable with what the input alone says.
func (w *world) check(p *leat.Pipeline) {
	fail := func(format string, args ...any) { w.wrong = append(w.wrong, fmt.Sprintf(format, args...)) }
	var total, filtered, bad, added, txOut, txBad, stateBad, costly, lateOut int64
	letters := map[string]bool{}
	keyed := map[string]int{}
	for part, rows := range w.input {
		var tx []mmade
		var late []msum
		sum := 0
		for _, r := range rows {
			total++
			at := fmt.Sprintf("src/%d@%d", part, offsetOf(r.N))
			copies := 1
			switch r.Kind {
			case kindFiltered:
				filtered++
				continue
			case kindBad, kindPanic:
				bad++
				letters["make "+at] = true
				continue
			case kindTwice:
				copies = 2
				added++
			}
			for c := range copies {
				if w.hasKeyed() {
					keyed[fmt.Sprintf("%d/%d/%d", part, r.N, c)] = r.Kind
				}
				switch r.Kind {
				case kindRefused, kindPermanent:
					txBad++
					letters["tx "+at] = true
				default:
					txOut++
					tx = append(tx, mmade{part, r.N, c, r.Kind})
				}
				if !w.hasLate() {
					continue
				}
				switch r.Kind {
				case kindStateBad, kindStatePanic:
					stateBad++
					letters["sum "+at] = true
					continue
				}
				sum += r.N + 1
				if r.Kind == kindCostly {
					costly++
					letters["late "+at] = true
					continue
				}
				lateOut++
				late = append(late, msum{part, r.N, c, sum})
			}
		}
		if got := ofPart(w.tx.rows, func(r mmade) int { return r.Part }, part); !slices.Equal(got, tx) {
			fail("tx, partition %d:\n got %v\nwant %v", part, got, tx)
		}
		if got := ofPart(w.late.rows, func(r msum) int { return r.Part }, part); !slices.Equal(got, late) {
			fail("late, partition %d:\n got %v\nwant %v", part, got, late)
		}
		end := offsetOf(len(rows))
		for name, at := range map[string]leat.Position{"tx": w.tx.positions[fmt.Sprintf("src/%d", part)],
			"late": w.late.positions[fmt.Sprintf("src/%d", part)], "source": w.source[fmt.Sprint(part)]} {
			if at.Next != end && (name != "late" || w.hasLate()) {
				fail("%s ends at %d of partition %d, want %d", name, at.Next, part, end)
			}
		}
	}
	if !maps.Equal(w.keyed, keyed) {
		fail("keyed:\n got %v\nwant %v", w.keyed, keyed)
	}
	got := map[string]bool{}
	for _, l := range w.letters {
		key := fmt.Sprintf("%s %s@%d", l.Node, l.Partition, l.Offset)
		if got[key] {
			fail("rule B3-2: letter %s is there twice", key)
		}
		got[key] = true
	}
	if !maps.Equal(got, letters) {
		fail("letters:\n got %v\nwant %v", sortedKeys(got), sortedKeys(letters))
	}
	if w.shared != nil && w.lives > 1 {
		return // counters are of the last process alone
	}
	// Rule A8: the counters prove it, whatever happened.
	made := total - filtered - bad + added
	want := map[string]leat.NodeStats{
		"src":   {In: total, Out: total},
		"make":  {In: total, Out: made, Rejected: bad, Filtered: filtered, Added: added},
		"sum":   {In: made, Out: made - stateBad, Rejected: stateBad},
		"tx":    {In: total, Out: txOut, Rejected: bad + txBad, Filtered: filtered, Added: added},
		"keyed": {In: total, Out: made, Rejected: bad, Filtered: filtered, Added: added},
		"late":  {In: total, Out: lateOut, Rejected: bad + stateBad + costly, Filtered: filtered, Added: added},
	}
	for _, n := range p.Stats().Nodes {
		name := n.Name
		n.Name, n.Kind = "", ""
		if n != want[name] {
			fail("rule A8: counters of %s: got %+v, want %+v", name, n, want[name])
		}
	}
}

func ofPart[T any](rows []T, part func(T) int, p int) []T {
	var out []T
	for _, r := range rows {
		if part(r) == p {
			out = append(out, r)
		}
	}
	return out
}

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }
