package kafkasource

import (
	"testing"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/leattest"
)

// The contract of leat.Source.
func TestConformance(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(c *Config[rec]){
		"topic":   func(*Config[rec]) {},
		"drained": func(c *Config[rec]) { c.Drain = true },
		"group":   func(c *Config[rec]) { c.Group, c.Drain = "g", true },
		"fixed": func(c *Config[rec]) {
			c.Topics, c.Partitions, c.Drain = nil, map[string][]int32{"in": {0, 2}}, true
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := broker(t, 3, "in")
			w.fill("in", 3, 0, 40)
			w.put("in", 1, `{"id":"x"}`, `[1]`, "\xff", "{\"id\":50,\n\"text\":\"lines\"}")
			w.fill("in", 3, 40, 60)
			c := w.config("in")
			c.Name = "src"
			change(&c)
			skip := map[string]string{}
			if !c.Drain { // each reading takes half a second
				skip["replays from every position"] = "shown by the others"
				skip["is cancelled at any moment"] = "shown by the others"
			}
			leattest.TestSource(t, leattest.SourceHarness[rec]{
				New: func(_ *testing.T, size int) leat.Source[rec] {
					c := c
					c.ChunkRows = size
					return New(c)
				},
				Endless: !c.Drain, RealTime: true, Skip: skip,
			})
		})
	}
}
