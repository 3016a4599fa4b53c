//go:build unix

package kafkatorture

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Rules E4, J3: what the broker has done counts, whatever it answered: an error that is no
// error, half an answer, none. The broker is one within this process, so that all answers
// of a kind can be struck.
func TestApplied(t *testing.T) {
	notReally := func(of request, frame []byte) ([]byte, bool) { return withError(frame, of.version), true }
	none := func(request, []byte) ([]byte, bool) { return nil, false }
	for _, c := range []struct {
		name string
		key  kmsg.Key
		odds int  // one in so many answers is struck
		most int  // so many at most
		old  bool // transactions as before KIP-890, with requests that there are no more
		lose func(of request, frame []byte) ([]byte, bool)
	}{
		{"Produce: not enough replicas after append", kmsg.Produce, 3, 20, false, notReally},
		{"Produce: no answer", kmsg.Produce, 3, 20, false, none},
		{"Produce: no answer, old", kmsg.Produce, 3, 20, true, none},
		{"EndTxn: no answer", kmsg.EndTxn, 2, 20, false, none},
		{"EndTxn: no answer, old", kmsg.EndTxn, 2, 20, true, none},
		{"TxnOffsetCommit: no answer", kmsg.TxnOffsetCommit, 2, 20, false, none},
		{"TxnOffsetCommit: no answer, old", kmsg.TxnOffsetCommit, 2, 20, true, none},
		{"AddPartitionsToTxn: no answer, old", kmsg.AddPartitionsToTxn, 2, 20, true, none},
		{"AddOffsetsToTxn: no answer, old", kmsg.AddOffsetsToTxn, 2, 20, true, none},
		{"InitProducerID: no answer", kmsg.InitProducerID, 1, 3, false, none},
		{"OffsetCommit: no answer", kmsg.OffsetCommit, 2, 20, false, none},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := fakeWorld(t, 4000, "kafka", "sqlite", "kafka+sqlite")
			s := w.settings("m", "m")
			s.Checkpoint, s.Old = 20*time.Millisecond, c.old
			p, err := newProxy(s.Brokers)
			require.NoError(t, err)
			defer p.close()
			s.Route = p.route
			var mu sync.Mutex
			struck := 0
			p.losing(func(of request, frame []byte) ([]byte, bool) {
				mu.Lock()
				defer mu.Unlock()
				if of.key != c.key.Int16() || struck >= c.most || w.random(c.odds) > 0 {
					return frame, true
				}
				struck++
				return c.lose(of, frame)
			})
			ctx, cancel := context.WithCancel(t.Context())
			var all sync.WaitGroup
			for _, name := range s.Pipes {
				all.Go(func() {
					if err := s.pipeline(pipeNamed(name), 0).Run(ctx); err != nil && ctx.Err() == nil {
						t.Errorf("%s ended: %v", name, err)
					}
				})
			}
			require.NoError(t, w.produce(ctx))
			w.settle(time.Minute)
			cancel()
			all.Wait()
			require.NotZero(t, struck, "no answer came that could be struck")
			for _, p := range w.pipes {
				d := w.compare(p)
				t.Logf("%s: %d answers struck, %d rows, lost %d, twice %d", p.name, struck, d.rows, d.lost, d.twice)
				if !d.none() {
					t.Errorf("%s: %s", p.name, strings.Join(d.strange, "; "))
				}
			}
		})
	}
}

// withError makes a produce answer say that records were written to too few replicas, to
// all of its partitions.
func withError(frame []byte, version int16) []byte {
	resp := kmsg.NewPtrProduceResponse()
	resp.SetVersion(version)
	head := 8
	if resp.IsFlexible() {
		head++
	}
	if err := resp.ReadFrom(frame[head:]); err != nil {
		panic(err)
	}
	for i := range resp.Topics {
		for k := range resp.Topics[i].Partitions {
			p := &resp.Topics[i].Partitions[k]
			p.ErrorCode, p.BaseOffset = kerr.NotEnoughReplicasAfterAppend.Code, -1
		}
	}
	out := resp.AppendTo(append([]byte(nil), frame[:head]...))
	binary.BigEndian.PutUint32(out, uint32(len(out)-4))
	return out
}

// fakeWorld is a world on a broker within this process.
func fakeWorld(t *testing.T, records int64, names ...string) *world {
	t.Helper()
	fake, err := kfake.NewCluster(kfake.NumBrokers(nodes))
	require.NoError(t, err)
	t.Cleanup(fake.Close)
	cl, err := kgo.NewClient(kgo.SeedBrokers(fake.ListenAddrs()...))
	require.NoError(t, err)
	t.Cleanup(cl.Close)
	w := &world{
		t: t, c: &cluster{brokers: fake.ListenAddrs(), adm: kadm.NewClient(cl)}, name: fmt.Sprintf("w%x", rand.Uint32()),
		records: records, during: 2 * time.Second, base: t.TempDir(), rng: rand.New(rand.NewPCG(seedOf(t), 1)),
	}
	require.NoError(t, os.MkdirAll(w.out(""), 0o755))
	w.c.topic(t, w.name+"-in", inPartitions)
	for _, name := range names {
		p := pipeNamed(name)
		w.pipes = append(w.pipes, p)
		for _, topic := range p.topics {
			w.c.topic(t, w.name+"-"+topic, outPartitions)
		}
	}
	return w
}
