package watermillsource_test

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"sync"

	"github.com/ThreeDotsLabs/watermill/message"
)

// broker is a Pub/Sub as brokers are: in order, with one message in flight for each
// partition, and none forgotten before it is acknowledged, whoever subscribes next.
type broker struct {
	mu         sync.Mutex
	partitions [][]*message.Message // not acknowledged
	sent       map[string]int       // deliveries by UUID
	nacks      int
	subscribed int
	fail       []error // of the next calls of Subscribe
	bounded    bool    // subscriptions end when everything is acknowledged
	closing    chan struct{}
	running    sync.WaitGroup
	wake       chan struct{} // closed when something was published
}

func newBroker(partitions int, payloads ...string) *broker {
	b := &broker{partitions: make([][]*message.Message, partitions), sent: map[string]int{}, closing: make(chan struct{}), wake: make(chan struct{})}
	for i, p := range payloads {
		b.publish(i%partitions, message.NewMessage(strconv.Itoa(i), []byte(p)))
	}
	return b
}

func (b *broker) publish(partition int, m *message.Message) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.partitions[partition] = append(b.partitions[partition], m)
	close(b.wake)
	b.wake = make(chan struct{})
}

func (b *broker) Subscribe(ctx context.Context, _ string) (<-chan *message.Message, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.fail) > 0 {
		err := b.fail[0]
		b.fail = b.fail[1:]
		return nil, err
	}
	b.subscribed++
	out := make(chan *message.Message)
	var serving sync.WaitGroup
	for p := range b.partitions {
		serving.Go(func() { b.serve(ctx, p, out) })
	}
	b.running.Go(func() {
		serving.Wait()
		close(out)
	})
	return out, nil
}

// first is the next message of a partition, and what tells when there is one.
func (b *broker) first(p int) (*message.Message, chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.partitions[p]) == 0 {
		return nil, b.wake
	}
	return b.partitions[p][0], nil
}

func (b *broker) serve(ctx context.Context, p int, out chan<- *message.Message) {
	for {
		m, wake := b.first(p)
		if m == nil && b.bounded {
			return
		}
		if m == nil {
			select {
			case <-wake:
				continue
			case <-ctx.Done():
				return
			case <-b.closing:
				return
			}
		}
		if !b.deliver(ctx, p, m.Copy(), out) {
			return
		}
	}
}

func (b *broker) deliver(ctx context.Context, p int, m *message.Message, out chan<- *message.Message) bool {
	own, cancel := context.WithCancel(ctx)
	defer cancel()
	m.SetContext(own)
	select {
	case out <- m:
	case <-ctx.Done():
		return false
	case <-b.closing:
		return false
	}
	b.mu.Lock()
	b.sent[m.UUID]++
	b.mu.Unlock()
	select {
	case <-m.Acked():
		b.mu.Lock()
		if q := b.partitions[p]; len(q) > 0 && q[0].UUID == m.UUID { // else another subscriber had it too
			b.partitions[p] = q[1:]
		}
		b.mu.Unlock()
	case <-m.Nacked():
		b.mu.Lock()
		b.nacks++
		b.mu.Unlock()
	case <-ctx.Done():
		return false
	case <-b.closing:
		return false
	}
	return true
}

// Close ends all subscriptions, and forgets nothing.
func (b *broker) Close() error {
	b.mu.Lock()
	close(b.closing)
	b.mu.Unlock()
	b.running.Wait()
	return nil
}

// left are the payloads that were not acknowledged.
func (b *broker) left() (out []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, p := range b.partitions {
		for _, m := range p {
			out = append(out, string(m.Payload))
		}
	}
	slices.Sort(out)
	return out
}

// deliveries counts those of all messages, and the messages that came more than once.
func (b *broker) deliveries() (all, again int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, n := range b.sent {
		all += n
		if n > 1 {
			again++
		}
	}
	return all, again
}

var errBroker = errors.New("no broker is there")
