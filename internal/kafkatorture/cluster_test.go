//go:build unix

package kafkatorture

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

const nodes = 3

// cluster is three brokers. There is one for all tests of this process, because a machine
// has memory for few.
type cluster struct {
	script  string
	env     []string
	brokers []string
	adm     *kadm.Client

	mu   sync.Mutex
	down [nodes + 1]bool
}

var theCluster struct {
	sync.Once
	c   *cluster
	err error
}

// brokers starts the cluster with the first test that needs it.
func brokers(t *testing.T) *cluster {
	t.Helper()
	unable := func(format string, args ...any) {
		if os.Getenv("CI") == "true" {
			t.Fatalf(format, args...)
		}
		t.Skipf(format, args...)
	}
	if _, err := exec.LookPath("java"); err != nil {
		unable("three Kafka brokers need java: %v", err)
	}
	script, err := filepath.Abs("../../.ci/servers/kafka.sh")
	require.NoError(t, err)
	servers := os.Getenv("LEAT_SERVERS")
	if servers == "" {
		cache, _ := os.UserCacheDir()
		servers = filepath.Join(cache, "leat-servers")
	}
	if found, _ := filepath.Glob(filepath.Join(servers, "kafka", "dist-*", ".done")); len(found) == 0 {
		unable("Kafka's jars are not in %s: run .ci/servers/kafka.sh install, or set LEAT_SERVERS", servers)
	}
	theCluster.Do(func() { theCluster.c, theCluster.err = startCluster(script) })
	require.NoError(t, theCluster.err)
	return theCluster.c
}

// startCluster begins with what an earlier run may have left. Its ports lie below those
// that the kernel gives to clients, so that a broker that was killed gets its own again.
func startCluster(script string) (*cluster, error) {
	port := number("LEAT_TORTURE_PORT", 23092)
	c := &cluster{script: script, env: append(os.Environ(),
		"KAFKA_INSTANCE=kafkatorture-"+strconv.Itoa(port), "KAFKA_PORT="+strconv.Itoa(port), "KAFKA_CONTROLLER_PORT="+strconv.Itoa(port+100),
		"KAFKA_HEAP=192m", "KAFKA_AUTO_CREATE=false", "KAFKA_START_TIMEOUT=120")}
	for i := range nodes {
		c.brokers = append(c.brokers, net.JoinHostPort("127.0.0.1", strconv.Itoa(port+i)))
	}
	if err := errors.Join(c.run("wipe"), c.run("start", strconv.Itoa(nodes))); err != nil {
		return nil, err
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(c.brokers...))
	if err != nil {
		return nil, err
	}
	c.adm = kadm.NewClient(cl)
	return c, nil
}

func (c *cluster) run(args ...string) error {
	cmd := exec.Command(c.script, args...)
	cmd.Env = c.env
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("kafka.sh %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return nil
}

// kill kills a node, counted from 1, with SIGKILL.
func (c *cluster) kill(node int) error {
	c.mu.Lock()
	c.down[node] = true
	c.mu.Unlock()
	return c.run("kill", strconv.Itoa(node))
}

func (c *cluster) restart(node int) error {
	err := c.run("start-node", strconv.Itoa(node))
	if err == nil {
		c.mu.Lock()
		c.down[node] = false
		c.mu.Unlock()
	}
	return err
}

// heal starts what is down and waits until all replicas have all: before that, the death of
// another node might lose records that were acknowledged, which is not what is tested.
func (c *cluster) heal(ctx context.Context) error {
	for node := 1; node <= nodes; node++ {
		c.mu.Lock()
		down := c.down[node]
		c.mu.Unlock()
		if down {
			if err := c.restart(node); err != nil {
				return err
			}
		}
	}
	for ctx.Err() == nil {
		if c.whole(ctx) {
			return nil
		}
		pause(ctx, 200*time.Millisecond)
	}
	return ctx.Err()
}

func (c *cluster) whole(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	m, err := c.adm.ListTopicsWithInternal(ctx)
	if err != nil {
		return false
	}
	for _, t := range m {
		for _, p := range t.Partitions {
			if len(p.ISR) < nodes || p.Leader < 0 {
				return false
			}
		}
	}
	return true
}

// topic makes a topic with replication 3.
func (c *cluster) topic(t *testing.T, name string, partitions int32) {
	t.Helper()
	resp, err := c.adm.CreateTopic(t.Context(), partitions, nodes, nil, name)
	require.NoError(t, errors.Join(err, resp.Err))
}

// drop deletes topics, so that the next test has less to replicate.
func (c *cluster) drop(topics []string) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_, _ = c.adm.DeleteTopics(ctx, topics...)
}

// close ends the cluster of this process, if there is one.
func closeCluster() {
	if c := theCluster.c; c != nil {
		c.adm.Close()
		if err := c.run("wipe"); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}
}

// pause waits, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// number is what the environment says.
func number(name string, standard int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil {
		return n
	}
	return standard
}
