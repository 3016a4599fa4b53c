package kafkasource

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/leatgo/leat/leattest"
)

// Rule J1: a record that comes while StartAt is looked for, of which there is none yet, is not passed over.
func TestStartAtWhileRecordsCome(t *testing.T) {
	t.Parallel()
	w := broker(t, 1, "in")
	at := time.Now()
	w.produce(&kgo.Record{Topic: "in", Value: []byte(`{"id":0,"text":"before"}`), Timestamp: at.Add(-time.Hour)})
	looked := false
	w.cluster.ControlKey(int16(kmsg.ListOffsets), func(req kmsg.Request) (kmsg.Response, error, bool) {
		w.cluster.KeepControl()
		asked := req.(*kmsg.ListOffsetsRequest).Topics[0].Partitions[0].Timestamp
		if asked >= 0 {
			looked = true
		} else if looked {
			looked = false
			w.cluster.SleepControl(func() {
				w.produce(&kgo.Record{Topic: "in", Value: []byte(`{"id":1,"text":""}`), Timestamp: at.Add(time.Hour)})
			})
		}
		return nil, nil, false
	})
	c := w.config("in")
	c.StartAt = at
	sink := leattest.Collect[rec]().In(t.TempDir())
	r := start(t, c, sink)
	await(t, func() bool { return len(r.src.(*Source[rec]).Lag()) == 1 })
	w.produce(&kgo.Record{Topic: "in", Value: []byte(`{"id":2,"text":""}`), Timestamp: at.Add(time.Hour)})
	await(t, func() bool { return len(sink.Committed()) > 0 && sink.Committed()[len(sink.Committed())-1].ID == 2 })
	require.NoError(t, r.stop())
	assert.Equal(t, []int64{1, 2}, ids(sink.Committed()))
}
