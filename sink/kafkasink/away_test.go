package kafkasink_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/leattest"
	"github.com/leatgo/leat/sink/kafkasink"
)

func quick(t *testing.T) leat.Config {
	return leat.Config{StateDir: t.TempDir(), Retry: leat.Retry{First: time.Millisecond, Max: 100 * time.Millisecond}}
}

// Rules B1, B8: while the broker can't tell how large a record may be, no record is too large.
func TestConfigsAway(t *testing.T) {
	for name, answer := range map[string]*kerr.Error{"busy": kerr.RequestTimedOut, "at a loss": kerr.UnknownServerError, "gone": nil} {
		t.Run(name, func(t *testing.T) {
			c, brokers := fake(t, kfake.SeedTopics(1, "t"))
			var asked atomic.Int32
			c.ControlKey(int16(kmsg.DescribeConfigs), func(req kmsg.Request) (kmsg.Response, error, bool) {
				c.KeepControl()
				trouble := asked.Add(1) <= 12
				if trouble && answer == nil {
					return nil, errors.New("the connection breaks"), true
				}
				resp := req.ResponseKind().(*kmsg.DescribeConfigsResponse)
				for _, r := range req.(*kmsg.DescribeConfigsRequest).Resources {
					rr := kmsg.NewDescribeConfigsResponseResource()
					rr.ResourceName, rr.ResourceType = r.ResourceName, r.ResourceType
					if trouble {
						rr.ErrorCode = answer.Code
					} else {
						limit := kmsg.NewDescribeConfigsResponseResourceConfig()
						limit.Name, limit.Value = "max.message.bytes", kmsg.StringPtr("10000000")
						rr.Configs = append(rr.Configs, limit)
					}
					resp.Resources = append(resp.Resources, rr)
				}
				return resp, nil, true
			})
			rows := []string{"a", strings.Repeat("b", 2_000_000), "c"}
			p := leat.New("prueba", quick(t))
			leat.To(leat.From(p, leattest.Rows(rows...)), kafkasink.New(kafkasink.Config[string]{Brokers: brokers, Topic: "t"}))
			report := leattest.Runner{RealTime: true}.Run(t, p)
			assert.Empty(t, report.Rejects)
			assert.Equal(t, rows, values(readAll(t, brokers, "t")))
		})
	}
}

// Rules B1, B8: a topic that is between two leaders is waited for, also for longer than one that
// does not exist may take to appear; so is a broker that says no more than that it has failed.
func TestTopicAway(t *testing.T) {
	for _, answer := range []*kerr.Error{kerr.LeaderNotAvailable, kerr.UnknownServerError} {
		for _, of := range []bool{false, true} {
			t.Run(fmt.Sprint(answer.Message, ", TopicOf ", of), func(t *testing.T) { topicAway(t, of, answer) })
		}
	}
}

func topicAway(t *testing.T, of bool, answer *kerr.Error) {
	c, brokers := fake(t, kfake.SeedTopics(1, "t"))
	begin := time.Now()
	c.ControlKey(int16(kmsg.Metadata), func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		r := req.(*kmsg.MetadataRequest)
		if len(r.Topics) == 0 || time.Since(begin) > time.Second {
			return nil, nil, false
		}
		resp := req.ResponseKind().(*kmsg.MetadataResponse)
		for _, rt := range r.Topics {
			mt := kmsg.NewMetadataResponseTopic()
			mt.Topic, mt.TopicID, mt.ErrorCode = rt.Topic, rt.TopicID, answer.Code
			resp.Topics = append(resp.Topics, mt)
		}
		for _, a := range brokers {
			b := kmsg.NewMetadataResponseBroker()
			host, port, _ := strings.Cut(a, ":")
			b.Host = host
			_, _ = fmt.Sscan(port, &b.Port)
			resp.Brokers = append(resp.Brokers, b)
		}
		return resp, nil, true
	})
	config := kafkasink.Config[string]{Brokers: brokers, Topic: "t"}
	if of {
		config.Topic, config.TopicOf = "", func(*string) string { return "t" }
	}
	p := leat.New("prueba", quick(t))
	leat.To(leat.From(p, leattest.Rows("a", "b", "c")), kafkasink.New(config))
	report := leattest.Runner{RealTime: true}.Run(t, p)
	assert.Empty(t, report.Rejects)
	assert.Equal(t, []string{"a", "b", "c"}, values(readAll(t, brokers, "t")))
}

// B8: that the topic of all rows is gone is no fault of theirs, also when it is found out while
// nothing is under way.
func TestTopicDeletedLater(t *testing.T) {
	defer func(before time.Duration) { *kafkasink.TopicAge = before }(*kafkasink.TopicAge)
	*kafkasink.TopicAge = time.Millisecond
	_, brokers := fake(t, kfake.SeedTopics(1, "t"))
	s := kafkasink.New(kafkasink.Config[string]{Brokers: brokers, Topic: "t"})
	require.NoError(t, s.Open(t.Context(), env(t)))
	require.NoError(t, s.Write(t.Context(), batch("a")))
	_, err := s.Commit(t.Context(), leat.Checkpoint{})
	require.NoError(t, err)
	_, err = kadm.NewClient(client(t, brokers)).DeleteTopics(t.Context(), "t")
	require.NoError(t, err)
	time.Sleep(5 * time.Millisecond)
	err = s.Write(t.Context(), batch("b"))
	require.ErrorIs(t, err, leat.ErrAborted)
	require.False(t, errors.As(err, new(*leat.RowErrors)))
	require.NoError(t, s.Close())
	require.ErrorContains(t, s.Open(t.Context(), env(t)), "topic t does not exist on this cluster")
}

// wary is a codec as those with a registry are: it waits for the schema of a topic that is not there.
type wary struct{}

func (wary) Encode(_ context.Context, topic string, dst []byte, row *string) ([]byte, error) {
	if topic != "t" {
		return nil, leat.Transient(errors.New("the subject has not got the schema"))
	}
	return append(dst, *row...), nil
}

// B1: a row that goes to a topic that does not exist is rejected, and keeps nobody waiting.
func TestAstrayWithCodec(t *testing.T) {
	_, brokers := fake(t, kfake.SeedTopics(1, "t"))
	s := kafkasink.New(kafkasink.Config[string]{Brokers: brokers, Codec: wary{}, TopicOf: func(s *string) string {
		if *s == "panic" {
			panic("no")
		}
		return *s
	}})
	require.NoError(t, s.Open(t.Context(), env(t)))
	defer s.Close()
	require.Equal(t, []int{1, 2, 4}, rowErrors(t, s.Write(t.Context(), batch("t", "nowhere", "no name", "t", "nowhere"))))
	require.Equal(t, []int{1, 2}, rowErrors(t, s.Write(t.Context(), batch("t", "panic", ""))))
	require.NoError(t, s.Write(t.Context(), batch("t", "t")))
	_, err := s.Commit(t.Context(), leat.Checkpoint{})
	require.NoError(t, err)
	require.Equal(t, []string{"t", "t"}, values(readAll(t, brokers, "t")))
}

// Names of topics that come from rows do not fill the memory.
func TestManyTopicsThatAreNone(t *testing.T) {
	_, brokers := fake(t, kfake.SeedTopics(1, "t"))
	s := kafkasink.New(kafkasink.Config[string]{Brokers: brokers, TopicOf: func(s *string) string { return *s }})
	require.NoError(t, s.Open(t.Context(), env(t)))
	defer s.Close()
	for i := range 40 {
		var rows []string
		for k := range 100 {
			rows = append(rows, fmt.Sprint("no name ", i, " ", k))
		}
		require.Len(t, rowErrors(t, s.Write(t.Context(), batch(append(rows, "t")...))), 100)
	}
	require.Less(t, kafkasink.KnownTopics(s), 1500)
	require.NoError(t, s.Write(t.Context(), batch("t")))
}
