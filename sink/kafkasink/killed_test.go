//go:build unix

package kafkasink_test

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat"
)

const (
	envMember = "LEAT_KAFKASINK_MEMBER" // the job's name: the process is a member of its group
	envState  = "LEAT_KAFKASINK_STATE"
)

func TestMain(m *testing.M) {
	name := os.Getenv(envMember)
	if name == "" {
		os.Exit(m.Run())
	}
	j := short(name, strings.Split(os.Getenv("LEAT_KAFKA"), ","))
	j.config = leat.Config{StateDir: os.Getenv(envState), CheckpointEvery: 30 * time.Millisecond, Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)),
		Retry: leat.Retry{First: time.Millisecond, Max: 100 * time.Millisecond}}
	if err := j.build().Run(context.Background()); err != nil {
		slog.Error("the pipeline ended", "err", err)
		os.Exit(3)
	}
}

// short is a job whose members are soon taken for dead.
func short(name string, brokers []string) *job {
	return &job{brokers: brokers, name: name, rows: 6000, bad: map[int]bool{7: true, 2500: true, 5990: true}, letters: true,
		portions: 60, pause: 300 * time.Millisecond, session: 6 * time.Second, timeout: 5 * time.Second}
}

// process is a member of its own.
type process struct {
	t     *testing.T
	job   string
	state string
	cmd   *exec.Cmd
	log   *os.File
}

func (p *process) start() {
	p.t.Helper()
	exe, err := os.Executable()
	require.NoError(p.t, err)
	p.cmd = exec.Command(exe, "-test.run=^$")
	p.cmd.Env = append(os.Environ(), envMember+"="+p.job, envState+"="+p.state)
	p.cmd.Stderr = p.log
	require.NoError(p.t, p.cmd.Start())
}

func (p *process) kill() {
	p.t.Helper()
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
	require.Equal(p.t, -1, p.cmd.ProcessState.ExitCode(), "it ended by itself, see %s", p.log.Name())
}

// Rule J3: two processes, killed at any moment, or stopped until the group takes them for
// dead, and woken then. Each row and each letter is there once.
func TestKilledMembers(t *testing.T) {
	brokers := realBrokers(t)
	j := short("k"+newTopic(t, brokers, 1, nil), brokers)
	j.make(t)
	logs, err := os.MkdirTemp("", "kafkasink")
	require.NoError(t, err)
	var members []*process
	for _, name := range []string{"a", "b"} {
		log, err := os.Create(logs + "/" + name)
		require.NoError(t, err)
		p := &process{t: t, job: j.name, state: t.TempDir(), log: log}
		p.start()
		members = append(members, p)
	}
	defer func() {
		for _, p := range members {
			p.kill()
		}
		if !t.Failed() {
			_ = os.RemoveAll(logs)
		}
	}()
	r := rand.New(rand.NewPCG(3, 4))
	want := j.want()
	deadline := time.Now().Add(100 * time.Second)
	kills, stops := 0, 0
	for i := 0; len(j.got(t)) < len(want) && time.Now().Before(deadline); i++ {
		time.Sleep(time.Duration(200+r.IntN(1500)) * time.Millisecond)
		p := members[r.IntN(2)]
		if i%5 == 2 {
			require.NoError(t, p.cmd.Process.Signal(syscall.SIGSTOP))
			time.Sleep(9 * time.Second)
			require.NoError(t, p.cmd.Process.Signal(syscall.SIGCONT))
			stops++
			continue
		}
		p.kill()
		p.start()
		kills++
		if i > 12 {
			time.Sleep(2 * time.Second) // it has to come to an end
		}
	}
	t.Logf("%d kills, %d stops; logs in %s", kills, stops, logs)
	got := j.got(t)
	slices.Sort(got)
	slices.Sort(want)
	require.Equal(t, len(want), len(got))
	assert.True(t, slices.Equal(want, got))
}
