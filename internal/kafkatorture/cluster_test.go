//go:build unix

package kafkatorture

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/leatgo/leat/internal/kafkatest"
)

const nodes = 3

// cluster is three brokers. There is one for all tests of this process, because a machine
// has memory for few.
type cluster struct {
	*kafkatest.Instance
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
	port := kafkatest.Number("LEAT_TORTURE_PORT", 23092)
	instance := kafkatest.NewInstance(t, "kafkatorture", port)
	theCluster.Do(func() { theCluster.c, theCluster.err = startCluster(instance, port) })
	require.NoError(t, theCluster.err)
	return theCluster.c
}

// startCluster begins with what an earlier run may have left. Its ports lie below those
// that the kernel gives to clients, so that a broker that was killed gets its own again.
func startCluster(instance *kafkatest.Instance, port int) (*cluster, error) {
	c := &cluster{Instance: instance}
	for i := range nodes {
		c.brokers = append(c.brokers, net.JoinHostPort("127.0.0.1", strconv.Itoa(port+i)))
	}
	if err := errors.Join(c.Run("wipe"), c.Run("start", strconv.Itoa(nodes))); err != nil {
		return nil, err
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(c.brokers...))
	if err != nil {
		return nil, err
	}
	c.adm = kadm.NewClient(cl)
	return c, nil
}

// kill kills a node, counted from 1, with SIGKILL.
func (c *cluster) kill(node int) error {
	c.mu.Lock()
	c.down[node] = true
	c.mu.Unlock()
	return c.Run("kill", strconv.Itoa(node))
}

func (c *cluster) restart(node int) error {
	err := c.Run("start-node", strconv.Itoa(node))
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
		if err := c.Run("wipe"); err != nil {
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
