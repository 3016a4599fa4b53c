package watermillsource_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill-kafka/v3/pkg/kafka"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/leattest"
	"github.com/leatgo/leat/sink/kafkasink"
	"github.com/leatgo/leat/sink/sqlitesink"
	"github.com/leatgo/leat/sink/watermillsink"
	"github.com/leatgo/leat/source/kafkasource"
	"github.com/leatgo/leat/source/watermillsource"
)

// brokers are those of LEAT_KAFKA.
func brokers(t testing.TB) []string {
	t.Helper()
	servers := os.Getenv("LEAT_KAFKA")
	switch {
	case servers != "":
	case os.Getenv("CI") == "true":
		t.Fatal("LEAT_KAFKA is not set: this test needs a broker, host:port")
	default:
		t.Skip("LEAT_KAFKA is not set: this test needs a broker, host:port")
	}
	return strings.Split(servers, ",")
}

// topic makes a topic for one test.
func topic(t testing.TB, partitions int32) (name string, admin *kadm.Client) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers(t)...))
	require.NoError(t, err)
	t.Cleanup(client.Close)
	admin = kadm.NewClient(client)
	name = fmt.Sprintf("wm-%s-%d", strings.ReplaceAll(strings.ToLower(t.Name()), "/", "-"), time.Now().UnixNano())
	_, err = admin.CreateTopic(t.Context(), partitions, 1, nil, name)
	require.NoError(t, err)
	t.Cleanup(func() {
		_, _ = admin.DeleteTopics(context.Background(), name)
		_, _ = admin.DeleteGroups(context.Background(), name)
	})
	return name, admin
}

// byKey is watermill-kafka's marshaler with the metadata "key" as the record's key.
var byKey = kafka.NewWithPartitioningMarshaler(func(_ string, m *message.Message) (string, error) { return m.Metadata.Get("key"), nil })

// subscriber is watermill-kafka's, in the consumer group of the topic's name.
func subscriber(t testing.TB, servers []string, group string) *kafka.Subscriber {
	t.Helper()
	c := kafka.DefaultSaramaSubscriberConfig()
	c.Consumer.Offsets.Initial = sarama.OffsetOldest
	c.Consumer.Group.Session.Timeout = 6 * time.Second // the least that brokers allow
	c.Consumer.Group.Heartbeat.Interval = time.Second
	s, err := kafka.NewSubscriber(kafka.SubscriberConfig{Brokers: servers, Unmarshaler: byKey, OverwriteSaramaConfig: c, ConsumerGroup: group}, watermill.NopLogger{})
	require.NoError(t, err)
	return s
}

func publisher(t testing.TB, servers []string) *kafka.Publisher {
	t.Helper()
	p, err := kafka.NewPublisher(kafka.PublisherConfig{Brokers: servers, Marshaler: byKey}, watermill.NopLogger{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.Close()) })
	return p
}

// evento has everything that watermill-kafka knows of a message.
type evento struct {
	ID    int64
	UUID  string    `leat:"@header._watermill_message_uuid"`
	Trace string    `leat:"@header.trace"`
	Key   string    `leat:"@key"`
	At    time.Time `leat:"@timestamp"`
}

// origin is the recipe of docs/watermill.md.
func origin(m *message.Message, o *leat.Origin) {
	if key, ok := kafka.MessageKeyFromCtx(m.Context()); ok {
		o.Key = key
	}
	if at, ok := kafka.MessageTimestampFromCtx(m.Context()); ok {
		o.Time = at
	}
}

// tooLarge is the other one: the client refuses a message with the one, the broker with the
// other.
func tooLarge(err error) bool {
	_, client := errors.AsType[sarama.ConfigurationError](err)
	return client || errors.Is(err, sarama.ErrMessageSizeTooLarge)
}

func messages(n int) (out []*message.Message) {
	for i := range n {
		m := message.NewMessage(fmt.Sprint("uuid-", i), fmt.Appendf(nil, `{"id":%d}`, i))
		m.Metadata = message.Metadata{"trace": fmt.Sprint("t", i), "key": fmt.Sprint("k", i%17)}
		out = append(out, m)
	}
	return out
}

// until runs a pipeline until the condition holds, then stops it in good order.
func until(t *testing.T, p *leat.Pipeline, done func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	for !done() {
		select {
		case err := <-ended:
			t.Fatalf("the pipeline has ended: %v", err)
		case <-ctx.Done():
			t.Fatal("the pipeline does not get done")
		case <-time.After(5 * time.Millisecond):
		}
	}
	cancel()
	require.NoError(t, <-ended)
}

// committed tells how far the group is, over all partitions.
func committed(t *testing.T, admin *kadm.Client, group string) (sum int64) {
	t.Helper()
	offsets, err := admin.FetchOffsets(t.Context(), group)
	require.NoError(t, err)
	offsets.Each(func(o kadm.OffsetResponse) { sum += max(o.At, 0) })
	return sum
}

// watermill-kafka publishes, this source reads through it: all rows once with UUID,
// metadata, key and time; what was acknowledged is committed in the group, so that the next
// life reads only what came since.
func TestKafkaToRows(t *testing.T) {
	t.Parallel()
	servers := brokers(t)
	name, admin := topic(t, 4)
	pub := publisher(t, servers)
	require.NoError(t, pub.Publish(name, messages(1000)...))

	c := quiet(t)
	sink := leattest.Collect[evento]()
	build := func(sub message.Subscriber, sink leat.Sink[evento]) *leat.Pipeline {
		p := leat.New("p", c)
		leat.To(leat.From(p, watermillsource.New(watermillsource.Config[evento]{Subscriber: sub, Topic: name, Origin: origin})), sink)
		return p
	}
	start := time.Now()
	sub := subscriber(t, servers, name)
	until(t, build(sub, sink), func() bool { return len(sink.Committed()) >= 1000 })
	t.Logf("1000 messages of 4 partitions, one in flight each, in %v", time.Since(start))
	require.NoError(t, sub.Close())
	seen := map[int64]bool{}
	for _, e := range sink.Committed() {
		require.Equal(t, fmt.Sprint("uuid-", e.ID), e.UUID)
		require.Equal(t, fmt.Sprint("t", e.ID), e.Trace)
		require.Equal(t, fmt.Sprint("k", e.ID%17), e.Key)
		require.WithinDuration(t, time.Now(), e.At, time.Hour)
		seen[e.ID] = true
	}
	require.Len(t, seen, 1000)
	require.Len(t, sink.Committed(), 1000, "nothing was handed out twice")
	require.EqualValues(t, 1000, committed(t, admin, name))

	require.NoError(t, pub.Publish(name, message.NewMessage("last", []byte(`{"id":1000}`))))
	next := sink.Successor()
	sub = subscriber(t, servers, name)
	until(t, build(sub, next), func() bool { return len(next.Committed()) > 1000 })
	require.NoError(t, sub.Close())
	require.Len(t, next.Committed(), 1001)
	require.EqualValues(t, 1001, committed(t, admin, name))
}

// The sink publishes through watermill-kafka, a watermill-kafka subscriber reads: the same
// rows, each with the UUID that follows from its place. A message that the client refuses
// for its size is rejected alone.
func TestRowsToKafka(t *testing.T) {
	t.Parallel()
	type fila struct {
		ID   int64
		Text string
	}
	servers := brokers(t)
	name, _ := topic(t, 2)
	var rows []fila
	for i := range 300 {
		rows = append(rows, fila{ID: int64(i)})
	}
	rows[77].Text = strings.Repeat("x", 2<<20)
	c := quiet(t)
	p := leat.New("p", c)
	leat.To(leat.From(p, leattest.Rows(rows...)), watermillsink.New(watermillsink.Config[fila]{
		Publisher: publisher(t, servers), Topic: name,
		Metadata: func(r *fila) message.Metadata {
			return message.Metadata{"key": fmt.Sprint(r.ID % 5), "half": fmt.Sprint(r.ID / 2)}
		},
		Permanent: tooLarge,
	}))
	require.NoError(t, p.Run(t.Context()))
	refused := letters(t, c)
	require.Len(t, refused, 1)
	require.EqualValues(t, 77, refused[0].Offset)

	sub := subscriber(t, servers, name)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, err := sub.Subscribe(ctx, name)
	require.NoError(t, err)
	got := map[string]string{}
	for len(got) < 299 {
		m, ok := <-out
		require.True(t, ok, "%d have come", len(got))
		m.Ack()
		got[string(m.Payload)] = m.UUID
		require.NotEmpty(t, m.Metadata.Get("half"))
	}
	require.NoError(t, sub.Close())
	require.Equal(t, 299, len(slices.Compact(slices.Sorted(maps.Values(got)))))
}

// What watermill-kafka writes on a record is what other clients read, and the other way
// round: a header with the UUID, and one for each entry of the metadata.
func TestHeadersOnTheWire(t *testing.T) {
	t.Parallel()
	servers := brokers(t)
	name, _ := topic(t, 1)
	pub := publisher(t, servers)
	require.NoError(t, pub.Publish(name, messages(1)...))

	client, err := kgo.NewClient(kgo.SeedBrokers(servers...), kgo.ConsumeTopics(name), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	require.NoError(t, err)
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var records []*kgo.Record
	for len(records) < 1 {
		f := client.PollFetches(ctx)
		require.NoError(t, f.Err())
		records = append(records, f.Records()...)
	}
	headers := map[string]string{}
	for _, h := range records[0].Headers {
		headers[h.Key] = string(h.Value)
	}
	require.Equal(t, map[string]string{watermillsource.UUIDHeader: "uuid-0", "trace": "t0", "key": "k0"}, headers)
	require.Equal(t, kafka.UUIDHeaderKey, watermillsource.UUIDHeader)
	require.Equal(t, "k0", string(records[0].Key))
	require.Equal(t, `{"id":0}`, string(records[0].Value))

	require.NoError(t, client.ProduceSync(t.Context(), &kgo.Record{Topic: name, Key: []byte("k"), Value: []byte(`{"id":1}`),
		Headers: []kgo.RecordHeader{{Key: watermillsource.UUIDHeader, Value: []byte("uuid-1")}, {Key: "trace", Value: []byte("t1")}}}).FirstErr())
	sub := subscriber(t, servers, name)
	out, err := sub.Subscribe(ctx, name)
	require.NoError(t, err)
	first := <-out
	first.Ack()
	second := <-out
	second.Ack()
	require.NoError(t, sub.Close())
	require.Equal(t, "uuid-1", second.UUID)
	require.Equal(t, message.Metadata{"trace": "t1"}, second.Metadata)
}

// kafkasource reads what watermill-kafka has written.
func TestReadByKafkasource(t *testing.T) {
	t.Parallel()
	servers := brokers(t)
	name, _ := topic(t, 2)
	require.NoError(t, publisher(t, servers).Publish(name, messages(20)...))
	sink := leattest.Collect[evento]()
	p := leat.New("p", leat.Config{StateDir: t.TempDir()})
	leat.To(leat.From(p, kafkasource.New(kafkasource.Config[evento]{Brokers: servers, Topics: []string{name}, Group: name, Drain: true})), sink)
	require.NoError(t, p.Run(t.Context()))
	rows := sink.Committed()
	slices.SortFunc(rows, func(a, b evento) int { return int(a.ID - b.ID) })
	require.Len(t, rows, 20)
	for i, r := range rows {
		require.WithinDuration(t, time.Now(), r.At, time.Minute)
		r.At = time.Time{}
		require.Equal(t, evento{ID: int64(i), UUID: fmt.Sprint("uuid-", i), Trace: fmt.Sprint("t", i), Key: fmt.Sprint("k", i%17)}, r)
	}
}

// A watermill-kafka subscriber reads what kafkasink has written; the row's field for the
// header is the message's UUID.
func TestWrittenByKafkasink(t *testing.T) {
	t.Parallel()
	servers := brokers(t)
	name, _ := topic(t, 1)
	p := leat.New("p", leat.Config{StateDir: t.TempDir()})
	rows := []evento{{ID: 1, UUID: "uuid-1", Trace: "t1", Key: "k1"}, {ID: 2, UUID: "uuid-2", Key: "k2"}}
	leat.To(leat.From(p, leattest.Rows(rows...)), kafkasink.New(kafkasink.Config[evento]{Brokers: servers, Topic: name}))
	require.NoError(t, p.Run(t.Context()))

	sub := subscriber(t, servers, name)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	out, err := sub.Subscribe(ctx, name)
	require.NoError(t, err)
	for _, r := range rows {
		m, ok := <-out
		require.True(t, ok)
		require.Equal(t, r.UUID, m.UUID)
		require.Equal(t, r.Trace, m.Metadata.Get("trace"))
		require.JSONEq(t, fmt.Sprintf(`{"id":%d}`, r.ID), string(m.Payload))
		m.Ack()
	}
	require.NoError(t, sub.Close())
}

// child is the program that TestKilled kills.
func child() {
	servers, name, dir := strings.Split(os.Getenv("LEAT_KAFKA"), ","), os.Getenv("LEAT_WM_TOPIC"), os.Getenv("LEAT_WM_DIR")
	t := &testing.T{} // nothing of it fails
	sub := subscriber(t, servers, name)
	p := leat.New("p", leat.Config{StateDir: filepath.Join(dir, "state"), CheckpointEvery: 50 * time.Millisecond})
	leat.To(leat.From(p, watermillsource.New(watermillsource.Config[fila]{Subscriber: sub, Topic: name})),
		sqlitesink.New(sqlitesink.Config[fila]{Path: filepath.Join(dir, "a.db"), Table: "filas"}))
	if err := p.Run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// A process killed between delivery and checkpoint: what was not acknowledged comes again,
// nothing is lost.
func TestKilled(t *testing.T) {
	t.Parallel()
	servers := brokers(t)
	name, _ := topic(t, 3)
	const n = 3000
	client, err := kgo.NewClient(kgo.SeedBrokers(servers...), kgo.RecordPartitioner(kgo.RoundRobinPartitioner()))
	require.NoError(t, err)
	defer client.Close()
	var records []*kgo.Record
	for _, p := range payloads(n) {
		records = append(records, &kgo.Record{Topic: name, Value: []byte(p)})
	}
	require.NoError(t, client.ProduceSync(t.Context(), records...).FirstErr())

	dir := t.TempDir()
	count := func() (rows, different int) {
		conn, err := sqlite.OpenConn(filepath.Join(dir, "a.db"), sqlite.OpenReadOnly)
		if err != nil {
			return 0, 0
		}
		defer conn.Close()
		_ = sqlitex.ExecuteTransient(conn, "SELECT count(*), count(DISTINCT id) FROM filas", &sqlitex.ExecOptions{ResultFunc: func(s *sqlite.Stmt) error {
			rows, different = s.ColumnInt(0), s.ColumnInt(1)
			return nil
		}})
		return rows, different
	}
	kills := 2
	if os.Getenv("LEAT_LONG") == "1" {
		kills = 10
	}
	for life := range kills + 1 {
		cmd := exec.Command(os.Args[0], "-test.run=^$")
		cmd.Env = append(os.Environ(), "LEAT_WM_CHILD=1", "LEAT_WM_TOPIC="+name, "LEAT_WM_DIR="+dir)
		var output strings.Builder
		cmd.Stdout, cmd.Stderr = &output, &output
		require.NoError(t, cmd.Start())
		goal := n * (life + 1) / (kills + 1)
		require.Eventually(t, func() bool { _, different := count(); return different >= goal }, 90*time.Second, 2*time.Millisecond, "life %d: %s", life, &output)
		require.NoError(t, cmd.Process.Kill())
		_ = cmd.Wait()
	}
	rows, different := count()
	require.Equal(t, n, different, "A3: nothing is lost")
	t.Logf("%d kills, %d messages: lost 0, %d twice", kills+1, n, rows-different)
}
