package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/failpoint"
)

// With asProgram in its environment the test binary is the program.
const (
	asProgram      = "EVENTOS_TEST_MAIN"
	withCheckpoint = "EVENTOS_TEST_CHECKPOINT" // Config.CheckpointEvery; the budget is small then
	withSession    = "EVENTOS_TEST_SESSION"    // the group's session timeout
	withKill       = "EVENTOS_TEST_KILL"       // name:n kills the process at the n-th hit of a failpoint
	withPoints     = "EVENTOS_TEST_POINTS"     // file that gets each failpoint and its hits
)

func TestMain(m *testing.M) {
	for _, name := range []string{"KAFKA_BOOTSTRAP_SERVERS", "KAFKA_TOPIC", "OUT_DIR"} {
		if os.Getenv(asProgram) == "" {
			_ = os.Unsetenv(name)
		}
	}
	if os.Getenv(asProgram) == "" {
		os.Exit(m.Run())
	}
	os.Exit(programUnderTest())
}

func programUnderTest() int {
	duration := func(name string) time.Duration {
		d, err := time.ParseDuration("0" + os.Getenv(name))
		if err != nil {
			panic(err)
		}
		return d
	}
	var mu sync.Mutex
	hits := map[string]int{}
	name, nth, _ := strings.Cut(os.Getenv(withKill), ":")
	n, _ := strconv.Atoi(nth)
	failpoint.Set(func(at string) error {
		mu.Lock()
		defer mu.Unlock()
		if hits[at]++; at == name && hits[at] == n {
			self, err := os.FindProcess(os.Getpid())
			if err == nil {
				err = self.Kill()
			}
			if err != nil {
				panic(err)
			}
			select {}
		}
		return nil
	})
	c := tuning{session: duration(withSession)}
	if c.CheckpointEvery = duration(withCheckpoint); c.CheckpointEvery > 0 {
		c.BudgetBytes = 1 << 20
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	code := program(ctx, os.Args[1:], os.Stdout, os.Stderr, c)
	if path := os.Getenv(withPoints); path != "" {
		failpoint.Set(nil)
		text, err := json.Marshal(hits)
		if err == nil {
			err = os.WriteFile(path, text, 0o600)
		}
		if err != nil {
			panic(err)
		}
	}
	return code
}

// child is the program, not yet started, in dir.
func child(t *testing.T, dir string, env []string, args ...string) (cmd *exec.Cmd, stdout, stderr *buffer) {
	t.Helper()
	exe, err := os.Executable()
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	cmd = exec.CommandContext(ctx, exe, args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGQUIT) } // it hangs: say where
	cmd.WaitDelay = 10 * time.Second
	cmd.Dir = dir
	cmd.Env = append(append(os.Environ(), asProgram+"=1"), env...)
	stdout, stderr = &buffer{}, &buffer{}
	cmd.Stdout, cmd.Stderr = stdout, stderr
	return cmd, stdout, stderr
}

// buffer may be read while a process writes.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// ended is how a run of the program ended.
type ended struct {
	code           int
	stdout, stderr string
}

func (e ended) String() string {
	return fmt.Sprintf("exit code %d\n-- stdout\n%s\n-- stderr\n%s", e.code, e.stdout, e.stderr)
}

// summary is the last line of stdout.
func (e ended) summary(t testing.TB) summary {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(e.stdout), "\n")
	dec := json.NewDecoder(strings.NewReader(lines[len(lines)-1]))
	dec.DisallowUnknownFields()
	var s summary
	require.NoError(t, dec.Decode(&s), "%v", e)
	require.Equal(t, s.In, s.Out+s.Duplicates+s.Rejected, "%v", e)
	return s
}

func runChild(t *testing.T, dir string, args ...string) ended {
	t.Helper()
	cmd, stdout, stderr := child(t, dir, nil, args...)
	require.NoError(t, cmd.Start())
	return wait(t, cmd, stdout, stderr)
}

func wait(t *testing.T, cmd *exec.Cmd, stdout, stderr *buffer) ended {
	t.Helper()
	err := cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		require.NoError(t, err, "%v", stderr)
	}
	return ended{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// inProcess is the program as a function.
func inProcess(t *testing.T, args ...string) ended {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var stdout, stderr buffer
	code := program(ctx, args, &stdout, &stderr, tuning{Config: leat.Config{CheckpointEvery: 50 * time.Millisecond}})
	require.NoError(t, ctx.Err(), "%v", &stderr)
	return ended{code, stdout.String(), stderr.String()}
}

// world is a broker in the test's process, which outlives the program.
type world struct {
	brokers string
	topic   string
	cl      *kgo.Client
}

func newWorld(t *testing.T) *world {
	t.Helper()
	const topic = "pi2_events"
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.GroupMinSessionTimeout(100*time.Millisecond), kfake.SeedTopics(partitions, topic))
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return connect(t, strings.Join(c.ListenAddrs(), ","), topic)
}

func connect(t *testing.T, brokers, topic string) *world {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(strings.Split(brokers, ",")...), kgo.DefaultProduceTopic(topic), kgo.AllowAutoTopicCreation())
	require.NoError(t, err)
	t.Cleanup(cl.Close)
	return &world{brokers: brokers, topic: topic, cl: cl}
}

// put produces values, keyed by event_id where they have one.
func (w *world) put(t *testing.T, values ...[]byte) {
	t.Helper()
	records := make([]*kgo.Record, len(values))
	for i, v := range values {
		var e struct {
			ID any `json:"event_id"`
		}
		_ = json.Unmarshal(v, &e)
		records[i] = &kgo.Record{Key: fmt.Append(nil, e.ID), Value: v}
	}
	require.NoError(t, w.cl.ProduceSync(t.Context(), records...).FirstErr())
}

// args are flags of the program that read w into dir/out.
func (w *world) args(more ...string) []string {
	return append([]string{"-brokers", w.brokers, "-topic", w.topic, "-json"}, more...)
}

func read(t *testing.T, path ...string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(path...))
	require.NoError(t, err)
	return string(text)
}
