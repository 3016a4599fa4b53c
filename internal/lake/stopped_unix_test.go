//go:build unix

package lake

import (
	"bufio"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat"
)

// E1 to E3, F1, F5: processes of a group are stopped at any moment (SIGSTOP) and go on, or are killed, while
// the others take their partitions, tidy the manifest up, and compact.
func TestStopGroup(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	lasts := 6 * time.Second
	if os.Getenv("LEAT_LONG") == "1" {
		lasts *= 20
	}
	end := time.Now().Add(lasts)
	var acked atomic.Int64
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(i), 7))
			for time.Now().Before(end) && !t.Failed() {
				member, died, err := startMember(t, dir, &acked)
				if !assert.NoError(t, err) {
					return
				}
				for range 1 + r.IntN(8) {
					time.Sleep(time.Duration(r.IntN(300)) * time.Millisecond)
					_ = member.Signal(syscall.SIGSTOP)
					time.Sleep(time.Duration(r.IntN(1000)) * time.Millisecond)
					if err := member.Signal(syscall.SIGCONT); err != nil {
						assert.NoError(t, err, "a member ended by itself")
					}
				}
				_ = member.Kill()
				<-died // and has left its locks
			}
		})
	}
	for time.Now().Before(end) {
		time.Sleep(100 * time.Millisecond)
		if held, err := Positions(dir); err == nil && len(held) > 0 {
			if _, err := Compact(t.Context(), dir, compactAll); !leat.IsTransient(err) {
				assert.NoError(t, err)
			}
		}
	}
	wg.Wait()
	m := &member{dir: dir, env: env(), r: rand.New(rand.NewPCG(1, 1))}
	require.NoError(t, m.open([]int{0, 1, 2, 3}))
	lengths, sum := logged(t, dir, groupPartitions), int64(0)
	for p, n := range lengths {
		require.Equal(t, n, m.next[p])
		sum += n
	}
	require.GreaterOrEqual(t, sum, acked.Load(), "A3: a reported commit is durable")
	t.Logf("%d rows by partition", lengths)
	_, err := Compact(t.Context(), dir, compactAll)
	require.NoError(t, err)
	require.NoError(t, m.sink.Close())
	require.Equal(t, lengths, logged(t, dir, groupPartitions))
	tidyTree(t, dir)
}

// startMember runs a process of a group until it is killed.
func startMember(t *testing.T, dir string, acked *atomic.Int64) (_ *os.Process, died chan struct{}, _ error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, nil, err
	}
	cmd := exec.CommandContext(t.Context(), exe, "-test.run=^$")
	cmd.Env = append(os.Environ(), "LEAT_KILLTEST_ROLE=member", "LEAT_KILLTEST_DIR="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, nil, err
	}
	died = make(chan struct{})
	go func() {
		defer close(died)
		for in := bufio.NewScanner(out); in.Scan(); {
			n, _ := strconv.ParseInt(in.Text(), 10, 64)
			for old := acked.Load(); n > old && !acked.CompareAndSwap(old, n); old = acked.Load() {
			}
		}
		_ = cmd.Wait()
	}()
	return cmd.Process, died, nil
}
