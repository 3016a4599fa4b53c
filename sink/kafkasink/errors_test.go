package kafkasink_test

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/leattest"
	"github.com/leatgo/leat/sink/kafkasink"
)

// refusal is the answer to req with an error.
func refusal(req kmsg.Request, code int16) kmsg.Response {
	switch req := req.(type) {
	case *kmsg.ProduceRequest:
		return produceError(req, kerr.ErrorForCode(code).(*kerr.Error))
	case *kmsg.TxnOffsetCommitRequest:
		resp := req.ResponseKind().(*kmsg.TxnOffsetCommitResponse)
		for _, t := range req.Topics {
			rt := kmsg.NewTxnOffsetCommitResponseTopic()
			rt.Topic, rt.TopicID = t.Topic, t.TopicID
			for _, p := range t.Partitions {
				rp := kmsg.NewTxnOffsetCommitResponseTopicPartition()
				rp.Partition, rp.ErrorCode = p.Partition, code
				rt.Partitions = append(rt.Partitions, rp)
			}
			resp.Topics = append(resp.Topics, rt)
		}
		return resp
	case *kmsg.OffsetCommitRequest:
		resp := req.ResponseKind().(*kmsg.OffsetCommitResponse)
		for _, t := range req.Topics {
			rt := kmsg.NewOffsetCommitResponseTopic()
			rt.Topic, rt.TopicID = t.Topic, t.TopicID
			for _, p := range t.Partitions {
				rp := kmsg.NewOffsetCommitResponseTopicPartition()
				rp.Partition, rp.ErrorCode = p.Partition, code
				rt.Partitions = append(rt.Partitions, rp)
			}
			resp.Topics = append(resp.Topics, rt)
		}
		return resp
	case *kmsg.AddPartitionsToTxnRequest:
		resp := req.ResponseKind().(*kmsg.AddPartitionsToTxnResponse)
		resp.ErrorCode = code
		for _, t := range req.Topics {
			rt := kmsg.NewAddPartitionsToTxnResponseTopic()
			rt.Topic = t.Topic
			for _, p := range t.Partitions {
				rp := kmsg.NewAddPartitionsToTxnResponseTopicPartition()
				rp.Partition, rp.ErrorCode = p, code
				rt.Partitions = append(rt.Partitions, rp)
			}
			resp.Topics = append(resp.Topics, rt)
		}
		return resp
	case *kmsg.OffsetFetchRequest:
		resp := req.ResponseKind().(*kmsg.OffsetFetchResponse)
		resp.ErrorCode = code
		for _, g := range req.Groups {
			rg := kmsg.NewOffsetFetchResponseGroup()
			rg.Group, rg.ErrorCode = g.Group, code
			resp.Groups = append(resp.Groups, rg)
		}
		return resp
	case *kmsg.AddOffsetsToTxnRequest:
		resp := req.ResponseKind().(*kmsg.AddOffsetsToTxnResponse)
		resp.ErrorCode = code
		return resp
	case *kmsg.EndTxnRequest:
		resp := req.ResponseKind().(*kmsg.EndTxnResponse)
		resp.ErrorCode = code
		return resp
	case *kmsg.InitProducerIDRequest:
		resp := req.ResponseKind().(*kmsg.InitProducerIDResponse)
		resp.ErrorCode, resp.ProducerID, resp.ProducerEpoch = code, -1, -1
		return resp
	}
	panic(fmt.Sprintf("%T", req))
}

// Rules E4, J3: whatever the broker answers to a request of a transaction, or if it breaks
// the connection instead, each row is there once in the end.
func TestErrorsInTransactions(t *testing.T) {
	moved := []*kerr.Error{kerr.NotCoordinator, kerr.CoordinatorLoadInProgress, kerr.CoordinatorNotAvailable, kerr.RequestTimedOut, nil}
	lost := append(slices.Clone(moved), kerr.UnknownServerError)
	tx := append(slices.Clone(lost), kerr.ConcurrentTransactions, kerr.ProducerFenced, kerr.InvalidProducerEpoch, kerr.InvalidTxnState)
	group := append(slices.Clone(moved), kerr.IllegalGeneration, kerr.RebalanceInProgress, kerr.UnknownMemberID, kerr.FencedInstanceID, kerr.UnknownTopicOrPartition)
	afters := []int32{2}
	if os.Getenv("LEAT_LONG") == "1" {
		afters = []int32{0, 1, 2, 3}
	}
	for name, versions := range map[string]*kversion.Versions{"now": kversion.Stable(), "before KIP-890": kversion.V3_6_0()} {
		for key, answers := range map[kmsg.Key][]*kerr.Error{
			kmsg.InitProducerID: append(slices.Clone(lost), kerr.ProducerFenced, kerr.InvalidProducerEpoch, kerr.ConcurrentTransactions), kmsg.AddPartitionsToTxn: tx, kmsg.EndTxn: tx, kmsg.AddOffsetsToTxn: tx,
			kmsg.TxnOffsetCommit: append(slices.Clone(tx), group...), kmsg.OffsetCommit: group, kmsg.OffsetFetch: lost,
			kmsg.Produce: {nil, kerr.NotLeaderForPartition, kerr.OutOfOrderSequenceNumber, kerr.InvalidProducerEpoch, kerr.InvalidTxnState, kerr.UnknownProducerID, kerr.NotEnoughReplicas},
		} {
			afters := afters
			if key == kmsg.InitProducerID && len(afters) == 1 {
				afters = []int32{0} // when the sinks open
			}
			for _, answer := range answers {
				for _, after := range afters {
					t.Run(fmt.Sprintf("%s: %s: %v after %d", name, key.Name(), answer, after), func(t *testing.T) {
						t.Parallel()
						c, brokers := fake(t, kfake.MaxVersions(versions))
						j := &job{brokers: brokers, name: "pedidos", rows: 40, bad: map[int]bool{3: true, 17: true, 18: true, 39: true}, letters: true, drain: true, timeout: time.Second}
						j.make(t)
						var seen atomic.Int32
						c.ControlKey(int16(key), func(req kmsg.Request) (kmsg.Response, error, bool) {
							if seen.Add(1) <= after {
								return nil, nil, false
							}
							if answer == nil {
								return nil, errors.New("the connection breaks"), true
							}
							return refusal(req, answer.Code), nil, true
						})
						j.config = leat.Config{StateDir: t.TempDir(), CheckpointEvery: 3 * time.Millisecond, Retry: leat.Retry{First: time.Millisecond, Max: 10 * time.Millisecond}}
						require.NoError(t, j.build().Run(t.Context()))
						want := j.want()
						slices.Sort(want)
						// Who is told that it was fenced, and was not, leaves a transaction open.
						for end := time.Now().Add(5 * time.Second); len(j.got(t)) < len(want) && time.Now().Before(end); {
							time.Sleep(20 * time.Millisecond)
						}
						got := j.got(t)
						slices.Sort(got)
						assert.Equal(t, want, got)
					})
				}
			}
		}
	}
}

// Rule B8: options with which no record could ever be written end the pipeline, and are not tried again for ever.
func TestOptionsThatLoseRecords(t *testing.T) {
	_, brokers := fake(t, kfake.SeedTopics(1, "t"))
	for want, opt := range map[string]kgo.Opt{
		"kgo.TransactionalID": kgo.TransactionalID("own"),
		"kgo.ManualFlushing":  kgo.ManualFlushing(),
	} {
		p := leat.New("prueba", leat.Config{StateDir: t.TempDir(), Retry: leat.Retry{First: time.Millisecond, Max: time.Millisecond, Attempts: 50}})
		rows := make([]string, 40_000)
		leat.To(leat.From(p, leattest.Rows(rows...)), kafkasink.New(kafkasink.Config[string]{Brokers: brokers, Topic: "t", Opts: []kgo.Opt{opt}}))
		err := p.Run(t.Context())
		require.ErrorContains(t, err, "leave "+want+" out of Opts")
		require.NotErrorIs(t, err, leat.ErrAborted)
	}
}
