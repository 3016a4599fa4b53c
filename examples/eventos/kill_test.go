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
	"github.com/twmb/franz-go/pkg/kfake"
)

// slow is set by the race detector.
var slow bool

// kills is how often a test kills the program. CI=true and LEAT_LONG=1 are for machines with time.
func kills(few int) int {
	switch {
	case os.Getenv("LEAT_LONG") != "":
		return 50 * few
	case slow:
		return few / 3
	case os.Getenv("CI") == "true":
		return 5 * few
	}
	return few
}

// seeded repeats a run with LEAT_SEED, as far as the scheduler lets it.
func seeded(t *testing.T) *rand.Rand {
	seed := uint64(time.Now().UnixNano())
	if s, err := strconv.ParseUint(os.Getenv("LEAT_SEED"), 10, 64); err == nil {
		seed = s
	}
	t.Logf("LEAT_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// TestKill kills the program with SIGKILL at random times and at every failpoint, while events keep coming
// into a broker that lives on, and starts it again: each event must be there exactly once, duplicates
// of events that an earlier life has seen are dropped, and the dead letters are complete
// (rules A3, B3, C1, C4, E1, E7, F1).
func TestKill(t *testing.T) {
	t.Parallel()
	k := killer{rng: seeded(t), killedAt: map[string]int{}}
	k.begin(t)

	// A run without kills tells which failpoints there are and how long it takes.
	points := filepath.Join(k.dir, "points.json")
	k.feed(t)
	k.whole(t, withPoints+"="+points)
	k.feed(t)
	began := time.Now()
	k.whole(t, withPoints+"="+points)
	k.took = time.Since(began)
	require.NoError(t, json.Unmarshal([]byte(read(t, points)), &k.hits))
	names := slices.Sorted(maps.Keys(k.hits))
	require.NotEmpty(t, names)
	t.Logf("a run without kills takes %v and passes %v", k.took, k.hits)

	each := len(names) + 1 // and random ones
	if slow {
		each = 0 // takes too long; a run without the race detector has them all
	}
	killed := 0
	for n := 0; killed < kills(30) || len(k.killedAt) < each; n++ {
		require.Less(t, n, 5*kills(30)+100, "the kills come too late: %v", k.killedAt)
		at := "random"
		if n%2 == 0 {
			at = names[n/2%len(names)]
			for _, name := range names { // by now each had its turn; some may have come too late
				if n >= 2*len(names) && k.killedAt[name] == 0 {
					at = name
				}
			}
		}
		k.feed(t)
		if k.kill(t, at) {
			killed++
		}
		if n%8 == 7 || len(k.values) > 50_000 {
			k.whole(t)
			k.check(t)
		}
		if len(k.values) > 50_000 {
			k.begin(t)
		}
	}
	k.whole(t)
	k.check(t)
	t.Logf("%d kills, %d events: %v", killed, k.events, k.killedAt)
}

type killer struct {
	*world
	rng      *rand.Rand
	dir      string
	values   [][]byte // all that was produced since begin
	events   int      // and before
	took     time.Duration
	hits     map[string]int // how often a run without kills passes each failpoint
	killedAt map[string]int
}

func (k *killer) begin(t *testing.T) {
	t.Helper()
	k.world, k.dir, k.values = newWorld(t), t.TempDir(), nil
}

func (k *killer) out() string { return filepath.Join(k.dir, "out") }

// feed produces some new events, and some old ones.
func (k *killer) feed(t *testing.T) {
	t.Helper()
	var some [][]byte
	for i := range 1500 {
		_, v := event(len(k.values) + i)
		if i%20 == 19 && len(k.values) > 0 {
			v = k.values[k.rng.IntN(len(k.values))]
		}
		some = append(some, v)
	}
	k.put(t, some...)
	k.values = append(k.values, some...)
	k.events += len(some)
}

func (k *killer) command(t *testing.T, env ...string) (*exec.Cmd, *buffer, *buffer) {
	t.Helper()
	return child(t, k.dir, append(env, withCheckpoint+"=5ms"), k.args("-out", k.out(), "-drain", "-batch", "40", "-max-latency", "30ms")...)
}

// kill runs the program and kills it at a failpoint or at a random time, unless it ends before.
func (k *killer) kill(t *testing.T, at string) bool {
	t.Helper()
	var env []string
	if at != "random" {
		env = append(env, withKill+"="+at+":"+strconv.Itoa(1+k.rng.IntN(max(1, k.hits[at]/2))))
	}
	cmd, stdout, stderr := k.command(t, env...)
	require.NoError(t, cmd.Start())
	if at == "random" {
		timer := time.AfterFunc(time.Duration(k.rng.Int64N(int64(k.took))), func() { _ = cmd.Process.Kill() })
		defer timer.Stop()
	}
	e := wait(t, cmd, stdout, stderr)
	if e.code == -1 {
		k.killedAt[at]++
		return true
	}
	require.Equal(t, 0, e.code, "kill at %s: %v", at, e)
	e.summary(t)
	return false
}

// whole runs the program without a kill.
func (k *killer) whole(t *testing.T, env ...string) {
	t.Helper()
	cmd, stdout, stderr := k.command(t, env...)
	require.NoError(t, cmd.Start())
	e := wait(t, cmd, stdout, stderr)
	require.Equal(t, 0, e.code, "%v", e)
	e.summary(t)
}

func (k *killer) check(t *testing.T) {
	t.Helper()
	wanted(k.values...).check(t, k.out())
}

// TestKillEmbedded kills the program with its broker in it, also while it makes events: what the broker
// has kept is what the lake must have.
func TestKillEmbedded(t *testing.T) {
	t.Parallel()
	rng, dir := seeded(t), t.TempDir()
	out := filepath.Join(dir, "datasets", "processed", "pi2")
	began := time.Now()
	require.Equal(t, 0, runChild(t, dir, "-events", "3000").code)
	took := time.Since(began)
	killed := 0
	for n := 0; killed < min(kills(12), 200); n++ {
		require.Less(t, n, 10*kills(12), "the kills come too late")
		cmd, stdout, stderr := child(t, dir, []string{withCheckpoint + "=5ms"}, "-events", "3000", "-json")
		require.NoError(t, cmd.Start())
		timer := time.AfterFunc(time.Duration(rng.Int64N(int64(took))), func() { _ = cmd.Process.Kill() })
		e := wait(t, cmd, stdout, stderr)
		timer.Stop()
		if e.code == -1 {
			killed++
			continue
		}
		require.Equal(t, 0, e.code, "%v", e)
		e.summary(t)
	}
	last := runChild(t, dir, "-events", "0", "-json")
	require.Equal(t, 0, last.code, "%v", last)
	last.summary(t)

	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.DataDir(filepath.Join(out, "_state", "broker")))
	require.NoError(t, err)
	defer c.Close()
	values := connect(t, c.ListenAddrs()[0], "pi2_events").records(t)
	require.Greater(t, len(values), 3000)
	wanted(values...).check(t, out)
	t.Logf("%d kills, %d events", killed, len(values))
}
