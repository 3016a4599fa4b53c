package watermillsink_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/message/router/middleware"
	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/leattest"
	"github.com/leatgo/leat/sink/watermillsink"
	"github.com/leatgo/leat/stage"
)

type fila struct {
	ID int64
	X  float64
}

var (
	errBroker  = errors.New("no broker is there")
	errTooLong = errors.New("message too long")
)

// log is a Publisher that keeps what was published, in order.
type log struct {
	mu       sync.Mutex
	messages []*message.Message
	topics   []string
	calls    int
	fail     func(call, n int, m *message.Message) error // before the n-th message of a call
}

func (l *log) Publish(topic string, messages ...*message.Message) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.calls++
	for n, m := range messages {
		if l.fail != nil {
			if err := l.fail(l.calls, n, m); err != nil {
				return fmt.Errorf("cannot produce message %s: %w", m.UUID, err)
			}
		}
		l.messages, l.topics = append(l.messages, m), append(l.topics, topic)
	}
	return nil
}

func (l *log) Close() error { return nil }

func (l *log) rows(t *testing.T) (out []fila) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, m := range l.messages {
		var r fila
		require.NoError(t, json.Unmarshal(m.Payload, &r))
		out = append(out, r)
	}
	return out
}

// uuids counts the messages of each UUID.
func (l *log) uuids() map[string]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := map[string]int{}
	for _, m := range l.messages {
		out[m.UUID]++
	}
	return out
}

// The contract of leat.Sink.
func TestConformance(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	logs := map[string]*log{}
	logOf := func(dir string) *log {
		mu.Lock()
		defer mu.Unlock()
		if logs[dir] == nil {
			logs[dir] = &log{}
		}
		return logs[dir]
	}
	leattest.TestSink(t, leattest.SinkHarness[fila]{
		New: func(_ *testing.T, dir string) leat.Sink[fila] {
			return watermillsink.New(watermillsink.Config[fila]{Publisher: logOf(dir), Topic: "filas", BatchMessages: 4})
		},
		Row:      func(n int) fila { return fila{ID: int64(n)} },
		Bad:      func(n int) fila { return fila{ID: int64(n), X: math.NaN()} },
		ReadBack: func(t *testing.T, dir string) []fila { return logOf(dir).rows(t) },
		Trouble: func(_ *testing.T, dir string) (end func()) {
			l := logOf(dir)
			set := func(f func(int, int, *message.Message) error) {
				l.mu.Lock()
				l.fail = f
				l.mu.Unlock()
			}
			set(func(int, int, *message.Message) error { return errBroker })
			return func() { set(nil) }
		},
	})
}

func quiet(t *testing.T) leat.Config {
	return leat.Config{StateDir: t.TempDir(), Logger: slog.New(slog.DiscardHandler), Breaker: leat.Breaker{Share: -1},
		Retry: leat.Retry{First: time.Millisecond, Max: 10 * time.Millisecond}}
}

func filas(n int) (out []fila) {
	for i := range n {
		out = append(out, fila{ID: int64(i)})
	}
	return out
}

// run publishes rows and counts what was refused.
func run(t *testing.T, c leat.Config, sink watermillsink.Config[fila], rows ...fila) (rejected int64) {
	t.Helper()
	p := leat.New("p", c)
	leat.To(leat.From(p, leattest.Rows(rows...).Partitions(2)), watermillsink.New(sink))
	require.NoError(t, p.Run(t.Context()))
	for _, n := range p.Stats().Nodes {
		rejected += n.Rejected
	}
	return rejected
}

// B8: errors are retried. What was published before one in the same Write is not published
// again, but for the call that failed.
func TestTransient(t *testing.T) {
	c := quiet(t)
	synctest.Test(t, func(t *testing.T) {
		failures := 0
		l := &log{}
		l.fail = func(call, n int, _ *message.Message) error {
			if call%3 == 0 && n == 5 {
				failures++
				return errBroker
			}
			return nil
		}
		require.Zero(t, run(t, c, watermillsink.Config[fila]{Publisher: l, Topic: "filas", BatchMessages: 10}, filas(1000)...))
		uuids := l.uuids()
		require.Len(t, uuids, 1000, "A3: nothing is lost")
		require.NotZero(t, failures)
		require.Equal(t, 1000+5*failures, len(l.messages), "only what a failed call had published comes twice")
	})
}

// B5: a message that is refused for good costs its row alone, and nothing comes twice but what
// a failed call had published.
func TestPermanent(t *testing.T) {
	c := quiet(t)
	synctest.Test(t, func(t *testing.T) {
		l := &log{}
		l.fail = func(call, n int, m *message.Message) error {
			switch {
			case slices.Contains([]string{"row 3", "row 77", "row 500"}, m.UUID):
				return errTooLong
			case call%11 == 0:
				return errBroker
			}
			return nil
		}
		rejected := run(t, c, watermillsink.Config[fila]{Publisher: l, Topic: "filas", BatchMessages: 10,
			UUID:      func(r *fila) string { return fmt.Sprint("row ", r.ID) },
			Permanent: func(err error) bool { return errors.Is(err, errTooLong) }}, filas(1000)...)
		require.EqualValues(t, 3, rejected)
		uuids := l.uuids()
		require.Len(t, uuids, 997)
		require.NotContains(t, uuids, "row 77")
		require.Less(t, len(l.messages), 997+30)
	})
}

// The default UUID is a row's for ever: over rewinds, restarts and halved batches, also of
// several rows made from one record.
func TestUUID(t *testing.T) {
	c := quiet(t)
	synctest.Test(t, func(t *testing.T) {
		lives := make([]map[string]string, 2) // UUID by payload
		for life := range lives {
			l := &log{}
			calls := 0
			sink := watermillsink.New(watermillsink.Config[fila]{Publisher: l, Topic: "filas"})
			c.StateDir = t.TempDir()
			p := leat.New("p", c)
			rows := leat.From(p, leattest.Rows(filas(50)...).Batches(7+life*20))
			three := leat.Via(rows, "three", stage.FlatMap(func(r fila) ([]fila, error) {
				return []fila{r, {ID: r.ID, X: 1}, {ID: r.ID, X: 2}}, nil
			}))
			other := leattest.Collect[fila]().OnCall(func(call string) error {
				if calls++; calls == 9 {
					return leat.ErrAborted
				}
				return nil
			})
			leat.To(three, sink, other)
			require.NoError(t, p.Run(t.Context()))
			lives[life] = map[string]string{}
			for _, m := range l.messages {
				if id, ok := lives[life][string(m.Payload)]; ok {
					require.Equal(t, id, m.UUID)
				}
				lives[life][string(m.Payload)] = m.UUID
			}
			require.Len(t, lives[life], 150)
			require.Len(t, l.uuids(), 150)
			require.Regexp(t, `^[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`, l.messages[0].UUID)
		}
		require.True(t, maps.Equal(lives[0], lives[1]))
	})
}

// Topics and metadata are functions of the row; order is kept in a topic (A4).
// marks is Watermill's repository in memory, without its goroutine.
type marks map[string]bool

func (m marks) IsDuplicate(_ context.Context, key string) (bool, error) {
	had := m[key]
	m[key] = true
	return had, nil
}

// What docs/watermill.md says of the Deduplicator downstream: a handler that fails loses the message,
// unless it is tried again inside.
func TestDeduplicatorDownstream(t *testing.T) {
	for name, within := range map[string]bool{"retried within": true, "handed out again": false} {
		t.Run(name, func(t *testing.T) {
			dedup := middleware.Deduplicator{KeyFactory: func(m *message.Message) (string, error) { return m.UUID, nil }, Repository: marks{}}
			tries, handled := 0, 0
			h := func(*message.Message) ([]*message.Message, error) {
				if tries++; tries == 1 {
					return nil, errBroker
				}
				handled++
				return nil, nil
			}
			if within {
				h = middleware.Retry{MaxRetries: 3, InitialInterval: time.Millisecond}.Middleware(h)
			}
			h = dedup.Middleware(h)
			var err error
			for range 3 { // deliveries
				_, err = h(message.NewMessage("the row's", nil))
			}
			require.NoError(t, err, "acknowledged")
			require.Equal(t, within, handled == 1)
		})
	}
}

func TestTopicsAndMetadata(t *testing.T) {
	c := quiet(t)
	synctest.Test(t, func(t *testing.T) {
		l := &log{}
		p := leat.New("p", c)
		leat.To(leat.From(p, leattest.Rows(filas(100)...)), watermillsink.New(watermillsink.Config[fila]{Publisher: l,
			TopicOf: func(r *fila) string {
				if r.ID == 50 {
					return ""
				}
				if r.ID == 51 {
					panic("51")
				}
				return fmt.Sprint("t", r.ID%3)
			},
			Metadata: func(r *fila) message.Metadata { return message.Metadata{"half": fmt.Sprint(r.ID / 2)} },
			Encode:   func(r *fila) ([]byte, error) { return json.Marshal(r) }}))
		require.NoError(t, p.Run(t.Context()))
		require.Len(t, l.messages, 98)
		require.LessOrEqual(t, l.calls, 6)
		last := map[string]int64{"t0": -1, "t1": -1, "t2": -1}
		for i, r := range l.rows(t) {
			require.Equal(t, fmt.Sprint("t", r.ID%3), l.topics[i])
			require.Greater(t, r.ID, last[l.topics[i]])
			last[l.topics[i]] = r.ID
			require.Equal(t, fmt.Sprint(r.ID/2), l.messages[i].Metadata.Get("half"))
		}
	})
}

func TestValidate(t *testing.T) {
	err := watermillsink.New(watermillsink.Config[fila]{BatchMessages: -1}).Validate()
	for _, want := range []string{"Publisher is not set", "neither Topic nor TopicOf", "BatchMessages -1"} {
		require.ErrorContains(t, err, want)
	}
	err = watermillsink.New(watermillsink.Config[int]{Publisher: &log{}, Topic: "a", TopicOf: func(*int) string { return "" }}).Validate()
	require.ErrorContains(t, err, "both set")
	require.ErrorContains(t, err, "set Encode")
}
