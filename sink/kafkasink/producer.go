package kafkasink

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/kafka"
)

// producer is a client in one life of a sink, and what came of the records that it got.
// It is for one goroutine; kgo calls fail from another.
type producer struct {
	cl      *kgo.Client
	topics  *topics
	ctx     context.Context // of the records
	cancel  context.CancelFunc
	flights *sync.Pool // of *flight

	mu     sync.Mutex
	err    error // the first failure
	what   failure
	probed bool // failures are expected and somebody asks for them
}

// failure is what kind of thing went wrong with a record that kgo has given up.
type failure uint8

const (
	gone     failure = iota // the record is lost, but it is not its fault
	refused                 // the broker does not take this record (rule B5)
	hopeless                // it will not take any until somebody acts
)

func judge(err error) failure {
	for _, e := range []error{
		kerr.MessageTooLarge, kerr.RecordListTooLarge, kerr.InvalidTimestamp, kerr.InvalidRecord,
	} {
		if errors.Is(err, e) {
			return refused
		}
	}
	if denied(err) {
		return hopeless
	}
	return gone
}

// denied is not told of a login: one broker of several may refuse it (rule B8), which the next life
// asks (asTransient).
func denied(err error) bool {
	for _, e := range []error{
		kerr.TopicAuthorizationFailed, kerr.ClusterAuthorizationFailed, kerr.GroupAuthorizationFailed,
		kerr.TransactionalIDAuthorizationFailed,
		kerr.UnsupportedForMessageFormat, kerr.PolicyViolation,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// asTransient marks what may go away by itself (rule B8), and explains what does not.
func asTransient(ctx context.Context, cl *kgo.Client, err error) error {
	// Not by context.DeadlineExceeded: dialling a host that does not answer ends with it too.
	if err == nil || ctx.Err() != nil || errors.Is(err, context.Canceled) {
		return err
	}
	refusal, why := kafka.Refused(ctx, cl, err)
	if refusal != kafka.NoRefusal {
		if err = fmt.Errorf("kafkasink: brokers %s: %w", kafka.Seeds(cl), why); refusal == kafka.Lasting {
			return err
		}
		return leat.Transient(err)
	}
	var ke *kerr.Error
	if errors.As(err, &ke) && !retriable(ke) || errors.Is(err, kafka.ErrMetadata) {
		return err
	}
	return leat.Transient(err)
}

// retriable tells whether a broker may answer otherwise the next time (rule B8). That something has failed
// in it, and no more, says nothing of who asks.
func retriable(answer error) bool {
	return kerr.IsRetriable(answer) || errors.Is(answer, kerr.UnknownServerError)
}

// flightPool is one for all sinks.
var flightPool sync.Pool

// connect makes the client of a life. With partitioned, records may have a partition that
// was chosen.
func connect(log *slog.Logger, brokers []string, opts []kgo.Opt, partitioned bool, must ...kgo.Opt) (*producer, error) {
	p := &producer{topics: newTopics(), flights: &flightPool}
	// These may be replaced by the user's own, which come later.
	all := append([]kgo.Opt{kgo.ProducerBatchMaxBytesFn(p.topics.limit), kgo.WithLogger(kafka.Logger(log))}, opts...)
	cl, err := kgo.NewClient(clientOpts(brokers, all, must...)...)
	if err == nil && partitioned {
		rest, _ := cl.OptValue(kgo.RecordPartitioner).(kgo.Partitioner)
		cl.Close()
		cl, err = kgo.NewClient(clientOpts(brokers, all, append(must, kgo.RecordPartitioner(partitioner{rest}))...)...)
	}
	if err != nil {
		return nil, err
	}
	if err := misfit(cl, len(must) > 0); err != nil {
		cl.Close()
		return nil, err
	}
	p.cl, p.topics.cl = cl, cl
	p.ctx, p.cancel = context.WithCancel(context.Background())
	return p, nil
}

// misfit finds options with which kgo would give records up in each life (rule B8).
func misfit(cl *kgo.Client, transactional bool) error {
	if id, _ := cl.OptValue(kgo.TransactionalID).(string); id != "" && !transactional {
		return errors.New("kafkasink: leave kgo.TransactionalID out of Opts: transactions are Config.Transaction's")
	}
	if manual, _ := cl.OptValue(kgo.ManualFlushing).(bool); manual {
		return errors.New("kafkasink: leave kgo.ManualFlushing out of Opts: a checkpoint flushes, and what comes between two may be more than the client holds")
	}
	return nil
}

// close gives up what is not acknowledged.
func (p *producer) close() {
	p.cancel()
	p.cl.Close()
}

// fail notes that a record is lost.
func (p *producer) fail(topic string, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.probed {
		return
	}
	what := judge(err)
	if p.err == nil || what > p.what {
		_, err := kafka.Explain(p.cl, err)
		p.err, p.what = fmt.Errorf("topic %s: %w", topic, err), what
	}
}

// expect makes failures the business of who waits for the records.
func (p *producer) expect(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.probed = on
}

// failure is the first or worst failure so far.
func (p *producer) failure() (failure, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.what, p.err
}

// ready checks the records of f against what is known of their topics, and gives each
// its partition. A topic that is gone is the row's fault if the row chose it; else an error.
func (p *producer) ready(ctx context.Context, f *flight, theirs bool, partition func(row, n int) int) (refused []leat.RowError, err error) {
	p.topics.forget()
	now := time.Now()
	names := make([]string, 0, 1)
	for i := range f.records {
		if name := f.records[i].Topic; len(names) == 0 || name != names[len(names)-1] {
			names = append(names, name)
		}
	}
	if err := p.topics.lookNew(ctx, names); err != nil {
		return nil, err
	}
	f.seal()
	var t *topic
	for i := range f.records {
		r := &f.records[i]
		if t == nil || t.name != r.Topic {
			t = p.topics.known[r.Topic]
		}
		switch size := recordSize(r); {
		case t.missing != nil && (!theirs || denied(t.missing)):
			return nil, t.missing
		case t.missing != nil:
			refused = append(refused, leat.RowError{Row: f.rows[i], Err: t.missing})
		case size > t.limit:
			refused = append(refused, leat.RowError{Row: f.rows[i], Err: &leat.FieldError{Rule: "size", Msg: fmt.Sprintf(
				"the record has %d bytes, and %s", size, t.takes())}})
		case partition != nil:
			n, err := chosen(partition, f.rows[i], t.partitions)
			if err != nil {
				refused = append(refused, leat.RowError{Row: f.rows[i], Err: fmt.Errorf("topic %s: %w", t.name, err)})
			}
			choose(r, n)
			f.spans[i].chosen = n
		}
		r.Context = p.ctx
		if r.Timestamp.IsZero() {
			r.Timestamp = now // or kgo would ask for the time of each
		}
	}
	return refused, nil
}

// send gives the records of f to kgo, which may block while too much waits for its
// acknowledgement. What becomes of them is told to flush, or by f.done when it is set.
func (p *producer) send(ctx context.Context, f *flight) {
	f.left.Store(int32(len(f.records)) + 1)
	for i := range f.records {
		p.cl.Produce(ctx, &f.records[i], f.promise)
	}
	f.land()
}

// flush waits until all records are acknowledged or lost.
func (p *producer) flush(ctx context.Context) error {
	if p.cl.BufferedProduceRecords() > 0 {
		if err := p.cl.Flush(ctx); err != nil {
			return err
		}
	}
	return nil
}

// recordSize is the size of a batch of r alone, before compression, as kgo counts it.
func recordSize(r *kgo.Record) int {
	n := 3 + // attributes, timestamp and offset, which are those of the batch
		varint(len(r.Key)) + len(r.Key) + varint(len(r.Value)) + len(r.Value) + varint(len(r.Headers))
	for i := range r.Headers {
		h := &r.Headers[i]
		n += varint(len(h.Key)) + len(h.Key) + varint(len(h.Value)) + len(h.Value)
	}
	const batch = 65 // its header, and the length before it
	return batch + varint(n) + n
}

// varint is the length of a zigzag varint.
func varint(n int) int {
	l := 1
	for u := uint(n) << 1; u >= 0x80; u >>= 7 {
		l++
	}
	return l
}
