package kafkasource

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/kafka"
)

// How long brokers and topics are waited for. The client by itself would wait for ever,
// and silently. Variables for the tests.
var (
	brokerWait = 10 * time.Second
	topicWait  = 10 * time.Second
)

// metadataAge is within what time new partitions and topics are noticed.
const metadataAge = 30 * time.Second

// missingTopic is after what time a topic that is not there any more counts as deleted.
const missingTopic = 15 * time.Second

// Fetches are bounded by these, before decompression: each broker has one that is being read and one that is asked for.
const (
	fetchBytes          = 8 << 20
	fetchPartitionBytes = 1 << 20
	fetchWait           = 500 * time.Millisecond
	// The client asks for nothing more of a broker while it waits for an answer, and does not ask for partitions whose
	// records are still in its hands. So at the end of a drain the last of them would wait for what has no more.
	drainWait = 20 * time.Millisecond
)

func (s *Source[T]) logger() *slog.Logger {
	if l := s.log.Load(); l != nil {
		return l
	}
	return slog.New(slog.DiscardHandler)
}

func (s *Source[T]) fetchWait() time.Duration {
	if s.config.Drain {
		return drainWait
	}
	return fetchWait
}

// client makes a client; own is what the caller can't do without.
func (s *Source[T]) client(own ...kgo.Opt) (*kgo.Client, error) {
	opts := []kgo.Opt{
		kgo.SeedBrokers(s.config.Brokers...),
		kgo.ClientID("leat"),
		kgo.WithLogger(kafka.Logger(s.logger())),
		kgo.DisableClientMetrics(),
		kgo.MetadataMaxAge(metadataAge),
		kgo.FetchMaxBytes(fetchBytes),
		kgo.FetchMaxPartitionBytes(fetchPartitionBytes),
		kgo.FetchMaxWait(s.fetchWait()),
	}
	if t := s.full.SessionTimeout; s.config.Group != "" && t < 12*time.Second { // a few heartbeats for each timeout
		opts = append(opts, kgo.HeartbeatInterval(max(t/4, 50*time.Millisecond)))
	}
	if t := 2 * s.full.RevokeBudget; s.config.Group != "" && t > time.Minute { // kgo's own, after which a member that is at it is sent away
		opts = append(opts, kgo.RebalanceTimeout(t))
	}
	cl, err := kgo.NewClient(slices.Concat(opts, s.config.Opts, own)...)
	if err != nil {
		return nil, fmt.Errorf("kafkasource: %w", err)
	}
	return cl, nil
}

// fetcher makes the client of one Run. It gets partitions with exact offsets, and never
// moves one by itself (rule J1).
func (s *Source[T]) fetcher() (*kgo.Client, error) {
	isolation := kgo.ReadCommitted()
	if s.config.ReadUncommitted {
		isolation = kgo.ReadUncommitted()
	}
	return s.client(
		kgo.FetchIsolationLevel(isolation),
		kgo.KeepControlRecords(), // they move the position
		kgo.ConsumeResetOffset(kgo.NoResetOffset()),
		kgo.WithPools(&s.pool),
	)
}

// connect sees to it that there is a cluster with the topics, and joins the group. It
// does nothing if an earlier Run has done it.
func (s *Source[T]) connect(ctx context.Context) error {
	if s.member.Load() == nil {
		if s.closed.Load() {
			return errors.New("kafkasource: the source is closed")
		}
		ask, err := s.client()
		if err != nil {
			return err
		}
		if err := s.exist(ctx, ask); err != nil || s.config.Group == "" {
			if err != nil {
				ask.Close()
				return err
			}
			s.member.Store(ask)
			return nil
		}
		ask.Close()
		cl, err := s.client(s.groupOpts()...)
		if err != nil {
			return err
		}
		s.own.as(cl.GroupMetadata)
		s.member.Store(cl)
		return nil
	}
	return s.exist(ctx, s.member.Load())
}

// exist waits a while for the topics, which may have been made just now.
func (s *Source[T]) exist(ctx context.Context, cl *kgo.Client) error {
	for deadline := time.Now().Add(topicWait); ; {
		topics, err := s.topics(ctx, cl)
		if err != nil {
			return err
		}
		var missing []string
		for topic, ps := range s.config.Partitions {
			if d, ok := topics[topic]; ok {
				for _, p := range ps {
					if _, ok := d.Partitions[p]; !ok {
						missing = append(missing, topicPartition{Topic: topic, Partition: p}.String())
					}
				}
			} else {
				missing = append(missing, topic)
			}
		}
		for _, topic := range s.config.Topics {
			if _, ok := topics[topic]; !ok {
				missing = append(missing, topic)
			}
		}
		none := s.config.Pattern != "" && len(topics) == 0 && s.config.Drain
		if len(missing) == 0 && !none {
			return nil
		}
		if time.Now().After(deadline) {
			brokers := strings.Join(s.config.Brokers, ", ")
			if none {
				return fmt.Errorf("kafkasource: no topic on %s matches the pattern %q, so there is nothing to drain", brokers, s.config.Pattern)
			}
			slices.Sort(missing)
			return fmt.Errorf("kafkasource: %s has no %s (looked for %v): create it, or correct Topics; topics are never created by reading", brokers, strings.Join(missing, ", "), topicWait)
		}
		if err := kafka.Sleep(ctx, 250*time.Millisecond); err != nil {
			return err
		}
	}
}

// topics are those that are to be read and exist.
func (s *Source[T]) topics(ctx context.Context, cl *kgo.Client) (kadm.TopicDetails, error) {
	var ask []string
	switch {
	case len(s.config.Topics) > 0:
		ask = s.config.Topics
	case len(s.config.Partitions) > 0:
		for topic := range s.config.Partitions {
			ask = append(ask, topic)
		}
	}
	all, err := s.metadata(ctx, cl, ask...)
	if err != nil {
		return nil, err
	}
	var pattern *regexp.Regexp
	if s.config.Pattern != "" {
		if pattern, err = regexp.Compile(wholeName(s.config.Pattern)); err != nil {
			return nil, err
		}
	}
	out := kadm.TopicDetails{}
	for name, d := range all {
		switch {
		case d.IsInternal && pattern != nil, pattern != nil && !pattern.MatchString(name):
		case errors.Is(d.Err, kerr.UnknownTopicOrPartition), d.Err == nil && len(d.Partitions) == 0:
		case errors.Is(d.Err, kerr.TopicAuthorizationFailed), errors.Is(d.Err, kerr.InvalidTopicException):
			return nil, fmt.Errorf("kafkasource: topic %s: %w", name, d.Err)
		case d.Err != nil:
			return nil, leat.Transient(fmt.Errorf("kafkasource: topic %s: %w", name, d.Err))
		default:
			out[name] = d
		}
	}
	return out, nil
}

func (s *Source[T]) metadata(ctx context.Context, cl *kgo.Client, topics ...string) (kadm.TopicDetails, error) {
	var m kadm.Metadata
	auth := (*kadm.AuthError)(nil)
	err := s.ask(ctx, cl, "asking for the topics", func(ctx context.Context) (err error) {
		m, err = kadm.NewClient(cl).Metadata(ctx, topics...)
		if len(topics) == 1 && errors.As(err, &auth) {
			err = fmt.Errorf("topic %s can't be read with these credentials, which takes Read on it: %w", topics[0], err)
		}
		return err
	})
	if len(topics) > 1 && errors.As(err, &auth) { // kadm does not say which
		for _, topic := range topics {
			if _, err := s.metadata(ctx, cl, topic); errors.As(err, &auth) {
				return nil, err
			}
		}
	}
	return m.Topics, err
}

// ask bounds a question to the cluster, which the client would repeat for ever.
func (s *Source[T]) ask(ctx context.Context, cl *kgo.Client, what string, f func(ctx context.Context) error) error {
	bounded, cancel := context.WithTimeout(ctx, brokerWait)
	defer cancel()
	err := f(bounded)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case bounded.Err() != nil:
		ping, cancel := context.WithTimeout(ctx, brokerWait/5)
		defer cancel()
		if why := cl.Ping(ping); why != nil { // it does not repeat, so it knows why
			err = why
		}
		err = fmt.Errorf("no answer within %v: %w", brokerWait, err)
	}
	refusal, err := kafka.Refused(ctx, cl, err)
	err = fmt.Errorf("kafkasource: brokers %s: %s: %w", strings.Join(s.config.Brokers, ", "), what, err)
	if auth := (*kadm.AuthError)(nil); refusal == kafka.Lasting || errors.As(err, &auth) {
		return err
	}
	return leat.Transient(err)
}

// listed makes kadm's answer flat. A partition that can't be asked is an error.
func listed(l kadm.ListedOffsets, of map[topicPartition]uint64) (map[topicPartition]int64, error) {
	out := make(map[topicPartition]int64, len(of))
	for tp := range of {
		o, ok := l.Lookup(tp.Topic, tp.Partition)
		switch {
		case !ok:
			return nil, fmt.Errorf("%s: %w", tp, kerr.UnknownTopicOrPartition)
		case o.Err != nil:
			return nil, fmt.Errorf("%s: %w", tp, o.Err)
		}
		out[tp] = o.Offset
	}
	return out, nil
}

// starts and ends are the offsets that partitions have: of the first record, and behind
// the last one that may be read.
func (s *Source[T]) starts(ctx context.Context, of map[topicPartition]uint64) (map[topicPartition]int64, error) {
	return s.list(ctx, of, "asking where partitions begin", (*kadm.Client).ListStartOffsets)
}

func (s *Source[T]) ends(ctx context.Context, of map[topicPartition]uint64) (map[topicPartition]int64, error) {
	if s.config.ReadUncommitted {
		return s.list(ctx, of, "asking where partitions end", (*kadm.Client).ListEndOffsets)
	}
	return s.list(ctx, of, "asking where partitions end", (*kadm.Client).ListCommittedOffsets)
}

// after are the offsets of the first records that are not before t; -1 where there is none.
func (s *Source[T]) after(ctx context.Context, of map[topicPartition]uint64, t time.Time) (map[topicPartition]int64, error) {
	return s.list(ctx, of, "looking for the first record after StartAt", func(cl *kadm.Client, ctx context.Context, topics ...string) (kadm.ListedOffsets, error) {
		l, err := cl.ListOffsetsAfterMilli(ctx, max(t.UnixMilli(), 0), topics...) // -1 would be the end
		for _, ps := range l {
			for n, o := range ps {
				if o.Timestamp < 0 { // kadm asks for the end then, and by now there may be a record before it
					o.Offset = -1
					ps[n] = o
				}
			}
		}
		return l, err
	})
}

func (s *Source[T]) list(ctx context.Context, of map[topicPartition]uint64, what string, ask func(*kadm.Client, context.Context, ...string) (kadm.ListedOffsets, error)) (out map[topicPartition]int64, err error) {
	if len(of) == 0 {
		return nil, nil
	}
	cl := s.member.Load()
	if cl == nil {
		return nil, errors.New("kafkasource: the source is closed")
	}
	var topics []string
	for tp := range of {
		topics = append(topics, tp.Topic)
	}
	slices.Sort(topics)
	err = s.ask(ctx, cl, what, func(ctx context.Context) error {
		l, err := ask(kadm.NewClient(cl), ctx, slices.Compact(topics)...)
		// kadm asks for the whole topics, so others may be what failed.
		var some *kadm.ShardErrors
		if err != nil && !errors.As(err, &some) {
			return err
		}
		if found, fault := listed(l, of); fault == nil || some == nil {
			out, err = found, fault
		}
		return err
	})
	return out, err
}

func sortPartitions(tps []topicPartition) {
	slices.SortFunc(tps, func(a, b topicPartition) int {
		return cmp.Or(strings.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
}
