package killtest

import (
	"bufio"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Call is a system call by which a supervised role is about to change a file.
type Call struct {
	N    int    // counted from 1, over all threads
	Name string // as strace has it
	Path string // of the file; of a rename or link the new name
	From string // the old name
}

// Syncs tells whether the call is an fsync.
func (c Call) Syncs() bool { return c.Name == "fsync" || c.Name == "fdatasync" }

// Writes tells whether the call writes bytes.
func (c Call) Writes() bool {
	return strings.HasPrefix(c.Name, "write") || strings.HasPrefix(c.Name, "pwrite")
}

// Under tells whether the call is about a file in the folder dir, or below it.
func (c Call) Under(dir string) bool {
	return strings.HasPrefix(c.Path, dir+"/") || c.Path == dir || strings.HasPrefix(c.From, dir+"/")
}

// Answer is what becomes of a Call. The zero value: it goes on.
type Answer struct {
	Kill bool          // the process dies here; the call is never made
	Err  syscall.Errno // the call fails with this, without being made
}

// Life is one run of a role in a folder.
type Life struct {
	Role string
	Dir  string
	Env  []string

	// Decide, if set, is asked about every system call that changes a file, of any
	// thread. It is called from one goroutine.
	Decide func(Call) Answer

	// Line, if set, hears of each line that the role says, and may kill it.
	Line func(line string, kill func())

	// Patience is how long a life may last; the test fails when it lasts longer.
	// Defaults to a minute.
	Patience time.Duration
}

// End is how a Life ended.
type End struct {
	Acked  int64 // the last step acknowledged, 0 if none
	Killed bool
	Code   int // 0: it ended by itself and all was well
	Calls  int // that Decide was asked about
	Stderr string
}

const noSupervision = "killtest: the kernel does not let system calls be supervised:"

// Run lives a life. The test is skipped where Decide is wanted and the kernel does
// not have it.
func (l Life) Run(t *testing.T) End {
	t.Helper()
	cmd := command(t, l.Role, l.Dir, -1)
	cmd.Env = append(cmd.Env, l.Env...)
	var s *supervisor
	if l.Decide != nil {
		var err error
		if s, err = newSupervisor(l.Decide); err != nil {
			Unable(t, err.Error())
		}
		cmd.ExtraFiles = []*os.File{s.theirs}
		cmd.Env = append(cmd.Env, envSupervised+"=3")
	}
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	kill := sync.OnceFunc(func() { _ = cmd.Process.Kill() })
	if s != nil {
		s.start(kill)
	}
	patience := l.Patience
	if patience == 0 {
		patience = time.Minute
	}
	hung := false
	var mu sync.Mutex
	watchdog := time.AfterFunc(patience, func() {
		mu.Lock()
		hung = true
		mu.Unlock()
		_ = cmd.Process.Signal(syscall.SIGQUIT) // says where it hangs
		time.AfterFunc(5*time.Second, kill)
	})
	defer watchdog.Stop()

	var e End
	in := bufio.NewReader(out)
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			break // a line cut off was not said
		}
		line = strings.TrimSuffix(line, "\n")
		if n, err := strconv.ParseInt(line, 10, 64); err == nil {
			e.Acked = n
		}
		if l.Line != nil {
			l.Line(line, kill)
		}
	}
	_ = cmd.Wait()
	if s != nil {
		e.Calls, err = s.wait()
		require.NoError(t, err)
	}
	e.Stderr, e.Code = stderr.String(), cmd.ProcessState.ExitCode()
	e.Killed = e.Code == -1
	mu.Lock()
	defer mu.Unlock()
	if hung {
		t.Fatalf("the role hangs: after %v it had not ended\n%s", patience, tail(e.Stderr, 20_000))
	}
	if strings.HasPrefix(e.Stderr, noSupervision) {
		Unable(t, e.Stderr)
	}
	return e
}

func tail(s string, n int) string { return s[max(0, len(s)-n):] }

// Unable ends a test that can't run here: it is skipped, and with CI=true on Linux, as
// root, where all it needs can be had, it fails.
func Unable(t *testing.T, why string) {
	t.Helper()
	if os.Getenv("CI") == "true" && runtime.GOOS == "linux" && runtime.GOARCH == "amd64" && os.Getuid() == 0 {
		t.Fatal("CI=true, and this test can't run: ", why)
	}
	t.Skip(why)
}

// NeedRoot skips a test that mounts things where it may not.
func NeedRoot(t *testing.T, programs ...string) {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("it mounts file systems, which is for Linux")
	}
	if os.Getuid() != 0 {
		t.Skip("it mounts file systems, which needs root")
	}
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			Unable(t, p+" is not installed")
		}
	}
}
