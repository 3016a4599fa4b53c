package operate_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/lake"
	"github.com/leatgo/leat/leattest"
	"github.com/leatgo/leat/operate"
	"github.com/leatgo/leat/operate/sqliteholder"
	"github.com/leatgo/leat/sink/parquetsink"
	"github.com/leatgo/leat/sink/sqlitesink"
	"github.com/leatgo/leat/source/csvsource"
	"github.com/leatgo/leat/stage"
)

type sale struct {
	ID  int64
	Qty int64
}

// world is a folder of CSV files and a pipeline over it.
type world struct {
	in, state, db string
	mended        bool // the stage accepts what it refused
}

func newWorld(t *testing.T, files ...string) *world {
	t.Helper()
	dir := t.TempDir()
	w := &world{in: filepath.Join(dir, "in"), state: filepath.Join(dir, "state"), db: filepath.Join(dir, "s.db")}
	require.NoError(t, os.Mkdir(w.in, 0o755))
	for i, text := range files {
		require.NoError(t, os.WriteFile(filepath.Join(w.in, fmt.Sprintf("%c.csv", 'a'+i)), []byte("id,qty\n"+text), 0o644))
	}
	return w
}

func (w *world) pipeline(from leat.Source[sale]) *leat.Pipeline {
	return w.pipelineWith(from, leat.Config{StateDir: w.state, Logger: slog.New(slog.DiscardHandler)})
}

func (w *world) pipelineWith(from leat.Source[sale], c leat.Config) *leat.Pipeline {
	p := leat.New("sales", c)
	good := leat.Via(leat.From(p, from), "check", stage.Map(func(s sale) (sale, error) {
		if s.Qty < 0 && !w.mended {
			return sale{}, &leat.FieldError{Column: "qty", Rule: "gte", Msg: "qty is negative"}
		}
		return s, nil
	}))
	leat.To(good, sqlitesink.New(sqlitesink.Config[sale]{Path: w.db, Table: "sales"}))
	return p
}

func (w *world) csv() *csvsource.Source[sale] {
	return csvsource.New(csvsource.Config[sale]{Dir: w.in, Name: "files"})
}

func (w *world) run(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	require.NoError(t, w.pipeline(w.csv()).Run(ctx))
}

func (w *world) ids(t *testing.T) (out []int64) {
	t.Helper()
	conn, err := sqlite.OpenConn(w.db, sqlite.OpenReadOnly)
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, sqlitex.ExecuteTransient(conn, "SELECT id FROM sales ORDER BY id", &sqlitex.ExecOptions{ResultFunc: func(s *sqlite.Stmt) error {
		out = append(out, s.ColumnInt64(0))
		return nil
	}}))
	return out
}

// running is a pipeline that stays until the test ends, or stop is called.
func (w *world) running(t *testing.T) (stop func()) {
	t.Helper()
	ready := make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.pipeline(&stays{ready}).Run(ctx) }()
	<-ready
	return func() {
		cancel()
		require.NoError(t, <-done)
	}
}

// stays is a source that has nothing to say and does not end.
type stays struct{ ready chan struct{} }

func (s *stays) Name() string                                  { return "files" }
func (s *stays) Commit(context.Context, leat.Checkpoint) error { return nil }
func (s *stays) Run(ctx context.Context, _ leat.Intake[sale]) error {
	close(s.ready)
	<-ctx.Done()
	return nil
}

func TestReadStateAndLedgers(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "1,5\n2,-1\nx,1\n", "3,7\n")
	w.run(t)

	s, err := operate.ReadState(w.state)
	require.NoError(t, err)
	require.False(t, s.Running)
	require.NotZero(t, s.Checkpoint)
	require.WithinDuration(t, time.Now(), s.Written, time.Minute)
	require.Len(t, s.Positions, 1)
	require.Equal(t, "files", s.Positions[0].Partition)
	require.Equal(t, []operate.Node{
		{Name: "check", In: 3, Out: 2, Rejected: 1, Reasons: map[string]int64{"Transform/qty/gte": 1}},
		{Name: "files", In: 4, Out: 3, Rejected: 1, Reasons: map[string]int64{"Decode/id/syntax": 1}},
		{Name: "sales", Out: 2},
	}, s.Nodes)

	held, err := sqliteholder.New(w.db).Positions(t.Context())
	require.NoError(t, err)
	require.Len(t, held, 1)
	require.Equal(t, s.Positions[0].Position, held[0].Position, "state folder and sink stand at one place")
	require.Equal(t, "sales", held[0].Pipeline)

	l, err := operate.Ledgers(w.state)
	require.NoError(t, err)
	require.Len(t, l, 1)
	require.Equal(t, "files", l[0].Source)
	require.Equal(t, []string{"a.csv ok", "b.csv ok"}, []string{l[0].Files[0].Name + " " + l[0].Files[0].Status, l[0].Files[1].Name + " " + l[0].Files[1].Status})

	stop := w.running(t)
	again, err := operate.ReadState(w.state)
	require.NoError(t, err)
	require.True(t, again.Running)
	require.Equal(t, s.Positions, again.Positions)
	stop()
}

// What is not there is said, and nothing is made in its place.
func TestNothingThere(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "none")
	_, err := operate.ReadState(dir)
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.ErrorContains(t, err, dir+" is no state folder: it has no checkpoints.db")
	_, err = operate.Ledgers(dir)
	require.ErrorIs(t, err, fs.ErrNotExist)
	_, err = operate.Reset(t.Context(), operate.ResetConfig{StateDir: dir, Partition: "p", Forget: true})
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.ErrorIs(t, operate.Reprocess(dir, "files", "a.csv"), fs.ErrNotExist)
	_, err = operate.Lake(dir).Positions(t.Context())
	require.ErrorIs(t, err, fs.ErrNotExist)
	_, err = sqliteholder.New(dir).Positions(t.Context())
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.NoDirExists(t, dir)
	for range operate.Letters(operate.LettersFile(dir), operate.Filter{}) {
		t.Fatal("a letter of nobody")
	}

	other := filepath.Join(t.TempDir(), "other.db")
	conn, err := sqlite.OpenConn(other)
	require.NoError(t, err)
	require.NoError(t, sqlitex.ExecuteTransient(conn, "CREATE TABLE t (a)", nil))
	require.NoError(t, conn.Close())
	_, err = sqliteholder.New(other).Positions(t.Context())
	require.EqualError(t, err, other+" has no table leat_positions: no sink of a pipeline has written to it")
}

func TestLetters(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "1,5\n2,-1\nx,1\n", "3,7\n4,-4\n")
	w.run(t)
	path := operate.LettersFile(w.state)
	collect := func(f operate.Filter) (out []leat.DeadLetter) {
		for l, err := range operate.Letters(path, f) {
			require.NoError(t, err)
			out = append(out, l)
		}
		return out
	}
	require.Len(t, collect(operate.Filter{}), 3)
	require.Len(t, collect(operate.Filter{Class: leat.Decode}), 1)
	require.Len(t, collect(operate.Filter{Node: "check"}), 2)
	require.Len(t, collect(operate.Filter{Node: "check", File: "b.csv"}), 1)
	require.Empty(t, collect(operate.Filter{Source: "other"}))

	l := collect(operate.Filter{File: "b.csv"})[0]
	got, err := operate.Letter(path, l.ID)
	require.NoError(t, err)
	require.Equal(t, l, got)
	require.Equal(t, "4,-4", strings.TrimSpace(string(got.Raw)))
	got, err = operate.Letter(path, l.ID[:16])
	require.NoError(t, err)
	require.Equal(t, l.ID, got.ID)
	_, err = operate.Letter(path, "nope")
	require.ErrorIs(t, err, operate.ErrNoLetter)
	_, err = operate.Letter(path, "")
	require.ErrorIs(t, err, operate.ErrNoLetter)

	// Chosen, exported, replayed by the program, and refused again.
	file := filepath.Join(t.TempDir(), "chosen.jsonl")
	n, err := operate.Export(operate.Letters(path, operate.Filter{Node: "check"}), file)
	require.NoError(t, err)
	require.Equal(t, 2, n)
	_, err = operate.Export(operate.Letters(path, operate.Filter{}), file)
	require.ErrorIs(t, err, fs.ErrExist)
	s, err := leat.Replay(t.Context(), w.pipeline(w.csv()), leat.DeadLetters(file))
	require.NoError(t, err)
	require.EqualValues(t, 2, s.Rejected)
	require.Len(t, collect(operate.Filter{}), 5)
	newest := collect(operate.Filter{Newest: true})
	require.Len(t, newest, 3)
	var stats operate.LetterStats
	for i := range newest {
		stats.Count(&newest[i])
	}
	require.Equal(t, operate.LetterStats{
		Letters: 3, Again: 2, ByClass: map[string]int{"Decode": 1, "Transform": 2}, ByNode: map[string]int{"files": 1, "check": 2},
		ByRule: map[string]int{"Decode/id/syntax": 1, "Transform/qty/gte": 2}, ByFile: map[string]int{"a.csv": 2, "b.csv": 1},
	}, stats)

	w.mended = true
	s, err = leat.Replay(t.Context(), w.pipeline(w.csv()), operate.Letters(path, operate.Filter{Newest: true}))
	require.NoError(t, err)
	require.EqualValues(t, 3, s.Sent)
	require.EqualValues(t, 1, s.Rejected)
	require.Equal(t, []int64{1, 2, 3, 4}, w.ids(t))
}

func TestExportKeepsNothingHalf(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "out.jsonl")
	broken := errors.New("broken")
	_, err := operate.Export(func(yield func(leat.DeadLetter, error) bool) {
		_ = yield(leat.DeadLetter{ID: "1"}, nil) && yield(leat.DeadLetter{}, broken)
	}, file)
	require.ErrorIs(t, err, broken)
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, left)
	n, err := operate.Export(func(func(leat.DeadLetter, error) bool) {}, file)
	require.NoError(t, err)
	require.Zero(t, n)
	require.FileExists(t, file)
}

func (w *world) reset(partition string) operate.ResetConfig {
	return operate.ResetConfig{StateDir: w.state, Partition: partition, Holders: []operate.Holder{sqliteholder.New(w.db)}}
}

// A reset moves what it said it would, durably, and rows come again from there.
func TestResetBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "1,5\n2,5\n", "3,7\n")
	w.run(t)
	l, err := operate.Ledgers(w.state)
	require.NoError(t, err)

	c := w.reset("files")
	c.To = l[0].Files[1].Offset
	plan, err := operate.PlanReset(t.Context(), c)
	require.NoError(t, err)
	require.Len(t, plan.Changes, 2)
	end := plan.Changes[0].Position.Next
	require.Equal(t, fmt.Sprintf("sqlite %s, pipeline sales, sink sales: %d -> %d", w.db, end, c.To), plan.Changes[0].String())
	require.Equal(t, fmt.Sprintf("state folder %s: %d -> %d", w.state, end, c.To), plan.Changes[1].String())
	require.Contains(t, strings.Join(plan.Effects, "\n"), "any other holds them twice")
	w.run(t)
	require.Equal(t, []int64{1, 2, 3}, w.ids(t), "a plan changes nothing")

	done, err := operate.Reset(t.Context(), c)
	require.NoError(t, err)
	require.Equal(t, plan.Effects, done.Effects)
	plan, err = operate.PlanReset(t.Context(), c)
	require.NoError(t, err)
	require.Empty(t, plan.Changes, "it is done")
	require.Equal(t, []string{"nothing: all places named stand there already"}, plan.Effects)
	w.run(t)
	require.Equal(t, []int64{1, 2, 3, 3}, w.ids(t), "the second file comes again")

	c.To, c.Forget = 0, true
	_, err = operate.Reset(t.Context(), c)
	require.NoError(t, err)
	w.run(t)
	require.Equal(t, []int64{1, 1, 2, 2, 3, 3, 3}, w.ids(t), "as if for the first time")
}

// A sink that is not named keeps what it holds.
func TestResetOfTheStateFolderAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "1,5\n2,5\n")
	w.run(t)
	_, err := operate.Reset(t.Context(), operate.ResetConfig{StateDir: w.state, Partition: "files", Forget: true})
	require.NoError(t, err)
	w.run(t)
	require.Equal(t, []int64{1, 2}, w.ids(t), "rule E7: what a sink holds is not sent to it again")
}

func TestResetAhead(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "1,5\n2,5\n")
	w.run(t)
	l, err := operate.Ledgers(w.state)
	require.NoError(t, err)
	c := w.reset("files")
	c.To = l[0].Files[0].Offset
	_, err = operate.Reset(t.Context(), c)
	require.NoError(t, err)
	c.To = int64(len("id,qty\n1,5\n"))
	plan, err := operate.Reset(t.Context(), c)
	require.NoError(t, err)
	require.Contains(t, strings.Join(plan.Effects, "\n"), "are skipped")
	w.run(t)
	require.Equal(t, []int64{1, 2, 2}, w.ids(t))
}

// A replay is a partition like any other: forgotten, its letters are sent again.
func TestResetOfAReplay(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "1,5\n2,-5\n")
	w.run(t)
	w.mended = true
	letters := func() leat.ReplayStats {
		s, err := leat.Replay(t.Context(), w.pipeline(w.csv()), leat.DeadLetters(operate.LettersFile(w.state)))
		require.NoError(t, err)
		return s
	}
	require.EqualValues(t, 1, letters().Sent)
	require.EqualValues(t, 0, letters().Sent)
	c := w.reset("files/" + leat.ReplayPartition)
	c.Forget = true
	_, err := operate.Reset(t.Context(), c)
	require.NoError(t, err)
	require.EqualValues(t, 1, letters().Sent)
	require.Equal(t, []int64{1, 2, 2}, w.ids(t))
}

func TestResetRefuses(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "1,5\n")
	w.run(t)
	for name, test := range map[string]struct {
		change func(*operate.ResetConfig)
		want   string
	}{
		"no partition":      {func(c *operate.ResetConfig) { c.Partition = "" }, "reset: no partition is named"},
		"negative":          {func(c *operate.ResetConfig) { c.To = -1 }, "reset: To must be an offset from 0 on"},
		"both":              {func(c *operate.ResetConfig) { c.To, c.Forget = 1, true }, "and 0 with Forget"},
		"unknown":           {func(c *operate.ResetConfig) { c.Partition, c.Holders = "x", nil }, `nothing holds partition "x"; the state folder knows of: files`},
		"unknown in a sink": {func(c *operate.ResetConfig) { c.Partition = "x" }, `no sink holds partition "x" in one of the places named; it knows of: files`},
		"another pipeline":  {func(c *operate.ResetConfig) { c.Pipeline = "other" }, `no sink holds partition "files"`},
	} {
		t.Run(name, func(t *testing.T) {
			c := w.reset("files")
			test.change(&c)
			_, err := operate.Reset(t.Context(), c)
			require.ErrorContains(t, err, test.want)
		})
	}

	t.Run("two pipelines", func(t *testing.T) {
		other := newWorld(t, "7,7\n")
		other.db = w.db
		p := leat.New("second", leat.Config{StateDir: other.state, Logger: slog.New(slog.DiscardHandler)})
		leat.To(leat.From(p, other.csv()), sqlitesink.New(sqlitesink.Config[sale]{Path: w.db, Table: "other"}))
		require.NoError(t, p.Run(t.Context()))
		c := w.reset("files")
		_, err := operate.PlanReset(t.Context(), c)
		require.ErrorContains(t, err, "several pipelines hold partition \"files\" in sqlite "+w.db+": sales, second; say which one")
		c.Pipeline = "second" // whose log is another one
		_, err = operate.PlanReset(t.Context(), c)
		require.ErrorContains(t, err, "positions of different logs")
		c.Pipeline = "sales"
		plan, err := operate.PlanReset(t.Context(), c)
		require.NoError(t, err)
		require.Len(t, plan.Changes, 2)
	})
	t.Run("in use", func(t *testing.T) {
		defer w.running(t)()
		_, err := operate.PlanReset(t.Context(), w.reset("files"))
		require.ErrorIs(t, err, operate.ErrInUse)
		_, err = operate.Reset(t.Context(), w.reset("files"))
		require.ErrorIs(t, err, operate.ErrInUse)
		require.ErrorContains(t, err, "the state folder "+w.state+" is in use: stop the pipeline first")
		require.ErrorIs(t, operate.Reprocess(w.state, "files", "a.csv"), operate.ErrInUse)
	})
}

// failing is a Holder whose Move fails the first time.
type failing struct {
	operate.Holder
	err error
}

func (f *failing) Move(ctx context.Context, h operate.Held, to leat.Position) error {
	if err := f.err; err != nil {
		f.err = nil
		return err
	}
	return f.Holder.Move(ctx, h, to)
}

// A reset that was cut off is finished by another one.
func TestResetCutOff(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "1,5\n2,5\n")
	w.run(t)
	broken := errors.New("broken")
	c := w.reset("files")
	c.Forget = true
	c.Holders = []operate.Holder{&failing{c.Holders[0], broken}}
	_, err := operate.Reset(t.Context(), c)
	require.ErrorIs(t, err, broken)
	require.ErrorContains(t, err, "(0 of 2 positions are reset; mend that and reset again)")
	plan, err := operate.Reset(t.Context(), c)
	require.NoError(t, err)
	require.Len(t, plan.Changes, 2)
	w.run(t)
	require.Equal(t, []int64{1, 1, 2, 2}, w.ids(t))
}

func TestReprocess(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "1,5\n2,5\n", "3,5\n")
	w.run(t)
	require.NoError(t, operate.Reprocess(w.state, "files", "a.csv"))
	w.run(t)
	require.Equal(t, []int64{1, 1, 2, 2, 3}, w.ids(t))
	require.ErrorContains(t, operate.Reprocess(w.state, "files", "x.csv"), "x.csv was never entered")
	err := operate.Reprocess(w.state, "other", "a.csv")
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.ErrorContains(t, err, `has no ledger of a source "other"`)
}

// A sink that moves meanwhile is not overwritten.
func TestMoveComparesAndSets(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "1,5\n")
	w.run(t)
	h := sqliteholder.New(w.db)
	held, err := h.Positions(t.Context())
	require.NoError(t, err)
	w.run(t) // takes over: another epoch
	require.ErrorContains(t, h.Move(t.Context(), held[0], leat.Position{}), "has moved meanwhile")
	now, err := h.Positions(t.Context())
	require.NoError(t, err)
	require.Greater(t, now[0].Epoch, held[0].Epoch)
	require.NoError(t, h.Move(t.Context(), now[0], leat.Position{}))
	now, err = h.Positions(t.Context())
	require.NoError(t, err)
	require.False(t, now[0].Position.Known(), "rule E7: forgotten is not 0")
	require.True(t, slices.ContainsFunc(now, func(h operate.Held) bool { return h.Partition == "files" }))
}

// A lake's position moves like any other; its files stay.
func TestResetOfALake(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "1,5\n2,5\n")
	dir := filepath.Join(t.TempDir(), "lake")
	build := func() *leat.Pipeline {
		p := leat.New("sales", leat.Config{StateDir: w.state, Logger: slog.New(slog.DiscardHandler)})
		leat.To(leat.From(p, w.csv()), parquetsink.New(parquetsink.Config[sale]{Dir: dir}))
		return p
	}
	rows := func() (n int64) {
		files, err := lake.Files(dir)
		require.NoError(t, err)
		for _, f := range files {
			n += f.Rows
		}
		return n
	}
	require.NoError(t, build().Run(t.Context()))
	held, err := operate.Lake(dir).Positions(t.Context())
	require.NoError(t, err)
	require.Len(t, held, 1)
	s, err := operate.ReadState(w.state)
	require.NoError(t, err)
	require.Equal(t, s.Positions[0].Position, held[0].Position)
	for _, c := range []operate.ResetConfig{{To: 0}, {Forget: true}} {
		before := rows()
		c.StateDir, c.Partition, c.Holders = w.state, "files", []operate.Holder{operate.Lake(dir)}
		plan, err := operate.Reset(t.Context(), c)
		require.NoError(t, err)
		require.Len(t, plan.Changes, 2)
		require.Equal(t, before, rows())
		require.NoError(t, build().Run(t.Context()))
		require.Equal(t, before+2, rows())
	}
}

// total is a running sum over all rows.
type total struct{ sum int64 }

func (s *total) Process(_ context.Context, in, out *leat.Batch[sale]) error {
	for i, r := range in.Rows() {
		s.sum += r.Qty
		out.Append(sale{r.ID, s.sum}, i)
	}
	return nil
}
func (s *total) Restore(_ string, saved [][]byte) (err error) {
	s.sum = 0
	if len(saved) > 0 {
		s.sum, err = strconv.ParseInt(string(saved[len(saved)-1]), 10, 64)
	}
	return err
}
func (s *total) Delta(string) ([]byte, error)      { return strconv.AppendInt(nil, s.sum, 10), nil }
func (s *total) Snapshot(p string) ([]byte, error) { return s.Delta(p) }

// State belongs to its position, and goes with it.
func TestResetDeletesState(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "1,5\n2,6\n")
	sink := leattest.Collect[sale]()
	build := func() *leat.Pipeline {
		p := leat.New("sales", leat.Config{StateDir: w.state, Logger: slog.New(slog.DiscardHandler)})
		leat.To(leat.Via(leat.From(p, w.csv()), "total", &total{}), sink)
		return p
	}
	require.NoError(t, build().Run(t.Context()))
	require.Equal(t, []sale{{1, 5}, {2, 11}}, sink.Committed())
	c := operate.ResetConfig{StateDir: w.state, Partition: "files", Forget: true}
	plan, err := operate.Reset(t.Context(), c)
	require.NoError(t, err)
	require.Contains(t, plan.Effects, "what stages with state remember of this partition is deleted: total")
	sink = leattest.Collect[sale]() // the sink was emptied too
	require.NoError(t, build().Run(t.Context()))
	require.Equal(t, []sale{{1, 5}, {2, 11}}, sink.Committed())
}

// Where one place stands at the offset already, the others come to stand exactly there: a stage with
// state starts nowhere else (rule E7-4).
func TestResetToWhereAPlaceStands(t *testing.T) {
	t.Parallel()
	for _, back := range []bool{false, true} { // to where the state folder is, or to where the sink is
		t.Run(fmt.Sprint(back), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, "1,5\n")
			build := func() *leat.Pipeline {
				p := leat.New("sales", leat.Config{StateDir: w.state, Logger: slog.New(slog.DiscardHandler)})
				leat.To(leat.Via(leat.From(p, w.csv()), "total", &total{}), sqlitesink.New(sqlitesink.Config[sale]{Path: w.db, Table: "sales"}))
				return p
			}
			holder := sqliteholder.New(w.db)
			run := func(file, text string) operate.Held {
				require.NoError(t, os.WriteFile(filepath.Join(w.in, file), []byte("id,qty\n"+text), 0o644))
				require.NoError(t, build().Run(t.Context()))
				held, err := holder.Positions(t.Context())
				require.NoError(t, err)
				return held[0]
			}
			first := run("a.csv", "1,5\n").Position
			second := run("b.csv", "2,6\n")
			require.NoError(t, holder.Move(t.Context(), second, first)) // as in a backup of the sink
			require.ErrorContains(t, build().Run(t.Context()), "E7-4")

			c, want := w.reset("files"), int64(5+6+7)
			if c.To = second.Position.Next; back {
				c.To, want = first.Next, 6+7
			}
			plan, err := operate.Reset(t.Context(), c)
			require.NoError(t, err)
			require.Len(t, plan.Changes, 1)
			require.Equal(t, back, strings.Contains(strings.Join(plan.Effects, "\n"), "remember of this partition is deleted"), "%v", plan.Effects)
			again, err := operate.Reset(t.Context(), c)
			require.NoError(t, err)
			require.Empty(t, again.Changes)

			run("c.csv", "3,7\n")
			conn, err := sqlite.OpenConn(w.db, sqlite.OpenReadOnly)
			require.NoError(t, err)
			defer conn.Close()
			var qty int64
			require.NoError(t, sqlitex.ExecuteTransient(conn, "SELECT qty FROM sales WHERE id = 3", &sqlitex.ExecOptions{ResultFunc: func(s *sqlite.Stmt) error {
				qty = s.ColumnInt64(0)
				return nil
			}}))
			require.Equal(t, want, qty, "of the state that belongs to the offset")
		})
	}
}
