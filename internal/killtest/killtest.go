// Package killtest kills processes, for tests of what survives a crash.
//
// A test binary calls Main in its TestMain with the roles that it can play: pieces
// of work that a test wants to see killed. Kill and EverySyscall start the binary
// again in such a role, kill it, and let the test check what it left.
//
//	func TestMain(m *testing.M) {
//		killtest.Main(m, map[string]func(dir string){"commits": commits})
//	}
//
//	func commits(dir string) {
//		… open what lies in dir …
//		for killtest.More() {
//			… commit step n …
//			killtest.Ack(n)
//		}
//	}
//
// A role goes on from what it finds in dir, so that it can be killed again and again.
// For EverySyscall it must make its system calls on the goroutine that it is called on.
package killtest

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat/internal/failpoint"
)

const (
	envRole  = "LEAT_KILLTEST_ROLE"
	envDir   = "LEAT_KILLTEST_DIR"
	envSteps = "LEAT_KILLTEST_STEPS"
	envPoint = "LEAT_KILLTEST_POINT"
)

// Main is the body of TestMain: it runs the tests, or the role that the process was
// started for. It does not return.
func Main(m interface{ Run() int }, roles map[string]func(dir string)) {
	name := os.Getenv(envRole)
	if name == "" {
		os.Exit(m.Run())
	}
	role := roles[name]
	if role == nil {
		fmt.Fprintf(os.Stderr, "killtest: there is no role %q\n", name)
		os.Exit(2)
	}
	if at, nth, ok := strings.Cut(os.Getenv(envPoint), ":"); ok {
		killAtPoint(at, nth)
	}
	// One thread makes all system calls, so that the k-th of them is the same each time.
	runtime.LockOSThread()
	beSupervised()
	role(os.Getenv(envDir))
	os.Exit(0)
}

// killAtPoint lets the process kill itself at the n-th hit of a failpoint.
func killAtPoint(point, nth string) {
	left, err := strconv.ParseInt(nth, 10, 64)
	Must(err)
	var hits atomic.Int64
	failpoint.Set(func(at string) error {
		if at == point && hits.Add(1) == left {
			self, err := os.FindProcess(os.Getpid())
			Must(err)
			Must(self.Kill())
			select {}
		}
		return nil
	})
}

var steps = func() int {
	n, err := strconv.Atoi(os.Getenv(envSteps))
	if err != nil {
		return -1
	}
	return n
}()

// More tells a role whether to go on with another step.
func More() bool {
	if steps < 0 {
		return true
	}
	steps--
	return steps >= 0
}

// Ack tells the test that step n is durable. Steps grow.
func Ack(n int64) { fmt.Println(n) }

// Must ends a role that can't go on. The test fails.
func Must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "killtest: the role failed:", err)
		os.Exit(3)
	}
}

func command(t *testing.T, role, dir string, steps int, prefix ...string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	require.NoError(t, err)
	args := append(prefix, exe, "-test.run=^$")
	cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
	cmd.Env = append(os.Environ(), envRole+"="+role, envDir+"="+dir)
	if steps >= 0 {
		cmd.Env = append(cmd.Env, envSteps+"="+strconv.Itoa(steps))
	}
	return cmd
}

// Kill runs a role in dir kills times, and each time kills it with SIGKILL at some
// moment after it has acknowledged a few steps. After each kill check gets the last
// step that was acknowledged. LEAT_LONG=1 kills 20 times as often.
func Kill(t *testing.T, role, dir string, kills int, check func(t *testing.T, acked int64)) {
	t.Helper()
	if os.Getenv("LEAT_LONG") == "1" {
		kills *= 20
	}
	rng := rand.New(rand.NewPCG(5, 6))
	acked := int64(0)
	for round := range kills {
		left := rng.IntN(20)
		acked = max(acked, run(t, command(t, role, dir, -1), fmt.Sprint("round ", round), func(kill func()) {
			if left--; left < 0 { // SIGKILL lands somewhere in the next steps; what they say until then still counts
				kill()
			}
		}))
		check(t, acked)
	}
	t.Logf("%d kills, %d acknowledged at last", kills, acked)
}

// KillAt runs a role in dir once and kills it at the n-th hit of a failpoint.
func KillAt(t *testing.T, role, dir, point string, n int, check func(t *testing.T, acked int64)) {
	t.Helper()
	cmd := command(t, role, dir, -1)
	cmd.Env = append(cmd.Env, envPoint+"="+point+":"+strconv.Itoa(n))
	steps := 0
	check(t, run(t, cmd, point, func(kill func()) {
		if steps++; steps > 10_000 {
			t.Errorf("%s is not met %d times", point, n)
			kill()
		}
	}))
}

// run runs a role to its violent end. step is called at each step that the role has
// acknowledged; the last one is the result.
func run(t *testing.T, cmd *exec.Cmd, what string, step func(kill func())) (acked int64) {
	t.Helper()
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	in := bufio.NewScanner(out)
	for in.Scan() {
		acked, err = strconv.ParseInt(in.Text(), 10, 64)
		require.NoError(t, err, in.Text())
		step(func() { _ = cmd.Process.Kill() })
	}
	err = cmd.Wait()
	require.Truef(t, err != nil && cmd.ProcessState.ExitCode() == -1, "%s: the role ended by itself: %v: %s", what, err, stderr.String())
	return acked
}

// calls are the system calls that change what a crash leaves.
const calls = "open,openat,creat,write,writev,pwrite64,pwritev,pwritev2,fsync,fdatasync,msync,sync_file_range,ftruncate,fallocate," +
	"rename,renameat,renameat2,link,linkat,symlink,symlinkat,unlink,unlinkat,mkdir,mkdirat,rmdir,chmod,fchmod,fchmodat,copy_file_range,sendfile,utimensat"

// EverySyscall runs a role for a number of steps under strace once for each system
// call by which the role changes files, in a fresh folder each time, and kills it as
// it enters that call: each k from 1 to n. (To be killed at one that only reads is the
// same as at the next one that changes something.) check gets the folder and the last
// step that was acknowledged. The test is skipped where strace is missing or may not
// trace.
func EverySyscall(t *testing.T, role string, steps int, check func(t *testing.T, dir string, acked int64)) {
	t.Helper()
	everySyscall(t, role, steps, nil, check)
}

// EverySyscallOfThreads is for roles that make system calls on other goroutines too:
// the process is killed when any of its threads enters its k-th call of a name. Which
// thread a call is made on differs from run to run, so that not each call is met.
func EverySyscallOfThreads(t *testing.T, role string, steps int, check func(t *testing.T, dir string, acked int64)) {
	t.Helper()
	everySyscall(t, role, steps, []string{"-f"}, check)
}

func everySyscall(t *testing.T, role string, steps int, flags []string, check func(t *testing.T, dir string, acked int64)) {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("strace is for Linux")
	}
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Skip("strace is not installed")
	}
	// Which calls there are, and how often, is learned from a whole run.
	trace := t.TempDir() + "/trace"
	traced := append([]string{strace, "-qq", "-e", "signal=none"}, flags...)
	cmd := command(t, role, t.TempDir(), steps, append(slices.Clone(traced), "-o", trace, "-e", "trace="+calls)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		if text := string(out); strings.Contains(text, "ptrace") || strings.Contains(text, "PTRACE") {
			t.Skipf("strace may not trace here: %s", out)
		}
		require.NoErrorf(t, err, "%s", out)
	}
	text, err := os.ReadFile(trace)
	require.NoError(t, err)
	points, count := points(string(text))
	require.NotEmpty(t, points)
	kills := 0
	for _, p := range points {
		dir := t.TempDir()
		acked, killed := killAt(t, traced, role, dir, steps, p)
		check(t, dir, acked)
		if t.Failed() {
			t.Fatalf("after a kill at call %d of %s", p.k, p.call)
		}
		if killed {
			kills++
		}
		_ = os.RemoveAll(dir) // there are many
	}
	require.Greater(t, 2*kills, len(points), "the role does not do the same each time")
	t.Logf("%d kills, at each of the calls %v", kills, count)
}

// point is the k-th system call of a name.
type point struct {
	call string
	k    int
}

// points are the calls of a trace that change something, and how many there are by name.
func points(trace string) (out []point, count map[string]int) {
	type caller struct{ thread, call string }
	count = map[string]int{}
	nth := map[caller]int{}
	for line := range strings.Lines(trace) {
		name, args, ok := strings.Cut(line, "(")
		if !ok || strings.Contains(name, "<") { // "<... fsync resumed>)"
			continue
		}
		thread := ""
		if i := strings.LastIndexByte(name, ' '); i >= 0 { // with -f the thread comes first
			thread, name = name[:i], name[i+1:]
		}
		c := caller{thread, name}
		nth[c]++
		p := point{name, nth[c]}
		if strings.HasPrefix(name, "open") && !strings.Contains(args, "O_CREAT") && !strings.Contains(args, "O_TRUNC") {
			continue
		}
		if !slices.Contains(out, p) {
			out = append(out, p)
			count[name]++
		}
	}
	return out, count
}

func killAt(t *testing.T, traced []string, role, dir string, steps int, at point) (acked int64, killed bool) {
	t.Helper()
	cmd := command(t, role, dir, steps, append(slices.Clone(traced), "-o", os.DevNull, "-e", "trace="+at.call,
		"-e", fmt.Sprintf("inject=%s:signal=KILL:when=%d", at.call, at.k))...)
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	last := ""
	for line := range strings.Lines(stdout.String()) {
		if strings.HasSuffix(line, "\n") { // a line cut off was not said
			last = strings.TrimSpace(line)
		}
	}
	if last != "" {
		acked, _ = strconv.ParseInt(last, 10, 64)
	}
	code := cmd.ProcessState.ExitCode()
	require.Truef(t, err == nil || code == -1 || code == 137, "%s, call %d: %v: %s", at.call, at.k, err, stderr.String())
	return acked, err != nil
}
