package kafkasource

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat/leattest"
)

// A pipeline ends in good order though the brokers are away.
func TestStopWithoutBrokers(t *testing.T) {
	t.Parallel()
	w := broker(t, 2, "in")
	w.fill("in", 2, 0, 20)
	sink := leattest.Collect[rec]().In(t.TempDir())
	c := w.member("g", "in")
	c.SessionTimeout = 0 // 45 s
	a := start(t, c, sink)
	await(t, func() bool { return len(sink.Committed()) == 20 })
	w.cluster.Close()
	begin := time.Now()
	require.NoError(t, a.stop())
	t.Log("it took", time.Since(begin))
	assert.Less(t, time.Since(begin), 10*time.Second)
}
