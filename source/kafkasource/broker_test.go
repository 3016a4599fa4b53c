package kafkasource

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/leattest"
	"github.com/leatgo/leat/sink/sqlitesink"
)

// realBroker is a Kafka server, with a new topic.
func realBroker(t *testing.T, partitions int32) (w *world, topic string) {
	t.Helper()
	addrs := os.Getenv("LEAT_KAFKA")
	if addrs == "" {
		if os.Getenv("CI") == "true" {
			t.Fatal("LEAT_KAFKA is not set: it names the brokers, host:port,...")
		}
		t.Skip("LEAT_KAFKA is not set: it names the brokers, host:port,...")
	}
	w = &world{t: t, brokers: strings.Split(addrs, ",")}
	w.cl = w.client()
	w.adm = kadm.NewClient(w.cl)
	topic = fmt.Sprintf("kafkasource-%x", rand.Uint64())
	resp, err := w.adm.CreateTopic(t.Context(), partitions, 1, nil, topic)
	require.NoError(t, err)
	require.NoError(t, resp.Err)
	adm := kadm.NewClient(w.client())
	t.Cleanup(func() {
		_, _ = adm.DeleteTopic(t.Context(), topic)
		_, _ = adm.DeleteGroup(t.Context(), topic)
	})
	return w, topic
}

// Rules H3, H4 on a real broker: members join, leave, are cut off and come back while
// rows come; SQLite has each once in the end.
func TestRealMembers(t *testing.T) {
	w, topic := realBroker(t, 6)
	path := filepath.Join(t.TempDir(), "rows.db")
	newSink := func() leat.Sink[rec] {
		return sqlitesink.New(sqlitesink.Config[rec]{Path: path, Table: "rows", Synchronous: sqlitesink.Normal})
	}
	c := w.member(topic, topic)
	c.ChunkRows = 100
	n, stop, filled := 0, make(chan struct{}), make(chan int)
	go func() {
		for {
			w.fill(topic, 6, n, n+600)
			n += 600
			select {
			case <-stop:
				filled <- n
				return
			case <-time.After(5 * time.Millisecond):
			}
		}
	}()
	members := []*running{start(t, c, newSink())}
	for i := range 8 {
		time.Sleep(500 * time.Millisecond)
		switch {
		case len(members) < 2 || len(members) < 3 && i%2 == 0:
			members = append(members, start(t, c, newSink()))
		default:
			require.NoError(t, members[0].stop())
			members = members[1:]
		}
	}
	close(stop)
	total := <-filled
	await(t, func() bool { return countRows(t, path, "count(*)") >= total })
	for _, m := range members {
		require.NoError(t, m.stop())
	}
	assert.Equal(t, total, countRows(t, path, "count(*)"), "twice")
	assert.Equal(t, total, countRows(t, path, "count(distinct id)"), "lost")
	t.Logf("%d rows through members that come and go", total)
}

func countRows(t *testing.T, path, what string) (n int) {
	t.Helper()
	conn, err := sqlite.OpenConn(path, sqlite.OpenReadOnly)
	if err != nil { // it may not be there yet
		return 0
	}
	defer conn.Close()
	_ = sqlitex.ExecuteTransient(conn, "select "+what+" from rows", &sqlitex.ExecOptions{ResultFunc: func(row *sqlite.Stmt) error {
		n = row.ColumnInt(0)
		return nil
	}})
	return n
}

// Rule H2 on a real broker: aborted transactions leave gaps, also at the end.
func TestRealTransactions(t *testing.T) {
	w, topic := realBroker(t, 1)
	tx := w.client(kgo.TransactionalID(topic))
	for i := range 10 {
		require.NoError(t, tx.BeginTransaction())
		require.NoError(t, tx.ProduceSync(t.Context(), &kgo.Record{Topic: topic, Value: fmt.Appendf(nil, `{"id":%d,"text":""}`, i)}).FirstErr())
		require.NoError(t, tx.EndTransaction(t.Context(), kgo.TransactionEndTry(i%3 == 0 && i < 9)))
	}
	dir := t.TempDir()
	for range 2 {
		rows, _ := life(t, dir, drain(w.config(topic)))
		assert.Equal(t, []int64{0, 3, 6}, ids(rows))
	}
}

// Rule A2-1 on a real broker.
func TestRealTopicMadeAgain(t *testing.T) {
	w, topic := realBroker(t, 1)
	w.fill(topic, 1, 0, 10)
	sink := leattest.Collect[rec]().In(t.TempDir())
	dir := t.TempDir()
	r := startIn(t, dir, w.member(topic, topic), sink)
	await(t, func() bool { return len(sink.Committed()) == 10 })
	w.again(topic)
	w.fill(topic, 1, 0, 30)
	require.ErrorContains(t, r.wait(), "rule A2-1")
	assert.Len(t, sink.Committed(), 10)
}

// The contract of leat.Source on a real broker.
func TestRealConformance(t *testing.T) {
	w, topic := realBroker(t, 2)
	w.fill(topic, 2, 0, 30)
	c := drain(w.member(topic, topic))
	leattest.TestSource(t, leattest.SourceHarness[rec]{
		New: func(_ *testing.T, size int) leat.Source[rec] {
			c := c
			c.ChunkRows = size
			return New(c)
		},
		RealTime: true,
		Skip:     map[string]string{"replays from every position": "shown with kfake; slow here", "is cancelled at any moment": "as before"},
	})
}

// Topics are not created by looking for them, though the broker would.
func TestRealUnknownTopic(t *testing.T) {
	w, topic := realBroker(t, 1)
	_, _, err := lifeErr(t, t.TempDir(), drain(w.member(topic, topic+"-x")))
	require.ErrorContains(t, err, "has no "+topic+"-x")
	all, err := w.adm.ListTopics(t.Context())
	require.NoError(t, err)
	assert.False(t, all.Has(topic+"-x"))
}
