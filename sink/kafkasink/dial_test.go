package kafkasink_test

import (
	"context"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/leattest"
	"github.com/leatgo/leat/sink/kafkasink"
)

// Rule B8: a host that does not answer at all, so that dialling it times out, is waited for like one that refuses.
func TestDialTimesOut(t *testing.T) {
	_, brokers := fake(t, kfake.SeedTopics(1, "t"))
	var dials atomic.Int32
	dial := func(ctx context.Context, network, host string) (net.Conn, error) {
		d := net.Dialer{}
		if dials.Add(1) <= 8 {
			d.Timeout = 1 // over before it begins
		}
		return d.DialContext(ctx, network, host)
	}
	p := leat.New("prueba", quick(t))
	leat.To(leat.From(p, leattest.Rows("a", "b")), kafkasink.New(kafkasink.Config[string]{
		Brokers: brokers, Topic: "t", Opts: []kgo.Opt{kgo.Dialer(dial), kgo.RequestRetries(1), kgo.RetryBackoffFn(func(int) time.Duration { return time.Millisecond })},
	}))
	leattest.Runner{RealTime: true}.Run(t, p)
	assert.Equal(t, []string{"a", "b"}, values(readAll(t, brokers, "t")))
	assert.Greater(t, dials.Load(), int32(8))
}
