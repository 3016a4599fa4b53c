package kafkasource

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/kafka"
	"github.com/leatgo/leat/internal/kafkatest"
	"github.com/leatgo/leat/leattest"
)

// member is the config of a member of a group that reacts quickly.
func (w *world) member(group string, topics ...string) Config[rec] {
	c := w.config(topics...)
	c.Name, c.Group, c.SessionTimeout = "src", group, 6*time.Second
	c.Opts = append(c.Opts, kgo.HeartbeatInterval(50*time.Millisecond))
	return c
}

// once demands each id from 0 to n-1 exactly once.
func once(t *testing.T, rows []rec, n int) {
	t.Helper()
	got := map[int64]int{}
	for _, r := range rows {
		got[r.ID]++
	}
	lost, twice := 0, 0
	for i := range int64(n) {
		switch got[i] {
		case 0:
			lost++
		case 1:
		default:
			twice++
		}
	}
	assert.Zero(t, lost, "lost")
	assert.Zero(t, twice, "twice")
	assert.Len(t, got, n)
}

// Rules H3, H4: members come and go, and no row is lost or doubled.
func TestMembersComeAndGo(t *testing.T) {
	t.Parallel()
	w := broker(t, 6, "in")
	dir := t.TempDir()
	n := 0
	more := func() {
		w.fill("in", 6, n, n+500)
		n += 500
	}
	sink := func() *leattest.Collector[rec] { return leattest.Collect[rec]().In(dir) }
	more()
	c := w.member("g", "in")
	c.ChunkRows = 20
	a := start(t, c, sink())
	var others []*running
	for i := range 4 {
		more()
		if i%2 == 1 {
			require.NoError(t, others[0].stop())
			others = others[1:]
		}
		b := start(t, c, sink())
		others = append(others, b)
		await(t, func() bool { return len(b.src.(*Source[rec]).Lag()) > 0 })
		more()
	}
	require.NoError(t, a.stop())
	for len(others) > 1 {
		more()
		require.NoError(t, others[0].stop())
		others = others[1:]
	}
	more()
	await(t, func() bool { return len(sink().Committed()) >= n })
	require.NoError(t, others[0].stop())
	once(t, sink().Committed(), n)
}

// Rule H3: a member that the group took for dead rewinds without what it has lost, and
// goes on with what it gets then.
func TestLost(t *testing.T) {
	t.Parallel()
	w := broker(t, 4, "in")
	w.fill("in", 4, 0, 100)
	sink := leattest.Collect[rec]().In(t.TempDir())
	r := start(t, w.member("g", "in"), sink)
	await(t, func() bool { return len(sink.Committed()) == 100 })
	src := r.src.(*Source[rec])
	tp := topicPartition{Topic: "in", Partition: 2}
	token := src.Token(tp)
	require.NotZero(t, token)
	m, err := src.Member(map[topicPartition]uint64{tp: token})
	require.NoError(t, err)
	assert.Equal(t, "g", m.Group)
	assert.NotEmpty(t, m.ID)

	for range 3 {
		before := src.Token(tp)
		w.expel(src)
		await(t, func() bool { now := src.Token(tp); return now != before && now != 0 })
	}
	_, err = src.Member(map[topicPartition]uint64{tp: token})
	assert.ErrorIs(t, err, leat.ErrFenced, "rule H4: an old token is worth nothing")
	assert.ErrorContains(t, err, "src/in/2")
	w.fill("in", 4, 100, 200)
	await(t, func() bool { return len(sink.Committed()) >= 200 })
	require.NoError(t, r.stop())
	once(t, sink.Committed(), 200)
}

// Rules H3, H4: so does one that hears of it only when it joins the next generation. Its client says nothing then and
// joins as somebody new, whose commits the group would take, of partitions that were others' meanwhile too.
func TestLostUnheard(t *testing.T) {
	t.Parallel()
	w := broker(t, 4, "in")
	w.fill("in", 4, 0, 100)
	sink := leattest.Collect[rec]().In(t.TempDir())
	c := w.member("g", "in")
	c.SessionTimeout = 1200 * time.Millisecond
	r := start(t, c, sink)
	await(t, func() bool { return len(sink.Committed()) == 100 })
	src := r.src.(*Source[rec])
	have := map[topicPartition]uint64{}
	for n := range int32(4) {
		tp := topicPartition{Topic: "in", Partition: n}
		have[tp] = src.Token(tp)
	}
	m, err := src.Member(have)
	require.NoError(t, err)
	_, confirmed := src.confirmed(t.Context())
	require.True(t, confirmed)

	w.cluster.ControlKey(int16(kmsg.Heartbeat), func(req kmsg.Request) (kmsg.Response, error, bool) {
		w.cluster.KeepControl()
		if req.(*kmsg.HeartbeatRequest).MemberID != m.ID {
			return nil, nil, false
		}
		resp := req.ResponseKind().(*kmsg.HeartbeatResponse)
		resp.ErrorCode = kerr.RebalanceInProgress.Code
		return resp, nil, true
	})
	w.cluster.ControlKey(int16(kmsg.JoinGroup), func(req kmsg.Request) (kmsg.Response, error, bool) {
		w.cluster.KeepControl()
		if req.(*kmsg.JoinGroupRequest).MemberID != m.ID {
			return nil, nil, false
		}
		resp := req.ResponseKind().(*kmsg.JoinGroupResponse)
		resp.ErrorCode = kerr.UnknownMemberID.Code
		return resp, nil, true
	})
	tp := topicPartition{Topic: "in", Partition: 2}
	somebodyNew := false
	await(t, func() bool {
		now, err := src.Member(have)
		if err != nil {
			assert.ErrorIs(t, err, leat.ErrFenced)
		} else {
			assert.Equal(t, m.ID, now.ID, "the tokens are an earlier member's")
		}
		if id, _ := src.Client().GroupMetadata(); id != m.ID && src.Token(tp) == 0 {
			somebodyNew = true
			ours, _ := src.own.look()
			assert.Empty(t, ours)
			due, _ := src.own.committable(map[topicPartition]kafka.Offset{tp: {Next: 1000}})
			assert.Empty(t, due)
			_, ok := src.confirmed(t.Context())
			assert.False(t, ok && src.Token(tp) == 0, "it would take partitions over that are others'")
		}
		return src.Token(tp) > have[tp]
	})
	assert.True(t, somebodyNew)
	w.fill("in", 4, 100, 200)
	await(t, func() bool { return len(sink.Committed()) >= 200 })
	require.NoError(t, r.stop())
	once(t, sink.Committed(), 200)
}

// expel makes the group say that it does not know the member, until the member has seen it.
func (w *world) expel(src *Source[rec]) {
	tp := topicPartition{Topic: "in"}
	before := src.Token(tp)
	w.cluster.ControlKey(int16(kmsg.Heartbeat), func(req kmsg.Request) (kmsg.Response, error, bool) {
		w.cluster.KeepControl()
		if src.Token(tp) != before {
			return nil, nil, false
		}
		resp := req.ResponseKind().(*kmsg.HeartbeatResponse)
		resp.ErrorCode = kerr.UnknownMemberID.Code
		return resp, nil, true
	})
}

// Rules E3, H4: what another process has taken at the sink is left alone, until the group
// says that it is ours: a process that was frozen may have taken it, which the group does not know. One that does
// so again and again belongs to another group.
func TestFenced(t *testing.T) {
	t.Parallel()
	w := broker(t, 4, "in")
	w.fill("in", 4, 0, 100)
	dir := t.TempDir()
	sink := leattest.Collect[rec]().In(dir)
	c := w.member("g", "in")
	c.SessionTimeout = 1200 * time.Millisecond
	r := start(t, c, sink)
	await(t, func() bool { return len(sink.Committed()) == 100 })
	src := r.src.(*Source[rec])
	token := src.Token(topicPartition{Topic: "in", Partition: 0})
	n := 100
	for taken := range retakes + 1 {
		thief := leattest.Collect[rec]().In(dir)
		require.NoError(t, thief.Open(t.Context(), leat.Env{}))
		_, err := thief.Restore(t.Context(), []string{"src/in/1", "src/in/2"})
		require.NoError(t, err)
		before := r.p.Stats().Run.Rewinds
		w.fill("in", 4, n, n+100)
		n += 100
		await(t, func() bool { return r.p.Stats().Run.Rewinds > before })
		if taken < retakes {
			await(t, func() bool { return len(sink.Committed()) == n })
		}
	}
	await(t, func() bool { return len(sink.Committed()) == n-50 })
	time.Sleep(2 * src.patience())
	assert.Len(t, sink.Committed(), n-50, "another group's")
	assert.Equal(t, token, src.Token(topicPartition{Topic: "in", Partition: 0}), "the others are not touched")
	w.expel(src)
	await(t, func() bool { return len(sink.Committed()) == n })
	require.NoError(t, r.stop())
	once(t, sink.Committed(), n)
}

// Rule E2: who is not sure to be a member takes nothing over, and so fences nobody.
func TestNotConfirmed(t *testing.T) {
	t.Parallel()
	w := broker(t, 2, "in")
	w.fill("in", 2, 0, 10)
	var asked atomic.Int64
	var known atomic.Bool
	w.cluster.ControlKey(int16(kmsg.Heartbeat), func(req kmsg.Request) (kmsg.Response, error, bool) {
		w.cluster.KeepControl()
		if asked.Add(1); known.Load() {
			return nil, nil, false
		}
		resp := req.ResponseKind().(*kmsg.HeartbeatResponse)
		resp.ErrorCode = kerr.IllegalGeneration.Code
		return resp, nil, true
	})
	sink := leattest.Collect[rec]().In(t.TempDir())
	c := w.member("g", "in")
	c.Drain, c.SessionTimeout = true, 1200*time.Millisecond
	r := start(t, c, sink)
	await(t, func() bool { return asked.Load() > 1 })
	assert.Empty(t, sink.Committed())
	known.Store(true)
	require.NoError(t, r.wait())
	once(t, sink.Committed(), 10)
}

// Rule H3: partitions that can't be finished within the budget are given up, and what
// was read of them does not become visible here.
func TestRevokeBudget(t *testing.T) {
	t.Parallel()
	w := broker(t, 4, "in")
	w.fill("in", 4, 0, 200)
	dir := t.TempDir()
	stuck := make(chan struct{})
	slow := leattest.Collect[rec]().In(dir).OnCall(func(call string) error {
		if call == "Write" {
			<-stuck
		}
		return nil
	})
	c := w.member("g", "in")
	c.RevokeBudget = 200 * time.Millisecond
	c.ChunkRows = 10
	a := start(t, c, slow)
	await(t, func() bool { return slow.Calls("Write") > 0 })
	time.AfterFunc(time.Second, func() { close(stuck) })
	quick := leattest.Collect[rec]().In(dir)
	b := start(t, c, quick)
	await(t, func() bool { return len(quick.Committed()) >= 200 })
	require.NoError(t, b.stop())
	require.NoError(t, a.stop())
	once(t, quick.Committed(), 200)
}

// Rule E2: the group's offsets follow, with their log, and never go backwards. Rule J3:
// not when a transaction commits them.
func TestCommit(t *testing.T) {
	t.Parallel()
	w := broker(t, 2, "in")
	w.fill("in", 2, 0, 20)
	dir := t.TempDir()
	c := drain(w.member("g", "in"))
	life(t, dir, c)
	tps := []topicPartition{{Topic: "in"}, {Topic: "in", Partition: 1}}
	committed := func() map[topicPartition]kafka.Offset {
		at, err := kafka.FetchOffsets(t.Context(), w.cl, "g", tps, nil)
		require.NoError(t, err)
		return at
	}
	at := committed()
	for _, tp := range tps {
		assert.EqualValues(t, 10, at[tp].Next)
		assert.Len(t, at[tp].Log, 22, "the topic's id")
		assert.Equal(t, "0", at[tp].Resume, "the leader's epoch")
	}

	// Somebody else was further.
	_, err := kadm.NewClient(w.cl).CommitOffsets(t.Context(), "g", kadm.Offsets{"in": {0: {Topic: "in", Partition: 0, At: 12, LeaderEpoch: -1}}})
	require.NoError(t, err)
	w.fill("in", 2, 20, 22)
	life(t, dir, c)
	assert.EqualValues(t, 12, committed()[tps[0]].Next, "never backwards")
	assert.EqualValues(t, 11, committed()[tps[1]].Next)

	w.fill("in", 2, 22, 40)
	src := New(c)
	src.Transacted()
	runSource(t, dir, src)
	assert.EqualValues(t, 11, committed()[tps[1]].Next)

	// What the sinks hold is told to the group by the next owner, also when no records come.
	r := startIn(t, filepath.Join(dir, "state"), w.member("g", "in"), leattest.Collect[rec]().In(dir))
	await(t, func() bool { at := committed(); return at[tps[0]].Next == 20 && at[tps[1]].Next == 20 })
	require.NoError(t, r.stop())
}

// A commit that fails is made up for, also when no more records come.
func TestCommitAgain(t *testing.T) {
	t.Parallel()
	w := broker(t, 1, "in")
	var left atomic.Int64
	left.Store(3)
	w.refuse(&left)
	sink := leattest.Collect[rec]().In(t.TempDir())
	r := start(t, w.member("g", "in"), sink)
	w.fill("in", 1, 0, 10)
	await(t, func() bool {
		at, err := kafka.FetchOffsets(t.Context(), w.cl, "g", []topicPartition{{Topic: "in"}}, nil)
		return err == nil && at[topicPartition{Topic: "in"}].Next == 10
	})
	assert.Negative(t, left.Load())
	require.NoError(t, r.stop())
}

func runSource(t *testing.T, dir string, src *Source[rec]) {
	t.Helper()
	p := leat.New("test", leat.Config{StateDir: dir + "/state", Logger: kafkatest.Logger(t)})
	leat.To(leat.From(p, src), leattest.Collect[rec]().In(dir))
	require.NoError(t, p.Run(t.Context()))
}

// Rule E7-1: what the group has is where a member with an empty state folder begins, also
// what another program has committed.
func TestKept(t *testing.T) {
	t.Parallel()
	w := broker(t, 1, "in")
	w.fill("in", 1, 0, 20)
	_, err := kadm.NewClient(w.cl).CommitOffsets(t.Context(), "g", kadm.Offsets{"in": {0: {Topic: "in", At: 15, LeaderEpoch: -1}}})
	require.NoError(t, err)
	sink := &forgetful{}
	p := leat.New("test", leat.Config{StateDir: t.TempDir(), Logger: kafkatest.Logger(t)})
	leat.To(leat.From(p, New(drain(w.member("g", "in")))), sink)
	require.NoError(t, p.Run(t.Context()))
	assert.Equal(t, []int64{15, 16, 17, 18, 19}, sink.got)
}

// forgetful keeps no positions.
type forgetful struct{ got []int64 }

func (s *forgetful) Open(context.Context, leat.Env) error { return nil }
func (s *forgetful) Close() error                         { return nil }
func (s *forgetful) Commit(context.Context, leat.Checkpoint) (bool, error) {
	return true, nil
}
func (s *forgetful) Write(_ context.Context, b *leat.Batch[rec]) error {
	for _, r := range b.Rows() {
		s.got = append(s.got, r.ID)
	}
	return nil
}

// Rule H5: partitions that are added to a topic, and topics that are added to a pattern,
// are read while the source runs, from their beginning.
func TestPartitionsAdded(t *testing.T) {
	t.Parallel()
	for _, group := range []string{"", "g"} {
		t.Run("group "+group, func(t *testing.T) {
			t.Parallel()
			w := broker(t, 1, "in-a")
			c := w.member(group, "in-a")
			c.Topics, c.Pattern, c.Start = nil, "in-.*", Latest
			c.Opts = append(c.Opts, kgo.MetadataMinAge(100*time.Millisecond), kgo.MetadataMaxAge(200*time.Millisecond))
			sink := leattest.Collect[rec]().In(t.TempDir())
			r := start(t, c, sink)
			await(t, func() bool { return len(r.src.(*Source[rec]).Lag()) == 1 })
			w.fill("in-a", 1, 0, 1)
			await(t, func() bool { return len(sink.Committed()) == 1 })
			_, err := w.adm.CreatePartitions(t.Context(), 1, "in-a")
			require.NoError(t, err)
			_, err = w.adm.CreateTopic(t.Context(), 1, 1, nil, "in-b")
			require.NoError(t, err)
			w.cl = w.client() // the old one's metadata are old
			w.put("in-a", 1, `{"id":1,"text":""}`)
			w.put("in-b", 0, `{"id":2,"text":""}`)
			await(t, func() bool { return len(sink.Committed()) >= 3 })
			require.NoError(t, r.stop())
			once(t, sink.Committed(), 3)
		})
	}
}

// Rule A5-1: the group is kept alive while a sink is not available, for longer than the
// session timeout, and held partitions keep what was fetched.
func TestHeld(t *testing.T) {
	t.Parallel()
	w := broker(t, 3, "in")
	w.fill("in", 3, 0, 3000)
	var away atomic.Bool
	away.Store(true)
	sink := leattest.Collect[rec]().In(t.TempDir()).OnCall(func(call string) error {
		if call == "Write" && away.Load() {
			return leat.Transient(fmt.Errorf("away"))
		}
		return nil
	})
	c := w.member("g", "in")
	c.SessionTimeout, c.ChunkRows = 400*time.Millisecond, 10
	src := New(c)
	p := leat.New("test", leat.Config{StateDir: t.TempDir(), Logger: kafkatest.Logger(t), BudgetBatches: 16, CheckpointEvery: 10 * time.Millisecond,
		Retry: leat.Retry{First: time.Millisecond, Max: 10 * time.Millisecond}})
	leat.To(leat.From(p, src), sink)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	await(t, func() bool { return sink.Calls("Write") > 3 })
	tp := topicPartition{Topic: "in"}
	token := src.Token(tp)
	time.Sleep(4 * c.SessionTimeout)
	assert.Equal(t, token, src.Token(tp), "it is still a member")
	away.Store(false)
	await(t, func() bool { return len(sink.Committed()) >= 3000 })
	cancel()
	require.NoError(t, <-done)
	once(t, sink.Committed(), 3000)
}

// Rule A5-1: a held partition is not fetched, and goes on where it stood.
func TestHeldIsNotFetched(t *testing.T) {
	t.Parallel()
	const n = 3000
	w := broker(t, 1, "in")
	for i := 0; i < n; i += 10 { // a fetch gives a batch of records at least
		w.fill("in", 1, i, i+10)
	}
	var fetches atomic.Int64
	w.cluster.ControlKey(int16(kmsg.Fetch), func(kmsg.Request) (kmsg.Response, error, bool) {
		w.cluster.KeepControl()
		fetches.Add(1)
		return nil, nil, false
	})
	var away atomic.Bool
	away.Store(true)
	sink := leattest.Collect[rec]().OnCall(func(call string) error {
		if call == "Write" && away.Load() {
			return leat.Transient(fmt.Errorf("away"))
		}
		return nil
	})
	c := w.config("in")
	c.ChunkRows, c.Opts = 10, append(c.Opts, kgo.FetchMaxBytes(1000), kgo.FetchMaxPartitionBytes(500), kgo.DisableFetchSessions())
	p := leat.New("test", leat.Config{StateDir: t.TempDir(), Logger: kafkatest.Logger(t), BudgetBatches: 16, CheckpointEvery: 10 * time.Millisecond,
		Retry: leat.Retry{First: time.Millisecond, Max: 10 * time.Millisecond}})
	leat.To(leat.From(p, New(c)), sink)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	await(t, func() bool { return sink.Calls("Write") > 3 })
	await(t, func() bool {
		before := fetches.Load()
		time.Sleep(500 * time.Millisecond)
		return fetches.Load() == before
	})
	assert.Less(t, fetches.Load(), int64(n/10/2), "most of the topic is still to be fetched")
	away.Store(false)
	await(t, func() bool { return len(sink.Committed()) >= n })
	cancel()
	require.NoError(t, <-done)
	once(t, sink.Committed(), n)
}

// Rule A6: caught up is said once each time that records cease, not at every poll.
func TestCaughtUp(t *testing.T) {
	t.Parallel()
	w := broker(t, 2, "in")
	var said atomic.Int32
	sink := leattest.Collect[rec]().In(t.TempDir()).NotYet(func(cp leat.Checkpoint) bool {
		if cp.CaughtUp {
			said.Add(1)
		}
		return !cp.CaughtUp
	})
	w.fill("in", 2, 0, 10)
	r := start(t, w.member("g", "in"), sink)
	for i := range 3 {
		await(t, func() bool { return len(sink.Committed()) == 10*(i+1) })
		time.Sleep(300 * time.Millisecond)
		w.fill("in", 2, 10*(i+1), 10*(i+2))
	}
	await(t, func() bool { return len(sink.Committed()) == 40 })
	assert.LessOrEqual(t, said.Load(), int32(5))
	await(t, func() bool { return slices.Equal(values(r.src.(*Source[rec]).Lag()), []int64{0, 0}) })
	require.NoError(t, r.stop())
}

func values(m map[string]int64) (out []int64) {
	for _, n := range m {
		out = append(out, n)
	}
	return out
}

// Rule A2-1: a topic that was deleted and made again is another log.
func TestTopicMadeAgain(t *testing.T) {
	t.Parallel()
	w := broker(t, 1, "in")
	w.fill("in", 1, 0, 10)
	c := w.member("g", "in")
	sink := leattest.Collect[rec]().In(t.TempDir())
	r := start(t, c, sink)
	await(t, func() bool { return len(sink.Committed()) == 10 })
	w.again("in")
	w.fill("in", 1, 0, 30)
	err := r.wait()
	require.ErrorContains(t, err, "rule A2-1")
	assert.Len(t, sink.Committed(), 10)
}

func (w *world) again(topic string) {
	w.t.Helper()
	_, err := w.adm.DeleteTopic(w.t.Context(), topic)
	require.NoError(w.t, err)
	require.Eventually(w.t, func() bool {
		resp, err := w.adm.CreateTopic(w.t.Context(), 1, 1, nil, topic)
		return err == nil && resp.Err == nil
	}, 15*time.Second, 50*time.Millisecond)
	w.cl = w.client() // the old one knows the old topic
}

// counting is a stage with state that only its process can see.
type counting struct{ n atomic.Int64 } // of all partitions, which are processed at the same time

func (c *counting) Process(_ context.Context, in, out *leat.Batch[rec]) error {
	c.n.Add(int64(in.Len()))
	out.AppendRows(in, 0, in.Len())
	return nil
}
func (c *counting) Restore(string, [][]byte) error  { return nil }
func (c *counting) Delta(string) ([]byte, error)    { return nil, nil }
func (c *counting) Snapshot(string) ([]byte, error) { return nil, nil }

// Rule H1: with state of its own a process reads nothing unless it has all partitions.
func TestLocalState(t *testing.T) {
	t.Parallel()
	w := broker(t, 4, "in")
	w.fill("in", 4, 0, 40)
	c := w.member("g", "in")
	c.SessionTimeout = 500 * time.Millisecond
	c.Opts = append(c.Opts, kgo.MetadataMinAge(50*time.Millisecond), kgo.MetadataMaxAge(100*time.Millisecond))
	counted := func(dir string) (*leat.Pipeline, *leattest.Collector[rec]) {
		sink := leattest.Collect[rec]().In(dir)
		p := leat.New("test", leat.Config{StateDir: t.TempDir(), Logger: kafkatest.Logger(t), CheckpointEvery: 10 * time.Millisecond,
			Retry: leat.Retry{First: time.Millisecond, Max: 10 * time.Millisecond}})
		leat.To(leat.Via(leat.From(p, New(c)), "counting", leat.Stage[rec, rec](&counting{})), sink)
		return p, sink
	}
	p, sink := counted(t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 2)
	go func() { done <- p.Run(ctx) }()
	await(t, func() bool { return len(sink.Committed()) == 40 })
	_, err := w.adm.CreatePartitions(t.Context(), 1, "in") // rule H5: it gets that one too
	require.NoError(t, err)
	w.cl = w.client()
	w.put("in", 4, `{"id":40,"text":""}`)
	await(t, func() bool { return len(sink.Committed()) == 41 })

	p2, sink2 := counted(t.TempDir())
	go func() { done <- p2.Run(ctx) }()
	for range 2 {
		err := <-done
		if err == nil { // the first had all again when the second had given up
			continue
		}
		assert.ErrorContains(t, err, `rule H1: stage "counting"`)
		assert.ErrorContains(t, err, "package state, PostgreSQL")
		if ctx.Err() == nil { // else it may have been cut short in asking for the members
			assert.ErrorContains(t, err, "leat at 127.0.0.1")
		}
		cancel()
	}
	cancel()
	assert.Empty(t, sink2.Committed())
}

// Rules E7-1, J1: that reading began at the end of an empty partition is known to the group
// too, or the next owner would begin at what is the end by then.
func TestLatestOfEmptyPartition(t *testing.T) {
	t.Parallel()
	w := broker(t, 1, "in")
	c := w.member("g", "in")
	c.Start = Latest
	first := &forgetful{}
	a := start(t, c, first)
	src := a.src.(*Source[rec])
	await(t, func() bool { return src.Token(topicPartition{Topic: "in"}) != 0 })
	await(t, func() bool { return !a.p.Stats().Checkpointed.IsZero() })
	require.NoError(t, a.stop())
	w.fill("in", 1, 0, 5)
	second := &forgetful{}
	c.Drain = true
	b := start(t, c, second)
	require.NoError(t, b.wait())
	assert.Equal(t, []int64{0, 1, 2, 3, 4}, second.got)
}

// The stats tell for each partition how many records are not read yet, also while a sink is away and while the
// engine takes no rows.
func TestLag(t *testing.T) {
	t.Parallel()
	for name, batches := range map[string]int{"held": 16, "over budget": 1} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := broker(t, 2, "in")
			w.fill("in", 2, 0, 2000)
			var away atomic.Bool
			away.Store(true)
			sink := leattest.Collect[rec]().OnCall(func(call string) error {
				for call == "Write" && away.Load() {
					if batches > 1 {
						return leat.Transient(errors.New("away"))
					}
					time.Sleep(time.Millisecond)
				}
				return nil
			})
			c := w.config("in")
			c.Name, c.ChunkRows = "src", 10
			p := leat.New("test", leat.Config{StateDir: t.TempDir(), Logger: kafkatest.Logger(t), BudgetBatches: batches, CheckpointEvery: 10 * time.Millisecond,
				Retry: leat.Retry{First: time.Millisecond, Max: 10 * time.Millisecond}})
			leat.To(leat.From(p, New(c)), sink)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			done := make(chan error, 1)
			go func() { done <- p.Run(ctx) }()
			lag := func() int64 { s := p.Stats().Lag; return s["src/in/0"] + s["src/in/1"] }
			await(t, func() bool { return sink.Calls("Write") > 0 && lag() >= 2000-16*10 && lag() <= 2000 })
			w.fill("in", 2, 2000, 3000)
			await(t, func() bool { return lag() >= 3000-16*10 }) // though nothing is fetched
			away.Store(false)
			await(t, func() bool { return len(sink.Committed()) == 3000 && lag() == 0 })
			cancel()
			require.NoError(t, <-done)
		})
	}
}

// What is not read by this process any more has no lag in it.
func TestLagOfLost(t *testing.T) {
	t.Parallel()
	w := broker(t, 2, "in")
	w.fill("in", 2, 0, 10)
	dir := t.TempDir()
	sink := leattest.Collect[rec]().In(dir)
	a := start(t, w.member("g", "in"), sink)
	await(t, func() bool { return len(sink.Committed()) == 10 })
	src := a.src.(*Source[rec])
	require.Len(t, src.Lag(), 2)
	src.onLost(t.Context(), nil, map[string][]int32{"in": {1}})
	await(t, func() bool { return len(src.Lag()) == 1 })
	require.NoError(t, a.stop())
}
