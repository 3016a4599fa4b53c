//go:build unix

package kafkatorture

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/source/kafkasource"
	"github.com/leatgo/leat/stage"
)

const (
	session   = 6 * time.Second
	txTimeout = 6 * time.Second
)

// tests wipe the cluster at their end.
type tests struct{ *testing.M }

func (m tests) Run() int {
	defer closeCluster()
	return m.M.Run()
}

const envSettings = "LEAT_KAFKATORTURE"

func TestMain(m *testing.M) {
	if os.Getenv(envSettings) != "" {
		role()
		os.Exit(0)
	}
	os.Exit(tests{m}.Run())
}

// settings go to a member.
type settings struct {
	Pipes      []string
	Name       string // of the member
	In         string // the topic that is read
	World      string // begins the names of topics and groups
	Brokers    []string
	Direct     bool              // without a proxy
	Route      map[string]string // where to dial instead of a broker
	Base       string            // the world's folder
	State      string            // the member's own
	Old        bool              // speak as clients of Kafka 3.6 do
	PG         string            // a PostgreSQL server, for pipes that need one
	Drain      bool
	Replicas   int
	Checkpoint time.Duration
}

func (s settings) topic(name string) string { return s.World + "-" + name }
func (s settings) group(of pipe) string     { return groupOf(s.World, of) }
func (s settings) out(name string) string   { return filepath.Join(s.Base, "out", name) }

func groupOf(world string, of pipe) string { return world + "-" + of.name }

func (s settings) opts() []kgo.Opt {
	opts := []kgo.Opt{kgo.ClientID(s.Name), kgo.MetadataMinAge(100 * time.Millisecond)}
	if s.Old {
		opts = append(opts, kgo.MaxVersions(kversion.V3_6_0()))
	}
	if s.Route != nil {
		opts = append(opts, kgo.Dialer(func(ctx context.Context, network, host string) (net.Conn, error) {
			if to, ok := s.Route[host]; ok {
				host = to
			}
			return (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, network, host)
		}))
	}
	return opts
}

// pipeline builds one pipeline of a member.
func (s settings) pipeline(of pipe, replica int) *leat.Pipeline {
	instance := ""
	if of.static {
		instance = fmt.Sprintf("%s-%d", filepath.Base(s.State), replica)
	}
	src := kafkasource.New(kafkasource.Config[fila]{
		Name: "entrada", Brokers: s.Brokers, Topics: []string{s.In}, Group: s.group(of), InstanceID: instance,
		SessionTimeout: session, Drain: s.Drain, Idle: 300 * time.Millisecond, Opts: s.opts(),
	})
	state := filepath.Join(s.State, of.name)
	if replica > 0 {
		state = fmt.Sprintf("%s-%d", state, replica)
	}
	b := &building{s: s, pipe: of, src: src, c: leat.Config{
		StateDir: state, CheckpointEvery: s.Checkpoint, DrainTimeout: 20 * time.Second,
		Retry: leat.Retry{First: 50 * time.Millisecond, Max: time.Second}, Breaker: leat.Breaker{Share: -1},
		Require: leat.ExactlyOnce,
		Logger:  slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: logLevel()})).With("pipe", of.name),
	}}
	of.build(b)
	p := leat.New(of.name, b.c)
	rows := leat.Via(leat.From(p, src), "mira", mira{})
	if b.once {
		rows = leat.Via(rows, "once", &stage.Dedupe[fila, int64]{Key: func(r *fila) int64 { return r.Evento }})
	}
	for _, sink := range b.to {
		leat.To(rows, sink)
	}
	return p
}

func logLevel() slog.Level {
	if os.Getenv("LEAT_DEBUG") != "" {
		return slog.LevelDebug
	}
	return slog.LevelInfo
}

// role is the process: it runs pipelines until its standard input ends, or to their ends.
func role() {
	var s settings
	if err := json.Unmarshal([]byte(os.Getenv(envSettings)), &s); err != nil {
		panic(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
		if !s.Drain {
			time.AfterFunc(time.Minute, func() { panic("the member does not stop") })
		}
	}()
	var all sync.WaitGroup
	for _, name := range s.Pipes {
		for i := range max(1, s.Replicas) {
			all.Go(func() {
				p := s.pipeline(pipeNamed(name), i)
				if err := p.Run(ctx); err != nil && !errors.Is(err, context.Canceled) {
					fmt.Printf("stopped %s: %v\n", name, err)
					os.Exit(1)
				}
				fmt.Println("ended", name)
			})
		}
	}
	fmt.Println("begun")
	all.Wait()
}

// member is a process that runs.
type member struct {
	name  string
	state string
	cmd   *exec.Cmd
	stdin io.Closer
	proxy *proxy
	log   string // its standard error

	mu      sync.Mutex
	ordered bool // its end was wanted
	done    chan struct{}
	said    []string
	err     error
}

// launch starts a member. what is called when it ends by itself.
func launch(t *testing.T, s settings, exited func(m *member)) *member {
	t.Helper()
	exe, err := os.Executable()
	require.NoError(t, err)
	m := &member{name: s.Name, state: s.State, done: make(chan struct{})}
	if !s.Direct {
		m.proxy, err = newProxy(s.Brokers)
		require.NoError(t, err)
		s.Route = m.proxy.route
	}
	b, err := json.Marshal(s)
	require.NoError(t, err)
	m.cmd = exec.Command(exe, "-test.run=^$")
	m.cmd.Env = append(os.Environ(), envSettings+"="+string(b))
	m.stdin, err = m.cmd.StdinPipe()
	require.NoError(t, err)
	out, err := m.cmd.StdoutPipe()
	require.NoError(t, err)
	m.log = filepath.Join(s.Base, "log", s.Name)
	require.NoError(t, os.MkdirAll(filepath.Dir(m.log), 0o755))
	log, err := os.OpenFile(m.log, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	require.NoError(t, err)
	m.cmd.Stderr = log
	require.NoError(t, m.cmd.Start())
	go func() {
		for in := bufio.NewScanner(out); in.Scan(); {
			m.mu.Lock()
			m.said = append(m.said, in.Text())
			m.mu.Unlock()
		}
		m.err = m.cmd.Wait()
		log.Close()
		if m.proxy != nil {
			m.proxy.close()
		}
		close(m.done)
		m.mu.Lock()
		ordered := m.ordered
		m.mu.Unlock()
		if !ordered {
			exited(m)
		}
	}()
	return m
}

func (m *member) order() {
	m.mu.Lock()
	m.ordered = true
	m.mu.Unlock()
}

// kill is kill -9.
func (m *member) kill() {
	m.order()
	_ = m.cmd.Process.Kill()
	<-m.done
}

// leave ends the member in good order.
func (m *member) leave() {
	m.order()
	m.stdin.Close()
	select {
	case <-m.done:
	case <-time.After(70 * time.Second):
		_ = m.cmd.Process.Signal(syscall.SIGQUIT) // says where it hangs
		<-m.done
	}
}

// alive tells whether it runs and is meant to.
func (m *member) alive() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	select {
	case <-m.done:
		return false
	default:
		return !m.ordered
	}
}

// freeze stops the process for a time, which it does not notice.
func (m *member) freeze(ctx context.Context, d time.Duration) {
	_ = m.cmd.Process.Signal(syscall.SIGSTOP)
	pause(ctx, d)
	_ = m.cmd.Process.Signal(syscall.SIGCONT)
}

func (m *member) lines() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]string(nil), m.said...)
}
