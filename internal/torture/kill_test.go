package torture

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/leatgo/leat/internal/killtest"
)

// killDepth is how often recovery itself is killed, one life after the other.
const killDepth = 5

// kills is how often each sink is killed.
func kills() int {
	switch {
	case os.Getenv("LEAT_LONG") == "1":
		return number("LEAT_KILLS", 1000)
	case testing.Short(): // with the race detector, which is slow
		return 3
	}
	return 40
}

// number is what the environment says.
func number(name string, standard int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil {
		return n
	}
	return standard
}

// killRow is a line of the table that is printed.
type killRow struct {
	random, steps, recovery int // kills
	deep                    int // the most kills during recovery one after the other
	acks                    int // how often what was acknowledged was looked for right after a kill
	damage
}

// rules A3, B3, D3, D4, E1, E7, F1: a pipeline of each source and each sink is killed with
// SIGKILL at random times, at each system call by which it changes a file, and during
// the recovery that follows, five times in a row; each time until it has drained. Each
// row must be in the sink, or its letter in the dead letters, exactly once, and what
// was acknowledged must be there right after the kill.
func TestKill(t *testing.T) {
	table := newTable("source", "sink", "kills", "at random", "at steps", "in recovery", "deepest", "acks checked", "rows", "lost", "twice", "seconds")
	t.Run("each", func(t *testing.T) {
		for _, src := range sources {
			for _, snk := range sinks {
				t.Run(src.name+" to "+snk.name, func(t *testing.T) {
					t.Parallel()
					k := &killer{rng: rand.New(rand.NewPCG(seed(t), 0)), settings: quick(snk.name)}
					k.Source = src.name
					began := time.Now()
					k.all(t, kills())
					r := k.row
					table.add(src.name, snk.name, r.random+r.steps+r.recovery, r.random, r.steps, r.recovery, r.deep, r.acks,
						r.rows, r.lost, r.twice, int(time.Since(began).Seconds()+0.5))
				})
			}
		}
	})
	table.log(t, "kill -9")
}

// seed is LEAT_SEED, which repeats a run as far as the scheduler lets it.
func seed(t *testing.T) uint64 {
	t.Helper()
	s, err := strconv.ParseUint(os.Getenv("LEAT_SEED"), 10, 64)
	if err != nil {
		s = rand.Uint64()
	}
	t.Logf("LEAT_SEED=%d", s)
	return s
}

// killer kills the pipeline of one source and one sink.
type killer struct {
	settings
	row   killRow
	rng   *rand.Rand
	calls int           // of a life without a kill
	took  time.Duration // from "begun" to its end
	lives int
}

func (k *killer) fill(t *testing.T) *world {
	return fill(t, filepath.Join(t.TempDir(), "w"), k.settings, 5, 50, 10)
}

// all kills about n times: a third each at random, at steps and during recovery.
func (k *killer) all(t *testing.T, n int) {
	whole := k.fill(t)
	var begun time.Time
	l := whole.life()
	l.Decide = func(killtest.Call) killtest.Answer { return killtest.Answer{} }
	l.Line = func(line string, _ func()) {
		if line == "begun" {
			begun = time.Now()
		}
	}
	e := l.Run(t)
	if e.Code != 0 {
		t.Fatal(e.Stderr)
	}
	k.calls, k.took = e.Calls, time.Since(begun)
	t.Logf("a life without a kill changes files by %d system calls and takes %v", k.calls, k.took)
	whole.whole().require(t, "without a kill")

	for step := 0; k.row.random+k.row.steps+k.row.recovery < n; step++ {
		if step > 4*n {
			t.Fatalf("the kills come too late: %+v", k.row)
		}
		w := k.fill(t)
		switch third := step % 3; {
		case third == 0:
			k.untilDone(t, w, k.random)
		case third == 1:
			// Over all rounds the first kill goes through all steps.
			first := 1 + (step/3*k.stride(n))%k.calls
			k.untilDone(t, w, func(t *testing.T, w *world) killtest.End {
				e := k.atStep(t, w, first)
				first = 1 + k.rng.IntN(k.calls)
				return e
			})
		default:
			k.recovery(t, w)
		}
		d := w.finish(t, fmt.Sprintf("after %d lives of %s to %s", k.lives, k.Source, k.Sink))
		k.row.rows += d.rows
		k.row.lost += d.lost
		k.row.twice += d.twice
		_ = os.RemoveAll(w.base)
	}
}

// stride makes n kills go through all steps, coarsely when there are fewer kills.
func (k *killer) stride(n int) int {
	rounds := max(1, n/3/3) // about three kills a round
	if s := k.calls / rounds; s > 1 {
		return s | 1
	}
	return 1
}

// untilDone kills until the pipeline has come to its end, or was killed three times.
func (k *killer) untilDone(t *testing.T, w *world, life func(*testing.T, *world) killtest.End) {
	acked := int64(0)
	for range 3 {
		e := life(t, w)
		acked = max(acked, e.Acked)
		if !e.Killed {
			k.ended(t, e)
			return
		}
		k.check(t, w, acked)
	}
}

func (k *killer) ended(t *testing.T, e killtest.End) {
	t.Helper()
	if e.Code != 0 {
		t.Fatalf("the pipeline stopped: %s", e.Stderr)
	}
}

// check looks right after a kill for what was acknowledged (rule A3), in a copy, since
// looking may be a recovery too.
func (k *killer) check(t *testing.T, w *world, acked int64) {
	t.Helper()
	k.lives++
	if k.lives%3 != 0 {
		return
	}
	k.row.acks++
	copied := *w
	copied.folders = foldersIn(filepath.Join(t.TempDir(), "copy"))
	copyTree(t, w.out, copied.out)
	copyTree(t, w.dead, copied.dead)
	copied.compare(acked).require(t, fmt.Sprintf("rule A3: right after a kill, up to row %d", acked))
	_ = os.RemoveAll(copied.base)
}

// random kills at a random time of a life.
func (k *killer) random(t *testing.T, w *world) killtest.End {
	l := w.life()
	after := time.Duration(k.rng.Int64N(int64(k.took)))
	l.Line = func(line string, kill func()) {
		if line == "begun" {
			time.AfterFunc(after, kill)
		}
	}
	e := l.Run(t)
	if e.Killed {
		k.row.random++
	}
	return e
}

// atStep kills at the n-th system call that changes a file.
func (k *killer) atStep(t *testing.T, w *world, n int) killtest.End {
	l := w.life()
	l.Decide = func(c killtest.Call) killtest.Answer { return killtest.Answer{Kill: c.N == n} }
	e := l.Run(t)
	if e.Killed {
		k.row.steps++
	}
	return e
}

// recovery kills once, and then the recovery from that, and the recovery from that, at a
// random step or time, five deep.
func (k *killer) recovery(t *testing.T, w *world) {
	acked := int64(0)
	e := k.atStep(t, w, 1+k.rng.IntN(k.calls*3/4))
	if !e.Killed {
		k.ended(t, e)
		return
	}
	acked = max(acked, e.Acked)
	k.check(t, w, acked)
	steps, took := k.stepsOfRecovery(t, w)
	for depth := 1; depth <= killDepth; depth++ {
		at, after, over := 0, time.Duration(0), make(chan struct{})
		if depth%2 == 1 {
			at = 1 + k.rng.IntN(steps)
		} else {
			after = time.Duration(k.rng.Int64N(int64(took)))
		}
		l := w.life()
		l.Decide = func(c killtest.Call) killtest.Answer { return killtest.Answer{Kill: c.N == at} }
		l.Line = func(line string, kill func()) {
			switch {
			case line == "begun" && after > 0:
				time.AfterFunc(after, kill)
			case line == "reading": // it was faster than the one before
				close(over)
				kill()
			}
		}
		e := l.Run(t)
		acked = max(acked, e.Acked)
		if !e.Killed {
			k.ended(t, e)
			return
		}
		select {
		case <-over:
			k.row.random++
			depth--
			if steps = steps * 3 / 4; steps == 0 {
				return
			}
		default:
			k.row.recovery++
			k.row.deep = max(k.row.deep, depth)
		}
		k.check(t, w, acked)
	}
}

// stepsOfRecovery are the calls, and the time, that a life in a copy of w needs until it reads
// the first row.
func (k *killer) stepsOfRecovery(t *testing.T, w *world) (steps int, took time.Duration) {
	copied := *w
	copied.folders = foldersIn(filepath.Join(t.TempDir(), "copy"))
	copyTree(t, w.base, copied.base)
	defer func() { _ = os.RemoveAll(copied.base) }()
	l := copied.life()
	var begun time.Time
	var mu sync.Mutex
	l.Decide = func(c killtest.Call) killtest.Answer {
		mu.Lock()
		defer mu.Unlock()
		if took == 0 {
			steps = c.N
		}
		return killtest.Answer{}
	}
	l.Line = func(line string, kill func()) {
		mu.Lock()
		defer mu.Unlock()
		switch line {
		case "begun":
			begun = time.Now()
		case "reading":
			took = time.Since(begun)
			kill()
		}
	}
	e := l.Run(t)
	if !e.Killed {
		k.ended(t, e)
		took = k.took
	}
	return max(steps, 1), max(took, time.Millisecond)
}
