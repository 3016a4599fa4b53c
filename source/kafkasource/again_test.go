package kafkasource

import (
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/leattest"
)

// Rule A2-1: also when a rewind comes just after the topic was made again: the client remembers for
// some seconds what ids topics have, and by the old one the new log would pass for the one that was read.
func TestTopicMadeAgainBeforeRewind(t *testing.T) {
	t.Parallel()
	for name, set := range map[string]func(c *Config[rec]){
		"alone":    func(c *Config[rec]) { c.Group = "" },
		"group":    func(*Config[rec]) {},
		"patterns": func(c *Config[rec]) { c.Topics, c.Pattern = nil, "in|other" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := broker(t, 1, "in", "other")
			var abort atomic.Bool
			sink := leattest.Collect[rec]().In(t.TempDir()).OnCall(func(call string) error {
				if call == "Write" && abort.Swap(false) {
					return leat.ErrAborted
				}
				return nil
			})
			w.fill("in", 1, 0, 10)
			c := w.member("g", "in", "other")
			set(&c)
			r := start(t, c, sink)
			await(t, func() bool { return len(sink.Committed()) == 10 })
			w.again("in")
			w.fill("in", 1, 100, 130)
			abort.Store(true)
			w.put("other", 0, `{"id":200,"text":""}`)
			require.ErrorContains(t, r.wait(), "rule A2-1")
			for _, row := range sink.Committed() {
				assert.False(t, row.ID >= 100 && row.ID < 130, "a row of the new log: those before it are lost")
			}
		})
	}
}
