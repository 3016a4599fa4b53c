package leattest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/leattest"
)

// Each check of the kit is proven by something that is broken in just that way: the check
// must find it, and name the rule. A failing test can't be watched from within, so each
// case is run by a process of its own.

type brokenCase struct {
	name string
	sub  string // the subtest that finds it
	want string // in its output
	run  func(t *testing.T)
}

const brokenEnv = "LEATTEST_BROKEN"

func TestBrokenIsFound(t *testing.T) {
	t.Parallel()
	for _, c := range brokenCases() {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			run := "^TestOfBroken$"
			if c.sub != "" {
				run += "/^" + regexp.QuoteMeta(strings.ReplaceAll(c.sub, " ", "_")) + "$"
			}
			cmd := exec.Command(os.Args[0], "-test.run", run, "-test.timeout", "1m")
			cmd.Env = append(os.Environ(), brokenEnv+"="+c.name)
			out, err := cmd.CombinedOutput()
			if err == nil {
				t.Fatalf("it was not found:\n%s", out)
			}
			if !strings.Contains(string(out), c.want) {
				t.Fatalf("it was not found in the right way; want %q in:\n%s", c.want, out)
			}
		})
	}
}

func TestOfBroken(t *testing.T) {
	name := os.Getenv(brokenEnv)
	if name == "" {
		t.Skip("run by TestBrokenIsFound")
	}
	for _, c := range brokenCases() {
		if c.name == name {
			c.run(t)
		}
	}
}

// What the broken ones are made of is sound.
func TestNotBroken(t *testing.T) {
	t.Parallel()
	t.Run("source", func(t *testing.T) { sourceWith("")(t) })
	t.Run("sink", func(t *testing.T) { sinkWith("")(t) })
	t.Run("idempotent sink", func(t *testing.T) { sinkWith("idempotent")(t) })
	t.Run("deferring sink", func(t *testing.T) { sinkWith("defers")(t) })
	t.Run("stage", func(t *testing.T) { stageWith("")(t) })
}

func brokenCases() []brokenCase {
	cases := []brokenCase{
		{"no name", "reads everything in order", "has no Name", nil},
		{"another name", "reads everything in order", "name changes", nil},
		{"no log", "reads everything in order", "rule A2-1: partition", nil},
		{"offsets by chunk", "reads everything in order", "rule D6: rows and their offsets depend on the size of chunks", nil},
		{"rejects by chunk", "reads everything in order", "rule D6: rejected records depend", nil},
		{"other rows", "reads everything in order", "not those that are wanted", nil},
		{"never ends", "reads everything in order", "one that waits for more sets Endless", nil},
		{"a goroutine stays", "reads everything in order", "rule A7: the source's Run has returned and left goroutines behind", nil},
		{"decodes once", "decodes and locates", "Decode must give the same rows each time", nil},
		{"offset outside", "decodes and locates", "rule A2: chunk", nil},
		{"locates by position", "decodes and locates", "alone and of all records disagree", nil},
		{"offsets fall", "decodes and locates", "offsets grow", nil},
		{"letters without bytes", "reads dead letters again", "rule B4", nil},
		{"reused memory", "rows outlive their chunk", "must not point into memory that is reused", nil},
		{"resumes late", "replays from every position", "rule A2-2: leat.ReplayExact is the same rows at the same offsets", nil},
		{"resumes late, similar", "replays from every position", "none is lost", nil},
		{"refuses odd positions", "replays from every position", "rule A2: reading from", nil},
		{"an error when cancelled", "is cancelled at any moment", "rule A7: cancelled at chunk", nil},
		{"forgets when cancelled", "is cancelled at any moment", "lost: ", nil},
		{"slow to stop", "is cancelled while Send waits", "rule A7: the source's Run took", nil},
		{"runs once", "is run again after a rewind", "rule E8", nil},
		{"remembers where it was", "is run again after a rewind", "lost: ", nil},
		{"commits once", "hears commits during Run and repeated", "must be safe to repeat", nil},
		{"needs its commits", "goes on without a commit that was lost", "rule A3: after a crash between the checkpoint and Commit", nil},
		{"swallows Assign's error", "refuses the position of another log", "rule A2-1: the sink holds a position of another log", nil},
		{"ignores the end", "refuses a position beyond the end", "rule A2-1: the sink holds src up to", nil},
		{"close needs Run", "is closed without Run and twice", "Close is called also when Run never was", nil},
	}
	for i := range cases {
		cases[i].run = sourceWith(cases[i].name)
	}
	sinks := []brokenCase{
		{"sink: no positions", "commits rows in order", "rule E1: the sink declares ExactlyOnce, but keeps no positions", nil},
		{"sink: loses a row", "commits rows in order", "rows are missing", nil},
		{"sink: reorders", "commits rows in order", "rule A4", nil},
		{"sink: visible at once", "shows nothing before Commit", "rule E1: before Commit nothing is visible", nil},
		{"sink: Close commits", "discards at Close what is not committed", "rule E8: Close without Commit discards", nil},
		{"sink: keeps open rows", "discards at Close what is not committed", "rule E8: after the next life's Commit", nil},
		{"sink: keeps the batch", "copies what it keeps of a batch", "a batch is valid only during Write", nil},
		{"sink: asks late", "copies what it keeps of a batch", "asked for the origin of a row afterwards", nil},
		{"sink: nothing is 0", "gives positions back", "rule E7: the sink holds nothing of partition", nil},
		{"sink: drops Resume", "gives positions back", "rule E1: Restore gives", nil},
		{"sink: positions need rows", "moves positions without rows", "rule E1: positions move also when no row came", nil},
		{"sink: not yet, never", "obeys Force", "rule E9: Commit answered \"not yet\" to a checkpoint with Force", nil},
		{"sink: done too early", "obeys Force", "rule E9: Commit says done", nil},
		{"sink: not yet, but visible", "obeys Force", "rule E9: Commit says \"not yet\", so nothing is visible", nil},
		{"sink: no fence", "fences an older owner", "rule E3: another owner had taken the partition over (rule E2), and a commit of the fenced owner was accepted", nil},
		{"sink: fences in its own words", "fences an older owner", "the answer must be leat.ErrFenced", nil},
		{"sink: names the wrong partition", "fences an older owner", "rule E3: leat.Fenced names", nil},
		{"sink: fences after storing", "fences an older owner with open rows", "rule E3: a commit of the fenced owner became visible", nil},
		{"sink: trouble is permanent", "holds what was written through trouble", "rule B8: trouble that goes away must be marked", nil},
		{"sink: forgets in trouble", "holds what was written through trouble", "rule B8: once the trouble is over", nil},
		{"sink: ambiguous again", "resolves an ambiguous Commit that took effect", "rule E4: after an ambiguous commit each row is there once", nil},
		{"sink: ambiguous is done", "resolves an ambiguous Commit that did not", "rule E4", nil},
		{"sink: ambiguous is a fence", "resolves an ambiguous Commit that took effect", "rule E4: nobody else has the partition", nil},
		{"sink: idempotent, but appends", "takes a row twice", "rule E6", nil},
		{"sink: writes the good ones", "names bad rows", "rule B5: when Write names bad rows nothing of the batch is written", nil},
		{"sink: names a neighbour", "names bad rows", "rule B5: a bad row is rejected alone", nil},
		{"sink: drops the batch", "names bad rows", "rule B5: one bad row never costs its neighbours", nil},
		{"sink: position after rows", "recovers", "rule E1: ", nil},
		{"sink: position before rows", "recovers", "rule A3: ", nil},
	}
	for i := range sinks {
		sinks[i].run = sinkWith(strings.TrimPrefix(sinks[i].name, "sink: "))
	}
	stages := []brokenCase{
		{"stage: counts batches", "any split into batches", "pure function of each row", nil},
		{"stage: remembers without saying so", "any interleaving of partitions", "pure function of each row", nil},
		{"stage: says nothing", "one batch", "nothing is tested", nil},
		{"stage: one state for all", "any interleaving of partitions", "rule G12", nil},
		{"stage: Restore adds", "rewinds", "rule G12", nil},
		{"stage: Delta forgets", "restored at every cut", "rule G12", nil},
		{"stage: Snapshot forgets", "restored at every cut", "rule G12", nil},
		{"stage: keeps its goroutine", "one batch", "rule A7", nil},
	}
	for i := range stages {
		stages[i].run = stageWith(strings.TrimPrefix(stages[i].name, "stage: "))
		// The first subtest makes what the others compare with.
		stages[i].sub = ""
	}
	runs := []brokenCase{
		{"run: an error", "", "the disk is gone", func(t *testing.T) {
			leattest.Run(t, pipe(leattest.Rows(1, 2).FailAt(1, errors.New("the disk is gone")), leattest.Collect[int]()))
		}},
		{"run: another error", "", "want: circuit breaker", func(t *testing.T) {
			leattest.Runner{WantErr: leat.ErrBreakerOpen}.Run(t, pipe(leattest.Rows(1, 2), leattest.Collect[int]()))
		}},
		{"run: no end", "", "had not ended after 1h0m0s", func(t *testing.T) {
			leattest.Run(t, pipe(leattest.Rows(1, 2).Endless(), leattest.Collect[int]()))
		}},
		{"run: a goroutine stays", "", "rule A7: pipeline test has ended and left goroutines behind", func(t *testing.T) {
			leattest.Run(t, pipe(leattest.Rows(1, 2), leattest.Collect[int]().OnCall(stay)))
		}},
		{"run: a goroutine stays, in real time", "", "rule A7: pipeline test has ended and left goroutines behind", func(t *testing.T) {
			leattest.Runner{RealTime: true}.Run(t, pipe(leattest.Rows(1, 2), leattest.Collect[int]().OnCall(stay)))
		}},
		{"run: a goroutine waits for ever for the outside", "", "rule A7: a goroutine is left over that waits for something outside of this test", func(t *testing.T) {
			leattest.Run(t, pipe(leattest.Rows(1, 2), leattest.Collect[int]().OnCall(stayOutside)))
		}},
		{"run: in a bubble", "", "bubbles don't nest: set RealTime", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { leattest.Run(t, pipe(leattest.Rows(1), leattest.Collect[int]())) })
		}},
		{"stage: would stop a pipeline", "", "each time", func(t *testing.T) {
			leattest.Stage(t, leat.Stage[int, int](processFunc(func(in, out *leat.Batch[int]) error {
				if in.Len() > 1 {
					return errors.New("two at once, each time")
				}
				out.AppendRows(in, 0, in.Len())
				return nil
			})), 1, 2, 3)
		}},
		{"recovery: a wrong want", "without a fault", "without a fault ReadBack gives something else than Want", func(t *testing.T) {
			leattest.TestRecovery(t, recoveryOf(func(dir string) *leat.Pipeline {
				return pipe(leattest.Rows(1, 2), leattest.Collect[int]().In(dir))
			}, []int{1}))
		}},
		{"recovery: letters depend on luck", "", "rule B3: the dead letters differ", func(t *testing.T) {
			calls := 0
			leattest.TestRecovery(t, recoveryOf(func(dir string) *leat.Pipeline {
				calls++
				odd := calls%2 == 1 && calls > 1
				p := leat.New("test", leat.Config{})
				rows := leat.From(p, leattest.Rows(ints(10)...))
				leat.To(leat.Via(rows, "moody", leat.Stage[int, int](processFunc(func(in, out *leat.Batch[int]) error {
					for i, n := range in.Rows() {
						if n == 5 && odd {
							out.Reject(i, leat.Transform, errors.New("moody"))
						} else if n != 5 {
							out.Append(n, i)
						}
					}
					return nil
				}))), leattest.Collect[int]().In(dir))
				return p
			}, []int{0, 1, 2, 3, 4, 6, 7, 8, 9}))
		}},
	}
	return slices.Concat(cases, sinks, stages, runs)
}

func pipe(src leat.Source[int], sink leat.Sink[int]) *leat.Pipeline {
	p := leat.New("test", leat.Config{})
	leat.To(leat.From(p, src), sink)
	return p
}

// stay leaves a goroutine behind.
func stay(call string) error {
	if call == "Open" {
		never := make(chan int)
		go func() { <-never }()
	}
	return nil
}

var outside = make(chan int)

// stayOutside leaves one that waits for something outside of the bubble.
func stayOutside(call string) error {
	if call == "Open" {
		go func() { <-outside }()
	}
	return nil
}

type processFunc func(in, out *leat.Batch[int]) error

func (f processFunc) Process(_ context.Context, in, out *leat.Batch[int]) error { return f(in, out) }

// --- sources ---

// bentSource has 20 rows, "row 0" to "row 19", at every third offset, and row 10 can't be decoded.
type bentSource struct {
	how   string
	size  int
	ran   bool
	at    int
	heard map[uint64]bool
	told  string // a file in which its commits are
	bufs  sync.Pool
}

const bentRows = 20

func sourceWith(how string) func(t *testing.T) {
	return func(t *testing.T) {
		made := 0
		h := leattest.SourceHarness[string]{
			New: func(_ *testing.T, size int) leat.Source[string] {
				made++
				s := &bentSource{how: how, size: size, heard: map[uint64]bool{}, at: made}
				return s
			},
			WantRejects: 1,
		}
		for i := range bentRows {
			if i != 10 {
				h.Want = append(h.Want, fmt.Sprintf("row %d", i))
			}
		}
		if how == "other rows" {
			h.Want[3] = "row 4"
		}
		leattest.TestSource(t, h)
	}
}

func (s *bentSource) Name() string {
	switch s.how {
	case "no name":
		return ""
	case "another name":
		return fmt.Sprint("src", s.at)
	}
	return "src"
}

func (s *bentSource) Replay() leat.ReplayKind {
	if s.how == "resumes late, similar" {
		return leat.ReplaySimilar
	}
	return leat.ReplayExact
}

func (s *bentSource) Close() error {
	if s.how == "close needs Run" && !s.ran {
		return errors.New("not open")
	}
	return nil
}

func (s *bentSource) DecodeLetter(l leat.DeadLetter, out *leat.Batch[string], record int) error {
	if len(l.Raw) == 0 {
		return errors.New("it has no bytes")
	}
	out.Append(string(l.Raw), record)
	return nil
}

func (s *bentSource) Commit(_ context.Context, cp leat.Checkpoint) error {
	if s.how == "commits once" {
		if s.heard[cp.Seq] {
			return errors.New("it was committed before")
		}
		s.heard[cp.Seq] = true
	}
	if s.how == "needs its commits" && s.told != "" {
		return os.WriteFile(s.told, fmt.Append(nil, cp.Positions[""].Next), 0o600)
	}
	return nil
}

func (s *bentSource) Run(ctx context.Context, in leat.Intake[string]) error {
	again := s.ran
	s.ran = true
	if s.how == "runs once" && again {
		return errors.New("it was run before")
	}
	s.told = filepath.Join(in.Env().StateDir, "src-told")
	log := "log"
	if s.how == "no log" {
		log = ""
	}
	held, err := in.Assign(leat.Partition{Log: log})
	if s.how == "swallows Assign's error" && err != nil {
		return nil
	}
	if err != nil {
		return err
	}
	next := int(held[""].Next+2) / 3
	if next > bentRows {
		if s.how == "ignores the end" {
			return nil
		}
		return errors.New("rule A2-1: beyond the end")
	}
	switch {
	case strings.HasPrefix(s.how, "resumes late") && next == 7:
		next++
	case s.how == "refuses odd positions" && next%2 == 1:
		return errors.New("an odd position")
	case s.how == "remembers where it was" && again:
		next = max(next, s.at)
	case s.how == "needs its commits" && next > 0:
		b, _ := os.ReadFile(s.told)
		if n, _ := strconv.Atoi(string(b)); n < int(held[""].Next) {
			return errors.New("it was not told that it may go on")
		}
	case s.how == "a goroutine stays":
		_ = stay("Open")
	case s.how == "forgets when cancelled":
		if b, err := os.ReadFile(s.told); err == nil && len(b) > 0 && next > 0 {
			next, _ = strconv.Atoi(string(b))
		}
	}
	for next < bentRows {
		size := s.size
		if size == 0 {
			size = 8
		}
		end := min(next+size, bentRows)
		if s.how == "an error when cancelled" && ctx.Err() != nil {
			return errors.New("stopped in the middle")
		}
		if s.how == "forgets when cancelled" {
			_ = os.WriteFile(s.told, fmt.Append(nil, end), 0o600) // before it was sent
		}
		if err := in.Send(s.chunk(next, end)); err != nil {
			switch s.how {
			case "slow to stop":
				time.Sleep(5 * time.Second)
			case "an error when cancelled":
				return errors.New("stopped in the middle")
			}
			return err
		}
		next = end
		s.at = next
	}
	if s.how == "never ends" {
		<-ctx.Done()
	}
	return nil
}

func (s *bentSource) offset(from, i int) int64 {
	switch {
	case s.how == "offsets by chunk" && i > from:
		return int64(from)*3 + int64(i-from)
	case s.how == "offset outside" && i == 5:
		return 1 << 40
	case s.how == "offsets fall" && i > from:
		return int64(from)*3 + 2 - int64(i-from)%3
	}
	return int64(i) * 3
}

func (s *bentSource) chunk(from, to int) leat.Chunk[string] {
	buf, _ := s.bufs.Get().(*[]byte)
	if buf == nil {
		b := make([]byte, 0, 1024)
		buf = &b
	}
	text := (*buf)[:0]
	var ends []int
	for i := from; i < to; i++ {
		text = fmt.Appendf(text, "row %d", i)
		ends = append(ends, len(text))
	}
	decoded := 0
	row := func(k int) []byte {
		start := 0
		if k > 0 {
			start = ends[k-1]
		}
		return text[start:ends[k]]
	}
	return leat.Chunk[string]{
		First: int64(from) * 3, Next: int64(to-1)*3 + 1, Bytes: 10,
		Decode: func(_ context.Context, out *leat.Batch[string]) error {
			decoded++
			for k := range to - from {
				switch r := row(k); {
				case from+k == 10 && !(s.how == "rejects by chunk" && to-from == 1):
					out.Reject(k, leat.Decode, errors.New("torn"))
				case s.how == "decodes once" && decoded > 1:
					out.Append(string(r)+" again", k)
				case s.how == "reused memory":
					out.Append(unsafe.String(&r[0], len(r)), k)
				default:
					out.Append(string(r), k)
				}
			}
			return nil
		},
		Locate: func(records []int) []leat.Origin {
			out := make([]leat.Origin, len(records))
			for n, k := range records {
				if s.how == "locates by position" {
					k = n
				}
				out[n] = leat.Origin{Offset: s.offset(from, from+k)}
				if s.how != "letters without bytes" {
					out[n].Raw = slices.Clone(row(k))
				}
			}
			return out
		},
		Release: func() {
			if s.how == "reused memory" {
				*buf = text
				s.bufs.Put(buf)
			}
		},
	}
}

var _ io.Closer = (*bentSource)(nil)

// --- sinks ---

// bentStore is what is on disk; bentSink writes to it.
type bentStore struct {
	rows      []string
	positions map[string]leat.Position
	epochs    map[string]int
	trouble   bool
	lose      string // "took" or "did not": the next Commit's answer is lost
}

type bentSink struct {
	how    string
	store  *bentStore
	epochs map[string]int
	open   []string
	batch  [][]string // the rows of batches themselves
	late   []*leat.Batch[string]
	asked  int
}

// plainBentSink has no Restore.
type plainBentSink struct{ s *bentSink }

func (p plainBentSink) Name() string              { return p.s.Name() }
func (p plainBentSink) Guarantee() leat.Guarantee { return p.s.Guarantee() }
func (p plainBentSink) Open(ctx context.Context, env leat.Env) error {
	return p.s.Open(ctx, env)
}
func (p plainBentSink) Write(ctx context.Context, b *leat.Batch[string]) error {
	return p.s.Write(ctx, b)
}
func (p plainBentSink) Commit(ctx context.Context, cp leat.Checkpoint) (bool, error) {
	return p.s.Commit(ctx, cp)
}
func (p plainBentSink) Close() error { return p.s.Close() }

func sinkWith(how string) func(t *testing.T) {
	return func(t *testing.T) {
		stores := map[string]*bentStore{}
		at := func(dir string) *bentStore {
			if stores[dir] == nil {
				stores[dir] = &bentStore{positions: map[string]leat.Position{}, epochs: map[string]int{}}
			}
			return stores[dir]
		}
		leattest.TestSink(t, leattest.SinkHarness[string]{
			New: func(_ *testing.T, dir string) leat.Sink[string] {
				s := &bentSink{how: how, store: at(dir)}
				if how == "no positions" || strings.HasPrefix(how, "idempotent") {
					return plainBentSink{s}
				}
				return s
			},
			Row:      func(n int) string { return fmt.Sprint("row ", n) },
			Bad:      func(n int) string { return fmt.Sprint("bad ", n) },
			ReadBack: func(_ *testing.T, dir string) []string { return at(dir).rows },
			Trouble: func(_ *testing.T, dir string) func() {
				at(dir).trouble = true
				return func() { at(dir).trouble = false }
			},
			Ambiguous: func(_ *testing.T, dir string, _ leat.Sink[string], took bool) {
				at(dir).lose = map[bool]string{true: "took", false: "did not"}[took]
			},
		})
	}
}

func (s *bentSink) Name() string { return "bent" }
func (s *bentSink) Guarantee() leat.Guarantee {
	if strings.HasPrefix(s.how, "idempotent") {
		return leat.Idempotent
	}
	return leat.ExactlyOnce
}

func (s *bentSink) Open(context.Context, leat.Env) error {
	if s.how != "keeps open rows" {
		s.open = nil
	}
	s.batch, s.epochs = nil, map[string]int{}
	return nil
}

func (s *bentSink) Restore(_ context.Context, partitions []string) (map[string]leat.Position, error) {
	out := map[string]leat.Position{}
	for _, p := range partitions {
		s.store.epochs[p]++
		s.epochs[p] = s.store.epochs[p]
		at, ok := s.store.positions[p]
		if s.how == "drops Resume" {
			at.Resume = ""
		}
		if ok || s.how == "nothing is 0" {
			out[p] = at
		}
	}
	return out, nil
}

func (s *bentSink) Write(_ context.Context, b *leat.Batch[string]) error {
	if s.store.trouble {
		switch s.how {
		case "trouble is permanent":
			return errors.New("locked")
		case "forgets in trouble":
			s.open = nil
		}
		return leat.Transient(errors.New("locked"))
	}
	var refused leat.RowErrors
	for i, r := range b.Rows() {
		if strings.HasPrefix(r, "bad") {
			n := i
			if s.how == "names a neighbour" && i > 0 {
				n = i - 1
			}
			refused.Rows = append(refused.Rows, leat.RowError{Row: n, Err: errors.New("bad")})
		}
	}
	if len(refused.Rows) > 0 {
		switch s.how {
		case "writes the good ones":
			for _, r := range b.Rows() {
				if !strings.HasPrefix(r, "bad") {
					s.open = append(s.open, r)
				}
			}
		case "drops the batch":
			refused.Rows = nil
			for i := range b.Len() {
				refused.Rows = append(refused.Rows, leat.RowError{Row: i, Err: errors.New("bad")})
			}
		}
		return &refused
	}
	switch s.how {
	case "visible at once":
		s.store.rows = append(s.store.rows, b.Rows()...)
		return nil
	case "keeps the batch":
		s.batch = append(s.batch, b.Rows())
		return nil
	case "asks late":
		s.late = append(s.late, b)
	case "loses a row":
		s.open = append(s.open, b.Rows()[1:]...)
		return nil
	case "reorders":
		for _, r := range b.Rows() {
			s.open = append([]string{r}, s.open...)
		}
		return nil
	}
	s.open = append(s.open, b.Rows()...)
	return nil
}

func (s *bentSink) Commit(_ context.Context, cp leat.Checkpoint) (bool, error) {
	if s.store.trouble {
		return false, leat.Transient(errors.New("locked"))
	}
	for _, b := range s.late {
		_ = b.Origin(0)
	}
	s.late = nil
	s.asked++
	switch {
	case s.how == "not yet, never":
		return false, nil
	case s.how == "defers" && !cp.Force && s.asked%3 != 0:
		return false, nil
	case s.how == "not yet, but visible" && !cp.Force:
		s.store.rows = append(s.store.rows, s.open...)
		s.open = nil
		return false, nil
	case s.how == "done too early" && !cp.Force:
		return true, nil
	}
	var lost []string
	for p := range cp.Positions {
		if s.epochs[p] != s.store.epochs[p] && s.how != "no fence" && s.Guarantee() == leat.ExactlyOnce && s.how != "no positions" {
			lost = append(lost, p)
		}
	}
	if len(lost) > 0 {
		switch s.how {
		case "fences in its own words":
			return false, errors.New("somebody else has it")
		case "names the wrong partition":
			return false, leat.Fenced("leattest/7")
		case "fences after storing":
			s.store.rows = append(s.store.rows, s.open...)
		}
		return false, leat.Fenced(lost...)
	}
	for _, rows := range s.batch {
		s.open = append(s.open, rows...)
	}
	s.batch = nil
	lose := s.store.lose
	s.store.lose = ""
	if lose == "did not" {
		if s.how == "ambiguous is done" {
			s.open = nil
			return true, nil
		}
		return false, leat.ErrAborted
	}
	if s.how == "positions need rows" && len(s.open) == 0 {
		return true, nil
	}
	moved := maps.Clone(cp.Positions)
	for _, r := range s.open {
		if s.how == "idempotent" && slices.Contains(s.store.rows, r) {
			continue
		}
		s.store.rows = append(s.store.rows, r)
	}
	switch s.how {
	case "position after rows": // a crash in between stores the rows twice
		if s.asked%2 == 0 {
			maps.Copy(s.store.positions, moved)
		}
	case "position before rows":
		maps.Copy(s.store.positions, moved)
		if !cp.Force && len(s.open) > 0 {
			s.store.rows = s.store.rows[:len(s.store.rows)-1] // they come with the next commit
			s.open = s.open[len(s.open)-1:]
			return true, nil
		}
	default:
		maps.Copy(s.store.positions, moved)
	}
	open := s.open
	s.open = nil
	if lose == "took" {
		switch s.how {
		case "ambiguous again":
			s.open = open
			return false, leat.Transient(errors.New("connection lost"))
		case "ambiguous is a fence":
			return false, leat.ErrFenced
		}
		return false, leat.ErrAborted
	}
	return true, nil
}

func (s *bentSink) Close() error {
	if s.how == "Close commits" {
		s.store.rows = append(s.store.rows, s.open...)
		s.open = nil
	}
	return nil
}

// --- stages ---

// bentStage is the running sum of a partition.
type bentStage struct {
	how  string
	mu   sync.Mutex
	sums map[string]int
}

// forgetful is one that does not say that it keeps state.
type forgetful struct{ s *bentStage }

func (f forgetful) Process(ctx context.Context, in, out *leat.Batch[int]) error {
	return f.s.Process(ctx, in, out)
}

func stageWith(how string) func(t *testing.T) {
	return func(t *testing.T) {
		leattest.TestStage(t, func() leat.Stage[int, int] {
			s := &bentStage{how: how, sums: map[string]int{}}
			if how == "counts batches" || how == "remembers without saying so" || how == "says nothing" || how == "keeps its goroutine" {
				return forgetful{s}
			}
			return s
		}, ints(40)...)
	}
}

func (s *bentStage) Process(_ context.Context, in, out *leat.Batch[int]) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	home := in.Partition()
	if s.how == "one state for all" {
		home = ""
	}
	if s.how == "keeps its goroutine" {
		_ = stay("Open")
	}
	for i, n := range in.Rows() {
		switch s.how {
		case "says nothing":
			continue
		case "counts batches":
			out.Append(i, i)
			continue
		}
		s.sums[home] += n
		out.Append(s.sums[home], i)
	}
	return nil
}

func (s *bentStage) Restore(partition string, saved [][]byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.how == "one state for all" {
		return nil
	}
	if s.how != "Restore adds" {
		s.sums[partition] = 0
	}
	if len(saved) > 0 {
		n, err := strconv.Atoi(string(saved[len(saved)-1]))
		if s.how == "Restore adds" {
			n += s.sums[partition]
		}
		s.sums[partition] = n
		return err
	}
	return nil
}

func (s *bentStage) Delta(partition string) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.how == "Delta forgets" {
		return nil, nil
	}
	return strconv.AppendInt(nil, int64(s.sums[partition]), 10), nil
}

func (s *bentStage) Snapshot(partition string) ([]byte, error) {
	if s.how == "Snapshot forgets" {
		return []byte("0"), nil
	}
	return s.Delta(partition)
}
