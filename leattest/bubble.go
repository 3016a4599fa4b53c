package leattest

import (
	"bytes"
	"context"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"runtime"
	"runtime/pprof"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// inTime runs f in virtual time, or in the caller's.
func inTime(t *testing.T, real bool, f func(t *testing.T)) {
	t.Helper()
	if real {
		f(t)
		return
	}
	stuck := time.AfterFunc(30*time.Second, func() {
		fmt.Fprintf(os.Stderr, "leattest: %s: the clock of the bubble has not got to the end for 30 s of real time. Something in it may wait for the network, "+
			"for a child process or for notifications of the file system, and then virtual time stands still: set RealTime (sources of files: PollOnly)\n", t.Name())
	})
	defer stuck.Stop()
	defer func() {
		switch r := recover(); {
		case r == nil:
		case strings.Contains(fmt.Sprint(r), "called from within a synctest bubble"):
			t.Error("leattest: this test is in a bubble of testing/synctest already, and bubbles don't nest: set RealTime, which means the caller's time")
		case strings.Contains(fmt.Sprint(r), "deadlock: main bubble goroutine has exited"):
			if !t.Failed() { // else it was told
				t.Errorf("rule A7: goroutines are left over: %v", r)
			}
		case strings.Contains(fmt.Sprint(r), "deadlock:"):
			t.Errorf("everything waits for everything, for ever: %v", r)
		default:
			panic(r)
		}
	}()
	synctest.Test(t, f)
}

var runs atomic.Int64

// labelled runs f; leaked then lists the goroutines that f has started and left over.
func labelled(f func()) (leaked func(real bool) string) {
	label := "run-" + strconv.FormatInt(runs.Add(1), 10)
	pprof.Do(context.Background(), pprof.Labels("leattest", label), func(context.Context) { f() })
	return func(real bool) (left string) {
		// The last ones may be on their way out.
		if real {
			for wait := time.Millisecond; wait < 2*time.Second; wait *= 2 {
				if left = withLabel(label); left == "" {
					return ""
				}
				time.Sleep(wait)
			}
			return left
		}
		for range 500 {
			if left = withLabel(label); left == "" {
				return ""
			}
			for range 1000 { // not synctest.Wait: see below
				runtime.Gosched()
			}
		}
		if stuck := notDurable(); stuck != "" {
			// One that waits for something outside of the bubble keeps it open for ever.
			panic("leattest: rule A7: a goroutine is left over that waits for something outside of this test, so that the test can't end:\n" + stuck)
		}
		return left
	}
}

// notDurable lists the goroutines of the caller's bubble that wait for something outside
// of it.
func notDurable() string {
	buf := make([]byte, 1<<20)
	all := strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n")
	_, bubble, ok := strings.Cut(firstLine(all[0]), ", synctest bubble ")
	if !ok {
		return ""
	}
	var out []string
	for _, g := range all[1:] {
		head := firstLine(g)
		if strings.HasSuffix(head, ", synctest bubble "+bubble) && !strings.Contains(head, "(durable)") && !strings.Contains(head, "[run") { // running, runnable
			out = append(out, g)
		}
	}
	return strings.Join(out, "\n\n")
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}

func withLabel(label string) string {
	var all bytes.Buffer
	_ = pprof.Lookup("goroutine").WriteTo(&all, 1)
	var left []string
	for _, group := range strings.Split(all.String(), "\n\n") {
		if strings.Contains(group, `"leattest":"`+label+`"`) {
			left = append(left, group)
		}
	}
	return strings.Join(left, "\n\n")
}

// draw is the source of chance of one test: it depends on the seed and the test's name.
func draw(t *testing.T) *rand.Rand {
	t.Helper()
	seed := processSeed
	if s := os.Getenv("LEATTEST_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatalf("LEATTEST_SEED=%q: %v", s, err)
		}
	}
	t.Logf("LEATTEST_SEED=%d draws the same again", seed)
	h := fnv.New64a()
	h.Write([]byte(t.Name()))
	return rand.New(rand.NewPCG(seed, h.Sum64()))
}

var processSeed = uint64(rand.Uint32()) // short, for people to copy

// tempDir is t.TempDir, in memory where that can be had: the crashes of this kit are within
// the process, so nothing is gained by waiting for a disk. TMPDIR overrules it.
func tempDir(t *testing.T) string {
	t.Helper()
	if os.Getenv("TMPDIR") == "" {
		if dir, err := os.MkdirTemp("/dev/shm", "leattest"); err == nil {
			t.Cleanup(func() {
				if err := os.RemoveAll(dir); err != nil {
					t.Errorf("leattest: %v", err)
				}
			})
			return dir
		}
	}
	return t.TempDir()
}

// some draws at most n of 0 to all-1, in order.
func some(r *rand.Rand, all, n int) []int {
	if testing.Short() {
		n = max(n/4, 1)
	}
	picked := r.Perm(all)
	if len(picked) > n {
		picked = picked[:n]
	}
	keep := make([]bool, all)
	for _, i := range picked {
		keep[i] = true
	}
	var out []int
	for i, k := range keep {
		if k {
			out = append(out, i)
		}
	}
	return out
}
