package watermillsource_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/leattest"
	"github.com/leatgo/leat/sink/csvsink"
	"github.com/leatgo/leat/sink/jsonsink"
	"github.com/leatgo/leat/sink/parquetsink"
	"github.com/leatgo/leat/sink/sqlitesink"
	"github.com/leatgo/leat/source/watermillsource"
)

type fila struct {
	ID int64
}

func payloads(n int) (out []string) {
	for i := range n {
		out = append(out, fmt.Sprintf(`{"id":%d}`, i))
	}
	return out
}

func ids(rows []fila) (out []int64) {
	for _, r := range rows {
		out = append(out, r.ID)
	}
	slices.Sort(out)
	return out
}

func upTo(n int) (out []int64) {
	for i := range n {
		out = append(out, int64(i))
	}
	return out
}

// quiet has no timer that would help: checkpoints come by CaughtUp.
func quiet(t *testing.T) leat.Config {
	return leat.Config{StateDir: t.TempDir(), CheckpointEvery: time.Hour, Logger: slog.New(slog.DiscardHandler), DrainTimeout: 5 * time.Second,
		Breaker: leat.Breaker{Share: -1}, Retry: leat.Retry{First: time.Millisecond, Max: 10 * time.Millisecond}}
}

// read runs a pipeline from the broker to sinks until nothing happens any more.
func read(t *testing.T, c leat.Config, source watermillsource.Config[fila], sinks ...leat.Sink[fila]) error {
	t.Helper()
	source.Topic = "filas"
	p := leat.New("p", c)
	leat.To(leat.From(p, watermillsource.New(source)), sinks...)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	return p.Run(ctx)
}

// E9, A6: a Pub/Sub that hands out the next message only after an acknowledgement waits for
// no timer: a checkpoint is made whenever nothing more can come.
func TestOneInFlight(t *testing.T) {
	for name, c := range map[string]struct{ partitions, window int }{
		"one partition":    {1, 0},
		"four partitions":  {4, 0},
		"a window of one":  {4, 1},
		"a window of five": {4, 5},
	} {
		t.Run(name, func(t *testing.T) {
			config := quiet(t)
			synctest.Test(t, func(t *testing.T) {
				b := newBroker(c.partitions, payloads(300)...)
				b.bounded = true
				sink := leattest.Collect[fila]()
				start := time.Now()
				require.NoError(t, read(t, config, watermillsource.Config[fila]{Subscriber: b, MaxUncommitted: c.window}, sink))
				require.Less(t, time.Since(start), time.Second, "A6: no timer was waited for")
				require.Equal(t, upTo(300), ids(sink.Committed()))
				require.Empty(t, b.left(), "A3: everything is acknowledged")
				all, again := b.deliveries()
				require.Equal(t, 300, all)
				require.Zero(t, again)
			})
		})
	}
}

// A3: acknowledged only when every sink has committed.
func TestAckedWhenDurable(t *testing.T) {
	c := quiet(t)
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(1, payloads(1)...)
		gate := make(chan struct{})
		fast := leattest.Collect[fila]().Named("fast")
		slow := leattest.Collect[fila]().Named("slow").OnCall(func(call string) error {
			if call == "Commit" {
				<-gate
			}
			return nil
		})
		ctx, cancel := context.WithCancel(t.Context())
		p := leat.New("p", c)
		leat.To(leat.From(p, watermillsource.New(watermillsource.Config[fila]{Subscriber: b, Topic: "filas"})), fast, slow)
		done := make(chan error)
		go func() { done <- p.Run(ctx) }()
		synctest.Wait()
		require.Len(t, fast.Committed(), 1)
		require.Len(t, b.left(), 1, "A3: one sink has not committed yet")
		close(gate)
		synctest.Wait()
		require.Empty(t, b.left())
		cancel()
		require.NoError(t, <-done)
	})
}

// A9: an Origin that panics costs the row, and not the pipeline; its letter has what is known without it.
func TestOriginPanics(t *testing.T) {
	c := quiet(t)
	b := newBroker(1, payloads(3)...)
	b.bounded = true
	type keyed struct {
		ID  int64
		Key string `leat:"@key"`
	}
	sink := leattest.Collect[keyed]()
	p := leat.New("p", c)
	leat.To(leat.From(p, watermillsource.New(watermillsource.Config[keyed]{Subscriber: b, Topic: "filas", Origin: func(m *message.Message, o *leat.Origin) {
		if o.Key = []byte("k" + m.UUID); m.UUID == "1" {
			panic("no key")
		}
	}})), sink)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	require.NoError(t, p.Run(ctx))
	require.Equal(t, []keyed{{0, "k0"}, {2, "k2"}}, sink.Committed())
	var letters []leat.DeadLetter
	require.NoError(t, leat.ReadDeadLetters(filepath.Join(c.StateDir, "dead-letters.jsonl"), func(l leat.DeadLetter) error {
		letters = append(letters, l)
		return nil
	}))
	require.Len(t, letters, 1)
	require.Equal(t, leat.Decode, letters[0].Class)
	require.Contains(t, letters[0].Error, "no key")
	require.Equal(t, `{"id":1}`, string(letters[0].Raw))
	require.Equal(t, "filas", letters[0].Topic)
	require.Empty(t, b.left())
}

// Issue 7: nacked when the pipeline stops without it; the next start gets it again.
func TestNackedWhenStopped(t *testing.T) {
	c := quiet(t)
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(3, payloads(10)...)
		var nacked []string
		sink := leattest.Collect[fila]().FailCommit(2, errors.New("the disk is gone"))
		require.ErrorContains(t, read(t, c, watermillsource.Config[fila]{Subscriber: b}, sink), "the disk is gone")
		b.mu.Lock()
		require.NotZero(t, b.nacks)
		b.mu.Unlock()
		nacked = b.left()
		require.NotEmpty(t, nacked)
		require.Less(t, len(nacked), 10, "the first commit was complete")

		b.bounded = true
		next := sink.Successor()
		require.NoError(t, read(t, c, watermillsource.Config[fila]{Subscriber: b}, next))
		require.Equal(t, upTo(10), ids(next.Committed()))
		require.Empty(t, b.left())
	})
}

// E8: over rewinds the subscription and its messages are kept, with their offsets, so that
// nothing is handed out again, and a row at fault is found (rule B5).
func TestRewind(t *testing.T) {
	c := quiet(t)
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(4, payloads(40)...)
		b.bounded = true
		sink := leattest.Collect[fila]().FailCommit(2, leat.ErrAborted).FailWrite(7, leat.ErrAborted)
		p := leat.New("p", c)
		leat.To(leat.From(p, watermillsource.New(watermillsource.Config[fila]{Subscriber: b, Topic: "filas"})), sink)
		require.NoError(t, p.Run(t.Context()))
		require.Equal(t, upTo(40), ids(sink.Committed()))
		all, again := b.deliveries()
		require.Equal(t, 40, all)
		require.Zero(t, again)
		require.Equal(t, 1, b.subscribed)
	})
}

type panicker struct{ *leattest.Collector[fila] }

func (s panicker) Write(ctx context.Context, batch *leat.Batch[fila]) error {
	for _, r := range batch.Rows() {
		if r.ID == 5 {
			panic("five")
		}
	}
	return s.Collector.Write(ctx, batch)
}

// B5, A9: a Write that panics costs its row, though the row is found over rewinds.
func TestPanickingWrite(t *testing.T) {
	c := quiet(t)
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(4, payloads(12)...)
		b.bounded = true
		sink := panicker{leattest.Collect[fila]()}
		require.NoError(t, read(t, c, watermillsource.Config[fila]{Subscriber: b}, sink))
		require.Equal(t, slices.DeleteFunc(upTo(12), func(n int64) bool { return n == 5 }), ids(sink.Committed()))
		require.Empty(t, b.left(), "B6, A3: it is in the dead letters, so it is done with")
		require.Len(t, letters(t, c), 1)
	})
}

func letters(t *testing.T, c leat.Config) (out []leat.DeadLetter) {
	t.Helper()
	require.NoError(t, leat.ReadDeadLetters(filepath.Join(c.StateDir, "dead-letters.jsonl"), func(l leat.DeadLetter) error {
		out = append(out, l)
		return nil
	}))
	return out
}

// Crashes in the process at each call to the outside: nothing is lost.
func TestRecovery(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	brokers := map[string]*broker{}
	sinks := map[string]*leattest.Collector[fila]{}
	var want []fila
	for i := range 24 {
		want = append(want, fila{int64(i)})
	}
	leattest.TestRecovery(t, leattest.RecoveryHarness[fila]{
		Build: func(t *testing.T, dir string) *leat.Pipeline {
			mu.Lock()
			defer mu.Unlock()
			if brokers[dir] == nil {
				brokers[dir] = newBroker(3, payloads(24)...)
				brokers[dir].bounded = true
			}
			sinks[dir] = leattest.Collect[fila]().In(dir)
			p := leat.New("p", leat.Config{})
			leat.To(leat.From(p, watermillsource.New(watermillsource.Config[fila]{Subscriber: brokers[dir], Topic: "filas"})), sinks[dir])
			return p
		},
		ReadBack:   func(_ *testing.T, dir string) []fila { return sinks[dir].Committed() },
		Want:       want,
		Duplicates: true,
		Trials:     60,
	})
}

// A2-1, A2: what sinks and store hold of an earlier life is no obstacle, and no offset comes
// twice, though the life before has lost what it knew.
func TestOffsetsOfLives(t *testing.T) {
	c := quiet(t)
	synctest.Test(t, func(t *testing.T) {
		seen := map[leat.Offset]bool{}
		var last leat.Offset
		sink := leattest.Collect[fila]()
		other := leattest.Collect[fila]().Named("other").Promises(leat.AtLeastOnce)
		for life := range 4 {
			if life == 2 {
				c.StateDir = t.TempDir() // deleted by somebody
				sink = leattest.Collect[fila]()
			}
			b := newBroker(1, payloads(5)...)
			b.bounded = true
			require.NoError(t, read(t, c, watermillsource.Config[fila]{Subscriber: b}, sink, other))
			time.Sleep(time.Microsecond) // a process takes longer to start
			for _, o := range sink.Origins() {
				if o.Offset > last {
					require.False(t, seen[o.Offset])
					seen[o.Offset], last = true, o.Offset
				}
			}
			sink, other = sink.Successor(), other.Successor()
		}
		require.Len(t, seen, 20)
	})
}

// The subscriber closes its channel: the end of the input, drained as any other.
func TestChannelClosed(t *testing.T) {
	c := quiet(t)
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(1, payloads(3)...)
		sink := leattest.Collect[fila]()
		time.AfterFunc(time.Second, func() { _ = b.Close() })
		start := time.Now()
		require.NoError(t, read(t, c, watermillsource.Config[fila]{Subscriber: b}, sink))
		require.Less(t, time.Since(start), 5*time.Second)
		require.Equal(t, upTo(3), ids(sink.Committed()))
		require.Empty(t, b.left())
	})
}

// B8: a broker that can't be reached is waited for.
func TestSubscribeFails(t *testing.T) {
	c := quiet(t)
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(1, payloads(3)...)
		b.fail, b.bounded = []error{errBroker, errBroker}, true
		sink := leattest.Collect[fila]()
		require.NoError(t, read(t, c, watermillsource.Config[fila]{Subscriber: b}, sink))
		require.Equal(t, upTo(3), ids(sink.Committed()))
		c.Retry.Attempts = 2
		b = newBroker(1)
		b.fail = []error{errBroker, errBroker, errBroker}
		require.ErrorIs(t, read(t, c, watermillsource.Config[fila]{Subscriber: b}, sink.Successor()), errBroker)
	})
}

// slow takes as long as it is let to connect the first time.
type slow struct {
	*broker
	tried  bool
	trying chan struct{} // closed then
}

func (s *slow) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	if !s.tried {
		s.tried = true
		close(s.trying)
		<-ctx.Done()
	}
	return s.broker.Subscribe(ctx, topic)
}

// afterwards is a source that begins when another one has come so far.
type afterwards struct {
	*leattest.MemSource[fila]
	begin chan struct{}
}

func (a afterwards) Run(ctx context.Context, in leat.Intake[fila]) error {
	select {
	case <-a.begin:
	case <-ctx.Done():
	}
	return a.MemSource.Run(ctx, in)
}

// E8: a rewind that comes while the source subscribes is not taken for the end of the input.
func TestRewindWhileSubscribing(t *testing.T) {
	c := quiet(t)
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(1, payloads(3)...)
		b.bounded = true
		sink := leattest.Collect[fila]()
		p := leat.New("p", c)
		connecting := &slow{broker: b, trying: make(chan struct{})}
		other := afterwards{leattest.Rows(fila{3}, fila{4}).FailAt(1, leat.Transient(errBroker)), connecting.trying}
		leat.To(leat.Merge(leat.From(p, leat.Source[fila](other)), leat.From(p, watermillsource.New(watermillsource.Config[fila]{Subscriber: connecting, Topic: "filas"}))), sink)
		require.NoError(t, p.Run(t.Context()))
		require.Equal(t, upTo(5), ids(sink.Committed()))
		require.Equal(t, 1, p.Stats().Run.Rewinds)
	})
}

// stubborn hands messages out, and ends neither them nor its channel.
type stubborn chan *message.Message

func (s stubborn) Subscribe(context.Context, string) (<-chan *message.Message, error) { return s, nil }
func (s stubborn) Close() error                                                       { return nil }

// A subscriber that takes no notice of acknowledgements, and of the end of its context: the
// pipeline ends in time, and says so.
func TestStubbornSubscriber(t *testing.T) {
	c := quiet(t)
	synctest.Test(t, func(t *testing.T) {
		s := make(stubborn, 3)
		own, cancel := context.WithCancel(context.Background())
		defer cancel()
		for i := range 3 {
			m := message.NewMessage(fmt.Sprint(i), []byte(payloads(3)[i]))
			m.SetContext(own)
			s <- m
		}
		sink := leattest.Collect[fila]()
		start := time.Now()
		err := read(t, c, watermillsource.Config[fila]{Subscriber: s}, sink)
		require.ErrorContains(t, err, "did not end within 10s")
		require.Equal(t, upTo(3), ids(sink.Committed()))
		require.Less(t, time.Since(start), 2*time.Minute)
	})
}

// deaf never comes back from Subscribe, whatever its context says.
type deaf chan struct{}

func (d deaf) Subscribe(context.Context, string) (<-chan *message.Message, error) {
	<-d
	return nil, errBroker
}
func (d deaf) Close() error { return nil }

// E10, A7: a Subscribe that does not return holds nobody up but its own goroutine.
func TestDeafSubscriber(t *testing.T) {
	c := quiet(t)
	synctest.Test(t, func(t *testing.T) {
		d := make(deaf)
		defer close(d)
		start := time.Now()
		err := read(t, c, watermillsource.Config[fila]{Subscriber: d}, leattest.Collect[fila]())
		require.ErrorContains(t, err, "did not return within 5s")
		require.Less(t, time.Since(start), 2*time.Minute)
	})
}

// A message whose context has ended while the pipeline rewound is its subscriber's again.
func TestContextEnded(t *testing.T) {
	c := quiet(t)
	synctest.Test(t, func(t *testing.T) {
		s := make(stubborn, 3)
		own, cancel := context.WithCancel(context.Background())
		first, second := message.NewMessage("0", []byte(`{"id":0}`)), message.NewMessage("1", []byte(`{"id":1}`))
		first.SetContext(own)
		s <- first
		s <- second
		aborted := false
		sink := leattest.Collect[fila]().OnCall(func(call string) error {
			if call == "Commit" && !aborted {
				aborted = true
				cancel()
				close(s)
				return leat.ErrAborted
			}
			return nil
		})
		require.NoError(t, read(t, c, watermillsource.Config[fila]{Subscriber: s}, sink))
		require.Equal(t, []int64{1}, ids(sink.Committed()))
		<-first.Nacked()
		<-second.Acked()
	})
}

// B4: a letter has the message's bytes, UUID and metadata, and is replayed from them.
func TestLetters(t *testing.T) {
	c := quiet(t)
	type row struct {
		ID    int64
		UUID  string    `leat:"@header._watermill_message_uuid"`
		Trace string    `leat:"@header.trace"`
		Key   string    `leat:"@key"`
		At    time.Time `leat:"@timestamp"`
		Topic string    `leat:"@topic"`
	}
	at := time.Date(2025, 1, 2, 3, 4, 5, 0, time.UTC)
	build := func(b *broker, sink leat.Sink[row]) *leat.Pipeline {
		p := leat.New("p", c)
		leat.To(leat.From(p, watermillsource.New(watermillsource.Config[row]{Subscriber: b, Topic: "filas",
			Origin: func(m *message.Message, o *leat.Origin) { o.Key, o.Time = []byte("k"+m.UUID), at }})), sink)
		return p
	}
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(1)
		for i, text := range []string{`{"id":1}`, `{"id":"x"}`, `{"id":3}`} {
			m := message.NewMessage(fmt.Sprint("u", i), []byte(text))
			m.Metadata.Set("trace", fmt.Sprint("t", i))
			b.publish(0, m)
		}
		b.bounded = true
		refuse := errors.New("three")
		sink := leattest.Collect[row]().RejectIf(func(r row) error {
			if r.ID == 3 {
				return refuse
			}
			return nil
		})
		require.NoError(t, build(b, sink).Run(t.Context()))
		require.Equal(t, []row{{1, "u0", "t0", "ku0", at, "filas"}}, sink.Committed())
		got := letters(t, c)
		require.Len(t, got, 2)
		require.Equal(t, leat.Decode, got[0].Class)
		require.Equal(t, "id", got[0].Column)
		require.Equal(t, "filas", got[0].Topic)
		require.Equal(t, map[string]string{"trace": "t1", watermillsource.UUIDHeader: "u1"}, got[0].Headers)
		require.Equal(t, `{"id":"x"}`, string(got[0].Raw))
		require.Equal(t, "ku1", string(got[0].Key))

		next := sink.Successor().RejectIf(func(row) error { return nil })
		_, err := leat.Replay(t.Context(), build(b, next), leat.DeadLetters(filepath.Join(c.StateDir, "dead-letters.jsonl")))
		require.NoError(t, err)
		require.Contains(t, next.Committed(), row{3, "u2", "t2", "ku2", at, "filas"})
	})
}

// Messages that are there go as one batch.
func TestBatches(t *testing.T) {
	c := quiet(t)
	synctest.Test(t, func(t *testing.T) {
		messages := make(chan *message.Message, 500)
		for _, text := range payloads(500) {
			messages <- message.NewMessage("", []byte(text))
		}
		close(messages)
		sink := leattest.Collect[fila]()
		require.NoError(t, read(t, c, watermillsource.Config[fila]{Subscriber: ready(messages)}, sink))
		require.Equal(t, upTo(500), ids(sink.Committed()))
		require.Equal(t, 1, sink.Calls("Write"))
	})
}

// E5, A2-2: what Check computes and refuses.
func TestCheck(t *testing.T) {
	c := quiet(t)
	c.Require = leat.Idempotent
	p := leat.New("p", c)
	leat.To(leat.From(p, watermillsource.New(watermillsource.Config[fila]{Subscriber: newBroker(1), Topic: "filas"})), leattest.Collect[fila]())
	require.ErrorContains(t, p.Check(), "rule E5")

	p = leat.New("p", quiet(t))
	leat.To(leat.From(p, watermillsource.New(watermillsource.Config[fila]{MaxUncommitted: -1})), leattest.Collect[fila]())
	err := p.Check()
	for _, want := range []string{"Subscriber is not set", "Topic is not set", "MaxUncommitted -1 is negative"} {
		require.ErrorContains(t, err, want)
	}
	p = leat.New("p", quiet(t))
	leat.To(leat.From(p, watermillsource.New(watermillsource.Config[struct{ C chan int }]{Subscriber: newBroker(1), Topic: "filas"})), leattest.Collect[struct{ C chan int }]())
	require.Error(t, p.Check())
}

// collecting is a sink that may answer "not yet".
type collecting struct{ *leattest.Collector[fila] }

func (collecting) MayDefer() bool { return true }

// E9: a sink that waits for many rows, behind a Pub/Sub that waits for acknowledgements, is
// refused, or made to commit.
func TestCollectingSink(t *testing.T) {
	c := quiet(t)
	source := watermillsource.Config[fila]{Subscriber: newBroker(1, payloads(20)...), Topic: "filas"}
	p := leat.New("p", c)
	leat.To(leat.From(p, watermillsource.New(source)), collecting{leattest.Collect[fila]()})
	require.ErrorContains(t, p.Check(), "rule E9")

	c.ForceCheckpoints = true
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(1, payloads(20)...)
		b.bounded = true
		sink := collecting{leattest.Collect[fila]().NotYet(func(leat.Checkpoint) bool { return true })}
		start := time.Now()
		require.NoError(t, read(t, c, watermillsource.Config[fila]{Subscriber: b}, sink))
		require.Less(t, time.Since(start), time.Second)
		require.Equal(t, upTo(20), ids(sink.Committed()))
	})
}

// E9: the sinks of files are such sinks, and say so.
func TestFilesBehindAcks(t *testing.T) {
	for _, sink := range []leat.Sink[fila]{
		csvsink.New(csvsink.Config[fila]{Dir: t.TempDir()}),
		jsonsink.New(jsonsink.Config[fila]{Dir: t.TempDir()}),
		parquetsink.New(parquetsink.Config[fila]{Dir: t.TempDir()}),
	} {
		for _, force := range []bool{false, true} {
			c := quiet(t)
			c.ForceCheckpoints = force
			p := leat.New("p", c)
			leat.To(leat.From(p, watermillsource.New(watermillsource.Config[fila]{Subscriber: newBroker(1), Topic: "filas"})), sink)
			if err := p.Check(); force {
				require.NoError(t, err)
			} else {
				require.ErrorContains(t, err, "rule E9", "%T", sink)
			}
		}
	}
}

// E3: members of one group have a partition each, so sinks with positions take none of them
// for a second owner.
func TestMembers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	dir := t.TempDir()
	brokers := []*broker{newBroker(2, payloads(200)[:100]...), newBroker(2, payloads(200)[100:]...)} // what a group would give to each
	members := leat.Replicas(2, func(i int) *leat.Pipeline {
		c := quiet(t)
		c.StateDir = filepath.Join(dir, fmt.Sprint(i))
		brokers[i].bounded = true
		p := leat.New("p", c)
		leat.To(leat.From(p, watermillsource.New(watermillsource.Config[fila]{Subscriber: brokers[i], Topic: "filas", Member: fmt.Sprint("m", i)})),
			sqlitesink.New(sqlitesink.Config[fila]{Name: "db", Path: path, Table: "filas", BusyTimeout: time.Minute}))
		return p
	})
	require.NoError(t, leat.Run(t.Context(), members...))
	conn, err := sqlite.OpenConn(path, sqlite.OpenReadOnly)
	require.NoError(t, err)
	defer conn.Close()
	n := 0
	require.NoError(t, sqlitex.ExecuteTransient(conn, "SELECT count(DISTINCT id) FROM filas", &sqlitex.ExecOptions{ResultFunc: func(s *sqlite.Stmt) error {
		n = s.ColumnInt(0)
		return nil
	}}))
	require.Equal(t, 200, n)
}
