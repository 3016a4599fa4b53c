package kafkasink_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/leatgo/leat/internal/failpoint"
	"github.com/leatgo/leat/internal/kafkatest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/leattest"
	"github.com/leatgo/leat/sink/kafkasink"
	"github.com/leatgo/leat/source/kafkasource"
	"github.com/leatgo/leat/stage"
)

type pedido struct {
	ID    int    `json:"id"`
	Key   string `leat:"@key"`
	Trace string `leat:"@header.traza"`
}

// job is a pipeline from topic to topic: what is good goes to one topic, what is even to
// another one as well, and what is bad to the letters.
type job struct {
	brokers []string
	opts    []kgo.Opt // TLS and login
	name    string
	rows    int
	bad     map[int]bool
	letters bool // in the topic, with the transaction
	drain   bool

	portions int // of the input
	pause    time.Duration
	config   leat.Config

	session, timeout time.Duration // of the group's members and of transactions
}

func (j *job) topic(of string) string { return j.name + "-" + of }

func (j *job) make(t testing.TB) {
	t.Helper()
	j.portions = max(1, j.portions)
	cl := client(t, j.brokers, j.opts...)
	adm := kadm.NewClient(cl)
	topics := []string{j.topic("in"), j.topic("all"), j.topic("even"), j.topic("bad")}
	_, err := adm.CreateTopics(t.Context(), 2, 1, nil, topics...)
	require.NoError(t, err)
	var records []*kgo.Record
	for i := range j.rows {
		v := fmt.Sprintf(`{"id":%d}`, i)
		if j.bad[i] {
			v = fmt.Sprintf(`{"id":%d,`, i)
		}
		records = append(records, &kgo.Record{Topic: topics[0], Key: fmt.Appendf(nil, "k%d", i), Value: []byte(v), Headers: []kgo.RecordHeader{{Key: "traza", Value: fmt.Appendf(nil, "t%d", i)}}})
	}
	feed := func() {
		for part := range slices.Chunk(records, max(1, len(records)/j.portions)) {
			if err := cl.ProduceSync(t.Context(), part...).FirstErr(); err != nil {
				t.Error(err)
				return
			}
			time.Sleep(j.pause)
		}
	}
	var fed sync.WaitGroup
	if j.pause > 0 {
		fed.Go(feed)
	} else {
		feed()
	}
	t.Cleanup(func() {
		fed.Wait()
		_, err := adm.DeleteTopics(context.Background(), topics...)
		assert.NoError(t, err)
	})
}

func (j *job) build() *leat.Pipeline {
	src := kafkasource.New(kafkasource.Config[pedido]{
		Brokers: j.brokers, Topics: []string{j.topic("in")}, Group: j.name, Drain: j.drain, ChunkRows: 5, SessionTimeout: j.session,
		Opts: append([]kgo.Opt{kgo.HeartbeatInterval(100 * time.Millisecond), kgo.FetchMaxWait(50 * time.Millisecond)}, j.opts...),
	})
	tx := kafkasink.NewTransaction(kafkasink.TransactionConfig{Source: src, Brokers: j.brokers, Opts: j.opts, Timeout: j.timeout})
	if j.letters {
		j.config.DeadLetters = tx.DeadLetters(j.topic("bad"))
	}
	j.config.Breaker = leat.Breaker{Share: -1}
	p := leat.New("pedidos", j.config)
	all := leat.From(p, src)
	leat.To(all, kafkasink.New(kafkasink.Config[pedido]{Transaction: tx, Topic: j.topic("all")}))
	even := leat.Via(all, "even", stage.Filter(func(r pedido) bool { return r.ID%2 == 0 }))
	leat.To(even, kafkasink.New(kafkasink.Config[pedido]{Transaction: tx, Topic: j.topic("even")}))
	return p
}

func (j *job) want() (out []string) {
	for i := range j.rows {
		if j.bad[i] {
			if j.letters {
				out = append(out, fmt.Sprintf("bad k%d t%d {\"id\":%d,", i, i, i))
			}
			continue
		}
		out = append(out, fmt.Sprintf("all k%d t%d {\"id\":%d}", i, i, i))
		if i%2 == 0 {
			out = append(out, fmt.Sprintf("even k%d t%d {\"id\":%d}", i, i, i))
		}
	}
	return out
}

func (j *job) got(t *testing.T) (out []string) {
	for _, of := range []string{"all", "even", "bad"} {
		for _, r := range readAll(t, j.brokers, j.topic(of), j.opts...) {
			out = append(out, fmt.Sprintf("%s %s %s %s", of, r.Key, r.Headers[0].Value, r.Value))
		}
	}
	return out
}

// Kafka to Kafka exactly once, whatever goes wrong (rules E4, E8, J2, J3).
func TestRecoversInTransactions(t *testing.T) {
	for name, versions := range map[string]*kversion.Versions{"now": kversion.Stable(), "before KIP-890": kversion.V3_6_0()} {
		for _, letters := range []bool{false, true} {
			t.Run(fmt.Sprint(name, ", letters: ", letters), func(t *testing.T) {
				var mu sync.Mutex
				jobs := map[string]*job{}
				of := func(t *testing.T, dir string) *job {
					mu.Lock()
					defer mu.Unlock()
					j := jobs[dir]
					if j == nil {
						_, brokers := fake(t, kfake.MaxVersions(versions))
						j = &job{brokers: brokers, name: "pedidos", rows: 40, bad: map[int]bool{3: true, 17: true, 18: true, 39: true}, letters: letters, drain: true}
						j.make(t)
						jobs[dir] = j
					}
					return j
				}
				example := &job{rows: 40, bad: map[int]bool{3: true, 17: true, 18: true, 39: true}, letters: letters}
				leattest.TestRecovery(t, leattest.RecoveryHarness[string]{
					Build: func(t *testing.T, dir string) *leat.Pipeline {
						j := of(t, dir)
						j.config = leat.Config{}
						return j.build()
					},
					ReadBack: func(t *testing.T, dir string) []string {
						got := of(t, dir).got(t)
						slices.Sort(got)
						assert.Equal(t, slices.Compact(slices.Clone(got)), got, "each row once")
						return got
					},
					Want: example.want(), RealTime: true, Trials: 12,
					// Rows are not, see ReadBack. But counters are: where the group stands ahead of the state
					// folder, what came between is not counted.
					Duplicates: true,
				})
			})
		}
	}
}

// The same on a real broker, with commits that are lost and answers that get lost, while
// members of the group come and go.
func TestRebalancedTransactions(t *testing.T) {
	brokers := realBrokers(t)
	j := &job{brokers: brokers, name: "j" + newTopic(t, brokers, 1, nil), rows: 20_000, bad: map[int]bool{7: true, 19_000: true}, letters: true, portions: 50, pause: 200 * time.Millisecond}
	j.make(t)
	var dice sync.Mutex
	r := rand.New(rand.NewPCG(1, 2))
	failpoint.Set(func(name string) error {
		dice.Lock()
		defer dice.Unlock()
		if strings.HasPrefix(name, "kafkasink/") && r.IntN(15) == 0 {
			return errors.New("the dice say no")
		}
		return nil
	})
	defer failpoint.Set(nil)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	var members sync.WaitGroup
	run := func(life time.Duration) {
		j := *j
		j.config = leat.Config{StateDir: t.TempDir(), CheckpointEvery: 50 * time.Millisecond, Retry: leat.Retry{First: time.Millisecond, Max: 100 * time.Millisecond}, Logger: kafkatest.Logger(t)}
		p := j.build()
		members.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, life)
			defer cancel()
			if err := p.Run(ctx); err != nil && ctx.Err() == nil {
				t.Error(err)
			}
		})
	}
	run(time.Hour)
	want := j.want()
	for len(j.got(t)) < len(want) && ctx.Err() == nil {
		run(1500 * time.Millisecond)
		time.Sleep(time.Second)
	}
	cancel()
	members.Wait()
	got := j.got(t)
	slices.Sort(got)
	slices.Sort(want)
	require.Equal(t, len(want), len(got))
	assert.True(t, slices.Equal(want, got))
}
