package kafka

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Offset is a position as a group keeps it. What an offset alone can't say is in the
// commit's metadata.
type Offset struct {
	Next   int64
	Resume string // as leat.Position
	Log    string // as leat.Position; see LogOf
	Mark   string // which transaction has committed it; "" when none has

	// Whole is what a transaction says of the sinks that are not part of it: 1 + the offset up to which
	// all sinks behind the source have the rows; negative: not known. 0: no transaction has
	// committed it, and that offset is Next.
	Whole int64
}

// metadata is the form of Offset in a group. Whoever adds a field: a broker takes 4,096
// bytes (offset.metadata.max.bytes).
type metadata struct {
	Leat   int    `json:"leat"` // version
	Log    string `json:"log,omitempty"`
	Resume string `json:"resume,omitempty"`
	Mark   string `json:"mark,omitempty"`
	Whole  int64  `json:"whole,omitempty"`
}

const metadataVersion = 1

func (o Offset) metadata() string {
	js, err := json.Marshal(metadata{metadataVersion, o.Log, o.Resume, o.Mark, o.Whole})
	if err != nil { // of strings: never
		panic(err)
	}
	return string(js)
}

// ErrMetadata is about a committed offset that this program can't make sense of: asking again
// does not help.
var ErrMetadata = errors.New("what was committed with it can't be read")

// offsetOf undoes metadata. What another program has committed is an offset alone.
func offsetOf(next int64, meta string) (Offset, error) {
	o := Offset{Next: next}
	if !strings.HasPrefix(meta, `{"leat":`) {
		return o, nil
	}
	var m metadata
	switch err := json.Unmarshal([]byte(meta), &m); {
	case err != nil:
		return o, fmt.Errorf("%w: the metadata of its committed offset is damaged: %w", ErrMetadata, err)
	case m.Leat > metadataVersion:
		return o, fmt.Errorf("%w: its offset was committed by a newer version of leat (metadata %d, this program knows %d): use that version", ErrMetadata, m.Leat, metadataVersion)
	}
	o.Log, o.Resume, o.Mark, o.Whole = m.Log, m.Resume, m.Mark, m.Whole
	return o, nil
}

// LogOf is leat.Position.Log of a topic: its id in Kafka's own spelling, so that it can
// be compared with what kafka-topics prints. It is "" for brokers without topic ids
// (before 2.8).
func LogOf(id [16]byte) string {
	if id == ([16]byte{}) {
		return ""
	}
	return base64.RawURLEncoding.EncodeToString(id[:])
}

// TopicIDOf undoes LogOf; zero when log is no topic id.
func TopicIDOf(log string) (id [16]byte) {
	b, err := base64.RawURLEncoding.DecodeString(log)
	if err != nil || len(b) != len(id) {
		return id
	}
	return [16]byte(b)
}

// byTopic gives the partitions of each topic, both in order.
func byTopic[V any](at map[TopicPartition]V, yield func(topic string, partitions []int32)) {
	topics := map[string][]int32{}
	for tp := range at {
		topics[tp.Topic] = append(topics[tp.Topic], tp.Partition)
	}
	names := make([]string, 0, len(topics))
	for name := range topics {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		slices.Sort(topics[name])
		yield(name, topics[name])
	}
}

// FetchOffsets reads what the group has committed of the partitions. It waits until no
// transaction that commits them is pending (KIP-447), and calls waiting, if set, each
// time that it has to. A partition of which nothing is committed is missing from the
// result.
func FetchOffsets(ctx context.Context, cl *kgo.Client, group string, of []TopicPartition, waiting func()) (map[TopicPartition]Offset, error) {
	for {
		out, open, err := StableOffsets(ctx, cl, group, of)
		if err != nil || len(open) == 0 {
			return out, err
		}
		if waiting != nil {
			waiting()
		}
		if err := Sleep(ctx, 20*time.Millisecond); err != nil {
			return nil, fmt.Errorf("group %s: waiting for a transaction that is committing its offsets: %w", group, err)
		}
	}
}

// StableOffsets is FetchOffsets without the waiting: open are the partitions whose offset is
// not known before a transaction has ended.
func StableOffsets(ctx context.Context, cl *kgo.Client, group string, of []TopicPartition) (out map[TopicPartition]Offset, open []TopicPartition, err error) {
	ask := make(map[TopicPartition]struct{}, len(of))
	for _, tp := range of {
		ask[tp] = struct{}{}
	}
	out = make(map[TopicPartition]Offset, len(of))
	if len(ask) == 0 {
		return out, nil, nil
	}
	req := kmsg.NewPtrOffsetFetchRequest()
	req.RequireStable = true
	g := kmsg.NewOffsetFetchRequestGroup()
	g.Group = group
	byTopic(ask, func(topic string, partitions []int32) {
		t := kmsg.NewOffsetFetchRequestGroupTopic()
		t.Topic, t.Partitions = topic, partitions
		g.Topics = append(g.Topics, t)
	})
	req.Groups = append(req.Groups, g)
	resp, err := req.RequestWith(ctx, cl)
	if err != nil {
		return nil, nil, fmt.Errorf("reading the offsets of group %s: %w", group, err)
	}
	if err := kerr.ErrorForCode(resp.ErrorCode); err != nil {
		return nil, nil, fmt.Errorf("reading the offsets of group %s: %w", group, err)
	}
	answered := 0
	for _, rg := range resp.Groups {
		if err := kerr.ErrorForCode(rg.ErrorCode); err != nil {
			return nil, nil, fmt.Errorf("reading the offsets of group %s: %w", group, err)
		}
		for _, t := range rg.Topics {
			for _, p := range t.Partitions {
				tp := TopicPartition{t.Topic, p.Partition}
				err := kerr.ErrorForCode(p.ErrorCode)
				switch {
				case errors.Is(err, kerr.UnstableOffsetCommit):
					answered++
					open = append(open, tp)
					continue
				case err != nil:
					return nil, nil, fmt.Errorf("reading the offset of group %s for %s: %w", group, tp, err)
				}
				answered++
				if p.Offset < 0 {
					continue
				}
				meta := ""
				if p.Metadata != nil {
					meta = *p.Metadata
				}
				if out[tp], err = offsetOf(p.Offset, meta); err != nil {
					return nil, nil, fmt.Errorf("group %s, %s: %w", group, tp, err)
				}
			}
		}
	}
	if answered < len(ask) { // never take silence for "nothing committed"
		return nil, nil, fmt.Errorf("reading the offsets of group %s: the broker answered for %d of %d partitions", group, answered, len(ask))
	}
	return out, open, nil
}

// CommitOffsets commits offsets as the member, outside of any transaction. The error
// wraps the broker's of the first partition that was refused.
func CommitOffsets(ctx context.Context, cl *kgo.Client, m Member, at map[TopicPartition]Offset) error {
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Group, req.Generation, req.MemberID, req.InstanceID = m.Group, m.Generation, m.ID, m.InstanceID
	byTopic(at, func(topic string, partitions []int32) {
		t := kmsg.NewOffsetCommitRequestTopic()
		t.Topic = topic
		for _, n := range partitions {
			o := at[TopicPartition{topic, n}]
			t.TopicID = TopicIDOf(o.Log)
			p := kmsg.NewOffsetCommitRequestTopicPartition()
			p.Partition, p.Offset, p.Metadata = n, o.Next, kmsg.StringPtr(o.metadata())
			t.Partitions = append(t.Partitions, p)
		}
		req.Topics = append(req.Topics, t)
	})
	resp, err := req.RequestWith(ctx, cl)
	if err != nil {
		return fmt.Errorf("committing offsets of group %s: %w", m.Group, err)
	}
	answered := 0
	for i, t := range resp.Topics {
		for _, p := range t.Partitions {
			if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
				return fmt.Errorf("committing the offset of group %s for %s: %w", m.Group, TopicPartition{nameOf(t.Topic, req.Topics, i), p.Partition}, err)
			}
			answered++
		}
	}
	return silence(m, answered, len(at))
}

// silence is never taken for yes.
func silence(m Member, answered, asked int) error {
	if answered < asked {
		return fmt.Errorf("committing offsets of group %s: the broker answered for %d of %d partitions", m.Group, answered, asked)
	}
	return nil
}

func nameOf(name string, asked []kmsg.OffsetCommitRequestTopic, i int) string {
	if name == "" && i < len(asked) { // by id only
		return asked[i].Topic
	}
	return name
}

// Txn names a producer's open transaction.
type Txn struct {
	ID       string // the transactional id
	Producer int64
	Epoch    int16

	// V2 says that the cluster runs transactions by KIP-890 part 2, so that the commit of
	// offsets joins the transaction by itself.
	V2 bool
}

// CommitOffsetsIn commits offsets as the member and as a part of the transaction. Errors
// are as CommitOffsets'.
func CommitOffsetsIn(ctx context.Context, cl *kgo.Client, tx Txn, m Member, at map[TopicPartition]Offset) error {
	if !tx.V2 {
		req := kmsg.NewPtrAddOffsetsToTxnRequest()
		req.TransactionalID, req.ProducerID, req.ProducerEpoch, req.Group = tx.ID, tx.Producer, tx.Epoch, m.Group
		resp, err := req.RequestWith(ctx, cl)
		if err == nil {
			err = kerr.ErrorForCode(resp.ErrorCode)
		}
		if err != nil {
			return fmt.Errorf("adding group %s to the transaction: %w", m.Group, err)
		}
	}
	req := kmsg.NewPtrTxnOffsetCommitRequest()
	req.TransactionalID, req.ProducerID, req.ProducerEpoch = tx.ID, tx.Producer, tx.Epoch
	req.Group, req.Generation, req.MemberID, req.InstanceID = m.Group, m.Generation, m.ID, m.InstanceID
	byTopic(at, func(topic string, partitions []int32) {
		t := kmsg.NewTxnOffsetCommitRequestTopic()
		t.Topic = topic
		for _, n := range partitions {
			o := at[TopicPartition{topic, n}]
			t.TopicID = TopicIDOf(o.Log)
			p := kmsg.NewTxnOffsetCommitRequestTopicPartition()
			p.Partition, p.Offset, p.Metadata = n, o.Next, kmsg.StringPtr(o.metadata())
			t.Partitions = append(t.Partitions, p)
		}
		req.Topics = append(req.Topics, t)
	})
	resp, err := txnOffsetCommit(ctx, cl, tx, req)
	if err != nil {
		return fmt.Errorf("committing offsets of group %s: %w", m.Group, err)
	}
	if resp.Version < 3 { // the member was not in the request, so a zombie would not be refused
		return fmt.Errorf("committing offsets of group %s: %w: transactions need brokers of version 2.5 or later (KIP-447)", m.Group, kerr.UnsupportedVersion)
	}
	answered := 0
	for i, t := range resp.Topics {
		if t.Topic == "" && i < len(req.Topics) {
			t.Topic = req.Topics[i].Topic
		}
		for _, p := range t.Partitions {
			if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
				return fmt.Errorf("committing the offset of group %s for %s: %w", m.Group, TopicPartition{t.Topic, p.Partition}, err)
			}
			answered++
		}
	}
	return silence(m, answered, len(at))
}

// CommitAgain asks for the commit of a transaction of which nobody knows whether it was committed,
// until the coordinator says that it is, or that it can't be any more. An epoch must be that of one
// transaction alone (V2): then asking again asks for the same.
func CommitAgain(ctx context.Context, cl *kgo.Client, tx Txn) error {
	req := kmsg.NewPtrEndTxnRequest()
	req.TransactionalID, req.ProducerID, req.ProducerEpoch, req.Commit = tx.ID, tx.Producer, tx.Epoch, true
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		resp, err := req.RequestWith(ctx, cl)
		if err == nil {
			err = kerr.ErrorForCode(resp.ErrorCode)
		}
		if err == nil || Final(err) {
			return err
		}
		if Sleep(ctx, wait) != nil {
			return err
		}
	}
}

// Final tells whether an error of ending a transaction is an answer that will not change, or
// the client's that it has not asked: it does not commit what it knows to be lost in part.
func Final(err error) bool {
	var answer *kerr.Error
	return errors.As(err, &answer) && !answer.Retriable &&
		answer != kerr.ConcurrentTransactions && // its markers are being written
		answer != kerr.UnknownServerError
}

func txnOffsetCommit(ctx context.Context, cl *kgo.Client, tx Txn, req *kmsg.TxnOffsetCommitRequest) (*kmsg.TxnOffsetCommitResponse, error) {
	if tx.V2 {
		return req.RequestWith(ctx, cl)
	}
	// A broker of 4.0 and later in a cluster that has not switched KIP-890 on knows version
	// 5, which would begin to use it; kgo can't be told for one request, so that the
	// coordinator is looked for here.
	find := kmsg.NewPtrFindCoordinatorRequest()
	find.CoordinatorKey, find.CoordinatorType = req.Group, 0
	found, err := find.RequestWith(ctx, cl)
	if err != nil {
		return nil, err
	}
	node, code := found.NodeID, found.ErrorCode
	if len(found.Coordinators) > 0 {
		node, code = found.Coordinators[0].NodeID, found.Coordinators[0].ErrorCode
	}
	if err := kerr.ErrorForCode(code); err != nil {
		return nil, err
	}
	resp, err := cl.Broker(int(node)).Request(ctx, txnOffsetCommitV1{req})
	if err != nil {
		return nil, err
	}
	return resp.(*kmsg.TxnOffsetCommitResponse), nil
}

// txnOffsetCommitV1 is the request in its last version before KIP-890 part 2.
type txnOffsetCommitV1 struct{ *kmsg.TxnOffsetCommitRequest }

func (txnOffsetCommitV1) MaxVersion() int16 { return 4 }

// TransactionsV2 tells whether the cluster runs transactions by KIP-890 part 2.
func TransactionsV2(ctx context.Context, cl *kgo.Client) (bool, error) {
	resp, err := kmsg.NewPtrApiVersionsRequest().RequestWith(ctx, cl)
	if err == nil {
		err = kerr.ErrorForCode(resp.ErrorCode)
	}
	if err != nil {
		return false, fmt.Errorf("asking for the cluster's features: %w", err)
	}
	for _, f := range resp.FinalizedFeatures {
		if f.Name == "transaction.version" {
			return f.MaxVersionLevel >= 2, nil
		}
	}
	return false, nil
}

// Sleep waits, or returns the context's error.
func Sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
