package leat_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/leattest"
)

type faulty struct{ *plainSink }

func (faulty) Validate() error { return errors.Join(errors.New("no table"), errors.New("no key")) }

type atLeast struct {
	*plainSink
	g leat.Guarantee
}

func (a atLeast) Guarantee() leat.Guarantee { return a.g }

// Positions are kept by the name of a partition, which is its source's name and its own.
func TestPartitionsOfTwoSourcesHaveTwoNames(t *testing.T) {
	t.Parallel()
	check := func(one, other string) error {
		p := leat.New("p", config(t))
		leat.To(leat.From(p, leattest.Rows(1).Named(one)), leattest.Collect[int]().Named("x"))
		leat.To(leat.From(p, leattest.Rows(1).Named(other)), leattest.Collect[int]().Named("y"))
		return p.Check()
	}
	require.ErrorContains(t, check("a", "a/b"), `the sources "a" and "a/b" may have partitions with one name, such as "a/b"`)
	require.ErrorContains(t, check("a/b", "a"), "give one of them another Name")
	require.NoError(t, check("a", "ab"))
	require.NoError(t, check("a/b", "a/c"))
}

func TestCheckReportsEveryFault(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "state")
	c := leat.Config{StateDir: dir, Require: leat.ExactlyOnce, CheckpointEvery: -time.Second,
		Breaker: leat.Breaker{Share: 2, Window: -1, Min: -1}}
	p := leat.New("a/b", c)
	none := source(nil)
	none.replay = leat.ReplayNone
	rows := leat.From(p, none)
	leat.From(p, leat.Source[int](nil))
	unread := via(rows, "unread", keep(func(int) bool { return true }))
	_ = unread
	bad := leat.Via(rows, "", leat.Stage[int, int](nil))
	state := leat.Via(rows, "@state", leat.Stage[int, string](newCounting()))
	leat.To(state, leat.Sink[string](nil))
	leat.To(bad, leattest.Collect[int](), leattest.Collect[int]())
	leat.To(rows, leat.Sink[int](faulty{&plainSink{name: "faulty"}}))
	leat.To(rows)
	other := leat.From(leat.New("other", leat.Config{}), leattest.Rows(1))
	leat.To(leat.Merge(rows, other), leat.Sink[int](atLeast{&plainSink{name: "least"}, leat.AtLeastOnce}))
	for range 2 {
		err := p.Check()
		for _, want := range []string{
			`pipeline name "a/b"`,
			"Config.CheckpointEvery can't be negative",
			"Config.Breaker.Window can't be negative",
			"Config.Breaker.Share 2",
			"Config.Breaker",
			"From: the source is nil",
			`Via "": the stage is nil`,
			`stage name ""`,
			`stage name "@state"`,
			"a sink behind \"@state\" is nil",
			`two nodes are named "collect"`,
			`nothing reads "unread"`,
			"no table", "no key",
			"To: no sink given",
			"two pipelines",
			`rule E5: func → least gives "at least once", but Config.Require asks for "exactly once"`,
			`rule E5: func → collect gives "at least once"`, // the source can't read again (A2-2)
			"rule A2-2: stage @state keeps state, but source func can't be read again",
		} {
			assert.ErrorContains(t, err, want, "Check joins all faults")
		}
	}
	require.ErrorContains(t, p.Run(t.Context()), "no table", "Run calls Check first")
	assert.NoDirExists(t, dir, "Check opens nothing")
}

func TestCheckOfNegativeBreakers(t *testing.T) {
	t.Parallel()
	for _, b := range []leat.Breaker{{Window: -1}, {Min: -1}, {Share: -0.5}, {Share: 1.5}} {
		p := leat.New("p", leat.Config{Breaker: b})
		leat.To(leat.From(p, leattest.Rows(1)), leattest.Collect[int]())
		assert.ErrorContains(t, p.Check(), "Breaker", "%+v", b)
	}
}

func TestCheckOfEmptyPipelines(t *testing.T) {
	t.Parallel()
	require.ErrorContains(t, leat.New("p", leat.Config{}).Check(), "no source")
	require.ErrorContains(t, leat.New("", leat.Config{}).Check(), "no name")
	p := leat.New("p", leat.Config{})
	leat.From(p, leattest.Rows(1))
	require.ErrorContains(t, p.Check(), `nothing reads "rows"`)
	good := leat.New("p", leat.Config{StateDir: t.TempDir()})
	leat.To(leat.From(good, leattest.Rows(1)), leattest.Collect[int]())
	require.NoError(t, good.Check())
}

// A nil function would take the process down, on a goroutine of the router (rule A9).
func TestCheckOfNilMiddleware(t *testing.T) {
	t.Parallel()
	p := leat.New("p", leat.Config{StateDir: t.TempDir(), Middleware: []message.HandlerMiddleware{nil}})
	leat.To(leat.From(p, leattest.Rows(1)), leattest.Collect[int]())
	require.ErrorContains(t, p.Check(), "Config.Middleware[0] is nil")
}

// A router without handlers waits for one, for ever, and its context is not the caller's.
func TestRunOfNoPipelines(t *testing.T) {
	bubble(t, func(t *testing.T) {
		for _, members := range []int{0, -1} {
			none := leat.Replicas(members, func(int) *leat.Pipeline { return nil })
			ended := make(chan error, 1)
			go func() { ended <- leat.Run(t.Context(), none...) }()
			select {
			case err := <-ended:
				require.ErrorContains(t, err, "no pipeline")
			case <-time.After(time.Hour):
				t.Fatal("it never ends")
			}
		}
	})
}

func TestRequire(t *testing.T) {
	t.Parallel()
	for _, g := range []leat.Guarantee{leat.AtLeastOnce, leat.Idempotent, leat.ExactlyOnce} {
		for _, replay := range []leat.ReplayKind{leat.ReplayNone, leat.ReplaySimilar, leat.ReplayExact} {
			for _, want := range []leat.Guarantee{leat.AtLeastOnce, leat.Idempotent, leat.ExactlyOnce} {
				p := leat.New("p", leat.Config{Require: want})
				src := source(nil)
				src.replay = replay
				leat.To(leat.From(p, src), leat.Sink[int](atLeast{&plainSink{name: "out"}, g}))
				gives := g
				if g == leat.ExactlyOnce && replay != leat.ReplayExact {
					gives = leat.AtLeastOnce
				}
				assert.Equal(t, []leat.Path{{Source: "func", Sink: "out", Guarantee: gives}}, p.Guarantees(), "rules A2-2, E5")
				if err := p.Check(); gives < want {
					assert.ErrorContains(t, err, "rule E5")
				} else {
					assert.NoError(t, err, "rule E5")
				}
			}
		}
	}
}

func TestStateFolderIsPrivate(t *testing.T) {
	t.Parallel()
	c := leat.Config{StateDir: filepath.Join(t.TempDir(), "deep", "state"), Logger: silent}
	p := leat.New("private", c)
	leat.To(leat.From(p, leattest.Rows(1)), leattest.Collect[int]().RejectIf(func(int) error { return errDisk }))
	require.NoError(t, p.Run(t.Context()))
	for name, mode := range map[string]os.FileMode{".": 0o700, "checkpoints.db": 0o600, "dead-letters.jsonl": 0o600} {
		info, err := os.Stat(filepath.Join(c.StateDir, name))
		require.NoError(t, err)
		assert.Equal(t, mode, info.Mode().Perm(), "%s holds raw data", name)
	}
}

// A second process waits for the state folder, and a cancel ends the wait.
func TestOneProcessAtATime(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := config(t)
		ctx, cancel := context.WithCancel(t.Context())
		first := start(ctx, pipe(c, leattest.Rows(ints(100)...).Endless(), 0, leattest.Collect[int]()))
		time.Sleep(time.Second)
		second, stop := context.WithTimeout(t.Context(), time.Second)
		defer stop()
		sink := leattest.Collect[int]()
		require.NoError(t, pipe(c, leattest.Rows(ints(100)...), 0, sink).Run(second), "stopped while waiting: nothing was begun")
		require.Empty(t, sink.Committed())
		third := start(t.Context(), pipe(c, leattest.Rows(ints(100)...), 0, sink))
		time.Sleep(time.Second)
		require.Empty(t, sink.Committed())
		cancel()
		require.NoError(t, first())
		require.NoError(t, third())
	})
}
