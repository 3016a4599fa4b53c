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
// It must make all its system calls on the goroutine that it is called on.
package killtest

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const (
	envRole  = "LEAT_KILLTEST_ROLE"
	envDir   = "LEAT_KILLTEST_DIR"
	envSteps = "LEAT_KILLTEST_STEPS"
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
	// One thread makes all system calls, so that the k-th of them is the same each time.
	runtime.LockOSThread()
	role(os.Getenv(envDir))
	os.Exit(0)
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
		cmd := command(t, role, dir, -1)
		var stderr strings.Builder
		cmd.Stderr = &stderr
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		in := bufio.NewScanner(out)
		killed := false
		for left := rng.IntN(20); in.Scan(); left-- {
			if left == 0 { // SIGKILL lands somewhere in the next steps; what they say until then still counts
				require.NoError(t, cmd.Process.Kill())
				killed = true
			}
			n, err := strconv.ParseInt(in.Text(), 10, 64)
			require.NoError(t, err, in.Text())
			acked = n
		}
		_ = cmd.Wait()
		require.Truef(t, killed, "round %d: the role ended by itself: %s", round, stderr.String())
		check(t, acked)
	}
	t.Logf("%d kills, %d steps acknowledged", kills, acked)
}

// Calls are the system calls that change what a crash leaves, or that can be the
// first to do so.
const Calls = "open,openat,creat,close,write,writev,pwrite64,pwritev,pwritev2,fsync,fdatasync,msync,sync_file_range,ftruncate,fallocate," +
	"rename,renameat,renameat2,link,linkat,symlink,symlinkat,unlink,unlinkat,mkdir,mkdirat,rmdir,chmod,fchmod,fchmodat,copy_file_range,sendfile,utimensat"

// EverySyscall runs a role for a number of steps under strace once for each system
// call that the role makes, in a fresh folder each time, and kills it as it enters
// that call: each k from 1 to n. check gets the folder and the last step that was
// acknowledged. The test is skipped where strace is missing or may not trace.
func EverySyscall(t *testing.T, role string, steps int, check func(t *testing.T, dir string, acked int64)) {
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
	cmd := command(t, role, t.TempDir(), steps, strace, "-qq", "-o", trace, "-e", "trace="+Calls, "-e", "signal=none")
	if out, err := cmd.CombinedOutput(); err != nil {
		if text := string(out); strings.Contains(text, "ptrace") || strings.Contains(text, "PTRACE") {
			t.Skipf("strace may not trace here: %s", out)
		}
		require.NoErrorf(t, err, "%s", out)
	}
	text, err := os.ReadFile(trace)
	require.NoError(t, err)
	count := map[string]int{}
	var names []string
	for line := range strings.Lines(string(text)) {
		name, _, ok := strings.Cut(line, "(")
		if !ok {
			continue
		}
		if count[name]++; count[name] == 1 {
			names = append(names, name)
		}
	}
	require.NotEmpty(t, names)
	kills := 0
	for _, name := range names {
		for k := 1; ; k++ {
			dir := t.TempDir()
			acked, killed := killAt(t, strace, role, dir, steps, name, k)
			check(t, dir, acked)
			if t.Failed() {
				t.Fatalf("after a kill at call %d of %s", k, name)
			}
			if !killed {
				break // there are no more of them; the run was whole
			}
			kills++
			require.LessOrEqualf(t, k, 3*count[name]+100, "%s: no end", name)
		}
	}
	t.Logf("%d kills, at each of the calls %v", kills, count)
}

func killAt(t *testing.T, strace, role, dir string, steps int, name string, k int) (acked int64, killed bool) {
	t.Helper()
	cmd := command(t, role, dir, steps, strace, "-qq", "-o", os.DevNull, "-e", "trace="+name, "-e", "signal=none",
		"-e", fmt.Sprintf("inject=%s:signal=KILL:when=%d", name, k))
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
	require.Truef(t, err == nil || code == -1 || code == 137, "%s, call %d: %v: %s", name, k, err, stderr.String())
	return acked, err != nil
}
