package main

import (
	"encoding/json"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// slow is set by the race detector, under which SQLite takes seconds.
var slow bool

// TestKill kills the program with SIGKILL at random times and at every
// failpoint, and starts it again until it has drained: each row must be there
// exactly once, in the table and in the lake (rules A3, B3, D3, D4, E1, E7, F1).
//
// Rounds take turns: one pass over data that the same command generates, so that
// this is killed too, and a watched folder into which files come one by one; a flat
// lake and one by month. CI=true kills 200 times and LEAT_LONG=1 2,000 times;
// LEAT_SEED repeats a run as far as the scheduler lets it.
func TestKill(t *testing.T) {
	kills := 40
	switch {
	case os.Getenv("LEAT_LONG") != "":
		kills = 2000
	case slow:
		kills = 10
	case os.Getenv("CI") == "true":
		kills = 200
	}
	k := killer{want: wanted(killFiles, killRows), data: t.TempDir(), killedAt: map[string]int{}, seed: uint64(time.Now().UnixNano())}
	if s, err := strconv.ParseUint(os.Getenv("LEAT_SEED"), 10, 64); err == nil {
		k.seed = s
	}
	t.Logf("LEAT_SEED=%d", k.seed)
	k.rng = rand.New(rand.NewPCG(k.seed, 0))
	_, err := generate(t.Context(), foldersOf(k.data), killFiles, killRows)
	require.NoError(t, err)

	// Runs without kills tell which failpoints there are and how long they take.
	var names []string
	for round := range 4 {
		r := k.begin(t, round)
		for r.feed(t) {
		}
		hits := r.whole(t)
		t.Logf("a run without kills takes %v and passes %v", k.took[r.watch], hits)
		names = append(names, slices.Collect(maps.Keys(hits))...)
	}
	slices.Sort(names)
	names = slices.Compact(names)
	require.NotEmpty(t, names)

	each := len(names) + 1 // and random ones
	if slow {
		each = 0 // takes too long; a run without the race detector has them all
	}
	killed := 0
	for n := 0; killed < kills || len(k.killedAt) < each; n++ {
		require.Less(t, n, 3*kills+100, "the kills come too late: %v", k.killedAt)
		r := k.begin(t, n)
		done := false
		for try := 0; try < 6 && !done; try++ {
			at := "random"
			if (n+try)%2 == 0 {
				at = names[(n/2+try)%len(names)]
				for _, name := range names { // by now each had its turn; some may have come too late
					if n >= len(names) && k.killedAt[name] == 0 {
						at = name
					}
				}
			}
			var dead bool
			if dead, done = r.kill(t, at); dead {
				killed++
			}
		}
		for r.feed(t) {
		}
		r.whole(t)
	}
	t.Logf("%d kills: %v", killed, k.killedAt)
}

const killFiles, killRows = 8, 2500

// killer is what all rounds share.
type killer struct {
	seed     uint64
	rng      *rand.Rand
	want     want
	data     string // the files that rounds with a watched folder get
	took     map[bool]time.Duration
	hits     map[bool]map[string]int // by watch: how often a run without kills passes each failpoint
	killedAt map[string]int
}

// round is one set of folders, until everything is loaded.
type round struct {
	*killer
	n         int
	base      string
	watch     bool
	partition bool
	fed       int
}

func (k *killer) begin(t *testing.T, n int) *round {
	r := &round{killer: k, n: n, base: t.TempDir(), watch: n%2 == 1, partition: n%4 >= 2}
	require.NoError(t, os.MkdirAll(r.incoming(), 0o755))
	return r
}

func (r *round) incoming() string { return filepath.Join(r.base, "incoming") }

func (r *round) command(t *testing.T, toTheEnd bool, env ...string) (*exec.Cmd, func() ended) {
	t.Helper()
	args := []string{"-in", r.incoming(), "-json"}
	if !r.watch {
		args = append(args, "-generate", strconv.Itoa(killFiles), "-rows", strconv.Itoa(killRows))
	}
	if r.watch {
		args = append(args, "-watch", "5ms")
		if toTheEnd {
			args = append(args, "-max-scans", "3")
		}
	}
	if r.partition {
		args = append(args, "-partition")
	}
	cmd, stdout, stderr := child(t, r.base, append(env, withCheckpoint+"=5ms"), args...)
	require.NoError(t, cmd.Start())
	return cmd, func() ended {
		cmd.Wait()
		return ended{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
	}
}

// feed lets one more file come into a watched folder, as a rename, and tells
// whether there was one.
func (r *round) feed(t *testing.T) bool {
	if !r.watch || r.fed == killFiles {
		return false
	}
	r.fed++
	name := fileName(r.fed)
	tmp := filepath.Join(r.incoming(), "."+name+".tmp")
	require.NoError(t, os.Link(filepath.Join(foldersOf(r.data).incoming, name), tmp))
	require.NoError(t, os.Rename(tmp, filepath.Join(r.incoming(), name)))
	return true
}

// kill runs the program once and kills it at a failpoint or at a random time. done
// says that it ended before.
func (r *round) kill(t *testing.T, at string) (dead, done bool) {
	t.Helper()
	took, hits := r.took[r.watch], r.hits[r.watch]
	var env []string
	wait := time.Duration(r.rng.Int64N(int64(took)))
	if at != "random" {
		env = append(env, withKill+"="+at+":"+strconv.Itoa(1+r.rng.IntN(max(1, hits[at]/2))))
		wait = 2 * took
	}
	cmd, end := r.command(t, false, env...)
	timer := time.AfterFunc(wait, func() {
		if at == "random" || r.watch { // a watching program that never gets there would go on for ever
			_ = cmd.Process.Kill()
		}
	})
	began := time.Now()
	for range r.rng.IntN(killFiles) {
		time.Sleep(time.Duration(r.rng.Int64N(int64(took) / killFiles)))
		if !r.feed(t) {
			break
		}
	}
	e := end()
	if !timer.Stop() && time.Since(began) >= wait {
		at = "random"
	}
	switch e.code {
	case -1:
		r.killedAt[at]++
		return true, false
	case 0:
		require.False(t, r.watch, "a watching program ended by itself: %v", e)
		return false, true
	default:
		require.FailNowf(t, "the program stopped", "round %d, kill at %s: %v", r.n, at, e)
		return false, false
	}
}

// whole runs the program without a kill and checks what all its lives have left.
func (r *round) whole(t *testing.T) map[string]int {
	t.Helper()
	points := filepath.Join(r.base, "points.json")
	began := time.Now()
	_, end := r.command(t, true, withPoints+"="+points)
	e := end()
	require.Equal(t, 0, e.code, "round %d: %v", r.n, e)
	r.want.check(t, r.base, killFiles)
	if t.Failed() {
		t.Fatalf("round %d, last run: %v", r.n, e)
	}
	text, err := os.ReadFile(points)
	require.NoError(t, err)
	var hits map[string]int
	require.NoError(t, json.Unmarshal(text, &hits))
	if r.took == nil {
		r.took, r.hits = map[bool]time.Duration{}, map[bool]map[string]int{}
	}
	if r.hits[r.watch] == nil {
		r.took[r.watch], r.hits[r.watch] = time.Since(began), hits
	}
	return hits
}
