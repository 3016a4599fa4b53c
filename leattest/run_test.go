package leattest_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/leattest"
	"github.com/leatgo/leat/stage"
)

func TestRun(t *testing.T) {
	t.Parallel()
	disk := errors.New("the disk is gone")
	for name, tc := range map[string]struct {
		runner  leattest.Runner
		source  func(s *leattest.MemSource[int])
		sink    func(s *leattest.Collector[int])
		want    []int
		rejects string
		rewinds int
	}{
		"all is well":        {want: ints(10)},
		"in real time":       {runner: leattest.Runner{RealTime: true}, want: ints(10)},
		"never ends":         {runner: leattest.Runner{For: time.Minute}, source: func(s *leattest.MemSource[int]) { s.Endless() }, want: ints(10)},
		"gaps":               {source: func(s *leattest.MemSource[int]) { s.Gaps(5) }, want: ints(10)},
		"slow":               {source: func(s *leattest.MemSource[int]) { s.Slow(time.Minute) }, sink: func(s *leattest.Collector[int]) { s.Slow(5 * time.Minute) }, want: ints(10)},
		"a torn row":         {source: func(s *leattest.MemSource[int]) { s.Gaps(2).RejectAt(6, &leat.FieldError{Column: "n", Rule: "syntax"}) }, want: []int{0, 1, 2, 4, 5, 6, 7, 8, 9}, rejects: "6 Decode/n/syntax"},
		"a refused row":      {sink: func(s *leattest.Collector[int]) { s.RejectIf(refuse(4)) }, want: []int{0, 1, 2, 3, 5, 6, 7, 8, 9}, rejects: "4 SinkReject/-/-"},
		"the source fails":   {source: func(s *leattest.MemSource[int]) { s.FailAt(4, leat.Transient(disk)) }, want: ints(10), rewinds: 1},
		"for good":           {runner: leattest.Runner{WantErr: disk}, source: func(s *leattest.MemSource[int]) { s.FailAt(4, disk) }, want: ints(4)},
		"ambiguous, took":    {sink: func(s *leattest.Collector[int]) { s.AmbiguousCommit(1, true) }, want: ints(10), rewinds: 1},
		"ambiguous, did not": {sink: func(s *leattest.Collector[int]) { s.AmbiguousCommit(1, false) }, want: ints(10), rewinds: 1},
		"fenced":             {runner: leattest.Runner{WantErr: leat.ErrFenced}, sink: func(s *leattest.Collector[int]) { s.FenceAt(1) }, rewinds: 1},
		"crash at Open":      {runner: leattest.Runner{WantErr: leattest.ErrCrash}, sink: func(s *leattest.Collector[int]) { s.CrashAt("Open", 1) }},
		"crash at Restore":   {runner: leattest.Runner{WantErr: leattest.ErrCrash}, sink: func(s *leattest.Collector[int]) { s.CrashAt("Restore", 1) }},
		"crash at Write":     {runner: leattest.Runner{WantErr: leattest.ErrCrash}, sink: func(s *leattest.Collector[int]) { s.CrashAt("Write", 2) }, rewinds: 1},
		"crash at Commit":    {runner: leattest.Runner{WantErr: leattest.ErrCrash}, sink: func(s *leattest.Collector[int]) { s.CrashAt("Commit", 1) }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			source, sink := leattest.Rows(ints(10)...).Batches(3), leattest.Collect[int]()
			if tc.source != nil {
				tc.source(source)
			}
			if tc.sink != nil {
				tc.sink(sink)
			}
			report := tc.runner.Run(t, pipe(source, sink))
			if got := sink.Committed(); !slices.Equal(got, tc.want) {
				t.Errorf("got %v, want %v", got, tc.want)
			}
			if got := strings.Join(report.Rejected(), ", "); got != tc.rejects {
				t.Errorf("rejected %s, want %s", got, tc.rejects)
			}
			if got := report.Stats.Run.Rewinds; got != tc.rewinds {
				t.Errorf("%d rewinds, want %d", got, tc.rewinds)
			}
			if in := report.Node("rows").In; tc.runner.WantErr == nil && in != 10 {
				t.Errorf("%d rows in", in)
			}
		})
	}
}

func refuse(bad int) func(int) error {
	return func(n int) error {
		if n == bad {
			return errors.New("refused")
		}
		return nil
	}
}

// A restart finds what a crash has left: the state folder and the sink's memory.
func TestRestart(t *testing.T) {
	t.Parallel()
	for _, call := range []string{"Open", "Restore", "Write", "Commit"} {
		t.Run(call, func(t *testing.T) {
			t.Parallel()
			c := leat.Config{StateDir: t.TempDir()}
			build := func(sink *leattest.Collector[int]) *leat.Pipeline {
				p := leat.New("test", c)
				odd := leat.Via(leat.From(p, leattest.Rows(ints(20)...).Batches(4).Slow(time.Second)), "odd", stage.Filter(func(n int) bool { return n%2 == 1 }))
				leat.To(odd, sink)
				return p
			}
			sink := leattest.Collect[int]().CrashAt(call, 1)
			leattest.Runner{WantErr: leattest.ErrCrash}.Run(t, build(sink))
			leattest.Run(t, build(sink.Successor()))
			if got := fmt.Sprint(sink.Committed()); got != "[1 3 5 7 9 11 13 15 17 19]" {
				t.Error(got)
			}
		})
	}
}

// A source whose log was replaced is refused, and says how to go on (rule A2-1).
func TestAnotherLog(t *testing.T) {
	t.Parallel()
	c := leat.Config{StateDir: t.TempDir()}
	sink := leattest.Collect[int]()
	for _, log := range []string{"one", "two"} {
		p := leat.New("test", c)
		leat.To(leat.From(p, leattest.Rows(ints(3)...).Log(log)), sink)
		err := p.Run(t.Context())
		if (err != nil) != (log == "two") || err != nil && !strings.Contains(err.Error(), "rule A2-1") {
			t.Errorf("%s: %v", log, err)
		}
	}
}

// A stage that calls waits in the bubble's time, although it was made outside.
func TestStageThatWaits(t *testing.T) {
	t.Parallel()
	st := stage.Call(2, processed)
	for range 2 {
		start := time.Now()
		r := leattest.Stage(t, st, ints(40)...)
		if len(r.Rows) != 40 || r.Rows[39] != 78 {
			t.Error(r.Rows)
		}
		if took := time.Since(start); took > 5*time.Minute {
			t.Errorf("it took %v", took)
		}
	}
	r := leattest.StageWith(t, leattest.Runner{RealTime: true}, leat.Stage[int, int](stage.Map(func(n int) (int, error) { return n + 1, nil })), 1)
	if len(r.Rows) != 1 || r.Filtered != 0 {
		t.Error(r)
	}
}

func processed(ctx context.Context, n int) (int, error) {
	select {
	case <-time.After(time.Minute):
		return 2 * n, nil
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}
