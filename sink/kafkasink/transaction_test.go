package kafkasink_test

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/failpoint"
	"github.com/leatgo/leat/internal/kafka"
	"github.com/leatgo/leat/sink/kafkasink"
)

// world is a cluster with an input of one partition, and what a test needs to drive a
// transaction by hand.
type world struct {
	t         *testing.T
	brokers   []string
	in        string
	a, b      string // outputs
	bad       string // letters
	group     string
	member    *member
	tx        *kafkasink.Transaction
	sinks     []leat.Sink[string]
	letters   leat.DeadLetterLog
	env       leat.Env
	partition string
}

func newWorld(t *testing.T, brokers []string, config kafkasink.TransactionConfig) *world {
	t.Helper()
	w := &world{t: t, brokers: brokers, env: env(t)}
	w.in, w.a, w.b, w.bad = newTopic(t, brokers, 1, nil), newTopic(t, brokers, 1, nil), newTopic(t, brokers, 2, nil), newTopic(t, brokers, 1, nil)
	w.group = "g-" + w.in
	w.partition = "entrada/" + w.in + "/0"
	w.member = join(t, brokers, w.group, w.in)
	w.member.owned(t, 1)
	w.build(config)
	return w
}

// build makes the sinks, as a process that starts does.
func (w *world) build(config kafkasink.TransactionConfig) {
	config.Source, config.Brokers = w.member, w.brokers
	w.tx = kafkasink.NewTransaction(config)
	w.sinks = []leat.Sink[string]{
		kafkasink.New(kafkasink.Config[string]{Transaction: w.tx, Topic: w.a}),
		kafkasink.New(kafkasink.Config[string]{Transaction: w.tx, Topic: w.b, Key: func(s *string) []byte { return []byte(*s) }}),
	}
	w.letters = w.tx.DeadLetters(w.bad)
	require.NoError(w.t, w.letters.Open(w.t.Context(), w.env))
	w.t.Cleanup(func() { assert.NoError(w.t, w.letters.Close()) })
}

// open opens the sinks and gives the position of the input.
func (w *world) open() leat.Position {
	w.t.Helper()
	for _, s := range w.sinks {
		require.NoError(w.t, s.Open(w.t.Context(), w.env))
	}
	w.t.Cleanup(w.close)
	return w.restore()
}

func (w *world) restore() (at leat.Position) {
	w.t.Helper()
	for _, s := range w.sinks {
		got, err := s.(leat.Transactional).Restore(w.t.Context(), []string{w.partition})
		require.NoError(w.t, err)
		at = got[w.partition]
	}
	return at
}

func (w *world) close() {
	for _, s := range w.sinks {
		assert.NoError(w.t, s.Close())
	}
}

func (w *world) write(rows ...string) error {
	var errs []error
	for _, s := range w.sinks {
		errs = append(errs, s.Write(w.t.Context(), batch(rows...)))
	}
	return errors.Join(errs...)
}

func (w *world) commit(next int64) (err error) {
	for _, s := range w.sinks {
		var done bool
		if done, err = s.Commit(w.t.Context(), leat.Checkpoint{Seq: uint64(next), Positions: map[string]leat.Position{w.partition: w.at(next)}}); err != nil {
			return err
		}
		assert.True(w.t, done)
	}
	return nil
}

// at is the position as kafkasource makes it.
func (w *world) at(next int64) leat.Position {
	meta, err := kadm.NewClient(w.member.cl).ListTopics(w.t.Context(), w.in)
	require.NoError(w.t, err)
	return leat.Position{Next: next, Resume: "r" + strconv.FormatInt(next, 10), Log: kafka.LogOf(meta[w.in].ID)}
}

func (w *world) letter(id, sink string) error {
	return w.letters.Append(w.t.Context(), []leat.DeadLetter{{ID: id, Source: "entrada", Sink: sink, Raw: []byte(id), Time: time.Now()}})
}

// sees checks what readers of committed records see.
func (w *world) sees(a []string, letters ...string) {
	w.t.Helper()
	sees(w.t, w.brokers, w.a, a...)
	sees(w.t, w.brokers, w.b, a...)
	sees(w.t, w.brokers, w.bad, letters...)
}

// inBoth runs a test with the embedded broker, in both kinds of transactions, and with the real one.
func inBoth(t *testing.T, test func(t *testing.T, brokers []string)) {
	t.Run("kfake", func(t *testing.T) {
		_, brokers := fake(t)
		test(t, brokers)
	})
	t.Run("kfake before KIP-890", func(t *testing.T) {
		_, brokers := fake(t, kfake.MaxVersions(kversion.V3_6_0()))
		test(t, brokers)
	})
	t.Run("Kafka", func(t *testing.T) { test(t, realBrokers(t)) })
}

// Rule J3: rows of several sinks, letters and positions are one.
func TestTransaction(t *testing.T) {
	inBoth(t, func(t *testing.T, brokers []string) {
		w := newWorld(t, brokers, kafkasink.TransactionConfig{})
		require.Zero(t, w.open(), "rule E7: nothing is held")

		require.NoError(t, w.write("1", "2"))
		require.NoError(t, w.letter("x", ""))
		require.NoError(t, w.letter("y", w.b))
		require.NoError(t, w.letters.Sync(t.Context()))
		w.sees(nil)
		require.NoError(t, w.commit(3))
		w.sees([]string{"1", "2"}, "x", "y")

		require.NoError(t, w.commit(3), "nothing moved")
		require.NoError(t, w.commit(5), "rows were filtered")
		require.Equal(t, w.at(5), w.restore())

		require.NoError(t, w.letter("z", ""), "a batch of which all rows were rejected")
		require.NoError(t, w.commit(6))
		require.NoError(t, w.letter("of another sink", "sqlite"))
		require.NoError(t, w.letters.Sync(t.Context()))
		require.NoError(t, w.write("6"))
		w.sees([]string{"1", "2"}, "x", "y", "z", "of another sink")
		require.NoError(t, w.commit(7))
		w.sees([]string{"1", "2", "6"}, "x", "y", "z", "of another sink")

		for i := range int64(20) { // one after another, quickly
			require.NoError(t, w.write(fmt.Sprint("n", i)))
			require.NoError(t, w.commit(8+i))
		}
		require.Equal(t, w.at(27), w.restore())
		require.Eventually(t, func() bool { return len(readAll(t, brokers, w.a)) == 23 }, 5*time.Second, 10*time.Millisecond)
	})
}

// Rule E8: what is not committed when the sinks close is discarded, nobody waits for
// it, and the same sinks open again.
func TestClose(t *testing.T) {
	inBoth(t, func(t *testing.T, brokers []string) {
		w := newWorld(t, brokers, kafkasink.TransactionConfig{})
		w.open()
		require.NoError(t, w.write("1"))
		require.NoError(t, w.commit(1))
		require.NoError(t, w.write("2"))
		require.NoError(t, w.letter("x", ""))
		w.close()

		plain := client(t, brokers)
		require.NoError(t, plain.ProduceSync(t.Context(), &kgo.Record{Topic: w.a, Value: []byte("later")}).FirstErr())
		sees(t, brokers, w.a, "1", "later")
		require.Equal(t, w.at(1), w.open())
		require.NoError(t, w.write("2"))
		require.NoError(t, w.commit(2))
		sees(t, brokers, w.a, "1", "later", "2")
	})
}

// A process that was killed leaves a transaction open. The next one, with the same state
// folder, ends it at once; it has no other id, so that this takes no time.
func TestKilled(t *testing.T) {
	inBoth(t, func(t *testing.T, brokers []string) {
		for _, step := range []string{"kafkasink/before-offsets", "kafkasink/before-end", "kafkasink/after-end"} {
			t.Run(step, func(t *testing.T) {
				w := newWorld(t, brokers, kafkasink.TransactionConfig{})
				w.open()
				require.NoError(t, w.write("1"))
				require.NoError(t, w.commit(1))
				require.NoError(t, w.write("2"))
				require.NoError(t, w.letter("x", ""))
				blocked := make(chan struct{})
				defer close(blocked)
				reached := make(chan struct{})
				failpoint.Set(func(name string) error {
					if name == step {
						failpoint.Set(nil)
						close(reached)
						<-blocked // for ever, as far as the others can see
						return errors.New("killed")
					}
					return nil
				})
				old := *w
				go func() { _ = old.commit(2) }()
				<-reached

				start := time.Now()
				w.build(kafkasink.TransactionConfig{})
				at := w.open()
				want := int64(1)
				if step == "kafkasink/after-end" {
					want = 2
				}
				require.Equal(t, w.at(want), at)
				for ; want < 3; want++ {
					require.NoError(t, w.write(fmt.Sprint(want+1)))
					require.NoError(t, w.commit(want+1))
				}
				sees(t, brokers, w.a, "1", "2", "3")
				assert.Less(t, time.Since(start), 10*time.Second)
			})
		}
	})
}

// Rule E4: an end that is not confirmed is asked for again, where that can't end another transaction, and looked up.
func TestUnconfirmed(t *testing.T) {
	refuse := func(err *kerr.Error) func(kmsg.Request) (kmsg.Response, error, bool) {
		return func(kreq kmsg.Request) (kmsg.Response, error, bool) {
			resp := kreq.ResponseKind().(*kmsg.EndTxnResponse)
			resp.ErrorCode = err.Code
			return resp, nil, true
		}
	}
	for _, how := range []string{"the answer is lost", "refused", "refused, and again"} {
		t.Run(how, func(t *testing.T) {
			for i, versions := range []*kversion.Versions{kversion.Stable(), kversion.V3_6_0()} {
				c, brokers := fake(t, kfake.MaxVersions(versions))
				w := newWorld(t, brokers, kafkasink.TransactionConfig{})
				w.open()
				require.NoError(t, w.write("1"))
				require.NoError(t, w.commit(1))
				require.NoError(t, w.write("2"))
				takes := true
				switch how {
				case "the answer is lost":
					failpoint.Set(func(name string) error {
						if name != "kafkasink/after-end" {
							return nil
						}
						failpoint.Set(nil)
						return errors.New("the connection was lost")
					})
				case "refused":
					c.ControlKey(int16(kmsg.EndTxn), refuse(kerr.UnknownServerError))
					takes = i == 0
				default:
					c.ControlKey(int16(kmsg.EndTxn), refuse(kerr.UnknownServerError))
					if i == 0 { // the next one that the older version sends is an abort
						c.ControlKey(int16(kmsg.EndTxn), refuse(kerr.UnknownServerError))
						c.ControlKey(int16(kmsg.EndTxn), refuse(kerr.InvalidTxnState))
					}
					takes = false
				}
				err := w.commit(2)
				if takes {
					require.NoError(t, err)
				} else {
					require.ErrorIs(t, err, leat.ErrAborted)
					require.ErrorIs(t, w.write("2"), leat.ErrAborted, "until the next life")
					w.close()
					require.Equal(t, w.at(1), w.open())
					require.NoError(t, w.write("2"))
					require.NoError(t, w.commit(2))
				}
				require.NoError(t, w.write("3"))
				require.NoError(t, w.commit(3))
				sees(t, brokers, w.a, "1", "2", "3")
			}
		})
	}
}

// Rule J3: rows are not committed on the word of a broker that does not say what became of their positions.
func TestSilentCommit(t *testing.T) {
	for _, versions := range []*kversion.Versions{kversion.Stable(), kversion.V3_6_0()} {
		c, brokers := fake(t, kfake.MaxVersions(versions))
		w := newWorld(t, brokers, kafkasink.TransactionConfig{})
		w.open()
		for _, key := range []kmsg.Key{kmsg.TxnOffsetCommit, kmsg.OffsetCommit} {
			c.ControlKey(int16(key), func(req kmsg.Request) (kmsg.Response, error, bool) { return req.ResponseKind(), nil, true })
		}
		require.NoError(t, w.write("1"))
		require.NoError(t, w.commit(1))
		require.Equal(t, w.at(1), w.restore())
		require.NoError(t, w.commit(2))
		require.Equal(t, w.at(2), w.restore())
		sees(t, brokers, w.a, "1")
	}
}

// A commit that was never asked for, because the client knows that rows are lost, is not asked for again.
func TestNotCommittedOverLostRows(t *testing.T) {
	_, brokers := fake(t)
	w := newWorld(t, brokers, kafkasink.TransactionConfig{Opts: []kgo.Opt{kgo.MetadataMinAge(10 * time.Millisecond), kgo.MetadataMaxAge(50 * time.Millisecond)}})
	w.open()
	require.NoError(t, w.write("1"))
	require.NoError(t, w.commit(1))
	require.NoError(t, w.write("2"))
	failpoint.Set(func(name string) error {
		if name != "kafkasink/before-end" {
			return nil
		}
		failpoint.Set(nil)
		adm := kadm.NewClient(client(t, brokers))
		_, err := adm.DeleteTopics(t.Context(), w.a)
		require.NoError(t, err)
		_, err = adm.CreateTopic(t.Context(), 1, 1, nil, w.a)
		require.NoError(t, err)
		time.Sleep(500 * time.Millisecond) // the client looks at the topics
		return nil
	})
	require.ErrorIs(t, w.commit(2), leat.ErrAborted)
	w.close()
	require.Equal(t, w.at(1), w.open())
}

// Who ends the pipeline does not wait for a coordinator that does not answer as long as a commit would.
func TestUnconfirmedWhileThePipelineEnds(t *testing.T) {
	c, brokers := fake(t)
	w := newWorld(t, brokers, kafkasink.TransactionConfig{})
	w.open()
	require.NoError(t, w.write("1"))
	require.NoError(t, w.commit(1))
	require.NoError(t, w.write("2"))

	defer func(before time.Duration) { *kafkasink.EndTime = before }(*kafkasink.EndTime)
	*kafkasink.EndTime = time.Second
	back := make(chan struct{})
	defer close(back)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for _, key := range []kmsg.Key{kmsg.EndTxn, kmsg.InitProducerID} {
		c.ControlKey(int16(key), func(kmsg.Request) (kmsg.Response, error, bool) {
			c.KeepControl()
			cancel()
			c.SleepControl(func() { <-back })
			return nil, nil, false
		})
	}
	start := time.Now()
	var err error
	for _, s := range w.sinks {
		_, err = s.Commit(ctx, leat.Checkpoint{Seq: 2, Positions: map[string]leat.Position{w.partition: w.at(2)}})
	}
	require.ErrorIs(t, err, leat.ErrAborted)
	require.Less(t, time.Since(start), *kafkasink.EndTime*3/2)
}

// Asking again ends the transaction, or says that it has ended so; it never ends the next one.
func TestCommitAgain(t *testing.T) {
	inBoth(t, func(t *testing.T, brokers []string) {
		topic := newTopic(t, brokers, 1, nil)
		cl := client(t, brokers, kgo.TransactionalID(topic), kgo.DefaultProduceTopic(topic))
		v2, err := kafka.TransactionsV2(t.Context(), cl)
		require.NoError(t, err)
		if !v2 {
			t.Skip("an epoch is that of several transactions here")
		}
		begin := func(value string) kafka.Txn {
			require.NoError(t, cl.BeginTransaction())
			require.NoError(t, cl.ProduceSync(t.Context(), kgo.StringRecord(value)).FirstErr())
			id, epoch, err := cl.ProducerID(t.Context())
			require.NoError(t, err)
			return kafka.Txn{ID: topic, Producer: id, Epoch: epoch, V2: true}
		}
		again := func(tx kafka.Txn) error {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			return kafka.CommitAgain(ctx, cl, tx)
		}
		first := begin("1")
		require.NoError(t, cl.EndTransaction(t.Context(), kgo.TryCommit))
		require.NoError(t, again(first), "it has taken effect")
		second := begin("2")
		require.True(t, kafka.Final(again(first)), "it would end the second")
		require.NoError(t, again(second), "it was never asked for")
		require.NoError(t, again(second))
		sees(t, brokers, topic, "1", "2")
	})
}

// Rule H4 and KIP-447: the generation of a member may be out of date for a moment; who has
// lost the partition can't commit.
func TestRebalance(t *testing.T) {
	inBoth(t, func(t *testing.T, brokers []string) {
		w := newWorld(t, brokers, kafkasink.TransactionConfig{})
		w.open()
		require.NoError(t, w.write("1"))
		require.NoError(t, w.commit(1))
		require.NoError(t, w.write("2"))

		other := join(t, brokers, w.group, w.in) // there is only one partition: it stays where it is
		require.Eventually(t, func() bool { id, _ := other.cl.GroupMetadata(); return id != "" }, 10*time.Second, 5*time.Millisecond)
		require.NoError(t, w.commit(2), "the generation has changed, and the partition has not")

		require.NoError(t, w.write("3"))
		w.member.cl.LeaveGroup()
		other.owned(t, 1)
		err := w.commit(3)
		require.ErrorIs(t, err, leat.ErrAborted)
		require.NotErrorIs(t, err, leat.ErrFenced, "the source tells what it has lost")
		sees(t, brokers, w.a, "1", "2")

		w.member = other
		w.close()
		w.env.StateDir = t.TempDir()
		w.build(kafkasink.TransactionConfig{})
		require.Equal(t, w.at(2), w.open())
		require.NoError(t, w.write("3"))
		require.NoError(t, w.commit(3))
		sees(t, brokers, w.a, "1", "2", "3")
	})
}

// A zombie that does not know yet that it has lost its partition is refused by the group.
func TestZombie(t *testing.T) {
	inBoth(t, func(t *testing.T, brokers []string) {
		w := newWorld(t, brokers, kafkasink.TransactionConfig{})
		zombie := *w
		real := w.member
		zombie.member = nil
		deaf := &deaf{member: real, tp: kafka.TopicPartition{Topic: w.in}}
		deaf.is, _ = real.Member(nil)
		zombie.tx = kafkasink.NewTransaction(kafkasink.TransactionConfig{Source: deaf, Brokers: brokers, Timeout: 3 * time.Second})
		s := kafkasink.New(kafkasink.Config[string]{Transaction: zombie.tx, Topic: w.a})
		require.NoError(t, s.Open(t.Context(), w.env))
		defer s.Close()
		_, err := s.(leat.Transactional).Restore(t.Context(), []string{w.partition})
		require.NoError(t, err)
		at := w.at
		commit := func(next int64) error {
			_, err := s.Commit(t.Context(), leat.Checkpoint{Positions: map[string]leat.Position{w.partition: at(next)}})
			return err
		}
		require.NoError(t, s.Write(t.Context(), batch("1")))
		require.NoError(t, commit(1))

		real.cl.LeaveGroup()
		now := join(t, brokers, w.group, w.in)
		now.owned(t, 1)
		require.ErrorIs(t, commit(2), leat.ErrAborted, "positions alone")
		require.NoError(t, s.Close())
		require.NoError(t, s.Open(t.Context(), w.env))
		_, err = s.(leat.Transactional).Restore(t.Context(), []string{w.partition})
		require.NoError(t, err)
		require.NoError(t, s.Write(t.Context(), batch("2")))
		require.ErrorIs(t, commit(2), leat.ErrAborted, "rows and positions")
		sees(t, brokers, w.a, "1")
	})
}

// deaf is a member that has not heard of what became of its membership.
type deaf struct {
	*member
	tp kafka.TopicPartition
	is kafka.Member
}

func (d *deaf) Token(kafka.TopicPartition) uint64 { return 1 }

func (d *deaf) Member(map[kafka.TopicPartition]uint64) (kafka.Member, error) { return d.is, nil }

// Rule B5 in a transaction: what the broker refuses is named after a rewind, all of it at
// once, and nothing of the attempts is seen.
func TestRefusedInTransaction(t *testing.T) {
	brokers := realBrokers(t)
	w := newWorld(t, brokers, kafkasink.TransactionConfig{})
	strict := newTopic(t, brokers, 2, map[string]string{"message.timestamp.after.max.ms": "3600000"})
	w.sinks = append(w.sinks, kafkasink.New(kafkasink.Config[string]{Transaction: w.tx, Topic: strict, Timestamp: func(s *string) time.Time {
		if (*s)[0] == 'x' {
			return time.Now().Add(2 * time.Hour)
		}
		return time.Now()
	}}))
	w.open()
	require.NoError(t, w.write("1"))
	require.NoError(t, w.commit(1))
	rows := []string{"2", "x1", "3", "4", "x2", "5", "6", "7"}
	err := w.write(rows...)
	if err == nil {
		err = w.commit(int64(len(rows) + 1))
	}
	require.ErrorIs(t, err, leat.ErrAborted)
	w.close()

	w.open()
	err = w.write(rows...)
	require.ErrorIs(t, err, leat.ErrAborted)
	assert.Equal(t, []int{1, 4}, rowErrors(t, err))
	w.close()

	require.Equal(t, w.at(1), w.open())
	good := []string{"2", "3", "4", "5", "6", "7"}
	require.NoError(t, w.write(good...))
	require.NoError(t, w.commit(9))
	sees(t, brokers, strict, append(good, "1")...)
	w.sees(append(good, "1"))
}

// Before Kafka 2.5 a commit does not carry the member, so nothing would fence a zombie.
func TestOldBroker(t *testing.T) {
	_, brokers := fake(t, kfake.MaxVersions(kversion.V2_4_0()))
	w := newWorld(t, brokers, kafkasink.TransactionConfig{})
	w.open()
	require.NoError(t, w.write("1"))
	err := w.commit(1)
	require.ErrorContains(t, err, "transactions need brokers of version 2.5 or later")
	assert.NotErrorIs(t, err, leat.ErrAborted)
	w.sees(nil)
}

// A copy of the state folder has the same transactional id. The two do not fence each other
// for ever: who is fenced takes another id.
func TestCopiedStateFolder(t *testing.T) {
	inBoth(t, func(t *testing.T, brokers []string) {
		w := newWorld(t, brokers, kafkasink.TransactionConfig{})
		w.open()
		require.NoError(t, w.write("1"))
		twin := kafkasink.New(kafkasink.Config[string]{Transaction: kafkasink.NewTransaction(kafkasink.TransactionConfig{Source: w.member, Brokers: brokers}), Topic: w.a})
		require.NoError(t, twin.Open(t.Context(), w.env))
		defer twin.Close()
		require.ErrorIs(t, w.commit(1), leat.ErrAborted)
		w.close()
		w.open()
		require.NoError(t, w.write("1"))
		require.NoError(t, w.commit(1))
		_, err := twin.(leat.Transactional).Restore(t.Context(), []string{w.partition})
		require.NoError(t, err)
		require.NoError(t, twin.Write(t.Context(), batch("2")))
		_, err = twin.Commit(t.Context(), leat.Checkpoint{Positions: map[string]leat.Position{w.partition: w.at(2)}})
		require.NoError(t, err)
		sees(t, brokers, w.a, "1", "2")
	})
}

// A transaction that was open for too long is aborted by the broker: the rows come again.
func TestTimedOut(t *testing.T) {
	if os.Getenv("LEAT_LONG") == "" {
		t.Skip("waits for the broker's own timer, 10 s: set LEAT_LONG=1")
	}
	brokers := realBrokers(t)
	w := newWorld(t, brokers, kafkasink.TransactionConfig{Timeout: time.Second})
	for life := range 2 {
		w.open()
		require.NoError(t, w.write("1"))
		plain := client(t, brokers)
		require.NoError(t, plain.ProduceSync(t.Context(), &kgo.Record{Topic: w.a, Value: []byte("later")}).FirstErr())
		require.Eventually(t, func() bool { return len(readAll(t, brokers, w.a)) == life+1 }, 20*time.Second, 50*time.Millisecond)
		err := w.write("2")
		if err == nil {
			err = w.commit(2)
		}
		require.ErrorIs(t, err, leat.ErrAborted)
		w.close()
	}
	require.Zero(t, w.open())
	require.NoError(t, w.write("1", "2"))
	require.NoError(t, w.commit(2))
	sees(t, brokers, w.a, "1", "2", "later", "later")
}

// noise does not get smaller by compression.
func noise(n int) string {
	b := make([]byte, n/2)
	rand.Read(b)
	return hex.EncodeToString(b)
}

// unknownLimit is a cluster that takes batches of 2,000 bytes, and does not tell.
func unknownLimit(t *testing.T) []string {
	c, brokers := fake(t)
	c.ControlKey(int16(kmsg.DescribeConfigs), func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		resp := req.ResponseKind().(*kmsg.DescribeConfigsResponse)
		for _, r := range req.(*kmsg.DescribeConfigsRequest).Resources {
			rr := kmsg.NewDescribeConfigsResponseResource()
			rr.ResourceName, rr.ResourceType, rr.ErrorCode = r.ResourceName, r.ResourceType, kerr.TopicAuthorizationFailed.Code
			resp.Resources = append(resp.Resources, rr)
		}
		return resp, nil, true
	})
	c.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		for _, rt := range req.(*kmsg.ProduceRequest).Topics {
			for _, p := range rt.Partitions {
				if len(p.Records) > 2000 {
					return produceError(req, kerr.MessageTooLarge), nil, true
				}
			}
		}
		return nil, nil, false
	})
	return brokers
}

// Who may not read a topic's configuration does not know its limit. That a batch is too
// large is no fault of its records: they are sent one by one, and one that is too large by
// itself is found among them. The same holds for letters.
func TestUnknownLimit(t *testing.T) {
	brokers := unknownLimit(t)
	w := newWorld(t, brokers, kafkasink.TransactionConfig{})
	var rows, letters []string
	for range 20 {
		rows = append(rows, noise(300))
		letters = append(letters, noise(300))
	}
	more := []string{"x", noise(10_000), "y"}
	for i := 0; ; i++ {
		require.Less(t, i, 6)
		w.open()
		err := w.write(rows...)
		if err == nil {
			err = w.write(more...)
		}
		if err == nil {
			var all []leat.DeadLetter
			for _, raw := range letters {
				all = append(all, leat.DeadLetter{ID: raw[:32], Source: "entrada", Raw: []byte(raw), Time: time.Now()})
			}
			err = w.letters.Append(t.Context(), all)
		}
		if err == nil {
			err = w.commit(20)
		}
		if err == nil {
			break
		}
		require.ErrorIs(t, err, leat.ErrAborted)
		if re := (*leat.RowErrors)(nil); errors.As(err, &re) && len(re.Rows) > 0 {
			require.Len(t, re.Rows, 1)
			require.Equal(t, 1, re.Rows[0].Row)
			more = slices.Delete(more, 1, 2)
		}
		w.close()
	}
	w.sees(append(rows, more...), letters...)
}

// Rule B5: where another sink has committed less, commits with nothing in them come before what is refused
// comes again. They do not end the care with which it is sent.
func TestUnknownLimitAfterEmptyCommits(t *testing.T) {
	for name, write := range map[string]func(w *world, values []string) error{
		"rows": func(w *world, values []string) error { return w.sinks[0].Write(t.Context(), batch(values...)) },
		"letters": func(w *world, values []string) error {
			var all []leat.DeadLetter
			for _, v := range values {
				all = append(all, leat.DeadLetter{ID: v, Source: "entrada", Raw: []byte(v), Time: time.Now()})
			}
			return w.letters.Append(t.Context(), all)
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, unknownLimit(t), kafkasink.TransactionConfig{})
			w.sinks = w.sinks[:1]
			w.open()
			require.NoError(t, w.commit(1))
			w.close()
			var values []string
			for range 20 {
				values = append(values, noise(300))
			}
			for n := 0; ; n++ {
				require.Less(t, n, 8)
				w.open()
				for range 3 {
					require.NoError(t, w.commit(1))
				}
				err := write(w, values)
				if err == nil {
					err = w.commit(2)
				}
				w.close()
				if err == nil {
					return
				}
				require.ErrorIs(t, err, leat.ErrAborted)
			}
		})
	}
}

// Letters of a sink's transaction, and the log's own ones, are read back as they were.
func TestLettersOfTransaction(t *testing.T) {
	_, brokers := fake(t)
	w := newWorld(t, brokers, kafkasink.TransactionConfig{})
	w.open()
	require.NoError(t, w.letter("x", ""))
	require.NoError(t, w.letter("x", ""))
	var got []string
	for range 2 {
		got = nil
		for d, err := range kafkasink.ReadDeadLetters(t.Context(), kafkasink.LettersConfig{Brokers: brokers, Topic: w.bad}) {
			require.NoError(t, err)
			got = append(got, d.ID)
		}
		if len(got) == 0 {
			require.NoError(t, w.commit(1))
		}
	}
	assert.Equal(t, []string{"x"}, got)
}

func TestPartitionsItCantKeep(t *testing.T) {
	_, brokers := fake(t)
	w := newWorld(t, brokers, kafkasink.TransactionConfig{})
	w.open()
	for name, want := range map[string]string{
		"otra/t/0":        "is not of source entrada",
		"@ventas":         "can't keep the position of @ventas",
		"entrada/@replay": "with sinks without Transaction",
	} {
		_, err := w.sinks[0].(leat.Transactional).Restore(context.Background(), []string{name})
		require.ErrorContains(t, err, want)
		assert.False(t, leat.IsTransient(err))
		assert.NotErrorIs(t, err, leat.ErrAborted)
	}
}

// J3: a Transaction that two pipelines have by mistake, as when leat.Replicas builds them around
// one, is refused.
func TestTransactionOfTwoPipelines(t *testing.T) {
	_, brokers := fake(t)
	w := newWorld(t, brokers, kafkasink.TransactionConfig{})
	require.NoError(t, w.sinks[0].Open(t.Context(), w.env))
	require.ErrorContains(t, w.sinks[1].Open(t.Context(), env(t)), "one belongs to one pipeline")
	require.NoError(t, w.sinks[1].Open(t.Context(), w.env))
	w.close()
}

func TestOtherCluster(t *testing.T) {
	_, brokers := fake(t)
	_, others := fake(t, kfake.ClusterID("other"), kfake.SeedTopics(1, "t"))
	w := newWorld(t, brokers, kafkasink.TransactionConfig{})
	tx := kafkasink.NewTransaction(kafkasink.TransactionConfig{Source: w.member, Brokers: others})
	s := kafkasink.New(kafkasink.Config[string]{Transaction: tx, Topic: "t"})
	require.NoError(t, s.Open(t.Context(), w.env))
	defer s.Close()
	_, err := s.(leat.Transactional).Restore(t.Context(), []string{w.partition})
	require.ErrorContains(t, err, "a transaction is of one cluster")
}
