package kafkasink

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/kafka"
)

// Tests set these.
var (
	unknownWait = 5 * time.Second // how long a topic may take to appear
	topicAge    = 5 * time.Minute // when the number of partitions is looked up again
)

const unknownAgain = 30 * time.Second // when a missing topic is looked for again

// topic is what has to be known of a topic before a record is given to kgo.
type topic struct {
	name       string
	partitions int
	limit      int    // bytes of a batch of records
	told       bool   // by the topic's max.message.bytes
	by         string // the client's option that says less
	missing    error  // why nothing can be written to it
	until      time.Time
}

// takes says what the limit is, and whose.
func (t *topic) takes() string {
	switch {
	case t.by != "":
		return fmt.Sprintf("the client takes %d (kgo.%s in Opts)", t.limit, t.by)
	case t.told:
		return fmt.Sprintf("topic %s takes %d (max.message.bytes)", t.name, t.limit)
	}
	return fmt.Sprintf("of topic %s %d is taken for its limit, since its configuration can't be read: allow DescribeConfigs on it", t.name, t.limit)
}

// least lowers the limit.
func (t *topic) least(limit int, by string) {
	if limit < t.limit {
		t.limit, t.by = limit, by
	}
}

// topics knows the topics that were written to in this life. It is for one goroutine,
// but limit.
type topics struct {
	cl     *kgo.Client
	known  map[string]*topic
	absent int // how many were found missing since forget

	mu     sync.Mutex
	limits map[string]int32
}

func newTopics() *topics {
	return &topics{known: map[string]*topic{}, limits: map[string]int32{}}
}

// limit is kgo.ProducerBatchMaxBytesFn. kgo asks once, when it learns of the topic's
// partitions, which is after look.
func (ts *topics) limit(name string) int32 {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if n, ok := ts.limits[name]; ok {
		return n
	}
	return defaultMaxMessage
}

// get is the topic, or nil when it has to be looked up.
func (ts *topics) get(name string, now time.Time) *topic {
	t := ts.known[name]
	if t != nil && t.until.Before(now) {
		return nil
	}
	return t
}

// maxAbsent bounds the topics that are remembered to be missing: with TopicOf their names may come
// from outside.
const maxAbsent = 1000

// forget makes room for others. Not to be called while topics that were looked up are in use.
func (ts *topics) forget() {
	if ts.absent > maxAbsent {
		ts.absent = 0
		maps.DeleteFunc(ts.known, func(_ string, t *topic) bool { return t.missing != nil })
	}
}

// lookNew looks up those that are not known, or not any more. Empty names are passed over.
func (ts *topics) lookNew(ctx context.Context, names []string) error {
	now := time.Now()
	var unknown []string
	last := ""
	for _, name := range names {
		if name == last {
			continue
		}
		if last = name; name != "" && ts.get(name, now) == nil {
			unknown = append(unknown, name)
		}
	}
	if len(unknown) == 0 {
		return nil
	}
	slices.Sort(unknown)
	return ts.look(ctx, slices.Compact(unknown))
}

// look looks topics up. That one is missing is said in it; an error is about all of them.
func (ts *topics) look(ctx context.Context, names []string) error {
	var left []string
	for _, name := range names {
		if err := checkTopic(name); err != nil {
			ts.known[name] = &topic{name: name, missing: err, until: time.Now().Add(unknownAgain)}
			ts.absent++
			continue
		}
		left = append(left, name)
	}
	for end := time.Now().Add(unknownWait); len(left) > 0; {
		found, missing, err := ts.metadata(ctx, left)
		if err != nil {
			return err
		}
		if err := ts.configs(ctx, found); err != nil {
			return err
		}
		left = left[:0]
		for name, why := range missing {
			if retriable(why) && time.Now().Before(end) {
				left = append(left, name)
				continue
			}
			unknown := errors.Is(why, kerr.UnknownTopicOrPartition)
			if retriable(why) && !unknown { // rule B8: it goes away by itself
				return leat.Transient(fmt.Errorf("topic %s: %w", name, why))
			}
			t := &topic{name: name, until: time.Now().Add(unknownAgain)}
			switch {
			case unknown:
				t.missing = fmt.Errorf("topic %s does not exist on this cluster: create it, or mend the name: %w", name, why)
			case errors.Is(why, kerr.TopicAuthorizationFailed):
				t.missing = fmt.Errorf("topic %s can't be written with these credentials, which takes Write on it: %w", name, why)
			default:
				t.missing = fmt.Errorf("topic %s: %w", name, why)
			}
			ts.known[name] = t
			ts.absent++
		}
		if len(left) > 0 {
			if err := kafka.Sleep(ctx, 50*time.Millisecond); err != nil {
				return err
			}
		}
	}
	return nil
}

// metadata finds the partitions, and why there are none.
func (ts *topics) metadata(ctx context.Context, names []string) (found []*topic, missing map[string]error, err error) {
	req := kmsg.NewPtrMetadataRequest()
	req.AllowAutoTopicCreation, _ = ts.cl.OptValue(kgo.AllowAutoTopicCreation).(bool)
	for _, name := range names {
		t := kmsg.NewMetadataRequestTopic()
		t.Topic = kmsg.StringPtr(name)
		req.Topics = append(req.Topics, t)
	}
	resp, err := req.RequestWith(ctx, ts.cl)
	if err != nil {
		return nil, nil, asTransient(ctx, ts.cl, fmt.Errorf("asking the cluster for topics: %w", err))
	}
	missing = map[string]error{}
	for _, t := range resp.Topics {
		if t.Topic == nil {
			continue
		}
		if err := kerr.ErrorForCode(t.ErrorCode); err != nil {
			missing[*t.Topic] = err
			continue
		}
		found = append(found, &topic{
			name: *t.Topic, partitions: len(t.Partitions), limit: defaultMaxMessage, until: time.Now().Add(topicAge),
		})
	}
	if got := len(found) + len(missing); got < len(names) {
		return nil, nil, leat.Transient(fmt.Errorf("the broker answered for %d of %d topics", got, len(names)))
	}
	return found, missing, nil
}

// configs finds how large records may be.
func (ts *topics) configs(ctx context.Context, found []*topic) error {
	if len(found) == 0 {
		return nil
	}
	req := kmsg.NewPtrDescribeConfigsRequest()
	for _, t := range found {
		r := kmsg.NewDescribeConfigsRequestResource()
		r.ResourceType, r.ResourceName, r.ConfigNames = kmsg.ConfigResourceTypeTopic, t.name, []string{"max.message.bytes"}
		req.Resources = append(req.Resources, r)
	}
	// Who may write to a topic need not be allowed to read its configuration: then the
	// default holds, and what is too large all the same is found by careful mode. A broker that
	// can't tell at the moment is asked again: a default that is too low would cost rows (rule B1).
	for _, shard := range ts.cl.RequestSharded(ctx, req) {
		if shard.Err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err := shard.Err; unanswered(err) {
				return leat.Transient(fmt.Errorf("asking for the configuration of topics: %w", err))
			}
			continue // a broker that knows no such request, say
		}
		for _, r := range shard.Resp.(*kmsg.DescribeConfigsResponse).Resources {
			if err := kerr.ErrorForCode(r.ErrorCode); retriable(err) {
				return leat.Transient(fmt.Errorf("asking for the configuration of topic %s: %w", r.ResourceName, err))
			}
			for _, c := range r.Configs {
				if c.Name != "max.message.bytes" || c.Value == nil {
					continue
				}
				n, err := strconv.ParseInt(*c.Value, 10, 32)
				i := slices.IndexFunc(found, func(t *topic) bool { return t.name == r.ResourceName })
				if err == nil && i >= 0 {
					found[i].limit, found[i].told = int(min(max(n, 512), 1<<30)), true
				}
			}
		}
	}
	ts.mu.Lock()
	for _, t := range found {
		ts.limits[t.name] = int32(t.limit)
	}
	ts.mu.Unlock()
	// The user's own options may say less.
	fn, _ := ts.cl.OptValue(kgo.ProducerBatchMaxBytesFn).(func(string) int32)
	buffer, _ := ts.cl.OptValue(kgo.MaxBufferedBytes).(int64)
	write, _ := ts.cl.OptValue(kgo.BrokerMaxWriteBytes).(int32)
	for _, t := range found {
		if fn != nil {
			t.least(int(fn(t.name)), "ProducerBatchMaxBytes")
		}
		if buffer > 0 {
			t.least(int(buffer), "MaxBufferedBytes")
		}
		if write > 0 {
			t.least(int(write)-1024-len(t.name), "BrokerMaxWriteBytes")
		}
		ts.known[t.name] = t
	}
	return nil
}

// unanswered tells that a request failed on the way, or that the broker is busy, and not that it
// does not want to answer.
func unanswered(err error) bool {
	var ne net.Error
	return kerr.IsRetriable(err) || kgo.IsRetryableBrokerErr(err) || errors.Is(err, io.EOF) || errors.As(err, &ne) || errors.Is(err, context.DeadlineExceeded)
}
